"""Statistics of small label maps, computed by hand."""

import json

import numpy as np
import pytest

from hyperspy_fewshot.statistics import label_statistics
from hyperspy_fewshot.statistics.fractions import count_regions
from hyperspy_fewshot.statistics.intervals import fraction_intervals

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


def probabilities_of(labels, confidence, k=3):
    """Probabilities (k, ...) of labels with some confidence, the rest shared by other classes."""
    own = np.arange(k).reshape(k, *(1,) * labels.ndim) == labels
    p = np.where(own, confidence, (1 - np.asarray(confidence)) / (k - 1))
    p = np.where(labels == -1, 1 / k, p)
    return np.where(labels == -2, np.nan, p).astype(np.float32)


def statistics(labels=LABELS, confidence=0.9, **options):
    """Statistics with one confidence everywhere."""
    options = {"cell_areas": AREAS, "area_scale": 0.25, "units": "nm²", **options}
    return label_statistics(labels, probabilities_of(labels, confidence), NAMES, **options)


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
    confidence = 0.5 + LABELS / 4
    confidence[0, 0] = 1.0
    rows = statistics(confidence=confidence).rows
    assert rows["matrix"]["confidence"] == pytest.approx((15 * 0.5 + 1) / 16)
    assert rows["phase"]["confidence"] == pytest.approx(0.75)
    assert np.isnan([rows[name]["confidence"] for name in ("void", "rejected", "masked")]).all()


def test_number_of_shots():
    rows = statistics(shots=(3, 1, 2)).rows
    assert [row["shots"] for row in rows.values()] == [3, 1, 2, 0, 0]
    assert [row["shots"] for row in statistics().rows.values()] == [0] * 5


def test_intervals_and_their_parts():
    found = statistics(spread=np.array([0.01, 0.02, 0.03]), overlap=4.0, boundary=1.5)
    parts = fraction_intervals(
        LABELS,
        probabilities_of(LABELS, 0.9),
        AREAS.astype(float),
        np.array([0.01, 0.02, 0.03]),
        4.0,
        1.5,
        2,
    )
    explained = found.explain().to_dict()
    assert list(explained) == list(NAMES)
    for k, name in enumerate(NAMES):
        assert explained[name] == {key: float(values[k]) for key, values in parts.items()}
        assert found.rows[name]["fraction_low"] == explained[name]["low"]
        assert found.rows[name]["fraction_high"] == explained[name]["high"]
        assert found.rows[name]["fraction"] == pytest.approx(explained[name]["fraction"])


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
    assert rows["matrix"]["fraction"] == rows["phase"]["fraction_high"] == 0
    # A fifth of what is rejected may belong to the class that it resembles most.
    assert rows["matrix"]["fraction_high"] == pytest.approx(0.4)


def test_values_are_plain_numbers():
    for row in statistics().rows.values():
        for key, value in row.items():
            assert type(value) is (int if key in ("count", "regions", "shots") else float), key


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
