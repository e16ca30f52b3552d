"""Choose the context: how many neighbouring positions inform a label."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from hyperspy_fewshot.encoders.components import leading_components
from hyperspy_fewshot.encoders.threads import one_thread
from hyperspy_fewshot.grids.slices import Slices, shape_of
from hyperspy_fewshot.grids.smoothing import Smoothing, flatten, window_sum

#: Sides of the neighbourhoods among which the context is chosen.
CONTEXTS = (1, 3, 5, 7, 9)

# Nothing is pooled where noise and blur after pooling exceed the noise of a single position by
# this factor. More than 1, because pooling also averages out the variation inside a class.
# Measured with five shots on maps of EDS spectra, EELS spectra and diffraction patterns.
_TOLERATED = 2.2
# Leading components along which a position is compared with its neighbours. Further ones carry
# mostly noise, which hides the difference at an edge.
_COMPARED = 4
# Widest window over which data are pooled before the components are learnt: wide enough to lift
# structure above the noise, narrow enough not to blur it away.
_POOLED_SIDE = 5
# Pooled positions from which the components are learnt. Of a small scan, which is a single piece,
# half of the largest sample gives the same context and at least 99.5 % of the labels; a quarter
# does not. The pieces of a large scan lie far apart, and fewer of them show as much.
_MOST_POOLED, _MOST_POOLED_IN_PIECES = 4096, 2048

# Of a piece of the data: scores along the components (*nav, K), weights (nav), and which positions
# are judged. The weight of a position that is not finite is 0.
_Projected = tuple[np.ndarray, np.ndarray, Slices]


def choose_context(
    pieces: Sequence[np.ndarray],
    inner: Sequence[Slices],
    nav: int,
    *,
    sum_normalise: bool,
    contexts: Sequence[int] = CONTEXTS,
) -> tuple[int, Smoothing | None]:
    """Choose the context by how well neighbours predict a position, and how to pool.

    The data of each position are predicted from the mean of its neighbours, without the position
    itself, in the leading principal components of the Poisson-scaled data. The prediction error has
    two parts: the noise of the neighbours, which falls as the window grows, and blur, which rises.
    The smoothing undoes most of the blur, so the window one size above the one of least error is
    taken. Whether to pool at all cannot be read from this error: nothing is pooled if the noise and
    blur that would remain after pooling are well above the noise of a single position. No labels
    are used, so one shot per class is enough.

    The pieces of the data are contiguous, each (*nav, *signal). The slices `inner` select the
    positions of each that are judged; around them it holds at least half of the widest window,
    unless the scan ends there. With `sum_normalise` positions are compared as sum-normalised
    spectra and weigh as much as their sum (EDS). Without 1 among `contexts`, which increase, data
    are always pooled. The smoothing is None if nothing is pooled or could be judged.
    """
    candidates = [side for side in contexts if side > 1]
    if not candidates:
        return 1, None
    pieces = [flatten(piece, nav) for piece in pieces]
    side = min(_POOLED_SIDE, candidates[-1])
    components = _components(pieces, inner, nav, sum_normalise, side)
    projected = [
        (*_project(piece, components, sum_normalise), block)
        for piece, block in zip(pieces, inner, strict=True)
    ]
    judged = sum(int((weights[block] > 0).sum()) for _, weights, block in projected)
    if not judged:
        return candidates[0] if 1 not in contexts else 1, None
    errors = [_prediction_error(projected, nav, side) for side in candidates]
    noise = judged * _noise(projected, nav)
    best = int(np.argmin(errors))
    # Of n positions in the window, n - 1 are neighbours: the prediction error is
    # noise * n / (n - 1) + blur, the error of the pooled data noise / n + ((n - 1) / n)^2 blur.
    n = candidates[best] ** min(2, nav)
    blur = max(errors[best] - noise * n / (n - 1), 0.0)
    pooled = noise / n + ((n - 1) / n) ** 2 * blur
    if 1 in contexts and pooled >= _TOLERATED * noise:
        return 1, None
    wider = candidates[min(best + 1, len(candidates) - 1)]
    level = _curvature(projected, nav)[:_COMPARED]
    return wider, Smoothing(components[:, :_COMPARED], level, sum_normalise)


def _components(
    pieces: Sequence[np.ndarray], inner: Sequence[Slices], nav: int, sum_normalise: bool, side: int
) -> np.ndarray:
    """Leading components (p, K) of data that are pooled over windows.

    If the sample holds too many positions, only every n-th piece is used. A single piece keeps
    every n-th position, as on a chessboard: the windows of those that remain still cover all data.
    """
    most = _MOST_POOLED if len(pieces) == 1 else _MOST_POOLED_IN_PIECES
    step = -(-sum(math.prod(shape_of(block)) for block in inner) // most)
    parts = []
    for piece, block in zip(pieces[::step], inner[::step], strict=True):
        clean, used = _clean(piece)
        kept = used[block]
        if len(pieces) == 1:
            kept = kept & (sum(np.indices(kept.shape, sparse=True)) % step == 0)
        count = window_sum(used.astype(np.float32), side, nav)[block][kept]
        sums = window_sum(clean, side, nav)[block][kept]
        divisor = np.abs(sums).sum(axis=-1) if sum_normalise else count
        parts.append(sums / np.maximum(divisor, 1e-9)[:, np.newaxis])
    pooled = np.concatenate(parts)
    if not len(pooled):
        return np.zeros((pooled.shape[-1], 1), np.float32)
    return leading_components(pooled, "spectrum")[1]


def _project(
    piece: np.ndarray, components: np.ndarray, sum_normalise: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and weights of the positions of a piece (*nav, p)."""
    clean, used = _clean(piece)
    # NumPy would use all cores for each of many small products; on a machine where anything else
    # runs, its threads then wait for each other far longer than they compute.
    with one_thread():
        scores = (torch.from_numpy(clean) @ torch.from_numpy(components)).numpy()
    return scores, np.abs(clean, out=clean).sum(-1) if sum_normalise else used.astype(np.float32)


def _clean(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A piece (*nav, p) as float32 with 0 at positions that are not finite, and which are."""
    used = np.isfinite(piece).all(axis=-1)
    clean = piece.astype(np.float32)
    clean[~used] = 0
    return clean, used


def _divided(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scores (*nav, K) divided by weights (nav); 0 stays 0."""
    return scores / np.maximum(weights, 1e-9)[..., np.newaxis]


def _prediction_error(projected: Sequence[_Projected], nav: int, side: int) -> float:
    """Squared error of predicting positions from their neighbours in a window of this side."""
    error = 0.0
    for scores, weights, block in projected:
        neighbours = window_sum(scores, side, nav) - scores
        predicted = _divided(neighbours, window_sum(weights, side, nav) - weights)
        squared = ((_divided(scores, weights) - predicted) ** 2).sum(axis=-1)
        error += float((weights * squared)[block].sum())
    return error


def _noise(projected: Sequence[_Projected], nav: int) -> float:
    """Variance of the noise of a position of weight 1, summed over the components.

    It is estimated from the most similar of the direct neighbours, which is of the same class at
    most positions even in a fine structure. Because the smallest of several distances is biased, it
    is compared with the smallest distance in white noise.
    """
    closest = [_closest(scores, weights, nav)[block] for scores, weights, block in projected]
    closest = np.concatenate([values[np.isfinite(values)] for values in closest])
    if not len(closest):
        return 0.0
    k = projected[0][0].shape[-1]
    shape = (1,) * (nav - 2) + ((64, 64) if nav > 1 else (4096,))
    white = np.random.default_rng(0).normal(size=(*shape, k))
    white = _closest(white, np.ones(shape), nav)
    # At about one count per position or less, most neighbours are exactly equal.
    average = np.median if np.median(closest) > 0 else np.mean
    return float(k * average(closest) / average(white))


def _closest(scores: np.ndarray, weights: np.ndarray, nav: int) -> np.ndarray:
    """Squared distance to the most similar direct neighbour, in units of its variance.

    Shape nav; infinite for a position that is not finite or has no finite neighbour.
    """
    own = _divided(scores, weights)
    least = np.full(weights.shape, np.inf)
    for axis in range(max(0, nav - 2), nav):
        here = (slice(None),) * axis
        low, high = (*here, slice(None, -1)), (*here, slice(1, None))
        # The variance of a difference is the sum of both variances.
        variance = sum(1 / np.maximum(weights[side], 1e-9) for side in (low, high))
        distance = ((own[low] - own[high]) ** 2).sum(-1) / variance
        distance[np.minimum(weights[low], weights[high]) <= 0] = np.inf
        for side in (low, high):
            least[side] = np.minimum(least[side], distance)
    return least


def _curvature(projected: Sequence[_Projected], nav: int) -> np.ndarray:
    """Variance of noise and fine structure along each component, for weight 1.

    It comes from second differences along the navigation axes (J. Immerkaer, Comput. Vis. Image
    Underst. 64, 300 (1996)). Structure as fine as a single position raises the variance, so that it
    is smoothed rather than kept.
    """
    squares = []
    for scores, weights, block in projected:
        values = scores / np.sqrt(np.maximum(weights, 1e-9))[..., np.newaxis]
        for axis in range(max(0, nav - 2), nav):
            size = values.shape[axis]
            if size < 3:
                continue
            pad = [(1, 1) if i == axis else (0, 0) for i in range(values.ndim)]
            padded = np.pad(values, pad, mode="reflect")
            left, middle, right = (padded.take(range(i, i + size), axis=axis) for i in range(3))
            values = (2 * middle - left - right) / np.sqrt(6)
        squares.append((values[block] ** 2)[weights[block] > 0])
    return np.maximum(np.concatenate(squares).mean(axis=0), 1e-12).astype(np.float32)
