"""How frequent classes are, estimated from probabilities."""

import numpy as np

# Queries from which frequencies are estimated: a regular subset of more of them.
_MOST_QUERIES = 2**14
# The estimate has converged when no frequency changes by more, and is stopped after so many steps.
_CHANGE, _MOST_STEPS = 1e-5, 200


def class_frequencies(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Estimate class frequencies (K,) from probabilities (K, n) that assume equal ones.

    The expectation maximisation of M. Saerens et al., Neural Comput. 14, 21 (2002), eq. 2.9.
    """
    if not weights.sum() > 0:
        return np.zeros(len(probabilities))
    step = max(1, -(-len(weights) // _MOST_QUERIES))
    p, weights = probabilities[:, ::step], weights[::step] / weights[::step].sum()
    frequencies = np.full(len(p), 1 / len(p))
    for _ in range(_MOST_STEPS):
        joint = p * frequencies[:, np.newaxis]
        before, frequencies = frequencies, (joint / joint.sum(axis=0)) @ weights
        if abs(frequencies - before).max() < _CHANGE:
            break
    return frequencies
