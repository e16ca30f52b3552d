"""A file is there as a whole or not at all, and what was interrupted can go on."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rsciio.utils.path import overwrite as ask

from . import resuming
from .layout import make_eager

if TYPE_CHECKING:
    from .result import FewShotResult

_SUFFIXES = (".hspy", ".zspy")


def may_write(path: Path, overwrite: bool | None) -> bool:
    """Whether a file is to be written; asks where HyperSpy would.

    Raises
    ------
    ValueError
        If the path has another suffix, or `overwrite` is another value.
    """
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path.name!r} must end in .hspy or .zspy.")
    if overwrite not in (None, True, False):
        raise ValueError(f"overwrite={overwrite!r} must be True, False or None, which asks.")
    return ask(path) if overwrite is None else overwrite or not path.exists()


@contextmanager
def replacing(result: "FewShotResult", path: Path, show_progressbar: bool) -> Iterator[Path]:
    """Where to write a file that replaces `path` once it is whole.

    It lies in a folder ``<path>.partial``. A lazy result is computed into that
    folder first, block by block; after an interruption the folder stays.

    Parameters
    ----------
    result
        What is saved; has its values when the context is entered.
    path
        Where the file goes.
    show_progressbar
        Whether to show one.

    Raises
    ------
    ValueError
        If the folder is there, of another classification.
    """
    partial = path.with_name(f"{path.name}.partial")
    streams = result._lazy and result._pass is not None
    _claim(result, partial, streams)
    try:
        if streams:
            blocks = partial / "blocks"
            blocks.mkdir(exist_ok=True)
            resuming.stream(result._pass.packed, blocks, show_progressbar)
            _fill(result, blocks)
        yield partial / path.name
        _put_in_place(partial / path.name, path)
    except BaseException as error:
        _leave(error, result, partial, path)
        raise
    shutil.rmtree(partial)


def _claim(result: "FewShotResult", partial: Path, streams: bool) -> None:
    """Make the folder and sign it; refuse that of another classification."""
    manifest = partial / "manifest.json"
    if not streams and not manifest.exists():
        partial.mkdir(parents=True, exist_ok=True)
        return
    fingerprint = {} if result._pass is None else result._pass.fingerprint(result)
    if not manifest.exists():
        partial.mkdir(parents=True, exist_ok=True)
        written = partial / "manifest"
        written.write_text(json.dumps({"fingerprint": fingerprint}, indent=1))
        os.replace(written, manifest)
        return
    theirs = json.loads(manifest.read_text())["fingerprint"]
    other = [name for name, digest in theirs.items() if fingerprint.get(name) != digest]
    if other:
        raise ValueError(
            f"'{partial}' holds what was computed of another classification before it was "
            f"interrupted: it differs in its {' and '.join(other)}. To continue that one, repeat "
            "the call that started it; to give it up, delete the folder; or save elsewhere."
        )


def _fill(result: "FewShotResult", blocks: Path) -> None:
    """Give a lazy result its values, from the blocks."""
    packed = result._pass.packed
    *shape, k = packed.shape[:-1] + (packed.shape[-1] - 2,)
    labels = np.empty(shape, np.int16)
    probabilities = np.empty((k, *shape), np.float32)
    confidence = np.empty(shape, np.float32)
    for where, block in resuming.gather(packed, blocks):
        probabilities[:, *where] = np.moveaxis(block[..., :k], -1, 0)
        labels[where], confidence[where] = block[..., k], block[..., k + 1]
    make_eager(result.labels, labels)
    make_eager(result.probabilities, probabilities)
    make_eager(result.confidence, confidence)


def _put_in_place(new: Path, path: Path) -> None:
    if not path.is_dir():
        os.replace(new, path)
        return
    # A folder is replaced by none; the old one is kept until the new one is there.
    old = new.with_name("replaced")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise


def _leave(error: BaseException, result: "FewShotResult", partial: Path, path: Path) -> None:
    """Leave the blocks that were computed, and nothing else."""
    done = total = 0
    if (partial / "manifest.json").exists():
        done, total = resuming.count_whole(result._pass.packed, partial / "blocks")
    if not done:
        shutil.rmtree(partial, ignore_errors=True)
        return
    unfinished = partial / path.name
    if unfinished.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)
    else:
        unfinished.unlink(missing_ok=True)
    error.add_note(
        f"{done} of {total} blocks are kept in '{partial}'. Saving the same classification there "
        "again, in this session or another, computes the others only."
    )
