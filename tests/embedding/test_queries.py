"""Queries and support examples are embedded in the same way; examples also in all orientations."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from hyperspy_fewshot.embedding import queries
from hyperspy_fewshot.embedding.queries import embed_at, embed_block, embed_items
from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders import Encoder, get_encoder, list_encoders
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.grids.smoothing import Smoothing


@dataclass(frozen=True, eq=False)
class Projection(Encoder):
    """Projection of items, of which the absolute value is taken: a linear and another step."""

    name: str = "projection"
    matrix: np.ndarray | None = None
    dihedral: bool = True

    @classmethod
    def of(cls, item_shape, size=3, seed=0, **options):
        matrix = np.random.default_rng(seed).normal(size=(int(np.prod(item_shape)), size))
        return cls(matrix=matrix.astype(np.float32), **options)

    def encode(self, batch, device="cpu"):
        return self.encode_reduced(self.reduce(batch, device), device)

    def reduce(self, batch, device="cpu"):
        with np.errstate(invalid="ignore"):
            return batch.reshape(len(batch), -1).astype(np.float32) @ self.matrix

    def encode_reduced(self, reduced, device="cpu"):
        return np.abs(reduced)


def everything(grid):
    return tuple(slice(0, n) for n in grid.shape)


def orientations(item):
    """All orientations of an item (h, w) that keep its shape, from coordinates."""
    if item.ndim == 1:
        return [item]
    (h, w), found = item.shape, []
    for transposed in (False, True):
        if transposed and h != w:
            continue
        turned = np.array([[item[x, y] for x in range(h)] for y in range(w)])
        source = turned if transposed else item
        found += [source, source[::-1], source[:, ::-1], source[::-1, ::-1]]
    return found


def in_order(embeddings):
    """Embeddings (copies, d) in lexical order."""
    return np.asarray(sorted(embeddings.round(3).tolist()))


# Blocks of queries


def test_a_block_is_embedded_where_it_is_finite_and_not_masked(tools):
    data = np.arange(40.0).reshape(4, 5, 2)
    data[1, 2, 0] = np.nan
    mask = np.zeros((4, 5), bool)
    mask[1, 0] = True
    block, encoder = (slice(1, 3), slice(0, 3)), tools.Moments()
    for context in (1, 3):
        recipe = tools.recipe_of(encoder, PositionGrid((4, 5), (2,), context))
        window = data[recipe.window(block)]
        found = embed_block(recipe, window, block, mask, "cpu")
        expected = tools.naive_embeddings(data, recipe.grid, encoder, mask)[block].reshape(6, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert np.isfinite(found).all(axis=1).tolist() == [False, True, False, True, True, True]
        nothing = embed_block(recipe, window, block, np.ones_like(mask), "cpu")
        assert nothing.shape == (6, 3) and np.isnan(nothing).all()


def test_the_length_of_embeddings_need_not_be_known(tools):
    data = np.random.default_rng(0).random((4, 5, 2))
    recipe = tools.recipe_of(tools.Moments(), PositionGrid((4, 5), (2,)), size=0)
    block = everything(recipe.grid)
    assert embed_block(recipe, data, block, None, "cpu").shape == (20, 3)
    assert embed_block(recipe, data, block, np.ones((4, 5), bool), "cpu").shape == (20, 0)


def test_parts_are_scaled_and_put_beside_each_other(tools):
    image = np.random.default_rng(0).random((40, 57)).astype(np.float32)
    image[3, 50] = np.nan
    small, large = (ChipGrid((), (40, 57), size, 5) for size in (5, 15))
    encoder = tools.Moments()
    parts = (Part(encoder, small, 3, scale=2.0), Part(encoder, large, 3, scale=0.5))
    recipe = Recipe(parts, np.zeros(6), (1.0, "nm"))
    block = (slice(0, 4), slice(5, 12))
    found = embed_block(recipe, image[recipe.window(block)], block, None, "cpu")
    found = found.reshape(4, 7, 6)
    columns = [tools.naive_embeddings(image, grid, encoder)[block] for grid in (small, large)]
    dead = np.isnan(columns[1]).any(axis=-1)
    assert dead.sum() > np.isnan(columns[0]).any(axis=-1).sum() > 0
    assert np.isnan(found[dead]).all()
    expected = np.concatenate([2 * columns[0], 0.5 * columns[1]], axis=-1)
    np.testing.assert_allclose(found[~dead], expected[~dead], rtol=1e-5)


def test_without_a_device_the_process_that_embeds_takes_its_best(monkeypatch, tools):
    asked = []
    monkeypatch.setattr(queries, "choose_device", lambda device: asked.append(device) or "cpu")
    data = np.random.default_rng(0).random((4, 5, 6))
    recipe = tools.recipe_of(tools.Moments(), PositionGrid((4, 5), (6,)))
    embed_block(recipe, data, everything(recipe.grid), None, None)
    embed_at(recipe, [data[1:2, 2:3]], [(1, 2)], None, None)
    embed_items(recipe, data[0], None)
    assert asked == [None] * 3
    embed_items(recipe, data[0], "cpu")
    assert len(asked) == 3


@pytest.mark.parametrize(
    "encoder, signal_shape",
    [("pca", (40,)), ("spectrum", (40,)), ("pca", (12, 9)), ("pca", (70, 66))],
)
@pytest.mark.parametrize("sum_normalise", [False, True])
def test_encoders_that_reduce_first_give_the_same_as_on_pooled_data(
    encoder, signal_shape, sum_normalise
):
    rng = np.random.default_rng(1)
    data = rng.poisson(rng.uniform(1, 9, (7, 8, *signal_shape))).astype(np.uint16)
    data[:, 5:] *= 2
    mask = rng.random((7, 8)) < 0.1
    bins = signal_shape if max(signal_shape) < 64 else (70 // 3, 66 // 3)
    components = rng.normal(size=(int(np.prod(bins)), 4)).astype(np.float32)
    smoothing = Smoothing(components, np.full(4, 5, np.float32), sum_normalise)
    grid = PositionGrid((7, 8), signal_shape, 3, smoothing=smoothing)
    scores = data.reshape(7, 8, -1) @ smoothing.matrix(signal_shape)
    pooled = grid.pool(data, mask, scores)[~mask]
    encoder = get_encoder(encoder).fit(pooled, kind=grid.kind, sum_normalise=sum_normalise)
    expected = encoder.encode(pooled)
    size = expected.shape[1]
    recipe = Recipe((Part(encoder, grid, size),), np.zeros(size), (1.0, "nm"))
    found = embed_block(recipe, data, everything(grid), mask, "cpu").reshape(7, 8, -1)
    assert np.isnan(found[mask]).all()
    np.testing.assert_allclose(found[~mask], expected, atol=3e-4 * np.abs(expected).max())


# Support examples


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("signal_shape, copies", [((5, 5), 8), ((4, 6), 4), ((7,), 1)])
def test_examples_are_embedded_in_all_orientations(signal_shape, copies, context, tools):
    data = np.random.default_rng(2).integers(0, 900, (6, 7, *signal_shape)).astype(np.uint16)
    mask = np.random.default_rng(3).random((6, 7)) < 0.3
    grid = PositionGrid((6, 7), signal_shape, context)
    encoder = Projection.of(signal_shape)
    recipe = tools.recipe_of(encoder, grid)
    places = [(0, 0), (3, 4), (5, 2), (2, 6)]
    windows = [data[recipe.window_at(place)] for place in places]
    found = embed_at(recipe, windows, places, mask, "cpu")
    assert found.shape == (copies, 4, 3)
    assert len(np.unique(found[:, 1].round(2), axis=0)) == copies
    for i, place in enumerate(places):
        # The position itself counts although it is masked.
        around = mask.copy()
        around[place] = False
        item = tools.naive_items(data, grid, around)[place]
        expected = encoder.encode(np.stack(orientations(item)))
        np.testing.assert_allclose(in_order(found[:, i]), in_order(expected), rtol=1e-3, atol=0.02)
        np.testing.assert_allclose(found[0, i], expected[0], rtol=1e-3)


def test_smoothed_examples_are_embedded_in_all_orientations(tools):
    data = np.random.default_rng(2).poisson(9, (6, 7, 5, 5)).astype(np.uint16)
    data[:, 4:, :2] *= 5
    components = np.random.default_rng(0).normal(size=(25, 2)).astype(np.float32)
    smoothing = Smoothing(components, np.array([50, 80], np.float32), False)
    grid = PositionGrid((6, 7), (5, 5), 3, smoothing=smoothing)
    encoder = Projection.of((5, 5))
    recipe = tools.recipe_of(encoder, grid)
    scores = data.reshape(6, 7, -1) @ smoothing.matrix((5, 5))
    pooled = grid.pool(data, None, scores)
    plain = grid.without_smoothing().pool(data, None, None)
    places = [(0, 0), (3, 3), (5, 4)]
    assert any(np.abs(pooled[place] - plain[place]).max() > 2 for place in places)
    for place in places:
        found = embed_at(recipe, [data[recipe.window_at(place)]], [place], None, "cpu")[:, 0]
        expected = encoder.encode(np.stack(orientations(pooled[place])))
        np.testing.assert_allclose(in_order(found), in_order(expected), rtol=1e-3, atol=0.02)


@pytest.mark.parametrize("dihedral", [False, True])
def test_chips_anywhere_are_embedded_in_all_orientations(dihedral, tools):
    stack = np.random.default_rng(2).integers(0, 900, (2, 40, 57)).astype(np.uint16)
    grid = ChipGrid((2,), (40, 57), 7, 5)
    encoder = Projection.of((7, 7), dihedral=dihedral)
    recipe = tools.recipe_of(encoder, grid)
    places = [(1, 20, 31), (0, 0, 56), (1, 38, 2)]
    windows = [stack[recipe.window_at(place)] for place in places]
    found = embed_at(recipe, windows, places, np.ones(grid.shape, bool), "cpu")
    assert found.shape == (8 if dihedral else 1, 3, 3)
    wide = np.pad(stack, [(0, 0), (9, 9), (9, 9)], mode="reflect")
    for i, (n, y, x) in enumerate(places):
        chip = wide[n, y + 6 : y + 13, x + 6 : x + 13]
        copies = orientations(chip) if dihedral else [chip]
        expected = encoder.encode(np.stack(copies))
        np.testing.assert_allclose(in_order(found[:, i]), in_order(expected), rtol=1e-3, atol=0.02)


def test_an_example_is_embedded_as_the_query_at_its_place(case, tools):
    data, grid, _ = case
    mask = np.random.default_rng(1).random(grid.shape) < 0.3
    recipe = tools.recipe_of(tools.Moments(), grid)
    block = everything(grid)
    expected = embed_block(recipe, data, block, mask, "cpu").reshape(*grid.shape, 3)
    cells = np.argwhere(~mask)[:: max(1, (~mask).sum() // 7)].tolist()
    places = [tuple(cell) for cell in cells]
    if grid.kind == "image":
        rows, columns = (grid.locations(axis) for axis in (0, 1))
        # Cells whose centre lies inside the image.
        cells = [c for c in cells if c[-2] < len(rows) - 1 and c[-1] < len(columns) - 1]
        places = [(*c[:-2], int(rows[c[-2]]), int(columns[c[-1]])) for c in cells]
    assert len(places) > 1 or grid.shape == (2, 3)
    windows = [data[recipe.window_at(place)] for place in places]
    (found,) = embed_at(recipe, windows, places, mask, "cpu")
    np.testing.assert_allclose(found, [expected[tuple(cell)] for cell in cells], rtol=1e-5)


def test_ready_examples_are_embedded_in_all_orientations(tools):
    items = np.random.default_rng(0).integers(0, 900, (6, 5, 5)).astype(np.uint16)
    encoder = Projection.of((5, 5))
    recipe = tools.recipe_of(encoder, PositionGrid((6, 7), (5, 5), 3), scale=3.0)
    found = embed_items(recipe, items, "cpu")
    assert found.shape == (8, 6, 3)
    for i, item in enumerate(items):
        expected = 3 * encoder.encode(np.stack(orientations(item)))
        np.testing.assert_allclose(in_order(found[:, i]), in_order(expected), rtol=1e-3, atol=0.02)


def test_examples_that_are_not_finite_have_no_embedding(tools):
    data = np.random.default_rng(0).random((4, 5, 3, 3))
    data[1, 2, 0, 0], data[3, 3, 2, 1] = np.nan, np.inf
    for context in (1, 3):
        recipe = tools.recipe_of(Projection.of((3, 3)), PositionGrid((4, 5), (3, 3), context))
        places = [(1, 2), (1, 1), (3, 3)]
        windows = [data[recipe.window_at(place)] for place in places]
        found = embed_at(recipe, windows, places, None, "cpu")
        assert np.isfinite(found).all(axis=(0, 2)).tolist() == [False, True, False]
        assert np.isnan(found[:, [0, 2]]).all()


def test_examples_of_parts_with_and_without_orientations(tools):
    image = np.random.default_rng(0).random((40, 57)).astype(np.float32)
    small, large = (ChipGrid((), (40, 57), size, 5) for size in (5, 15))
    turned = Projection.of((5, 5), size=2)
    parts = (Part(turned, small, 2, scale=2.0), Part(tools.Moments(), large, 3, scale=0.5))
    recipe = Recipe(parts, np.zeros(5), (1.0, "nm"))
    place = (20, 31)
    found = embed_at(recipe, [image[recipe.window_at(place)]], [place], None, "cpu")
    assert found.shape == (8, 1, 5)
    chip = image[18:23, 29:34]
    expected = 2 * turned.encode(np.stack(orientations(chip)))
    np.testing.assert_allclose(in_order(found[:, 0, :2]), in_order(expected), rtol=1e-3, atol=2e-3)
    other = 0.5 * tools.Moments().encode(image[np.newaxis, 13:28, 24:39])
    np.testing.assert_allclose(found[:, 0, 2:], np.repeat(other, 8, axis=0), rtol=1e-5)


def test_the_length_of_an_example_must_be_that_of_the_queries(tools):
    recipe = tools.recipe_of(Projection.of((5,), size=2), PositionGrid((4,), (5,)), size=3)
    with pytest.raises(ValueError, match="'projection' returned 2 numbers an item, 3 before"):
        embed_items(recipe, np.ones((2, 5)), "cpu")
    with pytest.raises(ValueError, match="their number must not depend on the batch"):
        embed_block(replace(recipe), np.ones((4, 5)), (slice(0, 4),), None, "cpu")


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("signal_shape", [(12, 12), (100, 3)])
@pytest.mark.parametrize("name", list_encoders("pattern"))
def test_bundled_encoders_embed_patterns_in_all_orientations(name, signal_shape, context):
    data = np.random.default_rng(2).poisson(9, (4, 5, *signal_shape)).astype(np.uint16)
    data[:, 2:, :3, :2] *= 5
    grid = PositionGrid((4, 5), signal_shape, context)
    pooled = grid.pool(data, None, None) if context > 1 else data.astype(np.float32)
    items = pooled.reshape(-1, *signal_shape)
    encoder = replace(get_encoder(name), dihedral=True).fit(items, kind="pattern")
    size = encoder.encode(items[:1]).shape[1]
    recipe = Recipe((Part(encoder, grid, size),), np.zeros(size), (1.0, "nm"))
    places = [(0, 0), (2, 3)]
    windows = [data[recipe.window_at(place)] for place in places]
    found = embed_at(recipe, windows, places, None, "cpu")
    assert len(found) == (8 if signal_shape[0] == signal_shape[1] else 4)
    turns = [np.asarray, lambda item: item[:, ::-1], lambda item: item[::-1, ::-1]]
    for i, place in enumerate(places):
        for turn in turns:
            (expected,) = encoder.encode(turn(pooled[place])[np.newaxis])
            apart = np.abs(found[:, i] - expected).max(axis=1)
            assert apart.min() < 1e-3 * np.abs(expected).max()
