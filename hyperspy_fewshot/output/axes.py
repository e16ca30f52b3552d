"""Axes and units of what is returned."""

from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.rois import step, units_of


def axis_dictionaries(signal: BaseSignal) -> list[dict]:
    """Axes of a signal as dictionaries, array order."""
    return list(signal.axes_manager.as_dictionary().values())


def axes_of_map(domain: Domain) -> list[dict]:
    """Axes of a label map as dictionaries, array order."""
    frames = [axis.get_axis_dictionary() for axis in domain.frame_axes[::-1]]
    cells = [
        _axis_of_cells(axis, domain.grid.centres(i), domain.grid.stride)
        for i, axis in enumerate(domain.map_axes[::-1])
    ]
    return [{**axis, "navigate": True} for axis in frames] + cells


def _axis_of_cells(axis: Any, centres: np.ndarray, stride: int) -> dict:
    """Axis of cells, given their centres in pixels or positions."""
    dictionary = {**axis.get_axis_dictionary(), "size": len(centres), "navigate": False}
    if stride == 1:
        return dictionary
    if axis.is_uniform:
        offset = axis.offset + axis.scale * centres[0]
        return {**dictionary, "offset": offset, "scale": axis.scale * stride}
    values = np.interp(centres, np.arange(axis.size), axis.axis)
    kept = {key: dictionary[key] for key in ("name", "units", "navigate")}
    return {**kept, "_type": "DataAxis", "axis": values}


def axes_of_data(domain: Domain) -> list[dict]:
    """Axes, array order, of labels at every pixel of the data rather than at every cell."""
    axes = [axis.get_axis_dictionary() for axis in domain.map_axes[::-1]]
    return axes_of_map(domain)[: -len(axes)] + [{**axis, "navigate": False} for axis in axes]


def class_axis(k: int) -> dict:
    """The axis that counts classes."""
    return {"name": "Class index", "size": k, "navigate": True, "scale": 1.0, "offset": 0.0}


def area_unit(domain: Domain) -> tuple[float, str]:
    """Area (length, of a line) of a pixel or position, and its units."""
    axes = domain.map_axes
    scales = [abs(step(axis)) for axis in axes]
    names = [units_of(axis) or "px" for axis in axes]
    units = names[0] if len(axes) == 1 else "·".join(names)
    if len(set(names)) == 1 and len(axes) == 2:
        units = f"{names[0]}²"
    if "px" in names:
        scales = [1.0 if name == "px" else s for name, s in zip(names, scales, strict=True)]
    return float(np.prod(scales)), units


def make_eager(signal: BaseSignal, data: np.ndarray) -> None:
    """Give a lazy signal its computed data, in place, as its own compute() would.

    HyperSpy would make a BaseSignal of a line of a single point.
    """
    signal.data = data
    signal.__class__ = next(
        kind for kind in type(signal).__mro__ if not getattr(kind, "_lazy", True)
    )
    signal._lazy = False
