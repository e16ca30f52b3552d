"""Where support examples lie: from ROIs, positions and strokes to indices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

from .chips import ChipGrid
from .positions import PositionGrid
from .ready import ready_items
from .rois import ROIS, axis_name, index_of, pixels_inside, positions_inside

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
    """Pixels or positions marked by hand.

    Parameters
    ----------
    points
        Indices in array order and lexical order, shape (n, ndim).
    shape
        Of the label map that holds them.
    """

    points: np.ndarray
    shape: tuple[int, ...]


def is_frame_roi(example: Any) -> bool:
    """Whether an example is (navigation index, roi)."""
    return isinstance(example, tuple) and len(example) == 2 and isinstance(example[1], ROIS)


def resolve(example: Any, domain: Domain, index: int) -> list[Entry]:
    """Find one example of a class in a data set.

    Parameters
    ----------
    example
        See :class:`~hyperspy_fewshot.SupportSet`.
    domain
        Where to look.
    index
        Number of the class.

    Returns
    -------
    list of Entry
        One, or one for every item of a ready example.

    Raises
    ------
    ValueError
        If the example lies outside the data or is of another kind.
    """
    if isinstance(example, BaseSignal | np.ndarray):
        grid = domain.grid
        shape = grid.item_shape if domain.kind == "image" else grid.signal_shape
        items = ready_items(example, domain.kind, shape, domain.signal_axes[0])
        items = items if domain.kind == "image" else grid.prepare(items)
        return [Entry(index, items=item[np.newaxis]) for item in items]
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
        names = ", ".join(map(axis_name, domain.axes))
        hint = ""
        if domain.kind == "pattern" and len(position) == len(domain.axes) + 2:
            hint = " Give chip_size to classify the chips of every frame of a stack."
        raise ValueError(
            f"position {position} should have one value for each of the {len(domain.axes)} axes "
            f"({names}), x before y.{hint}"
        )
    return domain.to_array_order(
        [index_of(v, axis) for v, axis in zip(position, domain.axes, strict=True)]
    )


def _roi_locations(example: Any, domain: Domain) -> np.ndarray:
    if domain.kind != "image":
        if is_frame_roi(example):
            raise ValueError("(navigation index, roi) is for stacks of images; give the ROI alone.")
        return positions_inside(example, domain.navigation_axes)
    navigation, roi = (), example
    if is_frame_roi(example):
        navigation, roi = frame_of(example[0], domain.navigation_axes), example[1]
    elif domain.navigation_axes:
        raise ValueError(
            "an ROI on a stack needs its frame: (navigation index, roi), such as "
            f"(0, {type(roi).__name__}(...))."
        )
    rows, columns = (domain.grid.centre_pixels(axis) for axis in (0, 1))
    pixels = pixels_inside(roi, domain.signal_axes, rows, columns)
    return np.array([(*navigation, *pixel) for pixel in pixels])


def frame_of(given: Any, axes: Sequence[Any]) -> tuple[int, ...]:
    """Navigation index in array order of a frame given in HyperSpy's order.

    Raises
    ------
    ValueError
        If there are too few or too many values, or one lies outside.
    """
    given = given if isinstance(given, tuple) else (given,)
    if len(given) != len(axes):
        raise ValueError(
            f"navigation index {given} should have one value for each of the {len(axes)} "
            f"navigation axes ({', '.join(map(axis_name, axes)) or 'none'})."
        )
    return tuple(index_of(value, axis) for value, axis in zip(given, axes, strict=True))[::-1]


def _region_locations(region: Region, domain: Domain) -> np.ndarray:
    """Positions of a stroke, or the chips whose centres it covers."""
    shape = domain.to_array_order(tuple(axis.size for axis in domain.axes))
    points = region.points
    if region.shape != shape:
        raise ValueError(
            f"the label map has shape {region.shape}, the data to mark have {shape} (array order)."
        )
    if domain.kind != "image":
        return points
    centres = [domain.grid.centre_pixels(axis) for axis in (0, 1)]
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
