"""Every position is pooled with its neighbours, and the neighbourhood is chosen well."""

import numpy as np
import pytest

from hyperspy_fewshot.context import CONTEXTS, choose_context
from hyperspy_fewshot.positions import PositionGrid
from hyperspy_fewshot.smoothing import Smoothing, window_sum

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


def pooled_by_blocks(grid, data, mask, sizes, batch=5):
    """All items, each block made of nothing but its region."""
    result = np.full((*grid.nav_shape, *grid.item_shape), np.nan, np.float32)
    for corner in np.ndindex(*(-(-n // s) for n, s in zip(grid.nav_shape, sizes, strict=True))):
        block = tuple(
            slice(i * s, min((i + 1) * s, n))
            for i, s, n in zip(corner, sizes, grid.nav_shape, strict=True)
        )
        part = result[block].reshape(-1, *grid.item_shape)
        for index, items in grid.batches(data[grid.region(block)], block, mask, batch):
            assert len(index) == len(items) <= batch
            part[index] = items
        result[block] = part.reshape(result[block].shape)
    return result


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


@pytest.mark.parametrize("context", [3, 5])
def test_blocks_are_independent_to_the_bit(space, context):
    nav, signal, data, rng = space
    data = (data * 1.001).astype(np.float32)
    data[tuple(rng.integers(0, n, 3) for n in nav)] = np.inf
    mask = rng.random(nav) < 0.2
    grid = PositionGrid(nav, signal, context)
    whole = pooled_by_blocks(grid, data, mask, nav)
    for sizes in [(1,) * len(nav), (2, 3, 3)[-len(nav) :], (1, 4, 2)[-len(nav) :]]:
        np.testing.assert_array_equal(pooled_by_blocks(grid, data, mask, sizes), whole)


def test_counts_do_not_wrap_around():
    data = np.full((3, 3, 2), 65_535, np.uint16)
    grid = PositionGrid((3, 3), (2,), 3)
    np.testing.assert_array_equal(pooled_by_blocks(grid, data, None, (3, 3)), 65_535)


def test_item_at_equals_the_pooled_position(space):
    nav, signal, data, rng = space
    mask = rng.random(nav) < 0.4
    for context in (1, 3):
        grid = PositionGrid(nav, signal, context)
        whole = pooled_by_blocks(grid, data, None, nav)
        around = pooled_by_blocks(grid, data, mask, nav)
        for at in np.ndindex(nav):
            region = data[grid.region_at(at)]
            np.testing.assert_array_equal(grid.item_at(region, at), whole[at])
            if not mask[at]:
                np.testing.assert_array_equal(grid.item_at(region, at, mask), around[at])


def test_item_at_a_masked_position_counts_itself():
    data = np.array([[1.0], [5.0], [9.0]])
    grid = PositionGrid((3,), (1,), 3)
    mask = np.array([True, True, False])
    assert grid.item_at(data, (1,), mask) == 7
    np.testing.assert_array_equal(mask, [True, True, False])


def test_signal_mask_drops_channels_and_blanks_pixels():
    spectra = np.arange(24.0).reshape(2, 3, 4)
    spectra[..., 1] = np.nan
    channels = np.array([False, True, False, False])
    grid = PositionGrid((2, 3), (4,), 1, channels)
    assert grid.item_shape == (3,)
    np.testing.assert_array_equal(
        pooled_by_blocks(grid, spectra, None, (2, 2)), spectra[..., [0, 2, 3]]
    )
    patterns = np.arange(1, 49, dtype=np.uint8).reshape(2, 3, 2, 4)
    beam_stop = np.zeros((2, 4), bool)
    beam_stop[1, :2] = True
    grid = PositionGrid((2, 3), (2, 4), 3, beam_stop)
    assert grid.item_shape == (2, 4)
    pooled = pooled_by_blocks(grid, patterns, None, (1, 2))
    assert (pooled[..., 1, :2] == 0).all()
    np.testing.assert_allclose(pooled[0, 0, 0], patterns[:2, :2, 0].mean((0, 1)))


def test_shape_areas_and_overlap():
    line = PositionGrid((11,), (7,), 3)
    assert (line.shape, line.overlap) == ((11,), 3)
    np.testing.assert_array_equal(line.cell_areas(), np.ones(11))
    series = PositionGrid((2, 5, 7), (4,), 5)
    assert (series.shape, series.overlap) == ((2, 5, 7), 25)
    np.testing.assert_array_equal(series.cell_areas(), np.ones((5, 7)))
    assert series.region((slice(1, 2), slice(0, 2), slice(4, 6))) == (
        slice(1, 2),
        slice(0, 4),
        slice(2, 7),
    )


def test_window_sum_of_ones_counts_the_window():
    ones = np.ones((2, 4, 3))
    np.testing.assert_array_equal(
        window_sum(ones, 3, 3)[1], [[4, 6, 4], [6, 9, 6], [6, 9, 6], [4, 6, 4]]
    )
    np.testing.assert_array_equal(window_sum(np.ones(5), 9, 1), [5] * 5)


# The choice of the context, where the right answer is known.


def map_of_regions(shape, size, counts, seed=0):
    """Poisson spectra of four classes in regions of about `size` positions a side."""
    rng = np.random.default_rng(seed)
    spectra = rng.random((4, 40)) ** 3 + 0.02
    spectra /= spectra.sum(axis=1, keepdims=True)
    seeds = rng.random((int(np.prod(shape) / size ** len(shape)), len(shape))) * shape
    places = np.indices(shape).reshape(len(shape), -1).T
    nearest = ((places[:, np.newaxis] - seeds) ** 2).sum(axis=-1).argmin(axis=1) % 4
    return rng.poisson(counts * spectra[nearest]).reshape(*shape, 40).astype(np.float32)


def chosen(data, sum_normalise=False, contexts=CONTEXTS):
    """The context chosen from the whole of the data."""
    nav = data.ndim - 1
    inner = tuple(slice(0, n) for n in data.shape[:nav])
    return choose_context([data], [inner], nav, sum_normalise=sum_normalise, contexts=contexts)[0]


@pytest.mark.parametrize("sum_normalise", [False, True])
def test_few_counts_in_large_regions_ask_for_a_wide_context(sum_normalise):
    assert chosen(map_of_regions((40, 48), 24, 3), sum_normalise) >= 5
    assert chosen(map_of_regions((300,), 24, 3), sum_normalise) >= 5


@pytest.mark.parametrize("counts", [300, 1e5])
@pytest.mark.parametrize("size", [1.5, 3, 6])
@pytest.mark.parametrize("sum_normalise", [False, True])
def test_many_counts_in_fine_regions_ask_for_none(size, counts, sum_normalise):
    assert chosen(map_of_regions((40, 48), size, counts), sum_normalise) == 1
    assert chosen(map_of_regions((300,), size, counts), sum_normalise) == 1


def test_more_counts_never_ask_for_a_wider_context():
    for size in (3, 6, 12, 24):
        sides = [chosen(map_of_regions((40, 48), size, 3 * 10**k)) for k in range(5)]
        assert sides == sorted(sides, reverse=True)
        assert sides[0] > sides[-1]


def test_hardly_any_counts_and_no_noise():
    assert chosen(map_of_regions((40, 48), 6, 0.3)) >= 5
    noiseless = np.repeat(
        np.eye(4, 12, dtype=np.float32)[np.indices((40, 44)).sum(0) // 4 % 4], 2, -1
    )
    assert chosen(noiseless) == 1
    assert chosen(np.ones((12, 14, 5), np.float32)) == 1


def test_dead_positions_do_not_count_as_noise():
    data = map_of_regions((40, 48), 12, 1e4)
    assert chosen(data) == 1
    data[::6, ::5] = np.nan
    data[:, 30:] = np.inf
    assert chosen(data) == chosen(data, sum_normalise=True) == 1
    assert chosen(np.full((9, 8, 5), np.nan)) == 1
    assert chosen(np.zeros((9, 8, 5), np.float32), sum_normalise=True) == 1


def test_thickness_is_no_structure_where_only_the_shape_counts():
    rng = np.random.default_rng(1)
    spectra = np.stack([np.linspace(1, 2, 30), np.linspace(2, 1, 30)]) / 45
    regions = np.arange(44) // 22
    thickness = np.where(np.indices((40, 44)).sum(0) % 2, 15, 60)[..., np.newaxis]
    data = rng.poisson(spectra[regions] * thickness).astype(np.float32)
    assert chosen(data, sum_normalise=True) >= 5


def test_order_of_channels_and_scale_do_not_matter():
    data = map_of_regions((40, 48), 12, 10)
    order = np.random.default_rng(0).permutation(data.shape[-1])
    assert chosen(data) == chosen(data[..., order]) == chosen(7 * data) == 7


def test_the_choice_is_among_what_is_offered():
    data = map_of_regions((40, 48), 24, 3)
    assert chosen(data, contexts=(1,)) == 1
    assert chosen(data, contexts=(1, 3)) == 3


@pytest.mark.parametrize("shape", [(1,), (1, 1), (5, 1, 1)])
def test_positions_without_neighbours_are_not_pooled(shape):
    data = np.random.default_rng(0).poisson(5, (*shape, 8)).astype(np.float32)
    assert chosen(data) == 1


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 9), (2, 2, 3)])
@pytest.mark.filterwarnings("error")
def test_tiny_scans(shape):
    data = np.random.default_rng(0).poisson(5, (*shape, 8)).astype(np.float32)
    assert chosen(data) in CONTEXTS
    assert chosen(data, contexts=(1, 3)) in (1, 3)


def test_frames_of_a_series_are_not_pooled():
    frames = np.stack([map_of_regions((24, 30), 12, 3, seed) for seed in range(3)])
    assert chosen(frames) == chosen(frames[::-1]) >= 5


# Smoothing: neighbours help where they agree.


def naive_smooth(data, used, components, noise, sum_normalise, context):
    """From the widest window to the position itself, one position at a time."""
    result = np.zeros(data.shape)
    for y, x in np.ndindex(used.shape):
        means, weights, counts = [], [], []
        for half in range(context // 2, -1, -1):
            window = (slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1))
            inside = data[window][used[window]].astype(float)
            weight = inside.sum() if sum_normalise else len(inside)
            means.append(inside.sum(axis=0) / max(weight, 1e-9))
            weights.append(weight)
            counts.append(max(len(inside), 1))
        pooled = means[0].copy()
        for mean, weight, wider in zip(means[1:], weights[1:], weights, strict=False):
            scores = (mean - pooled) @ components
            distance = (scores**2 / noise).sum() * weight
            expected = 2 * len(noise) * (1 - weight / max(wider, 1e-9))
            pooled += max(0, 1 - expected / max(distance, 1e-12)) * (mean - pooled)
        result[y, x] = pooled * weights[0] / counts[0]
    return result


@pytest.mark.parametrize("sum_normalise", [False, True])
@pytest.mark.parametrize("context", [3, 7])
def test_smoothing_equals_the_naive_loop(sum_normalise, context):
    rng = np.random.default_rng(3)
    data = rng.poisson(6, (9, 7, 5)).astype(np.float32)
    data[:, 4:] *= np.array([1, 5, 1, 1, 9], np.float32)
    used = rng.random((9, 7)) > 0.1
    data[~used] = 0
    components = rng.normal(size=(5, 2)).astype(np.float32)
    noise = np.array([0.5, 2.0], np.float32)
    smoothing = Smoothing(components, noise, sum_normalise)
    np.testing.assert_allclose(
        smoothing.pool(data, smoothing.judge(data, 2), used, context),
        naive_smooth(data, used, components, noise, sum_normalise, context),
        rtol=2e-4,
        atol=1e-5,
    )


def test_smoothing_keeps_edges_and_averages_noise():
    rng = np.random.default_rng(0)
    truth = np.zeros((30, 40, 12))
    truth[:, :20], truth[:, 20:] = np.linspace(40, 90, 12), np.linspace(90, 40, 12)
    data = rng.poisson(truth).astype(np.float32)
    inner = (slice(0, 30), slice(0, 40))
    _, smoothing = choose_context([data], [inner], 2, sum_normalise=False, contexts=(5,))
    used = np.ones((30, 40), bool)
    smooth = smoothing.pool(data, smoothing.judge(data, 2), used, 5)
    plain = PositionGrid((30, 40), (12,), 5).pool(data, None)
    edge = slice(18, 22)

    def error(values, columns):
        return np.sqrt(((values - truth)[:, columns] ** 2).mean())

    assert error(smooth, edge) < 0.6 * error(plain, edge)
    assert error(smooth, slice(0, 15)) < 0.5 * error(data, slice(0, 15))


def test_an_asked_for_context_is_kept():
    data = map_of_regions((20, 24), 3, 1e4)
    inner = (slice(0, 20), slice(0, 24))
    context, smoothing = choose_context([data], [inner], 2, sum_normalise=False, contexts=(5,))
    assert context == 5
    assert smoothing.components.shape[0] == 40


@pytest.mark.parametrize("shape", [(41,), (13, 17), (2, 9, 11)])
def test_smoothing_does_not_depend_on_blocks(shape):
    data = map_of_regions(shape, 3, 20)
    dead = (1,) * len(shape)
    data[dead] = np.nan
    mask = np.random.default_rng(0).random(shape) < 0.1
    mask[dead] = False
    inner = tuple(slice(0, n) for n in shape)
    _, smoothing = choose_context([data], [inner], len(shape), sum_normalise=True, contexts=(3, 5))
    grid = PositionGrid(shape, (40,), 5, smoothing=smoothing)
    whole = pooled_by_blocks(grid, data, mask, shape)
    assert np.isnan(whole[dead]).all()
    assert np.isfinite(whole).all(axis=-1).sum() == (~mask).sum() - 1
    parts = pooled_by_blocks(grid, data, mask, (2, 3, 4)[-len(shape) :])
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


def test_smoothing_compares_shapes_where_only_the_shape_counts():
    spectrum = np.linspace(1, 3, 12, dtype=np.float32)
    thickness = np.where(np.indices((9, 11)).sum(0) % 2, 1, 20).astype(np.float32)
    data = spectrum * thickness[..., np.newaxis]
    smoothing = Smoothing(np.eye(12, 2, dtype=np.float32), np.ones(2, np.float32), True)
    pooled = PositionGrid((9, 11), (12,), 3, smoothing=smoothing).pool(data, None)
    np.testing.assert_allclose(pooled, PositionGrid((9, 11), (12,), 3).pool(data, None), rtol=1e-4)
