"""Computing block by block into a folder, and resuming there after an interruption."""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from filelock import FileLock, Timeout

from hyperspy_fewshot.embedding.computing import compute

_LOCK, _MANIFEST = "lock", "manifest.json"
_UNFINISHED = ".unfinished"
# What we write into the folder, and nothing else, may be there.
_OURS = re.compile(
    rf"{_LOCK}|{re.escape(_MANIFEST)}|block(-\d+)*|(manifest|block).*{re.escape(_UNFINISHED)}"
)


def is_partial(path: Path) -> bool:
    """Whether an interrupted computation has left a folder ``<path>.partial``."""
    return (_folder(path) / _MANIFEST).exists()


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@contextmanager
def partial_folder(
    path: Path, fingerprint: dict[str, str], packed: da.Array | None = None
) -> Iterator[Path]:
    """Lock the folder ``<path>.partial``; it is removed when what is done inside succeeds.

    `fingerprint` holds digests of all that decides the content of the file. Raises ValueError if
    the folder holds anything else, or another process is writing there.
    """
    folder = _folder(path)
    _check_ours(folder)
    lock = _locked(folder)
    try:
        _claim(folder, fingerprint, None if packed is None else str(packed.chunks))
        yield folder
        _remove(folder, lock)
    finally:
        lock.release()


def _check_ours(folder: Path) -> None:
    """Refuse a folder that holds anything that was not written here."""
    if not folder.exists():
        return
    entries = list(folder.iterdir()) if folder.is_dir() else [folder]
    others = [entry.name for entry in entries if not _is_ours(entry)]
    if others:
        raise ValueError(
            f"'{folder}' holds {others[0]!r}, which is no part of an interrupted computation. Move "
            "it away, or save under another name."
        )


def _is_ours(entry: Path) -> bool:
    return bool(_OURS.fullmatch(entry.name)) and entry.is_file()


def _locked(folder: Path) -> FileLock:
    """Lock a folder, which is made if it does not exist."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"Another process is writing to '{folder}'.") from error
        # The process that held it may have deleted the folder in the meantime.
        if (folder / _LOCK).exists():
            return lock
        lock.release()


def _remove(folder: Path, lock: FileLock) -> None:
    """Delete what was written into a folder, and the folder if nothing else is there."""
    for entry in list(folder.iterdir()):
        if _is_ours(entry) and entry.name != _LOCK:
            entry.unlink(missing_ok=True)
    # Whoever gets the lock finds that its file is gone. Windows deletes no open file.
    with suppress(PermissionError):
        (folder / _LOCK).unlink(missing_ok=True)
    lock.release()
    # Something else may have been put there.
    with suppress(OSError):
        if os.name == "nt":
            (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _claim(folder: Path, fingerprint: dict[str, str], blocks: str | None) -> None:
    """Leave the fingerprint in a folder; refuse the folder of something else."""
    fingerprint = {**fingerprint, "blocks": blocks}
    manifest = folder / _MANIFEST
    if not manifest.exists():
        _write(manifest, json.dumps(fingerprint, indent=1).encode())
        return
    theirs = _manifest(manifest)
    if blocks is None:
        fingerprint["blocks"] = theirs.get("blocks")
    other = [
        name for name in {**fingerprint, **theirs} if fingerprint.get(name) != theirs.get(name)
    ]
    if other:
        raise ValueError(
            f"'{folder}' holds an interrupted computation that differs in its "
            f"{' and '.join(other)}. To resume that one, repeat the call that started it; to give "
            "it up, delete the folder; or save under another name."
        )


def _manifest(manifest: Path) -> dict[str, Any]:
    try:
        found = json.loads(manifest.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"The interrupted computation in '{manifest.parent}' cannot be resumed: {manifest.name} "
            "is damaged. Delete the folder to compute from the beginning, or save under another name."
        )
    return found


def compute_into(
    packed: da.Array, folder: Path, show_progressbar: bool | None = None, what: str = "Classifying"
) -> da.Array:
    """Compute the blocks of an array that a folder does not hold yet, each into its own file.

    Returns the same values, from the folder, which must be the same on all workers of a cluster.
    A block counts as held if its checksum is right.
    """
    folder = folder.resolve()
    for unfinished in folder.glob(f"*{_UNFINISHED}"):
        unfinished.unlink(missing_ok=True)
    blocks = {index: _block_file(folder, index) for index in np.ndindex(packed.numblocks)}
    there = [index for index, file in blocks.items() if file.exists()]
    checks = [dask.delayed(_is_whole, pure=False)(blocks[index]) for index in there]
    whole = compute(*checks, show_progressbar=False, what="Checking")
    finished = {index for index, right in zip(there, whole, strict=True) if right}
    tasks = [
        dask.delayed(_store, pure=False)(block, str(blocks[index]))
        for index, block in np.ndenumerate(packed.to_delayed())
        if index not in finished
    ]
    for index in set(there) - finished:
        blocks[index].unlink(missing_ok=True)
    try:
        compute(*tasks, show_progressbar=show_progressbar, what=what)
    except BaseException as error:
        count = sum(file.exists() for file in blocks.values())
        error.add_note(
            f"{count} of {len(blocks)} blocks are kept in '{folder}'. Saving the same there "
            "again, in this session or another one, computes the others only."
        )
        raise
    return da.map_blocks(
        _load,
        folder=str(folder),
        chunks=packed.chunks,
        dtype=packed.dtype,
        meta=np.empty((0,) * packed.ndim, packed.dtype),
    )


def _block_file(folder: Path, index: tuple[int, ...]) -> Path:
    return folder / "-".join(("block", *map(str, index)))


def _store(block: np.ndarray, file: str) -> None:
    """Write a block with its checksum."""
    content = io.BytesIO()
    np.save(content, block, allow_pickle=False)
    _write(Path(file), _digest(Path(file), content.getbuffer()), content.getbuffer())


def _load(folder: str, block_id: tuple[int, ...] | None = None) -> np.ndarray:
    file = _block_file(Path(folder), block_id)
    content = _checked(file)
    if content is None:
        raise ValueError(f"{file.name!r} in '{folder}' is damaged. Save again to compute it anew.")
    return np.load(io.BytesIO(content), allow_pickle=False)


def _is_whole(file: Path) -> bool:
    return _checked(file) is not None


def _checked(file: Path) -> memoryview | None:
    """Read a block; None if its checksum is wrong."""
    size = hashlib.sha256().digest_size
    content = memoryview(file.read_bytes())
    return content[size:] if bytes(content[:size]) == _digest(file, content[size:]) else None


def _digest(file: Path, content: memoryview) -> bytes:
    """Digest of a block and of the name of its file, so that blocks cannot be swapped."""
    digest = hashlib.sha256(file.name.encode())
    digest.update(content)
    return digest.digest()


def _write(file: Path, *parts: bytes | memoryview) -> None:
    """Write a file, flush it to disk, then give it its name."""
    unfinished = file.with_name(f"{file.name}-{uuid4().hex}{_UNFINISHED}")
    try:
        with open(unfinished, "xb") as opened:
            for part in parts:
                opened.write(part)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
