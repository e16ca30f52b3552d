"""Intervals of small maps, computed label by label."""

import numpy as np
import pytest

from hyperspy_fewshot.frequencies import class_frequencies
from hyperspy_fewshot.statistics.intervals import fraction_intervals


def random_map(shape=(9, 12), k=3, seed=0):
    """Labels with rejected and masked ones, probabilities, and areas."""
    rng = np.random.default_rng(seed)
    probabilities = np.moveaxis(rng.dirichlet(np.full(k, 0.4), shape), -1, 0)
    labels = probabilities.argmax(axis=0)
    kind = rng.random(shape)
    labels[kind < 0.15] = -1
    labels[kind > 0.9] = -2
    probabilities[:, labels == -2] = np.nan
    return labels, probabilities, rng.uniform(1, 3, shape)


def naive(labels, probabilities, areas, spread, overlap, boundary):
    k, kept = len(probabilities), [tuple(i) for i in np.argwhere(labels != -2)]
    total = sum(areas[i] for i in kept)
    names = ("fraction", "mean_probability", "of_ambiguity", "of_boundary", "of_rejection")
    parts = {name: np.zeros(k) for name in names}
    variance = np.zeros(k)
    for i in kept:
        p, share = probabilities[(slice(None), *i)], areas[i] / total
        if labels[i] < 0:
            parts["of_rejection"][p.argmax()] += 0.4 * share
            continue
        beside = False
        for axis in range(labels.ndim):
            for step in (-1, 1):
                other = list(i)
                other[axis] += step
                if 0 <= other[axis] < labels.shape[axis]:
                    beside |= labels[tuple(other)] not in (labels[i], -2)
        own = np.arange(k) == labels[i]
        parts["fraction"] += own * share
        parts["mean_probability"] += p * share
        parts["of_ambiguity"] += 2 * abs(own - p) * share
        parts["of_boundary"] += boundary * own * share * beside
        variance += share**2 * p * (1 - p)
    parts["of_labels"] = 1.96 * np.sqrt(overlap * variance)
    parts["of_shots"] = 3 * spread
    return parts


@pytest.mark.parametrize("shape", [(9, 12), (40,)])
def test_every_part_equals_its_definition(shape):
    labels, probabilities, areas = random_map(shape)
    spread = np.array([0.01, 0.0, 0.04])
    found = fraction_intervals(labels, probabilities, areas, spread, 2.5, 0.8, labels.ndim)
    expected = naive(labels, probabilities, areas, spread, 2.5, 0.8)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12, err_msg=name)
    half = np.sqrt(sum(v**2 for name, v in expected.items() if name.startswith("of_")))
    estimates = [found[name] for name in ("frequency", "fraction", "mean_probability")]
    rejected = areas[labels == -1].sum() / areas[labels != -2].sum()
    assert found["frequency"].sum() == pytest.approx(1 - rejected)
    np.testing.assert_allclose(found["low"], np.clip(np.min(estimates, axis=0) - half, 0, 1))
    np.testing.assert_allclose(found["high"], np.clip(np.max(estimates, axis=0) + half, 0, 1))


def test_frames_are_no_neighbours():
    labels, probabilities, areas = random_map((3, 5, 6))
    together = fraction_intervals(labels, probabilities, areas, None, 1.0, 0.5, 2)["of_boundary"]
    total = areas[labels != -2].sum()
    alone = sum(
        fraction_intervals(labels[i], probabilities[:, i], areas[i], None, 1.0, 0.5, 2)[
            "of_boundary"
        ]
        * areas[i][labels[i] != -2].sum()
        for i in range(3)
    )
    np.testing.assert_allclose(together, alone / total)


def test_everything_masked_has_no_interval():
    labels, probabilities, areas = random_map()
    labels[:], probabilities[:] = -2, np.nan
    found = fraction_intervals(labels, probabilities, areas, None, 1.0, 0.5, 2)
    assert np.isnan(found["low"]).all()
    assert np.isnan(found["high"]).all()


@pytest.mark.parametrize("truth", [(0.5, 0.5), (0.9, 0.1), (0.99, 0.01)])
def test_frequencies_of_probabilities_that_assume_equal_ones(truth):
    rng = np.random.default_rng(0)
    classes = rng.choice(2, 40_000, p=truth)
    scores = rng.normal(np.where(classes, 1.5, -1.5), 1)
    second = 1 / (1 + np.exp(-3 * scores))
    probabilities = np.stack([1 - second, second])
    found = class_frequencies(probabilities, np.ones(len(classes)))
    np.testing.assert_allclose(found, truth, atol=0.01)
    naive = probabilities.mean(axis=1)
    assert abs(found[1] - truth[1]) < abs(naive[1] - truth[1]) + 0.001


def test_frequencies_follow_the_areas():
    probabilities = np.array([[0.99, 0.01, 0.02], [0.01, 0.99, 0.98]])
    found = class_frequencies(probabilities, np.array([8.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, [0.8, 0.2], atol=0.02)
