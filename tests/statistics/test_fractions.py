"""Statistics of small label maps, computed by hand."""

import json

import numpy as np
import pytest

from hyperspy_fewshot.statistics import label_statistics
from hyperspy_fewshot.statistics.fractions import count_regions

NAMES = ("matrix", "phase", "void")
# Cells of 4 x 4 px on an image of 18 x 22: the last row and column are half cells.
LABELS = np.array(
    [
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, -1],
        [0, 0, 0, -1, 1, 1],
        [-2, 0, 1, 0, 0, 1],
        [-2, 1, 0, 0, 0, 1],
    ]
)
AREAS = np.outer([4, 4, 4, 4, 2], [4, 4, 4, 4, 4, 2])


def statistics(labels=LABELS, confidence=0.9, **options):
    """Statistics with one confidence everywhere."""
    values = np.where(labels < 0, np.nan, confidence).astype(np.float32)
    options = {"cell_areas": AREAS, "area_scale": 0.25, "units": "nm²", **options}
    return label_statistics(labels, values, NAMES, **options)


def test_counts_fractions_and_areas_with_cells_cut_by_the_edge():
    rows = statistics().rows
    assert list(rows) == [*NAMES, "rejected", "masked"]
    counts = {name: row["count"] for name, row in rows.items()}
    assert counts == {"matrix": 16, "phase": 10, "void": 0, "rejected": 2, "masked": 2}
    pixels = {
        "matrix": 12 * 16 + 8 + 3 * 8,
        "phase": 6 * 16 + 2 * 8 + 8 + 4,
        "void": 0,
        "rejected": 16 + 8,
        "masked": 16 + 8,
    }
    assert sum(pixels.values()) == 18 * 22
    for name, row in rows.items():
        assert row["area"] == pytest.approx(pixels[name] * 0.25)
        if name != "masked":
            assert row["fraction"] == pytest.approx(pixels[name] / (18 * 22 - 24))
    assert np.isnan(rows["masked"]["fraction"])
    assert sum(row["fraction"] for name, row in rows.items() if name != "masked") == pytest.approx(
        1
    )


def test_regions_and_their_mean_area():
    rows = statistics().rows
    regions = {name: row["regions"] for name, row in rows.items()}
    assert regions == {"matrix": 3, "phase": 5, "void": 0, "rejected": 2, "masked": 1}
    assert rows["phase"]["region_area"] == pytest.approx(124 * 0.25 / 5)
    assert rows["void"]["region_area"] == 0


def test_confidence_is_the_mean_of_the_class():
    confidence = np.where(LABELS < 0, np.nan, 0.5 + LABELS / 4)
    confidence[0, 0] = 1.0
    rows = label_statistics(LABELS, confidence, NAMES, cell_areas=AREAS).rows
    assert rows["matrix"]["confidence"] == pytest.approx((15 * 0.5 + 1) / 16)
    assert rows["phase"]["confidence"] == pytest.approx(0.75)
    assert np.isnan([rows[name]["confidence"] for name in ("void", "rejected", "masked")]).all()


def test_interval_equals_its_formula():
    rng = np.random.default_rng(0)
    confidence = np.where(LABELS < 0, np.nan, rng.uniform(0.4, 1, LABELS.shape))
    rows = label_statistics(LABELS, confidence, NAMES, cell_areas=AREAS, overlap=16).rows
    total = AREAS[LABELS != -2].sum()
    for k, name in enumerate(NAMES):
        variance = 0.0
        for label, c, area in zip(LABELS.flat, confidence.flat, AREAS.flat, strict=True):
            if label >= 0:
                p = c if label == k else (1 - c) / 2
                variance += area**2 * p * (1 - p)
        half = 1.96 * np.sqrt(16 * variance) / total
        fraction = AREAS[LABELS == k].sum() / total
        assert rows[name]["fraction_low"] == pytest.approx(max(fraction - half, 0))
        assert rows[name]["fraction_high"] == pytest.approx(min(fraction + half, 1))
    assert rows["void"]["fraction_high"] > 0


def test_interval_covers_the_truth_of_calibrated_labels():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        first = rng.random((20, 15))
        # Errors of both classes are equally frequent, so that the count is not biased.
        first = np.concatenate([first, 1 - first], axis=1)
        truth = rng.random((20, 30)) > first
        labels, confidence = (first < 0.5).astype(int), np.maximum(first, 1 - first)
        options = {"cell_areas": np.ones((20, 30))}
        row = label_statistics(labels, confidence, ("a", "b"), **options).rows["a"]
        covered.append(row["fraction_low"] <= (~truth).mean() <= row["fraction_high"])
    assert 0.92 < np.mean(covered) < 0.98


def test_intervals_widen_with_lower_confidence_and_overlap():
    widths = {}
    for c in (1.0, 0.9, 0.6):
        row = statistics(confidence=c).rows["phase"]
        widths[c] = row["fraction_high"] - row["fraction_low"]
    assert widths[1.0] == 0
    assert 0 < widths[0.9] < widths[0.6]
    wide = statistics(overlap=4.0).rows["phase"]
    assert wide["fraction_high"] - wide["fraction"] == pytest.approx(2 * widths[0.9] / 2)


def test_both_of_two_classes_have_the_same_interval():
    confidence = np.random.default_rng(0).uniform(0.5, 1, (6, 7))
    labels = np.random.default_rng(1).integers(0, 2, (6, 7))
    rows = label_statistics(labels, confidence, ("a", "b"), cell_areas=np.ones((6, 7))).rows
    widths = [rows[name]["fraction_high"] - rows[name]["fraction_low"] for name in "ab"]
    assert widths[0] == pytest.approx(widths[1])


def test_frames_have_their_own_statistics():
    labels = np.array([[[0, 1], [0, 0]], [[0, 1], [1, -2]], [[0, 2], [0, -1]]])
    options = {"cell_areas": np.ones((2, 2)), "area_scale": 1.0}
    whole = statistics(labels, frames=1, **options)
    assert whole.rows["matrix"] == {**whole.rows["matrix"], "count": 6, "regions": 3, "area": 6.0}
    assert whole.rows["phase"]["regions"] == 3
    assert whole.rows["phase"]["region_area"] == 1
    assert list(whole.frames) == [(0,), (1,), (2,)]
    for index, frame in whole.frames.items():
        alone = statistics(labels[index], **options)
        # NaN is not equal to itself, but has the same JSON.
        assert json.dumps(frame.to_dict()) == json.dumps(alone.to_dict())
    assert whole.frames[1,].fractions == {"matrix": 1 / 3, "phase": 2 / 3, "void": 0}
    # As one volume, cells of different planes are connected.
    volume = statistics(labels, frames=0, **options)
    assert volume.rows["matrix"]["regions"] == 1
    assert volume.frames == {}


def test_frames_of_two_axes():
    labels = np.zeros((2, 3, 2, 2), int)
    whole = statistics(labels, frames=2, cell_areas=np.ones((2, 2)))
    assert whole.rows["matrix"]["regions"] == 6
    assert list(whole.frames) == list(np.ndindex(2, 3))


def test_a_line_scan():
    rows = statistics(np.array([0, 0, 1, 0, -2, 0]), cell_areas=np.ones(6)).rows
    assert (rows["matrix"]["regions"], rows["phase"]["regions"]) == (3, 1)
    assert rows["matrix"]["fraction"] == pytest.approx(4 / 5)


@pytest.mark.filterwarnings("error")
def test_a_map_without_labels():
    rows = statistics(np.full((5, 6), -2)).rows
    assert rows["masked"]["count"] == 30
    assert rows["masked"]["area"] == pytest.approx(18 * 22 / 4)
    for name in NAMES:
        assert rows[name]["count"] == rows[name]["regions"] == rows[name]["area"] == 0
        assert np.isnan(
            [rows[name][key] for key in ("fraction", "fraction_low", "confidence")]
        ).all()
    assert "masked" in str(statistics(np.full((5, 6), -2)))


@pytest.mark.filterwarnings("error")
def test_a_map_of_rejected_labels():
    rows = statistics(np.full((5, 6), -1)).rows
    assert rows["rejected"]["fraction"] == 1
    assert rows["matrix"]["fraction"] == rows["matrix"]["fraction_high"] == 0


def test_values_are_plain_numbers():
    for row in statistics().rows.values():
        for key, value in row.items():
            assert type(value) is (int if key in ("count", "regions") else float), key


# Regions.


def test_regions_are_connected_through_edges_not_corners():
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1]], bool)
    assert count_regions(mask) == 3
    assert count_regions(~mask) == 2
    assert count_regions(np.zeros((3, 5), bool)) == 0


def test_regions_of_a_line_scan():
    assert count_regions(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == 3


@pytest.mark.parametrize(("frames", "expected"), [(0, 1), (1, 2), (2, 6)])
def test_frames_are_never_connected(frames, expected):
    assert count_regions(np.ones((2, 3, 4, 5), bool), frames) == expected
