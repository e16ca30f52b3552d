"""What shots say of queries: which class (kernel ridge), by which part of the embedding."""

from dataclasses import dataclass

import numpy as np

from .calibration import LeftOut, unit

# Steepness of the kernel: alike shots count more than the mean of their class,
# which helps where a class lies between others or has several appearances.
_STEEPNESS = 2.0
# Ridges among which leaving out chooses; what stands in where it cannot.
_RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
_FALLBACK_RIDGE = 0.1
# What is added to an embedding as one more number that is the same for all, in
# units of the length of those of the support. It makes the distance from the
# centre count beside the direction: small ones stay near each other.
_LIFTS = (0.25, 0.5, 1.0)
_FALLBACK_LIFT = 0.25
# Most embeddings that queries are compared with.
_MOST_LANDMARKS = 512
# Queries compared at a time, which bounds the memory.
_BATCH = 8192
# Weight of the belief that all blocks tell as much as each other, in shots.
_BLOCK_PRIOR = 3.0


def lifted(vectors: np.ndarray, lift: float) -> np.ndarray:
    """Append the number `lift` to centred embeddings (..., d), and scale to unit length."""
    number = np.full((*vectors.shape[:-1], 1), lift, vectors.dtype)
    return unit(np.concatenate([vectors, number], axis=-1))


def kernel_scores(units: np.ndarray, landmarks: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """How much every query belongs to every class.

    Parameters
    ----------
    units
        Unit vectors of the queries, shape (..., d + 1), see :func:`lifted`;
        NaN stays NaN.
    landmarks, coefficients
        From :func:`fit_ridge`, shapes (m, d + 1) and (m, K).

    Returns
    -------
    numpy.ndarray
        Shape (..., K).
    """
    rows = units.reshape(-1, units.shape[-1])
    scores = np.empty((len(rows), coefficients.shape[1]), np.result_type(rows, coefficients))
    for start in range(0, len(rows), _BATCH):
        here = slice(start, start + _BATCH)
        scores[here] = _kernel(rows[here], landmarks) @ coefficients
    return scores.reshape(*units.shape[:-1], -1)


@dataclass(frozen=True, eq=False)
class Ridge:
    """A kernel ridge regression of class membership.

    Parameters
    ----------
    landmarks
        Unit vectors of the support, shape (m, d + 1).
    coefficients
        How much each speaks for every class, shape (m, K).
    lift
        What is appended to a centred embedding, see :func:`lifted`.
    left_out
        Scores of the entries of classes that keep another one.
    """

    landmarks: np.ndarray
    coefficients: np.ndarray
    lift: float
    left_out: LeftOut


def fit_ridge(vectors: np.ndarray, entries: np.ndarray, entry_classes: np.ndarray, k: int) -> Ridge:
    """Kernel ridge regression of class membership, 1 - 1/K or -1/K.

    Entries of a class count alike, and so do classes. Ridge and lift are those
    of least squared error of entries that are left out, for which there is a
    closed form [1]_.

    Parameters
    ----------
    vectors
        Centred embeddings of the support, shape (n, d). Of more than 512 a
        seeded choice is taken that keeps as many entries as can be.
    entries, entry_classes, k
        The entry of each, shape (n,), the class of each entry, shape (E,),
        and the number of classes K.

    References
    ----------
    .. [1] C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine
       Learning, MIT Press (2006), sections 5.4.2 and 6.5.
    """
    kept = _landmarks(entries, entry_classes)
    vectors, entries = vectors[kept], entries[kept]
    classes = entry_classes[entries]
    present, sizes = np.unique(entries, return_counts=True)
    counts = np.bincount(entry_classes[present], minlength=k)
    share = 1 / sizes[np.searchsorted(present, entries)]
    root = np.sqrt(share * len(present) / (k * counts[classes]))[:, np.newaxis]
    targets = root * (np.eye(k)[classes] - 1 / k)
    judged = [np.flatnonzero(entries == e) for e in present if counts[entry_classes[e]] > 1]
    length = float(np.sqrt(share @ (vectors**2).sum(axis=1) / len(present))) or 1.0
    fits = [
        _Fit.best(lifted(vectors, lift * length), lift * length, root, targets, judged)
        for lift in (_LIFTS if judged else (_FALLBACK_LIFT,))
    ]
    best = min(fits, key=lambda fit: fit.loss)
    order = np.concatenate([*judged, np.empty(0, int)]).astype(int)
    scores = (targets[order] - np.concatenate([*best.errors, np.empty((0, k))])) / root[order]
    return Ridge(
        landmarks=best.units.astype(np.float32),
        coefficients=best.coefficients.astype(np.float32),
        lift=best.lift,
        left_out=LeftOut(scores, classes[order], share[order], entries[order]),
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """One lift with the best of its ridges."""

    units: np.ndarray
    lift: float
    coefficients: np.ndarray
    errors: list[np.ndarray]

    @property
    def loss(self) -> float:
        """Sum of squared errors of the entries left out."""
        return sum(float((error**2).sum()) for error in self.errors)

    @classmethod
    def best(
        cls,
        units: np.ndarray,
        lift: float,
        root: np.ndarray,
        targets: np.ndarray,
        judged: list[np.ndarray],
    ) -> "_Fit":
        """Fit with every ridge; `root` holds the square roots of the weights, shape (n, 1)."""
        values, vectors = np.linalg.eigh(root * _kernel(units, units) * root.T)
        values, projected = np.maximum(values, 0), vectors.T @ targets
        fits = []
        for ridge in _RIDGES if judged else (_FALLBACK_RIDGE,):
            coefficients = root * (vectors @ (projected / (values + ridge)[:, np.newaxis]))
            errors = _errors(values / (values + ridge), vectors, projected, judged)
            fits.append(cls(units, lift, coefficients, errors))
        return min(fits, key=lambda fit: fit.loss)


def block_weights(
    vectors: np.ndarray,
    entries: np.ndarray,
    entry_classes: np.ndarray,
    k: int,
    blocks: tuple[int, ...] | None,
) -> np.ndarray:
    """Weight of every number of an embedding that joins several blocks.

    A block is divided by the share of its variance that lies within classes,
    out of that within and between them, as an analysis of variance of the
    shots finds it; with few shots, all blocks count alike.

    Parameters
    ----------
    vectors
        Unit vectors of the support, shape (n, d).
    entries, entry_classes, k
        As for :func:`fit_ridge`.
    blocks
        Lengths of the blocks, which sum to d; None: one.

    Returns
    -------
    numpy.ndarray
        Shape (d,).

    Raises
    ------
    ValueError
        If the lengths do not sum to d.
    """
    d, freedom = vectors.shape[1], len(entry_classes) - k
    blocks = (d,) if blocks is None else blocks
    if sum(blocks) != d:
        raise ValueError(f"Blocks of lengths {blocks} do not make embeddings of length {d}.")
    if len(blocks) == 1 or not freedom:
        return np.ones(d)
    share = 1 / np.bincount(entries)[entries]
    classes, counts = entry_classes[entries], np.bincount(entry_classes)
    member = share * (classes == np.arange(k)[:, np.newaxis]) / counts[:, np.newaxis]
    means, starts = member @ vectors, np.cumsum((0, *blocks[:-1]))
    within = np.add.reduceat(share @ (vectors - means[classes]) ** 2, starts) / freedom
    # The mean of n shots scatters by the nth part of what the shots do.
    between = np.add.reduceat(means.var(axis=0, ddof=1), starts) - within * np.mean(1 / counts)
    total = within + np.maximum(between, 0) * (1 - 1 / k)
    ratio = np.divide(within, total, out=np.ones_like(total), where=total > 0)
    ratio = (_BLOCK_PRIOR / 2 + freedom * ratio) / (_BLOCK_PRIOR + freedom)
    return np.repeat(1 / ratio, blocks)


def _kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rises from 0 at a right angle to 1 at none, ever more steeply."""
    return np.expm1(_STEEPNESS * (left @ right.T)) / np.float32(np.expm1(_STEEPNESS))


def _errors(
    shrinkage: np.ndarray, vectors: np.ndarray, projected: np.ndarray, groups: list[np.ndarray]
) -> list[np.ndarray]:
    """Error of every group, predicted from all others."""
    hat = (vectors * shrinkage) @ vectors.T
    residuals = vectors @ ((1 - shrinkage)[:, np.newaxis] * projected)
    return [
        np.linalg.solve(np.eye(len(group)) - hat[np.ix_(group, group)], residuals[group])
        for group in groups
    ]


def _landmarks(entries: np.ndarray, entry_classes: np.ndarray) -> np.ndarray:
    """Which embeddings to keep: of all entries, and of all classes, equally many."""
    if len(entries) <= _MOST_LANDMARKS:
        return np.arange(len(entries))
    rng = np.random.default_rng(0)
    turn, entry_turn = _turns(entries, rng), _turns(entry_classes, rng)
    return np.sort(np.lexsort((entry_turn[entries], turn))[:_MOST_LANDMARKS])


def _turns(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw lots inside every group: a number from 0 for each of its members."""
    order = np.lexsort((rng.random(len(groups)), groups))
    first = np.searchsorted(groups[order], groups[order])
    turns = np.empty(len(groups), int)
    turns[order] = np.arange(len(groups)) - first
    return turns
