"""Rejection: prototypes of the classes and the least resemblance to them.

In this module `units` are the L2-normalised embeddings of the support set, shape (n, d), `shots` the
shot of each embedding, shape (n,), and `shot_classes` the class of each shot, shape (E,).
"""

import warnings

import numpy as np
from scipy.special import stdtrit

from hyperspy_fewshot.decision.vectors import TINY, group_means, l2_normalise

# One-sided significance level of the default thresholds. It is low because users choose typical
# examples, so that queries scatter more than shots do.
DEFAULT_LEVEL = 0.001
# Threshold if there are too few shots to estimate how much a class scatters: that of a right angle.
FALLBACK_THRESHOLD = 0.0
# Largest fraction of its own shots that the default threshold may reject of a class. It protects a
# class that scatters more than the others do.
_MOST_REJECTED_SHOTS = 0.05
# Margin for rounding in float32: a query equal to a shot must not be rejected.
_ROUNDING = 1e-5


def class_prototypes(units: np.ndarray, shots: np.ndarray, shot_classes: np.ndarray) -> np.ndarray:
    """Compute the prototypes (K, d), the L2-normalised means of the shots of every class."""
    return l2_normalise(group_means(group_means(units, shots), shot_classes))


def rejection_thresholds(
    units: np.ndarray,
    shots: np.ndarray,
    shot_classes: np.ndarray,
    prototypes: np.ndarray,
    reject: bool | float,
    least: np.ndarray | float = -1.0,
) -> np.ndarray:
    """Compute the least resemblance to every class, shape (K,); -inf without rejection.

    A threshold is the prediction bound of `_prediction_bounds`. Without a level it is no lower than
    `least`, shape (K,), which needs no second shot. It is lowered where more than 5 % of the
    embeddings of the class itself (or the level, if that is higher) would not reach it.
    """
    if not reject:
        return np.full(len(prototypes), -np.inf)
    bounds = _prediction_bounds(units, shots, shot_classes, reject)
    if reject is True:
        bounds = np.maximum(bounds, least)
    fraction = max(_MOST_REJECTED_SHOTS, DEFAULT_LEVEL if reject is True else reject)
    classes = shot_classes[shots]
    own = (units * prototypes[classes]).sum(axis=1)
    reached = [np.quantile(own[classes == k], fraction, method="lower") for k in range(len(bounds))]
    return np.minimum(bounds, np.array(reached) - _ROUNDING)


def least_resemblance(
    centred: np.ndarray, shots: np.ndarray, shot_classes: np.ndarray, scatter: tuple[float, float]
) -> np.ndarray:
    """Least resemblance to every class (K,) that the scatter of the data set implies.

    `centred` are the embeddings of the shots (n, d), and `scatter` the least cosine and the largest
    distance between embeddings of one class. An embedding differs less from the mean of its class
    than from another one, by a factor of √2. The nearer the class lies to the centre, the larger is
    the angle at which this distance is seen from there. Of the cosine and the distance the one counts
    that rejects less.
    """
    cosine, distance = scatter
    lengths = group_means(np.linalg.norm(centred, axis=1, keepdims=True), shots)
    radius = np.maximum(group_means(lengths, shot_classes)[:, 0], TINY)
    # At most a right angle.
    angles = 2 * np.arcsin(np.minimum(distance / np.sqrt(2) / (2 * radius), np.sqrt(0.5)))
    return np.minimum(np.cos(angles), cosine)


def _prediction_bounds(
    units: np.ndarray, shots: np.ndarray, shot_classes: np.ndarray, reject: bool | float
) -> np.ndarray:
    """Lower prediction bounds of the resemblance to every class, shape (K,).

    Every shot is compared with the prototype of the other shots of its class. These resemblances
    scatter about the mean of their class with a standard deviation s that is pooled over the
    classes. The bound is that of Student's t distribution for one more resemblance,
    mean - t s sqrt(1 + 1 / n). A class of one shot takes mean and s from the resemblances between
    single shots of the other classes.
    """
    classes, counts = shot_classes[shots], np.bincount(shot_classes)
    # The resemblances of two single embeddings to each other are equal: they show no scatter.
    scatters = (counts > 1) & (np.bincount(classes) > 2)
    freedom = int((counts - 1)[scatters].sum())
    level = DEFAULT_LEVEL if reject is True else reject
    if reject is not True:
        _warn_of_level(level, int(counts[counts > 1].sum()), freedom)
    if freedom < 1:
        return np.full(len(counts), FALLBACK_THRESHOLD)
    # Cosine of every embedding to the prototype of the other shots of its class; 0 without any.
    shot_means = group_means(units, shots)
    sums = group_means(shot_means, shot_classes) * counts[:, np.newaxis]
    others = l2_normalise(sums[shot_classes] - shot_means)
    own = (units * others[shots]).sum(axis=1)
    weights = 1 / np.bincount(shots)[shots]
    means = np.bincount(classes, weights * own) / counts
    pooled = weights * scatters[classes]
    spreads = np.full(len(counts), np.sqrt(pooled @ (own - means[classes]) ** 2 / freedom))
    single = counts == 1
    if single.any():
        means[single], spreads[single] = _between_single_shots(units, shots, shot_classes, pooled)
    return means - stdtrit(freedom, 1 - level) * spreads * np.sqrt(1 + 1 / counts) - _ROUNDING


def _warn_of_level(level: float, n_shots: int, freedom: int) -> None:
    """Warn if `n_shots` shots that can be left out are too few for a significance level."""
    least = 1 / (n_shots + 1)
    if freedom < 1 and n_shots:
        warnings.warn(
            f"Two examples a class are too few for a significance level: reject={level:g} is replaced "
            f"by the constant threshold {FALLBACK_THRESHOLD}. Give at least one class a third example.",
            stacklevel=2,
        )
    elif freedom >= 1 and level < least:
        warnings.warn(
            f"{n_shots} examples are too few for a significance level below {least:.2g}; the threshold "
            f"for reject={level:g} is extrapolated with Student's t distribution. Give more examples or "
            "a higher level.",
            stacklevel=2,
        )


def _between_single_shots(
    units: np.ndarray, shots: np.ndarray, shot_classes: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Mean and standard deviation of the cosines between embeddings and other shots of their class.

    `weights`, shape (n,), are those of the embeddings; 0 leaves one out.
    """
    directions, classes = l2_normalise(group_means(units, shots)), shot_classes[shots]
    own = (units * directions[shots]).sum(axis=1)
    mean = square = 0.0
    for k in np.unique(classes[weights > 0]):
        here, others = classes == k, directions[shot_classes == k]
        queries, share = units[here], weights[here] / (len(others) - 1)
        # Sums over all shots of the class, less the shot that the embedding belongs to.
        sums = queries @ others.sum(axis=0) - own[here]
        squares = ((queries @ (others.T @ others)) * queries).sum(axis=1) - own[here] ** 2
        mean, square = mean + share @ sums, square + share @ squares
    mean, square = mean / weights.sum(), square / weights.sum()
    return float(mean), float(np.sqrt(max(square - mean**2, 0.0)))
