"""Rejection on a map: what an accepted query covers is not unknown."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import maximum_filter

from hyperspy_fewshot.labels import NEGATIVE, REJECTED


def accept_covered(packed: np.ndarray, reach: Mapping[int, int]) -> np.ndarray:
    """Give the class of highest probability to rejected queries that an accepted one covers.

    A query at a boundary is a mixture of two classes that resembles neither. It is unknown only if
    nothing that covers it is accepted. `packed`, shape (*map, K + 2), holds probabilities, label and
    confidence, as :meth:`FewShotClassifier.judge` returns them for the queries of a map, and `reach`
    how far a query covers others along each axis of the map. Masked queries neither are accepted nor
    cover others. Those that are nearest to a negative example are rejected, whatever covers them.
    """
    labels = packed[..., -2]
    rejected, negative = labels == REJECTED, labels == NEGATIVE
    if not (rejected.any() or negative.any()):
        return packed
    size = [2 * reach.get(axis, 0) + 1 for axis in range(labels.ndim)]
    covered = rejected & maximum_filter((labels >= 0).view(np.uint8), size).view(bool)
    packed = packed.copy()
    probabilities = packed[covered, :-2]
    packed[covered, -2] = probabilities.argmax(axis=-1)
    packed[covered, -1] = probabilities.max(axis=-1, initial=0)
    packed[negative, -2] = REJECTED
    return packed
