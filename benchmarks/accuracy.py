"""The fair trial: accuracy of encoders on every labelled task, as a Markdown table.

    python benchmarks/accuracy.py [--data ../shared/data] [--tasks p45 sto] [--encoders fourier pca]
                                  [--shots 5] [--draws 10] [--out table.md]

Every task is a folder with ``image.npy`` (rows, columns) or ``data.npy`` (rows, columns, signal
axes), ``labels.npy`` (0 unknown, 1 to K) and ``meta.json``. Classes with at least 30 labels and
1 % of the area count. Support examples are single positions drawn with seeds 0 to draws - 1;
queries nearer to one of them than half a chip, or inside the context window, are left out. The
embeddings are centred on the whole data set, nothing is rejected, and the figure is balanced
accuracy, mean and standard deviation over the draws, with the expected calibration error (ECE).
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hyperspy.api as hs
import numpy as np

from hyperspy_fewshot import FewShotClassifier, classify

_DEFAULT = {"image": ("fourier", "pca"), "map": ("pca",), "scan": ("fourier", "pca")}
_BASELINE = {"image": "intensity", "map": "sqrt spectrum", "scan": "raw pixels"}


@dataclass(frozen=True)
class Task:
    """A labelled data set: where it lies, its signal, and its chip size."""

    name: str
    kind: str
    signal: hs.signals.BaseSignal
    labels: np.ndarray
    chip_size: int | None

    @classmethod
    def load(cls, folder: Path, root: Path) -> "Task":
        """Read a task from its folder."""
        meta = json.loads((folder / "meta.json").read_text())
        labels = np.load(folder / "labels.npy")
        name = str(folder.relative_to(root))
        if (folder / "image.npy").exists():
            signal = hs.signals.Signal2D(np.load(folder / "image.npy"))
            return cls(name, "image", signal, labels, meta["trivial_baseline_chip"])
        data = np.load(folder / "data.npy")
        if data.ndim == 4:
            return cls(name, "scan", hs.signals.Signal2D(data), labels, None)
        signal = hs.signals.Signal1D(data)
        signal.set_signal_type("EDS_TEM" if "eds" in name else "EELS")
        return cls(name, "map", signal, labels, None)

    def classes(self, labels: np.ndarray) -> list[int]:
        """The classes that count."""
        found = [k for k in np.unique(labels) if k > 0]
        counts = {k: int((labels == k).sum()) for k in found}
        return [k for k in found if counts[k] >= 30 and (self.labels == k).mean() >= 0.01]


def embeddings_of(task: Task, encoder: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Embed a whole task.

    Returns
    -------
    embeddings : numpy.ndarray
        Shape (rows, columns, d).
    labels : numpy.ndarray
        True labels of the queries, shape (rows, columns).
    reach : int
        Queries so many cells away from a support position, or nearer, do not count.
    """
    # Any two support positions will do: what is wanted does not depend on them.
    places = [np.argwhere(task.labels == k)[0] for k in task.classes(task.labels)[:2]]
    support = {str(i): tuple(int(v) for v in place[::-1]) for i, place in enumerate(places)}
    options = {"encoder": encoder, "lazy_output": True, "show_progressbar": False}
    if task.kind == "image":
        stride = task.chip_size // 4
        options.update(chip_size=task.chip_size, stride=stride)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "With one example")
        result = classify(task.signal, support, **options)
    embeddings = result.embeddings.data.compute()
    if task.kind != "image":
        return embeddings, task.labels, result.classifier.setup.context // 2
    rows, columns = (
        np.minimum(((stride - 1) / 2 + stride * np.arange(n)).astype(int), size - 1)
        for n, size in zip(embeddings.shape[:2], task.labels.shape, strict=True)
    )
    # Half a chip is two cells of a quarter.
    return embeddings, task.labels[np.ix_(rows, columns)], (task.chip_size // 2 - 1) // stride


def baseline_of(task: Task) -> np.ndarray:
    """Embeddings of the plain baseline of a kind of task."""
    if task.kind == "scan":
        return task.signal.data.reshape(*task.labels.shape, -1).astype(np.float32)
    data = task.signal.data.astype(np.float32)
    return np.sqrt(np.maximum(data, 0) / np.maximum(data.sum(-1, keepdims=True), 1e-9))


def draws(labels: np.ndarray, classes: list[int], shots: int, n: int) -> Iterator[list[np.ndarray]]:
    """Support positions of every class, one list a draw."""
    for seed in range(n):
        rng = np.random.default_rng(seed)
        yield [rng.permutation(np.argwhere(labels == k))[:shots] for k in classes]


def queries(labels: np.ndarray, support: list[np.ndarray], reach: int) -> np.ndarray:
    """Labelled cells farther than `reach` from every support position."""
    keep = labels > 0
    rows, columns = np.indices(labels.shape)
    for row, column in np.concatenate(support):
        keep &= np.maximum(abs(rows - row), abs(columns - column)) > reach
    return keep


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (index == i).mean() * abs(confidence[index == i].mean() - right[index == i].mean())
        for i in np.unique(index)
    ]
    return float(sum(gaps))


def trial(
    embeddings: np.ndarray, labels: np.ndarray, task: Task, reach: int, shots: int, n: int
) -> tuple[list[float], list[float]]:
    """Balanced accuracy and calibration error of every draw."""
    classes = task.classes(labels)
    names = tuple(str(k) for k in classes)
    centre = embeddings.reshape(-1, embeddings.shape[-1]).mean(axis=0, dtype=float)
    accuracies, errors = [], []
    for support in draws(labels, classes, shots, n):
        rows, columns = np.concatenate(support).T
        owner = np.repeat(np.arange(len(classes)), [len(s) for s in support])
        classifier = FewShotClassifier.fit(
            embeddings[rows, columns], np.arange(len(owner)), owner, names,
            centre=centre, reject=False,
        )  # fmt: skip
        keep = queries(labels, support, reach)
        packed = classifier.predict(embeddings[keep])
        truth = np.searchsorted(classes, labels[keep])
        counts = np.isin(labels[keep], classes)
        packed, truth = packed[counts], truth[counts]
        right = packed[:, -2] == truth
        accuracies.append(np.mean([right[truth == k].mean() for k in np.unique(truth)]))
        errors.append(calibration_error(packed[:, :-2].max(axis=1), right))
    return accuracies, errors


def intensity_trial(task: Task, labels: np.ndarray, reach: int, shots: int, n: int) -> list[float]:
    """Balanced accuracy of the nearest mean intensity, chip by chip."""
    means, *_ = embeddings_of(task, lambda chips: np.repeat(chips.mean((1, 2))[:, None], 2, axis=1))
    values, classes, accuracies = means[..., 0], task.classes(labels), []
    for support in draws(labels, classes, shots, n):
        centres = np.array([values[tuple(s.T)].mean() for s in support])
        keep = queries(labels, support, reach) & np.isin(labels, classes)
        found = abs(values[keep][:, None] - centres).argmin(axis=1)
        truth = np.searchsorted(classes, labels[keep])
        accuracies.append(np.mean([(found == truth)[truth == k].mean() for k in np.unique(truth)]))
    return accuracies


def rows_of(task: Task, encoders: list[str], shots: int, n: int) -> Iterator[list[str]]:
    """Rows of the table for one task."""
    chosen = [e for e in encoders or _DEFAULT[task.kind] if task.kind != "map" or e != "fourier"]
    for encoder in chosen:
        start = time.perf_counter()
        embeddings, labels, reach = embeddings_of(task, encoder)
        accuracies, errors = trial(embeddings, labels, task, reach, shots, n)
        seconds = time.perf_counter() - start
        setting = f"chip {task.chip_size}" if task.chip_size else f"context {2 * reach + 1}"
        yield _row(task.name, encoder, setting, accuracies, np.mean(errors), seconds)
    if task.kind == "image":
        accuracies = intensity_trial(task, labels, reach, shots, n)
        yield _row(task.name, _BASELINE["image"], f"chip {task.chip_size}", accuracies)
    else:
        accuracies, _ = trial(baseline_of(task), task.labels, task, reach, shots, n)
        yield _row(task.name, _BASELINE[task.kind], "context 1", accuracies)


def _row(name, encoder, setting, accuracies, error=None, seconds=None) -> list[str]:
    figure = f"{np.mean(accuracies):.3f} ± {np.std(accuracies):.3f}"
    shown = ["" if error is None else f"{error:.3f}", "" if seconds is None else f"{seconds:.1f}"]
    return [name, encoder, setting, figure, *shown]


def main() -> None:
    """Run the trial and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--tasks", nargs="*", default=[], help="parts of task names")
    parser.add_argument("--encoders", nargs="*", default=[], help="names; default by kind")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.data.glob("*/*/labels.npy"))
    if not folders:
        sys.exit(f"There are no labelled tasks in {options.data}.")
    lines = [
        f"| task | encoder | setting | balanced accuracy, {options.shots} shots | ECE | seconds |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for folder in folders:
        if options.tasks and not any(part in str(folder) for part in options.tasks):
            continue
        task = Task.load(folder, options.data)
        for row in rows_of(task, options.encoders, options.shots, options.draws):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
