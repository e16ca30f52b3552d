"""The context is chosen well where the right answer is known."""

import numpy as np
import pytest

from hyperspy_fewshot.embedding import context as module
from hyperspy_fewshot.embedding.context import CONTEXTS, choose_context


def map_of_grains(shape, size, counts, seed=0):
    """Poisson spectra of four classes in grains of about `size` positions a side."""
    rng = np.random.default_rng(seed)
    spectra = rng.random((4, 40)) ** 3 + 0.02
    spectra /= spectra.sum(axis=1, keepdims=True)
    seeds = rng.random((int(np.prod(shape) / size ** len(shape)), len(shape))) * shape
    places = np.indices(shape).reshape(len(shape), -1).T
    nearest = ((places[:, np.newaxis] - seeds) ** 2).sum(axis=-1).argmin(axis=1) % 4
    return rng.poisson(counts * spectra[nearest]).reshape(*shape, 40).astype(np.float32)


def choose(data, nav=None, sum_normalise=False, contexts=CONTEXTS):
    """Context and smoothing, from the whole of the data in one piece."""
    nav = nav or data.ndim - 1
    inner = tuple(slice(0, n) for n in data.shape[:nav])
    return choose_context([data], [inner], nav, sum_normalise=sum_normalise, contexts=contexts)


def chosen(data, sum_normalise=False, contexts=CONTEXTS):
    return choose(data, None, sum_normalise, contexts)[0]


@pytest.mark.parametrize("sum_normalise", [False, True])
def test_few_counts_in_large_grains_need_a_wide_context(sum_normalise):
    assert chosen(map_of_grains((40, 48), 24, 3), sum_normalise) >= 5
    assert chosen(map_of_grains((300,), 24, 3), sum_normalise) >= 5


@pytest.mark.parametrize("counts", [300, 1e5])
@pytest.mark.parametrize("size", [1.5, 3, 6])
@pytest.mark.parametrize("sum_normalise", [False, True])
def test_many_counts_in_small_grains_need_none(size, counts, sum_normalise):
    assert chosen(map_of_grains((40, 48), size, counts), sum_normalise) == 1
    assert chosen(map_of_grains((300,), size, counts), sum_normalise) == 1


def test_more_counts_never_widen_the_context():
    for size in (3, 6, 12, 24):
        sides = [chosen(map_of_grains((40, 48), size, 3 * 10**k)) for k in range(5)]
        assert sides == sorted(sides, reverse=True)
        assert sides[0] > sides[-1]


def test_almost_no_counts_and_no_noise():
    assert chosen(map_of_grains((40, 48), 6, 0.3)) >= 5
    noiseless = np.repeat(
        np.eye(4, 12, dtype=np.float32)[np.indices((40, 44)).sum(0) // 4 % 4], 2, -1
    )
    assert chosen(noiseless) == 1
    assert chosen(np.ones((12, 14, 5), np.float32)) == 1


def test_dead_positions_do_not_count_as_noise():
    data = map_of_grains((40, 48), 12, 1e4)
    assert chosen(data) == 1
    data[::6, ::5] = np.nan
    data[:, 30:] = np.inf
    assert chosen(data) == chosen(data, sum_normalise=True) == 1
    assert chosen(np.full((9, 8, 5), np.nan)) == 1
    assert chosen(np.zeros((9, 8, 5), np.float32), sum_normalise=True) == 1


def test_thickness_is_no_structure_in_sum_normalised_spectra():
    rng = np.random.default_rng(1)
    spectra = np.stack([np.linspace(1, 2, 30), np.linspace(2, 1, 30)]) / 45
    halves = np.arange(44) // 22
    thickness = np.where(np.indices((40, 44)).sum(0) % 2, 15, 60)[..., np.newaxis]
    data = rng.poisson(spectra[halves] * thickness).astype(np.float32)
    assert chosen(data, sum_normalise=True) >= 5


def test_order_of_channels_and_scale_do_not_matter():
    data = map_of_grains((40, 48), 12, 10)
    order = np.random.default_rng(0).permutation(data.shape[-1])
    assert chosen(data) == chosen(data[..., order]) == chosen(7 * data) == 7


def test_the_context_is_one_of_those_offered():
    data = map_of_grains((40, 48), 24, 3)
    assert choose(data, contexts=(1,)) == (1, None)
    assert chosen(data, contexts=(1, 3)) == 3


def test_a_given_context_is_kept():
    context, smoothing = choose(map_of_grains((20, 24), 3, 1e4), contexts=(5,))
    assert context == 5
    assert smoothing.components.shape == (40, 4)
    assert choose(np.full((9, 8, 5), np.nan), contexts=(5,)) == (5, None)


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
    frames = np.stack([map_of_grains((24, 30), 12, 3, seed) for seed in range(3)])
    assert chosen(frames) == chosen(frames[::-1]) >= 5


@pytest.mark.parametrize("nav", [1, 2, 3])
def test_smoothing_knows_the_noise_of_a_position(nav):
    shape = {1: (4000,), 2: (80, 50), 3: (2, 40, 50)}[nav]
    rng = np.random.default_rng(0)
    data = np.linspace(20, 40, 9) + rng.normal(scale=3, size=(*shape, 9))
    _, smoothing = choose(data, contexts=(5,))
    expected = 9 * (smoothing.components**2).sum(axis=0)
    np.testing.assert_allclose(smoothing.noise, expected, rtol=0.15)


@pytest.mark.parametrize("sum_normalise", [False, True])
def test_integers_give_the_same_as_floats(sum_normalise):
    data = map_of_grains((20, 24), 12, 20).astype(np.uint16)
    context, smoothing = choose(data, sum_normalise=sum_normalise)
    other_context, other = choose(data.astype(np.float64), sum_normalise=sum_normalise)
    assert context == other_context > 1
    np.testing.assert_allclose(other.noise, smoothing.noise, rtol=1e-4)


def test_patterns_are_judged_by_their_bins():
    data = map_of_grains((20, 24), 12, 300)[..., :35].reshape(20, 24, 5, 7)
    data = data.repeat(10, axis=2).repeat(10, axis=3) / 100
    _, smoothing = choose(data, nav=2, contexts=(5,))
    assert smoothing.components.shape == (25 * 23, 4)
    assert smoothing.matrix(data.shape[2:]).shape == (50 * 70, 5)


def test_pieces_tell_the_same_as_the_whole():
    data = map_of_grains((48, 40), 12, 10)
    whole = choose(data)
    pieces, inner = [], []
    for y, x in np.ndindex(6, 5):
        top, left = max(0, 8 * y - 4), max(0, 8 * x - 4)
        pieces.append(data[top : 8 * y + 12, left : 8 * x + 12])
        inner.append((slice(8 * y - top, 8 * y - top + 8), slice(8 * x - left, 8 * x - left + 8)))
    context, smoothing = choose_context(pieces, inner, 2, sum_normalise=False)
    assert context == whole[0] == 7
    cosines = np.abs((smoothing.components * whole[1].components).sum(axis=0))
    cosines /= np.linalg.norm(smoothing.components, axis=0) ** 2
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


@pytest.mark.parametrize("sum_normalise", [False, True])
def test_half_of_the_positions_suffice(sum_normalise, monkeypatch):
    data = map_of_grains((48, 40), 12, 10)
    whole = choose(data, sum_normalise=sum_normalise)
    learnt_from = []
    learn = module.leading_components
    monkeypatch.setattr(
        module, "leading_components", lambda x, kind: learnt_from.append(len(x)) or learn(x, kind)
    )
    monkeypatch.setattr(module, "_MOST_POOLED", 48 * 20)
    half = choose(data, sum_normalise=sum_normalise)
    assert learnt_from == [48 * 20]
    assert half[0] == whole[0] > 1
    np.testing.assert_allclose(half[1].noise[:3], whole[1].noise[:3], rtol=0.05)
