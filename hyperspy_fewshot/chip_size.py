"""How large chips are, from the period of the lattice that an image shows."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, special

from .chips import Block

# Side where no lattice is found [px].
_WITHOUT_LATTICE = 64
# Periods in a chip, and fewest pixels: with fewer, classes are not told apart;
# with many more, chips reach across boundaries.
_PERIODS = 5
_LEAST_SIDE = 56

# The windows that are looked at: side [px] and most of them.
_WINDOW = 256
_WINDOWS = 16
# Periods that are looked for: three fit in a window, and have three pixels each.
_LEAST_CYCLES = 3
_LEAST_PERIOD = 3.0
# What noise reaches by chance, and how far a lattice exceeds it. Textures stay
# below half of this; lattices reach it at a fraction of a count per pixel.
_NOISE_CHANCE = 1e-6
_CLEAR = 2.0
# Length of the line of frequencies around each that it is compared with.
_LINE = 19


def limited(side: float, image_shape: tuple[int, int]) -> int:
    """Limit the side of chips [px] to a quarter of the image's smaller side, but to no less than 4."""
    least = min(image_shape)
    return max(min(round(side), least // 4), min(4, least))


def measured_side(windows: Sequence[np.ndarray], image_shape: tuple[int, int]) -> int:
    """Choose the side of chips [px] from the windows of :func:`sample_windows`.

    It is five periods of the lattice, at least 56 px; 64 px if there is none;
    at most a quarter of the image.

    Notes
    -----
    The numbers are measured, on synthetic and real lattices of 4 to 40 px at 2
    to 30 counts per pixel. Other textures show no such scale: a chip of two
    correlation lengths suits regions that differ in intensity, but is too small
    to tell textures apart.
    """
    period = lattice_period(windows)
    side = _WITHOUT_LATTICE if period is None else max(_PERIODS * period, _LEAST_SIDE)
    return limited(side, image_shape)


def sample_windows(image_shape: tuple[int, int]) -> list[Block]:
    """Where the image is looked at: seeded, and decided by the shape alone.

    Returns
    -------
    list of tuple of slice
        At most 16 square windows of 256 px, or half the smaller side, that do
        not overlap.
    """
    side = max(1, min(_WINDOW, min(image_shape) // 2))
    tiles = tuple(size // side for size in image_shape)
    count = min(_WINDOWS, math.prod(tiles))
    chosen = np.random.default_rng(0).choice(math.prod(tiles), size=count, replace=False)
    places = np.transpose(np.unravel_index(np.sort(chosen), tiles))
    # Spread over the image, the first and the last at its edges.
    room = np.subtract(image_shape, side)
    corners = places * room // np.maximum(np.subtract(tiles, 1), 1)
    return [tuple(slice(low, low + side) for low in corner) for corner in corners.tolist()]


def lattice_period(windows: Sequence[np.ndarray]) -> float | None:
    """Find the spacing of the strongest planes of a lattice [px].

    Parameters
    ----------
    windows
        Square pieces of an image, all of one size. Pixels that are not finite
        count as the mean; where they are half of a window, it is left out.

    Returns
    -------
    float or None
        None if no frequency stands out as that of a lattice does.

    Notes
    -----
    The power spectra of the windows, each of unit sum, are averaged. A lattice
    shows as frequencies far above the median of others as high, and of their
    neighbours along both axes, which edges and displaced lines fill. The mean
    of n periodograms of noise follows a gamma distribution of shape n; a
    lattice exceeds its 1e-6 quantile twice. Of all frequencies that
    exceed it once the strongest is taken, whatever its surroundings, so that
    neither the dose nor the harmonics of sharp atoms change the answer.
    """
    spectra = [power for power in map(_power, windows) if power is not None]
    if not spectra:
        return None
    power, n = np.mean(spectra, axis=0), len(spectra)
    side = len(power)
    cycles = np.arange(side) - side // 2
    height = np.hypot(cycles[:, np.newaxis], cycles)
    rings = _rings(power, height.astype(int))
    noise = special.gammainccinv(n, _NOISE_CHANCE) / n
    searched = (height >= _LEAST_CYCLES) & (height <= side / _LEAST_PERIOD)
    rows, columns = np.nonzero(searched & (power > noise * rings))
    ratios = power[rows, columns] / np.maximum(rings[rows, columns], _lines(power, rows, columns))
    if not (ratios > _CLEAR * noise).any():
        return None
    excess = np.maximum(power - rings, 0)
    strongest = np.where(ratios > noise, excess[rows, columns], 0).argmax()
    # A peak lies between frequencies: at the centre of gravity of 3 x 3.
    near = tuple(slice(i[strongest] - 1, i[strongest] + 2) for i in (rows, columns))
    weights = excess[near] / excess[near].sum()
    centre = weights.sum(axis=1) @ cycles[near[0]], weights.sum(axis=0) @ cycles[near[1]]
    return float(side / np.hypot(*centre))


def _power(window: np.ndarray) -> np.ndarray | None:
    """Power spectrum of unit sum, frequency 0 in the middle; None without contrast."""
    window = window.astype(np.float64)
    finite = np.isfinite(window)
    if 2 * finite.sum() <= finite.size:
        return None
    mean = window[finite].mean()
    window = np.where(finite, window - mean, 0)
    # What is smaller is rounding.
    if np.abs(window).max() <= 1e-9 * abs(mean):
        return None
    # Two samples more than needed, so that the edges keep a weight.
    taper = np.hanning(len(window) + 2)[1:-1]
    power = np.abs(np.fft.fftshift(np.fft.fft2(window * np.outer(taper, taper)))) ** 2
    return power / power.sum()


def _rings(power: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Mean power of noise at frequencies of the same height, from their median."""
    medians = ndimage.median(power, height, np.arange(height.max() + 1))
    # The power may fall steeply. That of noise is distributed exponentially.
    return ndimage.maximum_filter1d(medians, 3)[height] / np.log(2)


def _lines(power: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The same from the neighbours along both axes, whichever is higher, at some frequencies."""
    rows, columns = rows[:, np.newaxis], columns[:, np.newaxis]
    beside = np.arange(_LINE) - _LINE // 2
    along = power[rows, (columns + beside) % len(power)]
    across = power[(rows + beside) % len(power), columns]
    return np.maximum(np.median(along, axis=1), np.median(across, axis=1)) / np.log(2)
