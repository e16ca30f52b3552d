"""A grid with the axes of the data that it lies on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hyperspy.axes import AxesManager
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.grids.protocol import Grid


class Domain:
    """The space in which support examples are located and labels are drawn.

    All axes are in HyperSpy's order, x first.

    Attributes
    ----------
    grid
        Where the queries lie.
    axis_dictionaries
        The axes of the data in array order.
    is_image
        Whether labels lie on the signal axes; otherwise on the navigation axes.
    navigation_axes, signal_axes
        The axes of the data.
    axes
        Axes that a position is given on.
    map_axes
        Axes (x, y), or (x,), of the data that a label map covers.
    frame_axes
        Axes over which there are several label maps.
    """

    def __init__(self, grid: Grid, axis_dictionaries: Sequence[dict[str, Any]]):
        self.grid, self.axis_dictionaries = grid, tuple(axis_dictionaries)
        manager = AxesManager([dict(axis) for axis in axis_dictionaries])
        self.navigation_axes, self.signal_axes = manager.navigation_axes, manager.signal_axes
        self.is_image = grid.kind == "image"
        if self.is_image:
            self.map_axes, self.frame_axes = self.signal_axes, self.navigation_axes
            self.axes = self.navigation_axes + self.signal_axes
        else:
            self.map_axes, self.frame_axes = self.navigation_axes[:2], self.navigation_axes[2:]
            self.axes = self.navigation_axes

    @classmethod
    def of(cls, grid: Grid, signal: BaseSignal) -> "Domain":
        """Take the axes of a signal."""
        return cls(grid, [axis_dictionary(axis) for axis in signal.axes_manager._axes])

    def __reduce__(self) -> tuple[Any, ...]:
        # The axes cannot be pickled themselves.
        return Domain, (self.grid, self.axis_dictionaries)

    def on(self, grid: Grid) -> "Domain":
        """Return the same axes with another grid."""
        return Domain(grid, self.axis_dictionaries)

    def to_array_order(self, index: Sequence[int]) -> tuple[int, ...]:
        """Turn an index on `axes` into array order."""
        n = len(self.navigation_axes)
        return tuple(index[:n][::-1]) + tuple(index[n:][::-1])

    def location_of(self, cell: Sequence[int]) -> tuple[int, ...]:
        """Location in the data of a cell of a label map, both in array order."""
        if not self.is_image:
            return tuple(map(int, cell))
        *frame, row, column = cell
        rows, columns = self.cells_of_map()
        return (*map(int, frame), int(rows[row]), int(columns[column]))

    def position_of(self, cell: Sequence[int]) -> tuple[int, ...]:
        """Index on `axes`, x before y, of a cell of a label map, which is in array order."""
        # Reversing the order of either kind of axes twice leaves it as it is.
        location, n = self.location_of(cell), len(self.navigation_axes)
        return (*location[:n][::-1], *location[n:][::-1])

    def on_map(self, position: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Split a position on `axes` into that of the frame and that on the map."""
        n = len(self.frame_axes) if self.is_image else 2
        parts = position[:n], position[n:]
        return parts if self.is_image else parts[::-1]

    def cells_of_map(self) -> list[np.ndarray]:
        """Locations of the cells along the rows and columns of a label map, array order."""
        return [self.grid.locations(axis) for axis in range(len(self.map_axes))]


def axis_dictionary(axis: Any) -> dict[str, Any]:
    """Describe an axis by numbers: one with an expression by its values, which can be saved."""
    described = axis.get_axis_dictionary()
    if "expression" not in described:
        return described
    kept = {key: described[key] for key in ("name", "units", "navigate", "is_binned")}
    return {"_type": "DataAxis", **kept, "axis": axis.axis}
