"""What a .hspy file holds, looked at before anything is read from it."""

import math
from pathlib import Path
from typing import Any

import h5py

from hyperspy_fewshot.output.limits import Budget, Unreadable

# Identifiers of the filters that HDF5 has built in: deflate, shuffle, checksum, and LZF of h5py.
_FILTERS = {1, 2, 3, 32000}


def found_format(path: Path, node: str) -> Any:
    """Read the format that we wrote into a node of the metadata; None if there is no such node."""
    with h5py.File(path, "r") as file:
        group = _child(file, "Experiments")
        if group is None or len(group) != 1:
            return None
        for name in (next(iter(group)), "metadata", *node.split(".")):
            group = _child(group, name)
            if group is None:
                return None
        return group.attrs.get("format", 1)


def is_tidy(path: Path) -> bool:
    """Whether there is nothing beside what was written as one file, which is always so."""
    return path.is_file()


def _child(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return a group that is stored inside another one, not one that is linked from elsewhere."""
    if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
        return None
    return group[name] if group.get(name, getclass=True) is h5py.Group else None


def options() -> dict[str, Any]:
    """Arguments of ``signal.save``: deflate, which is the default, has a checksum."""
    return {}


def check(path: Path) -> None:
    """Refuse what is not data: links, virtual and missing data, unknown filters, huge arrays.

    Raises Unreadable. Only strings are read, since their length is not declared.
    """
    budget = Budget(path.stat().st_size)
    with h5py.File(path, "r") as file:
        if set(file) != {"Experiments"} or len(file["Experiments"]) != 1:
            raise Unreadable("holds more than one signal.")
        seen, groups = {_address(file)}, [file]
        while groups:
            group = groups.pop()
            _check_attributes(group, budget)
            for name in group:
                item = _item(group, name)
                if _address(item) in seen:
                    raise Unreadable(f"holds {item.name!r} in two places.")
                seen.add(_address(item))
                if isinstance(item, h5py.Group):
                    groups.append(item)
                else:
                    _check_attributes(item, budget)
                    _check_dataset(item, budget)


def _address(item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr


def _item(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
        raise Unreadable(f"links to {name!r}, which is not stored in it.")
    if group.get(name, getclass=True) not in (h5py.Group, h5py.Dataset):
        raise Unreadable(f"holds {name!r}, which is neither a group nor data.")
    return group[name]


def _check_attributes(item: Any, budget: Budget) -> None:
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        where = f"{item.name}/{name}"
        if attribute.shape is None:
            raise Unreadable(f"holds no value in {where!r}.")
        if not attribute.dtype.hasobject:
            budget.take(math.prod(attribute.shape) * attribute.dtype.itemsize, where)
        elif h5py.check_string_dtype(attribute.dtype) and attribute.shape == ():
            budget.take(len(item.attrs[name]), where)
        else:
            raise Unreadable(f"holds objects in {where!r}.")


def _check_dataset(dataset: h5py.Dataset, budget: Budget) -> None:
    settings = dataset.id.get_create_plist()
    if dataset.is_virtual or settings.get_external_count():
        raise Unreadable(f"takes {dataset.name!r} from another file.")
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if not filters <= _FILTERS:
        raise Unreadable(f"holds {dataset.name!r} with filters that are not accepted.")
    if dataset.shape is None:
        raise Unreadable(f"holds no value in {dataset.name!r}.")
    item = dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks or (0,)) * item
    budget.take(max(dataset.size * item, chunk), dataset.name)
    if not _is_stored(dataset):
        raise Unreadable(f"lacks a part of {dataset.name!r}.")
    if dataset.dtype.hasobject:
        if not h5py.check_string_dtype(dataset.dtype) or dataset.ndim != 1:
            raise Unreadable(f"holds objects in {dataset.name!r}.")
        # Many elements may refer to one long string: they are read one by one.
        for i in range(dataset.size):
            budget.take(len(dataset[i]), dataset.name)


def _is_stored(dataset: h5py.Dataset) -> bool:
    """Whether all data are in the file; HDF5 would replace the others by a constant."""
    if dataset.chunks is None:
        return dataset.id.get_storage_size() >= dataset.size * dataset.dtype.itemsize
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    count = math.prod(-(-size // side) for size, side in pairs)
    return dataset.size == 0 or dataset.id.get_num_chunks() == count
