"""Grey levels are measured in a sample, and mapped to those of another image."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fewshot.embedding.levels import grey_levels, on_levels
from hyperspy_fewshot.embedding.recipe import UNSCALED
from hyperspy_fewshot.embedding.sample import tiles
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid

LEVELS = (10.0, 30.0, 60.0)


@pytest.fixture
def recipe(tools):
    recipe = tools.recipe_of(tools.Moments(), ChipGrid((), (41, 53), 8, 3))
    return replace(recipe, levels=LEVELS)


@pytest.mark.parametrize(
    "grid",
    [
        ChipGrid((), (41, 53), 8, 3),
        ChipGrid((), (41, 53), 9, 9, margin=4),
        ChipGrid((2, 3), (41, 53), 8, 8),
    ],
    ids=["overlapping", "with a margin", "stack"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_levels_are_those_of_the_pixels_that_count(grid, masked):
    rng = np.random.default_rng(0)
    data = rng.gamma(2.0, 9.0, (*grid.nav_shape, *grid.signal_shape)).astype(np.float32)
    data[..., 5, 7:9] = np.nan, np.inf
    mask = rng.random(grid.shape) < 0.3 if masked else None
    kept = np.isfinite(data)
    if masked:
        rows, columns = (np.arange(size) // grid.stride for size in grid.signal_shape)
        kept &= ~mask[..., rows[:, np.newaxis], columns]
    expected = np.percentile(data[kept].astype(float), (1, 50, 99))
    # The tiles cover the grid, whatever their size.
    for side in (4, 99):
        blocks = tiles(grid.shape, (1,) * len(grid.nav_shape) + (side, side))
        parts = [data[grid.window(block)] for block in blocks]
        np.testing.assert_allclose(grey_levels(grid, blocks, parts, mask), expected)


def test_there_may_be_no_levels():
    grid = ChipGrid((), (16, 16), 8, 4)
    blocks = [(slice(0, 4), slice(0, 4))]
    assert grey_levels(grid, blocks, [np.full((16, 16), np.nan)], None) == ()
    scan = PositionGrid((4, 5), (7,), 1)
    assert grey_levels(scan, [(slice(0, 4), slice(0, 5))], [np.zeros((4, 5, 7))], None) == ()


OTHER, DOUBTFUL = "the image is standardised", "if brightness or contrast were set otherwise"


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        (LEVELS, None),
        ((20.0, 40.0, 70.0), None),  # 40 of 60 in common
        ((30.0, 40.0, 70.0), DOUBTFUL),  # 30 of 60
        ((55.9, 70.0, 90.0), DOUBTFUL),  # 4.1 of 80
        ((56.1, 70.0, 90.0), OTHER),  # 3.9 of 80
        ((55.9, 70.0, 110.0), OTHER),  # 4.1 of 100
        ((70.0, 80.0, 90.0), OTHER),
        ((10.0, 500.0, 1020.0), OTHER),
        ((30.0, 31.0, 32.4), OTHER),
        ((900.0, 900.0, 900.0), None),  # a constant image shows no scale
    ],
)
def test_ranges_with_next_to_nothing_in_common_are_standardised(recipe, levels, said):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = on_levels(recipe, levels, None)
    assert (found.scaling != UNSCALED) == (said == OTHER)
    assert len(caught) == (said is not None)
    if said:
        assert f"go from {levels[0]:g} to {levels[2]:g}" in str(caught[0].message)
        assert f"from 10 to 60: {said}" in str(caught[0].message)
    assert on_levels(found, levels, False).scaling == UNSCALED
    assert on_levels(found, (), True).scaling == UNSCALED


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint32", "float32", "float64"])
def test_median_and_range_become_those_that_were_learnt(recipe, dtype):
    data = np.random.default_rng(0).integers(0, 200, (300, 300))
    if dtype in ("int32", "uint32", "float64"):
        # Differences of such numbers are lost in float32.
        data = data + 2_000_000_000
    data = data.astype(dtype)
    levels = tuple(np.percentile(data, (1, 50, 99)))
    scaled = on_levels(recipe, levels, True).scaled(data)
    assert scaled.dtype == np.float32
    assert np.median(scaled) == pytest.approx(30)
    assert np.diff(np.percentile(scaled, (1, 99))) == pytest.approx(50)
    assert len(np.unique(scaled)) == 200
    assert recipe.scaled(data) is data


def test_a_constant_image_is_shifted(recipe):
    scaled = on_levels(recipe, (900.0, 900.0, 900.0), True).scaled(np.full((3, 4), 900.0))
    np.testing.assert_array_equal(scaled, np.full((3, 4), 30.0))


def test_the_digest_is_that_of_what_was_learnt(recipe):
    other = on_levels(recipe, (900.0, 901.0, 950.0), True)
    assert other.sha256 == recipe.sha256
    assert other.description != recipe.description
