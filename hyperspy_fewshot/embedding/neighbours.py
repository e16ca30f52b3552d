"""How far apart embeddings of one class lie, from neighbours in a sample, without labels."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from hyperspy_fewshot.grids.protocol import Grid

# Fewer pairs of neighbours than this do not show a distribution.
_LEAST_PAIRS = 50
# Neighbours that share more of their data than this are too much alike.
_MOST_SHARED = 0.5
# Bins of the histogram of angles, and the standard deviation of the Gaussian that smooths it.
_BINS, _SMOOTHED = 60, 2.0
# An angle is within a class up to `_FACTOR` times the mode plus `_SIGMAS` standard deviations. The
# factor stands for variation on a larger scale. Chosen on simulated images and scans: no class was
# rejected, and classes that were left out were, with one shot a class and more.
_FACTOR, _SIGMAS = 1.2, 3.0


def resemblance_within_classes(
    blocks: Sequence[np.ndarray], centre: np.ndarray, grid: Grid
) -> float:
    """Return the least resemblance of embeddings of one class, seen from the centre.

    Most neighbours are of the same class. The angles between those that share no data therefore
    have a mode, below which there is noise alone; from there the spread within the classes is
    estimated. Where `blocks`, contiguous pieces (*block, d) of the embeddings of a grid, are too small
    for such neighbours, the nearest ones to that are taken, and the angle is scaled by their share of
    data as for independent noise. The resemblance is at least 0, which is a right angle; it is -1 if
    there are too few neighbours.
    """
    found = [_angles(block - centre, grid) for block in blocks if block.shape[-1] == len(centre)]
    angles = np.concatenate([np.empty(0), *found])
    if len(angles) < _LEAST_PAIRS:
        return -1.0
    counts, edges = np.histogram(angles, _BINS, (0, max(np.percentile(angles, 95), 1e-6)))
    best = gaussian_filter1d(counts.astype(float), _SMOOTHED).argmax()
    mode = (edges[best] + edges[best + 1]) / 2
    below = angles[angles <= mode]
    spread = np.sqrt(np.mean((below - mode) ** 2)) if len(below) else 0.0
    return max(0.0, math.cos(min(_FACTOR * (mode + _SIGMAS * spread), math.pi)))


def _angles(centred: np.ndarray, grid: Grid) -> np.ndarray:
    """Angles between neighbours of a block (*block, d) along its last two axes."""
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    units = centred / np.where(lengths > 0, lengths, np.nan)
    apart = -(-grid.side // grid.stride)
    found = [np.empty(0)]
    for axis in range(max(0, units.ndim - 3), units.ndim - 1):
        step = min(apart, units.shape[axis] - 1)
        shared = max(0.0, 1 - step * grid.stride / grid.side)
        if step < 1 or shared > _MOST_SHARED:
            continue
        along = np.moveaxis(units, axis, 0)
        cosines = (along[step:] * along[:-step]).sum(axis=-1).ravel()
        angles = np.arccos(np.clip(cosines[np.isfinite(cosines)], -1, 1))
        found.append(angles / math.sqrt(1 - shared))
    return np.concatenate(found)
