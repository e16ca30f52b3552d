"""Choosing the chip size, from the period of the crystal lattice in an image, and the stride."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, special

from hyperspy_fewshot.grids.slices import Slices

# Side of a chip where no lattice is found [px], and that of the largest of several chips.
_WITHOUT_LATTICE, _LARGEST = 64, 128
# Number of periods in a chip, and its smallest side [px]. Smaller chips do not tell classes
# apart; much larger ones reach across boundaries.
_PERIODS = 5
_LEAST_SIDE = 56

# Stride that is chosen [px], and number of chips above which it is doubled.
_STRIDE, _MOST_CHIPS = 4, 2**18

# Smallest side of a chip that is chosen [px], even if an ROI or the image is small.
_SMALLEST_SIDE = 16

# Side [px] and largest number of the windows in which the lattice is searched for.
_WINDOW = 256
_WINDOWS = 16
# A period must fit into a window at least three times, and be at least three pixels long.
_LEAST_CYCLES = 3
_LEAST_PERIOD = 3.0
# Probability that noise alone exceeds the threshold at a frequency, and the factor by which the
# peak of a lattice must exceed that threshold. Textures stay below half of it; lattices reach it
# at a fraction of a count per pixel.
_NOISE_CHANCE = 1e-6
_CLEAR = 2.0
# Number of neighbouring frequencies along each axis with which a peak is compared.
_LINE = 19


def limited(side: float, image_shape: tuple[int, int]) -> int:
    """Limit a side of chips [px] that is chosen, not given.

    It is at most a quarter of the image's smaller side, but at least 16 px, or all of that side:
    smaller chips show too little, and are too many.
    """
    least = min(image_shape)
    return max(round(min(side, least // 4)), min(_SMALLEST_SIDE, least))


def default_side(period: float | None, image_shape: tuple[int, int], dense: bool) -> int:
    """Choose the side of chips [px] from the period of the lattice [px]; None: there is none.

    The side is five periods of the lattice, but at least 56 px. Without a lattice it is 64 px, or
    128 px for a dense encoder, which embeds chips of half that side, too. It never exceeds a quarter
    of the image, unless this is less than 16 px.

    Notes
    -----
    These numbers were determined on synthetic and real lattices with periods of
    4 to 40 px at 2 to 30 counts per pixel. Other textures have no such length
    scale: a chip of two correlation lengths is large enough where classes
    differ in intensity, but too small to tell textures apart.
    """
    if period is None:
        side = _LARGEST if dense else _WITHOUT_LATTICE
    else:
        side = max(_PERIODS * period, _LEAST_SIDE)
    return limited(side, image_shape)


def default_stride(
    chip_size: int, nav_shape: Sequence[int], image_shape: Sequence[int], dense: bool
) -> int:
    """Choose the stride [px]: a quarter of a chip; less for a dense encoder, to which it matters little.

    Then it is 4 px, or 8, 16, ... for more than 262 144 chips.
    """
    most = max(1, chip_size // 4)
    if not dense:
        return most
    stride = min(_STRIDE, most)

    def count(side: int) -> int:
        return math.prod(nav_shape) * math.prod(-(-size // side) for size in image_shape)

    while count(stride) > _MOST_CHIPS and 2 * stride <= most:
        stride *= 2
    return stride


def sample_windows(image_shape: tuple[int, int]) -> list[Slices]:
    """Choose where the image is looked at: seeded, depending on the shape alone.

    Returns at most 16 square windows of 256 px, or half the smaller side, that do not overlap.
    """
    side = max(1, min(_WINDOW, min(image_shape) // 2))
    tiles = tuple(size // side for size in image_shape)
    count = min(_WINDOWS, math.prod(tiles))
    chosen = np.random.default_rng(0).choice(math.prod(tiles), size=count, replace=False)
    places = np.transpose(np.unravel_index(np.sort(chosen), tiles))
    # Spread the windows over the image: the first and the last touch its edges.
    room = np.subtract(image_shape, side)
    corners = places * room // np.maximum(np.subtract(tiles, 1), 1)
    return [tuple(slice(low, low + side) for low in corner) for corner in corners.tolist()]


def lattice_period(windows: Sequence[np.ndarray]) -> float | None:
    """Find the spacing of the strongest lattice planes [px].

    Parameters
    ----------
    windows
        Square windows of an image, all of the same size. Pixels that are not
        finite are replaced by the mean. A window of which half or more are not
        finite is left out.

    Returns
    -------
    float or None
        None if no frequency stands out like that of a lattice.

    Notes
    -----
    The power spectra of the windows, each normalised to unit sum, are averaged.
    The mean of n periodograms of noise follows a gamma distribution of shape n,
    whose upper 1e-6 quantile is the threshold. Powers are compared with the
    median of all frequencies of the same magnitude, and with the median of
    their neighbours along both axes, since edges and displaced scan lines fill
    whole lines of the spectrum. There is a lattice if a frequency exceeds twice
    the threshold. The result is the strongest of all frequencies above the
    threshold itself, so that it depends neither on the dose nor on the
    harmonics of sharp atoms.
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
    # A peak lies between the sampled frequencies: take the centre of gravity of 3 x 3 of them.
    near = tuple(slice(i[strongest] - 1, i[strongest] + 2) for i in (rows, columns))
    weights = excess[near] / excess[near].sum()
    centre = weights.sum(axis=1) @ cycles[near[0]], weights.sum(axis=0) @ cycles[near[1]]
    return float(side / np.hypot(*centre))


def _power(window: np.ndarray) -> np.ndarray | None:
    """Return the power spectrum of unit sum, frequency 0 in the middle; None without contrast."""
    window = window.astype(np.float64)
    finite = np.isfinite(window)
    if 2 * finite.sum() <= finite.size:
        return None
    mean = window[finite].mean()
    window = np.where(finite, window - mean, 0)
    # Smaller differences are rounding errors.
    if np.abs(window).max() <= 1e-9 * abs(mean):
        return None
    # Two more samples than needed, so that the pixels at the edges have a weight above 0.
    taper = np.hanning(len(window) + 2)[1:-1]
    power = np.abs(np.fft.fftshift(np.fft.fft2(window * np.outer(taper, taper)))) ** 2
    return power / power.sum()


def _rings(power: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Estimate the mean power of noise from the median of frequencies of the same magnitude."""
    medians = ndimage.median(power, height, np.arange(height.max() + 1))
    # The maximum filter follows a steep decrease. The power of noise is distributed
    # exponentially: its mean is the median divided by ln 2.
    return ndimage.maximum_filter1d(medians, 3)[height] / np.log(2)


def _lines(power: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Estimate it from the neighbours along each axis, and return the larger of the two."""
    rows, columns = rows[:, np.newaxis], columns[:, np.newaxis]
    beside = np.arange(_LINE) - _LINE // 2
    along = power[rows, (columns + beside) % len(power)]
    across = power[(rows + beside) % len(power), columns]
    return np.maximum(np.median(along, axis=1), np.median(across, axis=1)) / np.log(2)
