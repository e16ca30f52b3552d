"""Blocks, chunks, threads and schedulers make no difference to an embedding."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import dask
import dask.array as da
import numpy as np
import pytest
import torch

from hyperspy_fewshot.embedding.blocks import embed_all, embed_windows
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.encoders import Encoder, get_encoder
from hyperspy_fewshot.grids import chips, positions
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid


@pytest.fixture
def embedded(tools):
    """Embed data lazily with one encoder."""

    def embedded(data, grid, encoder, mask=None, size=3, device="cpu"):
        recipe = tools.recipe_of(encoder, grid, size)
        return embed_all(recipe, DataSource(data, mask, device=device))

    return embedded


# Equality


@pytest.mark.parametrize("chunking", ["whole", "small", "uneven"])
def test_lazy_equals_eager_and_a_loop(case, chunking, small_blocks, tools, embedded):
    data, grid, uneven = case
    small = tuple(-(-n // 4) for n in data.shape)
    chunks = {"whole": -1, "small": small, "uneven": uneven}[chunking]
    lazy = embedded(da.from_array(data, chunks=chunks), grid, tools.Moments())
    assert lazy.shape == (*grid.shape, 3 + grid.n_guides)
    assert lazy.dtype == lazy._meta.dtype == np.float32
    assert lazy.npartitions > 1
    found = lazy.compute()
    np.testing.assert_array_equal(found, embedded(data, grid, tools.Moments()).compute())
    expected = tools.naive_embeddings(data, grid, tools.Moments())
    np.testing.assert_allclose(found[..., :3], expected, rtol=1e-5)
    last = tuple(n - 1 for n in grid.shape)
    np.testing.assert_array_equal(lazy[last].compute(), found[last])


def test_the_guide_of_an_image_is_the_mean_intensity_of_each_cell(small_blocks, tools, embedded):
    image = np.random.default_rng(0).random((40, 55)).astype(np.float32)
    grid = ChipGrid((), (40, 55), 15, 5)
    found = embedded(da.from_array(image, chunks=(17, 9)), grid, tools.Moments()).compute()
    expected = image.reshape(8, 5, 11, 5).mean(axis=(1, 3))
    np.testing.assert_allclose(found[..., 3], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["image", "pooled patterns", "pooled spectra"])
def test_bundled_encoders_do_not_depend_on_blocks(name, monkeypatch, tools, embedded):
    shape, grid, chunks = tools.CASES[name]
    data = np.random.default_rng(5).poisson(20, shape).astype(np.uint16)
    sample = tools.naive_items(data, grid).reshape(-1, *grid.item_shape).astype(np.float32)
    encoder = get_encoder("fourier" if name == "image" else "pca").fit(sample, kind=grid.kind)
    expected = encoder.encode(sample)
    monkeypatch.setattr(chips, "_BLOCK_SIDE", 16)
    monkeypatch.setattr(positions, "_BLOCK_BYTES", 400)
    lazy = embedded(da.from_array(data, chunks=chunks), grid, encoder, size=expected.shape[1])
    assert lazy.npartitions > 1
    found = lazy.compute()[..., : expected.shape[1]].reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f8", ">f4", "?"])
def test_any_type_of_number(dtype, tools, embedded):
    data = np.random.default_rng(0).integers(0, 2, (4, 5, 7)).astype(dtype)
    grid = PositionGrid((4, 5), (7,), 3)
    pooled = tools.naive_items(data.astype(float), grid).reshape(20, 7).astype(np.float32)
    encoder = get_encoder("pca").fit(pooled, kind="spectrum")
    expected = encoder.encode(pooled)
    lazy = embedded(da.from_array(data, chunks=(3, 2, 7)), grid, encoder, size=expected.shape[1])
    np.testing.assert_allclose(lazy.compute().reshape(expected.shape), expected, atol=1e-6)


@dataclass(frozen=True, eq=False)
class Surroundings(Encoder):
    """Mean of each chip, and of the pixels within 6 px of it."""

    name: str = "surroundings"
    dense: ClassVar[bool] = True

    def encode_field(self, field, device="cpu"):
        found = np.empty((len(field.rows), len(field.columns), 2))
        for i, row in enumerate(field.rows - field.origin[0]):
            for j, column in enumerate(field.columns - field.origin[1]):
                for k, margin in enumerate((0, 6)):
                    around = (
                        slice(first - margin, first + field.chip_size + margin)
                        for first in (row, column)
                    )
                    found[i, j, k] = field.pixels[tuple(around)].mean()
        return found


@pytest.mark.parametrize("chunks", [(2, 45, 60), (1, 17, 9)])
def test_dense_encoders_see_what_surrounds_a_chip(chunks, small_blocks, embedded):
    data = np.random.default_rng(0).random((2, 45, 60))
    grid = ChipGrid((2,), (45, 60), 10, 5, margin=6)
    mask = np.random.default_rng(1).random(grid.shape) < 0.3
    lazy = embedded(da.from_array(data, chunks=chunks), grid, Surroundings(), mask, size=2)
    assert lazy.npartitions > 4
    wide = np.pad(data, [(0, 0), (20, 20), (20, 20)], mode="reflect")
    expected = np.full((*grid.shape, 2), np.nan)
    for n, i, j in np.argwhere(~mask):
        top, left = 5 * i - 3 + 20, 5 * j - 3 + 20
        for k, margin in enumerate((0, 6)):
            around = (slice(first - margin, first + 10 + margin) for first in (top, left))
            expected[n, i, j, k] = wide[n][tuple(around)].mean()
    np.testing.assert_allclose(lazy.compute()[..., :2], expected, rtol=1e-6)


def test_windows_in_memory_give_the_same_as_the_whole(case, tools, embedded):
    data, grid, _ = case
    recipe = tools.recipe_of(tools.Moments(), grid)
    last = tuple(slice(n // 2, n) for n in grid.shape)
    first = tuple(slice(0, max(1, n // 2)) for n in grid.shape)
    windows = [data[recipe.window(block)] for block in (last, first)]
    parts = embed_windows(recipe, windows, [last, first], DataSource(data, device="cpu"), False)
    whole = embedded(data, grid, tools.Moments()).compute()
    for part, block in zip(parts, (last, first), strict=True):
        np.testing.assert_array_equal(part, whole[block])


# What is masked or not finite


def test_masked_queries_are_not_encoded(case, small_blocks, tools, embedded):
    data, grid, chunks = case
    mask = np.random.default_rng(1).random(grid.shape) < 0.3
    encoder = tools.Moments()
    found = embedded(da.from_array(data, chunks=chunks), grid, encoder, mask).compute()[..., :3]
    expected = tools.naive_embeddings(data, grid, tools.Moments(), mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(found).all(axis=-1), mask)
    assert encoder.n_items == (~mask).sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_queries_that_are_not_finite_have_no_embedding(case, bad, small_blocks, tools, embedded):
    data, grid, chunks = case
    data = data.astype(np.float32)
    data[(1,) * data.ndim] = bad
    encoder = tools.Moments()
    found = embedded(da.from_array(data, chunks=chunks), grid, encoder).compute()[..., :3]
    expected = tools.naive_embeddings(data, grid, tools.Moments())
    dead = np.isnan(expected).all(axis=-1)
    assert 0 < dead.sum() < dead.size
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert encoder.n_items == (~dead).sum()


def test_the_encoder_is_not_called_without_finite_data(tools, embedded):
    data = da.from_array(np.full((4, 5, 7), np.nan), chunks=2)
    encoder = tools.Moments()
    assert np.isnan(embedded(data, PositionGrid((4, 5), (7,), 3), encoder).compute()).all()
    assert encoder.calls == []


# What is read, and when


def test_nothing_is_read_or_encoded_before_compute(case, tools, embedded):
    data, grid, chunks = case
    store, encoder = tools.Store(data), tools.Moments()
    embedded(store.chunked(chunks), grid, encoder)
    assert (sum(store.reads.values()), encoder.calls) == (0, [])


def test_one_pass_reads_every_chunk_once(case, small_blocks, tools, embedded):
    data, grid, chunks = case
    store, encoder = tools.Store(data), tools.Moments()
    stored = store.chunked(chunks)
    lazy = embedded(stored, grid, encoder)
    largest, total = dask.compute(lazy.max(axis=-1), lazy[..., :3].sum(axis=-1))
    assert len(store.reads) == stored.npartitions
    assert set(store.reads.values()) == {1}
    assert encoder.n_items == np.prod(grid.shape)
    expected = tools.naive_embeddings(data, grid, tools.Moments())
    np.testing.assert_allclose(total, expected.sum(axis=-1), rtol=1e-5)
    assert largest.shape == grid.shape


def test_a_part_of_the_map_reads_what_it_needs(small_blocks, tools, embedded):
    store = tools.Store(np.zeros((11, 14, 20), np.float32))
    grid = PositionGrid((11, 14), (20,), 3)
    embedded(store.chunked((4, 4, 20)), grid, tools.Moments())[:2, :2].compute()
    assert 0 < len(store.reads) <= 4


# Threads, schedulers and devices


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_the_torch_threads_of_the_user_are_restored(scheduler, small_blocks, tools, embedded):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        encoder = tools.Moments()
        data = da.zeros((11, 14, 20), chunks=(4, 4, 20))
        lazy = embedded(data, PositionGrid((11, 14), (20,), 3), encoder)
        lazy.compute(scheduler=scheduler, num_workers=4)
        assert {threads for _, threads in encoder.calls} == {1}
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_the_dask_settings_of_the_user_are_not_changed(small_blocks, tools, embedded):
    before = dask.config.serialize(dask.config.config)
    data = da.zeros((11, 14, 20), chunks=(4, 4, 20))
    embedded(data, PositionGrid((11, 14), (20,), 3), tools.Moments()).compute()
    assert dask.config.serialize(dask.config.config) == before


@pytest.fixture(scope="module")
def lazy_and_values(tools):
    """A lazy map with a bundled encoder, and its values."""
    data = np.random.default_rng(0).poisson(30, (9, 10, 16)).astype(np.uint16)
    encoder = get_encoder("pca").fit(data.reshape(90, 16).astype(np.float32), kind="spectrum")
    grid = PositionGrid((9, 10), (16,), 3)
    recipe = tools.recipe_of(encoder, grid, encoder.components.shape[1])
    lazy = embed_all(recipe, DataSource(da.from_array(data, chunks=(4, 5, 9)), device="cpu"))
    return lazy, lazy.compute(scheduler="synchronous")


@pytest.mark.parametrize("workers", [1, 4])
def test_threads_give_the_same(lazy_and_values, workers):
    lazy, expected = lazy_and_values
    found = lazy.compute(scheduler="threads", num_workers=workers)
    np.testing.assert_array_equal(found, expected)


def test_lazy_maps_pickle(lazy_and_values):
    lazy, expected = lazy_and_values
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)).compute(), expected)


def test_the_graph_holds_what_blocks_share_once(small_blocks, tools, embedded):
    # Weights of 4 MB in many blocks: a graph that repeated them would show.
    encoder = replace(tools.Moments(), calls=list(range(2)))
    object.__setattr__(encoder, "weights", np.random.default_rng(0).random(2**19))
    data = da.zeros((40, 50, 16), chunks=(5, 8, 16))
    lazy = embedded(data, PositionGrid((40, 50), (16,), 3), encoder)
    assert lazy.npartitions > 20
    assert len(pickle.dumps(lazy)) < 6 * 2**20


def test_batches_are_no_larger_than_asked_for(tools, embedded):
    encoder = tools.Moments(batch_size=7)
    embedded(da.zeros((5, 6, 4), chunks=-1), PositionGrid((5, 6), (4,)), encoder).compute()
    assert [n for n, _ in encoder.calls] == [7, 7, 7, 7, 2]


def test_the_length_of_an_embedding_must_not_change(embedded):
    encoder = get_encoder(lambda batch: np.ones((len(batch), 1)))
    lazy = embedded(da.ones((4, 5, 7)), PositionGrid((4, 5), (7,)), encoder, size=3)
    with pytest.raises(ValueError, match="returned 1 numbers an item, 3 before"):
        lazy.compute()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", ["image", "pooled patterns", "pooled spectra"])
def test_a_gpu_gives_the_same(name, small_blocks, tools, embedded):
    shape, grid, chunks = tools.CASES[name]
    data = np.random.default_rng(5).poisson(20, shape).astype(np.uint16)
    sample = tools.naive_items(data, grid).reshape(-1, *grid.item_shape).astype(np.float32)
    encoder = get_encoder("fourier" if name == "image" else "pca").fit(sample, kind=grid.kind)
    size = encoder.encode(sample).shape[1]
    lazy = da.from_array(data, chunks=chunks)
    on_cpu, on_gpu = (
        embedded(lazy, grid, encoder, size=size, device=device).compute()
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4 * np.abs(on_cpu).max())
