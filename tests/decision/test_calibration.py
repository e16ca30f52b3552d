"""Accuracy and temperature of left-out shots against naive references."""

import numpy as np
import pytest

from hyperspy_fewshot.decision.calibration import FALLBACK_TEMPERATURE, LeftOutScores

# Shots of 1 to 4 embeddings, interleaved; shots and classes are not in the same order.
SHOTS = np.array([3, 0, 5, 3, 1, 0, 5, 0, 4, 5, 5, 1])
CLASSES = np.array([2, 0, 1, 2, 0, 0, 1, 0, 2, 1, 1, 0])


@pytest.fixture
def left_out():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(12, 3))
    scores[np.arange(12), CLASSES] += 1
    return LeftOutScores(scores, CLASSES, SHOTS, 1 / np.bincount(SHOTS)[SHOTS])


def test_accuracy_is_the_fraction_of_shots(left_out):
    right = []
    for shot in np.unique(SHOTS):
        here = SHOTS == shot
        right.append(left_out.scores[here].mean(axis=0).argmax() == CLASSES[here][0])
    assert 0 < np.mean(right) < 1
    assert left_out.accuracy() == pytest.approx(np.mean(right))


def test_temperature_maximises_the_posterior(left_out):
    margins = [s[k] - np.delete(s, k).max() for s, k in zip(left_out.scores, CLASSES, strict=True)]
    n, mean = 5, np.average(margins, weights=left_out.weights)
    variance = np.average((margins - mean) ** 2, weights=left_out.weights) * (n + 1) / (n - 3)
    gains = np.linspace(np.log(0.5), np.log(200), 4001)
    cost = 0.5 * (gains - np.log(np.clip(2 * mean / variance, 2, 10))) ** 2
    for scores, k, weight in zip(left_out.scores, CLASSES, left_out.weights, strict=True):
        logits = np.exp(gains)[:, np.newaxis] * scores
        cost -= weight * (logits[:, k] - np.log(np.exp(logits).sum(axis=1)))
    expected = gains[cost.argmin()]
    assert np.log(1 / left_out.temperature()) == pytest.approx(expected, abs=2e-3)


def test_perfect_separation_gives_a_finite_temperature():
    scores, classes = np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4)
    separated = LeftOutScores(scores, classes, np.arange(12), np.ones(12))
    assert 0.05 < separated.temperature() < 0.2
    assert separated.accuracy() == 1


def test_without_shots_to_leave_out():
    none = np.empty(0, int)
    left_out = LeftOutScores(np.empty((0, 3)), none, none, np.empty(0))
    assert np.isnan(left_out.accuracy())
    assert left_out.temperature() == FALLBACK_TEMPERATURE == 0.1
