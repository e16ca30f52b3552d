"""How many neighbours should inform a label: the choice of the context."""

import math
from collections.abc import Sequence

import numpy as np

from .chips import Block
from .encoders.pca import leading_components
from .smoothing import Smoothing, flatten, window_sum

#: Sides of the neighbourhoods among which the context is chosen.
CONTEXTS = (1, 3, 5, 7, 9)

# What a class varies inside is pooled away, too: pooling still helps when
# noise and blur after it exceed the noise of a position so many times. Measured
# with five shots on maps of EDS and EELS spectra and of diffraction patterns.
_TOLERATED = 2.2
# Leading components in which a position is compared with its neighbours: more
# of them dilute the difference at an edge with noise.
_COMPARED = 4
# Pooled positions, about, from which the components are learnt.
_MOST_POOLED = 2048


def choose_context(
    regions: Sequence[np.ndarray],
    inner: Sequence[Block],
    nav: int,
    *,
    sum_normalise: bool,
    contexts: Sequence[int] = CONTEXTS,
) -> tuple[int, Smoothing | None]:
    """Choose the context by how well neighbours predict a position.

    The data of a position are predicted from the mean of its neighbours, the
    position itself left out, in the leading principal components of the
    Poisson-scaled data. The error has two parts: the noise that the
    neighbours bring, which falls with the window, and the blur, which grows
    with it. Since smoothing takes most of the blur away, the window above
    that of least error is taken. Pooling nothing has no such error: it is
    preferred when what remains of noise and blur after pooling exceeds the
    noise of a single position by far. Labels play no part, hence one shot is
    enough.

    Parameters
    ----------
    regions
        Contiguous pieces of the data (*nav, *signal), finite or not.
    inner
        For every region the slices of the positions to judge; around them
        lies at least half the widest window, or the end of the scan.
    nav
        Number of navigation axes.
    sum_normalise
        Whether a position counts by its sum and is judged by its shape (EDS).
    contexts
        The sides to choose from; without 1 among them something is pooled.

    Returns
    -------
    context : int
        The side chosen.
    smoothing : Smoothing or None
        How far a position is trusted against its neighbours; None where
        nothing is pooled, or nothing could be judged.
    """
    candidates = [side for side in contexts if side > 1]
    if not candidates:
        return 1, None
    regions = [flatten(region, nav) for region in regions]
    components = _components(regions, inner, nav, sum_normalise, min(5, candidates[-1]))
    scores, totals = _scores(regions, nav, sum_normalise, components)
    errors = dict.fromkeys(candidates, 0.0)
    closest = []
    judged = 0
    for score, total, block in zip(scores, totals, inner, strict=True):
        own = score / np.maximum(total, 1e-9)
        weight = total[..., 0][block]
        judged += int((weight > 0).sum())
        for side in candidates:
            around = window_sum(total, side, nav) - total
            predicted = (window_sum(score, side, nav) - score) / np.maximum(around, 1e-9)
            errors[side] += float((weight * ((own - predicted) ** 2).sum(-1)[block]).sum())
        closest.append(_closest(own, total, nav)[block].ravel())
    if not judged:
        return candidates[0] if 1 not in contexts else 1, None
    noise = judged * _noise(np.concatenate(closest), scores[0].shape[-1], nav)
    best = min(errors, key=errors.__getitem__)
    # With n positions the pooled risk is noise / n + ((n - 1) / n)^2 blur and
    # the error noise * n / (n - 1) + blur.
    n = best ** min(2, nav)
    blur = max(errors[best] - noise * n / (n - 1), 0.0)
    pooled = noise / n + ((n - 1) / n) ** 2 * blur
    if 1 in contexts and pooled >= _TOLERATED * noise:
        return 1, None
    wider = candidates[min(candidates.index(best) + 1, len(candidates) - 1)]
    compared = [
        (score[..., :_COMPARED], total) for score, total in zip(scores, totals, strict=True)
    ]
    level = _curvature(compared, inner, nav)
    return wider, Smoothing(components[:, :_COMPARED], level, sum_normalise)


def _curvature(
    scores: Sequence[tuple[np.ndarray, np.ndarray]], inner: Sequence[Block], nav: int
) -> np.ndarray:
    """Variance of noise and fine structure along each component, at weight 1.

    From second differences [1]_ along the navigation axes. What a structure of
    one position adds makes smoothing err towards the wide mean.

    References
    ----------
    .. [1] J. Immerkaer, Comput. Vis. Image Underst. 64, 300 (1996).
    """
    squares = []
    for (score, total), block in zip(scores, inner, strict=True):
        values = score / np.sqrt(np.maximum(total, 1e-9))
        for axis in range(max(0, nav - 2), nav):
            size = values.shape[axis]
            if size < 3:
                continue
            pad = [(1, 1) if i == axis else (0, 0) for i in range(values.ndim)]
            padded = np.pad(values, pad, mode="reflect")
            left, middle, right = (padded.take(range(i, i + size), axis=axis) for i in range(3))
            values = (2 * middle - left - right) / np.sqrt(6)
        squares.append((values[block] ** 2)[total[..., 0][block] > 0])
    return np.maximum(np.concatenate(squares).mean(axis=0), 1e-12).astype(np.float32)


def _scores(
    regions: Sequence[np.ndarray], nav: int, sum_normalise: bool, components: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Unpooled data on the components.

    Returns
    -------
    scores : list of numpy.ndarray
        Shapes (*nav, K).
    totals : list of numpy.ndarray
        How much every position counts, shapes (*nav, 1); 0: not finite.
    """
    scores, totals = [], []
    for region in regions:
        clean, used = _clean(region)
        scores.append(clean @ components)
        total = np.abs(clean).sum(-1) if sum_normalise else used.astype(np.float32)
        totals.append(total[..., np.newaxis])
    return scores, totals


def _components(
    regions: Sequence[np.ndarray],
    inner: Sequence[Block],
    nav: int,
    sum_normalise: bool,
    side: int,
) -> np.ndarray:
    """Leading components (p, K) of pooled data, from some of the regions."""
    judged = sum(math.prod(s.stop - s.start for s in block) for block in inner)
    step = -(-judged // _MOST_POOLED)
    parts = []
    for region, block in zip(regions[::step], inner[::step], strict=True):
        clean, used = _clean(region)
        count = window_sum(used.astype(np.float32), side, nav)[..., np.newaxis]
        mean = window_sum(clean, side, nav) / np.maximum(count, 1)
        parts.append(mean[block][used[block]])
    pooled = np.concatenate(parts)
    if not len(pooled):
        return np.zeros((pooled.shape[-1], 1), np.float32)
    if sum_normalise:
        pooled /= np.maximum(np.abs(pooled).sum(axis=1, keepdims=True), 1e-9)
    return leading_components(pooled, "spectrum")[1]


def _clean(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A region (*nav, p) as float32 with zeros where it is not finite, and where it is."""
    used = np.isfinite(region).all(axis=-1)
    clean = region.astype(np.float32)
    clean[~used] = 0
    return clean, used


def _closest(own: np.ndarray, total: np.ndarray, nav: int) -> np.ndarray:
    """Squared distance to the likest direct neighbour, in units of the noise.

    Shape (*nav,); NaN for a position that counts nothing or has no neighbour
    that counts.
    """
    least = np.full(own.shape[:-1], np.inf)
    for axis in range(max(0, nav - 2), nav):
        here = (slice(None),) * axis
        low, high = (*here, slice(None, -1)), (*here, slice(1, None))
        counted = np.minimum(total[low], total[high])[..., 0] > 0
        # The variance of a difference is the sum of both variances.
        variance = sum(1 / np.maximum(total[side][..., 0], 1e-9) for side in (low, high))
        distance = ((own[low] - own[high]) ** 2).sum(-1) / variance
        distance = np.where(counted, distance, np.inf)
        for side in (low, high):
            least[side] = np.minimum(least[side], distance)
    return np.where(np.isfinite(least), least, np.nan)


def _noise(closest: np.ndarray, k: int, nav: int) -> float:
    """Variance of the noise of a position, summed over k components.

    Even in a fine structure most positions have one neighbour of their own
    class, so that the likest neighbour shows the noise and not the structure;
    what taking the likest one does to a distance is learnt from white noise.
    """
    closest = closest[np.isfinite(closest)]
    if not len(closest):
        return 0.0
    shape = (1,) * (nav - 2) + ((64, 64) if nav > 1 else (4096,))
    white = np.random.default_rng(0).normal(size=(*shape, k))
    white = _closest(white, np.ones((*shape, 1)), nav)
    # At a count per position or less, most neighbours are exactly equal.
    average = np.median if np.median(closest) > 0 else np.mean
    return float(k * average(closest) / average(white))
