"""Shots of a class that share more than half of their data count as one."""

import tracemalloc

import numpy as np
import pytest

from hyperspy_fewshot.support.locate import Shot
from hyperspy_fewshot.support.overlap import independent_shots


def shared(a, b, side):
    """Share of the data of two locations that is the same."""
    pooled = min(2, len(a))
    if (a[:-pooled] != b[:-pooled]).any():
        return 0.0
    return np.prod([max(0.0, 1 - abs(d) / side) for d in (a - b)[-pooled:]])


def depends(one, other, side):
    """Whether more than half of the locations of the smaller shot are shared."""
    small, large = sorted((one, other), key=len)
    if len(one) == len(other):
        small, large = other, one
    hits = [any(shared(a, b, side) > 0.5 for b in large) for a in small]
    return np.mean(hits) > 0.5


def naive_groups(shots, classes, side):
    """Each shot with the first earlier leader of its class that it depends on, or on its own."""
    groups = []
    for i, shot in enumerate(shots):
        groups.append(i)
        for leader in sorted(set(groups[:i])):
            one, other = shots[leader].locations, shot.locations
            if one is None or other is None or classes[leader] != classes[i]:
                continue
            if depends(one, other, side):
                groups[i] = leader
                break
    return groups


def same_partition(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return ((one[:, None] == one) == (other[:, None] == other)).all()


def clicks(*places):
    return [Shot(np.array([place])) for place in places]


def groups_of(shots, side):
    return independent_shots(shots, np.zeros(len(shots), int), side)[0].tolist()


@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_groups_equal_those_of_a_loop(ndim, side):
    rng = np.random.default_rng(ndim)
    shots = [
        Shot(rng.integers(0, (3, 15, 15)[-ndim:], (rng.integers(1, 5), ndim))) for _ in range(40)
    ]
    shots[5:5] = [Shot(item=np.zeros((1, 4))) for _ in range(3)]
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


def test_more_than_half_of_the_area_of_a_chip():
    # 5/8 along both axes make 25/64 of the area; 6/8 make 36/64.
    assert groups_of(clicks((0, 0), (3, 3)), 8) == [0, 1]
    assert groups_of(clicks((0, 0), (2, 2)), 8) == [0, 0]
    assert groups_of(clicks((0, 0), (0, 3), (0, 4)), 8) == [0, 0, 1]


def test_clicks_along_an_interface_are_not_one_shot():
    along = clicks(*((50, 16 * i) for i in range(10)))
    assert groups_of(along, 64) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert groups_of(clicks((10, 0), (10, 3), (10, 6), (10, 12)), 8) == [0, 0, 1, 2]


def test_regions_that_touch_are_not_one_shot():
    rows = np.stack(np.mgrid[:20, :20], axis=-1).reshape(-1, 2)
    below, mostly = Shot(rows + (20, 0)), Shot(rows + (5, 0))
    assert groups_of([Shot(rows), below, mostly], 4) == [0, 1, 0]
    # A click inside a region is a part of it.
    assert groups_of([Shot(rows), *clicks((9, 9), (30, 9))], 4) == [0, 0, 1]


def test_later_shots_do_not_change_earlier_groups():
    rng = np.random.default_rng(0)
    shots = [Shot(rng.integers(0, 60, (rng.integers(1, 4), 2))) for _ in range(60)]
    whole = groups_of(shots, 12)
    for n in (1, 20, 45):
        assert groups_of(shots[:n], 12) == whole[:n]


@pytest.mark.parametrize(("spread", "least", "most"), [(1, 1, 1), (200, 20, 120)])
def test_twenty_thousand_examples_need_little_memory(spread, least, most):
    places = np.random.default_rng(0).integers(0, spread, (20_000, 2))
    shots = clicks(*places)
    tracemalloc.start()
    groups = groups_of(shots, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    assert least <= len(set(groups)) <= most
