"""Computing block by block into a folder, and resuming there after an interruption."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from filelock import FileLock, Timeout

from hyperspy_fewshot.embedding.computing import compute
from hyperspy_fewshot.grids.slices import Slices


def is_partial(path: Path) -> bool:
    """Whether an interrupted computation has left a folder ``<path>.partial``."""
    return _folder(path).exists()


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@contextmanager
def partial_folder(
    path: Path, fingerprint: dict[str, str], packed: da.Array | None = None
) -> Iterator[Path]:
    """Lock the folder ``<path>.partial``; it is removed when what is done inside succeeds.

    `fingerprint` holds digests of all that decides the content of the file. Raises ValueError if
    the folder holds blocks of something else, or another process is writing there.
    """
    folder = _folder(path)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"Another process is writing to '{folder}'.") from error
    try:
        _claim(folder, fingerprint, None if packed is None else str(packed.chunks))
        yield folder
        shutil.rmtree(folder)
    finally:
        lock.release()


def _claim(folder: Path, fingerprint: dict[str, str], blocks: str | None) -> None:
    """Leave the fingerprint in a folder; refuse the folder of something else."""
    fingerprint = {**fingerprint, "blocks": blocks}
    manifest = folder / "manifest.json"
    if not manifest.exists():
        unfinished = folder / "manifest"
        unfinished.write_text(json.dumps(fingerprint, indent=1))
        os.replace(unfinished, manifest)
        return
    theirs = json.loads(manifest.read_text())
    if blocks is None:
        fingerprint["blocks"] = theirs["blocks"]
    other = [name for name, digest in theirs.items() if fingerprint.get(name) != digest]
    if other:
        raise ValueError(
            f"'{folder}' holds an interrupted computation that differs in its "
            f"{' and '.join(other)}. To resume that one, repeat the call that started it; to give "
            "it up, delete the folder; or save under another name."
        )


def compute_into(
    packed: da.Array, folder: Path, show_progressbar: bool | None = None, what: str = "Classifying"
) -> da.Array:
    """Compute the blocks of an array that a folder does not hold yet, each into its own region.

    The blocks have one size, with the last axis in one block. Returns the same values, from the
    folder, which must be the same on all workers of a cluster.
    """
    values, done = str(folder.resolve() / "values"), str(folder.resolve() / "done")
    shape, blocks = packed.shape, packed.numblocks
    zarr.open_array(values, mode="a", shape=shape, chunks=packed.chunksize, dtype=packed.dtype)
    finished = zarr.open_array(
        done, mode="a", shape=blocks, chunks=(1,) * len(blocks), dtype=bool, fill_value=False
    )[:]
    edges = [np.cumsum((0, *sizes)) for sizes in packed.chunks]
    tasks = [
        dask.delayed(_store, pure=False)(block, values, done, index, _slices(edges, index))
        for index, block in np.ndenumerate(packed.to_delayed())
        if not finished[index]
    ]
    try:
        compute(*tasks, show_progressbar=show_progressbar, what=what)
    except BaseException as error:
        count = int(zarr.open_array(done, mode="r")[:].sum())
        error.add_note(
            f"{count} of {finished.size} blocks are kept in '{folder}'. Saving the same there "
            "again, in this session or another one, computes the others only."
        )
        raise
    return da.from_zarr(values)


def _slices(edges: list[np.ndarray], index: tuple[int, ...]) -> Slices:
    return tuple(slice(int(e[i]), int(e[i + 1])) for e, i in zip(edges, index, strict=True))


def _store(
    block: np.ndarray, values: str, done: str, index: tuple[int, ...], where: Slices
) -> None:
    """Write a block, then that it is there."""
    zarr.open_array(values, mode="r+")[where] = block
    zarr.open_array(done, mode="r+")[index] = True
