"""The pixel benchmark marks and judges pixels as it says."""

import json
import sys

import accuracy
import numpy as np
import pixels
import pytest
import tasks
from pixels import FIGURES
from scipy import ndimage

NAMES = ("cap", "film", "holes")
CHIP = 16


@pytest.fixture
def data(tmp_path):
    """An image of three classes, of which one has small regions; unknown columns on the right."""
    labels = np.repeat([1, 2, 0], [50, 58, 4])[np.newaxis].repeat(90, axis=0).astype(np.uint8)
    for row, column in ((12, 14), (44, 20), (70, 32)):
        labels[row : row + 12, column : column + 13] = 3
    noise = np.random.default_rng(0).normal(0, 3, labels.shape)
    folder = tmp_path / "pychip" / "moo3"
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", (40 * labels + noise).astype(np.float32))
    np.save(folder / "labels.npy", labels)
    meta = {"classes": NAMES, "trivial_baseline_chip": CHIP}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return tmp_path


@pytest.fixture
def scene(data):
    return pixels.Scene.of(tasks.Task.load(data / "pychip" / "moo3"))


def naive_figures(truth, found, k):
    """The figures pixel by pixel."""
    labelled = [tuple(place) for place in np.argwhere(truth >= 0)]
    others = {c: np.argwhere(truth != c) for c in range(k)}
    groups = {"near": [], "far": []}
    for place in labelled:
        distance = abs(others[truth[place]] - place).max(axis=1).min()
        groups["near" if distance <= 4 else "far"].append(truth[place] == found[place])
    ious, errors = [], []
    for c in range(k):
        both = sum(truth[p] == c and found[p] == c for p in labelled)
        either = sum(truth[p] == c or found[p] == c for p in labelled)
        ious.append(both / either)
        difference = sum(found[p] == c for p in labelled) - sum(truth[p] == c for p in labelled)
        errors.append(100 * abs(difference) / len(labelled))
    right = groups["near"] + groups["far"]
    return [np.mean(v) for v in (right, ious, errors, groups["near"], groups["far"])]


def test_figures_are_those_of_a_loop_over_pixels(scene):
    rng = np.random.default_rng(1)
    found = np.where(rng.random(scene.truth.shape) < 0.7, scene.truth, rng.integers(-2, 3))
    wrong = rng.random(scene.truth.shape) < 0.2
    found[wrong] = rng.integers(-2, 3, wrong.sum())
    expected = naive_figures(scene.truth, found, 3)
    np.testing.assert_allclose(scene.figures(found), expected)
    perfect = np.where(scene.truth < 0, 1, scene.truth)
    assert scene.figures(perfect) == [1, 1, 0, 1, 1]


def test_clicks_lie_half_a_chip_inside_their_class_or_as_deep_as_it_goes(scene):
    clicks = scene.clicks(3)
    assert [places.shape for places in clicks] == [(5, 2)] * 3
    for k, places in enumerate(clicks):
        rows, columns = places.T
        assert (scene.truth[rows, columns] == k).all()
        # The holes are 6 px deep, where only few clicks are possible.
        assert scene.depth[rows, columns].min() >= (CHIP // 2 + 1 if k < 2 else 3)
    again, other = scene.clicks(3), scene.clicks(4)
    np.testing.assert_array_equal(again, clicks)
    assert (np.array(other) != np.array(clicks)).any()


@pytest.mark.parametrize("place", [(40, 52), (0, 0), (89, 111), (3, 70)])
@pytest.mark.parametrize("chip_size", [8, 16, 33])
def test_a_stroke_is_thin_connected_and_inside_its_chip(place, chip_size):
    rng = np.random.default_rng(5)
    lengths = []
    for _ in range(20):
        mask = pixels.stroke(np.array(place), chip_size, (90, 112), rng)
        assert mask[place]
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
        for marked, centre in zip(np.nonzero(mask), place, strict=True):
            assert marked.min() >= centre - chip_size // 2
            assert marked.max() < centre - chip_size // 2 + chip_size
        opened = ndimage.binary_opening(mask, np.ones((3, 3)))
        np.testing.assert_array_equal(opened, mask)
        lengths.append(mask.sum() / 3)
    if place == (40, 52):
        assert 0.8 * chip_size < np.mean(lengths) < 1.4 * chip_size


def test_strokes_have_the_true_label_of_every_pixel(scene):
    clicks = scene.clicks(0)
    labels = scene.strokes(clicks, 0)
    marked = labels > 0
    np.testing.assert_array_equal(labels[marked], scene.task.labels[marked])
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert 0.02 < marked.mean() < 0.15
    reached = np.zeros_like(marked)
    for row, column in np.concatenate(clicks):
        assert marked[row, column]
        reached[max(row - 8, 0) : row + 8, max(column - 8, 0) : column + 8] = True
    assert reached[marked].all()
    np.testing.assert_array_equal(scene.strokes(clicks, 0), labels)


def test_a_boundary_cuts_a_stroke_into_pieces(scene):
    labels = scene.strokes([np.array([[60, 49]])], 2)
    assert set(np.unique(labels)) == {0, 1, 2}


def test_squares_are_of_the_class_that_was_clicked(scene):
    clicks = [np.array([[40, 49]]), np.array([[0, 60], [89, 111]])]
    labels = scene.squares(clicks)
    expected = np.zeros_like(labels)
    expected[38:43, 47:52] = 1
    expected[:3, 58:63] = expected[87:, 109:] = 2
    np.testing.assert_array_equal(labels, expected)


def test_the_forest_finds_classes_that_differ_in_intensity(scene):
    pytest.importorskip("sklearn")
    forest = pixels.Forest.of(scene.task.signal.data)
    assert forest.features.shape[:2] == scene.truth.shape
    found = forest.predict(scene.squares(scene.clicks(0)))
    # Wide filters mix what lies on both sides of a boundary.
    assert scene.figures(found)[FIGURES.index("accuracy far")] > 0.95


def test_both_methods_get_the_same_places(data, monkeypatch):
    seen, task = [], tasks.Task.load(data / "pychip" / "moo3")

    class Forest:
        @classmethod
        def of(cls, image):
            return cls()

        def predict(self, labels):
            seen.append({k + 1: np.argwhere(labels == k + 1) for k in range(3)})
            return task.labels.astype(int) - 1

    def classified(task, support):
        seen.append(support)
        return task.labels.astype(int) - 1

    monkeypatch.setattr(pixels, "Forest", Forest)
    monkeypatch.setattr(pixels, "_classified", classified)
    found = pixels.measure(task, 2)
    methods = [(m, who) for m in ("clicks", "strokes") for who in ("fewshot_classify", "forest")]
    assert list(found) == methods
    for figures in found.values():
        np.testing.assert_array_equal(figures[:, :5], [[1, 1, 0, 1, 1]] * 2)
    for clicks, squares, strokes, painted in zip(*(seen[i::4] for i in range(4)), strict=True):
        for k, name in enumerate(NAMES, start=1):
            for x, y in clicks.examples[name]:
                assert {(y, x), (y - 2, x + 2)} <= set(map(tuple, squares[k]))
            points = np.concatenate([stroke.points for stroke in strokes.examples[name]])
            assert set(map(tuple, points)) == set(map(tuple, painted[k]))


def test_command_writes_the_table(data, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    out = data / "accuracy_table.md"
    command = f"accuracy.py --data {data} --only pixel --pixel-draws 1 --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    accuracy.main()
    table = (data / "pixel_table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    assert not out.exists()
    assert len({line.count("|") for line in table.splitlines()}) == 1
    for marks in ("clicks", "strokes"):
        for method in ("fewshot_classify", "forest"):
            assert f"| pychip/moo3 | {marks} | {method} | " in table
            assert f"| mean of 1 | {marks} | {method} | " in table
