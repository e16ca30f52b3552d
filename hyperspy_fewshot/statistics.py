"""Statistics of a label map: counts, fractions, areas, regions, confidence."""

from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from scipy import ndimage

from .prototypes import MASKED, REJECTED

_COLUMNS = (
    "count", "fraction", "fraction_low", "fraction_high", "area", "regions", "region_area",
    "confidence",
)  # fmt: skip


@dataclass(frozen=True)
class Statistics:
    """How much of each class there is.

    One row a class, then "rejected" and "masked". Fractions are of what is
    not masked; rejected queries count in it. Areas are those of the pixels
    that the cells cover inside the image.

    Parameters
    ----------
    rows
        For every name a dict: `count` (cells or positions), `fraction`,
        `fraction_low` and `fraction_high` (nominal 95 % interval, see
        :func:`label_statistics`), `area`, `regions` (connected over edges),
        `region_area` (their mean), `confidence` (mean).
    units
        Units of the areas.
    frames
        The same for every frame of a stack, by navigation index in array
        order; empty for a single map.
    """

    rows: dict[str, dict[str, float]]
    units: str
    frames: dict[tuple[int, ...], "Statistics"] = field(default_factory=dict, repr=False)

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of every class."""
        return {n: r["fraction"] for n, r in self.rows.items() if n not in ("rejected", "masked")}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return name to values, as plain Python numbers."""
        return {name: dict(row) for name, row in self.rows.items()}

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame, one row a class.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_dataframe() needs pandas: pip install pandas") from error
        return pandas.DataFrame.from_dict(self.rows, orient="index", columns=list(_COLUMNS))

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["class", "count", "fraction", "95 % interval", f"area [{self.units}]", "regions"]
        head += [f"mean region [{self.units}]", "confidence"]
        body = []
        for name, row in self.rows.items():
            if name in ("rejected", "masked") and not row["count"]:
                continue
            interval = f"{100 * row['fraction_low']:.1f} - {100 * row['fraction_high']:.1f} %"
            body.append(
                [
                    name,
                    f"{row['count']:d}",
                    _percent(row["fraction"]),
                    "" if np.isnan(row["fraction_low"]) else interval,
                    f"{row['area']:.4g}",
                    f"{row['regions']:d}",
                    f"{row['region_area']:.4g}",
                    "" if np.isnan(row["confidence"]) else f"{row['confidence']:.3f}",
                ]
            )
        return head, body

    def __str__(self) -> str:
        head, body = self._table()
        widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (head, ["-" * width for width in widths], *body)
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, body = self._table()
        rows = [
            "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in (("th", head), *(("td", row) for row in body))
        ]
        return f"<table>{''.join(rows)}</table>"


def label_statistics(
    labels: np.ndarray,
    confidence: np.ndarray,
    class_names: tuple[str, ...],
    *,
    cell_areas: np.ndarray,
    area_scale: float = 1.0,
    units: str = "px²",
    overlap: float = 1.0,
    frames: int = 0,
) -> Statistics:
    """Compute the statistics of a label map.

    Parameters
    ----------
    labels
        Classes 0 to K - 1, -1 rejected, -2 masked, shape (*nav, *map).
    confidence
        Probability of each label's class, the same shape, NaN where none.
    class_names
        Names of the K classes.
    cell_areas
        Pixels that every cell of a map covers, shape `map`.
    area_scale
        Area of a pixel in `units`.
    units
        Units of the areas.
    overlap
        Number of neighbouring labels that rest on the same data.
    frames
        Number of leading axes of a stack, for statistics of every frame.

    Notes
    -----
    The interval of a class is ``fraction ± 1.96 s`` with ``s² = overlap *
    sum(a² p (1 - p)) / (sum a)²`` over the labels of all classes, with a the
    area and p the probability that the label is of the class: its confidence
    c, or (1 - c) / (K - 1) where it is of another one. Labels are wrong
    independently, except for those that share their data. It says nothing of
    errors that all labels share, such as a class missing in the support set.
    """
    weights = np.broadcast_to(cell_areas, labels.shape).astype(float)
    total = weights[labels != MASKED].sum() or np.nan
    others = (1 - confidence) / max(len(class_names) - 1, 1)
    rows = {}
    names = [*class_names, "rejected", "masked"]
    for value, name in zip([*range(len(class_names)), REJECTED, MASKED], names, strict=True):
        here = labels == value
        area = weights[here].sum()
        is_class = value >= 0
        sure = confidence[here] if is_class else np.empty(0)
        fraction = float(area / total) if value != MASKED else np.nan
        low = high = np.nan
        if is_class:
            p = np.where(here, confidence, others)[labels >= 0]
            spread = np.sqrt(overlap * (weights[labels >= 0] ** 2 * p * (1 - p)).sum()) / total
            low, high = max(fraction - 1.96 * spread, 0.0), min(fraction + 1.96 * spread, 1.0)
        regions = _count_regions(here, frames)
        rows[name] = {
            "count": int(here.sum()),
            "fraction": fraction,
            "fraction_low": float(low),
            "fraction_high": float(high),
            "area": float(area * area_scale),
            "regions": regions,
            "region_area": float(area * area_scale / regions) if regions else 0.0,
            "confidence": float(sure.mean()) if sure.size else np.nan,
        }
    options = {
        "cell_areas": cell_areas, "area_scale": area_scale, "units": units, "overlap": overlap,
    }  # fmt: skip
    parts = {
        index: label_statistics(labels[index], confidence[index], class_names, **options)
        for index in (np.ndindex(labels.shape[:frames]) if frames else ())
    }
    return Statistics(rows, units, parts)


def _count_regions(mask: np.ndarray, frames: int) -> int:
    """Regions connected over edges, never from frame to frame."""
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    for axis in range(frames):
        ends = [slice(None)] * mask.ndim
        for end in (0, 2):
            ends[axis] = end
            structure[tuple(ends)] = False
    return int(ndimage.label(mask, structure)[1])


def _percent(fraction: float) -> str:
    return "" if np.isnan(fraction) else f"{100 * fraction:.2f} %"
