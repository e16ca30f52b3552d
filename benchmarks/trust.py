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
from pathlib import Path

import cases
import numpy as np
from cases import Case, Scene
from scipy.stats import rankdata
from trials import calibration_error
from trust_tables import DRAWN, SHOTS, TABLES, Record

from hyperspy_fewshot.labels import REJECTED

PARTS = ("synthetic", "real", "rare", "demo")
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
    all_drawn = DRAWN[:1] if scene.case.settings.get("context") == 1 else DRAWN
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
        result = scene.classify(scene.draw(SHOTS, seed, clicked=True), False)
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
    support = specimen.support(SHOTS, notes["seed"], notes["margin"])
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
