"""Rare classes: which of the queries that resemble one belong to it.

Scores treat all classes as equally frequent. If a class covers 1 % of a data set, most of the
queries that resemble it a little more than others still belong to a frequent class. They are told
apart by a filter that is matched to what separates the class from the bulk of the data.
"""

import numpy as np

from hyperspy_fewshot.decision.vectors import group_means
from hyperspy_fewshot.frequencies import class_frequencies

# The values below were chosen on simulated maps of EDS spectra in which a class covers 0.5 or 1 %,
# and on public data, in which few classes are rare: there the accuracy must not fall.
#
# Largest estimated frequency of a rare class.
_RARE = 0.03
# With fewer queries in a sample, a rare class is not seen.
_LEAST_QUERIES = 256
# Share of the queries most like the class that do not count as background.
_LEFT_OUT = 0.02
# Mean eigenvalues that are added to the covariance of the background. Ten times as much makes little
# difference.
_RIDGE = 0.02
# A query is confirmed half of the way from the mean to the class, or at so many standard deviations
# of the background, if that is more.
_HALF_WAY, _SIGMAS = 0.5, 3.7
# Share of the left-out shots that the filter has to confirm; otherwise the class is no outlier.
_CONFIRMED_SHOTS = 0.5


def rare_filters(
    sample: np.ndarray, shot_means: np.ndarray, classes: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rare classes of a data set, and a filter for each of them.

    Parameters
    ----------
    sample
        Embeddings of a sample of the data set, shape (n, d).
    shot_means, classes
        Embeddings of shots, shape (S, d), and the class of each, shape (S,), as from
        :func:`mean_shots`.
    probabilities
        Those of the sample if all classes are equally frequent, shape (n, K).

    Returns
    -------
    rare : numpy.ndarray
        The R rare classes.
    filters : numpy.ndarray
        Shape (R, d + 1). The product with an embedding and 1 is the number of standard deviations of
        the background by which a query exceeds the threshold; it belongs to the class if that is
        positive.

    Notes
    -----
    The filter is the matched filter for targets in hyperspectral images (D. Manolakis, G. Shaw, IEEE
    Signal Process. Mag. 19, 29 (2002)). With mean m and covariance C of the background and the mean
    m + t of the shots it is C⁻¹t / (tᵀC⁻¹t), which gives 0 at m and 1 at m + t.
    """
    frequencies = class_frequencies(probabilities.T, np.ones(len(sample)))
    rare, filters = [], []
    if len(sample) >= _LEAST_QUERIES:
        sample = sample.astype(np.float64)
        for k in np.flatnonzero(frequencies <= _RARE):
            own = shot_means[classes == k].astype(np.float64)
            found = _filter(sample, own) if k != frequencies.argmax() and len(own) > 1 else None
            if found is not None:
                rare.append(k)
                filters.append(found)
    shape = (-1, sample.shape[1] + 1)
    return np.array(rare, np.int64), np.array(filters, np.float32).reshape(shape)


def _filter(sample: np.ndarray, shots: np.ndarray) -> np.ndarray | None:
    """Filter for the class of some shots (S, d); None if it is not rare or no outlier."""
    mean = sample.mean(axis=0)
    others = shots.mean(axis=0) + (shots.mean(axis=0) - shots) / (len(shots) - 1)
    targets = np.vstack([shots.mean(axis=0), others]) - mean
    likeness = (sample - mean) @ targets[0]
    background = sample[likeness <= np.quantile(likeness, 1 - _LEFT_OUT)] - mean
    covariance = background.T @ background / len(background)
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    directions = np.linalg.solve(covariance, targets.T).T
    directions /= (directions * targets).sum(axis=1, keepdims=True)
    values = (sample - mean) @ directions[0]
    middle = np.median(values)
    sigma = 1.4826 * np.median(abs(values - middle))
    threshold = max(_HALF_WAY, middle + _SIGMAS * sigma)
    left_out = ((shots - mean) * directions[1:]).sum(axis=1)
    is_outlier = (left_out > threshold).mean() >= _CONFIRMED_SHOTS
    if sigma <= 0 or not is_outlier or (values > threshold).mean() > _RARE:
        return None
    return np.append(directions[0], -(mean @ directions[0]) - threshold) / sigma


def hold_back(
    scores: np.ndarray, centred: np.ndarray, rare: np.ndarray, filters: np.ndarray, unit: float
) -> np.ndarray:
    """Lower the scores (n, K) of rare classes for queries (n, d) that their filter does not confirm.

    The score of a rare class exceeds the highest one of the frequent classes at most by as many
    `unit` as the query exceeds the threshold of the filter; both may be negative.
    """
    if not len(rare):
        return scores
    frequent = np.delete(scores, rare, axis=1).max(axis=1, keepdims=True)
    margins = centred @ filters[:, :-1].T + filters[:, -1]
    lowered = scores.copy()
    lowered[:, rare] = np.minimum(scores[:, rare], frequent + scores.dtype.type(unit) * margins)
    return lowered


def mean_shots(
    embeddings: np.ndarray, shots: np.ndarray, shot_classes: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean embeddings (S, d) of at most so many shots of every class, and their classes (S,).

    Of a class with a single shot they are the embeddings of this shot, whose scatter says something.
    """
    means, found, owners = group_means(embeddings, shots), [], []
    for k in np.unique(shot_classes):
        own = np.flatnonzero(shot_classes == k)
        rows = means[own] if len(own) > 1 else embeddings[shots == own[0]]
        rows = rows[:: -(-len(rows) // most)]
        found.append(rows)
        owners += [k] * len(rows)
    return np.concatenate(found), np.array(owners)
