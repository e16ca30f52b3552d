"""Few points stand for many."""

import numpy as np
import pytest

from hyperspy_fewshot.support.spreading import spread_out


def naive(points, spacing, least, most):
    """Farthest-point sampling, one distance at a time."""

    def away(i, chosen):
        return min(np.hypot(*(points[i] - points[j])) for j in chosen)

    middle = points.mean(axis=0)
    chosen = [min(range(len(points)), key=lambda i: np.hypot(*(points[i] - middle)))]
    while len(chosen) < min(most, len(points)):
        best = max(range(len(points)), key=lambda i: (away(i, chosen), -i))
        if len(chosen) >= least and away(best, chosen) < spacing:
            break
        chosen.append(best)
    return points[sorted(chosen)]


@pytest.mark.parametrize(
    ("spacing", "least", "most"), [(4, 3, 50), (9, 10, 50), (1, 5, 17), (1, 1, 999)]
)
def test_points_are_those_of_a_plain_loop(spacing, least, most):
    columns = np.arange(60)
    points = np.column_stack([np.round(8 + 6 * np.sin(columns / 9)).astype(int), columns])
    found = spread_out(points, spacing, least, most)
    np.testing.assert_array_equal(found, naive(points, spacing, least, most))


def test_all_points_of_a_scan_count_up_to_the_most():
    points = np.argwhere(np.ones((11, 13)))
    np.testing.assert_array_equal(spread_out(points, 1, 10, 256), points)
    assert len(spread_out(points, 1, 10, 100)) == 100


def test_a_large_area_is_covered_evenly():
    points = np.argwhere(np.ones((900, 1100)))
    found = spread_out(points, 4, 10, 256)
    np.testing.assert_array_equal(found, spread_out(points, 4, 10, 256))
    boxes = np.histogram2d(*found.T, bins=(4, 5), range=((0, 900), (0, 1100)))[0]
    assert boxes.sum() == 256
    assert boxes.min() >= 5
