"""Spots, smooth fields and wedges."""

import numpy as np

from hyperspy_fewshot.data import drawing


def test_spots_are_gaussians_at_their_positions():
    rng = np.random.default_rng(0)
    spots = np.column_stack(
        [rng.uniform(-9, 49, 30), rng.uniform(-9, 59, 30), rng.uniform(size=30)]
    )
    rows, columns = np.indices((40, 50))
    expected = sum(
        height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 1.7**2))
        for row, column, height in spots
    )
    # A spot is cut off at four standard deviations.
    np.testing.assert_allclose(drawing.draw_spots(spots, (40, 50), 1.7), expected, atol=1e-3)


def test_slow_field_is_bounded_and_smooth():
    field = drawing.slow_field((60, 80), np.random.default_rng(0))
    assert field.shape == (60, 80)
    assert np.abs(field).max() == 1
    assert abs(field.mean()) < 1e-12
    assert np.abs(np.diff(field, axis=0)).max() < 0.15


def test_wedges_divide_the_area_about_their_sites():
    labels, sites = drawing.wedges((30, 42), 4, np.random.default_rng(0))
    assert labels.shape == (30, 42)
    assert set(np.unique(labels)) == set(range(4))
    rows, columns = np.rint(sites).astype(int).T
    np.testing.assert_array_equal(labels[rows, columns], range(4))
