"""Intervals of the fractions of classes, and what they are made of."""

import numpy as np

from hyperspy_fewshot.frequencies import class_frequencies
from hyperspy_fewshot.labels import MASKED

# Weights of the parts of an interval: half-width of a 95 % interval of the normal distribution for
# the labels, then shots, ambiguity and rejection. Chosen on simulated and public data, see
# ``benchmarks/trust.py``.
_LABELS, _SHOTS, _AMBIGUITY, _REJECTION = 1.96, 3.0, 2.0, 0.4


def fraction_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    areas: np.ndarray,
    spread: np.ndarray | None,
    overlap: float,
    boundary: float,
    n_map: int,
) -> dict[str, np.ndarray]:
    """Compute the 95 % intervals of the fractions of all classes, and their parts.

    Labels and areas have the shape of the map, the probabilities (K, *map). `spread`, shape (K,), is
    the standard deviation of the fractions over the choice of the shots; None: not known. `overlap` is
    the number of neighbouring labels that rest on the same data, `boundary` the number of cells by
    which boundaries may be shifted, and the last `n_map` axes are those along which labels are
    neighbours.

    Returns arrays (K,) by name. Three estimates of the fraction, "fraction", the share of the labels,
    "mean_probability" and "frequency", the class frequencies under which the probabilities are most
    likely, lie between "low" and "high". Rejected labels belong to no class in any of them. Beyond
    them, the interval extends by the root of the sum of the squares of "of_labels", the scatter of
    independent labels, "of_shots", "of_ambiguity", the probability that lies with other classes than
    the label's, "of_boundary", the area of labels beside others, and "of_rejection", the area that is
    rejected and resembles the class more than others. NaN if everything is masked.
    """
    kept, accepted = labels != MASKED, labels >= 0
    share = np.where(kept, areas, 0) / (areas[kept].sum() or np.nan)
    beside = beside_others(labels, n_map)[accepted]
    rejected = kept & ~accepted
    classes = np.arange(len(probabilities))[:, np.newaxis]
    best = probabilities[:, rejected].argmax(axis=0) == classes
    is_own, p = labels[accepted] == classes, probabilities[:, accepted].astype(float)
    lost, share = best @ share[rejected], share[accepted]
    estimates = {
        "fraction": is_own @ share,
        "mean_probability": p @ share,
        "frequency": class_frequencies(p, share) * share.sum(),
    }
    extents = {
        "of_labels": _LABELS * np.sqrt(overlap * ((p * (1 - p)) @ share**2)),
        "of_shots": _SHOTS * (np.zeros(len(p)) if spread is None else spread),
        "of_ambiguity": _AMBIGUITY * (abs(is_own - p) @ share),
        "of_boundary": boundary * (is_own @ (beside * share)),
        "of_rejection": _REJECTION * lost,
    }
    if not kept.any():
        estimates = dict.fromkeys(estimates, np.full(len(p), np.nan))
    half_width = np.sqrt(sum(part**2 for part in extents.values()))
    low, high = (extreme(list(estimates.values()), axis=0) for extreme in (np.min, np.max))
    ends = {"low": np.clip(low - half_width, 0, 1), "high": np.clip(high + half_width, 0, 1)}
    return {**estimates, **extents, **ends}


def beside_others(labels: np.ndarray, n_map: int) -> np.ndarray:
    """Which labels have a direct neighbour of another label that is not masked.

    Neighbours lie along the last `n_map` axes.
    """
    beside = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim - n_map, labels.ndim):
        along, marked = np.moveaxis(labels, axis, 0), np.moveaxis(beside, axis, 0)
        differ = (along[1:] != along[:-1]) & (along[1:] != MASKED) & (along[:-1] != MASKED)
        marked[1:] |= differ
        marked[:-1] |= differ
    return beside
