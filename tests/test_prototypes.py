"""The classifier does what its formulas say, and means what it says of its own certainty."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import stats

from hyperspy_fewshot.calibration import FALLBACK_TEMPERATURE, FALLBACK_THRESHOLD
from hyperspy_fewshot.heads import block_weights
from hyperspy_fewshot.prototypes import MASKED, REJECTED, FewShotClassifier


def fit(embeddings, classes, entries=None, names=None, **options):
    """Fit with one entry an embedding, unless said otherwise."""
    classes = np.asarray(classes)
    entries = np.arange(len(embeddings)) if entries is None else np.asarray(entries)
    names = names or tuple(f"class {k}" for k in range(classes.max() + 1))
    return FewShotClassifier.fit(embeddings, entries, classes, names, **options)


def labels_of(classifier, embeddings):
    return classifier.predict(embeddings)[..., -2].astype(int)


class Clusters:
    """Gaussian clusters around far or near directions, one more than is supported."""

    def __init__(self, seed, n_classes=3, d=32, distance=4.0):
        self.rng, self.d, self.n_classes = np.random.default_rng(seed), d, n_classes
        centres = self.rng.normal(size=(n_classes + 1, d))
        self.centres = distance * centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(self, k, n):
        """Embeddings of a class; `n_classes` is the one without support."""
        return self.centres[k] + self.rng.normal(size=(n, self.d)) / np.sqrt(self.d)

    def fit(self, shots, centre=None, **options):
        shots = np.broadcast_to(shots, self.n_classes)
        support = np.concatenate([self.draw(k, n) for k, n in enumerate(shots)])
        if centre is None:
            centre = np.concatenate([self.draw(k, 200) for k in range(self.n_classes + 1)]).mean(0)
        classes = np.repeat(np.arange(self.n_classes), shots)
        return fit(support, classes, centre=centre, **options)


# Formulas, against a naive reference.


def unit(vector):
    return vector / np.linalg.norm(vector)


def naive(embeddings, entries, classes, centre):
    """Prototypes, and the scores of every entry that is left out, one by one."""

    def prototype(k, without=None):
        means = [
            np.mean([unit(e - centre) for e in embeddings[entries == i]], axis=0)
            for i, own in enumerate(classes)
            if own == k and i != without
        ]
        return unit(np.mean(means, axis=0)) if means else None

    n_classes = max(classes) + 1
    prototypes = np.array([prototype(k) for k in range(n_classes)])
    left_out = {}
    for i, own in enumerate(classes):
        if list(classes).count(own) > 1:
            others = [prototypes[k] if k != own else prototype(k, i) for k in range(n_classes)]
            left_out[i] = np.array(
                [[unit(e - centre) @ p for p in others] for e in embeddings[entries == i]]
            )
    return prototypes, left_out


@pytest.fixture
def uneven():
    """Entries of 1 to 4 embeddings, classes of 1 to 5 entries."""
    rng = np.random.default_rng(7)
    classes = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    entries = np.repeat(np.arange(9), [1, 3, 2, 4, 1, 2, 2, 1, 3])
    centres = rng.normal(size=(3, 6))
    embeddings = centres[classes[entries]] + 0.5 * rng.normal(size=(len(entries), 6)) + 2
    return embeddings, entries, classes, np.full(6, 2.0)


class NaiveRidge:
    """Kernel ridge regression that is solved again for every entry left out."""

    def __init__(self, embeddings, entries, classes, centre):
        self.entries, self.classes = entries, np.array(classes)
        self.vectors, self.centre = embeddings - centre, centre
        squares = [(self.vectors[entries == i] ** 2).sum(1).mean() for i in range(len(classes))]
        length = np.sqrt(np.mean(squares))
        own, k = self.classes[entries], max(classes) + 1
        weights = [
            len(classes) / (k * list(classes).count(c) * list(entries).count(i))
            for i, c in zip(entries, own, strict=True)
        ]
        self.weights, self.targets = np.array(weights), np.eye(k)[own] - 1 / k
        self.judged = [i for i, c in enumerate(classes) if list(classes).count(c) > 1]
        choices = [(r, lift * length) for lift in (0.25, 0.5, 1) for r in (0.01, 0.03, 0.1, 0.3, 1)]
        self.ridge, self.lift = min(choices, key=self.loss)

    def scores(self, queries, choice=None, without=None):
        """Minimum of the weighted squared error plus the ridge times the norm."""
        ridge, lift = choice or (self.ridge, self.lift)
        kept = self.entries != without
        units, queries = (
            np.array([unit([*vector, lift]) for vector in vectors])
            for vectors in (self.vectors[kept], queries)
        )
        targets = self.targets[kept]
        penalty = np.diag(ridge / self.weights[kept])
        coefficients = np.linalg.solve(self.kernel(units, units) + penalty, targets)
        return self.kernel(queries, units) @ coefficients

    def left_out(self, choice=None):
        """Scores of every entry from the others."""
        return {i: self.scores(self.vectors[self.entries == i], choice, i) for i in self.judged}

    def loss(self, choice):
        return sum(
            (self.weights[self.entries == i] * ((s - self.targets[self.entries == i]) ** 2).T).sum()
            for i, s in self.left_out(choice).items()
        )

    @staticmethod
    def kernel(left, right):
        return (np.exp(2 * left @ right.T) - 1) / (np.exp(2) - 1)


def test_scores_resemblance_and_probabilities_equal_the_formulas(uneven):
    embeddings, entries, classes, centre = uneven
    classifier = fit(embeddings, classes, entries, centre=centre, reject=False)
    prototypes, _ = naive(*uneven)
    np.testing.assert_allclose(classifier.prototypes, prototypes, rtol=1e-5)
    queries = np.random.default_rng(1).normal(2, 1, (4, 5, 6))
    units = np.array([[unit(q - centre) for q in row] for row in queries])
    cosines = np.array([[[u @ p for p in prototypes] for u in row] for row in units])
    np.testing.assert_allclose(classifier.resemblance(queries), cosines, atol=1e-6)
    ridge = NaiveRidge(*uneven)
    scores = np.array([ridge.scores(row - centre) for row in queries])
    assert classifier.lift == pytest.approx(ridge.lift)
    np.testing.assert_allclose(classifier.scores(queries), scores, atol=1e-5)
    gains = np.exp(scores / classifier.temperature)
    expected = gains / gains.sum(axis=-1, keepdims=True)
    packed = classifier.predict(queries)
    assert packed.shape == (4, 5, 5)
    assert packed.dtype == np.float32
    np.testing.assert_allclose(packed[..., :3], expected, rtol=1e-4)
    np.testing.assert_array_equal(packed[..., 3], scores.argmax(axis=-1))
    np.testing.assert_allclose(packed[..., 4], expected.max(axis=-1), rtol=1e-4)


def test_accuracy_and_thresholds_rest_on_whole_entries_left_out(uneven):
    embeddings, entries, classes, centre = uneven
    classifier = fit(embeddings, classes, entries, centre=centre, reject=0.2)
    _, left_out = naive(*uneven)
    ridge = NaiveRidge(*uneven)
    left_out_of_ridge = ridge.left_out()
    right = [scores.mean(axis=0).argmax() == classes[i] for i, scores in left_out_of_ridge.items()]
    assert classifier.leave_one_out == pytest.approx(np.mean(right))
    own = {i: scores[:, classes[i]] for i, scores in left_out.items()}
    means = [np.mean([own[i].mean() for i in own if classes[i] == k]) for k in (0, 1)]
    squares = sum(np.mean((scores - means[classes[i]]) ** 2) for i, scores in own.items())
    freedom = len(own) - 2
    spread = np.sqrt(squares / freedom)
    expected = [
        mean - stats.t.ppf(0.8, freedom) * spread * np.sqrt(1 + 1 / n)
        for mean, n in zip(means, [5, 3], strict=True)
    ]
    # The class of one entry is judged by how single entries score each other.
    units = [[unit(e - centre) for e in embeddings[entries == i]] for i in range(len(classes))]
    pairs = [
        np.mean([(e @ unit(np.mean(units[j], axis=0))) ** power for e in units[i]])
        for power in (1, 2)
        for i in own
        for j in own
        if i != j and classes[i] == classes[j]
    ]
    # Every entry weighs the same, whatever the number of others in its class.
    weights = [
        1 / (list(classes).count(classes[i]) - 1)
        for i in own
        for j in own
        if i != j and classes[i] == classes[j]
    ]
    mean, square = (np.average(part, weights=weights) for part in np.split(np.array(pairs), 2))
    expected.append(mean - stats.t.ppf(0.8, freedom) * np.sqrt(square - mean**2) * np.sqrt(2))
    np.testing.assert_allclose(classifier.thresholds, expected, atol=2e-5)


def test_temperature_has_the_most_posterior_probability(uneven):
    embeddings, entries, classes, centre = uneven
    classifier = fit(embeddings, classes, entries, centre=centre)
    ridge = NaiveRidge(*uneven)
    left_out = ridge.left_out()
    margins, weights = [], []
    for i, scores in left_out.items():
        others = np.delete(scores, classes[i], axis=1).max(axis=1)
        margins += list(scores[:, classes[i]] - others)
        weights += [1 / len(scores)] * len(scores)
    n, mean = len(left_out), np.average(margins, weights=weights)
    variance = np.average((np.array(margins) - mean) ** 2, weights=weights) * (n + 1) / (n - 3)
    centre_of_prior = np.log(np.clip(2 * mean / variance, 2, 10))
    gains = np.linspace(np.log(0.5), np.log(200), 4001)
    cost = 0.5 * (gains - centre_of_prior) ** 2
    for i, scores in left_out.items():
        logits = np.exp(gains)[:, np.newaxis, np.newaxis] * scores
        log_p = logits[..., classes[i]] - np.log(np.exp(logits).sum(axis=-1))
        cost -= log_p.mean(axis=-1)
    assert np.log(1 / classifier.temperature) == pytest.approx(gains[cost.argmin()], abs=2e-3)


# What is learnt.


def test_support_examples_are_classified_as_themselves():
    for seed in range(5):
        clusters = Clusters(seed, n_classes=5)
        support = np.concatenate([clusters.draw(k, 5) for k in range(5)])
        classifier = fit(support, np.repeat(np.arange(5), 5))
        np.testing.assert_array_equal(labels_of(classifier, support), np.repeat(np.arange(5), 5))
        assert classifier.leave_one_out == 1


def test_a_prototype_is_the_most_alike_to_itself():
    classifier = Clusters(0).fit(5)
    at_prototype = classifier.centre + classifier.prototypes
    np.testing.assert_allclose(np.diag(classifier.resemblance(at_prototype)), 1, rtol=1e-5)
    np.testing.assert_array_equal(labels_of(classifier, at_prototype), [0, 1, 2])


@pytest.mark.parametrize("shots", [5, 10])
def test_a_class_of_two_appearances_is_no_mean(shots):
    # The second class lies on both sides of the first, whose prototype is its own as well.
    rng = np.random.default_rng(0)
    sides = np.array([[1.0, 0, 0], [0.7, 0.7, 0], [0.7, -0.7, 0]])

    def draw(n):
        return np.repeat(sides, n, axis=0) + 0.1 * rng.normal(size=(3 * n, 3))

    classifier = fit(draw(shots), np.repeat([0, 1, 1], shots), centre=np.zeros(3), reject=False)
    truth = np.repeat([0, 1, 1], 200)
    assert (labels_of(classifier, draw(200)) == truth).mean() > 0.95
    # What one long class shows is that a prototype alone would not do.
    assert (classifier.resemblance(draw(200)).argmax(axis=-1) == truth).mean() < 0.8


def test_of_many_embeddings_some_of_every_entry_are_compared():
    clusters = Clusters(3)
    support = np.concatenate([clusters.draw(k, n) for k, n in enumerate((1000, 30, 30))])
    entries = np.repeat(np.arange(13), [900, *[10] * 10, 30, 30])
    classifier = fit(support, [*[0] * 11, 1, 2], entries)
    assert classifier.landmarks.shape == (512, 33)
    assert classifier.coefficients.shape == (512, 3)
    for k in range(3):
        assert (labels_of(classifier, clusters.draw(k, 100)) == k).mean() > 0.97
    # Entries beyond that number are chosen so that no class is left with few.
    many = fit(support, np.repeat([0, 1, 2], [1000, 30, 30]))
    assert many.landmarks.shape == (512, 33)
    rare = (support - many.centre)[1000:]
    rare = np.column_stack([rare, np.full(len(rare), many.lift)])
    rare /= np.linalg.norm(rare, axis=1, keepdims=True)
    np.testing.assert_allclose((rare @ many.landmarks.T).max(axis=1), 1, atol=1e-5)


def test_many_queries_score_as_few_do():
    classifier = Clusters(0).fit(5)
    queries = Clusters(0).draw(0, 20_000).astype(np.float32)
    few = np.concatenate([classifier.scores(part) for part in np.array_split(queries, 7)])
    np.testing.assert_allclose(classifier.scores(queries), few, atol=1e-5)


def test_the_distance_from_the_centre_counts():
    # Both classes lie in one direction from the centre of a data set that has other things.
    rng = np.random.default_rng(0)
    centres = np.array([[1.0, 0, 0], [3.0, 0, 0]])

    def draw(n):
        return np.repeat(centres, n, axis=0) + 0.2 * rng.normal(size=(2 * n, 3))

    classifier = fit(draw(5), [0] * 5 + [1] * 5, centre=np.zeros(3), reject=False)
    assert (labels_of(classifier, draw(300)) == np.repeat([0, 1], 300)).mean() > 0.99


# Blocks.


def joined(shots, seed, told_by=0):
    """Two blocks of 16 numbers, one of which says nothing of two classes."""
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 1], shots)
    blocks = rng.normal(size=(2, 2 * shots, 16))
    directions = np.random.default_rng(99).normal(size=(2, 16))
    blocks[told_by] = 2 * directions[classes] + 0.7 * blocks[told_by]
    blocks[1 - told_by] *= 2
    return np.concatenate(list(blocks), axis=1), classes


@pytest.mark.parametrize("told_by", [0, 1])
def test_the_block_that_tells_the_classes_weighs_more(told_by):
    weights, right = [], {None: [], (16, 16): []}
    for seed in range(10):
        queries, truth = joined(300, 100 + seed, told_by)
        for blocks, shares in right.items():
            classifier = fit(*joined(5, seed, told_by), centre=queries.mean(axis=0), blocks=blocks)
            shares.append((classifier.scores(queries).argmax(axis=-1) == truth).mean())
        weights.append(classifier.weights[[0, 31]])
        assert len(np.unique(classifier.weights)) == 2
    assert np.min([pair[told_by] / pair[1 - told_by] for pair in weights]) > 1.3
    assert np.mean(right[16, 16]) >= np.mean(right[None])


def test_weights_of_blocks_are_those_of_an_analysis_of_variance():
    rng = np.random.default_rng(3)
    vectors, entries = rng.normal(size=(9, 5)), np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])
    classes = np.array([0, 0, 0, 1, 1, 1])
    vectors[:4, :2] += 3
    expected = []
    for block in (vectors[:, :2], vectors[:, 2:]):
        entry_means = np.array([block[entries == e].mean(axis=0) for e in range(6)])
        means = np.array([entry_means[classes == k].mean(axis=0) for k in (0, 1)])
        scatter = [((block[entries == e] - means[classes[e]]) ** 2).sum(1).mean() for e in range(6)]
        within = sum(scatter) / 4
        between = ((means[0] - means[1]) ** 2).sum() / 2 - within / 3
        ratio = within / (within + max(between, 0) / 2)
        expected.append((3 + 4) / (1.5 + 4 * ratio))
    found = block_weights(vectors, entries, classes, 2, (2, 3))
    np.testing.assert_allclose(found, np.repeat(expected, [2, 3]), rtol=1e-12)
    assert found[0] > 1.2 * found[-1]


def test_one_block_or_one_shot_a_class_has_no_weights():
    vectors = np.random.default_rng(0).normal(size=(4, 5))
    two = np.arange(2)
    np.testing.assert_array_equal(block_weights(vectors[:2], two, two, 2, (2, 3)), 1)
    np.testing.assert_array_equal(block_weights(vectors, np.arange(4), two.repeat(2), 2, (5,)), 1)
    with pytest.raises(ValueError, match=r"lengths \(2, 4\) do not make .* of length 5"):
        fit(vectors, [0, 0, 1, 1], blocks=(2, 4))


@pytest.mark.parametrize("names", [("2", "5", "5.0"), ("", "a b", "ß/…"), ("x", "Ge", "<b>")])
def test_class_names_are_any_strings(names):
    classifier = Clusters(1).fit(3, names=names)
    assert classifier.class_names == names
    assert set(labels_of(classifier, Clusters(1).centres[:3])) == {0, 1, 2}


@pytest.mark.parametrize("shots", [(1, 4, 9), (5, 1, 1), (2, 2, 2), (1, 1, 2)])
def test_unequal_numbers_of_examples(shots):
    right, left_out = [], []
    for seed in range(10):
        clusters = Clusters(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classifier = clusters.fit(shots)
        assert np.isfinite([classifier.temperature, *classifier.thresholds]).all()
        right.append([(labels_of(classifier, clusters.draw(k, 50)) == k).mean() for k in range(3)])
        left_out.append(classifier.leave_one_out)
    # One shot a class is not rejected more often than many.
    assert np.mean(right, axis=0).min() > 0.97
    assert np.mean(left_out) == 1


def test_equal_examples_are_not_rejected_for_rounding():
    support = np.repeat(np.random.default_rng(0).normal(size=(3, 40)), 4, axis=0)
    classes = np.repeat([0, 1, 2], 4)
    for factor in (1.0, 1e4):
        classifier = fit(factor * support, classes)
        queries = (factor * support).astype(np.float32)
        np.testing.assert_array_equal(labels_of(classifier, queries), classes)


def test_order_of_examples_and_classes_does_not_matter():
    clusters = Clusters(2)
    support = np.concatenate([clusters.draw(k, 4) for k in range(3)])
    classes = np.repeat([0, 1, 2], 4)
    order = np.random.default_rng(0).permutation(12)
    one, other = fit(support, classes), fit(support[order], classes[order])
    np.testing.assert_allclose(one.prototypes, other.prototypes, atol=1e-6)
    assert one.temperature == pytest.approx(other.temperature, rel=1e-5)
    np.testing.assert_allclose(one.thresholds, other.thresholds, rtol=1e-6)
    turned = fit(support, 2 - classes)
    np.testing.assert_allclose(turned.prototypes[::-1], one.prototypes, atol=1e-6)
    np.testing.assert_allclose(turned.thresholds[::-1], one.thresholds, rtol=1e-6)


def test_scale_and_shift_of_embeddings_do_not_matter():
    clusters = Clusters(4)
    support, queries = (np.concatenate([clusters.draw(k, n) for k in range(3)]) for n in (4, 50))
    classes, centre = np.repeat([0, 1, 2], 4), support.mean(axis=0)
    expected = fit(support, classes, centre=centre)
    for factor, shift in [(1e-3, 0), (250, 0), (1, 30), (12, -7)]:
        changed = fit(factor * support + shift, classes, centre=factor * centre + shift)
        assert changed.temperature == pytest.approx(expected.temperature, rel=1e-4)
        np.testing.assert_allclose(changed.thresholds, expected.thresholds, rtol=1e-4)
        np.testing.assert_allclose(
            changed.predict(factor * queries + shift), expected.predict(queries), atol=1e-3
        )


def test_the_same_support_gives_the_same_classifier():
    one, same = Clusters(5).fit(4), Clusters(5).fit(4)
    assert (one.temperature, one.leave_one_out) == (same.temperature, same.leave_one_out)
    np.testing.assert_array_equal(one.thresholds, same.thresholds)
    queries = Clusters(6).draw(0, 30)
    np.testing.assert_array_equal(one.predict(queries), same.predict(queries))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(one)).predict(queries), one.predict(queries)
    )


def test_fit_does_not_change_what_it_is_given():
    clusters = Clusters(5)
    support = np.concatenate([clusters.draw(k, 4) for k in range(3)]).astype(np.float32)
    before, classes = support.copy(), np.repeat([0, 1, 2], 4)
    classifier = fit(support, classes)
    classifier.predict(support)
    np.testing.assert_array_equal(support, before)
    np.testing.assert_array_equal(classes, np.repeat([0, 1, 2], 4))
    np.testing.assert_allclose(classifier.centre, before.mean(axis=0), rtol=1e-5)


# Probabilities.


def test_probabilities_sum_to_one_and_lie_inside():
    classifier = Clusters(0).fit(5)
    probabilities = classifier.predict(np.random.default_rng(0).normal(size=(200, 32)))[:, :3]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert probabilities.min() > 0
    assert probabilities.max() < 1


def test_separable_support_gives_a_finite_temperature():
    support = np.repeat(np.eye(3), 4, axis=0) + 1e-9 * np.random.default_rng(0).normal(size=(12, 3))
    classifier = fit(support, np.repeat([0, 1, 2], 4))
    assert 0.005 < classifier.temperature < 0.5
    confidence = classifier.predict(support)[:, -1]
    assert (confidence > 0.9).all()
    assert (confidence < 1).all()


def test_classes_that_overlap_give_a_higher_temperature():
    temperatures = [
        np.mean([Clusters(seed, distance=distance).fit(5).temperature for seed in range(8)])
        for distance in (4.0, 0.25, 0.0)
    ]
    assert temperatures == sorted(temperatures)
    assert temperatures[1] > 2 * temperatures[0]


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_confidence_is_about_the_share_of_right_labels(distance):
    confidence, right = [], []
    for seed in range(20):
        clusters = Clusters(seed, d=8, distance=distance)
        classifier = clusters.fit(5, reject=False)
        for k in range(3):
            packed = classifier.predict(clusters.draw(k, 100))
            confidence.append(packed[:, -1])
            right.append(packed[:, -2] == k)
    assert abs(np.mean(confidence) - np.mean(right)) < 0.12


# Leaving out.


def test_duplicates_inside_an_entry_do_not_leak():
    rng = np.random.default_rng(0)
    # Classes that cannot be told apart; every entry is one embedding eight times.
    single = rng.normal(size=(10, 20))
    classes = np.arange(10) % 2
    entries = np.repeat(np.arange(10), 8)
    whole = fit(np.repeat(single, 8, axis=0), classes, entries, centre=np.zeros(20))
    assert whole.leave_one_out == fit(single, classes, centre=np.zeros(20)).leave_one_out < 0.9
    apart = fit(np.repeat(single, 8, axis=0), np.repeat(classes, 8), centre=np.zeros(20))
    assert apart.leave_one_out > whole.leave_one_out
    assert whole.temperature > apart.temperature


def test_entries_count_alike_whatever_their_size():
    one, two = np.array([1.0, 0.1, 0]), np.array([1.0, -0.1, 0])
    other = np.array([[0, 0, 1.0], [0.1, 0, 1.0]])
    embeddings = np.concatenate([np.tile(one, (50, 1)), [two], other])
    entries = np.r_[np.zeros(50, int), 1, 2, 3]
    classifier = fit(embeddings, [0, 0, 1, 1], entries, centre=np.zeros(3))
    np.testing.assert_allclose(classifier.prototypes[0], [1, 0, 0], atol=1e-6)


def test_one_example_a_class_falls_back_to_documented_constants():
    clusters = Clusters(0)
    with pytest.warns(UserWarning, match=r"nothing can be left out .* constants \(0.1 and 0.0\)"):
        classifier = clusters.fit(1)
    assert (FALLBACK_TEMPERATURE, FALLBACK_THRESHOLD) == (0.1, 0.0)
    assert classifier.temperature == 0.1
    np.testing.assert_array_equal(classifier.thresholds, 0)
    assert np.isnan(classifier.leave_one_out)
    for k in range(3):
        assert (labels_of(classifier, clusters.draw(k, 100)) == k).mean() > 0.9


# Rejection.


def rejection(shots, reject, **options):
    """Share of rejected queries of the classes, and of a class without support."""
    inside, outside = [], []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*support no significance level")
        for seed in range(30):
            clusters = Clusters(seed, **options)
            classifier = clusters.fit(shots, reject=reject)
            seen = np.concatenate([clusters.draw(k, 100) for k in range(clusters.n_classes)])
            inside.append((labels_of(classifier, seen) == REJECTED).mean())
            unseen = clusters.draw(clusters.n_classes, 100)
            outside.append((labels_of(classifier, unseen) == REJECTED).mean())
    return np.mean(inside), np.mean(outside)


@pytest.mark.parametrize("level", [0.05, 0.2])
@pytest.mark.parametrize("shots", [3, 5, 20])
def test_as_many_are_rejected_as_the_level_says(shots, level):
    inside, outside = rejection(shots, level)
    assert 0.5 * level < inside < 1.5 * level + 0.01
    assert outside > 0.95


@pytest.mark.parametrize("options", [{}, {"d": 8}, {"n_classes": 2}, {"n_classes": 5}])
@pytest.mark.parametrize("shots", [3, 5, 10, (2, 5, 9)])
def test_the_default_rejects_few_of_the_classes_and_most_of_others(shots, options):
    if options.get("n_classes", 3) != 3 and np.ndim(shots):
        shots = 5
    inside, outside = rejection(shots, True, **options)
    assert inside < 0.03
    assert outside > 0.8


def test_two_examples_a_class_show_no_scatter():
    # Each of the two scores the other alike: no scatter must not mean no tolerance.
    classifier = Clusters(0).fit(2)
    np.testing.assert_array_equal(classifier.thresholds, FALLBACK_THRESHOLD)
    assert rejection(2, True)[0] < 0.01
    with pytest.warns(UserWarning, match="Two examples a class support no significance level"):
        Clusters(0).fit(2, reject=0.3)
    # Several embeddings an entry do show one.
    rng = np.random.default_rng(0)
    support = np.repeat(np.eye(3), 10, axis=0) + 0.1 * rng.normal(size=(30, 3))
    regions = fit(support, [0, 0, 1, 1, 2, 2], np.repeat(np.arange(6), 5))
    assert (regions.thresholds != FALLBACK_THRESHOLD).all()


@pytest.mark.parametrize("reject", [False, np.False_])
def test_nothing_is_rejected_unless_asked(reject):
    classifier = Clusters(0).fit(5, reject=reject)
    np.testing.assert_array_equal(classifier.thresholds, -np.inf)
    queries = np.random.default_rng(0).normal(size=(500, 32))
    assert labels_of(classifier, queries).min() >= 0


def test_true_of_numpy_is_the_default_level():
    expected = Clusters(0).fit(5).thresholds
    np.testing.assert_array_equal(Clusters(0).fit(5, reject=np.True_).thresholds, expected)


def test_lower_levels_reject_less():
    thresholds = [Clusters(0).fit(5, reject=level).thresholds for level in (0.3, 0.1, 0.07)]
    assert (np.diff(thresholds, axis=0) < 0).all()


def test_a_level_that_the_support_cannot_carry_is_named():
    with pytest.warns(UserWarning, match=r"15 support entries support no .* below 0.062; .*0.01"):
        Clusters(0).fit(5, reject=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Clusters(0).fit(5, reject=0.07)
        Clusters(0).fit(5, reject=True)


def test_without_landmarks_the_nearest_prototype_wins():
    classifier = FewShotClassifier(("a", "b"), np.zeros(3), np.eye(2, 3), 0.1, np.zeros(2), 1.0)
    queries = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_array_equal(classifier.scores(queries), classifier.resemblance(queries))


def test_a_query_is_rejected_below_all_thresholds_only():
    classifier = FewShotClassifier(
        ("a", "b"), np.zeros(3), np.eye(2, 3), 0.1, np.array([0.9, 0.2]), 1.0
    )
    queries = np.array([unit(v) for v in ([1, 0, 0.1], [0.7, 0.3, 1], [0.7, 0.1, 1], [0, 0, 1])])
    np.testing.assert_array_equal(labels_of(classifier, queries), [0, 0, REJECTED, REJECTED])
    confidence = classifier.predict(queries)[:, -1]
    np.testing.assert_array_equal(np.isnan(confidence), [False, False, True, True])


# What is not finite.


def test_queries_that_are_not_finite_are_masked():
    classifier = Clusters(0).fit(5)
    queries = Clusters(0).draw(0, 6).reshape(2, 3, 32)
    queries[0, 1] = np.nan
    queries[1, 0, 7] = np.nan
    queries[1, 2, 3] = np.inf
    packed = classifier.predict(queries.astype(np.float32))
    expected = [[False, True, False], [True, False, True]]
    np.testing.assert_array_equal(packed[..., -2] == MASKED, expected)
    np.testing.assert_array_equal(np.isnan(packed[..., :3]).all(axis=-1), expected)
    np.testing.assert_array_equal(np.isnan(packed[..., -1]), expected)


def test_a_query_at_the_centre_is_near_no_class():
    classifier = Clusters(0).fit(5, reject=False)
    packed = classifier.predict(classifier.centre)
    assert packed[:3].sum() == pytest.approx(1)
    assert packed[:3].max() < 0.6
    assert labels_of(Clusters(0).fit(5), classifier.centre) == REJECTED


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_support_or_centre_that_is_not_finite(bad):
    support = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError, match="NaN or infinite embeddings"):
        fit(support, [0, 0, 1, 1], centre=np.array([0, bad, 0]))
    support[2, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite embeddings"):
        fit(support, [0, 0, 1, 1])


def test_classes_and_entries_without_examples():
    support = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError, match=r"At least two classes are needed, got \['only'\]"):
        fit(support, [0, 0, 0, 0], names=("only",))
    with pytest.raises(ValueError, match="Class 'class 1' has no examples"):
        fit(support, [0, 0, 2, 2])
    with pytest.raises(ValueError, match="An entry of the support set has no embedding"):
        fit(support, [0, 0, 1, 1], entries=[0, 0, 2, 3])


def test_a_varied_class_keeps_what_it_was_shown_by():
    rng = np.random.default_rng(5)
    even = rng.normal([8, 0, 0, 0], 0.05, (4, 4))
    varied = rng.normal([-2, 3, 0, 0], 2.5, (80, 4))
    embeddings = np.concatenate([even, varied])
    entries = np.concatenate([np.arange(4), np.full(80, 4)])
    classifier = FewShotClassifier.fit(
        embeddings, entries, np.array([0, 0, 0, 0, 1]), ("film", "particle"), centre=np.zeros(4)
    )
    own = classifier.resemblance(varied)[:, 1]
    assert (own >= classifier.thresholds[1]).mean() >= 0.95
    assert (own >= classifier.thresholds[1]).mean() < 1
    assert (classifier.predict(even)[:, -2] == 0).all()
    more = classifier.predict(rng.normal([-2, 3, 0, 0], 2.5, (4000, 4)))[:, -2]
    assert (more == -1).mean() < 0.1
