"""From HyperSpy's ROIs and coordinates to indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from hyperspy.signal import BaseSignal
from matplotlib.path import Path as Polygon

AREA_ROIS = (hs_roi.RectangularROI, hs_roi.CircleROI, hs_roi.PolygonROI)
LINE_ROIS = (hs_roi.Point1DROI, hs_roi.SpanROI)
ROIS = (*AREA_ROIS, *LINE_ROIS, hs_roi.Point2DROI)


def is_number(value: Any) -> bool:
    """Whether a value is a real number and not a boolean."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_defined(roi: Any) -> bool:
    """Whether an ROI has a position, which is not so before it is drawn."""
    return all(len(v) if isinstance(v, list) else is_number(v) for v in roi.parameters.values())


def step(axis: Any) -> float:
    """Distance between neighbouring points of an axis, uniform or not."""
    if axis.size > 1:
        return float(axis.axis[-1] - axis.axis[0]) / (axis.size - 1)
    return float(getattr(axis, "scale", 1.0))


def outer_edges(axis: Any) -> tuple[float, float]:
    """Coordinates at which the first pixel of an axis begins and the last one ends."""
    half = step(axis) / 2
    return float(axis.axis[0]) - half, float(axis.axis[-1]) + half


def index_of(value: Any, axis: Any) -> int:
    """Index of a coordinate by HyperSpy's rule: ints are indices, floats are calibrated values."""
    hint = "(ints are pixel indices, floats calibrated values)"
    if isinstance(value, float | np.floating):
        try:
            return int(axis.value2index(float(value)))
        except ValueError as error:
            units = "" if str(axis.units) == "<undefined>" else f" {axis.units}"
            raise ValueError(
                f"{value:g}{units} lies outside {axis_name(axis)}, which goes from "
                f"{axis.low_value:g} to {axis.high_value:g}{units} {hint}."
            ) from error
    if not -axis.size <= value < axis.size:
        raise ValueError(
            f"index {value} lies outside {axis_name(axis)}, which has {axis.size} points {hint}."
        )
    return int(value) % axis.size


def axis_name(axis: Any) -> str:
    """Name of an axis in messages; its number in HyperSpy if it has no name."""
    if str(axis.name) in ("", "<undefined>"):
        return f"axis {axis.index_in_axes_manager}"
    return f"axis {axis.name!r}"


def area_in_pixels(roi: Any, axes: Sequence[Any]) -> float:
    """Area of an area ROI on the two axes of an image [px]."""
    scale = abs(step(axes[0]) * step(axes[1]))
    if isinstance(roi, hs_roi.RectangularROI):
        return abs((roi.right - roi.left) * (roi.bottom - roi.top)) / scale
    if isinstance(roi, hs_roi.CircleROI):
        return np.pi * (roi.r**2 - inner_radius(roi) ** 2) / scale
    x, y = np.transpose(roi.vertices)
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / scale


def inner_radius(roi: Any) -> float:
    """Inner radius of a CircleROI; 0 for a full disc."""
    return float(roi.r_inner or 0.0)


def positions_inside(roi: Any, axes: Sequence[Any]) -> np.ndarray:
    """Find the navigation positions inside an ROI, as HyperSpy does.

    `axes` are in HyperSpy's order, the indices (n, len(axes)) in array order.
    """
    if not isinstance(roi, LINE_ROIS) and len(axes) < 2:
        raise ValueError(
            f"{type(roi).__name__} has two dimensions, the navigation space has one; use SpanROI "
            "or Point1DROI."
        )
    shape = tuple(axis.size for axis in axes)[::-1]
    dictionaries = [{**axis.get_axis_dictionary(), "navigate": False} for axis in axes[::-1]]
    # The ROI is applied to an array of indices, so that no data are read.
    numbers = BaseSignal(np.arange(np.prod(shape), dtype=float).reshape(shape), axes=dictionaries)
    try:
        flat = np.atleast_1d(roi(numbers).data).ravel()
    except ValueError as error:
        raise ValueError(_outside(roi, axes)) from error
    flat = flat[np.isfinite(flat)].astype(int)
    if not flat.size:
        raise ValueError(_outside(roi, axes))
    return np.transpose(np.unravel_index(flat, shape))


def pixels_inside(
    roi: Any, axes: Sequence[Any], rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Find the pixels (y, x) of a grid that lie inside an ROI on an image, shape (n, 2).

    `axes` are (x, y); `rows` and `columns` are the pixels of the grid along y and x. If the ROI
    contains none of them, the pixel at its centre is returned.
    """
    x_axis, y_axis = axes
    if isinstance(roi, LINE_ROIS):
        raise ValueError(f"{type(roi).__name__} has one dimension; an image needs two.")
    if isinstance(roi, hs_roi.Point2DROI):
        return np.array([(index_of(float(roi.y), y_axis), index_of(float(roi.x), x_axis))])
    x, y = np.meshgrid(x_axis.index2value(columns), y_axis.index2value(rows))
    # The tolerance keeps rounding errors from deciding about pixel centres on the border.
    inside = _inside(roi, x, y, 1e-6 * min(abs(step(x_axis)), abs(step(y_axis))))
    if inside.any():
        i, j = np.nonzero(inside)
        return np.column_stack([rows[i], columns[j]])
    low, high, centre = _bounds(roi)
    least, most = np.transpose([sorted((axis.low_value, axis.high_value)) for axis in axes])
    if (high < least).any() or (low > most).any():
        raise ValueError(_outside(roi, axes))
    x, y = np.clip(centre, least, most)
    return np.array([(index_of(float(y), y_axis), index_of(float(x), x_axis))])


def _outside(roi: Any, axes: Sequence[Any]) -> str:
    ranges = ", ".join(f"{axis_name(a)}: {a.low_value:g} to {a.high_value:g}" for a in axes)
    return f"{roi} lies outside the data ({ranges})."


def _inside(roi: Any, x: np.ndarray, y: np.ndarray, tolerance: float) -> np.ndarray:
    """Which of the points x, y, shape (rows, columns), lie inside an area ROI."""
    if isinstance(roi, hs_roi.RectangularROI):
        left, right, top, bottom = (
            edge - tolerance for edge in (roi.left, roi.right, roi.top, roi.bottom)
        )
        return (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if isinstance(roi, hs_roi.CircleROI):
        r = np.hypot(x - roi.cx, y - roi.cy)
        return (r <= roi.r + tolerance) & (r >= inner_radius(roi) - tolerance)
    points = np.column_stack([x.ravel(), y.ravel()])
    return Polygon(roi.vertices).contains_points(points).reshape(x.shape)


def _bounds(roi: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) of an area ROI, and its centre."""
    if isinstance(roi, hs_roi.CircleROI):
        centre = np.array([roi.cx, roi.cy], float)
        return centre - roi.r, centre + roi.r, centre
    if isinstance(roi, hs_roi.RectangularROI):
        corners = np.array([(roi.left, roi.top), (roi.right, roi.bottom)], float)
    else:
        corners = np.asarray(roi.vertices, float)
    return corners.min(axis=0), corners.max(axis=0), corners.mean(axis=0)
