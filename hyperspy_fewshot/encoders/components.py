"""Principal components of a sample, with NumPy and SciPy only."""

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

# A dense eigensolver is faster than Lanczos iterations for more than this share of all eigenvectors.
_DENSE = 1 / 16
# A component counts as reproduced if its variance in items that it was not learnt from is at least
# this share of its variance in the items that it was learnt from: close to 1 for signal, to 0 for
# noise.
_REPRODUCED = 0.5
# Components of less than this share of the largest variance are rounding errors of float32.
_ROUNDING = 1e-7
# Share of the variance of an embedding that the fainter half of its components may have, and the
# powers that are tried. Chosen on simulated scans; with more, noise counts.
_FAINT = 0.1
_POWERS = np.arange(0, 0.41, 0.02)
# n_components, power and reproduced by kind of item. Spectra of many channels have few constituents
# above the noise. Patterns have one for every domain, but more pixels than the sample has items.
_SETTINGS = {
    "spectrum": (8, 0.0, False),
    "pattern": (64, 0.25, True),
    "image": (64, 0.25, False),
}


def leading_components(features: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Principal components after scaling Poisson noise to equal variance in all features (n, p).

    Returns the mean (p,) and the components (p, d). They include the scaling: an embedding is
    ``(features - mean) @ components``. The kind of the items decides how many are kept.
    """
    weights = poisson_weights(features.mean(axis=0))
    mean, components = principal_components(features * weights, *_SETTINGS[kind])
    return mean / weights, components * weights[:, np.newaxis]


def poisson_weights(mean: np.ndarray) -> np.ndarray:
    """Factors that give counts of this mean (p,) the same variance in all features.

    See Keenan and Kotula, Surf. Interface Anal. 36, 203 (2004). A hundredth of the average mean is
    added so that empty features are not amplified.
    """
    level = np.abs(mean)
    return (1 / np.sqrt(level + (0.01 * level.mean() or 1.0))).astype(np.float32)


def principal_components(
    features: np.ndarray, n_components: int, power: float = 0.0, reproduced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and at most `n_components` principal components (p, d) of a sample (n, p).

    An embedding is ``(features - mean) @ components``. A component of variance v is divided by
    ``v ** power``: 0 keeps the variances, 0.5 whitens; 0.25 amplifies faint differences, but not the
    noise to the level of the signal. `reproduced` keeps only components that are found in both
    halves of the sample: of fewer items than features, the others describe the noise of single items.
    """
    mean = features.mean(axis=0)
    centred = (features - mean).astype(np.float32, copy=False)
    variance, vectors = _decompose(centred, n_components)
    if reproduced and len(features) > 1:
        half, directions = _decompose(centred[::2], n_components)
        others = ((centred[1::2] @ directions) ** 2).mean(axis=0)
        count = max(1, int((others > _REPRODUCED * half).sum()))
        variance, vectors = variance[:count], vectors[:, :count]
    if variance[0] <= 0:
        # A constant sample still needs an embedding.
        variance, vectors = np.ones(1), np.full((centred.shape[1], 1), 1 / centred.shape[1])
    return mean.astype(np.float32), (vectors * variance**-power).astype(np.float32)


def balanced_components(features: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and principal components (p, d) that amplify faint differences, but not noise.

    As :func:`principal_components`, with the largest of `_POWERS` for which the
    fainter half of the components has at most the share `_FAINT` of the variance of an embedding. In
    few items, or with little signal, that half is noise.
    """
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    variance, vectors = _decompose(features - mean, n_components)
    if variance[0] <= 0:
        return principal_components(features, n_components)
    power = 0.0
    for step in _POWERS:
        scaled = variance ** (1 - 2 * step)
        if scaled[len(scaled) // 2 :].sum() <= _FAINT * scaled.sum():
            power = step
    relative = variance / variance[0]
    return mean, (vectors * relative**-power).astype(np.float32)


def _decompose(centred: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances (d,) in descending order and unit vectors (p, d) of centred items (n, p)."""
    n, p = centred.shape
    k = min(n_components, max(n - 1, 1))
    if p <= n:
        return eigenpairs(centred.T @ centred / n, k)
    # The matrix of scalar products of the items has the same eigenvalues and is smaller.
    variance, vectors = eigenpairs(centred @ centred.T / n, k)
    return variance, centred.T @ vectors / np.sqrt(n * np.maximum(variance, 1e-30))


def eigenpairs(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues (d,) of a symmetric float32 matrix, and their unit vectors (p, d).

    In descending order, at most k, at least one, and without those that are rounding errors.
    """
    size = len(matrix)
    k = min(k, size)
    if k >= _DENSE * size or not matrix.any():
        values, vectors = eigh(matrix.astype(float), subset_by_index=[size - k, size - 1])
    else:
        # A given start vector makes the result deterministic.
        values, vectors = eigsh(matrix, k=k, v0=np.ones(size, matrix.dtype))
    order = np.argsort(values)[::-1]
    order = order[: max(1, (values > _ROUNDING * values.max()).sum())]
    return values[order], vectors[:, order].astype(np.float32)
