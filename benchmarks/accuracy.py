"""Accuracy of encoders on labelled data, as Markdown tables.

    python benchmarks/accuracy.py [--data ../shared/data] [--out docs/accuracy_table.md]
        [--tables accuracy cross_image dose] [--tasks p45 sto] [--shots 1 2 5 10] [--draws 10]
        [--encoders fourier pca timm:resnet18 mine.pt2 --trusted --input-size 64] [--fine]

A task is a folder with ``image.npy`` (rows, columns) or ``data.npy`` (rows, columns, signal axes),
``labels.npy`` (0: unknown, 1 to K: the classes) and ``meta.json``, which holds the names of the
``classes`` and, for images, the chip size as ``trivial_baseline_chip``.

``accuracy`` is the fair trial. Classes count that have at least 30 labels and cover 1 % of the area.
Support examples are single positions drawn with the seeds 0 to draws - 1. Queries that are nearer to
one of them than half a chip, or inside the context window, are left out. The embeddings are centred
on the data set as the package does it, and nothing is rejected. The figure is the balanced accuracy,
mean and standard deviation over the draws, with the expected calibration error (ECE).

``cross_image`` takes queries from each ``nasa_superalloy/difftest*`` and support from the ``spot*``
images in turn. All images are standardised. The recipe learnt on one is used on the other.

``dose`` takes ``pychip/sto_ge`` with its ``published.json`` and thins its counts. ``--fine`` also
counts wrong regions at a stride of 8 px.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dose
import numpy as np
from tasks import BASELINES, Embedded, Task, encoders_for
from trials import trial

Lines = Iterator[list[str]]
_TABLES = ("accuracy", "cross_image", "dose")
_PUBLISHED = "pychip/sto_ge"
# Images with the same classes: where the support examples and where the queries are.
_SOURCES, _TARGETS = "nasa_superalloy/spot", "nasa_superalloy/difftest"


def accuracy(folders: list[Path], options: argparse.Namespace) -> Lines:
    """Yield the lines of the table of the fair trial."""
    yield _header(options)
    for folder in folders:
        task, reach = Task.load(folder), None
        for name, encoder in _encoders(task.kind, options):
            start = time.perf_counter()
            embedded = Embedded.of(task, encoder)
            figures = trial([embedded], [embedded], options.shots, options.draws)
            seconds = time.perf_counter() - start
            yield _line(task.name, name, embedded.setting, figures, options, seconds)
            reach = embedded.reach
        if reach is not None:
            yield _baseline(task, reach, options)


def _baseline(task: Task, reach: int, options: argparse.Namespace) -> list[str]:
    """Line of the plainest method, for the same queries as those of the encoders."""
    encoder = BASELINES[task.kind]
    single = {} if task.chip_size else {"context": 1}
    plain = replace(Embedded.of(task, encoder, **single), reach=reach)
    figures = trial([plain], [plain], options.shots, options.draws)
    return _line(task.name, encoder.__name__.replace("_", " "), plain.setting, figures, options)


def cross_image(folders: list[Path], options: argparse.Namespace) -> Lines:
    """Yield the lines of the table with support from other images, and their means."""
    paths = {_name(folder): folder for folder in _all_folders(options.data)}
    sources = [Task.load(p).standardised() for n, p in paths.items() if n.startswith(_SOURCES)]
    targets = [Task.load(f).standardised() for f in folders if _name(f).startswith(_TARGETS)]
    if not (sources and targets):
        return
    yield _header(options)
    chosen = [*_encoders("image", options), ("intensity", BASELINES["image"])]
    for name, encoder in chosen:
        start = time.perf_counter()
        learnt = [Embedded.of(task, encoder) for task in sources]
        all_figures = []
        for task in targets:
            embedded = [source.reused_on(task) for source in learnt]
            all_figures.append(trial(learnt, embedded, options.shots, options.draws))
            yield _line(task.name, name, embedded[0].setting, all_figures[-1], options)
        seconds = time.perf_counter() - start
        yield _line("mean", name, "", np.mean(all_figures, axis=0), options, seconds)


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
    parser.add_argument("--tables", nargs="*", choices=_TABLES, default=_TABLES)
    parser.add_argument("--tasks", nargs="*", default=[], help="parts of the names of tasks")
    parser.add_argument(
        "--encoders", nargs="*", default=[], help="bundled or foreign; default: all bundled"
    )
    parser.add_argument("--trusted", action="store_true", help="allow encoder files to run code")
    parser.add_argument("--input-size", type=int, help="input side of a foreign encoder [px]")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 5, 10])
    parser.add_argument("--draws", type=int, default=10)
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
    makers = dict(zip(_TABLES, (accuracy, cross_image, dose_curves), strict=True))
    for name in options.tables:
        lines = []
        for cells in makers[name](folders, options):
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
