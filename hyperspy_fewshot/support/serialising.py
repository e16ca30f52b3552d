"""Serialising support examples as JSON, with the data of ready examples as arrays."""

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.support.locate import Stroke, is_roi_of_frame
from hyperspy_fewshot.support.rois import ROIS, is_number

# Most points of a stroke, and the longest side of the map that it lies on.
_MOST_POINTS, _LONGEST = 2**26, 2**32
# Arrays with at most so many columns may be positions, and are written as numbers: they are short,
# and a description without them would not repeat a result.
_MOST_COLUMNS = 4


def to_json(example: Any, arrays: dict[str, np.ndarray] | None = None) -> Any:
    """Convert an example into lists, dicts and numbers; `arrays` receives the data of ready ones."""
    if isinstance(example, ROIS):
        parameters = {key: _plain(value) for key, value in example.parameters.items()}
        return {"roi": type(example).__name__, "parameters": parameters}
    if is_roi_of_frame(example):
        return {"frame": _plain(example[0]), **to_json(example[1])}
    if isinstance(example, Stroke):
        # Runs of consecutive pixels, in C order.
        flat = np.ravel_multi_index(tuple(example.points.T), example.shape)
        runs = np.split(flat, np.flatnonzero(np.diff(flat) != 1) + 1)
        return {"runs": [_plain(run[[0, -1]]) for run in runs], "shape": list(example.shape)}
    if _may_be_positions(example):
        return {"positions": example.tolist(), "dtype": example.dtype.name}
    if isinstance(example, BaseSignal | np.ndarray):
        return _array_to_json(example, arrays)
    return _plain(example)


def _may_be_positions(example: Any) -> bool:
    is_array = isinstance(example, np.ndarray) and example.dtype.kind in "iuf" and example.ndim == 2
    if not is_array or not example.size or not np.isfinite(example).all():
        return False
    return example.shape[1] < _MOST_COLUMNS or len(example) != example.shape[1] == _MOST_COLUMNS


def from_json(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Rebuild an example from the result of :func:`to_json` and its arrays.

    Only numbers, HyperSpy's ROIs, strokes, arrays and signals are built. Raises ValueError for
    anything else, and for an array that was not saved.
    """
    if not isinstance(plain, dict):
        return _position(plain)
    if "roi" in plain:
        roi = _roi(plain)
        return (_position(plain["frame"]), roi) if "frame" in plain else roi
    if "runs" in plain:
        return _stroke(plain)
    if "positions" in plain:
        return _positions(plain["positions"], plain.get("dtype"))
    if plain.get("array") not in arrays:
        raise ValueError(
            f"A ready example of shape {tuple(plain['shape'])} has to be given again: its data were "
            "not saved."
        )
    data = np.asarray(arrays[plain["array"]])
    if data.dtype.kind not in "buif" or list(data.shape) != plain["shape"]:
        raise ValueError(f"A ready example holds {data.dtype} of shape {data.shape}.")
    return _as_signal(data, plain) if "signal_dimension" in plain else data


def _position(plain: Any) -> Any:
    """Return a number, or a tuple of them."""
    numbers = plain if isinstance(plain, list) else [plain]
    if not numbers or not all(is_number(n) and abs(n) < float("inf") for n in numbers):
        raise ValueError(f"An example is {reprlib.repr(plain)}, not a position.")
    return tuple(plain) if isinstance(plain, list) else plain


def _positions(plain: Any, dtype: Any) -> np.ndarray:
    """Return an array of positions (n, ndim)."""
    rows = [_position(row) for row in plain] if isinstance(plain, list) else []
    columns = {len(row) if isinstance(row, tuple) else 0 for row in rows}
    known = np.sctypeDict.get(dtype) if isinstance(dtype, str) else None
    is_real = known is not None and np.dtype(known).kind in "iuf"
    if len(columns) != 1 or not 0 < min(columns) <= _MOST_COLUMNS or not is_real:
        raise ValueError(f"An example is {reprlib.repr(plain)}, not an array of positions.")
    try:
        return np.array(rows, known)
    except OverflowError as error:
        raise ValueError(f"An example is {reprlib.repr(plain)}, too large for {dtype}.") from error


def _roi(plain: dict[str, Any]) -> Any:
    kinds = {kind.__name__: kind for kind in ROIS}
    name, given = plain["roi"], plain["parameters"]
    if name not in kinds or not isinstance(given, dict):
        raise ValueError(f"An example is a {name!r}, which is none of {', '.join(kinds)}.")
    if set(given) != set(kinds[name]().parameters):
        raise ValueError(f"A {name} has the parameters {sorted(given)}.")
    if name == "PolygonROI":
        return kinds[name](vertices=[_position(vertex) for vertex in given["vertices"]])
    values = {key: _position(value) for key, value in given.items()}
    if not all(map(is_number, values.values())):
        raise ValueError(f"The parameters of a {name} are {values}.")
    return kinds[name](**values)


def _stroke(plain: dict[str, Any]) -> Stroke:
    shape, runs = tuple(plain["shape"]), np.array(plain["runs"])
    is_shape = shape and all(isinstance(size, int) and 0 < size <= _LONGEST for size in shape)
    if not is_shape or runs.dtype.kind != "i" or runs.ndim != 2 or runs.shape[1] != 2:
        raise ValueError(f"A stroke on a map of shape {shape} is damaged.")
    first, last = runs.T
    ordered = (first <= last).all() and (first[1:] > last[:-1]).all()
    if not ordered or first[0] < 0 or last[-1] >= math.prod(shape):
        raise ValueError(f"A stroke on a map of shape {shape} is damaged.")
    if (last - first + 1).sum() > _MOST_POINTS:
        raise ValueError(f"A stroke has more than {_MOST_POINTS} points.")
    flat = np.concatenate([np.arange(low, high + 1) for low, high in runs])
    return Stroke(np.transpose(np.unravel_index(flat, shape)), shape)


def digest_of(example: Any) -> str:
    """Digest of an example, including the data of a ready example."""
    arrays: dict[str, np.ndarray] = {}
    digest = hashlib.sha256(json.dumps(to_json(example, arrays)).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _array_to_json(example: Any, arrays: dict[str, np.ndarray] | None) -> dict[str, Any]:
    data = np.asarray(example.data if isinstance(example, BaseSignal) else example)
    plain: dict[str, Any] = {"shape": list(data.shape), "dtype": str(data.dtype)}
    if isinstance(example, BaseSignal):
        axis = example.axes_manager.signal_axes[0]
        plain["signal_dimension"] = int(example.axes_manager.signal_dimension)
        plain["units"] = str(axis.units)
        plain["axis"] = [float(value) for value in axis.axis]
    if arrays is not None:
        plain["array"] = f"example_{len(arrays)}"
        arrays[plain["array"]] = data
    return plain


def _as_signal(data: np.ndarray, plain: Mapping[str, Any]) -> BaseSignal:
    dimension, units = plain["signal_dimension"], plain["units"]
    if type(dimension) is not int or not 0 < dimension <= data.ndim or not isinstance(units, str):
        raise ValueError(f"A ready example has {dimension!r} signal axes in {units!r}.")
    signal = BaseSignal(data).transpose(signal_axes=dimension)
    if dimension == 1:
        axis, values = signal.axes_manager.signal_axes[0], np.array(_position(plain["axis"]), float)
        if values.shape != (axis.size,):
            raise ValueError(f"A ready example has {values.size} channels for {axis.size} values.")
        axis.convert_to_non_uniform_axis()
        axis.axis, axis.units = values, units
    return signal
