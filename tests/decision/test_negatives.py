"""Negative examples: what is nearer to them than to every class is rejected."""

import numpy as np
import pytest

from hyperspy_fewshot.decision.negatives import fit_negatives, without_negatives
from hyperspy_fewshot.decision.ridge import fit_ridge, kernel_values
from hyperspy_fewshot.labels import NEGATIVE


def support(seed=0, d=5):
    """Shots of two classes and of negatives of two kinds, one to three embeddings each."""
    rng = np.random.default_rng(seed)
    classes = np.array([0, -1, 1, 0, -1, 1, 1, -1])
    kinds = np.array([0, 2, 1, 0, 3, 1, 1, 2])
    shots = np.repeat(np.arange(8), rng.integers(1, 4, 8))
    centres = 4 * np.eye(4, d)
    return centres[kinds[shots]] + 0.3 * rng.normal(size=(len(shots), d)), shots, classes, centres


def test_shots_of_classes_are_numbered_anew():
    shots, classes = np.array([4, 0, 1, 1, 3, 2]), np.array([1, -1, 0, -1, 1])
    found, owners = without_negatives(shots, classes)
    assert found.tolist() == [2, 0, 1]
    assert owners.tolist() == [1, 0, 1]


def test_they_are_one_more_class_of_a_regression():
    vectors, shots, classes, _ = support()
    landmarks, coefficients = fit_negatives(vectors, shots, classes, 1.7)
    expected = fit_ridge(vectors, shots, np.where(classes < 0, 2, classes), 1.7)
    np.testing.assert_array_equal(landmarks, expected.landmarks)
    np.testing.assert_array_equal(coefficients, expected.coefficients)
    assert coefficients.shape[1] == 3


def test_without_them_there_is_no_regression():
    landmarks, coefficients = fit_negatives(np.ones((4, 5)), np.arange(4), np.arange(4) % 3, 1.0)
    assert landmarks.shape == (0, 6)
    assert coefficients.shape == (0, 4)


@pytest.fixture(scope="module")
def classifiers(fit):
    """Without the negatives, and with them."""
    vectors, shots, classes, centres = support()
    centre = centres.mean(axis=0)
    kept = classes[shots] >= 0
    own, owners = without_negatives(shots, classes)
    names = ("a", "b")
    plain = fit(vectors[kept], owners, own, names, centre=centre, reject=False)
    return plain, fit(vectors, classes, shots, names, centre=centre, reject=False)


def test_what_is_nearest_to_them_is_rejected(classifiers):
    plain, made = classifiers
    rng, centres = np.random.default_rng(1), support()[3]
    kinds = np.arange(400) % 4
    queries = centres[kinds] + 0.3 * rng.normal(size=(400, 5))
    assert not plain.rejects
    assert made.rejects
    packed = made.judge(queries)
    np.testing.assert_array_equal(packed[:, -2] == NEGATIVE, kinds > 1)
    labels = made.predict(queries)[:, -2]
    np.testing.assert_array_equal(labels, np.where(kinds > 1, -1, kinds))
    assert np.isnan(packed[kinds > 1, -1]).all()
    # A query is nearer to them if their score is the highest of the second regression.
    centred = queries - made.centre
    values = kernel_values(centred, centred**2, made.negative_landmarks, made.bias, made.weights)
    highest = (values @ made.negative_coefficients).argmax(axis=1)
    np.testing.assert_array_equal(highest == 2, kinds > 1)


def test_they_change_no_score_of_a_class(classifiers):
    plain, made = classifiers
    queries = np.random.default_rng(2).normal(size=(50, 5))
    np.testing.assert_array_equal(made.scores(queries), plain.scores(queries))
    np.testing.assert_array_equal(made.predict(queries)[:, :2], plain.predict(queries)[:, :2])
    assert made.leave_one_out == plain.leave_one_out
    assert made.shots == plain.shots == (2, 3)


def test_masked_queries_stay_masked(classifiers):
    queries = np.full((2, 5), np.nan)
    queries[1] = support()[3][2]
    assert classifiers[1].predict(queries)[:, -2].tolist() == [-2, -1]
