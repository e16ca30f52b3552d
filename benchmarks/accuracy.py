"""Accuracy on labelled data, as Markdown tables.

    python benchmarks/accuracy.py [--data ../shared/data] [--out docs/accuracy_table.md]
        [--only accuracy cross_image dose pixel] [--tasks p45 sto]
        [--shots 1 2 5 10] [--draws 20] [--pixel-draws 4] [--fine]
        [--encoders fourier pca timm:resnet18 mine.pt2 --trusted --input-size 64]

A task is a folder with ``image.npy`` (rows, columns) or ``data.npy`` (rows, columns, signal axes),
``labels.npy`` (0: unknown, 1 to K: the classes) and ``meta.json``, which holds the names of the
``classes`` and, for images, the chip size as ``trivial_baseline_chip``.

``accuracy`` is the fair trial. Queries are the pixels at the centres of cells of a quarter of the
task's chip size, or all positions of a scan. Classes count that have at least 30 queries and cover
1 % of the area. Support examples are queries drawn with the seeds 0 to draws - 1. Queries that are
nearer to one of them than half the task's chip size, or inside the widest context, are left out. All
this is the same for all methods. The default encoder has its own chip size, stride and context, the
others have the task's chip size at a stride of a quarter. Nothing is rejected. The figure is the
balanced accuracy of the labels that a result has at the queries, mean and standard deviation over
the draws, with the expected calibration error (ECE).

The table ``comparison`` follows from it. It shows, for groups of tasks, the means at 1 and 5 shots, and the
tasks where the default encoder is behind the best of the other bundled methods: where the 95 %
interval (paired t) of the difference lies wholly beyond 3 points at 1 shot, or 1 point at 5.

``cross_image`` takes queries from each ``nasa_superalloy/difftest*`` and support from the ``spot*``
images in turn. The recipe learnt on one is used on the other with ``standardise=True``.

``dose`` takes ``pychip/sto_ge`` with its ``published.json`` and thins its counts. ``--fine`` also
counts wrong regions at a stride of 8 px.

``pixel`` judges every labelled pixel, see ``pixels.py``. It needs scikit-learn:
``pip install -c constraints.txt -e ".[benchmarks]"``.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import comparison
import dose
import numpy as np
import pixels
from comparison import Figures
from tasks import Embedded, Intensity, Method, Task, baseline, encoders_for
from trials import trial

from hyperspy_fewshot.encoders import Encoder

Lines = Iterator[list[str]]
Pairs = Iterator[tuple[list[Method], list[Method]]]
_TABLES = ("accuracy", "cross_image", "dose", "pixel")
_PUBLISHED = "pychip/sto_ge"
# Images with the same classes: where the support examples and where the queries are.
_SOURCES, _TARGETS = "nasa_superalloy/spot", "nasa_superalloy/difftest"


def accuracy(
    folders: list[Path], options: argparse.Namespace, trials: dict[tuple[str, str], Figures]
) -> Lines:
    """Yield the lines of the table of the fair trial, and keep the figures of every task."""
    yield _header(options)
    for folder in folders:
        task, methods, seconds = Task.load(folder), {}, {}
        for name, encoder in _encoders(task.kind, options):
            start = time.perf_counter()
            methods[name] = Embedded.of(task, encoder)
            seconds[name] = time.perf_counter() - start
        name, methods[name] = baseline(task)
        reach = task.reach(method.side for method in methods.values())
        found = trials[task.kind, task.name] = {}
        for name, method in methods.items():
            start = time.perf_counter()
            figures = trial([method], [method], options.shots, options.draws, reach)
            found[name] = figures[..., 0]
            whole = seconds.get(name, 0) + time.perf_counter() - start
            yield _line(task.name, name, method.setting, figures, options, whole)


def cross_image(folders: list[Path], options: argparse.Namespace) -> Lines:
    """Yield the lines of the table with support from other images, and their means."""
    paths = {_name(folder): folder for folder in _all_folders(options.data)}
    sources = [Task.load(p) for n, p in paths.items() if n.startswith(_SOURCES)]
    targets = [Task.load(f) for f in folders if _name(f).startswith(_TARGETS)]
    if not (sources and targets):
        return
    yield _header(options)
    chosen = {name: partial(_reused, encoder) for name, encoder in _encoders("image", options)}
    for name, pairs_of in {**chosen, "intensity": _intensities}.items():
        start = time.perf_counter()
        all_figures = []
        for task, (learnt, again) in zip(targets, pairs_of(sources, targets), strict=True):
            all_figures.append(trial(learnt, again, options.shots, options.draws))
            yield _line(task.name, name, again[0].setting, all_figures[-1], options)
        seconds = time.perf_counter() - start
        yield _line("mean", name, "", np.mean(all_figures, axis=0), options, seconds)


def _reused(encoder: Encoder, sources: list[Task], targets: list[Task]) -> Pairs:
    """Yield, for every target, the embedded sources and the target by the recipe of each."""
    learnt = [Embedded.of(task, encoder) for task in sources]
    for target in targets:
        yield learnt, [source.reused_on(target) for source in learnt]


def _intensities(sources: list[Task], targets: list[Task]) -> Pairs:
    """Yield the same with the mean intensity in place of an encoder."""
    learnt = [Intensity.of(task.standardised()) for task in sources]
    for target in targets:
        yield learnt, [Intensity.of(target.standardised())] * len(learnt)


def dose_curves(folders: list[Path], options: argparse.Namespace) -> Lines:
    """Yield the lines of the table of accuracy against dose."""
    for folder in folders:
        if _name(folder) == _PUBLISHED:
            published = dose.Published.load(folder)
            yield dose.header(published, options.fine)
            yield from dose.rows(published, list(_encoders("image", options)), options.fine)


def _header(options: argparse.Namespace) -> list[str]:
    shots = [f"{n} shot{'s' if n > 1 else ''}" for n in options.shots]
    return ["task", "encoder", "setting", *shots, f"ECE, {shots[_judged(options)]}", "seconds"]


def _line(task, encoder, setting, figures, options, seconds=None) -> list[str]:
    accuracies, errors = np.moveaxis(figures, -1, 0)
    shown = [f"{a.mean():.3f} ± {a.std():.3f}" for a in accuracies.T]
    error = errors[:, _judged(options)].mean()
    shown.append("" if np.isnan(error) else f"{error:.3f}")
    return [task, encoder, setting, *shown, "" if seconds is None else f"{seconds:.1f}"]


def _judged(options: argparse.Namespace) -> int:
    """Index of the number of shots whose calibration error is shown: five, or else the last."""
    return options.shots.index(5) if 5 in options.shots else -1


def _encoders(kind: str, options: argparse.Namespace):
    foreign = {"trusted": options.trusted, "input_size": options.input_size}
    return encoders_for(kind, options.encoders, **foreign)


def _name(folder: Path) -> str:
    return "/".join(folder.parts[-2:])


def _all_folders(data: Path) -> list[Path]:
    return sorted(path.parent for path in data.resolve().glob("*/*/labels.npy"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=_TABLES, default=_TABLES)
    parser.add_argument("--tasks", nargs="*", default=[], help="parts of the names of tasks")
    parser.add_argument(
        "--encoders", nargs="*", default=[], help="bundled or foreign; default: all bundled"
    )
    parser.add_argument("--trusted", action="store_true", help="allow encoder files to run code")
    parser.add_argument("--input-size", type=int, help="input side of a foreign encoder [px]")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 5, 10])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--pixel-draws", type=int, default=4)
    parser.add_argument("--fine", action="store_true", help="also count wrong regions")
    parser.add_argument(
        "--out",
        type=Path,
        help="write the fair trial here, and the other tables beside it as NAME_table.md",
    )
    return parser.parse_args()


def main() -> None:
    """Run the trials and print the tables."""
    options = _options()
    folders = _all_folders(options.data)
    if not folders:
        sys.exit(f"There are no labelled tasks in {options.data}.")
    if options.tasks:
        folders = [f for f in folders if any(part in _name(f) for part in options.tasks)]
    if "pixel" in options.only and find_spec("sklearn") is None:
        sys.exit('The table "pixel" needs scikit-learn: pip install -e ".[benchmarks]".')
    trials: dict[tuple[str, str], Figures] = {}
    makers = {
        "accuracy": partial(accuracy, folders, options, trials),
        "comparison": partial(comparison.rows, trials, options.shots),
        "cross_image": partial(cross_image, folders, options),
        "dose": partial(dose_curves, folders, options),
        "pixel": partial(pixels.rows, folders, options.pixel_draws),
    }
    for name, make in makers.items():
        if ("accuracy" if name == "comparison" else name) not in options.only:
            continue
        lines = []
        for cells in make():
            lines.append(f"| {' | '.join(cells)} |")
            if len(lines) == 1:
                lines.append("|---" * len(cells) + "|")
            print("\n".join(lines) if len(lines) == 2 else lines[-1], flush=True)
        if options.out and len(lines) > 2:
            path = options.out if name == "accuracy" else options.out.with_name(f"{name}_table.md")
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print()


if __name__ == "__main__":
    main()
