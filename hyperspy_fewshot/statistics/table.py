"""The statistics of a label map as a table."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prettytable import HRuleStyle, PrettyTable, VRuleStyle

_NO_CLASS = ("rejected", "masked")


@dataclass(frozen=True)
class Statistics:
    """How much of each class there is in a label map.

    The table has one row per class, and the rows "rejected" and "masked". Its columns are

    - `count`: number of labels.
    - `fraction`: area of the class divided by the area of everything that is not masked. Rejected
      labels count as not masked. NaN in the row "masked".
    - `fraction_low`, `fraction_high`: nominal 95 % interval of the fraction, see
      :func:`label_statistics`. NaN in the rows "rejected" and "masked".
    - `area`: area of the pixels or positions that the labels cover inside the image, in `units`.
    - `regions`: number of regions, the connected components of the class. Labels are connected
      through edges, not through corners, and never from frame to frame.
    - `region_area`: mean area of a region, in `units`; 0 if there is none.
    - `confidence`: mean confidence of the labels. NaN if there are none, and in the rows "rejected"
      and "masked".

    Parameters
    ----------
    rows
        Maps the name of every row to a dict of its columns.
    units
        Units of the areas.
    frames
        Statistics of every frame of a stack, by navigation index in array order;
        empty for a single map.
    """

    rows: dict[str, dict[str, float]]
    units: str
    frames: dict[tuple[int, ...], "Statistics"] = field(default_factory=dict, repr=False)

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of every class, between 0 and 1."""
        return {name: row["fraction"] for name, row in self.rows.items() if name not in _NO_CLASS}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return a copy of the rows, as plain Python numbers."""
        return {name: dict(row) for name, row in self.rows.items()}

    def to_dataframe(self) -> Any:
        """Return the table as a :class:`pandas.DataFrame` with one row per class (needs pandas)."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_dataframe() needs pandas: pip install pandas") from error
        return pandas.DataFrame.from_dict(self.rows, orient="index")

    def _table(self) -> PrettyTable:
        """Table for people; leaves out "rejected" and "masked" where there are none."""
        table = PrettyTable(
            ["class", "count", "fraction", "95 % interval", f"area [{self.units}]", "regions",
             f"mean region [{self.units}]", "confidence"],
            hrules=HRuleStyle.HEADER, vrules=VRuleStyle.NONE, junction_char="-",
        )  # fmt: skip
        table.align = "r"
        table.align["class"] = "l"
        for name, row in self.rows.items():
            if row["count"] or name not in _NO_CLASS:
                table.add_row([name, *_format(row)])
        return table

    def __str__(self) -> str:
        return self._table().get_string()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table().get_html_string()


def _format(row: dict[str, float]) -> list[str]:
    """Format the columns of one row; NaN becomes an empty cell."""
    low, high = 100 * row["fraction_low"], 100 * row["fraction_high"]
    return [
        f"{row['count']:d}",
        "" if np.isnan(row["fraction"]) else f"{100 * row['fraction']:.2f} %",
        "" if np.isnan(low) else f"{low:.1f} - {high:.1f} %",
        f"{row['area']:.4g}",
        f"{row['regions']:d}",
        f"{row['region_area']:.4g}",
        "" if np.isnan(row["confidence"]) else f"{row['confidence']:.3f}",
    ]
