"""What leaving out support entries says: accuracy, temperature, thresholds."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import softmax

# Significance level of the default threshold, one-sided. Support examples are
# picked because they are typical, so queries scatter more than they do.
DEFAULT_LEVEL = 0.002
# Bounds of the centre of the prior of 1 / temperature: a support set that is
# told apart without effort says little of the queries between its classes.
_PRIOR_GAIN = (2.0, 10.0)
# What stands in when no class has a second shot to leave out.
FALLBACK_TEMPERATURE = 0.1
FALLBACK_THRESHOLD = 0.0


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale to unit length along the last axis; zero stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)


@dataclass(frozen=True)
class LeftOut:
    """Scores of the support, each entry judged without itself.

    `scores` (m, K), `classes` (m,) and `weights` (m,) run over the embeddings
    of the entries that can be left out; the weights of an entry sum to 1.
    """

    scores: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    entries: np.ndarray

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
            n = len(scores)
            parts.append((scores, np.full(n, own), np.full(n, 1 / n), np.full(n, entry)))
        if not parts:
            empty = np.empty(0)
            return cls(np.empty((0, len(prototypes))), empty.astype(int), empty, empty)
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
        judged = np.unique(self.classes)
        freedom = self.n_entries - len(judged)
        if freedom < 1:
            return np.full(len(counts), FALLBACK_THRESHOLD)
        least = 1 / (self.n_entries + 1)
        if asked and level < least:
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
