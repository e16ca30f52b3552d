"""Where a data set is sampled, and the reading of samples and examples."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product
from operator import getitem
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from .chips import Block, ChipGrid, within
from .computing import compute
from .positions import PositionGrid
from .regions import chunks_of, join, pieces_of

Grid = ChipGrid | PositionGrid

# The sample from which the data set's normalisation, centre and components are
# estimated: as float32 [bytes], and in items.
_SAMPLE_BYTES = 64 * 2**20
_MOST_SAMPLED = {ChipGrid: 2048, PositionGrid: 8192}
# Side of the contiguous pieces of the sample: chips overlap already, positions
# need neighbours around which a context can be chosen.
_SAMPLE_SIDE = {ChipGrid: 4, PositionGrid: 8}
# The same where an encoder sees what surrounds a chip, which must be read, too;
# and in chips, where all of an image is the sample.
_DENSE_SAMPLE_SIDE = 8
_WHOLE_SAMPLE_CHIPS = 16
# Largest chunk [bytes] that is read whole for the sake of several regions.
_READ_WHOLE = 128 * 2**20


def sample_blocks(grid: Grid) -> list[Block]:
    """Where the data set is sampled: seeded, and decided by the shape alone.

    Returns
    -------
    list of tuple of slice
        Contiguous blocks of the grid; all of it when it is small.
    """
    fitting = _SAMPLE_BYTES // (4 * math.prod(grid.item_shape))
    # Of large items a few more are worth four times the memory.
    count = min(_MOST_SAMPLED[type(grid)], max(fitting, min(256, 4 * fitting), 16))
    dense = isinstance(grid, ChipGrid) and grid.margin > 0
    nav, line = grid.shape[:-2], len(grid.shape) == 1
    if math.prod(grid.shape) <= count:
        # Pieces can be encoded side by side.
        side = _WHOLE_SAMPLE_CHIPS * grid.chip_size // grid.stride if dense else max(grid.shape)
        return _tiles(grid.shape, (*nav, *(max(side, 1),) * (1 if line else 2)))
    side = _DENSE_SAMPLE_SIDE if dense else _SAMPLE_SIDE[type(grid)]
    # Along a line the pieces are longer, so that their number stays the same.
    tiles = _tiles(grid.shape, (side**2,) if line else (*(1,) * len(nav), side, side))
    number = min(-(-count // side**2), len(tiles))
    chosen = np.random.default_rng(0).choice(len(tiles), size=number, replace=False)
    return [tiles[i] for i in np.sort(chosen)]


def _tiles(shape: tuple[int, ...], sides: tuple[int, ...]) -> list[Block]:
    """Blocks of such sides that cover a shape."""
    steps = zip(shape, sides, strict=True)
    starts = [range(0, size, side) for size, side in steps]
    return [
        tuple(
            slice(low, min(low + side, size))
            for low, side, size in zip(corner, sides, shape, strict=True)
        )
        for corner in product(*starts)
    ]


def read(
    data: da.Array, regions: Sequence[Block], show_progressbar: bool, what: str
) -> list[np.ndarray]:
    """Read regions of the data, together.

    What is computed is computed once for all of them. A chunk that several
    regions share is read whole, and once; otherwise only what a region covers
    is read, which matters where a chunk is large.
    """
    chunks = [set(product(*chunks_of(data, region))) for region in regions]
    readers = Counter(index for found in chunks for index in found)
    parts = [
        _from_chunks(data, region)
        if any(readers[index] > 1 for index in found) and _is_small(data, found)
        else data[region]
        for region, found in zip(regions, chunks, strict=True)
    ]
    parts = compute(*parts, show_progressbar=show_progressbar, what=what)
    return [np.asarray(part) for part in parts]


def _is_small(data: da.Array, indices: set[tuple[int, ...]]) -> bool:
    """Whether all of these chunks are small enough to be read whole."""
    sizes = (math.prod(map(getitem, data.chunks, index)) for index in indices)
    return max(sizes) * data.dtype.itemsize <= _READ_WHOLE


def _from_chunks(data: da.Array, region: Block) -> da.Array:
    """Cut a region out of chunks that are read whole."""
    region += tuple(slice(0, size) for size in data.shape[len(region) :])
    name = f"fewshot-read-{uuid4().hex}"
    layer: dict[Any, Any] = {}
    layer[(name, *(0,) * data.ndim)] = (join, pieces_of(data, region, layer, f"{name}-piece"))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[data])
    # An array as the other regions: of a mixture dask may change the order.
    chunks = [(where.stop - where.start,) for where in region]
    return da.Array(graph, name, chunks, meta=data._meta)


def crop(region: np.ndarray, have: Block, want: Block) -> np.ndarray:
    """Cut a region that was read for `have` down to `want`."""
    return region[within(have, want)]
