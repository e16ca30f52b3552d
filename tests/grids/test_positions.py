"""Every position is pooled with its neighbours, whatever part of the scan was read."""

import numpy as np
import pytest

from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.grids.smoothing import Smoothing

SPACES = {
    "line of spectra": ((11,), (7,)),
    "map of spectra": ((5, 8), (6,)),
    "map of patterns": ((6, 4), (3, 5)),
    "series of maps of spectra": ((2, 5, 7), (4,)),
    "series of maps of patterns": ((2, 4, 6), (3, 5)),
}


def naive_pool(data, nav, context, left_out):
    """Mean over the window of what is finite and not left out, one by one."""
    shape, half = data.shape[:nav], context // 2
    pooled = np.full(data.shape, np.nan)
    for at in np.ndindex(shape):
        if not np.isfinite(data[at]).all():
            continue
        near = [
            other
            for other in np.ndindex(shape)
            if other[: max(0, nav - 2)] == at[: max(0, nav - 2)]
            and all(abs(i - j) <= half for i, j in zip(at, other, strict=True))
            and np.isfinite(data[other]).all()
            and not left_out[other]
        ]
        pooled[at] = np.mean([data[other] for other in near], axis=0) if near else 0
    return pooled


class Linear:
    """The linear first step of an encoder; without a matrix items stay as they are."""

    def __init__(self, matrix=None):
        self.matrix = matrix

    def reduce(self, items):
        return items if self.matrix is None else self.project(items, self.matrix)

    def project(self, items, matrix):
        return items.reshape(len(items), -1) @ matrix


def pooled_by_blocks(grid, data, mask, sizes, batch=5, step=None):
    """All items, each block made of nothing but its window."""
    step, pooled = step or Linear(), None
    for corner in np.ndindex(*(-(-n // s) for n, s in zip(grid.nav_shape, sizes, strict=True))):
        block = tuple(
            slice(i * s, min((i + 1) * s, n))
            for i, s, n in zip(corner, sizes, grid.nav_shape, strict=True)
        )
        shape = tuple(s.stop - s.start for s in block)
        for index, items in grid.batches(data[grid.window(block)], block, mask, batch, step):
            assert len(index) == len(items) <= batch
            if pooled is None:
                pooled = np.full((*grid.nav_shape, *items.shape[1:]), np.nan, np.float32)
            inside = np.unravel_index(index, shape)
            pooled[tuple(s.start + i for s, i in zip(block, inside, strict=True))] = items
    return pooled


@pytest.fixture(params=SPACES)
def space(request):
    nav, signal = SPACES[request.param]
    rng = np.random.default_rng(len(request.param))
    data = rng.integers(0, 900, (*nav, *signal)).astype(np.uint16)
    return nav, signal, data, rng


@pytest.mark.parametrize("context", [1, 3, 5, 9])
def test_pooling_equals_a_loop(space, context):
    nav, signal, data, rng = space
    data = data.astype(float)
    data[tuple(rng.integers(0, n, 4) for n in nav)] = np.nan
    left_out = rng.random(nav) < 0.3
    grid = PositionGrid(nav, signal, context)
    expected = naive_pool(data, len(nav), context, left_out)
    if context == 1:
        expected = data
    pooled = pooled_by_blocks(grid, data, left_out, nav)
    expected[left_out] = np.nan
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


@pytest.mark.parametrize("context", [1, 3, 5])
def test_the_result_does_not_depend_on_blocks(space, context):
    nav, signal, data, rng = space
    data = (data * 1.001).astype(np.float32)
    data[tuple(rng.integers(0, n, 3) for n in nav)] = np.inf
    mask = rng.random(nav) < 0.2
    grid = PositionGrid(nav, signal, context)
    whole = pooled_by_blocks(grid, data, mask, nav)
    for sizes in [(1,) * len(nav), (2, 3, 3)[-len(nav) :], (1, 4, 2)[-len(nav) :]]:
        np.testing.assert_array_equal(pooled_by_blocks(grid, data, mask, sizes), whole)


def smoothed(nav, signal, context, signal_mask=None):
    """A grid with a smoothing that trusts some positions and others not."""
    size = int(np.prod(signal)) if signal_mask is None else int((~signal_mask).sum())
    components = np.random.default_rng(0).normal(size=(size, 2)).astype(np.float32)
    smoothing = Smoothing(components, np.array([3, 9], np.float32), True)
    return PositionGrid(nav, signal, context, signal_mask, smoothing)


def test_smoothing_does_not_depend_on_blocks(space):
    nav, signal, data, rng = space
    data = data.astype(np.float32)
    dead = (1,) * len(nav)
    data[dead] = np.nan
    mask = rng.random(nav) < 0.1
    mask[dead] = False
    grid = smoothed(nav, signal, 5)
    whole = pooled_by_blocks(grid, data, mask, nav)
    assert np.isnan(whole[dead]).all()
    assert (
        np.isfinite(whole).all(axis=tuple(range(len(nav), whole.ndim))).sum() == (~mask).sum() - 1
    )
    plain = pooled_by_blocks(grid.without_smoothing(), data, mask, nav)
    assert not np.allclose(whole, plain, rtol=0.01, equal_nan=True)
    parts = pooled_by_blocks(grid, data, mask, (2, 3, 4)[-len(nav) :])
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("smooth", [False, True])
def test_pooling_after_a_linear_step_equals_pooling_before(space, smooth):
    nav, signal, data, rng = space
    grid = smoothed(nav, signal, 3) if smooth else PositionGrid(nav, signal, 3)
    mask = rng.random(nav) < 0.1
    matrix = rng.normal(size=(int(np.prod(signal)), 3)).astype(np.float32)
    before = pooled_by_blocks(grid, data, mask, nav)
    after = pooled_by_blocks(grid, data, mask, nav, step=Linear(matrix))
    expected = before.reshape(*nav, -1) @ matrix
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-2)


def test_sums_of_large_counts_do_not_overflow():
    data = np.full((3, 3, 2), 65_535, np.uint16)
    grid = PositionGrid((3, 3), (2,), 3)
    np.testing.assert_array_equal(pooled_by_blocks(grid, data, None, (3, 3)), 65_535)


def test_item_at_equals_the_pooled_position(space):
    nav, signal, data, rng = space
    mask = rng.random(nav) < 0.4
    for grid in (PositionGrid(nav, signal), PositionGrid(nav, signal, 3), smoothed(nav, signal, 3)):
        whole = pooled_by_blocks(grid, data, None, nav)
        around = pooled_by_blocks(grid, data, mask, nav)
        for at in np.ndindex(nav):
            window = data[grid.window_at(at)]
            (item,) = grid.item_at(window, at, None, Linear())
            np.testing.assert_allclose(item, whole[at], rtol=1e-5)
            if not mask[at]:
                (item,) = grid.item_at(window, at, mask, Linear())
                np.testing.assert_allclose(item, around[at], rtol=1e-5)


def test_item_at_a_masked_position_counts_itself():
    data = np.array([[1.0], [5.0], [9.0]])
    grid = PositionGrid((3,), (1,), 3)
    mask = np.array([True, True, False])
    assert grid.item_at(data, (1,), mask, Linear()) == 7
    np.testing.assert_array_equal(mask, [True, True, False])


def test_a_signal_mask_drops_channels_and_blanks_pixels():
    spectra = np.arange(24.0).reshape(2, 3, 4)
    spectra[..., 1] = np.nan
    channels = np.array([False, True, False, False])
    grid = PositionGrid((2, 3), (4,), 1, channels)
    assert grid.item_shape == (3,)
    np.testing.assert_array_equal(
        pooled_by_blocks(grid, spectra, None, (2, 2)), spectra[..., [0, 2, 3]]
    )
    smooth = pooled_by_blocks(smoothed((2, 3), (4,), 3, channels), spectra, None, (2, 2))
    assert np.isfinite(smooth).all() and smooth.shape == (2, 3, 3)
    patterns = np.arange(1, 49, dtype=np.uint8).reshape(2, 3, 2, 4)
    beam_stop = np.zeros((2, 4), bool)
    beam_stop[1, :2] = True
    grid = PositionGrid((2, 3), (2, 4), 3, beam_stop)
    assert grid.item_shape == (2, 4)
    pooled = pooled_by_blocks(grid, patterns, None, (1, 2))
    assert (pooled[..., 1, :2] == 0).all()
    np.testing.assert_allclose(pooled[0, 0, 0], patterns[:2, :2, 0].mean((0, 1)))
    assert patterns.min() == 1, "the data are not changed"


def test_shape_areas_and_overlap():
    line = PositionGrid((11,), (7,), 3)
    assert (line.kind, line.shape, line.overlap, line.n_whole) == ("spectrum", (11,), 3, 1)
    np.testing.assert_array_equal(line.cell_areas(), np.ones(11))
    np.testing.assert_array_equal(line.locations(0), np.arange(11))
    series = PositionGrid((2, 5, 7), (4, 6), 5)
    assert (series.kind, series.shape, series.overlap) == ("pattern", (2, 5, 7), 25)
    assert line.boundary == series.boundary == 0.5
    np.testing.assert_array_equal(series.cell_areas(), np.ones((5, 7)))
    np.testing.assert_array_equal(series.locations(1), series.centres(1))
    assert series.cell_at((1, 4, 6)) == (1, 4, 6)
    assert series.window((slice(1, 2), slice(0, 2), slice(4, 6))) == (
        slice(1, 2),
        slice(0, 4),
        slice(2, 7),
    )
    assert series.guide(
        np.zeros((1, 4, 5, 4, 6)), (slice(1, 2), slice(0, 2), slice(4, 6))
    ).shape == (4, 0)


def test_the_same_settings_on_another_scan():
    channels = np.arange(7) == 2
    grid = PositionGrid((11,), (7,), 3, channels)
    other = grid.for_data((4, 5), (7,), 2)
    assert (other.shape, other.context) == ((4, 5), 3)
    assert other.settings() == {"context": 3, "signal_mask": channels}


@pytest.mark.parametrize(
    "signal, dtype, chunks, sides",
    [
        # A chunk of 4 MB, of which four fit into a block.
        ((1000,), "u2", ((40,) * 10, (50,) * 12), (40, 200)),
        # A chunk of 40 MB is cut into equal parts.
        ((1000,), "f8", ((100,) * 4, (50,) * 12), (25, 50)),
        # Patterns take long to embed: at most 256 of them.
        ((64, 64), "u1", ((40,) * 10, (60,) * 10), (10, 15)),
        # A single position may be larger than a block.
        ((5000, 5000), "f8", ((1,) * 400, (1,) * 600), (1, 1)),
    ],
)
def test_blocks_are_whole_chunks_or_parts_of_them(signal, dtype, chunks, sides):
    shape = tuple(map(sum, chunks))
    assert PositionGrid(shape, signal).block_shape(np.dtype(dtype), chunks) == sides


def test_blocks_grow_with_very_large_data():
    chunks = ((10,) * 1000, (10,) * 1000)
    sides = PositionGrid((10_000, 10_000), (5000,)).block_shape(np.dtype("f4"), chunks)
    assert 16 * 2**20 < np.prod(sides) * 20_000 <= 128 * 2**20
