"""Time and memory on synthetic data of realistic size, as a Markdown table.

    python benchmarks/speed.py [--out docs/speed_table.md] [--only patterns images ...]
        [--folder FOLDER] [--small] [--base CHECKOUT]

Every measurement runs in a process of its own. The first call is shown apart; of the calls after
it, the fastest counts. Peak memory is counted above what the process held with all packages
imported. Lazy data must get the labels of data in memory, and an update those of a new call;
otherwise the command fails. ``--small`` checks that in one process; its times mean nothing.
``--base`` compares the times of whole calls with those of another checkout, alternately.
"""

import argparse
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measurements
from measurements import CHIP, Found

SIZES = {"patterns": (100, 200, 128, 128), "image": (4096, 4096), "spectra": (512, 512, 2048)}
SMALL = {"patterns": (6, 9, 20, 16), "image": (128, 128), "spectra": (8, 12, 100)}
# Kind of data, ending of the file, and settings.
CASES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "patterns": [
        ("patterns", "zspy", {"context": 1}),
        ("patterns", "hspy", {"context": 1}),
        ("patterns", "zspy", {"context": None}),
    ],
    "images": [("image", "zspy", {"chip_size": CHIP, "stride": stride}) for stride in (8, CHIP)],
    "spectra": [
        ("spectra", "zspy", {"encoder": encoder, "context": context})
        for encoder in ("pca", "spectrum")
        for context in (1, None)
    ],
}
_CALLS = 3
# Rows that say so make the command fail unless the number is 0.
_DIFFER = "labels that differ"
_HERE = Path(__file__).resolve().parents[1]

Row = tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """Where the data lie, and whether they are tiny."""

    folder: Path
    small: bool = False

    def file(self, kind: str, ending: str = "zspy", factor: float = 1) -> Path:
        """Path of a file, which is written if it is not there; `factor` scales both axes."""
        rows, columns, *rest = (SMALL if self.small else SIZES)[kind]
        shape = (int(factor * rows), int(factor * columns), *rest)
        path = self.folder / f"{kind} {'x'.join(map(str, shape))}.{ending}"
        if not path.exists():
            self.run("write", path, shape=shape)
        return path

    def run(self, name: str, path: Path, checkout: Path | None = None, **options: Any) -> Found:
        """Make a measurement, in a process of its own unless the data are tiny."""
        if self.small and checkout is None:
            return getattr(measurements, name)(str(path), **options)
        environment = {**os.environ, "PYTHONPATH": str(checkout or _HERE)}
        arguments = [name, str(path), json.dumps(options), str(self.folder / "found.pickle")]
        subprocess.run(
            [sys.executable, measurements.__file__, *arguments], env=environment, check=True
        )
        return pickle.loads(Path(arguments[-1]).read_bytes())


def classifications(bench: Bench, part: str) -> Generator[Row, None, list[Found]]:
    """Yield rows of data in memory and of lazy data; return the measurements of lazy data."""
    measured = []
    for kind, ending, options in CASES[part]:
        path, what = bench.file(kind, ending), _settings(options)
        eager, lazy = (
            bench.run("classification", path, lazy=lazy, calls=_CALLS, **options)
            for lazy in (False, True)
        )
        for name, found in (("in memory", eager), ("lazy", lazy)):
            yield _row(path, f"{what}, {name}", found["seconds"], "first call", found["first"])
        yield _row(path, f"{what}, lazy", lazy["seconds"], "in memory", eager["seconds"])
        memory = f"{what}, lazy: peak memory"
        yield _row(path, memory, lazy["memory"], "in memory", eager["memory"], "MB")
        differ = (lazy["labels"] != eager["labels"]).sum()
        of = f"of {lazy['labels'].size}, context {lazy['context']}, {lazy['right']:.1%} right"
        yield path.name, f"{what}, lazy: {_DIFFER}", str(differ), of, ""
        measured.append({"path": path, **lazy})
    return measured


def patterns(bench: Bench) -> Iterator[Row]:
    """Yield rows of patterns; lazy ones also against the least they need and a plain map."""
    for found in (yield from classifications(bench, "patterns"))[:2]:
        least = bench.run("least", found["path"], rows=10, calls=_CALLS)
        for name, seconds in least.items():
            yield _row(found["path"], "context=1, lazy", found["seconds"], name, seconds)


def images(bench: Bench) -> Iterator[Row]:
    """Yield rows of an image; the fine stride also against the coarse one and single chips."""
    fine, coarse = yield from classifications(bench, "images")
    path, count = fine["path"], 4 if bench.small else 1024
    alone = bench.run("chips_alone", path, count=count) * fine["labels"].size
    yield _row(path, "stride=8, lazy", fine["seconds"], f"stride={CHIP}", coarse["seconds"])
    yield _row(
        path, "stride=8, lazy", fine["seconds"], f"every chip alone, scaled from {count}", alone
    )


def growth(bench: Bench) -> Iterator[Row]:
    """Yield time and peak memory of lazy data with four times as many labels."""
    for kind, ending, options in (cases[0] for cases in CASES.values()):
        # A smaller scan of patterns does not fill all the blocks that run in parallel.
        factors = (1, 2) if kind == "patterns" else (0.5, 1)
        paths = [bench.file(kind, ending, factor) for factor in factors]
        few, many = (
            bench.run("classification", path, lazy=True, calls=1, **options) for path in paths
        )
        what, quarter = f"{_settings(options)}, lazy", "a quarter of the data"
        yield _row(paths[1], what, many["seconds"], quarter, few["seconds"])
        memory = f"{what}: peak memory"
        yield _row(paths[1], memory, many["memory"], quarter, few["memory"], "MB")


def iteration(bench: Bench) -> Iterator[Row]:
    """Yield times of updates against that of the first call."""
    for kind in SIZES:
        path, options = bench.file(kind), {"chip_size": CHIP} if kind == "image" else {}
        for lazy, name in ((False, "in memory"), (True, "lazy")):
            found = bench.run("updates", path, lazy=lazy, calls=_CALLS, **options)
            for what, seconds in found["times"].items():
                yield _row(path, f"{what}, {name}", seconds, "first call", found["first"])
            what = f"updates, {name}: {_DIFFER}"
            yield path.name, what, str(found["differ"]), "from a new call", ""


def start(bench: Bench) -> Iterator[Row]:
    """Yield the time of a whole process, with its imports."""
    path = bench.file("image", factor=1 if bench.small else 1 / 8)
    options = {"lazy": False, "calls": 1, "chip_size": CHIP}
    seconds, found = measurements.timed(bench.run, "classification", path, **options)
    yield _row(path, "a whole process", seconds, "its call", found["seconds"])


def against_base(bench: Bench, part: str, base: Path) -> Iterator[Row]:
    """Yield times with this checkout against those with another one, measured alternately."""
    for kind, ending, options in CASES.get(part, []):
        path = bench.file(kind, ending)
        for lazy in (False, True):
            times: dict[Path, list[float]] = {_HERE: [], base: []}
            for _ in range(1 if bench.small else _CALLS):
                for checkout, seconds in times.items():
                    found = bench.run(
                        "classification", path, checkout, lazy=lazy, calls=2, **options
                    )
                    seconds.append(found["seconds"])
            what = f"{_settings(options)}, {'lazy' if lazy else 'in memory'}"
            yield _row(path, what, min(times[_HERE]), "base", min(times[base]))


PARTS = {
    "patterns": patterns,
    "images": images,
    "spectra": partial(classifications, part="spectra"),
    "growth": growth,
    "iteration": iteration,
    "start": start,
}


def _settings(options: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in options.items() if k != "chip_size")


def _row(path: Path, what: str, number: float, name: str, reference: float, unit: str = "s") -> Row:
    digits, ratio = 2 if unit == "s" else 0, f"{number / reference:.2g}" if reference else ""
    shown, against = (f"{n:.{digits}f} {unit}" for n in (number, reference))
    return path.name, what, shown, f"{name}: {against}", ratio


def main() -> None:
    """Measure, print the table, and fail if labels differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="keep the data here for the next run")
    parser.add_argument("--small", action="store_true", help="check labels on tiny data")
    parser.add_argument("--base", type=Path, help="compare times with this checkout")
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    packages = ("hyperspy", "rosettasciio", "dask", "numpy", "torch")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    machine = ("machine", f"{os.cpu_count()} cores", platform.platform(), versions, "")
    header = ("data", "what", "measured", "against", "ratio")
    lines, wrong = [], []
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        bench, base = Bench(Path(folder), options.small), options.base
        tables = [[header, ("---",) * len(header), machine]]
        for part in options.only:
            tables.append(against_base(bench, part, base) if base else PARTS[part](bench))
        for row in (row for table in tables for row in table):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
            if row[1].endswith(_DIFFER) and row[2] != "0":
                wrong.append(f"{row[0]}, {row[1]}")
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
