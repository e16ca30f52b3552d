"""The lattice of an encoder: an image resampled so that its chips have the encoder's size.

Lengths are in pixels of the encoder if not said otherwise. The lattice starts
at the corner of the image, wherever a block does, so that blocks agree.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..chips import Field
from .base import to_tensor

#: Side of a chip.
CHIP = 64
#: Side of the cells on which features are kept, and of the steps of a block.
CELL = 8
#: Distance between windows whose power spectra are taken; a multiple of CELL.
HOP = 16
#: Pixels around a chip that can change its features; a multiple of HOP.
HALO = 32
#: Pixels around a chip that are needed: a chip that hangs over the edge by half
#: has its power spectrum taken at the last window inside.
REACH = CHIP + HOP


@dataclass(frozen=True, eq=False)
class Image:
    """A field on the lattice.

    Parameters
    ----------
    pixels
        Shape (h, w), both multiples of HOP.
    start
        Row and column of the first pixel on the lattice, multiples of HOP.
    ends
        Rows and columns of the whole image.
    chips
        Where the chips start along both axes, shapes (r,) and (c,).
    """

    pixels: torch.Tensor
    start: tuple[int, int]
    ends: tuple[float, float]
    chips: tuple[np.ndarray, np.ndarray]

    def boxes(self, axis: int, part: float) -> torch.Tensor:
        """Weights of the cells in the mean over a window at the centre of each chip.

        Parameters
        ----------
        axis
            0: rows, 1: columns.
        part
            Side of the window in units of that of a chip.

        Returns
        -------
        torch.Tensor
            Shape (chips, cells); what lies beyond the image has weight 0.
        """
        low = self.chips[axis] + CHIP * (1 - part) / 2
        # At the centre of a chip at the edge a cell is left at least.
        end = self.ends[axis]
        low, high = np.clip(low, 0, end - CELL), np.clip(low + CHIP * part, CELL, end)
        edges = self.start[axis] + CELL * np.arange(self.pixels.shape[axis] // CELL + 1)
        inside = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        weights = np.clip(inside, 0, None) / (high - low)[:, None]
        return torch.as_tensor(weights.astype(np.float32), device=self.pixels.device)

    def windows(self, axis: int) -> np.ndarray:
        """Where the windows start that the chips lie between, on the lattice."""
        last = last_window(self.ends[axis])
        near = np.clip(self.chips[axis], 0, last)
        first, final = int(near.min() // HOP), int(-(-near.max() // HOP))
        return HOP * np.arange(first, min(final, last // HOP) + 1)

    def between(self, axis: int) -> torch.Tensor:
        """Weights of the windows at each chip, linear, shape (chips, windows)."""
        windows = self.windows(axis)
        near = np.clip(self.chips[axis], windows[0], windows[-1])
        weights = np.clip(1 - abs(near[:, None] - windows) / HOP, 0, None)
        return torch.as_tensor(weights.astype(np.float32), device=self.pixels.device)

    def cut(self, axis: int, starts: np.ndarray) -> np.ndarray:
        """Where windows start in `pixels`."""
        return starts - self.start[axis]


def last_window(end: float) -> int:
    """Start of the last window inside an image of a length, on the lattice."""
    return max(0, int(end - CHIP + 1e-6) // HOP * HOP)


def resample(field: Field, offset: float, scale: float, device: str) -> Image:
    """Normalise a field and bring it on the lattice, anti-aliased.

    What is not finite becomes the `offset`.
    """
    step = field.chip_size / CHIP
    chips = (field.rows / step, field.columns / step)
    matrices, starts = [], []
    for axis, places in enumerate(chips):
        ahead = min(places.min() - HALO, last_window(field.image_shape[axis] / step))
        start = HOP * int(ahead // HOP)
        end = HOP * int(-(-(places.max() + CHIP + HALO) // HOP))
        matrices.append(_weights(start, end, step, field.origin[axis], field.pixels.shape[axis]))
        starts.append(start)
    rows, columns = (torch.as_tensor(m, device=device) for m in matrices)
    pixels = to_tensor(field.pixels, device)
    pixels = torch.nan_to_num((pixels - offset) / scale, nan=0.0, posinf=0.0, neginf=0.0)
    ends = tuple(size / step for size in field.image_shape)
    return Image(rows @ pixels @ columns.T, tuple(starts), ends, chips)


def not_finite(field: Field) -> np.ndarray:
    """Which chips hold pixels that are not finite, shape (r * c,)."""
    bad = ~np.isfinite(field.pixels)
    if not bad.any():
        return np.zeros(len(field.rows) * len(field.columns), bool)
    sums = np.pad(bad.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = (
        places - origin
        for places, origin in zip((field.rows, field.columns), field.origin, strict=True)
    )
    bottom, right = top + field.chip_size, left + field.chip_size
    count = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)]
    count += sums[np.ix_(top, left)] - sums[np.ix_(bottom, left)]
    return (count > 0).ravel()


def _weights(start: int, end: int, step: float, first: int, size: int) -> np.ndarray:
    """Weights of an axis' image pixels in pixels start to end - 1 of the lattice.

    A triangle as wide as the coarser of both grids, as Pillow's bilinear
    filter, with `first` the first of `size` image pixels at hand.
    """
    centres = (np.arange(start, end) + 0.5) * step
    pixels = first + np.arange(size) + 0.5
    weights = np.clip(1 - abs(centres[:, None] - pixels) / max(step, 1.0), 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
