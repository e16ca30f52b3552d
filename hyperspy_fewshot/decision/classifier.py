"""The few-shot classifier: from embeddings to probabilities, labels and confidence."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from scipy.special import softmax

from hyperspy_fewshot.decision.arguments import check_support, checked_reject
from hyperspy_fewshot.decision.calibration import FALLBACK_TEMPERATURE
from hyperspy_fewshot.decision.negatives import fit_negatives, without_negatives
from hyperspy_fewshot.decision.rare import hold_back, mean_shots, rare_filters
from hyperspy_fewshot.decision.rejection import (
    FALLBACK_THRESHOLD,
    class_prototypes,
    least_resemblance,
    rejection_thresholds,
)
from hyperspy_fewshot.decision.resampling import (
    fraction_spread,
    replaced_scores,
)
from hyperspy_fewshot.decision.ridge import (
    MOST_LEFT_OUT,
    feature_weights,
    fit_ridge,
    kernel_values,
)
from hyperspy_fewshot.decision.vectors import TINY, l2_normalise
from hyperspy_fewshot.labels import MASKED, NEGATIVE, REJECTED

# Queries that are classified at once, which bounds the memory. Half or twice as many take about the
# same time.
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class FewShotClassifier:
    """Classify embeddings by kernel ridge regression, reject by cosine to prototypes.

    An embedding is centred on the mean of the data set and L2-normalised [1]_. Its scores are those
    of a kernel ridge regression fitted to the support set [2]_; the class with the highest score
    gives the label. A prototype is the mean of the shots of a class [3]_. The resemblance to a
    class is the cosine of the angle to its prototype; a query that resembles no class is rejected.
    Temperature and thresholds are calibrated by leaving out whole shots.

    Negative examples belong to no class. They are one more class in a regression of their own; a
    query whose score is highest for them is rejected.

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
    shot_means, shot_mean_classes
        Centred mean embeddings of some shots, shape (S, d), and the class of each, shape (S,). Of a
        class with a single shot they are some of its embeddings.
    rare, filters
        Rare classes, shape (R,), and what tells them from the frequent ones, shape (R, d + 1); see
        :func:`~hyperspy_fewshot.decision.rare.rare_filters`.
    negative_landmarks, negative_coefficients
        As `landmarks` and `coefficients`, of the classes and, as the last one, of the negative
        examples, shapes (m', d + 1) and (m', K + 1). Without negative examples m' is 0.
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
    shot_means: np.ndarray = field(repr=False)
    shot_mean_classes: np.ndarray = field(repr=False)
    rare: np.ndarray = field(repr=False)
    filters: np.ndarray = field(repr=False)
    negative_landmarks: np.ndarray = field(repr=False)
    negative_coefficients: np.ndarray = field(repr=False)
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
        scatter: tuple[float, float] = (-1.0, 0.0),
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
            The class of each shot, shape (E,), values 0 to K - 1, or -1 for a negative example.
        class_names
            Names of the K classes.
        centre
            Mean embedding of the data set, shape (d,). None: that of the support set.
        feature_groups
            Lengths of the groups of numbers that an embedding joins. Each group is weighted by how
            well it separates the shots. None: one group.
        scatter
            Least cosine, seen from the centre, and largest distance between embeddings of one class.
            With the default rejection a threshold is as high as the lower of the two resemblances
            that they imply, unless the shots of the class resemble each other less.
        reject
            True: thresholds at a significance level of 0.001, and from `scatter`; a float: at
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
        reject = checked_reject(reject)
        is_own = shot_classes[shots] >= 0
        centre = np.mean(embeddings[is_own], axis=0) if centre is None else np.asarray(centre)
        check_support(embeddings, shots, shot_classes, class_names, centre)
        all_centred, all_shots = embeddings.astype(np.float64) - centre, (shots, shot_classes)
        centred, (shots, shot_classes) = all_centred[is_own], without_negatives(*all_shots)
        units = l2_normalise(centred)
        weights = feature_weights(units, shots, shot_classes, feature_groups)
        factors = 1.0 if weights is None else weights
        ridge = fit_ridge(centred * factors, shots, shot_classes)
        negatives = fit_negatives(all_centred * factors, *all_shots, ridge.bias)
        prototypes = class_prototypes(units, shots, shot_classes)
        least = least_resemblance(centred, shots, shot_classes, scatter)
        thresholds = rejection_thresholds(units, shots, shot_classes, prototypes, reject, least)
        leave_one_out = ridge.left_out.accuracy()
        if np.isnan(leave_one_out):
            warnings.warn(
                "With one example a class the classifier cannot be tested on left-out examples "
                "(examples that share more than half of their data count as one). Temperature and "
                f"threshold are constants ({FALLBACK_TEMPERATURE} and {FALLBACK_THRESHOLD}), and probabilities "
                "are not calibrated. Give at least one class a second example.",
                stacklevel=2,
            )
        d, shot_means = centred.shape[1], mean_shots(centred, shots, shot_classes, MOST_LEFT_OUT)
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
            shot_means=shot_means[0].astype(np.float32),
            shot_mean_classes=shot_means[1],
            rare=np.empty(0, np.int64),
            filters=np.empty((0, d + 1), np.float32),
            negative_landmarks=negatives[0],
            negative_coefficients=negatives[1],
            weights=None if weights is None else weights.astype(np.float32),
            reject=reject,
            recipe=recipe,
        )

    @property
    def rejects(self) -> bool:
        """Whether queries can be rejected."""
        return bool(np.isfinite(self.thresholds).any() or len(self.negative_landmarks))

    def check_reject(self, reject: bool | float) -> None:
        """Refuse a `reject` that differs from that of this classifier; True is the default."""
        if reject is not True and reject != self.reject:
            raise ValueError(
                f"reject={reject!r} contradicts what the classifier learnt with ({self.reject!r}). "
                "Leave reject out, or classify from a support set."
            )

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Compute the scores of embeddings (..., d) for every class, shape (..., K); NaN for NaN."""
        return _in_batches(lambda rows: self._judge(*self._prepared(rows))[0], embeddings)

    def resemblance(self, embeddings: np.ndarray) -> np.ndarray:
        """Compute the cosines of embeddings (..., d) to the prototypes, shape (..., K); NaN for NaN."""
        return _in_batches(lambda rows: self._judge(*self._prepared(rows))[1], embeddings)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Classify embeddings (..., d); those with NaN are masked.

        Returns
        -------
        numpy.ndarray
            float32, shape (..., K + 2): the probability of every class, the label (-1 rejected, -2
            masked), and the confidence, which is the probability of the label's class and NaN for
            rejected and masked queries.
        """
        packed = self.judge(embeddings)
        packed[packed[..., -2] == NEGATIVE, -2] = REJECTED
        return packed

    def judge(self, embeddings: np.ndarray) -> np.ndarray:
        """Classify as :meth:`predict` does, with a label of its own (-3) near negative examples."""
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
            Standard deviations of the fractions, shape (K,). Shots are left out one by one
            (jackknife); the only shot of a class is replaced by queries that are labelled as this
            class (parametric bootstrap).
        """
        return fraction_spread(*self._resampled(self._centred(sample)))

    def for_frequencies_of(self, sample: np.ndarray) -> Self:
        """Return the classifier with filters for the classes that are rare in a data set.

        Parameters
        ----------
        sample
            Embeddings of a sample of the data set, shape (n, d), finite.
        """
        centred = self._centred(sample)
        scores, _ = self._judge(centred, np.square(centred))
        probabilities = softmax(scores / self.temperature, axis=1)
        rare, filters = rare_filters(
            centred, self.shot_means, self.shot_mean_classes, probabilities
        )
        return replace(self, rare=rare, filters=filters)

    def _centred(self, sample: np.ndarray) -> np.ndarray:
        """Some of the embeddings of a sample, centred."""
        return sample[:: max(1, -(-len(sample) // _BATCH))] - self.centre

    def _resampled(self, centred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of centred embeddings (n, K), their classes with other shots, and the shares."""
        values = kernel_values(centred, np.square(centred), self.landmarks, self.bias, self.weights)
        scores = self._held_back(values @ self.coefficients, centred)
        replaced = replaced_scores(
            centred,
            scores.argmax(axis=1),
            self.shot_means,
            self.shot_mean_classes,
            np.flatnonzero(np.array(self.shots) == 1),
            self.bias,
            self.weights,
        )
        # One at a time: all scores together would take much memory.
        best = [self._best(values @ without, centred) for without in self.without_shots]
        best += [self._best(other, centred) for other in replaced]
        shares = np.append(self.variance_shares, np.full(len(replaced), 1 / max(1, len(replaced))))
        return scores, np.reshape(best, (-1, len(scores))), shares

    def _best(self, scores: np.ndarray, centred: np.ndarray) -> np.ndarray:
        return self._held_back(scores, centred).argmax(axis=1)

    def _held_back(self, scores: np.ndarray, centred: np.ndarray) -> np.ndarray:
        return hold_back(scores, centred, self.rare, self.filters, self.temperature)

    def _classify(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities, label and confidence of embeddings (n, d)."""
        centred, squares = self._prepared(rows)
        with np.errstate(invalid="ignore"):
            scores, resemblance = self._judge(centred, squares)
            scores = self._held_back(scores, centred)
        packed = np.empty((len(rows), scores.shape[1] + 2), np.float32)
        probabilities, labels, confidence = packed[:, :-2], packed[:, -2], packed[:, -1]
        probabilities[:] = softmax(scores / self.temperature, axis=1)
        labels[:] = scores.argmax(axis=1)
        labels[(resemblance < self.thresholds).all(axis=1)] = REJECTED
        if len(self.negative_landmarks):
            labels[self._is_negative(centred, squares)] = NEGATIVE
        labels[np.isnan(scores[:, 0])] = MASKED
        confidence[:] = probabilities.max(axis=1)
        confidence[labels < 0] = np.nan
        return packed

    def _prepared(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centred embeddings (n, d) and their squares."""
        centred = rows - self.centre
        return centred, np.square(centred)

    def _judge(self, centred: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and resemblances of centred embeddings (n, d) with such squares."""
        # Without the weights: a query of no class may differ in features that do not separate the
        # classes.
        lengths = np.maximum(np.sqrt(squares.sum(axis=1, keepdims=True)), TINY)
        values = kernel_values(centred, squares, self.landmarks, self.bias, self.weights)
        return values @ self.coefficients, centred @ self.prototypes.T / lengths

    def _is_negative(self, centred: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Which centred embeddings (n, d) are nearer to negative examples than to any class."""
        landmarks = self.negative_landmarks
        values = kernel_values(centred, squares, landmarks, self.bias, self.weights)
        scores = values @ self.negative_coefficients
        return scores[:, -1] > scores[:, :-1].max(axis=1)


def _in_batches(function: Callable[[np.ndarray], np.ndarray], embeddings: np.ndarray) -> np.ndarray:
    """Apply a function of arrays (n, d) to embeddings (..., d), a batch of rows at a time."""
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    starts = range(0, max(len(rows), 1), _BATCH)
    joined = np.concatenate([function(rows[start : start + _BATCH]) for start in starts])
    return joined.reshape(*embeddings.shape[:-1], joined.shape[-1])
