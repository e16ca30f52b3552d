"""The pass over the data: embeddings as a lazy array, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from hyperspy_fewshot.embedding.computing import compute
from hyperspy_fewshot.embedding.queries import embed_block
from hyperspy_fewshot.embedding.reading import join, pieces_of
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.slices import Slices, shape_of, within


def embed_windows(
    recipe: Recipe,
    data: Sequence[np.ndarray],
    blocks: Sequence[Slices],
    source: DataSource,
    show_progressbar: bool | None,
) -> tuple[np.ndarray, ...]:
    """Embed blocks whose data are in memory, on all threads.

    Returns embeddings and guide values as in :func:`embed_all`, shapes (*block, d + n_guides).
    """
    job = _Job(recipe, source.mask, source.device)
    tasks = [
        dask.delayed(_embed, pure=False, traverse=False)(job, window, list(block))
        for window, block in zip(data, blocks, strict=True)
    ]
    # Not on a cluster, to which the data would have to be sent first.
    return compute(
        *tasks, show_progressbar=show_progressbar, what="Embedding the sample", scheduler="threads"
    )


def block_sides(grid: Grid, data: np.ndarray | da.Array) -> tuple[int, ...]:
    """Cells along each axis of the blocks in which data are embedded."""
    chunks = data.chunks if isinstance(data, da.Array) else [(size,) for size in data.shape]
    return grid.block_shape(data.dtype, chunks[: len(grid.shape)])


def embed_all(recipe: Recipe, source: DataSource) -> da.Array:
    """Embed every query, lazily.

    Returns float32 of shape (*grid.shape, d + n_guides): the embedding, and the value of the guide
    image. NaN where a cell is masked or its data are not finite.
    """
    grid, data = recipe.grid, source.data
    name, layer = f"fewshot-embed-{uuid4().hex}", {}
    sizes = da.core.normalize_chunks(block_sides(grid, data), grid.shape)
    edges = [np.cumsum((0, *along)) for along in sizes]
    # One node of the graph holds what all blocks share.
    job = _Job(recipe, source.mask, source.device)
    shared = dask.delayed(job, name=f"{name}-job", traverse=False)
    for index in np.ndindex(*map(len, sizes)):
        pairs = zip(edges, index, strict=True)
        block = tuple(slice(int(e[i]), int(e[i + 1])) for e, i in pairs)
        # Every chunk is read once, although the windows of the blocks overlap.
        pieces = pieces_of(data, recipe.window(block), layer, f"{name}-{index}")
        layer[(name, *index, 0)] = (_embed, shared.key, pieces, list(block))
    arrays = [data] if isinstance(data, da.Array) else []
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[*arrays, shared])
    meta = np.empty((0,) * (len(sizes) + 1), np.float32)
    return da.Array(graph, name, (*sizes, (recipe.size + grid.n_guides,)), meta=meta)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all blocks share."""

    recipe: Recipe
    mask: np.ndarray | None
    device: str | None


def _embed(job: _Job, pieces: list | np.ndarray, block: list[slice]) -> np.ndarray:
    """Embeddings and guide values of a block, shape (*block, d + n_guides)."""
    recipe, cells = job.recipe, tuple(block)
    data = join(pieces)
    embeddings = embed_block(recipe, data, cells, job.mask, job.device)
    grid = recipe.grid
    if grid.n_guides:
        window = within(recipe.window(cells), grid.window(cells))
        embeddings = np.concatenate([embeddings, grid.guide(data[window], cells)], axis=1)
    return embeddings.reshape(*shape_of(cells), -1)
