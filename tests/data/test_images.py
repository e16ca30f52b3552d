"""Simulated images: counts, crystal lattices, stacking."""

import numpy as np

from hyperspy_fewshot.data import images


def test_counts_follow_poisson():
    """Within a small piece of a flat image only counting noise is left: its variance is its mean."""
    flat = np.full((96, 112), 20.0)
    microscope = images.Microscope(0.02, 25.0, 0.11, scan_noise=1e-9)
    image = microscope.record(
        np.zeros((0, 3)), flat, np.zeros(flat.shape, bool), np.random.default_rng(0)
    )
    pieces = image.reshape(96, 14, 8).astype(float)
    np.testing.assert_allclose(pieces.var(axis=-1, ddof=1).mean() / image.mean(), 1, atol=0.05)


def test_lattice_period_follows_the_calibration():
    period = {}
    for pixel_size in (0.02, 0.03):
        columns = images.lattice((120, 140), images.SRTIO3_001, pixel_size, 0.0)
        period[pixel_size] = np.diff(np.unique(columns[columns[:, 2] > 1, 1])).mean()
    np.testing.assert_allclose([period[0.02], period[0.03]], [0.3905 / 0.02, 0.3905 / 0.03])


def test_stacking_in_and_outside_the_faulted_band():
    """Cubic stacking repeats after three planes, faulted stacking after two."""
    atoms = images.stacked_planes((300, 300), 0.02, 0.0, np.array([0.0, 0.0]), (0.0, 150.0))
    plane, row = 0.3924 / np.sqrt(3) / 0.02, 0.3924 * np.sqrt(6) / 4 / 0.02
    height = np.rint(atoms[:, 0] / plane).astype(int)
    shift = {n: (atoms[height == n, 1] / row % 1).round(3)[0] % 1 for n in range(-8, 24)}
    assert all(shift[n] == shift[n + 2] and shift[n] != shift[n + 1] for n in range(2, 10))
    for planes in (range(-8, -4), range(16, 20)):
        assert all(
            shift[n] == shift[n + 3] and shift[n] not in (shift[n + 1], shift[n + 2])
            for n in planes
        )
