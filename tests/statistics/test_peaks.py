"""Instances of a class as peaks of its probability."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_fewshot.statistics.peaks import count_interval, find_peaks, is_instance


def discs(places, radius, shape=(60, 70)):
    rows, columns = np.indices(shape)
    return np.max([np.hypot(rows - y, columns - x) <= radius for y, x in places], axis=0).astype(
        float
    )


PLACES = [(10, 12), (10, 40), (30, 25), (48, 60), (50, 8)]


@pytest.mark.parametrize("side", [1, 3, 6])
def test_every_disc_is_one_instance(side):
    cells, heights = find_peaks(discs(PLACES, 4), side)
    assert len(cells) == len(PLACES)
    for place in PLACES:
        assert np.abs(cells - place).max(axis=1).min() <= 4
    np.testing.assert_array_equal(heights, 1)


def test_single_cells():
    values = np.zeros((30, 30))
    for y, x in [(3, 3), (3, 7), (20, 29), (0, 15)]:
        values[y, x] = 0.9
    cells, heights = find_peaks(values, 1)
    assert {tuple(cell) for cell in cells} == {(3, 3), (3, 7), (20, 29), (0, 15)}
    np.testing.assert_array_equal(heights, 0.9)


def test_a_valley_separates_and_a_dip_does_not():
    values = gaussian_filter(discs([(20, 20), (20, 36)], 4), 2)
    assert len(find_peaks(values, 4)[0]) == 2
    bridge = values.copy()
    bridge[18:23, 20:37] = np.maximum(bridge[18:23, 20:37], 0.9 * values.max())
    assert len(find_peaks(bridge, 4)[0]) == 1


def test_peaks_are_half_a_side_apart():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((80, 90)) < 0.004, 1.0, 0.0)
    cells, _ = find_peaks(values, 8)
    apart = np.abs(cells[:, None] - cells[None]).max(axis=2) + 99 * np.eye(len(cells))
    assert 5 < len(cells) < values.sum()
    assert apart.min() > 4


def test_the_likeliest_come_first():
    values = np.zeros((20, 40))
    values[10, [5, 15, 25, 35]] = 0.3, 0.9, 0.6, 0.04
    cells, heights = find_peaks(values, 1)
    assert [tuple(cell) for cell in cells] == [(10, 15), (10, 25), (10, 5)]
    assert heights.tolist() == [0.9, 0.6, 0.3]
    assert is_instance(heights).tolist() == [True, True, False]


def test_a_line_and_nothing():
    values = np.zeros(50)
    values[[8, 30]] = 1
    assert sorted(find_peaks(values, 2)[0].ravel()) == [8, 30]
    for empty in (np.zeros((5, 6)), np.full((5, 6), np.nan)):
        cells, heights = find_peaks(empty, 2)
        assert cells.shape == (0, 2)
        assert len(heights) == 0


def test_the_interval_of_the_count():
    p = np.array([1.0, 1.0, 0.9, 0.6, 0.3, 0.2])
    count, low, high = count_interval(p, 0.1)
    half = np.hypot(1.96 * np.sqrt((p * (1 - p)).sum() + 0.25 * 4), 0.3 * 4)
    assert count == 4
    assert low == pytest.approx(max(0, 4 - half))
    assert high == pytest.approx(4 + half)
    assert count_interval(np.empty(0), 0.5) == (0, 0.0, 0.0)
