"""The few-shot classifier: from embeddings to probabilities, labels and confidence."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from hyperspy_fewshot.decision.calibration import FALLBACK_TEMPERATURE
from hyperspy_fewshot.decision.rejection import (
    FALLBACK_THRESHOLD,
    class_prototypes,
    rejection_thresholds,
)
from hyperspy_fewshot.decision.ridge import feature_weights, fit_ridge, kernel_values
from hyperspy_fewshot.decision.vectors import TINY, l2_normalise
from hyperspy_fewshot.labels import MASKED, REJECTED

# Queries that are classified at once, which bounds the memory. Half or twice as many take about the
# same time.
_BATCH = 4096
# Range of the temperature, as a logarithm, in which doubt rises to this share of the highest.
_WIDEST, _MOST_DOUBT = 12.0, 0.95


@dataclass(frozen=True, eq=False)
class FewShotClassifier:
    """Classify embeddings by kernel ridge regression, reject by cosine to prototypes.

    An embedding is centred on the mean of the data set and L2-normalised [1]_. Its scores are those
    of a kernel ridge regression fitted to the support set [2]_; the class with the highest score
    gives the label. A prototype is the mean of the shots of a class [3]_. The resemblance to a
    class is the cosine of the angle to its prototype; a query that resembles no class is rejected.
    Temperature and thresholds are calibrated by leaving out whole shots.

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
        Least resemblance to every class, shape (K,). A query below all of them is rejected; -inf
        disables rejection. At least 95 % of the embeddings of a class's own shots reach its
        threshold, unless a higher level was asked for.
    leave_one_out
        Fraction of the left-out shots that are classified correctly; NaN without a second shot.
    landmarks
        Centred, weighted and L2-normalised embeddings of the support set with the bias feature,
        shape (m, d + 1).
    coefficients
        Contribution of each landmark to the score of each class, shape (m, K).
    bias
        Value that is appended to a centred embedding before it is compared with the landmarks.
    weights
        Weights of the numbers of a centred embedding for the scores, shape (d,). None: equal.
    shots
        Number of shots of each class, as far as they do not share most of their data.
    without_shots
        Coefficients without one of the shots each, shape (J, m, K).
    variance_shares
        Weight of each of them in the jackknife estimate of a variance, shape (J,).
    reject
        Rejection as it was asked for: True, False or a significance level.
    recipe
        How the data were prepared, see :func:`hyperspy_fewshot.embed`. It is stored and not used.

    References
    ----------
    .. [1] Y. Wang et al., SimpleShot, arXiv:1911.04623 (2019).
    .. [2] C. Saunders et al., Ridge regression learning algorithm in dual variables, ICML (1998).
    .. [3] J. Snell et al., Prototypical networks, NeurIPS (2017).
    """

    class_names: tuple[str, ...]
    centre: np.ndarray = field(repr=False)
    prototypes: np.ndarray = field(repr=False)
    temperature: float
    thresholds: np.ndarray
    leave_one_out: float
    landmarks: np.ndarray = field(repr=False)
    coefficients: np.ndarray = field(repr=False)
    bias: float
    shots: tuple[int, ...]
    without_shots: np.ndarray = field(repr=False)
    variance_shares: np.ndarray = field(repr=False)
    weights: np.ndarray | None = field(default=None, repr=False)
    reject: bool | float = True
    recipe: Any = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        embeddings: np.ndarray,
        shots: np.ndarray,
        shot_classes: np.ndarray,
        class_names: tuple[str, ...],
        *,
        centre: np.ndarray | None = None,
        feature_groups: tuple[int, ...] | None = None,
        resemblance: float = -1.0,
        reject: bool | float = True,
        recipe: Any = None,
    ) -> "FewShotClassifier":
        """Fit a classifier to the embeddings of a support set.

        Parameters
        ----------
        embeddings
            Shape (n, d).
        shots
            The shot of the support set that each embedding belongs to, shape (n,), values 0 to
            E - 1. All shots of a class have equal weight, whatever their number of embeddings.
        shot_classes
            The class of each shot, shape (E,), values 0 to K - 1.
        class_names
            Names of the K classes.
        centre
            Mean embedding of the data set, shape (d,). None: that of the support set.
        feature_groups
            Lengths of the groups of numbers that an embedding joins. Each group is weighted by how
            well it separates the shots. None: one group.
        resemblance
            Least resemblance of embeddings of one class, from the scatter of the data. With the
            default rejection no threshold is lower, unless the shots of the class are.
        reject
            True: thresholds at a significance level of 0.001, and from `resemblance`; a float: at
            this level; False: no rejection.
        recipe
            How the data were prepared; stored as it is.

        Raises
        ------
        ValueError
            If there are fewer than two classes, a class has no shot, a shot has no embedding, an
            embedding is not finite, or the feature groups do not sum to d.

        Warns
        -----
        UserWarning
            If no class has a second shot, or if there are too few for the significance level.
        """
        embeddings, shots, shot_classes = map(np.asarray, (embeddings, shots, shot_classes))
        centre = np.mean(embeddings, axis=0) if centre is None else np.asarray(centre)
        reject = checked_reject(reject)
        _check(embeddings, shots, shot_classes, class_names, centre)
        centred = embeddings.astype(np.float64) - centre
        units = l2_normalise(centred)
        weights = feature_weights(units, shots, shot_classes, feature_groups)
        weighted = centred if weights is None else centred * weights
        ridge = fit_ridge(weighted, shots, shot_classes)
        prototypes = class_prototypes(units, shots, shot_classes)
        thresholds = rejection_thresholds(
            units, shots, shot_classes, prototypes, reject, resemblance
        )
        leave_one_out = ridge.left_out.accuracy()
        if np.isnan(leave_one_out):
            warnings.warn(
                "With one example a class the classifier cannot be tested on left-out examples "
                "(examples that share more than half of their data count as one). Temperature and "
                f"threshold are constants ({FALLBACK_TEMPERATURE} and {FALLBACK_THRESHOLD}), and probabilities "
                "are not calibrated. Give at least one class a second example.",
                stacklevel=2,
            )
        return cls(
            class_names=tuple(class_names),
            centre=centre.astype(np.float32),
            prototypes=prototypes.astype(np.float32),
            temperature=ridge.left_out.temperature(),
            thresholds=thresholds,
            leave_one_out=leave_one_out,
            landmarks=ridge.landmarks,
            coefficients=ridge.coefficients,
            bias=ridge.bias,
            shots=tuple(np.bincount(shot_classes).tolist()),
            without_shots=ridge.without_shots,
            variance_shares=ridge.variance_shares,
            weights=None if weights is None else weights.astype(np.float32),
            reject=reject,
            recipe=recipe,
        )

    @property
    def rejects(self) -> bool:
        """Whether queries can be rejected."""
        return bool(np.isfinite(self.thresholds).any())

    def check_reject(self, reject: bool | float) -> None:
        """Refuse a `reject` that differs from that of this classifier; True is the default."""
        if reject is not True and reject != self.reject:
            raise ValueError(
                f"reject={reject!r} contradicts what the classifier learnt with ({self.reject!r}). "
                "Leave reject out, or classify from a support set."
            )

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Compute the scores of embeddings (..., d) for every class, shape (..., K); NaN for NaN."""
        return _in_batches(lambda rows: self._judge(rows)[0], embeddings)

    def resemblance(self, embeddings: np.ndarray) -> np.ndarray:
        """Compute the cosines of embeddings (..., d) to the prototypes, shape (..., K); NaN for NaN."""
        return _in_batches(lambda rows: self._judge(rows)[1], embeddings)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Classify embeddings (..., d); those with NaN are masked.

        Returns
        -------
        numpy.ndarray
            float32, shape (..., K + 2): the probability of every class, the label (-1 rejected, -2
            masked), and the confidence, which is the probability of the label's class and NaN for
            rejected and masked queries.
        """
        return _in_batches(self._classify, embeddings)

    def spread(self, sample: np.ndarray) -> np.ndarray:
        """Estimate how much the fraction of each class depends on the choice of its shots.

        Parameters
        ----------
        sample
            Embeddings of a sample of the data set, shape (n, d), finite.

        Returns
        -------
        numpy.ndarray
            Standard deviations of the fractions (K,) by the jackknife. Of a class of one shot the
            choice is not included.
        """
        scores, best = self._jackknife(sample)
        counts = [np.bincount(found, minlength=scores.shape[1]) for found in best]
        changes = np.reshape(counts, (-1, scores.shape[1])) / len(scores)
        changes -= np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]) / len(scores)
        return np.sqrt(self.variance_shares @ changes**2)

    def tempered(self, sample: np.ndarray) -> Self:
        """Return the classifier with confidence as low as it depends on the choice of the shots.

        The temperature is raised until the mean of 1 less the highest probability is no lower than
        the share of the queries whose class would change with other shots, by the jackknife.

        Parameters
        ----------
        sample
            Embeddings of a sample of the data set, shape (n, d), finite.
        """
        scores, best = self._jackknife(sample)
        changed = (best != scores.argmax(axis=1)).mean(axis=1)
        target = float(self.variance_shares @ changed)
        target = min(target, _MOST_DOUBT * (1 - 1 / scores.shape[1]))

        def lack(log_temperature: float) -> float:
            probabilities = softmax(scores / np.exp(log_temperature), axis=1)
            return target - 1 + float(probabilities.max(axis=1).mean())

        low = np.log(self.temperature)
        if lack(low) <= 0:
            return self
        return replace(self, temperature=float(np.exp(brentq(lack, low, low + _WIDEST, xtol=1e-3))))

    def _jackknife(self, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (n, K) of some of a sample, and its best classes without one shot each (J, n)."""
        centred = sample[:: max(1, -(-len(sample) // _BATCH))] - self.centre
        squares = np.square(centred)
        values = kernel_values(centred, squares, self.landmarks, self.bias, self.weights)
        best = [(values @ without).argmax(axis=1) for without in self.without_shots]
        return values @ self.coefficients, np.reshape(best, (-1, len(values)))

    def _classify(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities, label and confidence of embeddings (n, d)."""
        scores, resemblance = self._judge(rows)
        n_classes = scores.shape[1]
        packed = np.empty((len(rows), n_classes + 2), np.float32)
        packed[:, :n_classes] = softmax(scores / self.temperature, axis=1)
        labels, confidence = packed[:, -2], packed[:, -1]
        labels[:] = scores.argmax(axis=1)
        labels[(resemblance < self.thresholds).all(axis=1)] = REJECTED
        labels[np.isnan(scores[:, 0])] = MASKED
        confidence[:] = packed[:, :n_classes].max(axis=1)
        confidence[labels < 0] = np.nan
        return packed

    def _judge(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and resemblances of embeddings (n, d)."""
        with np.errstate(invalid="ignore"):
            centred = rows - self.centre
            squares = np.square(centred)
            # Without the weights: a query of no class may differ in features that do not separate
            # the classes.
            lengths = np.maximum(np.sqrt(squares.sum(axis=1, keepdims=True)), TINY)
            values = kernel_values(centred, squares, self.landmarks, self.bias, self.weights)
            return values @ self.coefficients, centred @ self.prototypes.T / lengths


def _in_batches(function: Callable[[np.ndarray], np.ndarray], embeddings: np.ndarray) -> np.ndarray:
    """Apply a function of arrays (n, d) to embeddings (..., d), a batch of rows at a time."""
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    starts = range(0, max(len(rows), 1), _BATCH)
    joined = np.concatenate([function(rows[start : start + _BATCH]) for start in starts])
    return joined.reshape(*embeddings.shape[:-1], joined.shape[-1])


def _check(embeddings, shots, shot_classes, class_names, centre) -> None:
    """Raise a ValueError if a classifier cannot be fitted."""
    if len(class_names) < 2:
        raise ValueError(f"At least two classes are needed, got {list(class_names)}.")
    counts = np.bincount(shot_classes, minlength=len(class_names))
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
