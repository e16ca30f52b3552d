"""From HyperSpy's ROIs and coordinates to indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi

AREA_ROIS = (hs_roi.RectangularROI, hs_roi.CircleROI, hs_roi.PolygonROI)
LINE_ROIS = (hs_roi.Point1DROI, hs_roi.SpanROI)
ROIS = (*AREA_ROIS, *LINE_ROIS, hs_roi.Point2DROI)

# Squares of smaller coordinates do not overflow, nor do products of them with areas.
_LARGEST_COORDINATE = 1e100


def is_number(value: Any) -> bool:
    """Whether a value is a real number and not a boolean."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_defined(roi: Any) -> bool:
    """Whether an ROI has a position, which is not so before it is drawn."""
    return all(len(v) if isinstance(v, list) else is_number(v) for v in roi.parameters.values())


def has_bounds(roi: Any) -> bool:
    """Whether all coordinates are finite, and so small that their squares do not overflow."""
    values = [value or 0.0 for value in roi.parameters.values()]
    return all((np.abs(np.ravel(value)) < _LARGEST_COORDINATE).all() for value in values)


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
        beyond = abs(step(axis))
        try:
            # HyperSpy's arithmetic overflows far outside.
            if axis.low_value - beyond <= value <= axis.high_value + beyond:
                return int(axis.value2index(float(value)))
            raise ValueError
        except ValueError as error:
            units = units_of(axis)
            units = f" {units}" if units else ""
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


def units_of(axis: Any) -> str:
    """Units of an axis; empty if it has none."""
    units = str(axis.units).strip()
    return "" if units in ("<undefined>", "None") else units


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
