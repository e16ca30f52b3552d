"""Estimates from places drawn at random: formulas, coverage in simulated audits, edge cases."""

import numpy as np
import pytest

from hyperspy_fewshot.statistics.audit import Judged, places_of_strata


def judged(strata, classes, sizes, *, labels=None, areas=None, cell_areas=None, known=(0, 0)):
    strata, classes, sizes = (np.array(values) for values in (strata, classes, sizes))
    return Judged(
        strata=strata,
        classes=classes,
        labels=strata if labels is None else np.array(labels),
        cell_areas=np.ones(len(strata)) if cell_areas is None else np.array(cell_areas, float),
        sizes=sizes,
        areas=sizes.astype(float) if areas is None else np.array(areas, float),
        known=np.array(known, float),
    )


@pytest.mark.parametrize(
    ("sizes", "n", "taken", "expected"),
    [
        ((600, 300, 100), 50, (0, 0, 0), (30, 15, 5)),
        ((990, 9, 1), 50, (0, 0, 0), (46, 3, 1)),
        ((10, 0, 5), 50, (0, 0, 0), (10, 0, 5)),
        ((500, 500), 20, (15, 0), (15, 5)),
        ((100, 100), 1, (0, 0), (3, 3)),
    ],
)
def test_places_are_divided_in_proportion(sizes, n, taken, expected):
    found = places_of_strata(np.array(sizes), n, np.array(taken))
    assert tuple(found) == expected


def test_fractions_are_those_of_the_stratified_estimator():
    # Of stratum 0 (70 cells) 3 of 4 places belong to class 0, of stratum 1 (20 cells) 1 of 2.
    found = judged([0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 1, 0], (70, 20), known=(0, 10))
    estimates, low, high = found.fractions()
    np.testing.assert_allclose(estimates, [0.7 * 0.75 + 0.2 * 0.5, 0.7 * 0.25 + 0.2 * 0.5 + 0.1])
    assert (low < estimates).all() and (estimates < high).all()
    assert found.weights.sum() == pytest.approx(0.9)
    expected = [[0.7 * 0.75, 0.7 * 0.25], [0.1, 0.1]]
    np.testing.assert_allclose(found.confusion(2), np.array(expected) / 0.9)


def test_cells_count_with_their_area():
    found = judged([0, 0, 0], [0, 1, 1], (30,), areas=(100,), cell_areas=(4, 2, 2))
    np.testing.assert_allclose(found.fractions()[0], [0.5, 0.5])
    np.testing.assert_allclose(found.weights, [0.5, 0.25, 0.25])


def test_an_interval_does_not_collapse_without_an_error():
    found = judged([0] * 25 + [1] * 25, [0] * 25 + [1] * 25, (5000, 5000))
    estimates, low, high = found.fractions()
    np.testing.assert_allclose(estimates, 0.5)
    assert (high - low > 0.05).all()
    proportion, least, most = found.share(found.classes == found.labels, np.ones(50, bool))
    assert proportion == most == 1
    assert 0.9 < least < 0.99


def test_what_cannot_be_told_is_bounded_both_ways():
    told = judged([0] * 20 + [1] * 20, [0] * 20 + [1] * 20, (50, 50))
    half = judged([0] * 20 + [1] * 20, [0] * 10 + [-1] * 10 + [1] * 20, (50, 50))
    assert half.cannot_tell == pytest.approx(0.25)
    np.testing.assert_allclose(half.fractions()[0], [0.5, 0.5])
    assert half.fractions()[1][0] < 0.3 < told.fractions()[1][0]
    assert half.fractions()[2][1] > 0.7 > told.fractions()[2][1]


def test_a_stratum_without_a_judged_place_says_nothing():
    estimates, low, high = judged([0] * 9, [0] * 9, (50, 50)).fractions()
    assert low[0] < 0.5
    assert high[1] > 0.5


def test_all_cells_judged_leave_no_doubt():
    _, low, high = judged([0] * 3 + [1] * 2, [0, 0, 1, 1, 1], (3, 2)).fractions()
    np.testing.assert_allclose(low, [0.4, 0.6])
    np.testing.assert_allclose(high, [0.4, 0.6])


def test_weights_outlast_other_labels():
    """Accuracies are those of the labels now, fractions those of the draw."""
    strata, classes = [0] * 6 + [1] * 3, [0, 0, 0, 1, 1, 0, 1, 1, 1]
    before = judged(strata, classes, (60, 30))
    after = judged(strata, classes, (60, 30), labels=[0, 0, 0, 1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(before.fractions(), after.fractions())
    everything = np.ones(9, bool)
    assert before.share(before.classes == before.labels, everything)[0] == pytest.approx(7 / 9)
    assert after.share(after.classes == after.labels, everything)[0] == 1
    np.testing.assert_allclose(after.confusion(2), np.diag([4 / 9, 5 / 9]))
