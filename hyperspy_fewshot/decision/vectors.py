"""Operations on arrays of embeddings."""

import numpy as np

# Guards the division by the length of a vector of zeros, which stays zero.
TINY = 1e-12


def l2_normalise(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to unit length along the last axis."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, TINY)


def margins_of(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Score (n, K) of the own class of each row, shape (n,), less the highest of the others."""
    rows, others = np.arange(len(scores)), scores.copy()
    others[rows, classes] = -np.inf
    return scores[rows, classes] - others.max(axis=1)


def group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Average the rows (n, d) of every group (n,), in ascending order of the groups."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    return np.add.reduceat(values[order], starts, axis=0) / sizes[:, np.newaxis]
