"""Recipes and the command line."""

import csv

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hyperspy_fewshot import get_encoder
from hyperspy_fewshot.pretrain import recipes
from hyperspy_fewshot.pretrain.__main__ import main
from hyperspy_fewshot.pretrain.corpus import Corpus
from hyperspy_fewshot.pretrain.images import CropCorpus
from hyperspy_fewshot.pretrain.recipes import Recipe, read_images, train
from hyperspy_fewshot.pretrain.training import Branch, Plan


def test_folders_of_images_and_stacks(tmp_path, scenery):
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


def test_folders_without_images(tmp_path):
    (tmp_path / "README").write_text("of the microscope")
    with pytest.raises(FileNotFoundError, match="There is no image that HyperSpy reads in"):
        read_images(tmp_path)


class TinyNetwork(nn.Module):
    """A few weights."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.linear = nn.Linear(16, 5)

    def embed(self, items):
        return self.linear(self.norm(items.flatten(1)))


class Bright(Corpus):
    """Classes differ in the bright row."""

    def classes(self, rng, n):
        rows = rng.permutation(4)[:n]
        return [lambda rng, m, row=row: self.draw(rng, m, row) for row in rows]

    def draw(self, rng, m, row):
        items = 0.2 * rng.normal(size=(m, 4, 4))
        items[:, row] += 1
        return items.astype(np.float32)


@pytest.fixture
def tiny_recipe(monkeypatch):
    plan = Plan(specimens=2, classes=3, shots=1, queries=2)
    branches = [Branch("low", Bright(), "embed", 2), Branch("high", Bright(), "embed", 1)]
    recipe = Recipe("tiny", TinyNetwork, lambda images: branches[: 1 + (not images)], plan)
    monkeypatch.setitem(recipes.RECIPES, "image", recipe)


def log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


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
    assert_equal(found, load_file(path))
    again = train("image", tmp_path / "again", steps=4, workers=0, seed=2, show_progressbar=False)
    assert_equal(found, load_file(again))
    with pytest.raises(ValueError, match="The checkpoint was written with .* resume with the same"):
        main([*arguments, "--resume", "--steps", "5"])


def test_command_line_with_images(tiny_recipe, tmp_path, scenery):
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
        (["spectrum", "--out", "x"], "invalid choice: 'spectrum'"),
        (["image", "--out", "x", "--steps", "some"], "invalid int value: 'some'"),
    ],
)
def test_wrong_command_lines(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_trained_weights_make_an_encoder(tmp_path, monkeypatch, scenery):
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
    assert names == ["textures", "scenes", "crops"]
    encoder = get_encoder("stem", weights=path)
    assert encoder != get_encoder("stem")
    image = hs.signals.Signal2D(scenery())
    found = image.fewshot_embed(encoder=encoder, chip_size=32, stride=32, show_progressbar=False)
    assert np.isfinite(found.embeddings.data).all()
