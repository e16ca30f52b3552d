"""Reading the chunks of a file: which one failed, and whether they are good to read."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, Task, convert_legacy_graph
from dask.array.core import getter, getter_inline, getter_nofancy
from hyperspy.signal import BaseSignal

# What dask reads a slice of an array-like with; it merges further slices into
# it, so that only what is needed of a chunk is read.
_GETTERS = (getter, getter_nofancy, getter_inline)
# What has to be in memory at once, and what is read with little overhead [bytes].
_MOST_AT_ONCE = 2**30
_GOOD_CHUNK = 64 * 2**20
# Chunks that are many and small cost dask more time than reading them does.
_SMALL_CHUNK = 100_000
_MANY_CHUNKS = 10_000


def file_of(signal: BaseSignal) -> Path | None:
    """The file that a signal was loaded from; None if it was not."""
    for first in ("original_", ""):
        keys = (f"{first}{key}" for key in ("folder", "filename", "extension"))
        folder, name, suffix = (signal.tmp_parameters.get_item(k, default="") for k in keys)
        if name:
            return Path(folder) / f"{name}{suffix}"
    return None


def guarded(data: da.Array, file: Path | None) -> da.Array:
    """The same array; what cannot be read raises an error that says which chunk it is.

    Parameters
    ----------
    data
        Any array.
    file
        Where it comes from; None: not known, then only arrays that dask reads
        by slices are guarded.
    """
    graph = convert_legacy_graph(data.dask)
    source = None if file is None else repr(file.name)
    read: dict[Any, Any] = {}
    for key, node in graph.items():
        if type(node) is not Task:
            continue
        if not all(isinstance(graph.get(d), DataNode) for d in node.dependencies):
            continue
        if node.func in _GETTERS:
            _guard_array(node, graph, read, source, data)
        elif source is not None:
            at = key[1:] if isinstance(key, tuple) else ()
            read[key] = Task(key, _call, source, at, node.func, *node.args, **node.kwargs)
    return da.Array({**graph, **read}, data.name, data.chunks, meta=data._meta)


def _guard_array(
    node: Task, graph: dict[Any, Any], read: dict[Any, Any], source: str | None, data: da.Array
) -> None:
    """Guard the array-like that a task slices, wherever the graph holds it."""
    # Versions of dask refer to it in different ways.
    key = next((d for d in node.dependencies if hasattr(graph[d].value, "shape")), None)
    if key in read:
        return
    held = node.args[0] if key is None else graph[key]
    array = held.value if isinstance(held, DataNode) else held
    if isinstance(array, np.ndarray):
        return
    chunks = getattr(array, "chunks", None)
    if chunks is None and array.shape == data.shape:
        chunks = data.chunksize
    array = _Guarded(array, source or _name_of(array), chunks)
    if key is not None:
        read[key] = DataNode(key, array)
    else:
        held = DataNode(None, array)
        read[node.key] = Task(node.key, node.func, held, *node.args[1:], **node.kwargs)


def _name_of(array: Any) -> str:
    """What an HDF5 or zarr array says of its file."""
    file = getattr(getattr(array, "file", None), "filename", None)
    folder = getattr(getattr(array, "store", None), "path", None)
    return repr(Path(file or folder).name) if file or folder else repr(array)


class _Guarded:
    """An array-like whose errors say what could not be read.

    It stands where the array-like stood, since dask then merges slices into
    reading as before.
    """

    def __init__(self, array: Any, source: str, chunks: tuple[int, ...] | None) -> None:
        self.array, self.source, self.chunks = array, source, chunks
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, len(array.shape)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.array[index]
        except MemoryError:
            raise
        except Exception as error:
            raise _unreadable(self._where(index), error) from error

    def _where(self, index: tuple[slice | int, ...]) -> str:
        ends = [
            i.indices(size)[:2] if isinstance(i, slice) else (int(i), int(i) + 1)
            for i, size in zip(index, self.shape, strict=False)
        ]
        what = f"of {self.source} (positions {', '.join(f'{low}:{high}' for low, high in ends)})"
        if self.chunks is None:
            return f"A part {what}"
        first = tuple(start // size for (start, _), size in zip(ends, self.chunks, strict=False))
        last = tuple((e - 1) // size for (_, e), size in zip(ends, self.chunks, strict=False))
        return f"Chunk {first} {what}" if first == last else f"A chunk, {first} to {last}, {what}"


def _call(source: str, at: tuple[int, ...], read: Callable, *args: Any, **kwargs: Any) -> Any:
    try:
        return read(*args, **kwargs)
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(f"Chunk {at} of {source}", error) from error


def _unreadable(where: str, error: Exception) -> OSError:
    return OSError(
        f"{where} cannot be read: {type(error).__name__}: {error}. If the file is "
        "damaged, copy it again, or classify a part of the signal that leaves the chunk out."
    )


def check_chunks(data: da.Array, n_whole: int) -> None:
    """Warn of chunks that take long to read, or more memory than they should.

    Parameters
    ----------
    data
        What is to be classified.
    n_whole
        Number of its last axes that are needed whole: those of spectra and
        patterns; none of images.
    """
    sizes = list(data.chunksize)
    if n_whole:
        # A block waits for all chunks that its spectra are cut into.
        sizes[-n_whole:] = data.shape[-n_whole:]
    at_once = math.prod(sizes) * data.dtype.itemsize
    mean = data.nbytes / max(1, data.npartitions)
    if at_once > _MOST_AT_ONCE:
        cut = any(n > 1 for n in data.numblocks[data.ndim - n_whole :])
        problem = f"chunks of shape {data.chunksize}" + " cut the signal axes, and" * cut
        problem = f"Its {problem} need {at_once / 2**30:.1f} GB of memory at once"
    elif data.npartitions > _MANY_CHUNKS and mean < _SMALL_CHUNK:
        problem = f"Its {data.npartitions} chunks of {mean / 1000:.3g} kB each are slow to read"
    else:
        return
    better = _better_chunks(data, n_whole)
    warnings.warn(
        f"{problem}; chunks of shape {better} are better. Saving the signal once with "
        f"s.save('rechunked.zspy', chunks={better}), and loading that file, makes it faster.",
        stacklevel=4,
    )


def _better_chunks(data: da.Array, n_whole: int) -> tuple[int, ...]:
    wanted = ("auto",) * (data.ndim - n_whole) + (-1,) * n_whole
    chunks = da.core.normalize_chunks(wanted, data.shape, limit=_GOOD_CHUNK, dtype=data.dtype)
    return tuple(sizes[0] for sizes in chunks)
