"""What a .zspy folder holds, looked at before anything is read from it."""

import json
import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numcodecs
import numcodecs.blosc
import numpy as np

from hyperspy_fewshot.output.limits import Budget, Unreadable

_DESCRIPTIONS = (".zgroup", ".zattrs", ".zarray")
# Codecs beside Blosc: of strings, and of the checksum that we add, before the data.
_TEXT, _CHECKSUM, _CHECKSUM_SIZE = "vlen-utf8", "crc32", 4
# What file browsers and network disks leave in folders.
_LITTER, _LITTER_BEGINS = (".DS_Store", "Thumbs.db", "desktop.ini"), ("._", ".nfs")
# Groups inside groups: more of them exceed the recursion of Python.
_DEEPEST = 100
# A chunk of Blosc begins with a header: where the sizes of its data and of itself are.
_HEADER, _DATA_SIZE, _OWN_SIZE = 16, slice(4, 8), slice(12, 16)


def found_format(path: Path, node: str) -> Any:
    """Read the format that we wrote into a node of the metadata; None if there is no such node."""
    experiments = path / "Experiments"
    groups = [e.name for e in os.scandir(experiments)] if experiments.is_dir() else []
    groups = [name for name in groups if not name.startswith(".z")]
    if len(groups) != 1:
        return None
    folder = experiments.joinpath(groups[0], "metadata", *node.split("."))
    attributes = folder / ".zattrs"
    if not (folder / ".zgroup").is_file():
        return None
    return _described(attributes).get("format", 1) if attributes.is_file() else 1


def is_tidy(path: Path) -> bool:
    """Whether a folder holds nothing but what zarr writes, and what file browsers leave there."""
    try:
        files = _files(path)
        _, others = _chunks(files, _arrays(path, files))
    except (Unreadable, OSError, ValueError):
        return False
    names = [PurePosixPath(name).name for name in others]
    return all(name in _LITTER or name.startswith(_LITTER_BEGINS) for name in names)


def options() -> dict[str, Any]:
    """Arguments of ``signal.save``: every chunk has a checksum, which is tested when it is read."""
    return {"filters": [numcodecs.CRC32()]}


def check(path: Path) -> None:
    """Refuse what is not data: links, objects, missing chunks, other codecs, huge arrays.

    Raises Unreadable. Only chunks of strings are read, since their length is not declared.
    """
    if not path.is_dir():
        raise Unreadable("is no folder, as .zspy files are.")
    files = _files(path)
    budget = Budget(sum(files.values()))
    arrays = _arrays(path, files)
    for array, chunks in _chunks(files, arrays)[0].items():
        _check_array(path, array, arrays[array], chunks, files, budget)
    _check_summary(path, files)


def _files(path: Path) -> dict[str, int]:
    """Sizes of all files in a folder, by their path from there.

    Of several names of one file only the first has a size.
    """
    found, folders, seen = {}, [PurePosixPath()], set()
    while folders:
        folder = folders.pop()
        if len(folder.parts) > _DEEPEST:
            raise Unreadable(f"holds groups more than {_DEEPEST} deep.")
        for entry in os.scandir(path / folder):
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif entry.is_file(follow_symlinks=False):
                number, size = entry.inode(), entry.stat().st_size
                found[str(folder / entry.name)] = 0 if number in seen else size
                seen.add(number)
            else:
                raise Unreadable(f"holds {str(folder / entry.name)!r}, which is no file.")
    return found


def _described(file: Path) -> dict[str, Any]:
    description = json.loads(file.read_bytes())
    if not isinstance(description, dict):
        raise Unreadable(f"is damaged: {file.name!r} holds no dictionary.")
    return description


def _arrays(path: Path, files: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Descriptions of all arrays, by their path."""
    names = (PurePosixPath(name) for name in files)
    return {str(name.parent): _described(path / name) for name in names if name.name == ".zarray"}


def _chunks(
    files: dict[str, int], arrays: dict[str, dict[str, Any]]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Files of the chunks of all arrays, by the index of the chunk, and what is no part of them."""
    chunks: dict[str, dict[str, str]] = {array: {} for array in arrays}
    others = []
    for name in files:
        place = PurePosixPath(name)
        owner = next((str(parent) for parent in place.parents if str(parent) in arrays), None)
        index = "" if owner is None else ".".join(place.relative_to(owner).parts)
        if re.fullmatch(r"\d+(\.\d+)*", index):
            chunks[owner][index] = name
        elif place.name not in _DESCRIPTIONS and name != ".zmetadata":
            others.append(name)
    return chunks, others


def _check_array(
    path: Path,
    name: str,
    array: dict[str, Any],
    chunks: dict[str, str],
    files: dict[str, int],
    budget: Budget,
) -> None:
    shape, sides = array.get("shape"), array.get("chunks")
    sizes = [*shape, *sides] if isinstance(shape, list) and isinstance(sides, list) else [None]
    if not all(type(size) is int and size >= 0 for size in sizes) or len(shape) != len(sides):
        raise Unreadable(f"is damaged: {name!r} has no shape.")
    dtype = np.dtype(array["dtype"]) if isinstance(array.get("dtype"), str) else np.dtype("O")
    _check_codecs(name, array, dtype, len(shape))
    size = math.prod(sides) * dtype.itemsize
    budget.take(max(math.prod(shape) * dtype.itemsize, size), name)
    pairs = list(zip(shape, sides, strict=True))
    if 0 in shape:
        return
    if 0 in sides or len(chunks) != math.prod(-(-n // side) for n, side in pairs):
        raise Unreadable(f"lacks a part of {name!r}.")
    for index, file in chunks.items():
        place = [int(i) for i in index.split(".")]
        inside = len(place) == len(shape) or not shape
        if not inside or any(i * side >= n for i, (n, side) in zip(place, pairs, strict=False)):
            raise Unreadable(f"holds {file!r}, which does not belong there.")
        _check_chunk(path / file, files[file], array, dtype, size, budget)


def _check_codecs(name: str, array: dict[str, Any], dtype: np.dtype, ndim: int) -> None:
    compressor, filters = array.get("compressor"), array.get("filters") or []
    identifiers = [codec.get("id") for codec in filters if isinstance(codec, dict)]
    is_blosc = isinstance(compressor, dict) and compressor.get("id") == "blosc"
    if array.get("zarr_format") != 2 or not (compressor is None or is_blosc):
        raise Unreadable(f"holds {name!r} with a codec that is not accepted.")
    expected = [_TEXT] if dtype.hasobject and ndim == 1 else []
    if dtype.hasobject and not expected or identifiers not in (expected, [*expected, _CHECKSUM]):
        raise Unreadable(f"holds objects in {name!r}.")


def _check_chunk(
    file: Path, own: int, array: dict[str, Any], dtype: np.dtype, size: int, budget: Budget
) -> None:
    """Check the size of the data in a chunk against what is declared."""
    where, found = f"'{file.name}' of {file.parent.name!r}", own
    extra = _CHECKSUM_SIZE if array["filters"] and array["filters"][-1]["id"] == _CHECKSUM else 0
    if array["compressor"] is not None:
        with open(file, "rb") as opened:
            header = opened.read(_HEADER)
        found = int.from_bytes(header[_DATA_SIZE], "little")
        if own and int.from_bytes(header[_OWN_SIZE], "little") != own:
            raise Unreadable(f"is damaged: {where} is cut off.")
    if dtype.hasobject:
        budget.take(found, file.parent.name)
        content = file.read_bytes()
        if array["compressor"] is not None:
            content = numcodecs.blosc.decompress(content)
        found = int.from_bytes(content[extra : extra + 4], "little") * dtype.itemsize + extra
    if found != size + extra:
        raise Unreadable(f"is damaged: {where} holds {found} bytes, {size + extra} are declared.")


def _check_summary(path: Path, files: dict[str, int]) -> None:
    """Refuse a summary of the descriptions, which may be read in their place, if it differs."""
    if ".zmetadata" in files:
        summary = _described(path / ".zmetadata").get("metadata")
        found = {
            name: _described(path / name)
            for name in files
            if PurePosixPath(name).name in _DESCRIPTIONS
        }
        if json.dumps(summary, sort_keys=True) != json.dumps(found, sort_keys=True):
            raise Unreadable("is damaged: '.zmetadata' differs from what it summarises.")
