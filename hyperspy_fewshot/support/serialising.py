"""Serialising support examples as JSON, with the data of ready examples as arrays."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.support.locate import Stroke, is_roi_of_frame
from hyperspy_fewshot.support.rois import ROIS


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
    if isinstance(example, BaseSignal | np.ndarray):
        return _array_to_json(example, arrays)
    return _plain(example)


def from_json(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Rebuild an example from the result of :func:`to_json` and its arrays."""
    if isinstance(plain, list):
        return tuple(plain)
    if not isinstance(plain, dict):
        return plain
    if "roi" in plain:
        given = dict(plain["parameters"])
        if "vertices" in given:
            given["vertices"] = [tuple(vertex) for vertex in given["vertices"]]
        roi = getattr(hs_roi, plain["roi"])(**given)
        return (from_json(plain["frame"], arrays), roi) if "frame" in plain else roi
    if "runs" in plain:
        shape = tuple(plain["shape"])
        flat = np.concatenate([np.arange(first, last + 1) for first, last in plain["runs"]])
        return Stroke(np.transpose(np.unravel_index(flat, shape)), shape)
    if plain.get("array") not in arrays:
        raise ValueError(
            f"A ready example of shape {tuple(plain['shape'])} has to be given again: its data were "
            "not saved."
        )
    data = np.asarray(arrays[plain["array"]])
    return _as_signal(data, plain) if "signal_dimension" in plain else data


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
    signal = BaseSignal(data).transpose(signal_axes=plain["signal_dimension"])
    if plain["signal_dimension"] == 1:
        axis = signal.axes_manager.signal_axes[0]
        axis.convert_to_non_uniform_axis()
        axis.axis, axis.units = np.array(plain["axis"]), plain["units"]
    return signal
