"""Shots of a class that share much of their data count as one."""

import numpy as np
import pytest

from hyperspy_fewshot.support.locate import Shot
from hyperspy_fewshot.support.overlap import independent_shots


def naive_groups(shots, classes, side):
    """Shots that hold locations less than half a side apart, joined step by step."""

    def near(one, other):
        if one is other or one.locations is None or other.locations is None:
            return one is other
        for a in one.locations:
            for b in other.locations:
                same_frame = (a[:-2] == b[:-2]).all()
                if same_frame and (2 * np.abs(a - b)[-2:] < side).all():
                    return True
        return False

    groups = list(range(len(shots)))
    for _ in shots:
        for i, one in enumerate(shots):
            for j, other in enumerate(shots):
                if classes[i] == classes[j] and near(one, other):
                    groups[i] = groups[j] = min(groups[i], groups[j])
    return groups


def same_partition(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return ((one[:, None] == one) == (other[:, None] == other)).all()


@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_groups_equal_those_of_a_loop(ndim, side):
    rng = np.random.default_rng(ndim)
    shots = [
        Shot(rng.integers(0, (3, 30, 30)[-ndim:], (rng.integers(1, 4), ndim))) for _ in range(20)
    ]
    shots += [Shot(item=np.zeros((1, 4))) for _ in range(3)]
    classes = rng.integers(0, 3, len(shots))
    groups, group_classes = independent_shots(shots, classes, side)
    assert same_partition(groups, naive_groups(shots, classes, side))
    np.testing.assert_array_equal(group_classes[groups], classes)
    assert set(groups) == set(range(len(group_classes)))


def test_ready_examples_are_independent():
    shots = [Shot(item=np.zeros((1, 4)))] * 3
    groups, classes = independent_shots(shots, np.array([0, 1, 1]), 9)
    assert groups.tolist() == [0, 1, 2]
    assert classes.tolist() == [0, 1, 1]


def test_shots_are_joined_over_others():
    shots = [Shot(np.array([[10, x]])) for x in (0, 3, 6, 12)]
    groups, _ = independent_shots(shots, np.zeros(4, int), 8)
    assert groups.tolist() == [0, 0, 0, 1]
