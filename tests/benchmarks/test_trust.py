"""The benchmark of intervals, confidence and rejection measures what it says it measures."""

import json
import sys
import zlib
from dataclasses import replace

import cases
import hyperspy.api as hs
import numpy as np
import pytest
import trust
import trust_tables
from trials import calibration_error

from hyperspy_fewshot.data import Specimen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A task: an image of three bands, with unknown columns and a class with few places."""
    labels = np.repeat([1, 0, 2, 3, 0], [40, 4, 40, 44, 2])
    labels = np.broadcast_to(labels, (80, labels.size)).astype(np.uint8)
    labels[:20, -2:] = 4
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    task = tmp_path_factory.mktemp("data") / "set" / "bands"
    task.mkdir(parents=True)
    np.save(task / "image.npy", (40 * labels + noise).astype(np.float32))
    np.save(task / "labels.npy", labels)
    meta = {"classes": ["cap", "film", "substrate", "edge"], "trivial_baseline_chip": 8}
    (task / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return task.parents[1]


@pytest.fixture(scope="module")
def bands(folder):
    """The task, embedded."""
    (case,) = cases.labelled(folder)
    return cases.Scene.of(replace(case, settings={"chip_size": 8, "stride": 2}))


@pytest.fixture
def blobs():
    """The truth of three classes in irregular regions."""
    return np.random.default_rng(3).integers(0, 3, (4, 5)).repeat(5, axis=0).repeat(4, axis=1)


def naive_depth(truth):
    distances = np.zeros(truth.shape, int)
    for place in np.argwhere(truth >= 0):
        others = np.argwhere(truth != truth[tuple(place)])
        distances[tuple(place)] = abs(others - place).max(axis=1).min()
    return distances


def test_intervals_are_judged_class_by_class():
    truth = np.array([0.2, 0.5, 0.3])
    bounds = {"a": (0.1, 0.2, 0.1), "b": (0.45, 0.52, 0.5), "c": (0.35, 0.6, 0.4)}
    rows = {
        name: {"fraction_low": low, "fraction_high": high, "fraction": fraction}
        for name, (low, high, fraction) in bounds.items()
    }
    rows["rejected"] = rows["a"]
    found = trust.interval_figures(rows, tuple("abc"), truth)
    # The end of the first interval is the truth itself; the last one misses it by 5 points.
    np.testing.assert_array_equal(found["coverage"], [True, True, False])
    np.testing.assert_allclose(found["half-width"], [5, 3.5, 12.5])
    np.testing.assert_allclose(found["score"], [10, 7, 25 + 40 * 5])
    np.testing.assert_allclose(found["error"], [10, 0, 10], atol=1e-9)


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(1)
    positive, negative = rng.integers(2, 9, 23), rng.integers(0, 7, 31)
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert trust.auroc(positive, negative) == pytest.approx(np.mean(pairs))
    assert np.isnan(trust.auroc(positive, negative[:0]))


def test_calibration_error_is_that_of_a_loop_over_bins():
    rng = np.random.default_rng(2)
    confidence, right = rng.uniform(0.2, 1, 300), rng.uniform(size=300) < 0.7
    expected = 0
    for low in np.arange(10) / 10:
        here = (confidence >= low) & (confidence < low + 0.1)
        if here.any():
            expected += abs(sum(confidence[here]) - sum(right[here])) / 300
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_depth_is_the_distance_to_another_class_or_to_what_is_unknown(blobs):
    blobs[3:6, 7:9] = -1
    np.testing.assert_array_equal(cases.depth(blobs), naive_depth(blobs))


def test_boundaries_have_the_nearest_class():
    truth = np.array([[0, 0, -1, -1, -1, 1, 1]]).repeat(3, axis=0)
    found = cases.nearest_class(truth)
    np.testing.assert_array_equal(found[:, [2, 4]], [[0, 1]] * 3)
    np.testing.assert_array_equal(found[truth >= 0], truth[truth >= 0])


@pytest.mark.parametrize("side", [1, 3, 8])
def test_clicked_examples_see_one_class_only(blobs, side):
    truth = blobs.repeat(4, axis=0).repeat(4, axis=1)
    drawn = cases.draw(truth, cases.depth(truth), 3, 10, seed=0, reach=side // 2 + 1)
    before = side // 2
    padded = np.pad(truth, side, mode="reflect")
    for label, places in enumerate(drawn):
        assert len(np.unique(places, axis=0)) == 10
        for row, column in places + side - before:
            assert (padded[row : row + side, column : column + side] == label).all()


def test_margin_of_clicked_examples_shrinks_only_where_a_class_is_small():
    truth = np.zeros((30, 40), int)
    truth[4:10, 5:11] = 1
    distances = cases.depth(truth)
    large, small = cases.draw(truth, distances, 2, 5, seed=1, reach=4.0)
    assert distances[tuple(large.T)].min() >= 4
    # Only four of its places are 3 from the others, sixteen at least 2.
    assert distances[tuple(small.T)].min() == 2
    assert (truth[tuple(small.T)] == 1).all()
    anywhere = cases.draw(truth, distances, 2, 36, seed=1, reach=0)[1]
    assert {*map(tuple, anywhere)} == {*map(tuple, np.argwhere(truth == 1))}


def test_task_is_masked_where_its_truth_is_unknown_or_its_class_too_small(bands):
    scene = bands
    assert (scene.case.name, scene.kind, scene.side) == ("R_set__bands", "images", 8)
    assert scene.names == ("cap", "film", "substrate")
    columns = np.repeat([0, -1, 1, 2, -1], [20, 2, 20, 22, 1])
    np.testing.assert_array_equal(scene.truth, np.broadcast_to(columns, (40, 65)))
    np.testing.assert_array_equal(scene.known, scene.truth >= 0)
    np.testing.assert_allclose(scene.fractions, np.array([40, 40, 44]) / 124)
    # Columns of the film are 8 px from the unknown ones and from the substrate: 51 to 76.
    expected = np.arange(65) * scene.interior(1)
    np.testing.assert_array_equal(np.unique(expected[expected > 0]), np.arange(51 // 2 + 1, 39))
    support = scene.draw(5, seed=0, clicked=True)
    result = scene.classify(support, False)
    np.testing.assert_array_equal(result.labels.data == -2, scene.truth < 0)
    x = {name: [place[0] for place in places] for name, places in support.items()}
    assert max(x["cap"]) <= 36
    assert 47 <= min(x["film"]) <= max(x["film"]) <= 80
    assert 87 <= min(x["substrate"]) <= max(x["substrate"]) <= 125


def test_figures_of_a_result_agree_with_loops_over_its_labels(bands):
    scene = bands
    support = scene.draw(3, seed=1, clicked=True)
    found = trust.judge(scene, support)
    result = scene.classify(support, True)
    best = scene.classify(support, False).probabilities.data.argmax(axis=0)
    queries = list(zip(*np.nonzero(scene.truth >= 0), strict=True))
    right = np.mean([best[q] == scene.truth[q] for q in queries])
    assert found["right"] == pytest.approx(right)
    rejected = np.mean([result.labels.data[q] == -1 for q in queries])
    assert found["known rejected"] == pytest.approx(rejected)
    share = [(result.labels.data == k).sum() / len(queries) for k in range(3)]
    error = 100 * abs(np.array(share) - scene.fractions)
    np.testing.assert_allclose(found["error"], error, atol=0.5)
    left = trust.leave_out(scene, support)["unknown rejected"]
    del support["film"]
    labels = scene.classify(support, True).labels.data
    depths = naive_depth(scene.truth) * 2
    inside = [q for q in queries if scene.truth[q] == 1 and depths[q] > 8]
    assert left[1] == pytest.approx(np.mean([labels[q] == -1 for q in inside]), abs=0.1)


def test_boundaries_count_for_the_fractions_and_are_not_judged():
    truth = np.repeat([0, -1, 1], [8, 4, 20])
    truth = np.broadcast_to(truth, (12, 32))
    data = np.random.default_rng(4).poisson(30 + 60 * (truth[..., np.newaxis] == 1), (12, 32, 20))
    specimen = Specimen(hs.signals.Signal1D(data), truth, ("left", "right"))
    scene = cases.Scene.of(cases.Case("a", "synthetic", lambda: specimen, {"context": 1}))
    np.testing.assert_allclose(scene.fractions, np.array([10, 22]) / 32)
    np.testing.assert_array_equal(scene.known, truth >= 0)
    assert scene.kind == "spectra, context 1"
    assert (np.flatnonzero(scene.interior(0)[0]) == np.arange(8)).all()
    assert all(x < 8 for x, _ in scene.draw(10, 0, clicked=True)["left"])


def test_cases_are_divided_by_their_names():
    found = [*cases.synthetic(), *cases.rare()]
    for case in found:
        assert case.half == zlib.crc32(case.name.encode()) % 2
    # Both contexts of a case belong to one half, and both halves hold every kind of case.
    assert len({case.name for case in found}) == 2 * 10 + 4 * 10 + 48
    for part in ("S_het", "S_poly", "S_eds", "S_dif", "RARE_0.01_", "RARE_0.005_"):
        assert {case.half for case in found if case.name.startswith(part)} == {0, 1}


@pytest.mark.parametrize(("radius", "second"), [(0.5, False), (2.0, True)])
def test_one_class_of_a_rare_map_is_rare(radius, second):
    specimen = cases.rare_map(0.03, radius, second, 40, (30, 42), seed=5)
    shares = np.bincount(specimen.truth.ravel()) / specimen.truth.size
    assert len(shares) == len(specimen.class_names) == 2 + second
    assert 0.02 < shares[-1] < 0.04
    assert specimen.signal.data.shape[:2] == (30, 42)
    counts = specimen.signal.data.sum(axis=-1)
    assert counts.mean() == pytest.approx(40, rel=0.05)
    assert counts[specimen.truth == second + 1].mean() > 1.3 * counts[specimen.truth == 0].mean()


def test_a_target_is_bold_where_it_is_missed():
    where = {"data": "real", "drawn": "clicked", "shots": 5}
    records = [{**where, "kind": "spectra, context 1", "ECE": error} for error in (0.01, 0.05)]
    records += [{**where, "kind": "images", "ECE": 0.01}]
    (line,) = [line for line in trust_tables.targets(records) if line[0] == "ECE"]
    assert line == ["ECE", "real", "5", "0.010 (≤ 0.06)", "", "", "", "**0.030** (≤ 0.02)", ""]


def test_small_run_writes_its_tables(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "trust_table.md"
    command = f"trust.py --small --data {folder} --shots 1 5 --draws 1 --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    trust.main()
    printed = capsys.readouterr().out
    tables = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}
    others = {f"trust_{name}_table.md" for name in ("targets", "labels", "rare", "demo")}
    assert set(tables) == {"trust_table.md"} | others
    for table in tables.values():
        assert table in printed
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| real | images | 1 | 5 | clicked | " in tables["trust_table.md"]
    for kind in trust_tables.KINDS:
        assert f"| synthetic | {kind} | " in tables["trust_labels_table.md"]
        assert (f"| 1 % | 0.5 | {kind} | 1 | " in tables["trust_rare_table.md"]) == (
            kind.startswith("spectra")
        )
    assert "| all | 2 | " in tables["trust_demo_table.md"]


def test_data_that_are_missing_are_skipped(tmp_path, monkeypatch, capsys):
    command = f"trust.py --only real --data {tmp_path / 'none'}"
    monkeypatch.setattr(sys, "argv", command.split())
    trust.main()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "There are no labelled tasks" in captured.err
