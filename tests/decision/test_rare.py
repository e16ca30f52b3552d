"""Rare classes: the matched filter against its formula, and when it is used."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from hyperspy_fewshot.decision.rare import hold_back, mean_shots, rare_filters


def scene(n_rare=30, n=3000, d=7, distance=6.0, seed=0, n_shots=5):
    """Two frequent classes that scatter unequally along the features, and a rare one beside them."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.3, 1.5, d)
    centres = np.zeros((3, d))
    centres[1, 0], centres[2, 1:3] = 8.0, distance * spread[1:3]
    truth = np.repeat([0, 1, 2], [n // 2, n - n // 2, n_rare])
    sample = centres[truth] + spread * rng.normal(size=(len(truth), d))
    classes = np.repeat([0, 1, 2], n_shots)
    shots = centres[classes] + spread * rng.normal(size=(len(classes), d))
    distances = ((sample[:, None] - centres) ** 2).sum(axis=2)
    return sample, truth, shots, classes, softmax(-distances / 20, axis=1)


def naive_filter(sample, shots):
    """The filter for some shots, from the formulas of the docstring."""
    mean, target = sample.mean(axis=0), shots.mean(axis=0) - sample.mean(axis=0)
    likeness = [np.dot(x - mean, target) for x in sample]
    kept = [
        x - mean
        for x, value in zip(sample, likeness, strict=True)
        if value <= np.quantile(likeness, 0.98)
    ]
    covariance = sum(np.outer(x, x) for x in kept) / len(kept)
    covariance += 0.02 * np.linalg.eigvalsh(covariance).mean() * np.eye(len(covariance))
    direction = np.linalg.inv(covariance) @ target
    values = np.array([np.dot(x - mean, direction) for x in sample]) / (target @ direction)
    sigma = 1.4826 * np.median(abs(values - np.median(values)))
    return (values - max(0.5, np.median(values) + 3.7 * sigma)) / sigma


def margins(sample, filters):
    return np.column_stack([sample, np.ones(len(sample))]) @ filters.T


def test_the_filter_is_that_of_the_formula():
    sample, truth, shots, classes, probabilities = scene()
    rare, filters = rare_filters(sample, shots, classes, probabilities)
    assert rare.tolist() == [2]
    expected = naive_filter(sample, shots[classes == 2])
    np.testing.assert_allclose(margins(sample, filters)[:, 0], expected, rtol=1e-3, atol=1e-3)
    found = expected > 0
    assert found[truth == 2].mean() > 0.8
    assert (truth[found] == 2).mean() > 0.8


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_the_origin_of_embeddings_does_not_matter(shift):
    sample, _, shots, classes, probabilities = scene()
    rare, filters = rare_filters(sample + shift, shots + shift, classes, probabilities)
    expected = naive_filter(sample, shots[classes == 2])
    assert rare.tolist() == [2]
    # Single precision of the offset.
    atol = 1e-3 if shift == 0 else 0.2
    np.testing.assert_allclose(margins(sample + shift, filters)[:, 0], expected, atol=atol)


@pytest.mark.parametrize(
    "change",
    [
        {"n_rare": 600},
        {"n": 150, "n_rare": 3},
        {"n_shots": 1},
        {"distance": 0.3},
    ],
    ids=["frequent", "few queries", "one shot", "no outlier"],
)
def test_there_is_no_filter(change):
    sample, _, shots, classes, probabilities = scene(**change)
    rare, filters = rare_filters(sample, shots, classes, probabilities)
    assert rare.shape == (0,)
    assert filters.shape == (0, 8)


@pytest.mark.parametrize("label, expected", [(0, []), (1, [1])])
def test_the_most_frequent_class_is_never_rare(label, expected):
    sample, _, shots, classes, _ = scene()
    # All of 50 classes are rare; the first one is the least rare.
    probabilities = np.full((len(sample), 50), 0.02)
    probabilities[:, 0] = 0.025
    own = classes == 2
    rare, _ = rare_filters(sample, shots[own], np.full(own.sum(), label), probabilities)
    assert rare.tolist() == expected


def test_scores_of_rare_classes_are_held_back():
    rng = np.random.default_rng(0)
    scores, centred = rng.normal(size=(40, 5)), rng.normal(size=(40, 3))
    rare, filters = np.array([1, 3]), rng.normal(size=(2, 4)).astype(np.float32)
    before = scores.copy()
    found = hold_back(scores, centred, rare, filters, unit=0.3)
    np.testing.assert_array_equal(scores, before)
    for row, x, own in zip(found, centred, scores, strict=True):
        best = own[[0, 2, 4]].max()
        np.testing.assert_array_equal(row[[0, 2, 4]], own[[0, 2, 4]])
        for k, vector in zip(rare, filters, strict=True):
            margin = vector[:3] @ x + vector[3]
            assert row[k] == pytest.approx(min(own[k], best + 0.3 * margin), rel=1e-5)
            assert row[k] <= best or margin > 0


def test_without_rare_classes_scores_stay_as_they_are():
    scores = np.ones((4, 2))
    assert hold_back(scores, np.ones((4, 3)), np.empty(0, int), np.empty((0, 4)), 1.0) is scores


def test_means_of_at_most_so_many_shots_of_a_class():
    rng = np.random.default_rng(0)
    classes = np.array([1, 0, 1, 1, 2, 1, 0, 1])
    shots = rng.permutation(np.repeat(np.arange(8), 3))
    embeddings = rng.normal(size=(24, 4))
    means, owners = mean_shots(embeddings, shots, classes, most=2)
    assert owners.tolist() == [0, 0, 1, 1, 2, 2]
    for mean, shot in zip(means, [1, 6, 0, 5], strict=False):
        np.testing.assert_allclose(mean, embeddings[shots == shot].mean(axis=0))
    # Of the only shot of a class, every second of three embeddings.
    np.testing.assert_array_equal(means[4:], embeddings[shots == 4][::2])


@pytest.fixture(scope="module")
def fitted(fit):
    """A classifier without and with filters, a sample, and its truth."""
    sample, truth, shots, classes, _ = scene()
    plain = fit(shots, classes, centre=sample.mean(axis=0), reject=False)
    return plain, plain.for_frequencies_of(sample), sample, truth


class TestOfTheClassifier:
    def test_fewer_queries_are_taken_for_the_rare_class(self, fitted):
        plain, made, sample, truth = fitted
        before, after = (c.predict(sample)[:, -2] for c in (plain, made))
        assert made.rare.tolist() == [2]
        assert (truth[before == 2] == 2).mean() < (truth[after == 2] == 2).mean() > 0.8
        assert set(before[before != after]) == {2}
        others = plain.predict(sample)[before != after][:, :2].argmax(axis=1)
        np.testing.assert_array_equal(after[before != after], others)

    def test_labels_are_the_most_probable_classes(self, fitted):
        _, made, sample, _ = fitted
        packed = made.predict(sample)
        np.testing.assert_array_equal(packed[:, :3].argmax(axis=1), packed[:, -2])
        np.testing.assert_allclose(packed[:, :3].sum(axis=1), 1, rtol=1e-5)

    def test_frequencies_are_those_of_the_data_set(self, fitted):
        _, made, sample, truth = fitted
        other = sample[np.r_[: len(sample), np.tile(np.flatnonzero(truth == 2), 30)]]
        assert made.for_frequencies_of(other).rare.tolist() == []
        again = made.for_frequencies_of(sample)
        np.testing.assert_array_equal(again.filters, made.filters)

    def test_the_spread_is_that_of_what_is_confirmed(self, fitted):
        plain, made, sample, _ = fitted
        assert made.spread(sample)[2] < plain.spread(sample)[2]
        whole = np.bincount(made.predict(sample)[:, 3].astype(int), minlength=3) / len(sample)
        changes = []
        for coefficients in made.without_shots:
            left = replace(made, coefficients=coefficients).predict(sample)[:, 3]
            changes.append(np.bincount(left.astype(int), minlength=3) / len(sample) - whole)
        expected = np.sqrt(made.variance_shares @ np.square(changes))
        np.testing.assert_allclose(made.spread(sample), expected, atol=1e-6)
