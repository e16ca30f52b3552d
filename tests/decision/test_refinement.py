"""Probabilities that are refined by the guide image."""

import numpy as np
import pytest

from hyperspy_fewshot.decision.refinement import guided_coefficients, refined
from hyperspy_fewshot.labels import MASKED, REJECTED

SHAPE, CLASSES, RADIUS, FLAT = (11, 14), 3, 2, 1e-3


@pytest.fixture
def packed():
    """Noisy probabilities, labels and confidence of a map; some rejected, some masked."""
    rng = np.random.default_rng(0)
    packed = np.empty((*SHAPE, CLASSES + 2), np.float32)
    packed[..., :-2] = rng.dirichlet(np.ones(CLASSES), SHAPE)
    packed[..., -2], packed[..., -1] = packed[..., :-2].argmax(-1), packed[..., :-2].max(-1)
    packed[4:6, 3:5, -2:], packed[0, 0] = (REJECTED, np.nan), np.nan
    packed[0, 0, -2] = MASKED
    return packed


@pytest.fixture
def guide():
    guide = np.random.default_rng(1).normal(50, 20, SHAPE).astype(np.float32)
    guide[0, 0] = np.nan
    return guide


def around(row, column, known):
    """Known places in the square around one."""
    rows, columns = (slice(max(0, i - RADIUS), i + RADIUS + 1) for i in (row, column))
    here = np.zeros(SHAPE, bool)
    here[rows, columns] = True
    return here & known


def naive(packed, guide, contrast):
    """Least squares in every square, and the mean of its lines."""
    known, grey = packed[..., -2] >= 0, guide.astype(float) / contrast
    lines = {}
    for place in np.ndindex(SHAPE):
        here = around(*place, known)
        if not here.any():
            continue
        x, y = grey[here], packed[here, :-2].astype(float)
        slope = ((x - x.mean()) @ (y - y.mean(0)) / len(x)) / (x.var() + FLAT)
        lines[place] = slope, y.mean(0) - slope * x.mean()
    expected = packed.astype(float)
    for place in zip(*np.nonzero(known), strict=True):
        near = [lines[tuple(p)] for p in np.argwhere(around(*place, known))]
        slope, level = np.mean(near, axis=0)
        values = np.clip(slope * grey[place] + level, 0, None)
        values /= values.sum()
        expected[place] = [*values, values.argmax(), values.max()]
    return expected


def test_equals_a_naive_loop(packed, guide):
    before = packed.copy()
    found = refined(packed, guide, 80.0, RADIUS, (0, 1))
    np.testing.assert_allclose(found, naive(packed, guide, 80.0), rtol=0, atol=2e-5)
    np.testing.assert_array_equal(packed, before)


def test_does_not_depend_on_the_block(packed, guide):
    whole = refined(packed, guide, 80.0, RADIUS, (0, 1))
    part = refined(packed[:, 3:], guide[:, 3:], 80.0, RADIUS, (0, 1))
    np.testing.assert_array_equal(part[:, 2 * RADIUS :], whole[:, 3 + 2 * RADIUS :])


def test_frames_are_refined_by_themselves(packed, guide):
    stack = np.stack([packed, packed[::-1]]), np.stack([guide, guide[::-1]])
    found = refined(*stack, 80.0, RADIUS, (1, 2))
    np.testing.assert_array_equal(found[0], refined(packed, guide, 80.0, RADIUS, (0, 1)))


def test_a_boundary_follows_the_edge_of_the_guide():
    guide = np.where(np.arange(24) < 13, 10.0, 30.0) * np.ones((20, 1))
    ramp = 1 / (1 + np.exp(-(np.arange(24) - 10.5) / 1.5))
    packed = np.empty((20, 24, 4), np.float32)
    packed[..., 0], packed[..., 1] = 1 - ramp, ramp
    packed[..., 2], packed[..., 3] = packed[..., :2].argmax(-1), packed[..., :2].max(-1)
    truth = guide > 20
    found = packed
    for wrong in (40, 20, 0):
        assert (found[..., 2] != truth).sum() == wrong
        found = refined(found, guide, 20.0, 3, (0, 1))


def test_everything_rejected_stays(packed, guide):
    packed[..., -2] = REJECTED
    assert refined(packed, guide, 80.0, RADIUS, (0, 1)) is packed


def test_coefficients_of_a_linear_function():
    guide = np.random.default_rng(2).random((9, 8, 1)).astype(np.float32)
    values = np.concatenate([3 * guide + 1, -guide], axis=-1)
    slopes, levels = guided_coefficients(values, guide, np.ones((9, 8), bool), 2, (0, 1))
    np.testing.assert_allclose(slopes, [[[3, -1]]] * np.ones((9, 8, 1)), atol=0.1)
    np.testing.assert_allclose(slopes * guide + levels, values, atol=0.05)
