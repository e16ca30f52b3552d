"""Axes, units and metadata of what is returned."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import dask.array as da
import numpy as np
from hyperspy.axes import AxesManager
from hyperspy.defaults_parser import preferences
from hyperspy.signal import BaseSignal

from .chips import ChipGrid
from .computing import compute
from .locate import Domain
from .prototypes import FewShotClassifier
from .rois import step
from .statistics import Statistics
from .support import SupportSet

_COPIED = ("General", "Acquisition_instrument", "Sample")
_MOST_BACKDROP = 1024


@dataclass(frozen=True, eq=False)
class Geometry:
    """What statistics and pictures need to know of a label map.

    Parameters
    ----------
    cell_areas
        Pixels or positions that every cell of a map covers.
    area_scale
        Area (length, for a line) of one of them in `units`.
    units
        Units of areas.
    overlap
        Number of neighbouring labels that rest on the same data.
    n_masked
        Queries left out by the user.
    stride
        Of images [px]; None for maps over a navigation space.
    image_shape
        (rows, columns) of an image [px].
    image_axes
        Dictionaries of the axes of an image, array order.
    """

    cell_areas: np.ndarray
    area_scale: float
    units: str
    overlap: float
    n_masked: int
    stride: int | None = None
    image_shape: tuple[int, int] | None = None
    image_axes: tuple[dict, ...] = ()

    @classmethod
    def of(cls, domain: Domain, n_masked: int) -> "Geometry":
        """Geometry of the label map of a domain."""
        grid = domain.grid
        areas = grid.cell_areas()
        axes = domain.signal_axes if domain.kind == "image" else domain.navigation_axes[:2]
        scales = [abs(step(axis)) for axis in axes]
        names = ["px" if str(axis.units) == "<undefined>" else str(axis.units) for axis in axes]
        units = names[0] if len(axes) == 1 else "·".join(names)
        if len(set(names)) == 1 and len(axes) == 2:
            units = f"{names[0]}²"
        if "px" in names:
            scales = [1.0 if name == "px" else s for name, s in zip(names, scales, strict=True)]
        image = {}
        if isinstance(grid, ChipGrid):
            dictionaries = [axis.get_axis_dictionary() for axis in domain.signal_axes[::-1]]
            image = {
                "stride": grid.stride,
                "image_shape": grid.image_shape,
                "image_axes": tuple(dictionaries),
            }
        return cls(areas, float(np.prod(scales)), units, grid.overlap, n_masked, **image)


def picture_axes(labels: BaseSignal, geometry: Geometry) -> tuple[Any, ...]:
    """HyperSpy axes (x, y), or (x,), of what a label map was made of.

    Positions of the support set are given on them.
    """
    if geometry.stride is None:
        return labels.axes_manager.signal_axes
    return AxesManager([dict(axis) for axis in geometry.image_axes]).signal_axes


def axis_dictionaries(signal: BaseSignal) -> list[dict]:
    """Axes of a signal as dictionaries, array order."""
    return [axis.get_axis_dictionary() for axis in signal.axes_manager._axes]


def map_axes(domain: Domain) -> list[dict]:
    """Axes of a label map as dictionaries, array order."""
    navigation = [axis.get_axis_dictionary() for axis in domain.navigation_axes[::-1]]
    if domain.kind != "image":
        first = max(0, len(navigation) - 2)
        return [{**axis, "navigate": i < first} for i, axis in enumerate(navigation)]
    grid = domain.grid
    return navigation + [
        _cell_axis(axis, grid.centres(i), grid.stride)
        for i, axis in enumerate(domain.signal_axes[::-1])
    ]


def _cell_axis(axis: Any, centres: np.ndarray, stride: int) -> dict:
    """Axis of the cells of an image, given their centres [px]."""
    dictionary = {**axis.get_axis_dictionary(), "size": len(centres), "navigate": False}
    if axis.is_uniform:
        offset = axis.offset + axis.scale * centres[0]
        return {**dictionary, "offset": offset, "scale": axis.scale * stride}
    values = np.interp(centres, np.arange(axis.size), axis.axis)
    kept = {key: dictionary[key] for key in ("name", "units", "navigate")}
    return {**kept, "_type": "DataAxis", "axis": values}


def class_axis(k: int) -> dict:
    """The axis that counts classes."""
    return {"name": "Class index", "size": k, "navigate": True, "scale": 1.0, "offset": 0.0}


def metadata_of(signal: BaseSignal, what: str) -> dict:
    """Metadata that a result inherits, with a title of its own."""
    tree = signal.metadata.as_dictionary()
    metadata = {key: tree[key] for key in _COPIED if key in tree}
    title = signal.metadata.get_item("General.title", default="") or signal.__class__.__name__
    metadata.setdefault("General", {})["title"] = f"{what} {title}"
    return metadata


def provenance(classifier: FewShotClassifier, support: SupportSet, transferred: bool) -> dict:
    """Everything that is needed to repeat a result.

    Parameters
    ----------
    classifier, support
        What was learnt, and of what.
    transferred
        Whether that was on other data.
    """
    settings = classifier.setup
    node = {
        "class_names": list(classifier.class_names),
        "support": support.describe(),
        "transferred": transferred,
        "encoder": settings.encoder.name,
        "encoder_sha256": settings.encoder.sha256,
        "kind": settings.kind,
        "reject": "default" if settings.reject is True else str(settings.reject),
        "thresholds": [float(value) for value in classifier.thresholds],
        "temperature": float(classifier.temperature),
        "leave_one_out": float(classifier.leave_one_out),
        "versions": versions(),
    }
    for name in ("chip_size", "stride", "context"):
        value = getattr(settings, name)
        if value is not None:
            node[name] = int(value)
    return node


@cache
def versions() -> str:
    """Versions of what decides a result, as JSON."""
    names = ("hyperspy_fewshot", "hyperspy", "torch", "numpy")
    return json.dumps({name: version(name) for name in names})


def as_columns(statistics: Statistics) -> dict:
    """Statistics as lists, since names may not be keys of metadata."""
    rows = statistics.to_dict()
    columns = {key: [row[key] for row in rows.values()] for key in next(iter(rows.values()))}
    return {"name": list(rows), "units": statistics.units, **columns}


def make_eager(signal: BaseSignal, data: np.ndarray) -> None:
    """Give a lazy signal its computed data, in place, as its own compute() would."""
    signal.data = data
    signal._lazy = False
    signal._assign_subclass()


def backdrop(signal: BaseSignal, geometry: Geometry, index: tuple[int, ...]) -> np.ndarray | None:
    """The picture under a label map; None if it would need a pass over data."""
    if geometry.stride is not None:
        data = signal.data[index]
        every = max(1, -(-max(data.shape) // _MOST_BACKDROP))
        return np.asarray(data[::every, ::every], dtype=float)
    if signal._lazy:
        return None
    signal_axes = tuple(range(-signal.axes_manager.signal_dimension, 0))
    return np.nansum(signal.data[index], axis=signal_axes, dtype=float)


def class_signals(
    signal: BaseSignal, labels: np.ndarray, class_names: tuple[str, ...], method: str
) -> BaseSignal:
    """Sum or mean of the data over the positions of every class."""
    nav = labels.ndim
    axes = tuple(range(nav))
    shape = (*labels.shape, *(1,) * (signal.data.ndim - nav))
    data = signal.data
    sums = []
    for value in range(len(class_names)):
        here = labels == value
        if signal._lazy:
            kept = da.where(da.from_array(here.reshape(shape), chunks=-1), data, 0)
            total = kept.sum(axis=axes, dtype=float)
        else:
            total = data[here].sum(axis=0, dtype=float)
        sums.append(total / max(1, int(here.sum())) if method == "mean" else total)
    if signal._lazy:
        show = preferences.General.show_progressbar
        (stacked,) = compute(da.stack(sums), show_progressbar=show, what="Summing")
    else:
        stacked = np.stack(sums)
    inner = [axis for axis in axis_dictionaries(signal) if not axis["navigate"]]
    result = BaseSignal(stacked, axes=[class_axis(len(class_names)), *inner])
    result.metadata.add_dictionary(signal.metadata.as_dictionary())
    title = signal.metadata.get_item("General.title", default="")
    result.metadata.General.title = f"{method} of {', '.join(class_names)} in {title}"
    result.original_metadata.add_dictionary(signal.original_metadata.as_dictionary())
    result.set_signal_type(signal.metadata.Signal.signal_type)
    return result
