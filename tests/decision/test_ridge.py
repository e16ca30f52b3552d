"""Kernel ridge regression and weights of feature groups against naive references."""

import numpy as np
import pytest

from hyperspy_fewshot.decision.ridge import feature_weights, fit_ridge, kernel_values


def unit(vector):
    return vector / np.linalg.norm(vector)


class NaiveRidge:
    """Kernel ridge regression that is solved again for every left-out shot."""

    def __init__(self, vectors, shots, classes):
        self.vectors, self.shots, self.classes = vectors, shots, classes
        squares = [(vectors[shots == i] ** 2).sum(axis=1).mean() for i in range(len(classes))]
        length = np.sqrt(np.mean(squares))
        own, k = classes[shots], max(classes) + 1
        weights = [
            len(classes) / (k * list(classes).count(c) * list(shots).count(i))
            for i, c in zip(shots, own, strict=True)
        ]
        self.weights, self.targets = np.array(weights), np.eye(k)[own] - 1 / k
        self.judged = [i for i, c in enumerate(classes) if list(classes).count(c) > 1]
        self.bias = length

    def scores(self, queries, without=None):
        """Minimise the weighted squared error plus the ridge times the norm."""
        kept = self.shots != without
        units, queries = (
            np.array([unit([*vector, self.bias]) for vector in vectors])
            for vectors in (self.vectors[kept], queries)
        )
        penalty = np.diag(0.1 / self.weights[kept])
        system = self.kernel(units, units) + penalty
        return self.kernel(queries, units) @ np.linalg.solve(system, self.targets[kept])

    def left_out(self, shot):
        return self.scores(self.vectors[self.shots == shot], shot)

    @staticmethod
    def kernel(left, right):
        return (np.exp(2 * left @ right.T) - 1) / (np.exp(2) - 1)


@pytest.fixture(scope="module")
def fitted(uneven):
    embeddings, shots, classes, centre = uneven
    naive = NaiveRidge(embeddings - centre, shots, classes)
    return fit_ridge(embeddings - centre, shots, classes), naive


def scores_of(ridge, queries, weights=None):
    values = kernel_values(queries, queries**2, ridge.landmarks, ridge.bias, weights)
    return values @ ridge.coefficients


def test_scores_and_bias(fitted):
    ridge, naive = fitted
    assert ridge.bias == pytest.approx(naive.bias)
    queries = np.random.default_rng(1).normal(size=(20, 6))
    found = scores_of(ridge, queries)
    np.testing.assert_allclose(found, naive.scores(queries), atol=1e-5)


def test_scores_of_left_out_shots(fitted):
    ridge, naive = fitted
    found = ridge.left_out
    assert set(found.shots) == set(naive.judged) == set(range(9)) - {7}
    for shot in naive.judged:
        here = found.shots == shot
        np.testing.assert_allclose(found.scores[here], naive.left_out(shot), atol=1e-9)
        assert set(found.classes[here]) == {naive.classes[shot]}
        np.testing.assert_allclose(found.weights[here], 1 / here.sum())


def test_refits_without_one_shot_each(fitted):
    ridge, naive = fitted
    queries = np.random.default_rng(3).normal(size=(20, 6))
    values = kernel_values(queries, queries**2, ridge.landmarks, ridge.bias, None)
    found = np.array([values @ coefficients for coefficients in ridge.without_shots])
    expected = np.array([naive.scores(queries, without=shot) for shot in naive.judged])
    # In any order.
    distance = np.abs(found[:, None] - expected[None]).max(axis=(2, 3))
    assert sorted(distance.argmin(axis=1)) == list(range(len(naive.judged)))
    assert distance.min(axis=1).max() < 1e-5
    counts = [list(naive.classes).count(naive.classes[shot]) for shot in naive.judged]
    np.testing.assert_allclose(
        sorted(ridge.variance_shares), sorted((n - 1) / n for n in counts), rtol=1e-6
    )


def test_at_most_twelve_shots_of_a_class_are_left_out():
    rng = np.random.default_rng(0)
    ridge = fit_ridge(rng.normal(size=(33, 4)), np.arange(33), np.array([0] * 30 + [1, 1, 1]))
    assert len(ridge.without_shots) == len(ridge.variance_shares) == 10 + 3
    np.testing.assert_allclose(ridge.variance_shares, [29 / 10] * 10 + [2 / 3] * 3, rtol=1e-6)


def test_weights_scale_the_queries_before_normalisation(fitted):
    ridge, naive = fitted
    rng = np.random.default_rng(2)
    weights, queries = rng.uniform(0.5, 2, 6), rng.normal(size=(20, 6))
    found = scores_of(ridge, queries, weights)
    np.testing.assert_allclose(found, naive.scores(queries * weights), atol=1e-5)


def test_without_a_second_shot_nothing_is_left_out():
    vectors = np.random.default_rng(0).normal(size=(5, 4))
    ridge = fit_ridge(vectors, np.array([0, 1, 1, 2, 2]), np.array([0, 1, 2]))
    assert len(ridge.left_out.shots) == 0
    assert ridge.landmarks.shape == (5, 5)
    squares = (vectors**2).sum(axis=1)
    length = np.sqrt(np.mean([squares[0], squares[1:3].mean(), squares[3:].mean()]))
    assert ridge.bias == pytest.approx(length)


def test_landmarks_are_at_most_512_from_all_shots():
    vectors = np.random.default_rng(0).normal(size=(1060, 4))
    shots = np.repeat(np.arange(13), [900, *[10] * 10, 30, 30])
    ridge = fit_ridge(vectors, shots, np.array([0] * 11 + [1, 2]))
    assert ridge.landmarks.shape == (512, 5)
    assert ridge.coefficients.shape == (512, 3)
    landmarks = ridge.landmarks[:, :-1] / ridge.landmarks[:, -1:] * ridge.bias
    kept = [np.isclose(landmarks, v, atol=1e-4).all(axis=1).any() for v in vectors[900:]]
    assert all(kept), "the large shot alone is thinned out"


def test_landmarks_of_many_shots_keep_the_rare_classes():
    vectors = np.random.default_rng(0).normal(size=(1060, 4))
    classes = np.repeat([0, 1, 2], [1000, 40, 20])
    ridge = fit_ridge(vectors, np.arange(1060), classes)
    kept = np.bincount(ridge.left_out.classes)
    np.testing.assert_array_equal(kept, [452, 40, 20])


def test_feature_weights_are_those_of_an_analysis_of_variance():
    rng = np.random.default_rng(3)
    vectors, shots = rng.normal(size=(9, 5)), np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])
    classes = np.array([0, 0, 0, 1, 1, 1])
    vectors[:4, :2] += 3
    expected = []
    for group in (vectors[:, :2], vectors[:, 2:]):
        shot_means = np.array([group[shots == i].mean(axis=0) for i in range(6)])
        means = np.array([shot_means[classes == k].mean(axis=0) for k in (0, 1)])
        scatter = [
            ((group[shots == i] - means[classes[i]]) ** 2).sum(axis=1).mean() for i in range(6)
        ]
        within = sum(scatter) / 4
        between = ((means[0] - means[1]) ** 2).sum() / 2 - within / 3
        ratio = within / (within + max(between, 0) / 2)
        expected.append((3 + 4) / (1.5 + 4 * ratio))
    found = feature_weights(vectors, shots, classes, (2, 3))
    np.testing.assert_allclose(found, np.repeat(expected, [2, 3]), rtol=1e-12)
    assert found[0] > 1.2 * found[-1]


def test_one_group_or_one_shot_a_class_has_no_feature_weights():
    vectors, two = np.random.default_rng(0).normal(size=(4, 5)), np.arange(2)
    assert feature_weights(vectors[:2], two, two, (2, 3)) is None
    assert feature_weights(vectors, np.arange(4), two.repeat(2), (5,)) is None
    assert feature_weights(vectors, np.arange(4), two.repeat(2), None) is None


def test_feature_groups_that_do_not_sum_to_the_length():
    vectors, two = np.random.default_rng(0).normal(size=(4, 5)), np.arange(2)
    with pytest.raises(ValueError, match=r"lengths \(2, 4\) do not make embeddings of length 5"):
        feature_weights(vectors, np.arange(4), two.repeat(2), (2, 4))
