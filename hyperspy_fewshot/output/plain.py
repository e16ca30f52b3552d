"""Metadata and axes as text, numbers and arrays: reading them builds no other object."""

import math
from collections.abc import Iterable
from typing import Any

import dask.array as da
import numpy as np

from hyperspy_fewshot.output.limits import Unreadable

# HyperSpy builds objects from values with such names, or RosettaSciIO has a use for them.
_BEGINS = ("__", "_sig_", "_hspy_", "_datetime_", "_ragged_", "_bs_", "_list_", "_tuple_")
_NAMES = ("_double_lines", "_lazy_attributes", "as_dictionary", "ragged_shapes")
#: Squares of smaller numbers do not overflow.
LARGEST = 1e100
# Most points of an axis of data that are not in the file themselves.
_LONGEST = 2**24


def plain(tree: dict[Any, Any]) -> dict[str, Any]:
    """Copy metadata, without signals, ragged arrays and other objects."""
    return {key: _plain(value) for key, value in tree.items() if _is_name(key) and _is_plain(value)}


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and not key.startswith(_BEGINS) and key not in _NAMES


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic | da.Array):
        return not value.dtype.hasobject and value.dtype.names is None
    simple = str | bytes | bool | int | float | complex | dict | list | tuple | None
    return isinstance(value, simple)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) if _is_plain(item) else None for item in value)
    return np.asarray(value) if isinstance(value, da.Array) else value


def plain_axes(axes: Iterable[dict[str, Any]], shape: tuple[int, ...] | None = None) -> list[dict]:
    """Rebuild the dictionaries of axes, array order, from numbers and names alone.

    Their sizes have to be those of `shape`. Raises Unreadable if they are anything else, such as
    axes with an expression, which HyperSpy would evaluate.
    """
    axes = list(axes)
    if shape is not None and len(axes) != len(shape):
        raise Unreadable(f"is damaged: it has {len(axes)} axes for data of shape {shape}.")
    return [_axis(axis, None if shape is None else shape[i]) for i, axis in enumerate(axes)]


def _axis(axis: Any, size: int | None) -> dict[str, Any]:
    if not isinstance(axis, dict):
        raise Unreadable("is damaged: an axis is no dictionary.")
    kind = axis.get("_type", "DataAxis" if "axis" in axis else "UniformDataAxis")
    if kind not in ("UniformDataAxis", "DataAxis") or "expression" in axis:
        raise Unreadable(f"has an axis of type {kind!r}; axes with an expression are not read.")
    result: dict[str, Any] = {"_type": kind}
    for key in ("name", "units"):
        value = axis.get(key)
        if not (value is None or isinstance(value, str)):
            raise Unreadable(f"is damaged: the {key} of an axis is {value!r}.")
        result[key] = None if value is None else str(value)
    for key in ("navigate", "is_binned"):
        value = axis.get(key, False)
        if not isinstance(value, bool | np.bool_):
            raise Unreadable(f"is damaged: {key} of an axis is {value!r}.")
        result[key] = bool(value)
    values = _values(axis) if kind == "DataAxis" else _uniform(axis)
    found = len(values["axis"]) if kind == "DataAxis" else values["size"]
    if size is not None and found != size:
        raise Unreadable(f"is damaged: an axis has {found} points where the data have {size}.")
    if found > _LONGEST and size is None:
        raise Unreadable(f"has an axis of {found} points; at most {_LONGEST} are accepted.")
    return {**result, **values}


def _values(axis: dict[str, Any]) -> dict[str, Any]:
    values = axis.get("axis")
    values = np.asarray(values) if isinstance(values, np.ndarray | da.Array) else None
    if values is None or values.dtype.kind not in "iuf" or values.ndim != 1 or not len(values):
        raise Unreadable("is damaged: an axis has no values.")
    steps = np.diff(values.astype(float))
    if not (abs(values) < LARGEST).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise Unreadable("is damaged: the values of an axis are not finite and in order.")
    return {"axis": values}


def _uniform(axis: dict[str, Any]) -> dict[str, Any]:
    size = axis.get("size")
    if not is_integer(size) or size < 1:
        raise Unreadable(f"is damaged: the size of an axis is {size!r}.")
    result: dict[str, Any] = {"size": int(size)}
    for key, default in (("scale", 1.0), ("offset", 0.0)):
        value = axis.get(key, default)
        if not is_real(value) or abs(value) > LARGEST or (key == "scale" and value == 0):
            raise Unreadable(f"is damaged: the {key} of an axis is {value!r}.")
        result[key] = float(value)
    return result


def is_integer(value: Any) -> bool:
    """Whether a value is an integer and not a boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether a value is a finite real number and not a boolean."""
    accepted = isinstance(value, int | float | np.integer | np.floating)
    return accepted and not isinstance(value, bool) and math.isfinite(value)
