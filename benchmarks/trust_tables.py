"""Tables of what ``trust.py`` measures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = dict[str, Any]
Lines = Iterator[list[str]]

KINDS = ("images", "patterns", "patterns, context 1", "spectra", "spectra, context 1")
DRAWN = ("clicked", "random")
# Shots of the rare classes and of the demonstration.
SHOTS = 5


def values_of(records: Iterable[Record], figure: str) -> np.ndarray:
    """All values of a figure that are not NaN, of all classes, shape (n,)."""
    values = [np.ravel(record[figure]) for record in records if figure in record]
    joined = np.concatenate([[], *values])
    return joined[~np.isnan(joined)]


def matching(records: Iterable[Record], **conditions: Any) -> list[Record]:
    """Records that agree with all conditions."""
    return [r for r in records if all(r.get(key) == value for key, value in conditions.items())]


def _shown(records: list[Record], figure: str, reduce: Callable = np.mean, digits: int = 2) -> str:
    values = values_of(records, figure)
    return f"{reduce(values):.{digits}f}" if len(values) else ""


def _percent(records: list[Record], figure: str, reduce: Callable = np.mean) -> str:
    values = values_of(records, figure)
    return f"{100 * reduce(values):.1f} %" if len(values) else ""


def _count(records: list[Record]) -> str:
    return str(len({record["case"] for record in records}))


def _groups(records: list[Record]) -> Iterator[tuple[list[str], list[Record]]]:
    """Yield the first cells of a line, and its records."""
    for data in ("synthetic", "real"):
        for kind in KINDS:
            of_kind = matching(records, data=data, kind=kind)
            for shots in sorted({record["shots"] for record in of_kind}):
                for drawn in DRAWN:
                    found = matching(of_kind, shots=shots, drawn=drawn)
                    if found:
                        yield [data, kind, _count(found), str(shots), drawn], found


_FIRST = ["data", "kind", "cases", "shots", "examples"]


def intervals(records: list[Record]) -> Lines:
    """Yield the lines of the table of the intervals, with rejection / without."""
    columns = {"coverage": 2, "half-width": 1, "score": 1, "error": 1}
    yield [*_FIRST, "coverage", *(f"{name} [points]" for name in list(columns)[1:])]
    for first, found in _groups(records):
        yield [
            *first,
            *(
                " / ".join(_shown(found, f"{name}{end}", digits=n) for end in ("", ", all"))
                for name, n in columns.items()
            ),
        ]


def labels(records: list[Record]) -> Lines:
    """Yield the lines of the table of labels, confidence and rejection."""
    shares = ("right", "known rejected", "unknown rejected")
    yield [*_FIRST, "ECE", *shares, "AUROC"]
    for first, found in _groups(records):
        shown = [_percent(found, name) for name in shares]
        yield [*first, _shown(found, "ECE", digits=3), *shown, _shown(found, "AUROC", digits=3)]


def rare(records: list[Record]) -> Lines:
    """Yield the lines of the table of rare classes."""
    figures = ("precision", "recall", "coverage")
    yield ["share", "radius", "kind", "cases", "fraction / truth", *figures, "half-width [points]"]
    found = matching(records, data="rare")
    for share in sorted({record["share"] for record in found}, reverse=True):
        for radius in (*sorted({record["radius"] for record in found}), "all"):
            for kind in KINDS[3:]:
                here = matching(found, share=share, kind=kind)
                here = here if radius == "all" else matching(here, radius=radius)
                yield [
                    f"{100 * share:g} %", str(radius), kind, _count(here),
                    _shown(here, "ratio", np.median), *(_shown(here, name) for name in figures),
                    _shown(here, "half-width"),
                ]  # fmt: skip


def demo(records: list[Record]) -> Lines:
    """Yield the lines of the table of the demonstration."""
    yield ["specimen", "seeds", "right", "known rejected", "intervals that hold",
           "left out, rejected", "worst"]  # fmt: skip
    found = matching(records, data="demo")
    for name in (*dict.fromkeys(record["case"] for record in found), *["all"] * bool(found)):
        here = found if name == "all" else matching(found, case=name)
        hold = values_of(here, "coverage")
        yield [
            name.replace("_", " "), str(len(here)), _percent(here, "right"),
            _percent(here, "known rejected"), f"{hold.sum():.0f} of {len(hold)}",
            _percent(here, "unknown rejected"), _percent(here, "unknown rejected", np.min),
        ]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What a figure should be: `low` to `high`, by the first word of the kind or for "all"."""

    what: str
    figure: str
    where: Mapping[str, Any]
    low: Mapping[str, float] | None = None
    high: Mapping[str, float] | None = None
    reduce: Callable = np.mean

    def line(self, records: list[Record]) -> list[str]:
        """Name, cases, shots and, by kind, what was measured (the target); bold if missed."""
        found = matching(records, **self.where)
        cells = [self._cell(matching(found, kind=kind), kind.split(",")[0]) for kind in KINDS]
        shots = self.where.get("shots", SHOTS)
        return [self.what, self.where["data"], str(shots), *cells, self._cell(found, "all")]

    def _cell(self, found: list[Record], kind: str) -> str:
        values = values_of(found, self.figure)
        low, high = ((bound or {}).get(kind) for bound in (self.low, self.high))
        if not len(values) or (low is None and high is None):
            return ""
        measured = self.reduce(values)
        missed = (low is not None and measured < low) or (high is not None and measured > high)
        bound = f"≤ {high:g}" if low is None else f"≥ {low:g}"
        bound = bound if low is None or high is None else f"{low:g} to {high:g}"
        mark = "**" if missed else ""
        return f"{mark}{measured:.3f}{mark} ({bound})"


def _by_kind(images: float, patterns: float, spectra: float) -> dict[str, float]:
    return {"images": images, "patterns": patterns, "spectra": spectra}


def _targets() -> Iterator[Target]:
    """Yield what is aimed at."""
    each = _by_kind(0.94, 0.94, 0.94)
    at_least = {"synthetic": each, "real": _by_kind(0.88, 0.88, 0.88) | {"all": 0.93}}
    errors = {"synthetic": _by_kind(0.02, 0.01, 0.02), "real": _by_kind(0.06, 0.03, 0.02)}
    rejected = {5: _by_kind(0.85, 0.93, 0.85), 1: _by_kind(0.65, 0.75, 0.75)}
    for data in ("synthetic", "real"):
        clicked = {"data": data, "drawn": "clicked"}
        for shots in (5, 1, 2, 10):
            where = {**clicked, "shots": shots}
            yield Target("coverage", "coverage", where, at_least[data])
        where = {**clicked, "shots": 5}
        known = _by_kind(0.04, 0.02, 0.05)
        yield Target("known, rejected", "known rejected", where, high=known)
        for shots, low in rejected.items():
            where = {**clicked, "shots": shots}
            yield Target("unknown, rejected", "unknown rejected", where, low)
        yield Target("ECE", "ECE", {**clicked, "shots": 5}, high=errors[data])
    for share in (0.01, 0.005):
        where, name = {"data": "rare", "share": share}, f"rare, {100 * share:g} %"
        bounds = {"spectra": 0.8}, {"spectra": 1.25}
        yield Target(f"{name}: fraction / truth", "ratio", where, *bounds, np.median)
        yield Target(f"{name}: precision", "precision", where, {"spectra": 0.75})
        yield Target(f"{name}: recall", "recall", where, {"spectra": 0.7})
    where = {"data": "demo"}
    yield Target("right", "right", where, {"all": 0.98})
    yield Target("known, rejected", "known rejected", where, high={"all": 0.01})
    yield Target("coverage", "coverage", where, {"all": 0.93})
    yield Target("unknown, rejected", "unknown rejected", where, {"all": 0.95})
    yield Target("unknown, rejected, worst", "unknown rejected", where, {"all": 0.8}, reduce=np.min)


def targets(records: list[Record]) -> Lines:
    """Yield the lines of the table of what is aimed at."""
    yield ["measured (target)", "data", "shots", *KINDS, "all"]
    for target in _targets():
        line = target.line(records)
        if any(line[3:]):
            yield line


TABLES = {f.__name__: f for f in (targets, intervals, labels, rare, demo)}
