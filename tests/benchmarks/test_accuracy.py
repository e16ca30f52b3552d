"""The accuracy benchmark scores what it says it scores."""

import json
import sys
from dataclasses import dataclass, replace

import accuracy
import dose
import hyperspy.api as hs
import numpy as np
import pytest
import tasks
import trials

from hyperspy_fewshot import classify, list_encoders
from hyperspy_fewshot.encoders import Encoder

BANDS = np.repeat([1, 2, 3], [28, 36, 32])
NAMES = ["cap", "film", "substrate"]


@pytest.fixture
def data(tmp_path):
    """Three bands that differ in grey level: a query image, and two to learn on."""
    rng = np.random.default_rng(0)
    labels = np.broadcast_to(BANDS, (64, 96)).astype(np.uint8)
    for name, gain in [("difftest_a", 200.0), ("spot1", 1.0), ("spot2", 2.0)]:
        image = (gain * (40 * labels + rng.normal(0, 1, labels.shape))).astype(np.float32)
        write(tmp_path / "nasa_superalloy" / name, image, labels, {"classes": NAMES})
    return tmp_path


def write(folder, image, labels, meta):
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", image)
    np.save(folder / "labels.npy", labels)
    meta = {"trivial_baseline_chip": 8, **meta}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def task_of(data, name="difftest_a"):
    return tasks.Task.load(data / "nasa_superalloy" / name)


def truth_of(level):
    """An encoder that returns the class at the pixel where the label of a chip is judged."""

    def one_hot(chips):
        return np.eye(4, dtype=np.float32)[np.rint(chips[:, 3, 3] / level).astype(int)]

    return one_hot


def with_embeddings(embedded, embeddings):
    """A task whose embeddings are replaced."""
    signal = hs.signals.Signal1D(embeddings)
    return replace(embedded, embedding_map=replace(embedded.embedding_map, embeddings=signal))


@dataclass(frozen=True, eq=False, repr=False)
class Dihedral(Encoder):
    """An encoder whose support examples may be augmented with eight orientations."""

    def encode(self, batch, device="cpu"):
        pixels = (batch - self.offset) / self.scale
        return pixels.reshape(len(batch), -1)[:, ::3].astype(np.float32)


def test_task_is_read(data):
    task = task_of(data)
    assert (task.name, task.kind) == ("nasa_superalloy/difftest_a", "image")
    assert task.options == {"chip_size": 8, "stride": 2}
    assert task.names_that_count(task.labels) == tuple(NAMES)
    # This leaves 29 labels of the cap and one column of the substrate.
    assert task.names_that_count(task.labels[:29, 27:65]) == ("film",)


def test_true_classes_as_embeddings_give_an_accuracy_of_one(data):
    embedded = tasks.Embedded.of(task_of(data), truth_of(8000.0))
    figures = trials.trial([embedded], [embedded], [1, 5], 3)
    assert figures.shape == (3, 2, 2)
    np.testing.assert_array_equal(figures[..., 0], 1.0)


def test_noise_as_embeddings_gives_the_accuracy_of_chance(data):
    rng = np.random.default_rng(1)
    task = task_of(data)
    embedded = tasks.Embedded.of(task, truth_of(8000.0))
    noise = rng.normal(size=embedded.embeddings.shape).astype(np.float32)
    figures = trials.trial([embedded], [with_embeddings(embedded, noise)], [5], 5)
    assert figures[..., 0].mean() == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("encoder", "chip_size"),
    # Chips of 4 px give more queries than the sample that is learnt on.
    [(Dihedral("one"), 4), (Dihedral("all", dihedral=True), 4), ("stem", 16)],
)
def test_predictions_are_those_of_classify(data, encoder, chip_size):
    task = replace(task_of(data), chip_size=chip_size)
    embedded = tasks.Embedded.of(task, encoder)
    # The first and the last example of the first class overlap.
    places = [
        [[8, 10], [50, 18], [7, 11]],
        [[12, 40], [40, 42], [30, 50]],
        [[18, 80], [56, 86], [9, 70]],
    ]
    cells = np.array(places) // task.options["stride"]
    rows, columns = (embedded.recipe.grid.locations(axis) for axis in (0, 1))
    support = {
        name: [(int(columns[c]), int(rows[r])) for r, c in places]
        for name, places in zip(NAMES, cells, strict=True)
    }
    expected = classify(task.signal, support, encoder=encoder, reject=False, **task.options)
    known = embedded.support(dict(zip(NAMES, cells, strict=True)))
    assert len(known.shot_classes) == 8
    recipe = embedded.recipe
    probabilities, found = trials.predict(
        known, tuple(NAMES), embedded.embeddings[::5, ::5].reshape(-1, recipe.size),
        centre=recipe.centre, feature_groups=recipe.feature_groups,
    )  # fmt: skip
    np.testing.assert_array_equal(found, expected.labels.data[::5, ::5].ravel())
    wanted = np.moveaxis(expected.probabilities.data, 0, -1)[::5, ::5].reshape(-1, 3)
    np.testing.assert_allclose(probabilities, wanted, atol=1e-5)


def test_support_and_queries_that_share_its_data_are_left_out(data, monkeypatch):
    embedded = tasks.Embedded.of(task_of(data), truth_of(8000.0))
    assert embedded.reach == 1
    places = np.moveaxis(np.indices(embedded.labels.shape), 0, -1)
    seen, predict = [], trials.predict

    def look(support, names, queries, **options):
        # Every embedding is the position of its cell.
        seen.append(queries)
        return predict(support, names, embedded.embeddings[tuple(queries.T)], **options)

    monkeypatch.setattr(trials, "predict", look)
    placed = with_embeddings(embedded, places)
    trials.trial([placed], [placed], [5], 1)
    support = np.concatenate(trials.draw(embedded.truth(tuple(NAMES)), 3, 5, 0))
    apart = abs(seen[0][:, np.newaxis] - support).max(axis=-1).min(axis=1)
    assert apart.min() == 2
    near = abs(places[:, :, np.newaxis] - support).max(axis=-1).min(axis=-1) <= 1
    assert len(seen[0]) == (~near).sum()


def test_queries_lie_beyond_the_reach_of_support_positions():
    keep = trials.queries((5, 7), np.array([[0, 1], [3, 5]]), 1)
    expected = np.ones((5, 7), bool)
    expected[:2, :3] = expected[2:, 4:] = False
    np.testing.assert_array_equal(keep, expected)


def test_fewer_shots_are_a_subset_of_more():
    truth = np.broadcast_to(BANDS - 1, (64, 96))
    few, many = (trials.draw(truth, 3, shots, 7) for shots in (2, 5))
    for i in range(3):
        np.testing.assert_array_equal(few[i], many[i][:2])
        assert (truth[tuple(many[i].T)] == i).all()


def test_balanced_accuracy_is_a_mean_over_classes():
    truth = np.array([0, 0, 0, 0, 2, 2])
    assert trials.balanced_accuracy(np.array([0, 0, 0, 1, 2, 0]), truth) == (3 / 4 + 1 / 2) / 2


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    right = np.array([True, False, True, False])
    assert trials.calibration_error(np.full(4, 0.85), right) == pytest.approx(0.35)
    assert trials.calibration_error(np.array([1.0, 0.0, 1.0, 0.0]), right) == 0
    assert np.isnan(trials.calibration_error(np.full(4, np.nan), right))


def test_other_grey_levels_do_not_matter_across_images(data):
    target, *sources = (
        task_of(data, name).standardised() for name in ("difftest_a", "spot1", "spot2")
    )
    learnt = [tasks.Embedded.of(source, tasks.intensity) for source in sources]
    again = [source.reused_on(target) for source in learnt]
    # The mean separates the bands, except for chips on a boundary.
    figures = trials.trial(learnt, again, [5], 4)
    assert figures[..., 0].min() > 0.85
    assert again[0].recipe.sha256 == learnt[0].recipe.sha256


def test_encoders_fit_the_kind_of_data():
    for kind in ("image", "pattern", "spectrum"):
        assert [name for name, _ in tasks.encoders_for(kind, [])] == list_encoders(kind)
    assert [name for name, _ in tasks.encoders_for("spectrum", ["fourier", "pca"])] == ["pca"]


def test_thinning_keeps_one_count_in_factor():
    counts = np.full((200, 300), 90, np.uint8)
    thinned = dose.thin(counts, 30)
    assert thinned.mean() == pytest.approx(3, abs=0.05)
    assert thinned.var() == pytest.approx(3 * (1 - 1 / 30), rel=0.05)
    np.testing.assert_array_equal(thinned, dose.thin(counts, 30))
    np.testing.assert_array_equal(dose.thin(counts, 1), counts)


def test_wrong_regions_are_counted_only_where_the_truth_is_known():
    truth = np.array([[1, 1, 1, 0, 2, 2], [1, 1, 1, 0, 2, 2], [1, 1, 1, 0, 2, 2]])
    found = np.array([[2, 1, 1, 9, 2, 2], [1, 3, 1, 9, 2, 2], [1, 1, 1, 9, 2, 1]])
    assert dose.count_wrong_regions(found, truth) == 2
    assert dose.count_wrong_regions(truth, truth) == 0


def test_erosion_keeps_labels_surrounded_by_their_own_class():
    labels = np.repeat([0, 1, 2], [3, 4, 5])[np.newaxis].repeat(4, axis=0)
    expected = np.repeat([0, 1, 0, 2], [4, 2, 2, 4])
    np.testing.assert_array_equal(dose.eroded(labels, 1)[1], expected)


def published(folder):
    """Nine chips of 20 px, one class a row; the last pixels belong to no chip."""
    labels = np.zeros((62, 61), np.uint8)
    labels[:60, :60] = np.repeat([1, 2, 3], 20)[:, np.newaxis]
    labels[:11, 40:60] = 0
    image = np.random.default_rng(2).poisson(60 * labels).astype(np.uint8)
    quoted = [f'the {name} ("{name}")' for name in NAMES]
    write(folder, image, labels, {"classes": quoted})
    written = {
        "chip_px": 20,
        "classes": ["substrate", "cap", "film"],
        "support_row_col": {"substrate": [[2, 0]], "cap": [[0, 0]], "film": [[1, 0]]},
        "published_prediction": [[1, 0, 1], [2, 2, 2], [0, 0, 0]],
    }
    (folder / "published.json").write_text(json.dumps(written), encoding="utf-8")


def test_support_and_unlabelled_chips_of_the_publication_are_not_judged(tmp_path):
    published(tmp_path / "sto_ge")
    read = dose.Published.load(tmp_path / "sto_ge")
    np.testing.assert_array_equal(read.truth(), [[0, 1, 0], [0, 2, 2], [0, 3, 3]])
    np.testing.assert_array_equal(read.prediction, [[1, 3, 1], [2, 2, 2], [3, 3, 3]])
    labels = read.classified_by_intensity(read.image, 20)[:3, :3]
    np.testing.assert_array_equal(labels, np.repeat([1, 2, 3], 3).reshape(3, 3))
    assert read.wrong_regions(read.classified_by_intensity(read.image, 4), 4) == 0


def test_command_writes_its_tables(data, monkeypatch, capsys):
    published(data / "pychip" / "sto_ge")
    out = data / "accuracy_table.md"
    command = f"accuracy.py --data {data} --encoders pca --shots 1 5 --draws 2 --fine --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", False)
    with pytest.warns(UserWarning, match="With one example"):
        accuracy.main()
    tables = {path.name: path.read_text(encoding="utf-8") for path in data.glob("*.md")}
    assert set(tables) == {"accuracy_table.md", "cross_image_table.md", "dose_table.md"}
    assert all(table in capsys.readouterr().out for table in [tables["accuracy_table.md"]])
    for table in tables.values():
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| nasa_superalloy/difftest_a | pca | chip 8 | " in tables["accuracy_table.md"]
    assert "| mean | intensity | " in tables["cross_image_table.md"]
    # The one chip of the cap is wrong, the four of the other two classes are right.
    assert "| published | 0.667 |" in tables["dose_table.md"]
