"""What a classifier can be fitted with."""

from typing import Any

import numpy as np


def check_support(
    embeddings: np.ndarray,
    shots: np.ndarray,
    shot_classes: np.ndarray,
    class_names: tuple[str, ...],
    centre: np.ndarray,
) -> None:
    """Raise a ValueError if a classifier cannot be fitted; see :meth:`FewShotClassifier.fit`."""
    if len(class_names) < 2:
        raise ValueError(f"At least two classes are needed, got {list(class_names)}.")
    counts = np.bincount(shot_classes[shot_classes >= 0], minlength=len(class_names))
    if (counts == 0).any():
        raise ValueError(f"Class {class_names[int(counts.argmin())]!r} has no examples.")
    if not np.bincount(shots, minlength=len(shot_classes)).all():
        raise ValueError("A shot of the support set has no embedding.")
    if not (np.isfinite(embeddings).all() and np.isfinite(centre).all()):
        raise ValueError(
            "The encoder gave NaN or infinite embeddings of the support set or of the data set."
        )


def checked_reject(reject: Any) -> bool | float:
    """Return `reject` as a Python value; refuse what is neither boolean nor a level in (0, 1)."""
    reject = reject.item() if isinstance(reject, np.generic) else reject
    accepted = f"reject={reject!r} must be True, False, or a level between 0 and 1."
    if not isinstance(reject, bool | int | float):
        raise TypeError(accepted)
    if not isinstance(reject, bool) and not 0 < reject < 1:
        raise ValueError(accepted)
    return reject
