"""Arrays in .npz files, read without trusting what a file says of their size."""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from uuid import uuid4

import numpy as np
from numpy.lib import format as npy

# What the arrays of a file may hold together [bytes]: so much in any case, and as much as the file.
_ALWAYS = 2**30


def write(path: Path, arrays: Mapping[str, np.ndarray], member: str) -> None:
    """Write arrays to a file, flush it to disk, then rename it.

    Raises ValueError if another file is there, which has no array called `member`.
    """
    if os.path.lexists(path) and not _holds(path, member):
        raise ValueError(
            f"{path.name!r} exists and holds something else, so that it is not replaced. Choose "
            "another name, or delete it first."
        )
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with open(unfinished, "xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file; none of them may hold objects.

    Raises FileNotFoundError if there is no file, and ValueError if it declares more than it holds.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        if sum(member.file_size for member in members) > max(_ALWAYS, path.stat().st_size):
            raise ValueError("it declares more data than a file of its size can hold")
        found = {}
        for member in members:
            with file.open(member) as opened:
                found[member.filename.removesuffix(".npy")] = _array(opened, member.file_size)
        return found


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """Read one array from a file of a size [bytes]."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError(f"it holds an array of version {version}")
    shape, in_fortran_order, dtype = readers[version](file)
    count = math.prod(shape)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    if count * dtype.itemsize != size - file.tell():
        raise ValueError(f"it declares an array of shape {shape}, which it does not hold")
    if not count:
        return np.empty(shape, dtype)
    flat = np.frombuffer(file.read(), dtype, count)
    return flat.reshape(shape, order="F" if in_fortran_order else "C").copy()


def _holds(path: Path, member: str) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return f"{member}.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
