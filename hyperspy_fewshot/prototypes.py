"""The few-shot classifier: shots and prototypes among embeddings, calibrated."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import softmax

from .calibration import FALLBACK_TEMPERATURE, FALLBACK_THRESHOLD, ROUNDING, LeftOut, unit
from .heads import block_weights, fit_ridge, kernel_scores, lifted

REJECTED = -1
MASKED = -2


@dataclass(frozen=True, eq=False)
class FewShotClassifier:
    """Kernel ridge for the class, cosine prototypes for rejection, both calibrated.

    An embedding is centred on the mean of the data set and scaled to unit
    length [1]_. Its scores are those of a kernel ridge regression on the
    support set [2]_, and the highest gives the class. What resembles no class
    is judged by prototypes: a class is the mean of its support entries [3]_,
    and the resemblance is the cosine of the angle to it. What makes scores
    into probabilities and rejects is judged by leaving out whole support
    entries.

    Parameters
    ----------
    class_names
        Names of the K classes, in the order of the labels.
    centre
        Mean embedding of the data set, shape (d,).
    prototypes
        Unit vectors, shape (K, d).
    temperature
        Divides the scores before the softmax.
    thresholds
        Least resemblance to every class, shape (K,); a query below all of
        them is rejected. -inf: nothing is. At least 19 of 20 embeddings of the
        support set reach theirs, unless a higher level was asked for.
    leave_one_out
        Share of support entries classified right when left out, mean over
        those that can be; NaN if none can.
    landmarks, coefficients
        Unit vectors of the support, shape (m, d + 1), and how much each speaks
        for every class, shape (m, K). None: the resemblances are the scores.
    lift
        What is appended to a centred embedding before it is scaled to unit
        length and compared with landmarks.
    weights
        Weights of the numbers of a centred embedding for the scores, shape
        (d,); None: alike.
    setup
        What the data were prepared with: encoder, kind of item, chip size and
        so on; see :func:`hyperspy_fewshot.classify`.

    References
    ----------
    .. [1] Y. Wang et al., SimpleShot, arXiv:1911.04623 (2019).
    .. [2] C. Saunders, A. Gammerman, V. Vovk, Ridge regression learning
       algorithm in dual variables, ICML (1998).
    .. [3] J. Snell et al., Prototypical networks, NeurIPS (2017).
    """

    class_names: tuple[str, ...]
    centre: np.ndarray = field(repr=False)
    prototypes: np.ndarray = field(repr=False)
    temperature: float
    thresholds: np.ndarray
    leave_one_out: float
    landmarks: np.ndarray | None = field(default=None, repr=False)
    coefficients: np.ndarray | None = field(default=None, repr=False)
    lift: float = 0.0
    weights: np.ndarray | None = field(default=None, repr=False)
    setup: Any = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        embeddings: np.ndarray,
        entries: np.ndarray,
        entry_classes: np.ndarray,
        class_names: tuple[str, ...],
        *,
        centre: np.ndarray | None = None,
        blocks: tuple[int, ...] | None = None,
        reject: bool | float = True,
        setup: Any = None,
    ) -> "FewShotClassifier":
        """Learn the classes from the embeddings of a support set.

        Parameters
        ----------
        embeddings
            Shape (n, d).
        entries
            Which entry of the support set each embedding belongs to, shape
            (n,), values 0 to E - 1. Entries count alike, whatever their size.
        entry_classes
            The class of each entry, shape (E,), values 0 to K - 1.
        class_names
            Names of the K classes.
        centre
            Mean embedding of the data set, shape (d,); None: of the support.
        blocks
            Lengths of the parts that an embedding joins, which sum to d: each
            is weighted by how well it tells the shots apart. None: one part.
        reject
            True: thresholds at the default level; a float: at that level;
            False: none.
        setup
            Kept as it is.

        Raises
        ------
        ValueError
            If a class has no entry, an entry no embedding, there is only one
            class, an embedding is not finite, or the blocks do not sum to d.
        """
        embeddings, entries, entry_classes = map(np.asarray, (embeddings, entries, entry_classes))
        counts = np.bincount(entry_classes, minlength=len(class_names))
        if len(class_names) < 2:
            raise ValueError(f"At least two classes are needed, got {list(class_names)}.")
        if (counts == 0).any():
            raise ValueError(f"Class {class_names[int(counts.argmin())]!r} has no examples.")
        if not np.bincount(entries, minlength=len(entry_classes)).all():
            raise ValueError("An entry of the support set has no embedding.")
        centre = np.mean(embeddings, axis=0) if centre is None else np.asarray(centre)
        if not (np.isfinite(embeddings).all() and np.isfinite(centre).all()):
            raise ValueError(
                "The encoder gave NaN or infinite embeddings of the support or of the data set."
            )
        centred = embeddings.astype(np.float64) - centre
        k = len(class_names)
        units = unit(centred)
        weights = block_weights(units, entries, entry_classes, k, blocks)
        ridge = fit_ridge(centred * weights, entries, entry_classes, k)
        means = np.stack([units[entries == e].mean(axis=0) for e in range(len(entry_classes))])
        prototypes = _prototypes(means, entry_classes, k)
        resemblance = LeftOut.score(units, entries, means, entry_classes, prototypes)
        # A higher level that was asked for is meant for the support set, too.
        share = max(0.05, 0.0 if isinstance(reject, bool | np.bool_) else reject)
        least = _least_resemblance(units, entry_classes[entries], prototypes, share)
        if not ridge.left_out.any:
            warnings.warn(
                "With one example a class nothing can be left out (examples that share most of their "
                "data count as one): temperature and threshold are "
                f"constants ({FALLBACK_TEMPERATURE} and {FALLBACK_THRESHOLD}), probabilities are "
                "not calibrated. Give at least one class a second example.",
                stacklevel=2,
            )
        return cls(
            class_names=tuple(class_names),
            centre=np.asarray(centre, np.float32),
            prototypes=prototypes.astype(np.float32),
            temperature=ridge.left_out.temperature(),
            thresholds=np.minimum(resemblance.thresholds(reject, counts), least),
            leave_one_out=ridge.left_out.accuracy(),
            landmarks=ridge.landmarks,
            coefficients=ridge.coefficients,
            lift=ridge.lift,
            weights=None if blocks is None else weights.astype(np.float32),
            setup=setup,
        )

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """How much queries belong to every class, shape (..., K); NaN for NaN."""
        return self._judge(embeddings)[0]

    def resemblance(self, embeddings: np.ndarray) -> np.ndarray:
        """Cosine to every prototype, shape (..., K); NaN for NaN."""
        return self._judge(embeddings)[1]

    def _judge(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and resemblance."""
        with np.errstate(invalid="ignore"):
            centred = embeddings - self.centre
            # What is like no class may differ in what tells the classes nothing.
            resemblance = unit(centred) @ self.prototypes.T
            if self.landmarks is None:
                return resemblance, resemblance
            weighted = centred if self.weights is None else centred * self.weights
            units = lifted(weighted, self.lift)
            return kernel_scores(units, self.landmarks, self.coefficients), resemblance

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Classify embeddings.

        Parameters
        ----------
        embeddings
            Shape (..., d); NaN marks what is masked.

        Returns
        -------
        numpy.ndarray
            float32, shape (..., K + 2): the probability of every class, the
            label (-1 rejected, -2 masked), and the confidence, which is the
            probability of the label's class and NaN where there is none.
        """
        scores, resemblance = self._judge(embeddings)
        probabilities = softmax(scores / self.temperature, axis=-1)
        labels = np.argmax(np.nan_to_num(scores, nan=-np.inf), axis=-1)
        confidence = probabilities.max(axis=-1)
        masked = np.isnan(scores[..., 0])
        rejected = ~masked & (resemblance < self.thresholds).all(axis=-1)
        labels = np.where(masked, MASKED, np.where(rejected, REJECTED, labels))
        confidence = np.where(labels < 0, np.nan, confidence)
        return np.concatenate(
            [probabilities, labels[..., np.newaxis], confidence[..., np.newaxis]], axis=-1
        ).astype(np.float32)


def _least_resemblance(
    units: np.ndarray, classes: np.ndarray, prototypes: np.ndarray, share: float
) -> np.ndarray:
    """Resemblance that all but a share of a class's own embeddings reach, shape (K,).

    A class more varied than the others may not lose what it was shown by.
    """
    own = (units * prototypes[classes]).sum(axis=1)
    least = [np.quantile(own[classes == k], share, method="lower") for k in range(len(prototypes))]
    return np.array(least) - ROUNDING


def _prototypes(means: np.ndarray, entry_classes: np.ndarray, k: int) -> np.ndarray:
    return unit(np.stack([means[entry_classes == c].mean(axis=0) for c in range(k)]))
