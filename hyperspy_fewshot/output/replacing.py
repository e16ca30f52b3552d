"""Files and folders that are there as a whole or not at all, whoever else writes to their path."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

_LOCK, _REPLACED, _DISCARDED = "lock", "replaced", "discarded"
# Another process may put a folder where one was just moved aside, but not again and again.
_MOST_TRIES = 1000


def replace_file(path: Path, save: Callable[[Path], Any]) -> None:
    """Save under a private name in the same folder, flush to disk, then rename.

    Of several processes the last one that is done wins.
    """
    _clear(path)
    recover(path)
    with _private_folder(path) as folder:
        new, aside = folder / path.name, folder / _REPLACED
        save(new)
        flush(new)
        try:
            _put(new, path, aside)
        except BaseException:
            recover(path)
            raise
        finally:
            # From now on nobody may recover it: it is about to be deleted.
            _discard(aside)


def recover(path: Path) -> None:
    """Put a folder back that was moved aside when its replacement was cut off."""
    if not path.exists():
        for old in _private_folders(path):
            # Another process may be faster.
            with suppress(OSError):
                os.replace(old / _REPLACED, path)
                return


def flush(path: Path) -> None:
    """Write a file, or all files in a folder, through to the disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())


def _put(new: Path, path: Path, aside: Path) -> None:
    """Rename; a folder cannot be replaced, so that the old one is moved aside first."""
    for last in [False] * _MOST_TRIES + [True]:
        if new.is_dir() and path.is_dir():
            _discard(aside)
            with suppress(FileNotFoundError):
                os.replace(path, aside)
        try:
            os.replace(new, path)
            return
        except OSError:
            if last or not (new.is_dir() and path.is_dir()):
                raise


def _discard(aside: Path) -> None:
    """Give a folder that was moved aside a name under which nobody recovers it."""
    if aside.exists():
        with suppress(FileNotFoundError):
            os.replace(aside, aside.with_name(f"{_DISCARDED}-{uuid4().hex}"))


def _private_folders(path: Path) -> list[Path]:
    """Return the private folders of a path, not those of a path with more suffixes."""
    prefix = f".{path.name}."
    found = path.parent.glob(f"{escape(prefix)}*")
    return [folder for folder in found if "." not in folder.name.removeprefix(prefix)]


@contextmanager
def _private_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside a path, which is locked until it is deleted."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        lock = FileLock(folder / _LOCK)
        # Another process may have taken the folder for one that was left behind.
        with suppress(FileNotFoundError, FileExistsError, Timeout):
            lock.acquire(timeout=1)
        if lock.is_locked and (folder / _LOCK).exists():
            break
        lock.release()
    try:
        yield folder
    finally:
        _delete(folder, lock)


def _clear(path: Path) -> None:
    """Delete the private folders that processes which were killed have left behind."""
    for folder in _private_folders(path):
        try:
            names = {entry.name for entry in os.scandir(folder)}
        except OSError:
            continue
        if not names:
            # It was left before its lock was there, or after it was gone.
            with suppress(OSError):
                folder.rmdir()
        ours = {name for name in names if name.startswith(_DISCARDED)}
        if _LOCK not in names or names - ours - {_LOCK, _REPLACED, path.name}:
            continue
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        if not (folder / _LOCK).exists():
            # Another process was faster.
            lock.release()
            continue
        if not path.exists():
            with suppress(OSError):
                os.replace(folder / _REPLACED, path)
        _delete(folder, lock)


def _delete(folder: Path, lock: FileLock) -> None:
    """Delete a private folder, the lock last: what remains of it can be recognised."""
    # Another process may have released the lock, and be deleting the folder.
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name != _LOCK:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
