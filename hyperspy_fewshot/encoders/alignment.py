"""Alignment of diffraction patterns that move over the detector during a scan (descan).

Patterns are tensors (n, h, w) with a mean of 0. Shifts are tensors (n, 2) of rows and columns [px].
"""

import numpy as np
import torch
from scipy.fft import next_fast_len

# Largest shift that is looked for, as a fraction of the shorter side: an eighth.
_REACH = 8
# Patterns of the sample, about, from which the reference is learnt, and how often it is improved.
_LEARNT_FROM, _ROUNDS = 512, 2
# Patterns are aligned if the variance of the sample after it is at most this share of that after the
# opposite shifts. Interpolation alone lowers both. On scans without descan the ratio was 0.98 to 1.
_IMPROVED = 0.95


def learn_reference(patterns: torch.Tensor) -> np.ndarray | None:
    """Return the mean of the aligned patterns of a sample, shape (h, w).

    None if aligning them does not make them more alike.
    """
    patterns = patterns[:: max(1, len(patterns) // _LEARNT_FROM)]
    if min(patterns.shape) <= _REACH:
        return None
    reference = patterns.mean(0)
    for _ in range(_ROUNDS):
        found = find_shifts(patterns, reference)
        # Otherwise the reference could wander to the side.
        reference = shifted(patterns, found - found.mean(0)).mean(0)
    found = find_shifts(patterns, reference)
    after, opposite = (
        float(shifted(patterns, sign * found).var(0).sum(dtype=torch.float64)) for sign in (1, -1)
    )
    return reference.numpy() if after < _IMPROVED * opposite else None


def find_shifts(patterns: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return by how much patterns are shifted against a reference (h, w), to a part of a pixel.

    It is the highest point of their cross-correlation, between pixels that of a parabola.
    """
    reach = min(reference.shape) // _REACH
    size = [next_fast_len(side, real=True) for side in reference.shape]
    spectra = torch.fft.rfft2(patterns, s=size) * torch.fft.rfft2(reference, s=size).conj()
    values = torch.fft.irfft2(spectra, s=size)
    near = torch.arange(-reach, reach + 1, device=values.device)
    values = values[:, near % size[0]][:, :, near % size[1]]
    side, item = len(near), torch.arange(len(values), device=values.device)
    best = values.flatten(1).argmax(1)
    row, column = best // side, best % side
    y, x = row.clamp(1, side - 2), column.clamp(1, side - 2)
    above, below = ((values[item, y + step, column]) for step in (-1, 1))
    left, right = ((values[item, row, x + step]) for step in (-1, 1))
    rows = torch.where(y == row, _vertex(above, values[item, y, column], below), 0.0)
    columns = torch.where(x == column, _vertex(left, values[item, row, x], right), 0.0)
    return torch.stack([row - reach + rows, column - reach + columns], dim=1)


def shifted(patterns: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Undo shifts, with linear interpolation; beyond the edge the pattern goes on as at the edge."""
    sides = patterns.shape[1:]
    # Coordinates from -1 to 1 between the edges.
    y, x = (
        2 * (torch.arange(side, device=shifts.device) + 0.5 + shift[:, None]) / side - 1
        for side, shift in zip(sides, shifts.T, strict=True)
    )
    places = torch.empty((*patterns.shape, 2), device=shifts.device)
    places[..., 0], places[..., 1] = x[:, None], y[:, :, None]
    return sampled(patterns, places)


def sampled(patterns: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Interpolate patterns at places (n, h', w', 2), x before y, -1 to 1 between the edges."""
    return torch.nn.functional.grid_sample(
        patterns[:, None], places, padding_mode="border", align_corners=False
    )[:, 0]


def brightest(pattern: np.ndarray) -> tuple[float, float]:
    """Return row and column of the centre of mass of what is brighter than half the maximum.

    The middle of the pattern, if that is further from it than a quarter of the shorter side: then it
    is not the direct beam.
    """
    bright = np.maximum(pattern - pattern.max() / 2, 0)
    middle = (np.array(pattern.shape) - 1) / 2
    total = bright.sum(dtype=np.float64)
    if total <= 0:
        return tuple(middle.tolist())
    found = np.array([(bright.sum(1 - i) * np.arange(n)).sum() / total
                      for i, n in enumerate(pattern.shape)])  # fmt: skip
    near = abs(found - middle).max() <= min(pattern.shape) / 4
    return tuple((found if near else middle).tolist())


def _vertex(low: torch.Tensor, middle: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Where a parabola through three values, the middle one the highest, has its maximum."""
    bend = (low - middle) + (high - middle)
    place = torch.where(bend < 0, (low - high) / (2 * bend), 0.0)
    return place.clamp(-0.5, 0.5)
