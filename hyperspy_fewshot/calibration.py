"""What leaving out support entries says: accuracy, temperature, thresholds."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax, stdtrit

# Significance level of the default threshold, one-sided. Support examples are
# picked because they are typical, so queries scatter more than they do.
DEFAULT_LEVEL = 0.001
# Bounds of the centre of the prior of 1 / temperature: a support set that is
# told apart without effort says little of the queries between its classes.
_PRIOR_GAIN = (2.0, 10.0)
# What stands in when no class has a second shot to leave out.
FALLBACK_TEMPERATURE = 0.1
FALLBACK_THRESHOLD = 0.0
# Equal examples score alike up to rounding, which must not reject them.
ROUNDING = 1e-5


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale to unit length along the last axis; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)


@dataclass(frozen=True)
class LeftOut:
    """Scores of the support, each entry judged without itself.

    All run over the m embeddings of the entries that can be left out.

    Parameters
    ----------
    scores
        Shape (m, K).
    classes, entries
        The class and the entry of each, shape (m,).
    weights
        Shape (m,), those of an entry sum to 1.
    pairs
        Mean and mean square of the scores against single entries of the same
        class, shape (m, 2); what only thresholds need.
    """

    scores: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    entries: np.ndarray
    pairs: np.ndarray | None = None

    @classmethod
    def score(
        cls,
        units: np.ndarray,
        entries: np.ndarray,
        means: np.ndarray,
        entry_classes: np.ndarray,
        prototypes: np.ndarray,
    ) -> "LeftOut":
        """Score every entry whose class keeps another one.

        Parameters
        ----------
        units
            Unit vectors of the embeddings, shape (n, d).
        entries
            The entry of each, shape (n,).
        means
            Mean of the unit vectors of every entry, shape (E, d).
        entry_classes
            The class of every entry, shape (E,).
        prototypes
            Of the whole support, shape (K, d).
        """
        parts: list[tuple[np.ndarray, ...]] = []
        for entry, own in enumerate(entry_classes):
            others = (entry_classes == own) & (np.arange(len(entry_classes)) != entry)
            if not others.any():
                continue
            without = prototypes.copy()
            without[own] = unit(means[others].mean(axis=0))
            scores = units[entries == entry] @ without.T
            single = units[entries == entry] @ unit(means[others]).T
            pairs = np.stack([single.mean(axis=1), (single**2).mean(axis=1)], axis=1)
            n = len(scores)
            parts.append((scores, np.full(n, own), np.full(n, 1 / n), np.full(n, entry), pairs))
        if not parts:
            none = np.empty(0, int)
            return cls(np.empty((0, len(prototypes))), none, none, none, np.empty((0, 2)))
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    @property
    def any(self) -> bool:
        """Whether there is an entry that can be left out."""
        return len(self.scores) > 0

    @property
    def n_entries(self) -> int:
        """Number of entries that can be left out."""
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
        if not reject:
            return np.full(len(counts), -np.inf)
        asked = not isinstance(reject, bool | np.bool_)
        level = float(reject) if asked else DEFAULT_LEVEL
        own = np.take_along_axis(self.scores, self.classes[:, np.newaxis], axis=1)[:, 0]
        judged, sizes = np.unique(self.classes, return_counts=True)
        # Two single embeddings score each other alike: they show no scatter.
        telling = judged[sizes > 2]
        freedom = int(counts[telling].sum()) - len(telling)
        if freedom < 1:
            if asked and self.any:
                warnings.warn(
                    f"Two examples a class support no significance level: reject={level:g} is "
                    f"replaced by the constant threshold {FALLBACK_THRESHOLD}. Give a class three.",
                    stacklevel=2,
                )
            return np.full(len(counts), FALLBACK_THRESHOLD)
        least = 1 / (self.n_entries + 1)
        if asked and level < least:
            warnings.warn(
                f"{self.n_entries} support entries support no significance level below "
                f"{least:.2g}; the threshold for reject={level:g} is extrapolated with Student's t.",
                stacklevel=2,
            )
        weights = np.where(np.isin(self.classes, telling), self.weights, 0.0)
        # A class of one entry is judged by how single entries score each other.
        mean, square = weights @ self.pairs / weights.sum()
        means = np.full(len(counts), mean)
        spreads = np.full(len(counts), np.sqrt(max(square - mean**2, 0.0)))
        for k in judged:
            means[k] = np.average(own[self.classes == k], weights=self.weights[self.classes == k])
        spreads[judged] = np.sqrt(weights @ (own - means[self.classes]) ** 2 / freedom)
        quantile = stdtrit(freedom, 1 - level)
        return means - quantile * spreads * np.sqrt(1 + 1 / counts) - ROUNDING
