"""Slices of windows and blocks."""

import numpy as np
import pytest

from hyperspy_fewshot.grids.slices import around, shape_of, single, unmasked, within


def test_within_crops_what_was_read():
    data = np.arange(63.0).reshape(7, 9)
    have, want = (slice(1, 6), slice(2, 9)), (slice(2, 4), slice(2, 5))
    np.testing.assert_array_equal(data[have][within(have, want)], data[want])


def test_within_refuses_slices_of_other_axes():
    with pytest.raises(ValueError, match="argument"):
        within((slice(1, 6), slice(2, 9)), (slice(2, 4),))


def test_around_is_the_smallest_window_that_holds_all():
    windows = [(slice(3, 5), slice(2, 9)), (slice(4, 8), slice(1, 4)), (slice(4, 5), slice(2, 3))]
    assert around(windows) == (slice(3, 8), slice(1, 9))
    assert around(windows[:1]) == windows[0]


def test_single_selects_one_position():
    data = np.arange(63).reshape(7, 9)
    assert data[single((4, 6))].tolist() == [[42]]
    assert shape_of(single((4, 6, 2))) == (1, 1, 1)


def test_shape_of():
    assert shape_of((slice(2, 4), slice(0, 5))) == np.empty((7, 9))[2:4, 0:5].shape


@pytest.mark.parametrize("size", [1, 4, 100])
def test_unmasked_cells_come_in_batches(size):
    block = (slice(1, 4), slice(2, 7))
    mask = np.random.default_rng(0).random((5, 9)) < 0.4
    for given, left_out in [(mask, mask[block]), (None, np.zeros((3, 5), bool))]:
        batches = list(unmasked(block, given, size))
        assert all(0 < len(batch) <= size for batch in batches)
        np.testing.assert_array_equal(np.concatenate(batches), np.flatnonzero(~left_out))
    assert list(unmasked(block, np.ones((5, 9), bool), size)) == []
