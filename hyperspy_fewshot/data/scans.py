"""Simulation of scans: EDS spectrum images of particles, diffraction patterns of domains."""

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator

from hyperspy_fewshot.data.drawing import UNDEFINED, Shape, draw_spots, slow_field, wedges

# Relative intensities of the families of X-ray lines.
SUPPORT_LINES = {"C_K": 1.0, "O_K": 0.04, "Cu_L": 0.08, "Cu_K": 0.25}
OXIDE_LINES = {"O_K": 0.35, "Fe_L": 0.3, "Fe_K": 1.0}


def particles_on_film(shape: Shape, spacing: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Simulate the amounts of a film and of two kinds of spherical particles, and the truth.

    The amounts have the shape (rows, columns, 3). Particles are `spacing` positions apart; the
    truth is -1 on their thin rims.
    """
    amounts = np.zeros((*shape, 3))
    amounts[..., 0] = 1 + 0.2 * slow_field(shape, rng)
    places = np.argwhere(np.ones((shape[0] // spacing, shape[1] // spacing)))
    kinds = rng.permutation(np.arange(len(places)) % 2) + 1
    rows, columns = np.indices(shape)
    for place, kind in zip(places, kinds, strict=True):
        radius = spacing * rng.uniform(0.32, 0.46)
        room = spacing / 2 - radius
        centre = (place + 0.5) * spacing - 0.5 + rng.uniform(-room, room, 2)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        amounts[..., kind] += 7 / spacing * np.sqrt(np.maximum(radius**2 - distance**2, 0)) * 2
    thickness = amounts[..., 1:].max(axis=-1)
    kind = amounts[..., 1:].argmax(axis=-1) + 1
    return amounts, np.select([thickness == 0, thickness > 2], [0, kind], UNDEFINED)


def xray_spectrum(
    energy: np.ndarray, families: Mapping[str, float], elements: Mapping, continuum: float
) -> np.ndarray:
    """Simulate the X-ray spectrum of a thin film at `energy` [keV], with sum 1.

    `families` holds relative intensities of families of lines, such as "Fe_K", that are looked up
    in `elements`, eXSpy's database. `continuum` is its area relative to that of all lines. The widths
    of the lines follow Fiori and Newbury (SEM/1978/I, p. 401) for 133 eV at Mn Ka. The continuum is
    that of Kramers at 200 keV, behind a detector window.
    """
    spectrum = np.zeros_like(energy)
    for name, intensity in families.items():
        element, family = name.split("_")
        lines = elements[element]["Atomic_properties"]["Xray_lines"].as_dictionary()
        for line, known in lines.items():
            if line.startswith(family):
                centre = known["energy (keV)"]
                sigma = np.sqrt(0.133**2 + 2.5e-3 * (centre - 5.899)) / 2.355
                profile = np.exp(-((energy - centre) ** 2) / (2 * sigma**2)) / sigma
                spectrum += intensity * known["weight"] * profile
    background = (200 / energy - 1) * np.exp(-((0.4 / energy) ** 2))
    spectrum = spectrum / spectrum.sum() + continuum * background / background.sum()
    return spectrum / spectrum.sum()


def domain_patterns(
    scan_shape: Shape, pattern_shape: Shape, number: int, counts: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate patterns and truth of a scan over domains of one crystal in different orientations.

    `counts` is the mean sum of a pattern.
    """
    truth, _ = wedges(scan_shape, number, rng)
    angles = np.deg2rad(rng.uniform(0, 90) + np.arange(number) * 90 / number)
    spots = [diffraction_spots(pattern_shape, angle, rng) for angle in angles]
    # The beam moves over the detector during a scan, which must not look like a domain.
    descan = 0.5 * np.stack([slow_field(scan_shape, rng), slow_field(scan_shape, rng)], axis=-1)
    patterns = np.empty((*scan_shape, *pattern_shape))
    sigma = 0.025 * min(pattern_shape)
    for position in np.ndindex(*scan_shape):
        moved = spots[truth[position]] + [*descan[position], 0.0]
        patterns[position] = draw_spots(moved, pattern_shape, sigma) + 0.002
    patterns *= counts / patterns.sum(axis=(-2, -1)).mean()
    return rng.poisson(patterns).astype(np.uint16), truth


def diffraction_spots(shape: Shape, angle: float, rng: Generator) -> np.ndarray:
    """Return row, column [px] and height of the direct beam and of the spots, shape (n, 3).

    The reciprocal lattice is rectangular and rotated by `angle` [rad].
    """
    h, k = np.mgrid[-5:6, -5:6].reshape(2, -1)
    along, across = 0.17 * min(shape) * h, 0.23 * min(shape) * k
    rows = (shape[0] - 1) / 2 + along * np.sin(angle) + across * np.cos(angle)
    columns = (shape[1] - 1) / 2 + along * np.cos(angle) - across * np.sin(angle)
    height = np.exp(-(h**2 + k**2) / 6) * rng.uniform(0.2, 0.5, len(h))
    height[(h == 0) & (k == 0)] = 2.0
    return np.column_stack([rows, columns, height])
