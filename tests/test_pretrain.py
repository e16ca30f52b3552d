"""Corpora are drawn again from their seed, and a training that was killed goes on as if it had not been."""

import csv
from dataclasses import replace

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hyperspy_fewshot import get_encoder
from hyperspy_fewshot.encoders.network import EMBEDDING, StemNetwork
from hyperspy_fewshot.pretrain import recipes
from hyperspy_fewshot.pretrain.__main__ import main
from hyperspy_fewshot.pretrain.corpus import Corpus, Mixture
from hyperspy_fewshot.pretrain.images import CropCorpus, SceneCorpus, TextureCorpus, degrade
from hyperspy_fewshot.pretrain.patterns import PatternCorpus
from hyperspy_fewshot.pretrain.recipes import Recipe, read_images, train
from hyperspy_fewshot.pretrain.textures import FAMILIES, Flat
from hyperspy_fewshot.pretrain.training import Branch, Plan, Training, _Episodes, episode_loss


def scenery(seed=0, shape=(150, 170)):
    """An image whose places differ, without noise."""
    noise = np.random.default_rng(seed).normal(size=shape)
    waves = np.fft.fft2(noise) * np.exp(-80 * np.hypot(*np.meshgrid(
        np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")))  # fmt: skip
    return np.fft.ifft2(waves).real.astype(np.float32)


CORPORA = {
    "textures": lambda side: TextureCorpus(side),
    "scenes": lambda side: SceneCorpus(side),
    "crops": lambda side: CropCorpus([scenery()], side),
    "patterns": lambda side: PatternCorpus(side),
}


# Corpora.


@pytest.mark.parametrize("name", CORPORA)
def test_a_specimen_follows_from_its_seed(name):
    corpus = CORPORA[name](38)
    assert isinstance(corpus, Corpus)
    for seed in range(8):
        first, again, other = (
            corpus.specimen(np.random.default_rng(s), 4, 3) for s in (seed, seed, seed + 50)
        )
        assert first.shape == (4, 3, 38, 38) and first.dtype == np.float32
        assert np.isfinite(first).all() and np.isfinite(other).all()
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", CORPORA)
def test_classes_have_members_of_their_own(name):
    rng = np.random.default_rng(0)
    makers = CORPORA[name](30).classes(rng, 5)
    assert len(makers) == 5
    for draw in makers:
        members = draw(rng, 3)
        assert members.shape == (3, 30, 30)
        assert np.isfinite(members).all()


def blurred(items):
    """Means of cells of 5 x 5 px."""
    side = items.shape[-1] // 5
    return items.reshape(*items.shape[:-2], side, 5, side, 5).mean((-3, -1)).reshape(len(items), -1)


def of_texture(items):
    """Mean, and logarithm of the power on rings."""
    power = abs(np.fft.fft2(items - items.mean((1, 2), keepdims=True))) ** 2
    frequency = np.fft.fftfreq(items.shape[-1])
    ring = np.minimum(np.hypot(frequency, frequency[:, None]) * 24, 11).astype(int).ravel()
    rings = [power.reshape(len(items), -1)[:, ring == r].mean(1) for r in range(12)]
    return np.column_stack([10 * items.mean((1, 2)), *np.log(np.array(rings) + 1e-2)])


def at_centre(items):
    """Mean and spread of the middle."""
    middle = items[:, 16:24, 16:24]
    return np.column_stack([middle.mean((1, 2)), middle.std((1, 2))])


@pytest.mark.parametrize(
    "corpus, statistic, least",
    [
        (TextureCorpus(40, (0.01, 0.02), related=0.0), of_texture, 0.8),
        (CropCorpus([scenery()], 40, (0.01, 0.02)), blurred, 0.8),
        (PatternCorpus(40), blurred, 0.8),
        (SceneCorpus(40, (0.01, 0.02)), at_centre, 0.45),
    ],
)
def test_members_of_a_class_resemble_each_other(corpus, statistic, least):
    right = []
    for seed in range(12):
        items = corpus.specimen(np.random.default_rng(seed), 3, 6)
        values = statistic(items.reshape(-1, 40, 40)).reshape(3, 6, -1)
        means = values[:, :3].mean(1)
        distances = ((values[:, 3:, None] - means) ** 2).sum(-1)
        right.append((distances.argmin(-1) == np.arange(3)[:, None]).mean())
    assert np.mean(right) > least


@pytest.mark.parametrize("family", [family for family, _ in FAMILIES])
def test_textures_vary_in_one_respect_and_stay_what_they_are(family):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        texture = family.draw(rng)
        other = texture.vary(rng)
        assert type(other) is family and other is not texture
        images = [each.render(np.random.default_rng(9), 2, 24) for each in (texture, other)]
        assert all(i.shape == (2, 24, 24) and i.dtype == np.float32 for i in images)
        assert np.isfinite(images).all()


def test_degrading_keeps_the_class_apart():
    rng = np.random.default_rng(0)
    dark, bright = (Flat(level).render(rng, 40, 16) for level in (0.1, 0.9))
    images = degrade(np.concatenate([dark, bright]), rng, (0.05, 0.05))
    assert images.shape == (80, 16, 16) and images.std() > 0.05
    levels = images.mean((1, 2))
    assert levels[:40].max() < levels[40:].min()


def test_crops_need_images_that_are_large_enough():
    with pytest.raises(ValueError, match="No image has at least 128 x 128 px"):
        CropCorpus([scenery(shape=(100, 300)), np.ones((10, 10))])
    # An image without structure, and one with pixels that are not finite.
    image = scenery()
    image[3, 5] = np.nan
    corpus = CropCorpus([np.full((150, 160), 7), image, np.ones((10, 10))])
    assert len(corpus.images) == 2
    for seed in range(4):
        assert np.isfinite(corpus.specimen(np.random.default_rng(seed), 2, 2)).all()


class Rows(Corpus):
    """What a user would write: a class is the row that is bright, under noise."""

    def __init__(self, base=0.0):
        self.base = base

    def classes(self, rng, n):
        return [self._maker(row) for row in rng.permutation(4)[:n]]

    def _maker(self, row):
        def draw(rng, m):
            items = self.base + 0.2 * rng.normal(size=(m, 4, 4))
            items[:, row] += 1
            return items.astype(np.float32)

        return draw


def test_a_corpus_of_the_users_own():
    items = Rows().specimen(np.random.default_rng(0), 3, 5)
    assert items.shape == (3, 5, 4, 4)
    bright = items.mean(-1).argmax(-1)
    assert (bright == bright[:, :1]).all() and len(set(bright[:, 0])) == 3


def test_a_mixture_draws_from_its_corpora():
    mixture = Mixture([Rows(), Rows(100.0), Rows(1e6)], [1, 3, 0])
    rng = np.random.default_rng(0)
    levels = np.array([mixture.specimen(rng, 2, 2).mean() for _ in range(200)])
    assert levels.max() < 1000
    assert (levels > 50).mean() == pytest.approx(0.75, abs=0.08)
    assert len(mixture.classes(rng, 3)) == 3
    np.testing.assert_allclose(Mixture([Rows(), Rows()]).shares, 0.5)
    for weights in ([1.0], [1, -1, 1], [0, 0, 0]):
        with pytest.raises(ValueError, match="3 corpora need as many weights"):
            Mixture(mixture.corpora, weights)


# Images of the user's own.


def test_images_of_a_folder_and_frames_of_its_stacks(tmp_path):
    image, stack = scenery(), np.stack([scenery(1), scenery(2)])
    hs.signals.Signal2D((1000 + 100 * image).astype(np.uint16)).save(tmp_path / "a.tif")
    hs.signals.Signal2D(stack).save(tmp_path / "b.hspy")
    hs.signals.Signal1D(np.ones((3, 20))).save(tmp_path / "spectra.hspy")
    (tmp_path / "README").write_text("of the microscope")
    (tmp_path / "broken.tif").write_bytes(b"nothing")
    (tmp_path / "folder").mkdir()
    found = read_images(tmp_path)
    assert [each.shape for each in found] == [(150, 170)] * 3
    np.testing.assert_array_equal(found[0], (1000 + 100 * image).astype(np.uint16))
    np.testing.assert_array_equal(found[1:], stack)
    assert CropCorpus(found).specimen(np.random.default_rng(0), 2, 2).shape == (2, 2, 80, 80)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "README").write_text("of the microscope")
    with pytest.raises(FileNotFoundError, match="There is no image that HyperSpy reads in"):
        read_images(tmp_path)


# Episodes and their loss.


def naive_loss(embeddings, shots, gain):
    """Cross entropy of the cosines to the prototypes, query by query, and the share right."""

    def unit(vector):
        return vector / np.linalg.norm(vector)

    def judge(classes):
        centre = np.mean([member for members in classes for member in members], axis=0)
        prototypes = [unit(sum(unit(m - centre) for m in members[:shots])) for members in classes]
        losses, hits = [], []
        for truth, members in enumerate(classes):
            for query in members[shots:]:
                cosines = np.array([unit(query - centre) @ p for p in prototypes])
                losses.append(np.log(np.exp(gain * cosines).sum()) - gain * cosines[truth])
                hits.append(cosines.argmax() == truth)
        return losses, hits

    inside = [judge(specimen) for specimen in embeddings]
    together, _ = judge([members for specimen in embeddings for members in specimen])
    loss = np.mean([losses for losses, _ in inside]) + 0.5 * np.mean(together)
    return loss, np.mean([hits for _, hits in inside])


@pytest.mark.parametrize("shape, shots", [((2, 3, 5, 7), 2), ((1, 2, 2, 4), 1), ((3, 4, 6, 5), 5)])
def test_loss_equals_a_naive_loop(shape, shots):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=shape) + rng.normal(size=(*shape[:2], 1, shape[3]))
    found = episode_loss(torch.as_tensor(embeddings), shots, torch.tensor(3.7))
    np.testing.assert_allclose([float(f) for f in found], naive_loss(embeddings, shots, 3.7))


def test_branches_have_their_share_of_the_steps():
    branches = [
        Branch(name, Rows(), "embed", share) for name, share in zip("abc", (5, 3, 2), strict=True)
    ]
    episodes = _Episodes(branches, Plan())
    for start in (0, 700):
        drawn = np.bincount([episodes.branch_of(start + i) for i in range(100)], minlength=3)
        np.testing.assert_allclose(drawn, [50, 30, 20], atol=2)


def test_an_episode_follows_from_its_number():
    plan = Plan(specimens=2, classes=3, shots=1, queries=4, seed=5)
    episodes = _Episodes([Branch("rows", Rows(), "embed")], plan)
    which, items = episodes[7]
    assert which == 0 and items.shape == (2, 3, 5, 4, 4)
    assert torch.equal(episodes[7][1], items)
    assert not torch.equal(episodes[8][1], items)
    other = _Episodes(episodes.branches, replace(plan, seed=6))
    assert not torch.equal(other[7][1], items)


# Training.


class TinyNetwork(nn.Module):
    """A few weights, and running means that a checkpoint must keep, too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.linear = nn.Linear(16, 5)

    def embed(self, items):
        return self.linear(self.norm(items.flatten(1)))


TINY = Plan(steps=8, specimens=2, classes=3, shots=1, queries=2)
BRANCHES = [Branch("low", Rows(), "embed", 2), Branch("high", Rows(10.0), "embed", 1)]


def training(folder, plan=TINY, kind=Training, workers=0, start=0):
    """A training whose network starts as the seed says."""
    torch.manual_seed(start)
    return kind(TinyNetwork(), BRANCHES, plan, folder, workers=workers)


def run(folder, **options):
    made = training(folder, **options)
    made.run(every=3, show_progressbar=False)
    return made


def weights(made):
    return {name: tensor.clone() for name, tensor in made.network.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Killed(Training):
    """A training that does not get beyond its fifth step."""

    def _train_step(self, branch, items):
        if self.step == 5:
            raise KeyboardInterrupt
        return super()._train_step(branch, items)


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kind=Killed)
    # What the network starts with does not matter once there is a checkpoint.
    resumed = training(tmp_path / "killed", start=99)
    resumed.resume()
    assert (resumed.step, resumed.steps) == (3, 8)
    resumed.run(every=3, show_progressbar=False)
    assert resumed.step == 8 and same(weights(resumed), weights(whole))
    assert torch.equal(resumed.gain, whole.gain)
    first, second = (
        [{**row, "seconds": ""} for row in log(tmp_path / name)] for name in ("whole", "killed")
    )
    assert first == second


def test_a_finished_training_is_left_as_it_is(tmp_path):
    whole = run(tmp_path)
    again = training(tmp_path, start=99)
    again.resume()
    again.run(show_progressbar=False)
    assert again.step == 8 and same(weights(again), weights(whole))


def test_equal_seeds_give_equal_weights(tmp_path):
    first = weights(run(tmp_path / "first"))
    assert same(first, weights(run(tmp_path / "again", workers=1)))
    assert not same(first, weights(run(tmp_path / "other", plan=replace(TINY, seed=1))))
    assert not same(first, weights(training(tmp_path / "untrained")))


def test_log_has_a_line_for_every_branch(tmp_path):
    run(tmp_path)
    rows = log(tmp_path)
    assert list(rows[0]) == ["step", "seconds", "loss", "branch", "accuracy"]
    assert [(row["step"], row["branch"]) for row in rows] == [
        (step, branch) for step in "368" for branch in ("low", "high")
    ]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["loss"]) > 0 for row in rows)
    assert float(rows[-1]["seconds"]) >= float(rows[0]["seconds"])


def test_training_lowers_the_loss(tmp_path):
    plan = replace(TINY, steps=60, learning_rate=0.02)
    made, unseen = training(tmp_path, plan), _Episodes(BRANCHES, plan, 1000)

    @torch.no_grad()
    def mean_loss():
        made.network.train()
        drawn = [unseen[i] for i in range(10)]
        return np.mean([float(made._judge(BRANCHES[b], items)[0]) for b, items in drawn])

    before = mean_loss()
    made.run(show_progressbar=False)
    assert mean_loss() < 0.85 * before
    assert set(made.validate()) == {"low", "high"} and min(made.validate().values()) > 0.8


def test_steps_are_as_many_as_fit_into_the_time(tmp_path):
    made = run(tmp_path, plan=replace(TINY, steps=None, minutes=0.0))
    # Thirty show how long one takes.
    assert made.step == made.steps == 31
    resumed = training(tmp_path, plan=replace(TINY, steps=None, minutes=0.0))
    resumed.resume()
    assert resumed.steps == 31


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no checkpoint.pt in"):
        training(tmp_path).resume()
    run(tmp_path)
    with pytest.raises(ValueError, match="written with .*'steps': 8.*; resume with the same opt"):
        training(tmp_path, plan=replace(TINY, steps=9)).resume()


# Recipes and the command line.


@pytest.fixture
def tiny_recipe(monkeypatch):
    plan = replace(TINY, steps=None)
    recipe = Recipe("tiny", TinyNetwork, lambda images: BRANCHES[: 1 + (not images)], plan)
    monkeypatch.setitem(recipes.RECIPES, "image", recipe)


def test_command_line(tiny_recipe, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["image", "--out", str(out), "--steps", "4", "--workers", "0", "--seed", "2"]
    main(arguments)
    path = out / "tiny.safetensors"
    assert f"Weights in {path}" in capsys.readouterr().out
    found = load_file(path)
    TinyNetwork().load_state_dict(found)
    assert {file.name for file in out.iterdir()} == {"checkpoint.pt", "log.csv", path.name}
    path.unlink()
    main([*arguments, "--resume"])
    assert same(found, load_file(path))
    again = train("image", tmp_path / "again", steps=4, workers=0, seed=2, show_progressbar=False)
    assert same(found, load_file(again))
    with pytest.raises(ValueError, match="The checkpoint was written with .* resume with the same"):
        main([*arguments, "--resume", "--steps", "5"])


def test_command_line_takes_a_folder_of_images(tiny_recipe, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    options = ["--out", str(tmp_path / "out"), "--steps", "1", "--workers", "0"]
    with pytest.raises(FileNotFoundError, match="There is no image that HyperSpy reads"):
        main(["image", *options, "--images", str(folder)])
    hs.signals.Signal2D(scenery()).save(folder / "a.hspy")
    main(["image", *options, "--images", str(folder)])
    assert [row["branch"] for row in log(tmp_path / "out")] == ["low"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "required: kind, --out"),
        (["sound", "--out", "x"], "invalid choice: 'sound'"),
        (["image", "--out", "x", "--steps", "some"], "invalid int value: 'some'"),
    ],
)
def test_command_line_says_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_weights_of_the_recipe_load_as_the_encoder(tmp_path, monkeypatch):
    plan = Plan(specimens=1, classes=2, shots=1, queries=1)
    monkeypatch.setitem(recipes.RECIPES, "image", recipes.RECIPES["image"]._replace(plan=plan))
    folder = tmp_path / "images"
    folder.mkdir()
    hs.signals.Signal2D(scenery()).save(folder / "a.hspy")
    path = train(
        "image", tmp_path, steps=1, workers=0, images=folder, show_progressbar=False
    )  # fmt: skip
    assert path.name == "stem.safetensors"
    names = [row["branch"] for row in log(tmp_path)]
    assert names == ["textures", "scenes", "patterns", "crops"]
    encoder = get_encoder("stem", weights=path)
    assert encoder != get_encoder("stem")
    patterns = np.random.default_rng(0).random((6, 20, 20), np.float32)
    fitted = encoder.fit(patterns, kind="pattern")
    assert np.isfinite(fitted.encode(patterns)).all()


# The network of the recipe.


def test_what_is_trained_is_what_the_dense_encoder_computes():
    torch.manual_seed(0)
    network, images = StemNetwork().eval(), torch.randn(2, 80, 80)
    with torch.no_grad():
        found = network.chips(images)
        cells = network.cells(images)
        half = cells.shape[1] // 2
        parts = [cells[:, :half, a : 10 - a, a : 10 - a].mean((2, 3)) for a in (1, 3, 4)]
        squares = cells[:, half:, 1:9, 1:9].mean((2, 3))
        expected = network.embed_pooled(torch.cat([*parts, squares], dim=1))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.norm(dim=1), 1, atol=1e-5)


def test_both_heads_of_the_network_can_be_trained():
    network = StemNetwork()
    embedded = torch.cat(
        [network.chips(torch.randn(4, 80, 80)), network.patterns(torch.randn(4, 64, 64))]
    )
    assert embedded.shape == (8, EMBEDDING)
    embedded[:, :3].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
