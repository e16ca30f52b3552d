"""The instances of a class: where they are, and how many."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes

from hyperspy_fewshot.statistics.peaks import count_interval, find_peaks, is_instance
from hyperspy_fewshot.statistics.table import as_dataframe, plain_table
from hyperspy_fewshot.support.locate import frame_of
from hyperspy_fewshot.support.rois import units_of

# Positions over which the label of something as small as a position spreads.
_SIDE_OF_POSITIONS = 3


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Instances of a class, such as defects of a lattice or particles, one row each.

    They are peaks of the probability of the class, at least half a chip apart; of scans, at least two
    positions. Touching instances without a valley between them count as one.

    Parameters
    ----------
    name
        The class.
    rows
        Calibrated coordinates by the names of the axes, the index of the frame of a stack, and `score`,
        the highest probability.
    count
        Number of instances, with the ends of its 95 % interval.
    axes
        Names and units of the coordinates, x first.
    result
        What was classified.
    """

    name: str
    rows: tuple[dict[str, float], ...]
    count: tuple[int, float, float]
    axes: tuple[str, ...]
    result: Any

    @classmethod
    def of(cls, result: Any, name: str) -> Self:
        """Find the instances of a class of a computed result."""
        k, domain = result.class_names.index(name), result.domain
        grid, axes = domain.grid, domain.map_axes
        side = grid.side / grid.stride if domain.is_image else _SIDE_OF_POSITIONS
        values = np.where(result.labels.data == -1, 0, result.probabilities.data[k])
        names = [f"{'xy'[i]} [{units_of(axis) or 'px'}]" for i, axis in enumerate(axes)]
        rows, scores = [], []
        for frame in np.ndindex(values.shape[: values.ndim - len(axes)]):
            cells, heights = find_peaks(values[frame], side)
            scores.append(heights)
            for cell, height in zip(cells, heights, strict=True):
                if is_instance(height):
                    rows.append(_row((*frame, *cell), height, domain, names, frame))
        fraction = result.fractions[name]
        spread = 0.0 if result.spread is None or not fraction else result.spread[k] / fraction
        count = count_interval(np.concatenate(scores), float(spread))
        return cls(name, tuple(rows), count, tuple(names), result)

    def to_dataframe(self) -> Any:
        """Return the table as a :class:`pandas.DataFrame` with one row per instance (needs pandas)."""
        return as_dataframe(self.rows)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Mark the instances on the label map; options are those of :meth:`FewShotResult.plot`."""
        ax, frames = self.result.plot(ax, **options), self.result.domain.frame_axes
        frame = options.get("frame")
        index = frame_of((0,) * len(frames) if frame is None else frame, frames)
        shown = [row for row in self.rows if _frame(index).items() <= row.items()]
        x, y = ([row.get(name, 0.5) for row in shown] for name in (*self.axes, "")[:2])
        ax.plot(x, y, linestyle="", marker="o", markersize=7, fillstyle="none", color="black")
        return ax

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        count, low, high = self.count
        head = f"{self.name}: {count} instances, 95 % interval {low:.0f} - {high:.0f}"
        if not self.rows:
            return head
        table = plain_table(list(self.rows[0]))
        table.float_format = ".4"
        table.add_rows([list(row.values()) for row in self.rows])
        return f"{head}\n{table.get_string()}"

    __repr__ = __str__


def _row(
    cell: tuple[int, ...], height: float, domain: Any, names: list[str], frame
) -> dict[str, Any]:
    location = domain.location_of(cell)[::-1]
    values = [float(a.index2value(i)) for a, i in zip(domain.map_axes, location, strict=False)]
    return {**_frame(frame), **dict(zip(names, values, strict=True)), "score": float(height)}


def _frame(index: tuple[int, ...]) -> dict[str, Any]:
    """Column of the frame, given in array order; none if there is one map only."""
    return {"frame": index[0] if len(index) == 1 else index[::-1]} if index else {}
