"""How much the result depends on which shots were given.

A shot of a class that has others is left out: the jackknife. The only shot of a class is replaced by
queries that are labelled as this class: a parametric bootstrap.

In this module `scores`, shape (n, K), are those of a sample of a data set, `best`, shape (J, n), its
best classes with one of J other choices of shots each, and `shares`, shape (J,), the weights of their
changes in the estimate of a variance.
"""

import numpy as np

from hyperspy_fewshot.decision.ridge import fit_ridge, kernel_values

# Choices of queries in place of the only shots.
_REPLACEMENTS = 12


def replaced_scores(
    centred: np.ndarray,
    labels: np.ndarray,
    shots: np.ndarray,
    classes: np.ndarray,
    single: np.ndarray,
    bias: float,
    weights: np.ndarray | None,
) -> list[np.ndarray]:
    """Scores (n, K) of a sample with other shots of the classes that have a single one.

    Parameters
    ----------
    centred, labels
        Centred embeddings of the sample, shape (n, d), and their classes, shape (n,).
    shots, classes
        Centred embeddings of the shots, shape (S, d), and their classes, shape (S,).
    single
        The classes with one shot.
    bias, weights
        As in :class:`~hyperspy_fewshot.decision.classifier.FewShotClassifier`.
    """
    rng, squares, found = np.random.default_rng(0), np.square(centred), []
    factors = 1.0 if weights is None else weights
    places = [np.flatnonzero(labels == k) for k in single]
    for _ in range(_REPLACEMENTS if len(single) else 0):
        changed = shots.copy()
        for k, own in zip(single, places, strict=True):
            if len(own):
                changed[classes == k] = centred[rng.choice(own)]
        ridge = fit_ridge(changed * factors, np.arange(len(shots)), classes, bias)
        values = kernel_values(centred, squares, ridge.landmarks, bias, weights)
        found.append(values @ ridge.coefficients)
    return found


def fraction_spread(scores: np.ndarray, best: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Estimate the standard deviation of the fraction of every class, shape (K,)."""
    n_classes = scores.shape[1]
    counts = [np.bincount(found, minlength=n_classes) for found in best]
    changes = np.reshape(counts, (-1, n_classes)) / len(scores)
    changes -= np.bincount(scores.argmax(axis=1), minlength=n_classes) / len(scores)
    return np.sqrt(shares @ changes**2)
