"""Time and memory on synthetic data of the sizes that microscopes give, as a Markdown table.

    python benchmarks/speed.py [--out docs/speed_table.md] [--only patterns,images,...]
        [--folder FOLDER] [--small]

All ratios are of times measured in this one run; where only a part was timed and the rest is
scaled, the table says so. Every measurement has a process of its own, the first call is shown
apart, and of those after it the fastest counts. Peak memory is that of the process above what it
held once HyperSpy, PyTorch and this package were imported and data that are not lazy were loaded.
Labels computed lazily, on other threads or workers, must not differ from those of data in memory:
one that does, and the command fails.

``--small`` runs everything at a size of seconds, in one process, for its correctness only: no other
bar is judged.
"""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import measure
from speed_lines import HEADER, Row
from speed_parts import PARTS, SMALL, Bench, Sizes, machine


def table(bench: Bench, parts: list[str]) -> tuple[list[str], list[Row]]:
    """Lines of the table, printed as they come, and its rows."""
    lines = [_line(HEADER), "|---" * len(HEADER) + "|"]
    print("\n".join(lines), flush=True)
    rows = []
    for part in (machine, *(PARTS[name] for name in parts)):
        for row in part(bench):
            if bench.sizes is SMALL and not row.vital:
                row = replace(row, met=None)
            rows.append(row)
            lines.append(_line(row.cells))
            print(lines[-1], flush=True)
    return lines, rows


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--folder", type=Path, help="keep the data here, and use them again")
    parser.add_argument("--small", action="store_true", help="for correctness only")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    """Measure, print the table, and fail if labels differ."""
    options = _options()
    sizes, run = (SMALL, measure.here) if options.small else (Sizes(), measure.fresh)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        lines, rows = table(Bench(sizes, Path(folder), run), options.only)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if wrong := [row.what for row in rows if row.vital and not row.met]:
        sys.exit(f"Labels differ from those of data in memory: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
