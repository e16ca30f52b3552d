"""Where a data set is sampled."""

import math
from collections.abc import Sequence

import numpy as np

from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.slices import Slices, shape_of


def sample_blocks(grid: Grid) -> list[Slices]:
    """Choose where a data set is sampled: seeded, depending on the shape alone.

    Returns contiguous blocks of the grid, which cover it if it is small.
    """
    count = grid.sample_size
    whole = math.prod(grid.shape) <= count
    side = grid.sample_side(whole)
    if whole:
        return tiles(grid.shape, (*grid.shape[:-2], *(side,) * len(grid.shape[-2:])))
    # Along a line the tiles are longer, so that their number stays the same.
    line = len(grid.shape) == 1
    sides = (side**2,) if line else (*(1,) * len(grid.shape[:-2]), side, side)
    n_tiles = math.prod(_numbers_of_tiles(grid.shape, sides))
    number = min(-(-count // side**2), n_tiles)
    chosen = np.random.default_rng(0).choice(n_tiles, size=number, replace=False)
    return tiles(grid.shape, sides, np.sort(chosen))


def is_whole(grid: Grid, blocks: list[Slices]) -> bool:
    """Whether the blocks of a sample cover the grid."""
    return sum(math.prod(shape_of(block)) for block in blocks) == math.prod(grid.shape)


def embedded_blocks(
    grid: Grid, blocks: list[Slices], mask: np.ndarray | None, sides: tuple[int, ...]
) -> list[tuple[int, Slices]]:
    """Choose the part of a sample that is embedded.

    Returns pairs of a block, and the number of the block of the sample that it lies in. A whole
    grid is embedded in pieces of such sides, of slow items a quarter of each block.
    """
    if is_whole(grid, blocks):
        return [
            (i, _shifted(piece, block))
            for i, block in enumerate(blocks)
            for piece in tiles(shape_of(block), sides)
        ]
    if grid.is_slow and mask is None:
        blocks = [_first_half(block) for block in blocks]
    return list(enumerate(blocks))


def _shifted(piece: Slices, block: Slices) -> Slices:
    """Slices into the grid of a piece of a block."""
    pairs = zip(piece, block, strict=True)
    return tuple(slice(outer.start + s.start, outer.start + s.stop) for s, outer in pairs)


def _first_half(block: Slices) -> Slices:
    """The first half of a block along its last two axes."""
    first = max(0, len(block) - 2)
    halves = (slice(s.start, s.start + -(-(s.stop - s.start) // 2)) for s in block[first:])
    return (*block[:first], *halves)


def tiles(
    shape: tuple[int, ...], sides: tuple[int, ...], numbers: Sequence[int] | None = None
) -> list[Slices]:
    """Blocks with such sides that cover a shape; `numbers`: only these, counted in C order."""
    counts = _numbers_of_tiles(shape, sides)
    numbers = np.arange(math.prod(counts)) if numbers is None else numbers
    corners = np.transpose(np.unravel_index(numbers, counts)) * sides
    return [
        tuple(
            slice(low, min(low + side, size))
            for low, side, size in zip(corner, sides, shape, strict=True)
        )
        for corner in corners.tolist()
    ]


def _numbers_of_tiles(shape: tuple[int, ...], sides: tuple[int, ...]) -> tuple[int, ...]:
    """How many tiles with such sides cover a shape, along each axis."""
    return tuple(-(-size // side) for size, side in zip(shape, sides, strict=True))
