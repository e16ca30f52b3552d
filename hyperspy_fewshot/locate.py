"""Where support examples lie: from ROIs, positions and strokes to indices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from hyperspy.signal import BaseSignal

from .chips import ChipGrid
from .positions import PositionGrid

AREA_ROIS = (hs_roi.RectangularROI, hs_roi.CircleROI, hs_roi.PolygonROI)
ROIS = (*AREA_ROIS, hs_roi.Point1DROI, hs_roi.Point2DROI, hs_roi.SpanROI)
# More chips or positions of one entry say nothing that these do not.
_MOST_PER_ENTRY = 256
_MOST_BYTES_PER_ENTRY = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Domain:
    """The space in which support examples are looked up.

    Parameters
    ----------
    kind
        ``"image"``, ``"pattern"`` or ``"spectrum"``.
    navigation_axes, signal_axes
        HyperSpy axes in HyperSpy's order, x first.
    grid
        Where the queries lie.
    """

    kind: str
    navigation_axes: tuple[Any, ...]
    signal_axes: tuple[Any, ...]
    grid: ChipGrid | PositionGrid

    @property
    def axes(self) -> tuple[Any, ...]:
        """Axes that a position is given on, in HyperSpy's order."""
        if self.kind == "image":
            return self.navigation_axes + self.signal_axes
        return self.navigation_axes

    def to_array_order(self, index: Sequence[int]) -> tuple[int, ...]:
        """Turn indices in HyperSpy's order into array order."""
        n = len(self.navigation_axes)
        return tuple(index[:n][::-1]) + tuple(index[n:][::-1])


@dataclass(frozen=True, eq=False)
class Entry:
    """One shot: an example of a class, as what can be read or encoded.

    Parameters
    ----------
    class_index
        Number of the class.
    locations
        Chip centres [px] or navigation positions, shape (n, ndim), array
        order; None for ready examples.
    items
        Ready examples, shape (n, *item_shape); None otherwise.
    """

    class_index: int
    locations: np.ndarray | None = None
    items: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels or positions marked by hand, shape (n, ndim), array order."""

    points: np.ndarray


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_frame_roi(example: Any) -> bool:
    """Whether an example is (navigation index, roi)."""
    return isinstance(example, tuple) and len(example) == 2 and isinstance(example[1], ROIS)


def area_in_pixels(roi: Any, axes: Sequence[Any]) -> float:
    """Area of an area ROI [px], on the two axes of an image."""
    scale = abs(axes[0].scale * axes[1].scale)
    if isinstance(roi, hs_roi.RectangularROI):
        return abs((roi.right - roi.left) * (roi.bottom - roi.top)) / scale
    if isinstance(roi, hs_roi.CircleROI):
        return np.pi * (roi.r**2 - _inner_radius(roi) ** 2) / scale
    x, y = np.transpose(roi.vertices)
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / scale


def resolve(example: Any, domain: Domain, index: int) -> list[Entry]:
    """Find one example of a class in a data set.

    Raises
    ------
    ValueError, TypeError
        If the example lies outside the data or is of another kind.
    """
    if isinstance(example, BaseSignal | np.ndarray):
        return [Entry(index, items=item[np.newaxis]) for item in _ready_items(example, domain)]
    if isinstance(example, Region):
        locations = _region_locations(example, domain)
    elif isinstance(example, ROIS) or is_frame_roi(example):
        locations = _roi_locations(example, domain)
    else:
        locations = np.array([_locate(example, domain)])
    return [Entry(index, locations=_thin(locations, domain))]


def _locate(position: Any, domain: Domain) -> tuple[int, ...]:
    """Array indices of a position tuple, which is in HyperSpy's order."""
    position = position if isinstance(position, tuple) else (position,)
    if len(position) != len(domain.axes):
        names = ", ".join(str(axis.name) for axis in domain.axes)
        raise ValueError(
            f"position {position} has {len(position)} values; {len(domain.axes)} are needed "
            f"({names})."
        )
    index = [_index(v, axis) for v, axis in zip(position, domain.axes, strict=True)]
    return domain.to_array_order(index)


def _index(value: Any, axis: Any) -> int:
    """HyperSpy's rule: ints are indices, floats calibrated values."""
    if isinstance(value, float | np.floating):
        try:
            return int(axis.value2index(float(value)))
        except ValueError as error:
            raise ValueError(
                f"{value} {axis.units} lies outside the axis {axis.name!r}, which goes from "
                f"{axis.low_value:g} to {axis.high_value:g} (ints are pixel indices, floats "
                "calibrated values)."
            ) from error
    if not -axis.size <= value < axis.size:
        raise ValueError(
            f"index {value} lies outside the axis {axis.name!r} of {axis.size} (ints are pixel "
            "indices, floats calibrated values)."
        )
    return int(value) % axis.size


def _roi_locations(example: Any, domain: Domain) -> np.ndarray:
    if domain.kind != "image":
        if is_frame_roi(example):
            raise ValueError("(navigation index, roi) is for stacks of images; give the ROI alone.")
        return _positions_inside(example, domain)
    navigation = ()
    if is_frame_roi(example):
        given, roi = example
        given = given if isinstance(given, tuple) else (given,)
        if len(given) != len(domain.navigation_axes):
            raise ValueError(
                f"navigation index {given} has {len(given)} values; "
                f"{len(domain.navigation_axes)} are needed."
            )
        pairs = zip(given, domain.navigation_axes, strict=True)
        navigation = tuple(_index(value, axis) for value, axis in pairs)[::-1]
    else:
        roi = example
        if domain.navigation_axes:
            raise ValueError(
                "an ROI on a stack needs its frame: (navigation index, roi), such as "
                f"(0, {type(roi).__name__}(...))."
            )
    pixels = _chips_inside(roi, domain)
    return np.array([(*navigation, *pixel) for pixel in pixels])


def _positions_inside(roi: Any, domain: Domain) -> np.ndarray:
    """Navigation positions that HyperSpy itself finds inside an ROI."""
    shape = tuple(axis.size for axis in domain.navigation_axes)[::-1]
    axes = [axis.get_axis_dictionary() for axis in domain.navigation_axes[::-1]]
    for axis in axes:
        axis.update(navigate=False)
    # Slicing the indices finds the positions without touching the data.
    selected = roi(BaseSignal(np.arange(np.prod(shape), dtype=float).reshape(shape), axes=axes))
    flat = np.atleast_1d(selected.data).ravel()
    flat = flat[np.isfinite(flat)].astype(int)
    if not flat.size:
        raise ValueError(f"{roi} holds no navigation position.")
    return np.transpose(np.unravel_index(flat, shape))


def _chips_inside(roi: Any, domain: Domain) -> list[tuple[int, int]]:
    """Pixels (y, x) on which the grid chips inside an ROI are centred."""
    x_axis, y_axis = domain.signal_axes
    if isinstance(roi, hs_roi.Point2DROI):
        return [(_index(float(roi.y), y_axis), _index(float(roi.x), x_axis))]
    if not isinstance(roi, AREA_ROIS):
        raise ValueError(f"{type(roi).__name__} has one dimension; an image needs two.")
    rows, columns = (_centre_pixels(domain.grid, axis) for axis in (0, 1))
    inside = _inside(roi, x_axis.index2value(columns), y_axis.index2value(rows))
    if inside.any():
        return [(int(rows[i]), int(columns[j])) for i, j in np.argwhere(inside)]
    x, y = _roi_centre(roi)
    return [(_index(float(y), y_axis), _index(float(x), x_axis))]


def _centre_pixels(grid: ChipGrid, axis: int) -> np.ndarray:
    """Pixels on which a chip equals the chip of the grid cell."""
    starts = grid.stride * np.arange(len(grid.centres(axis))) + (grid.stride - grid.chip_size) // 2
    return np.minimum(starts + grid.chip_size // 2, grid.image_shape[axis] - 1)


def _inside(roi: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of the mesh y, x lie inside an area ROI."""
    x, y = np.meshgrid(x, y)
    if isinstance(roi, hs_roi.RectangularROI):
        return (x >= roi.left) & (x < roi.right) & (y >= roi.top) & (y < roi.bottom)
    if isinstance(roi, hs_roi.CircleROI):
        r2 = (x - roi.cx) ** 2 + (y - roi.cy) ** 2
        return (r2 <= roi.r**2) & (r2 >= _inner_radius(roi) ** 2)
    from matplotlib.path import Path as Polygon

    points = np.column_stack([x.ravel(), y.ravel()])
    return Polygon(roi.vertices).contains_points(points).reshape(x.shape)


def _inner_radius(roi: Any) -> float:
    inner = roi.r_inner
    return float(inner) if is_number(inner) else 0.0


def _roi_centre(roi: Any) -> tuple[float, float]:
    if isinstance(roi, hs_roi.RectangularROI):
        return (roi.left + roi.right) / 2, (roi.top + roi.bottom) / 2
    if isinstance(roi, hs_roi.CircleROI):
        return roi.cx, roi.cy
    return tuple(np.mean(roi.vertices, axis=0))


def _region_locations(region: Region, domain: Domain) -> np.ndarray:
    """Positions of a stroke, or the chips whose cells it covers."""
    shape = tuple(axis.size for axis in domain.axes)
    shape = domain.to_array_order(shape)
    points = region.points
    if points.shape[1] != len(shape) or (points >= shape).any():
        raise ValueError(
            f"the label map does not fit the data: it reaches {tuple(points.max(axis=0) + 1)}, "
            f"the data are {shape} (array order)."
        )
    if domain.kind != "image":
        return points
    centres = [_centre_pixels(domain.grid, axis) for axis in (0, 1)]
    hit = np.isin(points[:, -2], centres[0]) & np.isin(points[:, -1], centres[1])
    if hit.any():
        return points[hit]
    nearest = ((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return points[nearest][np.newaxis]


def _thin(locations: np.ndarray, domain: Domain) -> np.ndarray:
    """At most as many locations of an entry as are worth reading."""
    size = 4 * np.prod(domain.grid.item_shape) * domain.grid.overlap
    most = int(np.clip(_MOST_BYTES_PER_ENTRY // size, 16, _MOST_PER_ENTRY))
    if len(locations) <= most:
        return locations
    chosen = np.random.default_rng(0).choice(len(locations), most, replace=False)
    return locations[np.sort(chosen)]


def _ready_items(example: Any, domain: Domain) -> np.ndarray:
    """Ready examples as items (n, *item_shape)."""
    shape = domain.grid.item_shape if domain.kind == "image" else domain.grid.signal_shape
    data = example
    if isinstance(example, BaseSignal):
        if example.axes_manager.signal_dimension != len(shape):
            raise ValueError(
                f"the signal has {example.axes_manager.signal_dimension} signal dimensions, "
                f"{domain.kind}s have {len(shape)}."
            )
        data = np.asarray(example.data)
        if domain.kind == "spectrum":
            axis = example.axes_manager.signal_axes[0]
            data = _interpolate(data, axis, domain.signal_axes[0])
    if data.shape[-len(shape) :] != shape or not np.issubdtype(data.dtype, np.number):
        raise ValueError(
            f"ready examples of shape {data.shape} and type {data.dtype} do not match the "
            f"{domain.kind}s of the data, which have shape {shape}."
        )
    items = data.reshape(-1, *shape)
    if not np.isfinite(items).all():
        raise ValueError("ready examples must be finite, got NaN or infinity.")
    return items if domain.kind == "image" else domain.grid.prepare(items)


def _interpolate(data: np.ndarray, have: Any, want: Any) -> np.ndarray:
    """Interpolate spectra on another signal axis."""
    if have.size == want.size and np.allclose(have.axis, want.axis, rtol=1e-6):
        return data
    if str(have.units) != str(want.units):
        raise ValueError(
            f"the spectra are in {have.units}, the data in {want.units}; convert one of them."
        )
    tolerance = abs(want.axis[-1] - want.axis[0]) / (want.size - 1) / 2
    low, high = min(have.axis), max(have.axis)
    if low > min(want.axis) + tolerance or high < max(want.axis) - tolerance:
        raise ValueError(
            f"the spectra go from {low:g} to {high:g} {have.units}, which does not cover the data "
            f"({min(want.axis):g} to {max(want.axis):g} {want.units})."
        )
    flat = data.reshape(-1, have.size).astype(float)
    # A finer or coarser axis holds the same density of counts.
    resampled = np.stack([np.interp(want.axis, have.axis, spectrum) for spectrum in flat])
    return resampled.reshape(*data.shape[:-1], want.size)
