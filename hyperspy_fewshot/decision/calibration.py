"""Calibration on left-out shots: accuracy and softmax temperature."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from hyperspy_fewshot.decision.vectors import group_means, margins_of

# Temperature if no class has a second shot, so that nothing can be left out.
FALLBACK_TEMPERATURE = 0.1
# Bounds of the centre of the prior of 1 / temperature. Shots are typical examples: if they are
# separated with ease, that says little about the queries between two classes, so their margins
# alone would give overconfident probabilities.
_PRIOR_GAIN = (2.0, 10.0)
# Range in which 1 / temperature is searched, wide enough for the prior to decide.
_GAIN_RANGE = (0.5, 200.0)
# Least variance of the margins, which keeps the ratio in the prior finite.
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, eq=False)
class LeftOutScores:
    """Scores (m, K) of shots by a classifier that was fitted without them.

    All arrays run over the m embeddings of the shots that can be left out, those whose class has
    another shot. The weights of one shot sum to 1.
    """

    scores: np.ndarray
    classes: np.ndarray
    shots: np.ndarray
    weights: np.ndarray

    def accuracy(self) -> float:
        """Fraction of shots whose mean score is highest for their own class; NaN without shots."""
        if not len(self.shots):
            return float("nan")
        _, first = np.unique(self.shots, return_index=True)
        best = group_means(self.scores, self.shots).argmax(axis=1)
        return float(np.mean(best == self.classes[first]))

    def temperature(self) -> float:
        """Temperature of the highest posterior probability, by which scores are divided.

        If all left-out shots are classified correctly, their likelihood alone is maximal at
        temperature 0. It is therefore combined with a prior: the logarithm of 1 / temperature is
        normally distributed with standard deviation 1 about that of `_prior_gain`.
        """
        if not len(self.shots):
            return FALLBACK_TEMPERATURE
        centre = np.log(self._prior_gain())
        rows = np.arange(len(self.scores))

        def cost(log_gain: float) -> float:
            log_p = np.log(softmax(np.exp(log_gain) * self.scores, axis=1) + 1e-12)
            likelihood = log_p[rows, self.classes] @ self.weights
            return -likelihood + 0.5 * (log_gain - centre) ** 2

        best = minimize_scalar(cost, bounds=np.log(_GAIN_RANGE), method="bounded")
        return float(np.exp(-best.x))

    def _prior_gain(self) -> float:
        """Most probable 1 / temperature before the likelihood is known, within bounds.

        It is 2 M / S² for normally distributed margins of mean M and variance S².
        """
        margins = margins_of(self.scores, self.classes)
        mean = np.average(margins, weights=self.weights)
        variance = np.average((margins - mean) ** 2, weights=self.weights)
        n = len(np.unique(self.shots))
        # Variance of one more margin under Student's t distribution of n - 1 degrees of freedom.
        variance *= (n + 1) / max(n - 3, 1)
        return np.clip(2 * mean / max(variance, _LEAST_VARIANCE), *_PRIOR_GAIN)
