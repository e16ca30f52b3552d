"""Refinement of probabilities by the image: what looks alike and lies side by side is one class."""

from collections.abc import Sequence

import numpy as np

# Differences of the guide, relative to its range, of which the squares are taken for flat.
_FLAT = 1e-3


def refined(
    packed: np.ndarray, guide: np.ndarray, contrast: float, radius: int, axes: Sequence[int]
) -> np.ndarray:
    """Refine the probabilities of accepted queries by a guided filter, and label them anew.

    Within a square of 2 `radius` + 1 queries the probabilities are fitted by a linear function of the
    guide, so that boundaries of classes follow edges in the guide [1]_. Rejected and masked queries
    neither change nor count.

    Parameters
    ----------
    packed
        Shape (*map, K + 2), as :meth:`FewShotClassifier.judge` returns it for the queries of a map.
    guide
        Mean intensity of each query, shape (*map,).
    contrast
        Range of the intensities.
    radius
        Queries along each of the `axes` of the map.

    References
    ----------
    .. [1] K. He, J. Sun, X. Tang, IEEE Trans. Pattern Anal. Mach. Intell. 35, 1397 (2013).
    """
    accepted = (packed[..., -2] >= 0) & np.isfinite(guide)
    if not accepted.any():
        return packed
    packed, guide = packed.copy(), np.where(accepted, guide, 0)[..., np.newaxis] / contrast
    slopes, levels = guided_coefficients(packed[..., :-2], guide, accepted, radius, axes)
    probabilities = (slopes * guide + levels)[accepted]
    probabilities = np.clip(probabilities, 0, None)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    packed[accepted, :-2] = probabilities
    packed[accepted, -2] = probabilities.argmax(axis=-1)
    packed[accepted, -1] = probabilities.max(axis=-1)
    return packed


def guided_coefficients(
    values: np.ndarray, guide: np.ndarray, known: np.ndarray, radius: int, axes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and levels (*map, K) by which a guided filter maps the guide (*map, 1) to values.

    `known`, shape (*map,), are the places that count.
    """
    share = known[..., np.newaxis].astype(np.float32)
    weight = np.maximum(_box_sum(share, radius, axes), 1)

    def mean(array: np.ndarray) -> np.ndarray:
        return _box_sum(np.where(known[..., np.newaxis], array, 0), radius, axes) / weight

    level, means = mean(guide), mean(values)
    slopes = mean(guide * values) - level * means
    slopes /= np.maximum(mean(guide**2) - level**2, 0) + _FLAT
    return mean(slopes), mean(means - slopes * level)


def _box_sum(array: np.ndarray, radius: int, axes: Sequence[int]) -> np.ndarray:
    """Sum over a square around each place, in an order that does not depend on the block."""
    for axis in axes:
        along = np.moveaxis(array, axis, 0)
        padded = np.zeros((len(along) + 2 * radius, *along.shape[1:]), np.float32)
        padded[radius : radius + len(along)] = along
        total = padded[: len(along)].copy()
        for shift in range(1, 2 * radius + 1):
            total += padded[shift : shift + len(along)]
        array = np.moveaxis(total, 0, axis)
    return array
