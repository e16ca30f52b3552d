"""Pixels beyond an image are reflections."""

import numpy as np
import pytest

from hyperspy_fewshot.grids.field import Field, reflected


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("low, high", [(0, 1), (-1, 9), (-30, 40), (7, 25)])
def test_reflected_equals_the_padding_of_numpy(size, low, high):
    # NumPy repeats a single pixel, too.
    padded = np.pad(np.arange(size), 50, mode="reflect")
    np.testing.assert_array_equal(reflected(low, high, size), padded[low + 50 : high + 50])


@pytest.mark.parametrize("margin", [0, 3, 20])
def test_the_field_of_a_chip_is_reflected_at_its_edges(margin):
    chip = np.random.default_rng(0).random((7, 7))
    field = Field.of_chip(chip, margin)
    np.testing.assert_array_equal(field.pixels, np.pad(chip, margin, mode="reflect"))
    assert field.origin == (-margin, -margin)
    assert (field.chip_size, field.image_shape) == (7, (7, 7))
    assert field.rows.tolist() == field.columns.tolist() == [0]
    inner = slice(margin, margin + 7)
    np.testing.assert_array_equal(field.pixels[inner, inner], chip)
