"""The few-shot classifier: prototypes among embeddings, calibrated."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import softmax

REJECTED = -1
MASKED = -2

# Significance level of the default threshold, one-sided. Support examples are
# picked because they are typical, so queries scatter more than they do.
DEFAULT_LEVEL = 0.002
# Bounds of the centre of the prior of 1 / temperature: a support set that is
# told apart without effort says little of the queries between its classes.
_PRIOR_GAIN = (2.0, 10.0)
# What stands in when no class has a second shot to leave out.
FALLBACK_TEMPERATURE = 0.1
FALLBACK_THRESHOLD = 0.0


@dataclass(frozen=True, eq=False)
class FewShotClassifier:
    """Cosine prototypes with fitted temperature and rejection thresholds.

    An embedding is centred on the mean of the data set and scaled to unit
    length [1]_; a class is the mean of its support entries [2]_, and the score
    of a query is the cosine of the angle to that prototype. What makes scores
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
        Least score of every class, shape (K,); a query below all of them is
        rejected. -inf: nothing is.
    leave_one_out
        Share of support entries classified right when left out, mean over
        those that can be; NaN if none can.
    setup
        What the data were prepared with: encoder, kind of item, chip size and
        so on; see :func:`hyperspy_fewshot.classify`.

    References
    ----------
    .. [1] Y. Wang et al., SimpleShot, arXiv:1911.04623 (2019).
    .. [2] J. Snell et al., Prototypical networks, NeurIPS (2017).
    """

    class_names: tuple[str, ...]
    centre: np.ndarray
    prototypes: np.ndarray
    temperature: float
    thresholds: np.ndarray
    leave_one_out: float
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
        reject
            True: thresholds at the default level; a float: at that level;
            False: none.
        setup
            Kept as it is.

        Raises
        ------
        ValueError
            If a class has no entry, or there is only one class.
        """
        entry_classes = np.asarray(entry_classes)
        counts = np.bincount(entry_classes, minlength=len(class_names))
        if len(class_names) < 2:
            raise ValueError(f"At least two classes are needed, got {list(class_names)}.")
        if (counts == 0).any():
            raise ValueError(f"Class {class_names[int(counts.argmin())]!r} has no examples.")
        centre = np.mean(embeddings, axis=0) if centre is None else centre
        units = _unit(np.asarray(embeddings, np.float64) - centre)
        means = np.stack([units[entries == e].mean(axis=0) for e in range(len(entry_classes))])
        prototypes = _prototypes(means, entry_classes, len(class_names))
        left_out = _LeftOut.score(units, entries, means, entry_classes, prototypes)
        if not left_out.any:
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
            temperature=left_out.temperature(),
            thresholds=left_out.thresholds(reject, counts),
            leave_one_out=left_out.accuracy(),
            setup=setup,
        )

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Cosine to every prototype, shape (..., K); NaN for NaN."""
        return _unit(embeddings - self.centre) @ self.prototypes.T

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
        scores = self.scores(embeddings)
        probabilities = softmax(scores / self.temperature, axis=-1)
        labels = np.argmax(np.nan_to_num(scores, nan=-2.0), axis=-1)
        confidence = probabilities.max(axis=-1)
        masked = np.isnan(scores[..., 0])
        rejected = ~masked & (scores < self.thresholds).all(axis=-1)
        labels = np.where(masked, MASKED, np.where(rejected, REJECTED, labels))
        confidence = np.where(labels < 0, np.nan, confidence)
        return np.concatenate(
            [probabilities, labels[..., np.newaxis], confidence[..., np.newaxis]], axis=-1
        ).astype(np.float32)


@dataclass(frozen=True)
class _LeftOut:
    """Scores of the support, each entry judged without itself.

    `scores` (m, K), `classes` (m,) and `weights` (m,) run over the embeddings
    of the entries that can be left out; the weights of an entry sum to 1.
    """

    scores: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    entries: np.ndarray

    @classmethod
    def score(cls, units, entries, means, entry_classes, prototypes) -> "_LeftOut":
        """Score every entry whose class keeps another one."""
        parts: list[tuple[np.ndarray, ...]] = []
        for entry, own in enumerate(entry_classes):
            others = (entry_classes == own) & (np.arange(len(entry_classes)) != entry)
            if not others.any():
                continue
            without = prototypes.copy()
            without[own] = _unit(means[others].mean(axis=0))
            scores = units[entries == entry] @ without.T
            n = len(scores)
            parts.append((scores, np.full(n, own), np.full(n, 1 / n), np.full(n, entry)))
        if not parts:
            empty = np.empty(0)
            return cls(np.empty((0, len(prototypes))), empty.astype(int), empty, empty)
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    @property
    def any(self) -> bool:
        return len(self.scores) > 0

    @property
    def n_entries(self) -> int:
        return len(np.unique(self.entries))

    def accuracy(self) -> float:
        """Share of entries whose mean score is highest for their own class."""
        if not self.any:
            return float("nan")
        right = []
        for entry in np.unique(self.entries):
            here = self.entries == entry
            right.append(self.scores[here].mean(axis=0).argmax() == self.classes[here][0])
        return float(np.mean(right))

    def temperature(self) -> float:
        """Temperature of most posterior probability, see the notes.

        Notes
        -----
        The likelihood of the left-out entries alone has its maximum at
        temperature 0 when they are all right. The prior of the logarithm of
        1 / temperature is a normal distribution of width 1 around the value
        for Gaussian margins of mean M and standard deviation S, 2 M / S^2,
        with S widened for the few entries that it rests on, and the whole
        bounded.
        """
        if not self.any:
            return FALLBACK_TEMPERATURE
        own = np.take_along_axis(self.scores, self.classes[:, np.newaxis], axis=1)[:, 0]
        others = self.scores.copy()
        others[np.arange(len(own)), self.classes] = -np.inf
        margin = own - others.max(axis=1)
        mean = np.average(margin, weights=self.weights)
        variance = np.average((margin - mean) ** 2, weights=self.weights)
        n = self.n_entries
        # The variance of a further margin under the t distribution of n - 1.
        variance *= (n + 1) / max(n - 3, 1)
        centre = np.log(np.clip(2 * mean / max(variance, 1e-4), *_PRIOR_GAIN))

        def cost(log_gain: float) -> float:
            log_p = np.log(softmax(np.exp(log_gain) * self.scores, axis=1) + 1e-12)
            likelihood = log_p[np.arange(len(own)), self.classes] @ self.weights
            return -likelihood + 0.5 * (log_gain - centre) ** 2

        best = minimize_scalar(cost, bounds=(np.log(0.5), np.log(200.0)), method="bounded")
        return float(np.exp(-best.x))

    def thresholds(self, reject: bool | float, counts: np.ndarray) -> np.ndarray:
        """Least score of every class.

        The scores of entries left out scatter around the mean of their class;
        the scatter is pooled over classes, and the threshold is the lower
        bound for one more score of Student's t distribution: mean - t s
        sqrt(1 + 1 / n).

        Parameters
        ----------
        reject
            True, False, or the significance level.
        counts
            Entries of every class, shape (K,).
        """
        if reject is False:
            return np.full(len(counts), -np.inf)
        level = DEFAULT_LEVEL if reject is True else float(reject)
        own = np.take_along_axis(self.scores, self.classes[:, np.newaxis], axis=1)[:, 0]
        judged = np.unique(self.classes)
        freedom = self.n_entries - len(judged)
        if freedom < 1:
            return np.full(len(counts), FALLBACK_THRESHOLD)
        least = 1 / (self.n_entries + 1)
        if reject is not True and level < least:
            warnings.warn(
                f"{self.n_entries} support entries support no significance level below "
                f"{least:.2g}; the threshold for reject={level:g} is extrapolated with Student's t.",
                stacklevel=2,
            )
        means = np.array(
            [
                np.average(own[self.classes == k], weights=self.weights[self.classes == k])
                if k in judged
                else np.nan
                for k in range(len(counts))
            ]
        )
        residual = own - means[self.classes]
        spread = np.sqrt(self.weights @ residual**2 / freedom)
        # A class of one entry is judged by what the others show.
        means = np.where(np.isnan(means), np.nanmean(means), means)
        quantile = stats.t.ppf(1 - level, freedom)
        return means - quantile * spread * np.sqrt(1 + 1 / counts)


def _prototypes(means: np.ndarray, entry_classes: np.ndarray, k: int) -> np.ndarray:
    return _unit(np.stack([means[entry_classes == c].mean(axis=0) for c in range(k)]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale to unit length along the last axis; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)
