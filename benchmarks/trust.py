"""Whether what a result says is true, as Markdown tables.

    python benchmarks/trust.py [--data ../shared/data] [--out docs/trust_table.md]
        [--only synthetic real rare demo] [--cases het p45] [--shots 1 2 5 10] [--draws 4]
        [--half 0 1 both] [--small]

Specimens with known truth and labelled tasks (see ``accuracy.py``) are classified from a few
examples of every class, with rejection and without. Examples are "clicked" (half a chip or half the
context inside the class, less where the class has too few such places) or "random" (anywhere in
it). The examples of fewer shots are among those of more. Real queries of unknown truth are masked.
On boundaries of synthetic data, where the truth is -1, the nearest class counts for the true
fractions, and labels are not judged. Only what a result offers to its user is measured.

``intervals``: share of the 95 % intervals that hold the true fraction, their half-width, the
interval score (width + 40 times the distance of the truth from the interval; lower is better), and
the error of the fraction, all in percentage points, with rejection / without.

``labels``: share of the best classes that are right, the expected calibration error of their
probability (ECE), and how many queries of known classes are rejected. Then each class in turn is
left out of the support set: how many of its queries are rejected that lie at least one chip or
context away from any boundary, and the area under the ROC curve (AUROC) of the probability of the
best class, against such queries of the other classes.

``rare``: EDS maps in which one class covers 1 % or 0.5 %, five clicked shots, without rejection.

``demo``: the specimens of ``python -m hyperspy_fewshot demo`` over 20 seeds.

``targets``: what is aimed at, beside what was measured with clicked shots.

The cases are divided into two halves by a hash of their name, so that constants can be chosen on one
and judged on the other. Half 1 is shown unless ``--half`` says otherwise; the demonstration is always
whole.
"""

import argparse
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases
import numpy as np
from cases import Case, Scene
from scipy.stats import rankdata
from trials import calibration_error

from hyperspy_fewshot.labels import REJECTED

Record = dict[str, Any]
Lines = Iterator[list[str]]

PARTS = ("synthetic", "real", "rare", "demo")
KINDS = ("images", "patterns", "patterns, context 1", "spectra", "spectra, context 1")
_DRAWN = ("clicked", "random")
# Shots of the rare classes and of the demonstration.
_SHOTS = 5
# What a missed interval adds to its score for every point: 2 / 0.05.
_MISS = 40
# With fewer interior queries, the share that is rejected says little.
_FEWEST_INTERIOR = 10


def interval_figures(
    rows: Mapping[str, Mapping[str, float]], names: tuple[str, ...], truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Judge the intervals of the classes in rows of statistics; widths in percentage points."""
    columns = ("fraction", "fraction_low", "fraction_high")
    fraction, low, high = (np.array([rows[name][c] for name in names]) for c in columns)
    missed = np.maximum(np.maximum(low - truth, truth - high), 0)
    return {
        "coverage": missed <= 1e-9,
        "half-width": 50 * (high - low),
        "score": 100 * (high - low + _MISS * missed),
        "error": 100 * abs(fraction - truth),
    }


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive score is higher than a negative one, a tie counting half."""
    n, m = len(positive), len(negative)
    if not n * m:
        return np.nan
    ranks = rankdata(np.concatenate([positive, negative]))[:n].sum()
    return float((ranks - n * (n + 1) / 2) / (n * m))


def judge(scene: Scene, support: Mapping[str, list]) -> Record:
    """Figures of the intervals and labels that follow from a support set."""
    record = {}
    for reject, suffix in ((True, ""), (False, ", all")):
        result = scene.classify(support, reject)
        figures = interval_figures(result.statistics.to_dict(), scene.names, scene.fractions)
        record |= {f"{figure}{suffix}": values for figure, values in figures.items()}
        if reject:
            record["known rejected"] = (result.labels.data[scene.known] == REJECTED).mean()
        else:
            probabilities = result.probabilities.data[:, scene.known]
            right = probabilities.argmax(axis=0) == scene.truth[scene.known]
            record["right"] = right.mean()
            record["ECE"] = calibration_error(probabilities.max(axis=0), right)
    return record


def leave_out(scene: Scene, support: Mapping[str, list]) -> Record:
    """Figures of the rejection of each class in turn that is left out of a support set."""
    found: Record = {"unknown rejected": [], "AUROC": []}
    interior = [scene.interior(k) for k in range(len(scene.names))]
    # Two other classes stay.
    for k, unknown in enumerate(interior if len(interior) > 2 else ()):
        if unknown.sum() >= _FEWEST_INTERIOR:
            others = {name: s for name, s in support.items() if name != scene.names[k]}
            result = scene.classify(others, True)
            known = np.any(interior[:k] + interior[k + 1 :], axis=0)
            score = -result.probabilities.data.max(axis=0)
            found["unknown rejected"].append((result.labels.data[unknown] == REJECTED).mean())
            found["AUROC"].append(auroc(score[unknown], score[known]))
    return found


def measure_draws(scene: Scene, options: argparse.Namespace) -> Iterator[Record]:
    """Yield a record of every draw and number of shots of a synthetic or real case."""
    # Without a context, examples that are clicked lie anywhere.
    all_drawn = _DRAWN[:1] if scene.case.settings.get("context") == 1 else _DRAWN
    for seed, drawn in itertools.product(range(options.draws), all_drawn):
        support = scene.draw(max(options.shots), seed, drawn == "clicked")
        for shots in options.shots:
            few = {name: examples[:shots] for name, examples in support.items()}
            yield {"shots": shots, "drawn": drawn, **judge(scene, few), **leave_out(scene, few)}


def measure_rare(scene: Scene, options: argparse.Namespace) -> Iterator[Record]:
    """Yield a record of every draw of a case whose last class is rare."""
    label, true = len(scene.names) - 1, scene.fractions[-1:]
    here = scene.truth == label
    for seed in range(options.draws):
        result = scene.classify(scene.draw(_SHOTS, seed, clicked=True), False)
        rows, found = result.statistics.to_dict(), result.labels.data == label
        yield {
            **interval_figures(rows, scene.names[-1:], true),
            "ratio": rows[scene.names[-1]]["fraction"] / true,
            "precision": here[found].mean() if found.any() else np.nan,
            "recall": found[here].mean(),
        }


def measure_demo(scene: Scene, options: argparse.Namespace) -> Iterator[Record]:
    """Yield a record of a specimen as the demonstration classifies it."""
    specimen, notes = scene.specimen, scene.case.notes
    support = specimen.support(_SHOTS, notes["seed"], notes["margin"])
    result = scene.classify(support, True)
    labels, known = result.labels_at_pixels().data, specimen.truth >= 0
    yield {
        **interval_figures(result.statistics.to_dict(), scene.names, scene.fractions),
        "right": (labels == specimen.truth)[known].mean(),
        "known rejected": (labels[known] == REJECTED).mean(),
        **leave_out(scene, support),
    }


_MEASURES: dict[str, Callable[[Scene, argparse.Namespace], Iterator[Record]]] = {
    "synthetic": measure_draws,
    "real": measure_draws,
    "rare": measure_rare,
    "demo": measure_demo,
}


def measure(chosen: Iterable[Case], options: argparse.Namespace) -> list[Record]:
    """Measure cases; say on standard error which one is done."""
    records = []
    for case in chosen:
        start = time.perf_counter()
        scene = Scene.of(case)
        about = {"case": case.name, "data": case.data, "kind": scene.kind, **case.notes}
        records += [about | record for record in _MEASURES[case.data](scene, options)]
        seconds = time.perf_counter() - start
        print(f"{case.name}, {scene.kind}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return records


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
                for drawn in _DRAWN:
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
        shots = self.where.get("shots", _SHOTS)
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


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases that were asked for."""
    small = options.small
    sources = {
        "synthetic": lambda: cases.synthetic(small),
        "real": lambda: cases.labelled(options.data),
        "rare": lambda: cases.rare(small),
        "demo": lambda: cases.demonstrated(small),
    }
    if "real" in options.only and not options.data.is_dir():
        print(f"There are no labelled tasks in {options.data}.", file=sys.stderr)
    for part in options.only:
        for case in sources[part]():
            in_half = small or part == "demo" or options.half in ("both", str(case.half))
            named = not options.cases or any(name in case.name for name in options.cases)
            if in_half and named:
                yield case


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--cases", nargs="*", default=[], help="parts of the names of cases")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 5, 10])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--half", choices=("0", "1", "both"), default="1", help="of the cases")
    parser.add_argument("--small", action="store_true", help="few tiny cases, to see that it runs")
    parser.add_argument(
        "--out",
        type=Path,
        help="write the intervals here, and the other tables beside them as trust_NAME_table.md",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, and print the tables."""
    options = _options()
    # HyperSpy says on standard output that numba is not installed.
    logging.getLogger("hyperspy.decorators").setLevel(logging.ERROR)
    records = measure(_cases(options), options)
    for name, table in TABLES.items():
        lines = [f"| {' | '.join(cells)} |" for cells in table(records)]
        if len(lines) == 1:
            continue
        lines.insert(1, "|---" * (lines[0].count("|") - 1) + "|")
        text = "\n".join(lines) + "\n"
        print(f"## {name.capitalize()}\n\n{text}")
        if options.out:
            path = options.out
            path = path if name == "intervals" else path.with_name(f"trust_{name}_table.md")
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
