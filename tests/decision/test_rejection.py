"""Prototypes and thresholds against naive references, and how many queries are rejected."""

import warnings

import numpy as np
import pytest
from scipy import stats

from hyperspy_fewshot.decision.rejection import (
    FALLBACK_THRESHOLD,
    class_prototypes,
    least_resemblance,
    rejection_thresholds,
)
from hyperspy_fewshot.decision.vectors import l2_normalise
from hyperspy_fewshot.labels import REJECTED


def unit(vector):
    return vector / np.linalg.norm(vector)


def naive_prototype(units, shots, classes, k, without=None):
    members = [i for i, own in enumerate(classes) if own == k and i != without]
    return unit(np.mean([units[shots == i].mean(axis=0) for i in members], axis=0))


@pytest.fixture(scope="module")
def support(uneven):
    embeddings, shots, classes, centre = uneven
    units = l2_normalise(embeddings - centre)
    return units, shots, classes, class_prototypes(units, shots, classes)


def test_prototypes_are_means_of_whole_shots(support):
    units, shots, classes, prototypes = support
    expected = [naive_prototype(units, shots, classes, k) for k in range(3)]
    np.testing.assert_allclose(prototypes, expected, rtol=1e-12)


def test_thresholds_are_prediction_bounds_of_left_out_shots(support):
    units, shots, classes, prototypes = support
    own = {
        i: units[shots == i] @ naive_prototype(units, shots, classes, k, i)
        for i, k in enumerate(classes)
        if k != 2
    }
    means = [np.mean([own[i].mean() for i in own if classes[i] == k]) for k in (0, 1)]
    squares = sum(np.mean((cosines - means[classes[i]]) ** 2) for i, cosines in own.items())
    freedom = len(own) - 2
    spread = np.sqrt(squares / freedom)
    quantile = stats.t.ppf(0.8, freedom)
    expected = [
        mean - quantile * spread * np.sqrt(1 + 1 / n) for mean, n in zip(means, [5, 3], strict=True)
    ]
    # The class of one shot takes the cosines between single shots of the others. Each shot has the
    # same weight, whatever the number of others in its class.
    pairs = [(i, j) for i in own for j in own if i != j and classes[i] == classes[j]]
    weights = [1 / (list(classes).count(classes[i]) - 1) for i, _ in pairs]
    cosines = [units[shots == i] @ unit(units[shots == j].mean(axis=0)) for i, j in pairs]
    mean = np.average([c.mean() for c in cosines], weights=weights)
    square = np.average([(c**2).mean() for c in cosines], weights=weights)
    expected.append(mean - quantile * np.sqrt(square - mean**2) * np.sqrt(2))
    found = rejection_thresholds(units, shots, classes, prototypes, 0.2)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_no_rejection_has_no_thresholds(support):
    np.testing.assert_array_equal(rejection_thresholds(*support, False), -np.inf)


def test_lower_levels_have_lower_thresholds(support):
    thresholds = [rejection_thresholds(*support, level) for level in (0.4, 0.25, 0.12)]
    assert (np.diff(thresholds, axis=0) < 0).all()


def test_a_varied_class_keeps_its_own_shots(fit):
    rng = np.random.default_rng(5)
    even = rng.normal([8, 0, 0, 0], 0.05, (4, 4))
    varied = rng.normal([-2, 3, 0, 0], 2.5, (80, 4))
    shots = np.concatenate([np.arange(4), np.full(80, 4)])
    classifier = fit(np.concatenate([even, varied]), [0, 0, 0, 0, 1], shots, centre=np.zeros(4))
    reached = classifier.resemblance(varied)[:, 1] >= classifier.thresholds[1]
    assert 0.95 <= reached.mean() < 1
    assert (classifier.predict(even)[:, -2] == 0).all()
    more = classifier.predict(rng.normal([-2, 3, 0, 0], 2.5, (4000, 4)))[:, -2]
    assert (more == REJECTED).mean() < 0.1


# How many queries are rejected.


@pytest.fixture(scope="module")
def rejected(clusters):
    """Fractions of rejected queries: of the classes, and of a class that is not in the support."""

    def fractions(shots, reject, **options):
        inside, outside = [], []
        for seed in range(20):
            made = clusters(seed, **options)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* too few for a significance level")
                classifier = made.fit(shots, reject=reject)
            known = np.concatenate([made.draw(k, 100) for k in range(made.n_classes)])
            unknown = made.draw(made.n_classes, 100)
            inside.append((classifier.predict(known)[:, -2] == REJECTED).mean())
            outside.append((classifier.predict(unknown)[:, -2] == REJECTED).mean())
        return np.mean(inside), np.mean(outside)

    return fractions


@pytest.mark.parametrize("level", [0.05, 0.2])
@pytest.mark.parametrize("shots", [3, 20])
def test_as_many_are_rejected_as_the_level_says(rejected, shots, level):
    inside, outside = rejected(shots, level)
    assert 0.5 * level < inside < 1.5 * level + 0.01
    assert outside > 0.95


@pytest.mark.parametrize(
    ("shots", "options"),
    [(3, {}), (5, {"d": 8}), (10, {"n_classes": 5}), (3, {"n_classes": 2}), ((2, 5, 9), {})],
)
def test_the_default_rejects_few_known_and_most_unknown_queries(rejected, shots, options):
    inside, outside = rejected(shots, True, **options)
    assert inside < 0.03
    assert outside > 0.8


def test_two_embeddings_a_class_have_the_fallback_threshold(clusters, rejected):
    np.testing.assert_array_equal(clusters(0).fit(2).thresholds, FALLBACK_THRESHOLD)
    assert rejected(2, True)[0] < 0.01


def test_two_shots_of_several_embeddings_show_scatter(fit):
    rng = np.random.default_rng(0)
    support = np.repeat(np.eye(3), 10, axis=0) + 0.1 * rng.normal(size=(30, 3))
    classifier = fit(support, [0, 0, 1, 1, 2, 2], np.repeat(np.arange(6), 5))
    assert (classifier.thresholds != FALLBACK_THRESHOLD).all()


# Warnings.


def test_two_examples_a_class_are_too_few_for_a_level(clusters):
    message = "Two examples a class are too few for a significance level: reject=0.3 .* a third"
    with pytest.warns(UserWarning, match=message):
        clusters(0).fit(2, reject=0.3)


def test_a_level_that_the_examples_do_not_support_is_named(clusters):
    message = r"15 examples are too few for a significance level below 0.062; .*reject=0.01"
    with pytest.warns(UserWarning, match=message):
        clusters(0).fit(5, reject=0.01)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reject", [0.07, True, False])
def test_no_warning_with_enough_examples(clusters, reject):
    clusters(0).fit(5, reject=reject)


@pytest.mark.parametrize(("cosine", "distance"), [(0.3, 1.0), (0.9, 1.0), (0.5, 30.0), (-1.0, 0.0)])
def test_the_least_resemblance_depends_on_how_far_a_class_is_from_the_centre(cosine, distance):
    rng = np.random.default_rng(0)
    classes, shots = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 2, 3, 3, 3])
    lengths = np.array([1.0, 3.0, 8.0, 4.0, 10.0, 11.0, 12.0])
    vectors = rng.normal(size=(7, 5))
    vectors *= lengths[:, np.newaxis] / np.linalg.norm(vectors, axis=1, keepdims=True)
    # Shots of class 0: mean lengths 2 and 4; of class 1: 8 and 11.
    half = distance / np.sqrt(2) / 2
    angles = [min(2 * np.arcsin(min(half / r, 1)), np.pi / 2) for r in (3.0, 9.5)]
    found = least_resemblance(vectors, shots, classes, (cosine, distance))
    np.testing.assert_allclose(found, np.minimum(np.cos(angles), cosine), atol=1e-12)
