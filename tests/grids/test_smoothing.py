"""Smoothing averages a position with the neighbours that resemble it, and keeps edges."""

import numpy as np
import pytest

from hyperspy_fewshot.grids import smoothing as module
from hyperspy_fewshot.grids.smoothing import Smoothing, flatten, window_sum

SPACES = {"line": (11,), "map": (9, 7), "series": (2, 6, 8)}


def window(at, shape, half):
    """Slices of the window around a position; only the last two axes are pooled."""
    first = max(0, len(shape) - 2)
    return tuple(
        slice(i, i + 1) if axis < first else slice(max(0, i - half), min(size, i + half + 1))
        for axis, (i, size) in enumerate(zip(at, shape, strict=True))
    )


@pytest.fixture(params=[1, 60, 2**18])
def chunked(request, monkeypatch):
    """Work through the rows one by one, a few at a time, or all at once."""
    monkeypatch.setattr(module, "_CHUNK", request.param)
    monkeypatch.setattr(module, "_MOST_TERMS", 9 * request.param)


# Sums over windows


@pytest.mark.parametrize("shape", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("signal", [(), (3,), (2, 5)])
def test_window_sum_equals_a_loop(shape, signal, chunked):
    nav = len(shape)
    values = np.random.default_rng(0).normal(size=(*shape, *signal))
    for side in (1, 3, 5, 17):
        expected = [
            values[window(at, shape, side // 2)].sum(tuple(range(nav))) for at in np.ndindex(shape)
        ]
        np.testing.assert_allclose(
            window_sum(values, side, nav), np.reshape(expected, values.shape), atol=1e-12
        )


def test_window_sum_does_not_depend_on_where_a_block_begins():
    values = np.random.default_rng(0).normal(size=(19, 13, 6)).astype(np.float32)
    whole = window_sum(values, 5, 2)
    for top, left in [(0, 0), (1, 3), (4, 2), (7, 6)]:
        part = window_sum(values[top : top + 9, left : left + 7], 5, 2)
        inside = whole[top + 2 : top + 7, left + 2 : left + 5]
        np.testing.assert_array_equal(part[2:7, 2:5], inside)


def test_window_sum_accepts_empty_arrays():
    assert window_sum(np.ones((0, 4, 3)), 3, 2).shape == (0, 4, 3)
    assert window_sum(np.ones((5, 4, 0)), 3, 2).shape == (5, 4, 0)


# Pooling


def judge(smoothing, data, nav):
    """Scores and sum of every position."""
    return data.reshape(*data.shape[:nav], -1) @ smoothing.matrix(data.shape[nav:])


def naive_smooth(data, used, smoothing, context):
    """From the widest window to the position itself, one position at a time."""
    result = np.zeros(data.shape)
    for at in np.ndindex(used.shape):
        means, weights, counts = [], [], []
        for half in range(context // 2, -1, -1):
            around = window(at, used.shape, half)
            inside = data[around][used[around]].astype(float)
            weight = inside.sum() if smoothing.sum_normalise else len(inside)
            means.append(inside.sum(axis=0) / max(weight, 1e-9))
            weights.append(weight)
            counts.append(max(len(inside), 1))
        pooled = means[0].copy()
        for mean, weight, wider in zip(means[1:], weights[1:], weights, strict=False):
            scores = (mean - pooled) @ smoothing.components
            distance = (scores**2 / smoothing.noise).sum() * weight
            expected = 2 * len(smoothing.noise) * (1 - weight / max(wider, 1e-9))
            pooled += max(0, 1 - expected / max(distance, 1e-12)) * (mean - pooled)
        result[at] = pooled * weights[0] / counts[0]
    return result


def two_halves(shape, sum_normalise):
    """Spectra that differ between two halves, which positions take part, and a smoothing."""
    rng = np.random.default_rng(3)
    data = rng.poisson(6, (*shape, 5)).astype(np.float32)
    data[..., shape[-1] // 2 :, :] *= np.array([1, 5, 1, 1, 9], np.float32)
    used = rng.random(shape) > 0.1
    data[~used] = 0
    components = rng.normal(size=(5, 2)).astype(np.float32)
    return data, used, Smoothing(components, np.array([0.5, 2.0], np.float32), sum_normalise)


@pytest.mark.parametrize("shape", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("sum_normalise", [False, True])
def test_pooling_equals_a_loop(shape, sum_normalise, chunked):
    data, used, smoothing = two_halves(shape, sum_normalise)
    judged = judge(smoothing, data, len(shape))
    for context in (3, 7):
        np.testing.assert_allclose(
            smoothing.pool(data, judged, used, context),
            naive_smooth(data, used, smoothing, context),
            rtol=2e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("sum_normalise", [False, True])
def test_pooling_does_not_depend_on_where_a_block_begins(sum_normalise):
    data, used, smoothing = two_halves((19, 13), sum_normalise)
    judged = judge(smoothing, data, 2)
    whole = smoothing.pool(data, judged, used, 5)
    for top, left in [(0, 0), (1, 3), (4, 2), (7, 6)]:
        part = (slice(top, top + 9), slice(left, left + 7))
        pooled = smoothing.pool(data[part], judged[part], used[part], 5)
        np.testing.assert_array_equal(pooled[2:7, 2:5], whole[part][2:7, 2:5])


def test_pooling_before_or_after_a_linear_step_gives_the_same():
    data, used, smoothing = two_halves((9, 7), False)
    judged = judge(smoothing, data, 2)
    matrix = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    after = smoothing.pool((data @ matrix).reshape(9, 7, 2, 3), judged, used, 5)
    before = smoothing.pool(data, judged, used, 5) @ matrix
    np.testing.assert_allclose(after.reshape(9, 7, 6), before, rtol=1e-4, atol=1e-4)


def test_edges_are_kept_and_noise_is_averaged():
    rng = np.random.default_rng(0)
    truth = np.zeros((30, 40, 12))
    truth[:, :20], truth[:, 20:] = np.linspace(40, 90, 12), np.linspace(90, 40, 12)
    data = rng.poisson(truth).astype(np.float32)
    used = np.ones((30, 40), bool)
    direction = np.linspace(-1, 1, 12, dtype=np.float32)[:, np.newaxis]
    noise = (direction**2 * truth[0, 0][:, np.newaxis]).sum(axis=0)
    smoothing = Smoothing(direction, noise, sum_normalise=False)
    smooth = smoothing.pool(data, judge(smoothing, data, 2), used, 5)
    plain = window_sum(data, 5, 2) / window_sum(used.astype(float), 5, 2)[..., np.newaxis]
    edge = slice(18, 22)

    def error(values, columns):
        return np.sqrt(((values - truth)[:, columns] ** 2).mean())

    assert error(smooth, edge) < 0.6 * error(plain, edge)
    assert error(smooth, slice(0, 15)) < 0.5 * error(data, slice(0, 15))


def test_sum_normalised_spectra_of_one_kind_are_pooled_whatever_their_sums():
    spectrum = np.linspace(1, 3, 12, dtype=np.float32)
    thickness = np.where(np.indices((9, 11)).sum(0) % 2, 1, 20).astype(np.float32)
    data = spectrum * thickness[..., np.newaxis]
    used = np.ones((9, 11), bool)
    smoothing = Smoothing(np.eye(12, 2, dtype=np.float32), np.ones(2, np.float32), True)
    pooled = smoothing.pool(data, judge(smoothing, data, 2), used, 3)
    plain = window_sum(data, 3, 2) / window_sum(used.astype(float), 3, 2)[..., np.newaxis]
    np.testing.assert_allclose(pooled, plain, rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_positions_without_counts_or_neighbours_stay_zero():
    data, used, smoothing = two_halves((9, 7), True)
    data[:5] = 0
    used[:3] = False
    pooled = smoothing.pool(data, judge(smoothing, data, 2), used, 3)
    np.testing.assert_array_equal(pooled[:4], 0)
    assert np.isfinite(pooled).all()
    assert pooled[4:].sum(-1).all()


# Patterns are binned before they are compared.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_large_patterns_are_binned(dtype):
    data = np.random.default_rng(0).integers(0, 256, (2, 3, 70, 50)).astype(dtype)
    # Each axis by itself: 70 px by 3, 50 px by 2.
    expected = np.zeros((2, 3, 23, 25))
    for y, x in np.ndindex(23, 25):
        expected[..., y, x] = data[..., 3 * y : 3 * y + 3, 2 * x : 2 * x + 2].mean((-2, -1))
    np.testing.assert_allclose(flatten(data, 2), expected.reshape(2, 3, -1), rtol=1e-6)


def test_small_patterns_and_spectra_are_not_binned():
    patterns = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(flatten(patterns, 2), patterns.reshape(2, 3, 20))
    spectra = np.arange(3 * 200).reshape(3, 200)
    np.testing.assert_array_equal(flatten(spectra, 1), spectra)


@pytest.mark.parametrize(
    ("shape", "bins"),
    [((70, 50), 23 * 25), ((96, 96), 32 * 32), ((3, 100), 3 * 25), ((1, 500), 31), ((36, 1), 18)],
)
def test_patterns_are_compared_by_their_bins(shape, bins):
    data = np.random.default_rng(0).random((3, 4, *shape)).astype(np.float32)
    components = np.random.default_rng(1).normal(size=(bins, 2)).astype(np.float32)
    judged = judge(Smoothing(components, np.ones(2, np.float32), False), data, 2)
    np.testing.assert_allclose(judged[..., :2], flatten(data, 2) @ components, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(judged[..., 2], data.sum((-2, -1)), rtol=1e-5)
