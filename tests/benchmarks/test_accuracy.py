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
from hyperspy_fewshot.encoders import Encoder, default_encoder

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
        return np.eye(4, dtype=np.float32)[np.rint(chips[:, 4, 4] / level).astype(int)]

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
    assert task.names_that_count() == tuple(NAMES)


def test_classes_need_thirty_queries_and_one_per_cent_of_the_area(data):
    task = task_of(data)
    labels = np.full((80, 96), 2)
    # Queries lie on odd rows and columns: 29 of the first class. The last one has less than 1 %.
    labels[:2, :58] = 1
    labels[8:80, 95] = 3
    assert replace(task, labels=labels).names_that_count() == ("film",)
    labels[:2, 58:60] = 1
    assert replace(task, labels=labels).names_that_count() == ("cap", "film")
    labels[3:80, 95] = 3
    assert replace(task, labels=labels).names_that_count() == ("cap", "film", "substrate")


def test_queries_lie_at_the_centres_of_cells_of_a_quarter_of_the_chip_size(data):
    task = replace(task_of(data), chip_size=24, labels=np.zeros((64, 99), int))
    rows, columns = task.places
    np.testing.assert_array_equal(rows, [3, 9, 15, 21, 27, 33, 39, 45, 51, 57, 63])
    np.testing.assert_array_equal(columns[-2:], [93, 98])
    grid = tasks.Embedded.of(task, tasks.get_encoder("fourier")).recipe.grid
    np.testing.assert_array_equal(grid.locations(0), rows)
    assert task.examples(np.array([[1, 0], [10, 3]])) == [(3, 9), (21, 63)]


def test_true_classes_as_embeddings_give_an_accuracy_of_one(data):
    embedded = tasks.Embedded.of(task_of(data), truth_of(8000.0))
    figures = trials.trial([embedded], [embedded], [1, 5], 3)
    assert figures.shape == (3, 2, 2)
    np.testing.assert_array_equal(figures[..., 0], 1.0)


def test_noise_as_embeddings_gives_the_accuracy_of_chance(data):
    rng = np.random.default_rng(1)
    task = task_of(data)
    embedded = tasks.Embedded.of(task, truth_of(8000.0))
    noise = rng.normal(size=embedded.embedding_map.embeddings.data.shape).astype(np.float32)
    figures = trials.trial([embedded], [with_embeddings(embedded, noise)], [5], 5)
    assert figures[..., 0].mean() == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("encoder", "chip_size", "settings"),
    # Chips of 4 px give more queries than the sample that is learnt on.
    [
        (Dihedral("one"), 4, {"chip_size": 4, "stride": 1}),
        (Dihedral("all", dihedral=True), 8, {"chip_size": 8, "stride": 2}),
        (default_encoder("image"), 32, {}),
    ],
)
def test_predictions_are_those_of_classify_at_the_queries(data, encoder, chip_size, settings):
    task = replace(task_of(data), chip_size=chip_size)
    embedded = tasks.Embedded.of(task, encoder)
    # The first and the last example of the first class overlap.
    places = [
        [[8, 10], [50, 18], [7, 11]],
        [[12, 40], [40, 42], [30, 50]],
        [[18, 80], [56, 86], [9, 70]],
    ]
    stride = chip_size // 4
    cells = dict(zip(NAMES, np.array(places) // stride, strict=True))
    labels, confidence = embedded.predict(cells, embedded)
    support = {
        name: [(int(x), int(y)) for y, x in given * stride + stride // 2]
        for name, given in cells.items()
    }
    encoder = {"encoder": encoder} if settings else {}
    expected = classify(task.signal, support, reject=False, **encoder, **settings)
    half = slice(stride // 2, None, stride)
    np.testing.assert_array_equal(labels, expected.labels_at_pixels().data[half, half])
    assert labels.shape == confidence.shape == (64 // stride, 96 // stride)
    for query in ((0, 0), (3, 5), (7, 11)):
        cell = expected.domain.grid.cell_at([i * stride + stride // 2 for i in query])
        assert confidence[query] == expected.confidence.data[cell]
    assert embedded.setting == f"chip {expected.domain.grid.chip_size}"
    assert (embedded.side == chip_size) == bool(settings)


def test_intensities_are_means_of_chips(data):
    task = task_of(data)
    plain = tasks.Intensity.of(task)
    rows, columns = task.places
    for i, j in ((4, 7), (20, 30), (27, 43)):
        r, c = rows[i], columns[j]
        chip = task.signal.data[r - 4 : r + 4, c - 4 : c + 4]
        assert plain.means[i, j] == pytest.approx(chip.mean(dtype=float))
    cells = [np.array([[5, 4], [9, 8]]), np.array([[7, 24]]), np.array([[20, 40]])]
    labels, confidence = plain.predict(dict(zip(NAMES, cells, strict=True)), plain)
    means = [np.mean([plain.means[tuple(cell)] for cell in given]) for given in cells]
    for cell in np.ndindex(labels.shape):
        assert labels[cell] == np.argmin([abs(plain.means[cell] - mean) for mean in means])
    assert np.isnan(confidence).all()


@dataclass
class Watched:
    """A method that is right everywhere, and remembers what it was asked."""

    task: tasks.Task

    def predict(self, support, source):
        self.asked = getattr(self, "asked", []) + [support]
        truth = self.task.truth(NAMES)
        return truth, np.ones(truth.shape)


def test_queries_near_examples_are_left_out_for_all_methods_alike(data, monkeypatch):
    task = task_of(data)
    assert task.reach([99]) == 1
    assert replace(task, chip_size=32).reach([99]) == 1
    assert replace(task, kind="spectrum").reach([1, 7, 5]) == 3
    judged = []
    monkeypatch.setattr(trials, "balanced_accuracy", lambda found, truth: judged.append(truth) or 1)
    method = Watched(task)
    trials.trial([method], [method], [1, 5], 2, task.reach([]))
    assert len(judged) == len(method.asked) == 4
    places = np.moveaxis(np.indices((32, 48)), 0, -1)
    for support, truth in zip(method.asked, judged, strict=True):
        cells = np.concatenate(list(support.values()))
        near = abs(places[:, :, np.newaxis] - cells).max(axis=-1).min(axis=-1) <= 1
        np.testing.assert_array_equal(truth, task.truth(NAMES)[~near])
    other = Watched(task)
    trials.trial([other], [other], [1, 5], 2, 3)
    for one, two in zip(method.asked, other.asked, strict=True):
        assert all((one[name] == two[name]).all() for name in NAMES)


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
    target, *sources = (task_of(data, name) for name in ("difftest_a", "spot1", "spot2"))
    plain, *plains = (task.standardised() for task in (target, *sources))
    # The mean separates the bands, except for chips on a boundary.
    learnt = [tasks.Intensity.of(source) for source in plains]
    figures = trials.trial(learnt, [tasks.Intensity.of(plain)] * 2, [5], 4)
    assert figures[..., 0].min() > 0.85
    learnt = [tasks.Embedded.of(source, truth_of(1.0)) for source in plains]
    again = [source.reused_on(plain) for source in learnt]
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
    labels = np.repeat([1, 2], [40, 48]).reshape(8, 11)
    spectra = np.random.default_rng(3).poisson(labels[..., np.newaxis] * np.linspace(2, 9, 30))
    (data / "set" / "lines").mkdir(parents=True)
    for name, array in {"data": spectra, "labels": labels}.items():
        np.save(data / "set" / "lines" / f"{name}.npy", array)
    (data / "set" / "lines" / "meta.json").write_text('{"classes": ["a", "b"]}', encoding="utf-8")
    command = f"accuracy.py --data {data} --only accuracy cross_image dose --out {out}"
    command = f"{command} --encoders pca spectrum --shots 1 5 --draws 2 --fine"
    monkeypatch.setattr(sys, "argv", command.split())
    monkeypatch.setattr(hs.preferences.General, "show_progressbar", False)
    with pytest.warns(UserWarning, match="With one example"):
        accuracy.main()
    tables = {path.name: path.read_text(encoding="utf-8") for path in data.glob("*.md")}
    assert set(tables) == {
        f"{name}_table.md" for name in ("accuracy", "comparison", "cross_image", "dose")
    }
    printed = capsys.readouterr().out
    assert all(table in printed for table in tables.values())
    for table in tables.values():
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| nasa_superalloy/difftest_a | pca | chip 8 | " in tables["accuracy_table.md"]
    assert "| set/lines | sqrt spectrum | context 1 | " in tables["accuracy_table.md"]
    assert "| 5 | 1 spectra | spectrum | " in tables["comparison_table.md"]
    assert "| mean | intensity | " in tables["cross_image_table.md"]
    # The one chip of the cap is wrong, the four of the other two classes are right.
    assert "| published | 0.667 |" in tables["dose_table.md"]


def test_pixels_need_scikit_learn(data, monkeypatch):
    monkeypatch.setattr(sys, "argv", f"accuracy.py --data {data} --only pixel".split())
    monkeypatch.setattr(accuracy, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match='"pixel" needs scikit-learn: pip install'):
        accuracy.main()
