"""Reading windows of data that overlap; each chunk of a file is read once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

from hyperspy_fewshot.embedding.computing import compute
from hyperspy_fewshot.grids.slices import Slices

# How long to look for the chunk that cannot be read [s].
_SEARCH_TIME = 30.0


def read(
    data: np.ndarray | da.Array,
    windows: Sequence[Slices],
    show_progressbar: bool | None,
    what: str,
    source: str,
) -> list[np.ndarray]:
    """Read windows of the data together; data in memory are not copied.

    `source` is what an error calls the data, such as the name of their file.
    """
    if isinstance(data, np.ndarray):
        return [filled(data[window]) for window in windows]
    plain = data
    if isinstance(meta_from_array(data), np.ma.MaskedArray):
        # NumPy warns of its own fill value where dask joins masked blocks of float16.
        plain = data.map_blocks(filled, meta=np.empty((0,) * data.ndim, data.dtype))
    parts = [plain[window] for window in windows]
    with naming_unreadable(data, source):
        found = compute(*parts, show_progressbar=show_progressbar, what=what)
    return [filled(part) for part in found]


def filled(data: np.ndarray) -> np.ndarray:
    """Return data as a plain array, masked entries as NaN; only masked arrays are copied.

    Blocks of a lazy array may be masked although it does not say so.
    """
    if not isinstance(data, np.ma.MaskedArray):
        return np.asarray(data)
    return data.astype(np.result_type(data.dtype, np.float32)).filled(np.nan)


def pieces_of(
    data: np.ndarray | da.Array, window: Slices, layer: dict[Any, Any], name: str
) -> list | np.ndarray:
    """Add tasks to a graph layer that cut a window out of the chunks of an array.

    ``data[window]`` would give the same with a graph of its own, and thousands
    of these slow dask down. Returns what a task passes to :func:`join`: keys of
    the pieces, nested by axis, or a view of data in memory. `name` is the first
    part of the keys, unique for the window.
    """
    if isinstance(data, np.ndarray):
        return data[window]
    window += tuple(slice(0, size) for size in data.shape[len(window) :])
    edges = [np.cumsum((0, *sizes)) for sizes in data.chunks]
    ranges = [
        range(
            int(np.searchsorted(e, w.start, side="right")) - 1,
            int(np.searchsorted(e, w.stop, side="left")),
        )
        for e, w in zip(edges, window, strict=True)
    ]

    def descend(at: tuple[int, ...]) -> Any:
        if len(at) < data.ndim:
            return [descend((*at, i)) for i in ranges[len(at)]]
        ends = [(int(e[i]), int(e[i + 1])) for e, i in zip(edges, at, strict=True)]
        low = [max(w.start - start, 0) for w, (start, _) in zip(window, ends, strict=True)]
        high = [min(w.stop, stop) - start for w, (start, stop) in zip(window, ends, strict=True)]
        chunk = (data.name, *at)
        if not any(low) and high == [stop - start for start, stop in ends]:
            return chunk
        layer[(name, *at)] = (_cut, chunk, low, high)
        return (name, *at)

    return descend(())


def join(pieces: list | np.ndarray) -> np.ndarray:
    """Put the pieces of a window together; a single one is not copied."""
    first = pieces
    while isinstance(first, list) and len(first) == 1:
        first = first[0]
    return np.block(_all_filled(pieces)) if isinstance(first, list) else filled(first)


def _all_filled(pieces: list | np.ndarray) -> list | np.ndarray:
    return list(map(_all_filled, pieces)) if isinstance(pieces, list) else filled(pieces)


def _cut(chunk: np.ndarray, low: list[int], high: list[int]) -> np.ndarray:
    """Copy a piece of a chunk: a view would keep all of it in memory."""
    return np.array(filled(chunk[tuple(map(slice, low, high))]))


@contextmanager
def naming_unreadable(data: np.ndarray | da.Array, source: str) -> Iterator[None]:
    """Add a note to an error that says which chunk of the data cannot be read, if that is why."""
    try:
        yield
    except Exception as error:
        chunk = None if isinstance(data, np.ndarray) else _unreadable_chunk(data)
        if chunk is not None:
            error.add_note(
                f"Chunk {chunk} of {source or 'the data'} cannot be read. If the file is damaged, "
                "copy it again, or classify a part of the signal that leaves the chunk out."
            )
        raise


def _unreadable_chunk(data: da.Array) -> tuple[int, ...] | None:
    """Index of the first chunk that cannot be read; None if none is found in some time."""
    end = time.monotonic() + _SEARCH_TIME
    for index in np.ndindex(data.numblocks):
        if time.monotonic() > end:
            break
        try:
            data.blocks[index].compute(scheduler="synchronous")
        except Exception:
            return index
    return None
