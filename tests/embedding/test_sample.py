"""A data set is sampled all over, reproducibly, and by its shape alone."""

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest

from hyperspy_fewshot.embedding import sample as module
from hyperspy_fewshot.embedding.sample import (
    embedded_blocks,
    is_whole,
    sample_blocks,
    tiles,
)
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.grids.slices import shape_of


def enumerated(grid, monkeypatch):
    """The sample chosen from a list of all tiles."""
    asked = []
    monkeypatch.setattr(module, "tiles", lambda *given: asked.append(given) or tiles(*given))
    module.sample_blocks(grid)
    ((shape, sides, *numbers),) = asked
    starts = [range(0, size, side) for size, side in zip(shape, sides, strict=True)]
    pieces = [
        tuple(slice(low, min(low + s, n)) for low, s, n in zip(corner, sides, shape, strict=True))
        for corner in product(*starts)
    ]
    if not numbers:
        return pieces
    size = min(-(-grid.sample_size // math.prod(sides)), len(pieces))
    chosen = np.random.default_rng(0).choice(len(pieces), size=size, replace=False)
    return [pieces[i] for i in np.sort(chosen)]


def covered(blocks, shape):
    """How often each cell of a grid is in the sample."""
    count = np.zeros(shape, int)
    for block in blocks:
        assert all(0 <= s.start < s.stop <= n for s, n in zip(block, shape, strict=True))
        count[block] += 1
    return count


@pytest.mark.parametrize(
    "grid",
    [
        PositionGrid((300, 401), (2048,)),
        PositionGrid((3, 300, 401), (16, 16)),
        PositionGrid((200_000,), (512,)),
        PositionGrid((300, 401), (512, 512)),
        ChipGrid((), (2000, 1501), 64, 16),
        ChipGrid((5,), (700, 1501), 32, 8),
        ChipGrid((), (2000, 1501), 64, 4, margin=40),
    ],
)
def test_the_sample_is_seeded_and_as_large_as_it_should_be(grid):
    blocks = sample_blocks(grid)
    assert blocks == sample_blocks(grid)
    count = covered(blocks, grid.shape)
    assert count.max() == 1, "no item is sampled twice"
    # Chips inside an image share their data.
    shared = grid.kind == "image" and grid.margin
    fitting = np.inf if shared else 64 * 2**20 / 4 / np.prod(grid.item_shape)
    assert 0.8 * min(grid.sample_size, fitting) < count.sum()
    assert count.sum() <= min(grid.sample_size, max(fitting, 256))
    # All parts of the data are represented.
    half = tuple(slice(0, n // 2) for n in grid.shape)
    share = count[half].sum() / count.sum()
    assert 0.5 * 0.5 ** len(grid.shape) < share < 2 * 0.5 ** len(grid.shape)


@pytest.mark.parametrize("grid", [PositionGrid((9, 8), (20,), 5), ChipGrid((2,), (40, 56), 16, 4)])
def test_small_data_are_sampled_whole(grid):
    assert sample_blocks(grid) == [tuple(slice(0, n) for n in grid.shape)]


def test_small_images_are_sampled_whole_in_tiles_when_surroundings_are_read_too():
    grid = ChipGrid((2,), (90, 130), 16, 8, margin=9)
    assert (covered(sample_blocks(grid), grid.shape) == 1).all()


def test_the_sample_does_not_depend_on_the_context():
    blocks = sample_blocks(PositionGrid((300, 401), (512,), 1))
    assert blocks == sample_blocks(PositionGrid((300, 401), (512,), 9))


def test_is_whole():
    grid = ChipGrid((2,), (90, 130), 16, 8, margin=9)
    blocks = sample_blocks(grid)
    assert is_whole(grid, blocks)
    assert not is_whole(grid, blocks[1:])
    large = PositionGrid((300, 401), (20,))
    assert not is_whole(large, sample_blocks(large))


@pytest.mark.parametrize("grid", [PositionGrid((9, 8), (20,)), ChipGrid((2,), (90, 130), 16, 8, 9)])
@pytest.mark.parametrize("mask", [False, True])
def test_a_whole_data_set_is_embedded_in_the_blocks_of_the_pass_over_it(grid, mask):
    sides = (1, 4, 3)[-len(grid.shape) :]
    mask = np.random.default_rng(0).random(grid.shape) < 0.5 if mask else None
    blocks = sample_blocks(grid)
    chosen = embedded_blocks(grid, blocks, mask, sides)
    assert (covered([block for _, block in chosen], grid.shape) == 1).all()
    for number, block in chosen:
        pairs = list(zip(block, blocks[number], strict=True))
        assert all(outer.start <= s.start and s.stop <= outer.stop for s, outer in pairs)
        assert all(n <= side for n, side in zip(shape_of(block), sides, strict=True))


def test_all_sampled_spectra_and_chips_are_embedded():
    for grid in (PositionGrid((300, 401), (20,)), ChipGrid((), (2000, 1501), 64, 16)):
        blocks = sample_blocks(grid)
        sides = tuple(9 for _ in grid.shape)
        assert embedded_blocks(grid, blocks, None, sides) == list(enumerate(blocks))


@pytest.mark.parametrize("shape, share", [((300, 401), 4), ((2, 300, 401), 4), ((200_000,), 2)])
def test_a_part_of_each_sampled_block_of_patterns_is_embedded(shape, share):
    grid = PositionGrid(shape, (16, 16))
    blocks = sample_blocks(grid)
    chosen = embedded_blocks(grid, blocks, None, tuple(9 for _ in shape))
    assert [number for number, _ in chosen] == list(range(len(blocks)))
    sampled, count = covered(blocks, shape), covered([block for _, block in chosen], shape)
    assert (count <= sampled).all()
    assert sampled.sum() / share <= count.sum() < 1.5 * sampled.sum() / share
    # With a mask, few may be left: all of them are embedded.
    mask = np.zeros(shape, bool)
    assert embedded_blocks(grid, blocks, mask, tuple(9 for _ in shape)) == list(enumerate(blocks))


def test_tiles_cover_a_shape_once():
    found = tiles((3, 11, 7), (1, 4, 3))
    assert len(found) == 3 * 3 * 3
    assert (covered(found, (3, 11, 7)) == 1).all()


@pytest.mark.parametrize(
    "grid",
    [
        PositionGrid((9, 8), (20,)),
        PositionGrid((300, 401), (20,)),
        PositionGrid((3, 300, 401), (16, 16)),
        PositionGrid((200_000,), (20,)),
        ChipGrid((), (2000, 1501), 64, 16),
        ChipGrid((5,), (700, 1501), 32, 8),
        ChipGrid((), (2000, 1501), 64, 4, margin=40),
        ChipGrid((2,), (90, 130), 16, 8, margin=9),
    ],
)
def test_the_sample_is_chosen_from_all_tiles(grid, monkeypatch):
    found = sample_blocks(grid)
    assert found == enumerated(grid, monkeypatch)
    assert all(isinstance(s.start, int) and isinstance(s.stop, int) for b in found for s in b)


def test_the_tiles_of_a_huge_scan_are_not_listed():
    tracemalloc.start()
    blocks = sample_blocks(PositionGrid((15_000, 20_000), (32,)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(blocks) == 128 and peak < 1e6
