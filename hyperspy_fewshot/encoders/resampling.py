"""Resampling of an image to the chip size of an encoder.

Lengths are in resampled pixels if not stated otherwise. The resampled grid starts at the corner of
the image, wherever a field of it starts, so that overlapping fields agree.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter

from hyperspy_fewshot.encoders.base import to_tensor
from hyperspy_fewshot.grids.field import Field

#: Side of a chip.
CHIP = 64
#: Side of the cells over which features are averaged.
CELL = 8
#: Distance between the windows of the power spectra; a multiple of CELL.
HOP = 16
#: Pixels around a chip that its features depend on; a multiple of HOP.
HALO = 32
#: Pixels around a chip that are needed: the power spectrum of a chip that extends over the edge is
#: taken at the last window inside the image, and a chip is interpolated between others.
REACH = CHIP + HOP + CELL


@dataclass(frozen=True, eq=False)
class ResampledField:
    """A field after resampling.

    `pixels` has shape (h, w), and `start` is the row and column of its first pixel, all of them
    multiples of HOP. `ends` is the shape of the whole image, and `chips` are the first rows (r,)
    and first columns (c,) of the chips.
    """

    pixels: torch.Tensor
    start: tuple[int, int]
    ends: tuple[float, float]
    chips: tuple[np.ndarray, np.ndarray]

    def boxes(self, axis: int, part: float) -> torch.Tensor:
        """Return the weights (chips, cells) of cells in the mean over a window inside each chip.

        The window is in the middle of the chip, with `part` of its side. Cells outside the image
        have weight 0.
        """
        low, end = self.chips[axis] + CHIP * (1 - part) / 2, self.ends[axis]
        # At the edge at least one cell remains.
        low, high = np.clip(low, 0, end - CELL), np.clip(low + CHIP * part, CELL, end)
        edges = self.start[axis] + CELL * np.arange(self.pixels.shape[axis] // CELL + 1)
        inside = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        weights = np.clip(inside, 0, None) / (high - low)[:, None]
        return torch.as_tensor(weights.astype(np.float32), device=self.pixels.device)

    def windows(self, axis: int) -> np.ndarray:
        """Return where the windows of the power spectra around the chips start."""
        last = last_window(self.ends[axis])
        near = np.clip(self.chips[axis], 0, last)
        first, final = int(near.min() // HOP), int(-(-near.max() // HOP))
        return HOP * np.arange(first, min(final, last // HOP) + 1)

    def between(self, axis: int) -> torch.Tensor:
        """Return the weights of a linear interpolation between windows, shape (chips, windows)."""
        windows = self.windows(axis)
        near = np.clip(self.chips[axis], windows[0], windows[-1])
        weights = np.clip(1 - abs(near[:, None] - windows) / HOP, 0, None)
        return torch.as_tensor(weights.astype(np.float32), device=self.pixels.device)


def last_window(end: float) -> int:
    """Return where the last window inside an image of this length starts."""
    return max(0, int(end - CHIP + 1e-6) // HOP * HOP)


def resample(field: Field, offset: float, scale: float, device: str) -> ResampledField:
    """Normalise a field and resample it, anti-aliased; `offset` replaces pixels that are not finite."""
    step = field.chip_size / CHIP
    chips = (field.rows / step, field.columns / step)
    matrices, starts = [], []
    for axis, places in enumerate(chips):
        ahead = min(places.min() - HALO, last_window(field.image_shape[axis] / step))
        start = HOP * int(ahead // HOP)
        end = HOP * int(-(-(places.max() + CHIP + HALO) // HOP))
        matrices.append(
            resampling_weights(start, end, step, field.origin[axis], field.pixels.shape[axis])
        )
        starts.append(start)
    rows, columns = (torch.as_tensor(m, device=device) for m in matrices)
    pixels = normalised(field.pixels, offset, scale, device)
    ends = tuple(size / step for size in field.image_shape)
    return ResampledField(rows @ pixels @ columns.T, tuple(starts), ends, chips)


def anchors(first: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Chips, at whole cells, between which others are interpolated along an axis.

    Parameters
    ----------
    first
        First pixels of chips in the image, shape (n,).
    step
        Side of a resampled pixel [px].

    Returns
    -------
    first : numpy.ndarray
        First pixels of the anchors in the image, shape (m,), not integers.
    weights : numpy.ndarray
        Weights of the anchors in a linear interpolation at the chips, shape (n, m).
    """
    places = first / (CELL * step)
    low = np.floor(places)
    known = np.unique(np.concatenate([low, np.ceil(places)]))
    weights = np.clip(1 - abs(places[:, np.newaxis] - known), 0, None)
    return known * CELL * step, weights.astype(np.float32)


def normalised(pixels: np.ndarray, offset: float, scale: float, device: str) -> torch.Tensor:
    """Normalise pixels on the device; `offset` replaces those that are not finite."""
    pixels = (to_tensor(pixels, device) - offset) / scale
    return torch.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)


def finite_pixels(field: Field) -> np.ndarray:
    """Finite pixels of the chips of a field, without the margin."""
    top, left = field.rows[0] - field.origin[0], field.columns[0] - field.origin[1]
    height = field.rows[-1] - field.rows[0] + field.chip_size
    width = field.columns[-1] - field.columns[0] + field.chip_size
    pixels = field.pixels[top : top + height, left : left + width]
    return pixels[np.isfinite(pixels)]


def resized(items: torch.Tensor, side: int) -> torch.Tensor:
    """Resample images (n, h, w) to (n, side, side), anti-aliased."""
    if items.shape[1:] == (side, side):
        return items
    return torch.nn.functional.interpolate(
        items[:, None], size=(side, side), mode="bilinear", antialias=True
    )[:, 0]


def not_finite(field: Field) -> np.ndarray:
    """Return which chips contain pixels that are not finite, shape (r * c,)."""
    bad, half = ~np.isfinite(field.pixels), field.chip_size // 2
    if bad.any():
        bad = maximum_filter(bad.view(np.uint8), field.chip_size).astype(bool)
    rows, columns = field.rows - field.origin[0] + half, field.columns - field.origin[1] + half
    return bad[np.ix_(rows, columns)].ravel()


def resampling_weights(start: int, end: int, step: float, first: int, size: int) -> np.ndarray:
    """Weights of `size` image pixels, the first being `first`, in resampled pixels start to end - 1.

    A triangle as wide as a pixel of the coarser grid, as in Pillow's bilinear filter.
    """
    centres = (np.arange(start, end) + 0.5) * step
    pixels = first + np.arange(size) + 0.5
    weights = np.clip(1 - abs(centres[:, None] - pixels) / max(step, 1.0), 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
