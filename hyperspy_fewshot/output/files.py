"""Files that are there as a whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from errno import ENOSPC
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from hyperspy.io import load as hs_load
from hyperspy.signal import BaseSignal
from rsciio.utils.path import overwrite as ask

from hyperspy_fewshot.output.codec import decode, encode

# Raised whenever files of before can no longer be read.
FORMAT = 2
_NODE = "FewShot._saved"
_REPLACED = "replaced"


def may_write(path: Path, overwrite: bool | None, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is to be written; asks where HyperSpy would.

    Raises ValueError if the path has another suffix, or `overwrite` is another value.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"{path.name!r} must end in {' or '.join(suffixes)}.")
    if overwrite not in (None, True, False):
        raise ValueError(f"overwrite={overwrite!r} must be True, False or None, which asks.")
    return ask(path) if overwrite is None else overwrite or not path.exists()


def write(
    path: Path,
    signal: BaseSignal,
    state: dict[str, Any],
    arrays: dict[str, np.ndarray],
    show_progressbar: bool = False,
) -> None:
    """Write a signal, a state that :func:`encode` takes, and more arrays, to one file.

    ``hyperspy.api.load`` finds the signal, which is not changed. Another file is replaced when the
    new one is whole. Raises OSError if the disk is full.
    """
    arrays = dict(arrays)
    plain = encode(state, arrays)
    signal = signal._deepcopy_with_new_data(signal.data)
    # HyperSpy does not print what begins with an underscore.
    signal.metadata.set_item(f"{_NODE}.format", FORMAT)
    signal.metadata.set_item(f"{_NODE}.state", json.dumps(plain))
    for name, array in arrays.items():
        signal.metadata.set_item(f"{_NODE}.arrays.{name}", array)
    needed = signal.data.nbytes + sum(array.nbytes for array in arrays.values())

    def save(file: Path) -> None:
        free = shutil.disk_usage(file.parent).free
        if free < needed:
            # HDF5 may crash where it finds out by itself.
            message = f"{os.strerror(ENOSPC)}: {needed / 1e6:.0f} MB are needed"
            raise OSError(ENOSPC, message, str(path))
        signal.save(file, overwrite=True, show_progressbar=show_progressbar)

    replace_file(path, save)


def recover(path: Path) -> None:
    """Put a folder back that was moved aside when its replacement was cut off."""
    if not path.exists():
        for old in path.parent.glob(f".{escape(path.name)}.*/{_REPLACED}"):
            os.replace(old, path)
            return


def replace_file(path: Path, save: Callable[[Path], Any]) -> None:
    """Save under a private name in the same folder, then rename."""
    recover(path)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new = folder / path.name
        save(new)
        if path.is_dir():
            # Nothing can replace a folder: the old one is moved aside first.
            os.replace(path, folder / _REPLACED)
        os.replace(new, path)
    finally:
        recover(path)
        shutil.rmtree(folder, ignore_errors=True)


def read(
    path: str | Path, what: str, lazy: bool = False
) -> tuple[BaseSignal, dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write` wrote: the signal, the state, and all arrays.

    `what` is the key of the state that tells what the file holds. Raises ValueError if it holds
    something else, or has another format.
    """
    path = Path(path)
    recover(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    # A Path is never taken for a pattern, as a string is.
    signal = hs_load(path, lazy=lazy)
    saved = None if isinstance(signal, list) else signal.metadata.get_item(_NODE)
    if saved is None:
        raise ValueError(f"{path.name!r} holds no {what}.")
    found = saved.get_item("format", default=1)
    if found != FORMAT:
        raise ValueError(
            f"{path.name!r} has format {found} of hyperspy_fewshot; this version reads format "
            f"{FORMAT}. Compute the {what} again and save it."
        )
    arrays = saved.get_item("arrays").as_dictionary() if saved.has_item("arrays") else {}
    plain = json.loads(saved.get_item("state"))
    if what not in plain["items"]:
        raise ValueError(f"{path.name!r} holds no {what}.")
    delattr(signal.metadata.FewShot, "_saved")
    return signal, decode(plain, arrays), arrays
