"""Which queries would help most as further examples."""

import numpy as np

from hyperspy_fewshot.decision.vectors import l2_normalise


def typical_queries(
    candidates: np.ndarray,
    examples: np.ndarray,
    forbidden: np.ndarray,
    weights: np.ndarray,
    n: int,
) -> list[int]:
    """Choose n candidates that explain most of what the examples do not, one after the other.

    How well a query explains another one is the square of the cosine between them, or 0 if it is
    negative. Each query counts with the best explanation among the examples and the candidates that
    are chosen; a candidate is chosen because it adds most to the weighted sum over all candidates. This greedy
    maximum of a facility location function is within 37 % of the best possible (G. L. Nemhauser et
    al., Math. Program. 14, 265 (1978)). Choices are therefore typical of many queries, and spread out.

    Parameters
    ----------
    candidates
        Centred embeddings, shape (m, d).
    examples
        Centred embeddings of the support set, shape (S, d).
    forbidden
        Which candidates are not to be chosen, shape (m,).
    weights
        How much it counts that a candidate is explained, shape (m,).
    n
        Number of candidates to choose.
    """
    units = l2_normalise(candidates)
    explains = _explained(units, units)
    best = _explained(units, l2_normalise(examples)).max(axis=1)
    chosen: list[int] = []
    for _ in range(min(n, int((~forbidden).sum()))):
        gains = np.maximum(explains - best, 0) @ weights
        gains[forbidden] = -1
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        best = np.maximum(best, explains[chosen[-1]])
    return chosen


def _explained(units: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How well others (n, d) explain units (m, d), shape (m, n)."""
    return np.square(np.maximum(units @ others.T, 0))
