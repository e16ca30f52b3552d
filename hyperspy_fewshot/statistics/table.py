"""The statistics of a label map as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prettytable import HRuleStyle, PrettyTable, VRuleStyle

_NO_CLASS = ("rejected", "masked")


def as_dataframe(rows: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> Any:
    """Return rows, by name or in a sequence, as a :class:`pandas.DataFrame` (needs pandas)."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_dataframe() needs pandas: pip install pandas") from error
    if isinstance(rows, Mapping):
        return pandas.DataFrame.from_dict(rows, orient="index")
    return pandas.DataFrame(list(rows))


def plain_table(columns: Sequence[str]) -> PrettyTable:
    """Return an empty table with a rule under its head; names on the left, numbers on the right."""
    table = PrettyTable(
        columns, hrules=HRuleStyle.HEADER, vrules=VRuleStyle.NONE, junction_char="-"
    )
    table.align = "r"
    table.align[columns[0]] = "l"
    return table


@dataclass(frozen=True)
class Statistics:
    """How much of each class there is in a label map.

    The table has one row per class, and the rows "rejected" and "masked". Its columns are

    - `count`: number of labels.
    - `fraction`: area of the class divided by the area of everything that is not masked. Rejected
      labels count as not masked. NaN in the row "masked".
    - `fraction_low`, `fraction_high`: 95 % interval of the fraction; its parts are in
      :meth:`explain`. NaN in the rows "rejected" and "masked".
    - `area`: area of the pixels or positions that the labels cover inside the image, in `units`.
    - `regions`: number of regions, the connected components of the class. Labels are connected
      through edges, not through corners, and never from frame to frame.
    - `region_area`: mean area of a region, in `units`; 0 if there is none.
    - `confidence`: mean confidence of the labels. NaN if there are none, and in the rows "rejected"
      and "masked".
    - `shots`: number of shots of the class that do not share most of their data; 0 if it is not
      known. With one shot, little is known of how much the examples of a class vary.

    Parameters
    ----------
    rows
        Maps the name of every row to a dict of its columns.
    units
        Units of the areas.
    frames
        Statistics of every frame of a stack, by navigation index in array order;
        empty for a single map.
    parts
        Estimates of the fraction of every class and parts of its interval, see :meth:`explain`.
    """

    rows: dict[str, dict[str, float]]
    units: str
    frames: dict[tuple[int, ...], "Statistics"] = field(default_factory=dict, repr=False)
    parts: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of every class, between 0 and 1."""
        return {name: row["fraction"] for name, row in self.rows.items() if name not in _NO_CLASS}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return a copy of the rows, as plain Python numbers."""
        return {name: dict(row) for name, row in self.rows.items()}

    def to_dataframe(self) -> Any:
        """Return the table as a :class:`pandas.DataFrame` with one row per class (needs pandas)."""
        return as_dataframe(self.rows)

    def explain(self) -> "Explanation":
        """Return what the fractions and their intervals are made of, as a table.

        Its columns, between 0 and 1 in ``to_dict()``, are three estimates of the fraction,

        - `fraction`: share of the labels, as in the statistics,
        - `mean_probability`: mean probability of the class where nothing is rejected,
        - `frequency`: class frequency under which the probabilities are most likely
          (expectation maximisation; M. Saerens et al., Neural Comput. 14, 21 (2002)),

        and half-widths. The interval extends by the root of the sum of their squares below the
        lowest and above the highest estimate.

        - `of_labels`: scatter of labels that are wrong as often as their probabilities say,
        - `of_shots`: choice of the shots, from leaving out each of them (jackknife),
        - `of_ambiguity`: probability of other classes than that of the label,
        - `of_boundary`: area of labels beside another class,
        - `of_rejection`: rejected area whose best class this is.
        """
        return Explanation(self.parts)

    def _table(self) -> PrettyTable:
        """Table for people; leaves out "rejected" and "masked" where there are none."""
        table = plain_table(
            ["class", "count", "fraction", "95 % interval", f"area [{self.units}]", "regions",
             f"mean region [{self.units}]", "confidence"]
        )  # fmt: skip
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
        "" if np.isnan(low) else f"{low:.1f} - {high:.1f} %" + ", one shot" * (row["shots"] == 1),
        f"{row['area']:.4g}",
        f"{row['regions']:d}",
        f"{row['region_area']:.4g}",
        "" if np.isnan(row["confidence"]) else f"{row['confidence']:.3f}",
    ]


@dataclass(frozen=True)
class Explanation:
    """What fractions and their intervals are made of, see :meth:`Statistics.explain`.

    Parameters
    ----------
    parts
        Maps the name of every class to a dict of its columns.
    """

    parts: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return a copy of the columns of every class, as plain Python numbers."""
        return {name: dict(row) for name, row in self.parts.items()}

    def _table(self) -> PrettyTable:
        columns = next(iter(self.parts.values()), {})
        table = plain_table(["[%]", *(key.replace("_", " ") for key in columns)])
        for name, row in self.parts.items():
            table.add_row([name, *(f"{100 * value:.2f}" for value in row.values())])
        return table

    def __str__(self) -> str:
        return self._table().get_string()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table().get_html_string()
