"""Where support examples lie: from ROIs, positions and strokes to locations in the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.embedding.reading import filled
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.inside import pixels_inside, positions_inside
from hyperspy_fewshot.support.rois import LINE_ROIS, ROIS, axis_name, index_of, step, units_of
from hyperspy_fewshot.support.spreading import spread_out

# Most locations of one shot that are read, and the memory that they may take [bytes]: a
# choice of them describes a large ROI as well as all of them.
_MOST_PER_SHOT = 256
_MOST_BYTES_PER_SHOT = 64 * 2**20
_LEAST_PER_SHOT = 16
# Pixels of a short stroke that are read, spread over it. On five micrographs with five strokes of 30
# x 3 px a class, 10, 25 and 50 of them give the same accuracy, and the cells under a stroke, of which
# there are few, between 1 % more and 6 % less.
_OF_A_STROKE = 10

# Said of two-dimensional examples on patterns, which may be meant as the frames of a stack.
_FRAMES = (
    " Give chip_size to classify the chips of every frame of a stack; places are then "
    "(*navigation, x, y) or (navigation index, ROI)."
)

_PLURAL = {"image": "chips", "pattern": "patterns", "spectrum": "spectra"}


@dataclass(frozen=True, eq=False)
class Shot:
    """An example of a class that can be embedded.

    It has either `locations` (n, ndim) in array order, chip centres [px] or navigation positions,
    or an `item` (1, *item_shape), a ready example.
    """

    locations: np.ndarray | None = None
    item: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Stroke:
    """Pixels or positions marked by hand on a label map of a given shape.

    `points` (n, ndim) are indices in array order, sorted lexically.
    """

    points: np.ndarray
    shape: tuple[int, ...]


def is_roi_of_frame(example: Any) -> bool:
    """Whether an example is (navigation index, ROI)."""
    return isinstance(example, tuple) and len(example) == 2 and isinstance(example[1], ROIS)


def positions_in(example: Any, domain: Domain) -> list[tuple[int | float, ...]] | None:
    """Position tuples that an array (n, ndim) holds; None if the example is no such array.

    Raises ValueError if ready examples of these data might be meant as well.
    """
    n_axes = len(domain.axes)
    is_array = isinstance(example, np.ndarray) and example.ndim == 2
    if not is_array or example.shape[1] != n_axes or example.dtype.kind not in "iuf":
        return None
    shape = _ready_shape(domain)
    if example.shape[-len(shape) :] == shape:
        raise ValueError(
            f"an array of shape {example.shape} holds either positions on {n_axes} axes or ready "
            f"{_PLURAL[domain.grid.kind]} of shape {shape}. Give positions as tuples, [tuple(p) for p "
            "in array.tolist()], or ready examples as a HyperSpy signal."
        )
    return [tuple(row) for row in example.tolist()]


def locate(example: Any, domain: Domain) -> list[Shot]:
    """Find one example of a class in a data set.

    It is one shot, or one for every ready item or position of an array.
    """
    positions = positions_in(example, domain)
    if positions is not None:
        return [Shot(np.array([_position_location(place, domain)])) for place in positions]
    if isinstance(example, BaseSignal | np.ndarray):
        items = domain.grid.prepare(_ready_items(example, domain))
        return [Shot(item=item[np.newaxis]) for item in items]
    size = 4 * np.prod(domain.grid.item_shape) * domain.grid.overlap
    most = int(np.clip(_MOST_BYTES_PER_SHOT // size, _LEAST_PER_SHOT, _MOST_PER_SHOT))
    if isinstance(example, Stroke):
        _check_shape(example, domain)
        return [Shot(spread_out(example.points, domain.grid.stride, _OF_A_STROKE, most))]
    if isinstance(example, ROIS) or is_roi_of_frame(example):
        locations = _roi_locations(example, domain)
    else:
        locations = np.array([_position_location(example, domain)])
    if len(locations) > most:
        chosen = np.random.default_rng(0).choice(len(locations), most, replace=False)
        locations = locations[np.sort(chosen)]
    return [Shot(locations)]


def _position_location(position: Any, domain: Domain) -> tuple[int, ...]:
    """Location of a position tuple, which is in HyperSpy's order."""
    position = position if isinstance(position, tuple) else (position,)
    if len(position) != len(domain.axes):
        names = ", ".join(map(axis_name, domain.axes))
        hint = _FRAMES if domain.grid.kind == "pattern" and len(position) > len(domain.axes) else ""
        raise ValueError(
            f"position {position} should have one value for each of the {len(domain.axes)} axes "
            f"({names}), x before y.{hint}"
        )
    return domain.to_array_order(tuple(map(index_of, position, domain.axes)))


def _roi_locations(example: Any, domain: Domain) -> np.ndarray:
    if not domain.is_image:
        hint = _FRAMES if domain.grid.kind == "pattern" else ""
        if is_roi_of_frame(example):
            raise ValueError(
                f"(navigation index, ROI) is for stacks of images; give the ROI alone.{hint}"
            )
        if len(domain.axes) == 1 and not isinstance(example, LINE_ROIS):
            raise ValueError(
                f"{type(example).__name__} has two dimensions, the navigation space has one; use "
                f"SpanROI or Point1DROI.{hint}"
            )
        return positions_inside(example, domain.navigation_axes)
    frame, roi = (), example
    if is_roi_of_frame(example):
        frame, roi = frame_of(example[0], domain.frame_axes), example[1]
    elif domain.frame_axes:
        raise ValueError(
            "an ROI on a stack needs its frame: (navigation index, ROI), such as "
            f"(0, {type(roi).__name__}(...))."
        )
    pixels = pixels_inside(roi, domain.map_axes, *domain.cells_of_map())
    return np.array([(*frame, *pixel) for pixel in pixels])


def frame_of(given: Any, axes: Sequence[Any]) -> tuple[int, ...]:
    """Navigation index in array order of a frame given in HyperSpy's order."""
    given = given if isinstance(given, tuple) else (given,)
    if len(given) != len(axes):
        raise ValueError(
            f"navigation index {given} should have one value for each of the {len(axes)} "
            f"navigation axes ({', '.join(map(axis_name, axes)) or 'none'})."
        )
    return tuple(map(index_of, given, axes))[::-1]


def _check_shape(stroke: Stroke, domain: Domain) -> None:
    """Refuse a stroke on a label image that does not cover the data."""
    shape = domain.to_array_order(tuple(axis.size for axis in domain.axes))
    if stroke.shape != shape:
        hint = ""
        if stroke.shape == shape[::-1]:
            hint = " It is in HyperSpy's order, x first: pass labels.T."
        elif len(shape) > len(stroke.shape) and stroke.shape == shape[-len(stroke.shape) :]:
            hint = " Label all frames: 0 where nothing is marked."
        raise ValueError(
            f"the label map has shape {stroke.shape}, the data to mark have {shape} (array order).{hint}"
        )


def _ready_shape(domain: Domain) -> tuple[int, ...]:
    """Shape of one ready example."""
    grid = domain.grid
    return grid.item_shape if domain.is_image else grid.signal_shape


def _ready_items(example: BaseSignal | np.ndarray, domain: Domain) -> np.ndarray:
    """Items (n, *shape) that are given as data (..., *shape); spectra are interpolated."""
    grid, shape = domain.grid, _ready_shape(domain)
    plural = _PLURAL[grid.kind]
    if isinstance(example, np.ndarray):
        data = filled(example)
    else:
        axes = example.axes_manager.signal_axes
        if len(axes) != len(shape):
            raise ValueError(
                f"the signal has {len(axes)} signal dimensions, {plural} have {len(shape)}."
            )
        data = filled(dask.compute(example.data)[0])
        if grid.kind == "spectrum":
            data = _interpolated(data, axes[0], domain.signal_axes[0])
    if data.dtype.kind not in "buif":
        raise ValueError(f"ready examples must be real numbers, got {data.dtype}.")
    if data.shape[-len(shape) :] != shape:
        hint = ""
        if data.ndim <= 2 and data.shape[-1] <= 3:
            hint = f" Positions are tuples, or the rows of an array (n, {len(domain.axes)})."
        raise ValueError(
            f"ready examples of shape {data.shape} do not match the {plural} of the data, which "
            f"have shape {shape}.{hint}"
        )
    if not np.isfinite(data).all():
        raise ValueError("ready examples must be finite, got NaN, infinity or masked values.")
    return data.reshape(-1, *shape)


def _interpolated(data: np.ndarray, have: Any, want: Any) -> np.ndarray:
    """Spectra (..., channels) on another signal axis."""
    if units_of(have) != units_of(want):
        raise ValueError(
            f"the spectra are in {have.units}, the data in {want.units}; convert one of them, or "
            "pass the array where the channels are the same."
        )
    channel = abs(step(want))
    if have.size == want.size and np.allclose(have.axis, want.axis, rtol=0, atol=1e-3 * channel):
        return data
    half = channel / 2
    if min(have.axis) > min(want.axis) + half or max(have.axis) < max(want.axis) - half:
        raise ValueError(
            f"the spectra go from {min(have.axis):g} to {max(have.axis):g} {have.units}, which does "
            f"not cover the data ({min(want.axis):g} to {max(want.axis):g} {want.units})."
        )
    order = np.argsort(have.axis)
    return np.apply_along_axis(
        lambda values: np.interp(want.axis, have.axis[order], values[order]), -1, data
    )
