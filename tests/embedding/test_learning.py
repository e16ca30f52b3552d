"""A recipe is learnt from finite, unmasked items of one sample, which is read once."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import dask.array as da
import numpy as np
import pytest

from hyperspy_fewshot.embedding import learning
from hyperspy_fewshot.embedding.blocks import embed_all
from hyperspy_fewshot.embedding.context import choose_context
from hyperspy_fewshot.embedding.learning import embed_sample, learn
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.encoders import Encoder, get_encoder
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid

AXIS = (0.5, "eV")


@dataclass(frozen=True, eq=False)
class Student(Encoder):
    """Mean of each item above that of the sample, and its first value; keeps what it was shown."""

    name: str = "student"
    mean: float = 0.0
    shown: list = field(default_factory=list)

    def fit(self, sample, *, kind, sum_normalise=False):
        self.shown.append((sample, kind, sum_normalise))
        return replace(self, mean=float(sample.mean()))

    def encode(self, batch, device="cpu"):
        flat = batch.reshape(len(batch), -1)
        return np.stack([flat.mean(axis=1) - self.mean, flat[:, 0]], axis=1)


def learnt(data, grid, encoder=None, mask=None, context=None, **options):
    source = DataSource(data, mask, device="cpu", **options)
    return source, *learn(source, encoder or Student(), grid, context, AXIS, False)


def in_order(items):
    """Items in lexical order."""
    flat = np.asarray(items).reshape(len(items), -1).astype(float).round(3)
    return flat[np.lexsort(flat.T[::-1])]


def finite(embeddings):
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    return rows[np.isfinite(rows).all(axis=1)]


@pytest.mark.parametrize("masked", [False, True])
def test_the_encoder_is_fitted_on_finite_unmasked_items(case, masked, tools):
    data, grid, chunks = case
    data = data.astype(np.float32)
    data[(1,) * data.ndim] = np.nan
    mask = np.random.default_rng(1).random(grid.shape) < 0.3 if masked else None
    encoder = Student()
    context = None if grid.context == 1 else grid.context
    _, recipe, _ = learnt(da.from_array(data, chunks=chunks), grid, encoder, mask, context)
    # Spectra that are pooled are embedded by themselves, too.
    twice = grid.kind == "spectrum" and grid.context > 1
    grids = [grid, replace(grid, context=1)] if twice else [grid]
    for own, part, shown in zip(grids, recipe.parts, encoder.shown, strict=True):
        sample, kind, sum_normalise = shown
        items = tools.naive_items(data, own, mask)
        kept = np.isfinite(items).all(axis=tuple(range(len(grid.shape), items.ndim)))
        kept &= True if mask is None else ~mask
        assert (kind, sum_normalise, sample.dtype) == (grid.kind, False, np.float32)
        np.testing.assert_allclose(in_order(sample), in_order(items[kept]), rtol=1e-5, atol=0.01)
        assert part.encoder.mean == sample.mean()
        assert part.origin == Student().sha256 != part.encoder.sha256
        assert (part.size, recipe.signal_axis) == (2, AXIS)
        assert part.grid.context == own.context
    assert len(recipe.parts) > 1 or recipe.parts[0].scale == 1


def test_pooled_spectra_weigh_more_than_single_ones():
    data = np.random.default_rng(0).poisson(9.0, (30, 40, 5)).astype(float)
    _, recipe, sample = learnt(data, PositionGrid((30, 40), (5,), 3), context=3)
    variances = sample.embeddings.var(axis=0).reshape(2, 2).sum(axis=1)
    np.testing.assert_allclose(variances, [1, 0.49], rtol=1e-5)
    single = recipe.parts[1]
    values = data.mean(axis=2) - single.encoder.mean
    found = single.scale * np.stack([values, data[..., 0]], axis=-1)
    np.testing.assert_allclose(sample.whole[..., 2:], found, rtol=1e-4, atol=1e-5)


def test_the_encoder_is_told_that_the_sum_says_nothing():
    encoder = Student()
    data = np.random.default_rng(0).poisson(9.0, (6, 7, 5)).astype(float)
    learnt(data, PositionGrid((6, 7), (5,)), encoder, sum_normalise=True)
    assert encoder.shown[0][1:] == ("spectrum", True)


@pytest.mark.parametrize("masked", [False, True])
def test_the_embeddings_of_a_small_data_set_are_those_of_the_pass_over_it(
    case, masked, small_blocks
):
    data, grid, chunks = case
    data = data.astype(np.float32)
    data[(1,) * data.ndim] = np.nan
    mask = np.random.default_rng(1).random(grid.shape) < 0.3 if masked else None
    context = None if grid.context == 1 else grid.context
    lazy = da.from_array(data, chunks=chunks)
    source, recipe, sample = learnt(lazy, grid, mask=mask, context=context)
    expected = embed_all(recipe, source).compute()
    np.testing.assert_allclose(sample.whole, expected, rtol=1e-5)
    rows = finite(expected[..., : recipe.size])
    np.testing.assert_allclose(in_order(sample.embeddings), in_order(rows), atol=0.01)
    np.testing.assert_allclose(recipe.centre, rows.mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "grid, chunks",
    [
        (PositionGrid((90, 110), (4,)), (10, 10, 4)),
        (PositionGrid((90, 110), (2, 3), 3), (10, 10, 2, 3)),
        (ChipGrid((), (400, 500), 9, 6), (40, 50)),
    ],
    ids=["spectra", "pooled patterns", "chips"],
)
def test_a_part_of_a_large_data_set_is_read_once(grid, chunks, tools, monkeypatch):
    monkeypatch.setattr(type(grid), "sample_size", 512)
    data = np.random.default_rng(0).random((*grid.nav_shape, *grid.signal_shape))
    store = tools.Store(data)
    stored = store.chunked(chunks)
    source, recipe, sample = learnt(stored, grid, context=3 if grid.context > 1 else None)
    assert set(store.reads.values()) == {1}
    assert len(store.reads) < 0.9 * stored.npartitions
    assert sample.whole is None
    assert 100 <= len(sample.embeddings) <= 512
    np.testing.assert_allclose(recipe.centre, sample.embeddings.mean(axis=0), atol=1e-6)
    everywhere = embed_all(recipe, replace(source, data=data)).compute()[..., :2].reshape(-1, 2)
    known = {tuple(row) for row in everywhere.round(4).tolist()}
    assert {tuple(row) for row in sample.embeddings.round(4).tolist()} <= known


def test_lazy_data_give_the_same_recipe(case):
    data, grid, chunks = case
    context = None if grid.context == 1 else grid.context
    _, eager, _ = learnt(data, grid, context=context)
    _, lazy, _ = learnt(da.from_array(data, chunks=chunks), grid, context=context)
    assert lazy.description == eager.description
    assert lazy.parts[0].encoder.mean == pytest.approx(eager.parts[0].encoder.mean)
    np.testing.assert_allclose(lazy.centre, eager.centre, rtol=1e-5)


def test_a_context_that_is_not_given_is_chosen():
    rng = np.random.default_rng(0)
    spectra = np.array([[9, 1, 1, 5], [1, 9, 5, 1]])[np.arange(20) // 10]
    for counts, chosen in [(0.05, [5, 7, 9]), (100.0, [1])]:
        data = rng.poisson(np.broadcast_to(counts * spectra, (24, 20, 4)))
        _, recipe, _ = learnt(data, PositionGrid((24, 20), (4,), 9))
        assert recipe.grid.context in chosen
    # Never wider than half of the scan.
    data = rng.poisson(0.05 * spectra[np.newaxis, :], (7, 20, 4))
    _, recipe, _ = learnt(data, PositionGrid((7, 20), (4,), 9))
    assert recipe.grid.context <= 3


def test_masked_positions_do_not_decide_the_context(monkeypatch):
    judged = []

    def spy(pieces, *arguments, **options):
        judged.extend(pieces)
        return choose_context(pieces, *arguments, **options)

    monkeypatch.setattr(learning, "choose_context", spy)
    data = np.random.default_rng(0).poisson(5.0, (24, 20, 4)).astype(np.uint16)
    mask = np.random.default_rng(1).random((24, 20)) < 0.3
    learnt(data, PositionGrid((24, 20), (4,), 9), mask=mask)
    (piece,) = judged
    assert np.isnan(piece[mask]).all()
    np.testing.assert_array_equal(piece[~mask], data[~mask])


def test_the_sample_of_other_data_is_embedded_by_the_same_recipe(case):
    data, grid, chunks = case
    context = None if grid.context == 1 else grid.context
    _, recipe, sample = learnt(data, grid, context=context)
    source = DataSource(da.from_array(data, chunks=chunks), device="cpu")
    _, again = embed_sample(recipe, source, False)
    np.testing.assert_allclose(again.whole, sample.whole, rtol=1e-5)
    other = np.concatenate([data, data + np.uint16(7)], axis=0)
    nav_shape = other.shape[: len(grid.nav_shape)]
    signal_shape = other.shape[len(grid.nav_shape) :]
    recipe = recipe.on(grid.for_data(nav_shape, signal_shape, None))
    source = DataSource(other, device="cpu")
    _, found = embed_sample(recipe, source, False)
    np.testing.assert_allclose(found.whole, embed_all(recipe, source).compute(), rtol=1e-5)


@dataclass(frozen=True, eq=False)
class DenseStudent(Encoder):
    """Value at the first pixel of each chip."""

    name: str = "dense student"
    dense: ClassVar[bool] = True

    def fit(self, sample, *, kind, sum_normalise=False):
        return self

    def margin(self, chip_size):
        return 6

    def encode_field(self, part, device="cpu"):
        rows, columns = part.rows - part.origin[0], part.columns - part.origin[1]
        return part.pixels[rows[:, np.newaxis], columns][..., np.newaxis]


@pytest.mark.parametrize("encoder", [Student(), DenseStudent()], ids=["cut", "dense"])
@pytest.mark.parametrize("why", ["masked", "not finite"])
def test_nothing_left_of_an_image(encoder, why):
    grid = ChipGrid((), (40, 57), 9, 5)
    data = np.full((40, 57), 1.0 if why == "masked" else np.nan)
    mask = np.ones(grid.shape, bool) if why == "masked" else None
    with pytest.raises(ValueError, match="Nothing is left to classify|NaN or infinity for all"):
        learnt(data, grid, encoder, mask)


@pytest.mark.parametrize("context", [None, 1, 3])
def test_nothing_left_of_a_scan(context):
    grid = PositionGrid((9, 8), (5,), 1 if context == 1 else 9 if context is None else 3)
    for data, mask in [
        (np.full((9, 8, 5), np.nan), None),
        (np.random.default_rng(0).random((9, 8, 5)), np.ones((9, 8), bool)),
    ]:
        with pytest.raises(ValueError, match="Nothing is left to classify"):
            learnt(data, grid, mask=mask, context=context)


def test_an_encoder_that_returns_no_finite_numbers_is_named():
    def broken(batch):
        return np.full((len(batch), 2), np.nan)

    with pytest.raises(ValueError, match="'broken' returns NaN or infinity for all of a sample"):
        learnt(np.ones((6, 7, 5)), PositionGrid((6, 7), (5,)), get_encoder(broken))
