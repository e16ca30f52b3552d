"""From data to embeddings: the blocks of a lazy array."""

import math
from dataclasses import dataclass
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from .chips import Block, ChipGrid
from .encoders import Encoder
from .queries import Grid, embed_block
from .regions import join, pieces_of

# A block: positions as they are stored [bytes], and of patterns, which take long,
# their number; or the side of a piece of image [px], in chips where a dense
# encoder resamples them to its size. A second of work or less, since that is how
# long an interruption waits.
_BLOCK_BYTES = 16 * 2**20
_BLOCK_PATTERNS = 256
_LARGEST_BLOCK_BYTES = 128 * 2**20
_MANY_BLOCKS = 50_000
_BLOCK_SIDE = 1024
_BLOCK_CHIPS = 16


def embeddings(
    data: da.Array,
    grid: Grid,
    mask: np.ndarray | None,
    encoder: Encoder,
    size: int,
    device: str | None,
) -> da.Array:
    """Embed every query, lazily.

    Parameters
    ----------
    data
        Shape (*nav, H, W) or (*nav, *signal).
    grid
        Where the queries lie.
    mask
        Queries to leave out (True), shape of the grid; None: none.
    encoder
        A fitted encoder.
    size
        Length d of an embedding.
    device
        Where to encode; None: on the best that each worker finds.

    Returns
    -------
    dask.array.Array
        float32, shape (*grid.shape, d). Masked queries, and those whose data
        are not finite, have NaN in place of an embedding.
    """
    name = f"fewshot-{uuid4().hex}"
    chunks = _block_sizes(grid, data, encoder.dense)
    edges = [np.cumsum((0, *sizes)) for sizes in chunks]
    # One node of the graph holds what all blocks share.
    job = _Job(grid, mask, encoder, size, device, edges)
    shared = dask.delayed(job, name=f"{name}-job", traverse=False)
    layer: dict = {}
    for index in np.ndindex(*map(len, chunks)):
        pieces = pieces_of(data, grid.region(job.block(index)), layer, f"{name}-{index}")
        layer[(name, *index, 0)] = (_embed_block, shared.key, pieces, *index)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[data, shared])
    meta = np.empty((0,) * (len(chunks) + 1), np.float32)
    return da.Array(graph, name, (*chunks, (size,)), meta=meta)


@dataclass(frozen=True, eq=False)
class _Job:
    """What the blocks of one classification share."""

    grid: Grid
    mask: np.ndarray | None
    encoder: Encoder
    size: int
    device: str | None
    edges: list[np.ndarray]

    def block(self, index: tuple[int, ...]) -> Block:
        """Slices of the grid that a block covers."""
        return tuple(
            slice(int(e[i]), int(e[i + 1])) for e, i in zip(self.edges, index, strict=True)
        )


def _embed_block(job: _Job, pieces: list, *index: int) -> np.ndarray:
    block = job.block(index)
    shape = tuple(s.stop - s.start for s in block)
    found, embedded = embed_block(job.encoder, job.grid, join(pieces), block, job.mask, job.device)
    if len(found) and embedded.shape[1] != job.size:
        raise ValueError(
            f"The encoder {job.encoder.name!r} gave {embedded.shape[1]} numbers an item, "
            f"{job.size} before: their number must not depend on the batch."
        )
    if len(found) == math.prod(shape):
        return embedded.reshape(*shape, job.size)
    result = np.full((math.prod(shape), job.size), np.nan, np.float32)
    if len(found):
        result[found] = embedded
    return result.reshape(*shape, job.size)


def _block_sizes(grid: Grid, data: da.Array, dense: bool) -> tuple[tuple[int, ...], ...]:
    """Sizes of the blocks of the grid along every axis."""
    if isinstance(grid, ChipGrid):
        side = _BLOCK_CHIPS * grid.chip_size if dense else _BLOCK_SIDE
        cells = max(1, side // grid.stride)
        limits = (1,) * len(grid.nav_shape) + (cells, cells)
        return da.core.normalize_chunks(limits, grid.shape)
    nav = len(grid.nav_shape)
    limit = _BLOCK_BYTES
    if len(grid.signal_shape) == 2:
        limit = min(limit, _BLOCK_PATTERNS * math.prod(grid.signal_shape) * data.dtype.itemsize)
    # Of very large data a scheduler would have too many blocks to look after.
    limit = max(limit, min(_LARGEST_BLOCK_BYTES, data.nbytes // _MANY_BLOCKS))
    chunks = da.core.normalize_chunks(
        ("auto",) * nav + (-1,) * (data.ndim - nav),
        data.shape,
        limit=limit,
        dtype=data.dtype,
        previous_chunks=data.chunks,
    )
    return chunks[:nav]
