"""Support examples written down as plain lists and numbers, and read back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from hyperspy.signal import BaseSignal

from .locate import Region, is_frame_roi
from .rois import ROIS


def to_json(example: Any, arrays: dict[str, np.ndarray] | None = None) -> Any:
    """Describe an example of a support set.

    Parameters
    ----------
    example
        See :class:`~hyperspy_fewshot.SupportSet`.
    arrays
        Takes the data of ready examples; None: they are left out.
    """
    if isinstance(example, ROIS):
        parameters = {key: _plain(value) for key, value in example.parameters.items()}
        return {"roi": type(example).__name__, "parameters": parameters}
    if is_frame_roi(example):
        return {"frame": _plain(example[0]), **to_json(example[1])}
    if isinstance(example, Region):
        return {"runs": _runs(example.points).tolist(), "shape": list(example.shape)}
    if isinstance(example, BaseSignal | np.ndarray):
        return _array_to_json(example, arrays)
    return _plain(example)


def from_json(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Build an example from what :func:`to_json` gives, and its arrays.

    Raises
    ------
    ValueError
        If it is a ready example whose data were left out.
    """
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
        return Region(_points(np.array(plain["runs"])), tuple(plain["shape"]))
    if plain.get("array") not in arrays:
        raise ValueError(
            f"A ready example of shape {tuple(plain['shape'])} has to be given again: a description "
            "does not hold its data."
        )
    data = np.asarray(arrays[plain["array"]])
    return _as_signal(data, plain) if "signal_dimension" in plain else data


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _runs(points: np.ndarray) -> np.ndarray:
    """Points in lexical order as runs along the last axis, (*index, start, stop)."""
    breaks = np.any(np.diff(points, axis=0)[:, :-1], axis=1) | (np.diff(points[:, -1]) != 1)
    first = np.flatnonzero(np.concatenate([[True], breaks]))
    last = np.concatenate([first[1:], [len(points)]]) - 1
    return np.column_stack([points[first], points[last, -1] + 1])


def _points(runs: np.ndarray) -> np.ndarray:
    """Undo :func:`_runs`."""
    lengths = runs[:, -1] - runs[:, -2]
    points = np.repeat(runs[:, :-1], lengths, axis=0)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    points[:, -1] += np.arange(len(points)) - starts
    return points


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
