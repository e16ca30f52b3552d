"""How well each example of a support set agrees with the others, and what is wrong with them."""

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from prettytable import PrettyTable

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.decision.contradictions import left_out_shots
from hyperspy_fewshot.decision.vectors import group_means
from hyperspy_fewshot.results.shots import SupportEmbeddings
from hyperspy_fewshot.statistics.table import as_dataframe, plain_table

# With fewer shots that can be left out, a poor result says nothing.
_LEAST_SHOTS = 6


@dataclass(frozen=True, repr=False)
class Examples:
    """Examples of a support set, judged by classifiers that were fitted without them, one by one.

    Each row has the columns

    - `class`: name of the class;
    - `example`: index of the example among those of the class, as in ``result.update(remove=...)``;
      examples that share more than half of their data count as one, the first of them;
    - `left_out`: class that it gets if it is left out; None if it is the only one of its class;
    - `margin`: score of the own class less the highest of the others; NaN likewise;
    - `contradicted`: whether the other examples contradict it, so that it is probably wrong.

    Parameters
    ----------
    rows
        One dict for every example that is independent of the others.
    """

    rows: tuple[dict[str, Any], ...]

    @classmethod
    def of(
        cls, known: SupportEmbeddings, classifier: FewShotClassifier, names: tuple[str, ...]
    ) -> Self:
        """Judge the examples that a classifier was fitted on."""
        means = group_means(known.embeddings.astype(float), known.shots)
        own = known.shot_classes >= 0
        vectors, classes = means[own] - classifier.centre, known.shot_classes[own]
        found = left_out_shots(vectors, classes, classifier.weights, classifier.bias)
        examples = [known.examples[i] for i in np.flatnonzero(own)]
        return cls(
            tuple(
                {
                    "class": names[k],
                    "example": example,
                    "left_out": names[best] if best >= 0 else None,
                    "margin": float(margin),
                    "contradicted": bool(wrong),
                }
                for k, example, best, margin, wrong in zip(
                    classes, examples, found.best, found.margins, found.wrong, strict=True
                )
            )
        )

    @classmethod
    def checked(cls, rows: Any, names: tuple[str, ...]) -> Self:
        """Build the table from rows that were saved; ValueError if they are damaged."""
        columns = {"class", "example", "left_out", "margin", "contradicted"}
        for row in rows if isinstance(rows, tuple) else (None,):
            if (
                not isinstance(row, dict)
                or set(row) != columns
                or row["class"] not in names
                or row["left_out"] not in (*names, None)
                or not isinstance(row["example"], int)
                or not isinstance(row["margin"], float)
                or not isinstance(row["contradicted"], bool)
            ):
                raise ValueError(f"the examples are damaged: {row!r:.200}")
        return cls(rows)

    @property
    def contradicted(self) -> list[dict[str, Any]]:
        """Rows of the examples that the others contradict."""
        return [row for row in self.rows if row["contradicted"]]

    def warn(self, known: SupportEmbeddings, class_names: tuple[str, ...]) -> None:
        """Warn of examples that are probably wrong, and say what to do."""
        for k, i, other in known.twins:
            name = class_names[k]
            warnings.warn(
                f"Example {i} of class {name!r} is also one of class {class_names[other]!r}. Remove it "
                f"from one of them, for instance result.update(remove={{{name!r}: {i}}}).",
                stacklevel=5,
            )
        names = dict.fromkeys(row["class"] for row in self.rows)
        judged = [row for row in self.rows if row["left_out"] is not None]
        right = sum(row["left_out"] == row["class"] for row in judged)
        if len(judged) >= _LEAST_SHOTS and right <= len(judged) / len(names):
            warnings.warn(
                f"Of {len(judged)} examples that are left out, {right} are classified correctly, no more "
                "than by chance: the encoder does not see what you mean, or the examples are wrong. Look "
                "at result.plot(); try another encoder, chip_size or context.",
                stacklevel=5,
            )
            return
        for row in self.contradicted:
            warnings.warn(
                f"Example {row['example']} of class {row['class']!r} resembles {row['left_out']!r}: the "
                "others contradict it. Look at it with result.plot(); if it is wrong, "
                f"result.update(remove={{{row['class']!r}: {row['example']}}}).",
                stacklevel=5,
            )

    def to_dataframe(self) -> Any:
        """Return the table as a :class:`pandas.DataFrame` with one row per example (needs pandas)."""
        return as_dataframe(self.rows)

    def _table(self, rows: list[dict[str, Any]]) -> PrettyTable:
        table = plain_table(["class", "example", "left out", "margin", ""])
        for row in rows:
            margin = "" if np.isnan(row["margin"]) else f"{row['margin']:.2f}"
            marked = "contradicted" * row["contradicted"]
            table.add_row([row["class"], row["example"], row["left_out"] or "", margin, marked])
        return table

    def __str__(self) -> str:
        return self._table(list(self.rows)).get_string()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._table(list(self.rows)).get_html_string()

    @property
    def summary(self) -> str:
        """Table of the examples that the others contradict, for the end of that of the statistics."""
        rows = self.contradicted
        return f"Probably wrong examples:\n{self._table(rows).get_string()}" if rows else ""
