"""What an audit says: fractions, accuracies and the confusion matrix."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from prettytable import PrettyTable

from hyperspy_fewshot.statistics.audit import Judged
from hyperspy_fewshot.statistics.table import as_dataframe, plain_table


@dataclass(frozen=True, eq=False, repr=False)
class AuditStatistics:
    """Unbiased estimates from the places of an audit that are judged, with 95 % intervals.

    The rows are the classes and "rejected", which stands for what belongs to no class. All columns
    are shares between 0 and 1:

    - `fraction`, `fraction_low`, `fraction_high`: share of the area that belongs to the class, also
      where the label is another one;
    - `users_accuracy` with `_low` and `_high`: share of the area with this label that belongs to the
      class (precision);
    - `producers_accuracy` with `_low` and `_high`: share of the area of the class that has its label
      (recall).

    Accuracies leave out what could not be told; the intervals of fractions hold both cases.

    Parameters
    ----------
    rows
        Maps the name of every row to a dict of its columns.
    accuracy
        Share of the area whose label is right, with the ends of its interval.
    confusion
        Shares of the area, shape (n, n): labels in rows, judgements in columns.
    cannot_tell
        Share of the area that could not be told.
    n_judged
        Number of places that are judged.
    n_cells
        Number of cells that can be drawn.
    """

    rows: dict[str, dict[str, float]]
    accuracy: tuple[float, float, float]
    confusion: np.ndarray
    cannot_tell: float
    n_judged: int
    n_cells: int

    @classmethod
    def of(cls, judged: Judged, names: tuple[str, ...]) -> Self:
        """Evaluate judged places; `names` are those of their classes and labels."""
        estimates, low, high = judged.fractions()
        told = judged.classes >= 0
        right = told & (judged.classes == judged.labels)
        rows = {}
        for k, name in enumerate(names):
            columns = {
                "fraction": (estimates[k], low[k], high[k]),
                "users_accuracy": judged.share(right, told & (judged.labels == k)),
                "producers_accuracy": judged.share(right, told & (judged.classes == k)),
            }
            rows[name] = {
                f"{column}{end}": float(value)
                for column, values in columns.items()
                for end, value in zip(("", "_low", "_high"), values, strict=True)
            }
        return cls(
            rows=rows,
            accuracy=judged.share(right, told),
            confusion=judged.confusion(len(names)),
            cannot_tell=judged.cannot_tell,
            n_judged=len(judged.classes),
            n_cells=int(judged.sizes.sum()),
        )

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of every class, without "rejected"."""
        return {name: row["fraction"] for name, row in list(self.rows.items())[:-1]}

    @property
    def places_to_halve(self) -> int:
        """How many more places halve the intervals: four times as many do."""
        return min(3 * self.n_judged, self.n_cells - self.n_judged)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return a copy of the rows, as plain Python numbers."""
        return {name: dict(row) for name, row in self.rows.items()}

    def to_dataframe(self) -> Any:
        """Return the table as a :class:`pandas.DataFrame` with one row per class (needs pandas)."""
        return as_dataframe(self.rows)

    def _table(self) -> PrettyTable:
        table = plain_table(
            ["class", "fraction", "95 % interval", "user's accuracy", "producer's accuracy"]
        )
        for name, row in self.rows.items():
            ends = f"{100 * row['fraction_low']:.1f} - {100 * row['fraction_high']:.1f} %"
            shares = [_share(row, column) for column in ("users_accuracy", "producers_accuracy")]
            table.add_row([name, f"{100 * row['fraction']:.1f} %", ends, *shares])
        return table

    @property
    def _summary(self) -> str:
        right, low, high = (100 * value for value in self.accuracy)
        told = f"; {100 * self.cannot_tell:.1f} % cannot be told" if self.cannot_tell else ""
        return (
            f"{self.n_judged} place{'s' * (self.n_judged != 1)} judged, "
            f"{right:.1f} % of the area right ({low:.1f} - {high:.1f} %){told}."
            f" {self.places_to_halve} more places would halve the intervals."
        )

    def __str__(self) -> str:
        if not self.n_judged:
            return "No place is judged yet."
        return f"{self._table().get_string()}\n{self._summary}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"{self._table().get_html_string()}<p>{self._summary if self.n_judged else self}</p>"


def _share(row: dict[str, float], column: str) -> str:
    if np.isnan(row[column]):
        return ""
    low, high = (100 * row[f"{column}{end}"] for end in ("_low", "_high"))
    return f"{100 * row[column]:.0f} % ({low:.0f} - {high:.0f})"
