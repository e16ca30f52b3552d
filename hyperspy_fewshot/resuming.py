"""Computing a result block by block into a folder, and going on there after an interruption."""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from .computing import compute
from .layout import versions
from .learning import Task
from .reading import file_of
from .storage import as_plain, describe

if TYPE_CHECKING:
    from .result import FewShotResult

# What of the data stands for all of them: items, their total [bytes], and the
# side of a window of an image [px].
_MOST_READ = 16
_MOST_BYTES = 64 * 2**20
_WINDOW = 64


@dataclass(frozen=True, eq=False)
class Pass:
    """The pass over the data that makes a result.

    Parameters
    ----------
    task
        What is classified.
    packed
        Shape (*grid.shape, K + 2): probabilities, label, confidence.
    """

    task: Task
    packed: da.Array

    def fingerprint(self, result: "FewShotResult") -> dict[str, str]:
        """Digests of all that decides the result: data, support, settings and versions.

        Where it is computed, on how many threads or which device, takes no
        part. The data are represented by name, size and date of their file,
        and by a few pieces, which are read.
        """
        settings, data = result.classifier.setup, self.task.data
        arrays: dict[str, np.ndarray] = {}
        support = [result.class_names, result.support.to_json(arrays)]
        if result.transferred:
            support.append(describe(result.classifier, arrays))
        shown = ("kind", "item_shape", "reject", "signal_axis", "chip_size", "stride", "context")
        encoder = [self.task.encoder.name, self.task.encoder.sha256]
        chosen = [encoder, self.packed.chunks, *(getattr(settings, name) for name in shown)]
        masks = {"mask": self.task.mask, "signal_mask": settings.signal_mask}
        masks = {name: mask for name, mask in masks.items() if mask is not None}
        pieces = {str(i): piece for i, piece in enumerate(self._pieces())}
        known = [data.shape, str(data.dtype), _state_of(file_of(self.task.signal))]
        return {
            "data": _digest(known, pieces),
            "support": _digest(support, arrays),
            "settings": _digest(chosen, masks),
            "versions": _digest(versions(), {}),
        }

    def _pieces(self) -> tuple[np.ndarray, ...]:
        """A few spectra, patterns or windows; which ones is decided by the shape alone."""
        data = self.task.data
        whole = 2 if self.task.kind == "image" else data.ndim - len(self.task.grid.shape)
        sides = [1] * (data.ndim - whole) + list(data.shape[data.ndim - whole :])
        if self.task.kind == "image":
            sides[-2:] = [min(_WINDOW, side) for side in sides[-2:]]
        fitting = _MOST_BYTES // (math.prod(sides) * data.dtype.itemsize)
        most = np.subtract(data.shape, sides)
        count = min(max(1, fitting), _MOST_READ)
        corners = np.random.default_rng(0).integers(0, most + 1, (count, data.ndim))
        regions = [
            tuple(slice(int(low), int(low) + side) for low, side in zip(corner, sides, strict=True))
            for corner in corners
        ]
        return compute(*(data[r] for r in regions), show_progressbar=False, what="Reading")


def _digest(plain: Any, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(plain, default=as_plain).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _state_of(file: Path | None) -> list | None:
    """Name, size and date of a file, or of all files in a folder; None where there is none."""
    if file is None or not file.exists():
        return None
    found = [entry.stat() for entry in (file, *file.rglob("*"))]
    size = sum(stat.st_size for stat in found)
    return [file.name, len(found), size, max(stat.st_mtime_ns for stat in found)]


def stream(packed: da.Array, folder: Path, show_progressbar: bool) -> None:
    """Compute the blocks of an array that a folder does not hold yet, each into a file of its own.

    Nothing of a block is kept in memory once it is written. A file is there
    as a whole or not at all, whatever stops the process that writes it.

    Parameters
    ----------
    packed
        See :class:`Pass`.
    folder
        Absolute, and the same on all workers.
    show_progressbar
        Whether to show one.
    """
    missing = [index for index, _ in _blocks(packed) if not _is_whole(packed, folder, index)]
    if not missing:
        return
    name = f"fewshot-save-{uuid4().hex}"
    layer = {
        (name, i): (_write_block, (packed.name, *index, 0), str(_file(folder, index)))
        for i, index in enumerate(missing)
    }
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[packed])
    written = da.Array(graph, name, ((1,) * len(missing),), meta=np.empty(0, bool))
    compute(written, show_progressbar=show_progressbar, what="Classifying")


def count_whole(packed: da.Array, folder: Path) -> tuple[int, int]:
    """How many blocks a folder holds, and how many there are."""
    blocks = [_is_whole(packed, folder, index) for index, _ in _blocks(packed)]
    return sum(blocks), len(blocks)


def gather(packed: da.Array, folder: Path) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """All blocks that :func:`stream` wrote, and where they lie."""
    for index, where in _blocks(packed):
        yield where, np.load(_file(folder, index))


def _blocks(packed: da.Array) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    edges = [np.cumsum((0, *sizes)) for sizes in packed.chunks[:-1]]
    for index in np.ndindex(packed.numblocks[:-1]):
        yield (
            index,
            tuple(slice(int(e[i]), int(e[i + 1])) for e, i in zip(edges, index, strict=True)),
        )


def _file(folder: Path, index: tuple[int, ...]) -> Path:
    return folder / f"{'.'.join(map(str, index))}.npy"


def _is_whole(packed: da.Array, folder: Path, index: tuple[int, ...]) -> bool:
    """Whether a block was written, and survived a crash of the machine."""
    shape = tuple(sizes[i] for sizes, i in zip(packed.chunks, (*index, 0), strict=True))
    try:
        return np.load(_file(folder, index), mmap_mode="r").shape == shape
    except (OSError, EOFError, ValueError):
        return False


def _write_block(block: np.ndarray, path: str) -> np.ndarray:
    # Another process, or a task that outlives an interruption, may write the same block.
    unfinished = Path(f"{path}.{uuid4().hex}")
    try:
        # Not straight into the file: NumPy would not say that the disk is full.
        content = BytesIO()
        np.save(content, block)
        unfinished.write_bytes(content.getbuffer())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return np.ones(1, bool)
