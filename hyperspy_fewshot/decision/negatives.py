"""Negative examples: what belongs to no class.

They are one more class in a regression of their own, so that they may look different from each other,
and so that the scores of the classes do not depend on them. In this module `shots` are the shots of
the embeddings, shape (n,), and `shot_classes` the class of each shot, shape (E,), -1 for negatives.
"""

import numpy as np

from hyperspy_fewshot.decision.ridge import fit_ridge


def without_negatives(shots: np.ndarray, shot_classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shots of the embeddings of the classes, numbered anew, and their classes."""
    is_own = shot_classes >= 0
    return (np.cumsum(is_own) - 1)[shots[is_own[shots]]], shot_classes[is_own]


def fit_negatives(
    vectors: np.ndarray, shots: np.ndarray, shot_classes: np.ndarray, bias: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a regression to centred and weighted embeddings (n, d) of classes and negatives.

    Returns landmarks (m, d + 1) and coefficients (m, K + 1), with the negatives as the last class.
    Without negatives m is 0.
    """
    n_classes = shot_classes.max() + 1
    if (shot_classes >= 0).all():
        shapes = (0, vectors.shape[1] + 1), (0, n_classes + 1)
        return np.empty(shapes[0], np.float32), np.empty(shapes[1], np.float32)
    ridge = fit_ridge(vectors, shots, np.where(shot_classes < 0, n_classes, shot_classes), bias)
    return ridge.landmarks, ridge.coefficients
