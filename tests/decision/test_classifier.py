"""The classifier: formulas, invariances, calibration, masked queries, errors."""

import pickle
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.decision.ridge import fit_ridge
from hyperspy_fewshot.labels import MASKED, REJECTED


def labels_of(classifier, embeddings):
    return classifier.predict(embeddings)[..., -2].astype(int)


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def classifier(clusters):
    """Three classes of five shots."""
    return clusters(0).fit(5)


# Formulas.


def test_prediction_follows_from_scores_and_resemblance(fit, uneven):
    embeddings, shots, classes, centre = uneven
    classifier = fit(embeddings, classes, shots, centre=centre, reject=0.2)
    queries = np.random.default_rng(1).normal(2, 1, (4, 5, 6))
    scores, resemblance = classifier.scores(queries), classifier.resemblance(queries)
    for index in np.ndindex(4, 5):
        cosines = [unit(queries[index] - centre) @ p for p in classifier.prototypes]
        np.testing.assert_allclose(resemblance[index], cosines, atol=1e-6)
    gains = np.exp(scores / classifier.temperature)
    probabilities = gains / gains.sum(axis=-1, keepdims=True)
    rejected = (resemblance < classifier.thresholds).all(axis=-1)
    assert 0 < rejected.mean() < 1
    packed = classifier.predict(queries)
    assert packed.shape == (4, 5, 5)
    assert packed.dtype == np.float32
    np.testing.assert_allclose(packed[..., :3], probabilities, rtol=1e-5)
    expected = np.where(rejected, REJECTED, scores.argmax(axis=-1))
    np.testing.assert_array_equal(packed[..., 3], expected)
    expected = np.where(rejected, np.nan, probabilities.max(axis=-1))
    np.testing.assert_allclose(packed[..., 4], expected, rtol=1e-5)


def test_a_query_below_all_thresholds_is_rejected():
    thresholds, prototypes = np.array([0.9, 0.2]), np.eye(2, 3)
    landmarks, coefficients = np.eye(2, 4), np.eye(2)
    made = FewShotClassifier(
        ("a", "b"), np.zeros(3), prototypes, 0.1, thresholds, 1.0, landmarks, coefficients, 0.0,
        (1, 1), np.empty((0, 2, 2)), np.empty(0), np.empty((0, 3)), np.empty(0, int),
        np.empty(0, int), np.empty((0, 4)), np.empty((0, 4)), np.empty((0, 3)),
    )  # fmt: skip
    queries = np.array([unit(v) for v in ([1, 0, 0.1], [0.7, 0.3, 1], [0.7, 0.1, 1], [0, 0, 1])])
    np.testing.assert_array_equal(labels_of(made, queries), [0, 0, REJECTED, REJECTED])


def test_batches_give_the_same_result_as_single_queries(clusters, classifier):
    queries = clusters(0).draw(0, 5000).astype(np.float32)
    queries[[0, 4095, 4096, 4999]] = np.nan
    whole = classifier.predict(queries.reshape(50, 100, 32)).reshape(5000, 5)
    chosen = [0, 1, 4094, 4095, 4096, 4097, 4998, 4999]
    single = np.concatenate([classifier.predict(queries[i : i + 1]) for i in chosen])
    np.testing.assert_allclose(whole[chosen], single, atol=1e-5)
    assert classifier.predict(np.empty((0, 7, 32), np.float32)).shape == (0, 7, 5)


def test_prediction_does_not_copy_all_embeddings(classifier):
    queries = np.random.default_rng(0).normal(size=(40_000, 32)).astype(np.float32)
    tracemalloc.start()
    classifier.predict(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < queries.nbytes


# What is learnt.


def test_support_examples_are_classified_correctly(fit, clusters):
    made = clusters(1, n_classes=5)
    support, classes = np.concatenate([made.draw(k, 5) for k in range(5)]), np.repeat(range(5), 5)
    classifier = fit(support, classes)
    np.testing.assert_array_equal(labels_of(classifier, support), classes)
    assert classifier.leave_one_out == 1


def test_a_class_of_two_appearances(fit):
    # The second class lies on both sides of the first, so both have the same prototype.
    rng = np.random.default_rng(0)
    sides = np.array([[1.0, 0, 0], [0.7, 0.7, 0], [0.7, -0.7, 0]])

    def draw(n):
        return np.repeat(sides, n, axis=0) + 0.1 * rng.normal(size=(3 * n, 3))

    classifier = fit(draw(5), np.repeat([0, 1, 1], 5), centre=np.zeros(3), reject=False)
    queries, truth = draw(200), np.repeat([0, 1, 1], 200)
    assert (labels_of(classifier, queries) == truth).mean() > 0.95
    assert (classifier.resemblance(queries).argmax(axis=-1) == truth).mean() < 0.8


def test_the_distance_from_the_centre_counts(fit):
    rng = np.random.default_rng(0)
    centres = np.array([[1.0, 0, 0], [3.0, 0, 0]])

    def draw(n):
        return np.repeat(centres, n, axis=0) + 0.2 * rng.normal(size=(2 * n, 3))

    classifier = fit(draw(5), [0] * 5 + [1] * 5, centre=np.zeros(3), reject=False)
    assert (labels_of(classifier, draw(300)) == np.repeat([0, 1], 300)).mean() > 0.99


@pytest.mark.parametrize("telling", [0, 1])
def test_the_group_of_features_that_separates_the_classes_weighs_more(fit, telling):
    directions = np.random.default_rng(99).normal(size=(2, 16))

    def draw(n, seed):
        groups = np.random.default_rng(seed).normal(size=(2, 2 * n, 16))
        classes = np.repeat([0, 1], n)
        groups[telling] = 2 * directions[classes] + 0.7 * groups[telling]
        groups[1 - telling] *= 2
        return np.concatenate(list(groups), axis=1), classes

    ratios, right = [], {None: [], (16, 16): []}
    for seed in range(10):
        queries, truth = draw(300, 100 + seed)
        for groups, fractions in right.items():
            made = fit(*draw(5, seed), centre=queries.mean(axis=0), feature_groups=groups)
            fractions.append((made.scores(queries).argmax(axis=-1) == truth).mean())
        own, other = made.weights[[0, 31]] if telling == 0 else made.weights[[31, 0]]
        ratios.append(own / other)
    assert min(ratios) > 1.3
    assert np.mean(right[16, 16]) >= np.mean(right[None])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shots", [(1, 4, 9), (5, 1, 1), (2, 2, 2), (1, 1, 2)])
def test_unequal_numbers_of_examples(clusters, shots):
    right, left_out = [], []
    for seed in range(10):
        made = clusters(seed)
        classifier = made.fit(shots)
        assert np.isfinite([classifier.temperature, *classifier.thresholds]).all()
        right.append([(labels_of(classifier, made.draw(k, 50)) == k).mean() for k in range(3)])
        left_out.append(classifier.leave_one_out)
    assert np.mean(right, axis=0).min() > 0.97
    assert np.mean(left_out) == 1


def test_one_example_a_class_uses_constants(clusters):
    made = clusters(0)
    message = r"With one example a class .* constants \(0.1 and 0.0\).* a second example"
    with pytest.warns(UserWarning, match=message):
        classifier = made.fit(1)
    assert classifier.temperature == 0.1
    np.testing.assert_array_equal(classifier.thresholds, 0)
    assert np.isnan(classifier.leave_one_out)
    for k in range(3):
        assert (labels_of(classifier, made.draw(k, 100)) == k).mean() > 0.9


# Invariances.


def test_order_of_examples_and_classes_does_not_matter(fit, clusters):
    made = clusters(2)
    support, classes = np.concatenate([made.draw(k, 4) for k in range(3)]), np.repeat(range(3), 4)
    queries = made.draw(1, 50)
    expected = fit(support, classes).predict(queries)
    order = np.random.default_rng(0).permutation(12)
    shuffled = fit(support[order], classes[order]).predict(queries)
    np.testing.assert_allclose(shuffled, expected, atol=1e-5)
    reversed_classes = fit(support, 2 - classes).predict(queries)
    np.testing.assert_allclose(reversed_classes[:, 2::-1], expected[:, :3], atol=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(1e-3, 0), (250, 0), (1, 30), (12, -7)])
def test_scale_and_shift_of_embeddings_do_not_matter(fit, clusters, factor, shift):
    made = clusters(4)
    support, queries = (np.concatenate([made.draw(k, n) for k in range(3)]) for n in (4, 50))
    classes, centre = np.repeat(range(3), 4), support.mean(axis=0)
    expected = fit(support, classes, centre=centre)
    changed = fit(factor * support + shift, classes, centre=factor * centre + shift)
    np.testing.assert_allclose(changed.thresholds, expected.thresholds, rtol=1e-4)
    found = changed.predict(factor * queries + shift)
    np.testing.assert_allclose(found, expected.predict(queries), atol=1e-3)


@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_equal_examples_are_not_rejected_for_rounding(fit, factor):
    support = factor * np.repeat(np.random.default_rng(0).normal(size=(3, 40)), 4, axis=0)
    classes = np.repeat([0, 1, 2], 4)
    queries = support.astype(np.float32)
    np.testing.assert_array_equal(labels_of(fit(support, classes), queries), classes)


def test_a_pickled_classifier_predicts_the_same(clusters, classifier):
    queries = clusters(6).draw(0, 30)
    copy = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(copy.predict(queries), classifier.predict(queries))


def test_arguments_are_not_changed(fit, clusters):
    support = np.concatenate([clusters(5).draw(k, 4) for k in range(3)]).astype(np.float32)
    before, classes = support.copy(), np.repeat(range(3), 4)
    fit(support, classes, feature_groups=(20, 12)).predict(support)
    np.testing.assert_array_equal(support, before)
    np.testing.assert_array_equal(classes, np.repeat(range(3), 4))


@pytest.mark.parametrize("reject", [True, False, 0.2, np.True_, np.float32(0.25)])
def test_reject_and_recipe_are_kept(clusters, reject):
    recipe = object()
    made = clusters(0).fit(5, reject=reject, recipe=recipe)
    assert made.reject == reject
    assert type(made.reject) in (bool, float)
    assert made.recipe is recipe
    expected = clusters(0).fit(5, reject=made.reject)
    np.testing.assert_array_equal(made.thresholds, expected.thresholds)


# Calibration.


def test_probabilities_lie_between_zero_and_one_and_sum_to_one(classifier):
    probabilities = classifier.predict(np.random.default_rng(0).normal(size=(200, 32)))[:, :3]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert probabilities.min() > 0
    assert probabilities.max() < 1


def test_overlapping_classes_have_a_higher_temperature(clusters):
    temperatures = [
        np.mean([clusters(seed, distance=distance).fit(5).temperature for seed in range(8)])
        for distance in (4.0, 0.25, 0.0)
    ]
    assert temperatures == sorted(temperatures)
    assert temperatures[1] > 2 * temperatures[0]


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_mean_confidence_is_about_the_accuracy(clusters, distance):
    confidence, right = [], []
    for seed in range(20):
        made = clusters(seed, d=8, distance=distance)
        classifier = made.fit(5, reject=False)
        for k in range(3):
            packed = classifier.predict(made.draw(k, 100))
            confidence.append(packed[:, -1])
            right.append(packed[:, -2] == k)
    assert abs(np.mean(confidence) - np.mean(right)) < 0.12


def test_duplicates_inside_a_shot_do_not_leak(fit):
    # Classes that cannot be told apart; every shot is one embedding eight times.
    single, classes = np.random.default_rng(0).normal(size=(10, 20)), np.arange(10) % 2
    eightfold, centre = np.repeat(single, 8, axis=0), np.zeros(20)
    whole = fit(eightfold, classes, np.repeat(np.arange(10), 8), centre=centre)
    assert whole.leave_one_out == fit(single, classes, centre=centre).leave_one_out < 0.9
    apart = fit(eightfold, np.repeat(classes, 8), centre=centre)
    assert apart.leave_one_out > whole.leave_one_out
    assert whole.temperature > apart.temperature


# Masked queries and errors.


def test_queries_that_are_not_finite_are_masked(clusters, classifier):
    queries = clusters(0).draw(0, 6).reshape(2, 3, 32)
    queries[0, 1] = np.nan
    queries[1, 0, 7] = np.nan
    queries[1, 2, 3] = np.inf
    packed = classifier.predict(queries.astype(np.float32))
    masked = [[False, True, False], [True, False, True]]
    np.testing.assert_array_equal(packed[..., -2] == MASKED, masked)
    np.testing.assert_array_equal(np.isnan(packed[..., :3]).all(axis=-1), masked)
    np.testing.assert_array_equal(np.isnan(packed[..., -1]), masked)
    assert np.isnan(classifier.scores(queries[0, 1])).all()
    assert np.isnan(classifier.resemblance(queries[0, 1])).all()


def test_a_query_at_the_centre_resembles_no_class(clusters, classifier):
    assert labels_of(classifier, classifier.centre) == REJECTED
    packed = clusters(0).fit(5, reject=False).predict(classifier.centre)
    assert packed[:3].sum() == pytest.approx(1)
    assert packed[:3].max() < 0.6


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_support_or_centre_that_is_not_finite(fit, bad):
    support = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError, match="NaN or infinite embeddings"):
        fit(support, [0, 0, 1, 1], centre=np.array([0, bad, 0]))
    support[2, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite embeddings"):
        fit(support, [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([0, 0, 0, 0], {"names": ("only",)}, r"At least two classes are needed, got \['only'\]"),
        ([0, 0, 2, 2], {}, "Class 'class 1' has no examples"),
        ([0, 0, 1, 1], {"shots": [0, 0, 2, 3]}, "A shot of the support set has no embedding"),
        ([0, 0, 1, 1], {"feature_groups": (2, 2)}, r"\(2, 2\) do not make embeddings of length 3"),
    ],
)
def test_support_sets_that_cannot_be_fitted(fit, classes, options, message):
    with pytest.raises(ValueError, match=message):
        fit(np.random.default_rng(0).normal(size=(4, 3)), classes, **options)


# How much depends on the choice of the shots.


@pytest.fixture
def several(uneven):
    """The classes of several shots, as arguments of `fit`, and a sample."""
    embeddings, shots, classes, centre = uneven
    kept = classes[shots] < 2
    sample = np.random.default_rng(4).normal(1, 2, (300, 6)).astype(np.float32)
    # The shot of the third class is the last but one.
    numbers = np.where(shots == 8, 7, shots)[kept]
    return (embeddings[kept], np.delete(classes, 7), numbers), {"centre": centre}, sample


def test_spread_is_that_of_the_jackknife(fit, several):
    arguments, options, sample = several
    classifier = fit(*arguments, reject=False, **options)
    assert classifier.shots == (5, 3)

    def fractions(coefficients):
        scores = replace(classifier, coefficients=coefficients).scores(sample)
        return np.bincount(scores.argmax(axis=1), minlength=2) / len(sample)

    whole = fractions(classifier.coefficients)
    changes = np.array([fractions(c) - whole for c in classifier.without_shots])
    expected = np.sqrt((classifier.variance_shares[:, None] * changes**2).sum(axis=0))
    np.testing.assert_allclose(classifier.spread(sample), expected, atol=1e-6)
    assert expected.max() > 0


@pytest.mark.parametrize("shots", [1, (1, 4, 1)])
def test_queries_stand_in_for_the_only_shot_of_a_class(clusters, shots):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = clusters(0, distance=2.0).fit(shots)
    queries = [clusters(1, distance=2.0).draw(k, 200) for k in range(3)]
    sample = np.concatenate(queries).astype(np.float32)
    best = classifier.predict(sample)[:, :3].argmax(axis=1)
    whole, single = np.bincount(best, minlength=3) / 600, np.array(classifier.shots) == 1
    # Many draws, where the classifier takes a few.
    rng, changes = np.random.default_rng(5), []
    for _ in range(300):
        vectors = classifier.shot_means.copy()
        for k in np.flatnonzero(single):
            drawn = sample[rng.choice(np.flatnonzero(best == k))]
            vectors[classifier.shot_mean_classes == k] = drawn - classifier.centre
        ridge = fit_ridge(
            vectors, np.arange(len(vectors)), classifier.shot_mean_classes, classifier.bias
        )
        other = replace(classifier, landmarks=ridge.landmarks, coefficients=ridge.coefficients)
        labels = other.scores(sample).argmax(axis=1)
        changes.append(np.bincount(labels, minlength=3) / 600 - whole)
    variance = np.mean(np.square(changes), axis=0)
    for coefficients, share in zip(
        classifier.without_shots, classifier.variance_shares, strict=True
    ):
        labels = replace(classifier, coefficients=coefficients).scores(sample).argmax(axis=1)
        variance += share * (np.bincount(labels, minlength=3) / 600 - whole) ** 2
    np.testing.assert_allclose(classifier.spread(sample), np.sqrt(variance), rtol=0.5)


def test_the_only_shot_stays_where_nothing_is_labelled_as_its_class(clusters):
    with pytest.warns(UserWarning, match="With one example"):
        classifier = clusters(0).fit(1)
    sample = clusters(0).draw(0, 50).astype(np.float32)
    assert (classifier.scores(sample).argmax(axis=1) == 0).all()
    np.testing.assert_array_equal(classifier.spread(sample), 0)
