"""Files of results and embedding maps: HyperSpy signals with a state of ours in their metadata."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal
from rsciio.hspy import file_reader as read_hspy
from rsciio.utils.path import overwrite as ask
from rsciio.zspy import file_reader as read_zspy

from hyperspy_fewshot.output import hspy, label_maps, zspy
from hyperspy_fewshot.output.codec import decode, encode
from hyperspy_fewshot.output.limits import Unreadable
from hyperspy_fewshot.output.plain import plain, plain_axes
from hyperspy_fewshot.output.replacing import recover, replace_file

# Raised whenever files of before can no longer be read.
FORMAT = 5
_NODE = "FewShot._saved"
# Metadata of ours; HyperSpy adds some of its own to every signal.
_KEPT = ("General", "Acquisition_instrument", "Sample", "FewShot")
# How often a folder is read again that was replaced in the meantime.
_TRIES = 100
# How long to wait before a file is taken for one that is not ours [s].
_PAUSE = 0.02


class FileError(ValueError):
    """A file cannot be used; the message names it."""


def may_write(
    path: Path, overwrite: bool | None, suffixes: tuple[str, ...], sources: Iterable[Path] = ()
) -> bool:
    """Whether a file is to be written; asks where HyperSpy would.

    Raises ValueError if the path has another suffix, if `overwrite` is another value, if the path
    is one of `sources`, which are still read from, or if what is there was not written by us.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"{path.name!r} must end in {' or '.join(suffixes)}.")
    if overwrite not in (None, True, False):
        raise ValueError(f"overwrite={overwrite!r} must be True, False or None, which asks.")
    if overwrite is False or not os.path.lexists(path):
        return not os.path.lexists(path)
    for source in sources:
        if source.exists() and path.exists() and os.path.samefile(source, path):
            raise FileError(
                f"{path.name!r} is the file that the data come from: it is not replaced, whatever "
                "overwrite is. Choose another name."
            )
    check_ours(path)
    return ask(path) if overwrite is None else True


def source_of(signal: BaseSignal | None) -> list[Path]:
    """Files that a signal was loaded from."""
    if signal is None:
        return []
    found = []
    for first in ("original_", ""):
        keys = (f"{first}{key}" for key in ("folder", "filename", "extension"))
        folder, name, suffix = (signal.tmp_parameters.get_item(k, default="") for k in keys)
        if name:
            found.append(Path(folder, f"{name}{suffix}"))
    return found


def check_ours(path: Path) -> None:
    """Refuse to replace what was not written by this package."""
    before = None
    while os.path.lexists(path) and not _is_ours(path):
        # Another process may have moved it aside just then.
        now = _identity(path)
        if now is None or now != before:
            before = now
            time.sleep(_PAUSE)
            continue
        raise FileError(
            f"{path.name!r} exists and is no file of hyperspy_fewshot, so that it is not replaced, "
            "whatever overwrite is. Choose another name, or delete it first."
        )


def _is_ours(path: Path) -> bool:
    reader = _reader(path)
    try:
        return reader.is_tidy(path) and reader.found_format(path, _NODE) is not None
    except Exception:
        # Whatever it is, it cannot be recognised.
        return False


def _reader(path: Path) -> ModuleType:
    return zspy if path.suffix == ".zspy" else hspy


def write(
    path: Path,
    signal: BaseSignal,
    state: dict[str, Any],
    arrays: dict[str, np.ndarray],
    show_progressbar: bool = False,
) -> None:
    """Write a signal, a state that :func:`encode` takes, and more arrays, to one file.

    ``hyperspy.api.load`` finds the signal, which is not changed. A file of ours is replaced when
    the new one is whole. Raises OSError if the disk is full, ValueError if another file is there.
    """
    check_ours(path)
    arrays = dict(arrays)
    described = encode(state, arrays)
    signal = signal._deepcopy_with_new_data(signal.data)
    for name in ("_metadata", "_original_metadata"):
        tree = getattr(signal, name)
        setattr(signal, name, type(tree)(plain(tree.as_dictionary())))
    # HyperSpy does not print what begins with an underscore.
    signal.metadata.set_item(f"{_NODE}.format", FORMAT)
    text = json.dumps(described)
    signal.metadata.set_item(f"{_NODE}.state", text)
    signal.metadata.set_item(f"{_NODE}.sha256", _digest(text))
    for name, array in arrays.items():
        signal.metadata.set_item(f"{_NODE}.arrays.{name}", array)
    needed = signal.data.nbytes + sum(array.nbytes for array in arrays.values())

    def save(file: Path) -> None:
        free = shutil.disk_usage(file.parent).free
        if free < needed:
            # HDF5 may crash where it finds out by itself.
            message = f"{os.strerror(ENOSPC)}: {needed / 1e6:.0f} MB are needed"
            raise OSError(ENOSPC, message, str(path))
        options = _reader(path).options()
        signal.save(file, overwrite=True, show_progressbar=show_progressbar, **options)

    replace_file(path, save)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in reading a file into a ValueError that names it."""
    try:
        yield
    except (FileError, FileNotFoundError):
        raise
    except Unreadable as error:
        raise FileError(f"{path.name!r} {error}") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise FileError(f"{path.name!r} cannot be read: {reason}") from error


def read(
    path: str | Path, what: str, lazy: bool = False
) -> tuple[BaseSignal, dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write` wrote: the signal, the state, and all arrays.

    `what` is the key of the state that tells what the file holds. Nothing in the file is run, and
    no more is read than a file of its size can hold. Raises FileNotFoundError if there is none, and
    otherwise a ValueError that names the file if it holds something else, has another format, or is
    damaged.
    """
    path = Path(path)
    with naming(path):
        for _ in range(_TRIES):
            recover(path)
            if not path.exists():
                raise FileNotFoundError(f"There is no file {str(path)!r}.")
            before = _identity(path)
            try:
                found = _read(path, what, lazy)
            except Exception:
                if _identity(path) == before:
                    raise
                continue
            # Parts of a folder that was moved aside would be missing.
            if _identity(path) == before:
                return found
        raise Unreadable("is replaced by another process again and again.")


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced, or moved and put back; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The number of a file that was deleted may be that of the next one.
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _read(
    path: Path, what: str, lazy: bool
) -> tuple[BaseSignal, dict[str, Any], dict[str, np.ndarray]]:
    reader = _reader(path)
    found = reader.found_format(path, _NODE)
    if found is None:
        raise Unreadable(f"holds no {what}.")
    if found != FORMAT:
        raise Unreadable(
            f"has format {found} of hyperspy_fewshot; this version reads format {FORMAT}. Compute "
            f"the {what} again and save it."
        )
    reader.check(path)
    if reader is zspy:
        (content,) = read_zspy(str(path), lazy=lazy, mode="r")
    else:
        (content,) = read_hspy(str(path), lazy=lazy)
    metadata = plain(content["metadata"])
    saved = metadata["FewShot"].pop("_saved")
    # Files of format 2 had no digest at first.
    if saved.get("sha256", _digest(saved["state"])) != _digest(saved["state"]):
        raise Unreadable("is damaged: the digest of its state is another one.")
    described = json.loads(saved["state"])
    if what not in described["items"]:
        raise Unreadable(f"holds no {what}.")
    arrays = saved.get("arrays", {})
    signal = _build(content, metadata)
    place = {"folder": str(path.absolute().parent), "filename": path.stem, "extension": path.suffix}
    originals = {f"original_{key}": value for key, value in place.items()}
    signal.tmp_parameters.add_dictionary({**place, **originals})
    return signal, decode(described, arrays), arrays


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _build(content: dict[str, Any], metadata: dict[str, Any]) -> BaseSignal:
    """Make a signal of what RosettaSciIO has read; it is a label map if it was one."""
    data = content["data"]
    axes = plain_axes(content["axes"], data.shape)
    is_labels = metadata.get("Signal", {}).get("signal_type") == "LabelMap"
    kept = {key: metadata[key] for key in _KEPT if key in metadata}
    signal = label_maps.build(data, axes, is_labels, kept)
    signal.original_metadata.add_dictionary(plain(content["original_metadata"]))
    return signal
