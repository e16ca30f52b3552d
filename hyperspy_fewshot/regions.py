"""Chunks of data, and overlapping regions of them, none of which is copied or read twice."""

from itertools import zip_longest
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np

from .chips import Block

# Chunk of data in memory [bytes]: what is sent to a worker of a cluster at a time.
_CHUNK_BYTES = 64 * 2**20


def views_of(data: np.ndarray, whole: int) -> da.Array:
    """Data in memory as a dask array of views; :func:`dask.array.from_array` copies them.

    Parameters
    ----------
    data
        Any array.
    whole
        Number of last axes along which it is not divided.
    """
    sizes = ("auto",) * (data.ndim - whole) + (-1,) * whole
    chunks = da.core.normalize_chunks(sizes, data.shape, limit=_CHUNK_BYTES, dtype=data.dtype)
    slices = da.core.slices_from_chunks(chunks)
    name = f"data-{uuid4().hex}"
    keys = np.ndindex(*map(len, chunks))
    views = {(name, *key): data[where] for key, where in zip(keys, slices, strict=True)}
    return da.Array(views, name, chunks, dtype=data.dtype)


def pieces_of(data: da.Array, region: Block, layer: dict[Any, Any], name: str) -> list:
    """Add tasks to a graph that cut a region out of the chunks.

    ``data[region]`` would do the same, but dask merges indexing into reading,
    and reads a chunk again for every region that it takes part in.

    Parameters
    ----------
    data
        Any array.
    region
        Slices along its first axes, with start and stop.
    layer
        Layer of the graph, to which the tasks are added.
    name
        First part of the keys of the tasks, unique for the region.

    Returns
    -------
    list
        Keys of the pieces, nested by axis: what a task passes to :func:`join`.
    """
    region += tuple(slice(0, size) for size in data.shape[len(region) :])
    edges = [np.cumsum((0, *sizes)) for sizes in data.chunks]
    ranges = chunks_of(data, region)

    def descend(at: tuple[int, ...]) -> Any:
        if len(at) < data.ndim:
            return [descend((*at, i)) for i in ranges[len(at)]]
        ends = [(int(e[i]), int(e[i + 1])) for e, i in zip(edges, at, strict=True)]
        low = [max(r.start - start, 0) for r, (start, _) in zip(region, ends, strict=True)]
        high = [min(r.stop, stop) - start for r, (start, stop) in zip(region, ends, strict=True)]
        chunk = (data.name, *at)
        if not any(low) and high == [stop - start for start, stop in ends]:
            return chunk
        layer[(name, *at)] = (_cut, chunk, low, high)
        return (name, *at)

    return descend(())


def chunks_of(data: da.Array, region: Block) -> list[range]:
    """Numbers of the chunks, along every axis, that a region takes part in."""
    ranges = []
    for sizes, where in zip_longest(data.chunks, region, fillvalue=slice(None)):
        edges = np.cumsum((0, *sizes))
        start, stop, _ = where.indices(int(edges[-1]))
        first = int(np.searchsorted(edges, start, side="right")) - 1
        ranges.append(range(first, int(np.searchsorted(edges, stop, side="left"))))
    return ranges


def join(pieces: list) -> np.ndarray:
    """Put the pieces of a region together; a single one is not copied."""
    first = pieces
    while isinstance(first, list) and len(first) == 1:
        first = first[0]
    return np.block(pieces) if isinstance(first, list) else np.asarray(first)


def _cut(chunk: np.ndarray, low: list[int], high: list[int]) -> np.ndarray:
    """Copy a piece of a chunk: a view would keep all of it in memory."""
    return np.array(chunk[tuple(map(slice, low, high))])
