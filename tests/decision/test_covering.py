import numpy as np
import pytest

from hyperspy_fewshot.decision.covering import accept_covered


def packed_map(shape, k=3, seed=0, rejected=0.6):
    """A map as `predict` returns it, with rejected and masked queries at random."""
    rng = np.random.default_rng(seed)
    packed = np.empty((*shape, k + 2), np.float32)
    packed[..., :k] = rng.dirichlet(np.ones(k), shape)
    packed[..., -2] = packed[..., :k].argmax(axis=-1)
    packed[..., -1] = packed[..., :k].max(axis=-1)
    kind = rng.random(shape)
    packed[kind < rejected, -2:] = -1, np.nan
    packed[kind > 0.9] = np.nan
    packed[kind > 0.9, -2] = -2
    return packed


def naive(packed, reach):
    """Look at every rejected query and at all that may cover it."""
    result, labels = packed.copy(), packed[..., -2]
    for index in np.argwhere(labels == -1):
        near = tuple(
            slice(max(0, i - reach.get(axis, 0)), i + reach.get(axis, 0) + 1)
            for axis, i in enumerate(index)
        )
        if (labels[near] >= 0).any():
            own = packed[tuple(index)][:-2]
            result[tuple(index)][-2:] = own.argmax(), own.max()
    return result


@pytest.mark.parametrize(
    ("shape", "reach"),
    [((11, 14), {0: 1, 1: 1}), ((3, 9, 8), {1: 2, 2: 2}), ((40,), {0: 3}), ((7, 5), {0: 0, 1: 2})],
)
def test_only_what_nothing_covers_stays_rejected(shape, reach):
    packed = packed_map(shape, rejected=0.85)
    before = packed.copy()
    found = accept_covered(packed, reach)
    np.testing.assert_array_equal(found, naive(packed, reach))
    np.testing.assert_array_equal(packed, before)
    assert (found[..., -2] == -1).sum() < (packed[..., -2] == -1).sum()


def test_frames_do_not_cover_each_other():
    packed = packed_map((2, 5, 5), rejected=0)
    packed[0, ..., -2:] = -1, np.nan
    assert (accept_covered(packed, {1: 2, 2: 2})[0, ..., -2] == -1).all()


def test_masked_queries_cover_nothing_and_stay_masked():
    packed = packed_map((5, 5), rejected=1)
    packed[2, 2] = np.nan
    packed[2, 2, -2] = -2
    found = accept_covered(packed, {0: 2, 1: 2})
    np.testing.assert_array_equal(found[..., -2], packed[..., -2])


def test_without_rejection_nothing_is_copied():
    packed = packed_map((4, 4), rejected=0)
    assert accept_covered(packed, {0: 1, 1: 1}) is packed


def test_what_is_nearest_to_a_negative_example_stays_rejected():
    packed = packed_map((6, 7), rejected=0.4)
    packed[2:4, 2:5, -2:] = -3, np.nan
    before = packed.copy()
    found = accept_covered(packed, {0: 1, 1: 1})
    np.testing.assert_array_equal(packed, before)
    assert (found[2:4, 2:5, -2] == -1).all()
    others = packed.copy()
    others[2:4, 2:5, -2] = -2
    others = naive(others, {0: 1, 1: 1})
    others[2:4, 2:5, -2] = -1
    np.testing.assert_array_equal(found, others)
