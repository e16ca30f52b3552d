"""What is said of a label map when it is computed."""

import warnings

import numpy as np

from hyperspy_fewshot.labels import MASKED, REJECTED


def warn_of_labels(labels: np.ndarray, n_left_out: int | None) -> None:
    """Warn of data that are not finite, and of a map that is mostly rejected.

    `n_left_out` is the number of queries that the user masked; None: not known.
    """
    n_masked, n_rejected = (int((labels == value).sum()) for value in (MASKED, REJECTED))
    if n_left_out is not None and n_masked > n_left_out:
        warnings.warn(
            f"{n_masked - n_left_out} of {labels.size} queries hold NaN, infinite or masked data; they "
            f"get the label {MASKED} (masked).",
            stacklevel=5,
        )
    if 2 * n_rejected > labels.size - n_masked:
        warnings.warn(
            f"{n_rejected} of {labels.size} queries resemble no class and are rejected. Add examples "
            "from there (result.suggest() chooses some), or use reject=False.",
            stacklevel=5,
        )
