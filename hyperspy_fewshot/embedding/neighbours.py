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
# Embeddings are of one class up to `_FACTOR` times the mode plus `_SIGMAS` standard deviations. The
# factor stands for variation on a larger scale. Chosen on simulated images and scans: no class was
# rejected, and classes that were left out were, with one shot a class and more.
_FACTOR, _SIGMAS = 1.2, 3.0


def scatter_within_classes(
    blocks: Sequence[np.ndarray], centre: np.ndarray, grid: Grid
) -> tuple[float, float]:
    """Return the least cosine and the largest distance of embeddings of one class.

    Most neighbours are of the same class. The angles between those that share no data, seen from the
    centre, therefore have a mode, below which there is noise alone; from there the spread within the
    classes is estimated. The same applies to the distances. Where `blocks`, contiguous pieces
    (*block, d) of the embeddings of a grid, are too small for such neighbours, the nearest ones to
    that are taken, and the values are scaled by their share of data as for independent noise. The
    cosine is at least 0; it is -1, and the distance 0, if there are too few neighbours.
    """
    found = [_pairs(block - centre, grid) for block in blocks if block.shape[-1] == len(centre)]
    angles, distances = np.concatenate([np.empty((2, 0)), *found], axis=1)
    if len(angles) < _LEAST_PAIRS:
        return -1.0, 0.0
    return max(0.0, math.cos(min(_largest(angles), math.pi))), _largest(distances)


def _largest(values: np.ndarray) -> float:
    """Largest of some angles or distances that lies within a class."""
    counts, edges = np.histogram(values, _BINS, (0, max(np.percentile(values, 95), 1e-6)))
    best = gaussian_filter1d(counts.astype(float), _SMOOTHED).argmax()
    mode = (edges[best] + edges[best + 1]) / 2
    below = values[values <= mode]
    spread = np.sqrt(np.mean((below - mode) ** 2)) if len(below) else 0.0
    return float(_FACTOR * (mode + _SIGMAS * spread))


def _pairs(centred: np.ndarray, grid: Grid) -> np.ndarray:
    """Angles and distances (2, n) between neighbours of a block (*block, d) along its last axes."""
    apart = -(-grid.side // grid.stride)
    found = [np.empty((2, 0))]
    for axis in range(max(0, centred.ndim - 3), centred.ndim - 1):
        step = min(apart, centred.shape[axis] - 1)
        shared = max(0.0, 1 - step * grid.stride / grid.side)
        if step < 1 or shared > _MOST_SHARED:
            continue
        along = np.moveaxis(centred, axis, 0)
        first, second = along[step:], along[:-step]
        distances = np.linalg.norm(first - second, axis=-1)
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        cosines = (first * second).sum(axis=-1) / np.where(lengths > 0, lengths, np.nan)
        values = np.stack([np.arccos(np.clip(cosines, -1, 1)).ravel(), distances.ravel()])
        found.append(values[:, np.isfinite(values).all(axis=0)] / math.sqrt(1 - shared))
    return np.concatenate(found, axis=1)
