"""The parts of speed.py: which measurements stand beside each other, and what they have to meet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np
import speed_data
import speed_tasks as tasks
from measure import CORES
from speed_lines import Row, as_bytes, as_seconds, at_most, faster, grown, memory, rate, right, same


@dataclass(frozen=True)
class Sizes:
    """How much is measured; the defaults are those that the bars are for.

    Parameters
    ----------
    scan, pattern
        (rows, columns) of a scan, and of its patterns.
    rounds
        Calls, beside the first, of which the fastest counts.
    mapped
        Rows of the scan for the plain ``map``.
    image
        Sides of the images, growing.
    chips, resnet
        Chips that are encoded alone.
    counted
        Side of the part of an image whose operations are counted.
    scans, spectra
        (rows, columns) of scans of patterns and of spectra, growing.
    channels
        Of a spectrum.
    started
        Side of the image of the cold start.
    product
        Side of the matrices of sgemm.
    """

    scan: tuple[int, int] = (100, 200)
    pattern: tuple[int, int] = (128, 128)
    rounds: int = 2
    mapped: int = 10
    image: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    chips: int = 1024
    resnet: int = 32
    counted: int = 1024
    scans: tuple[tuple[int, int], ...] = ((20, 40), (63, 127), (400, 200))
    spectra: tuple[tuple[int, int], ...] = ((51, 52), (162, 162), (512, 512))
    channels: int = 2048
    started: int = 512
    product: int = 4096


SMALL = Sizes(
    scan=(6, 9),
    pattern=(20, 16),
    rounds=1,
    mapped=1,
    image=(96, 128),
    chips=2,
    resnet=1,
    counted=96,
    scans=((5, 6), (6, 9)),
    spectra=((6, 9), (8, 12)),
    channels=100,
    started=128,
    product=64,
)


@dataclass(frozen=True)
class Bench:
    """Where the data lie, how large they are, and in which process a function is called."""

    sizes: Sizes
    folder: Path
    run: Callable

    def file(self, kind: str, *shape: int, ending: str = "zspy") -> Path:
        """File of a specimen."""
        return self.run(speed_data.written, self.folder, kind, shape, ending)


def machine(bench: Bench) -> Iterator[Row]:
    """What everything ran on."""
    yield Row("machine", "cores, processor, system", measure.machine())
    yield Row("machine", "versions", measure.versions())
    yield Row("machine", f"sgemm on {CORES} threads", f"{_sgemm(bench) / 1e9:.0f} GFLOP/s")


def _sgemm(bench: Bench) -> float:
    return bench.run(measure.sgemm, bench.sizes.product)


def patterns(bench: Bench) -> Iterator[Row]:
    """Lazy patterns: against reading and encoding, against ``map``, and their memory."""
    sizes, run = bench.sizes, bench.run
    shape = (*sizes.scan, *sizes.pattern)
    name = " x ".join(map(str, shape))
    files = {ending: bench.file("patterns", *shape, ending=ending) for ending in ("zspy", "hspy")}
    eager = {c: run(tasks.classification, files["zspy"], False, context=c) for c in (1, None)}
    for context, found in eager.items():
        yield right(f"patterns {name}", _context(context, found), found)
    for ending, path in files.items():
        part = f"patterns {name}, .{ending}"
        found = run(tasks.patterns, path, sizes.rounds)
        floor = found["reading"] + found["encoding"]
        parts = (f"{name} {as_seconds(found[name])}" for name in ("reading", "encoding"))
        against = " + ".join(parts)
        yield at_most(part, "lazy, context=1", found["seconds"], against, floor, 1.1)
        against = f"first call of the process: {as_seconds(found['first'])}"
        for context, seconds in ((1, found["seconds"]), (None, found["default"])):
            lazily = run(tasks.classification, path, context=context)
            what = f"lazy, {_context(context, lazily)}"
            yield Row(part, what, as_seconds(seconds), against if context else "")
            yield memory(part, what, lazily, 1e9)
            yield same(part, what, lazily, eager[context])
        if ending == "zspy":
            yield from _against_map(bench, part, path, found["seconds"])
            flops = run(tasks.pattern_flops, path) * sizes.scan[0] * sizes.scan[1]
            yield rate(part, "encoder alone", flops / found["encoding"], _sgemm(bench))
            yield grown(part, lazily, run(tasks.classification, _four_times(bench)))


def _against_map(bench: Bench, part: str, path: Path, seconds: float) -> Iterator[Row]:
    rows, mapped = bench.sizes.scan[0], bench.sizes.mapped
    scaled = f"scaled from {mapped * bench.sizes.scan[1]} patterns"
    for threads, name, least in ((1, "one torch thread", 4), (None, "torch's own threads", None)):
        reference = bench.run(tasks.plain_map, path, mapped, threads) * rows / mapped
        against = f"plain map, {name}: {as_seconds(reference)} ({scaled})"
        yield faster(part, "lazy, context=1", seconds, against, reference, least)


def _four_times(bench: Bench) -> Path:
    rows, columns = bench.sizes.scan
    return bench.file("patterns", 4 * rows, columns, *bench.sizes.pattern)


def images(bench: Bench) -> Iterator[Row]:
    """A large image: against chips alone, ResNet-101 and a coarser stride."""
    sizes, run, chip = bench.sizes, bench.run, tasks.CHIP
    side = sizes.image[-1]
    path = bench.file("image", side, side)
    part = f"image {side} x {side}, chips of {chip}"
    fine, coarse = (
        run(
            tasks.classification, path, False, calls=1 + sizes.rounds, chip_size=chip, stride=stride
        )
        for stride in (8, chip)
    )
    yield right(part, "stride 8", fine)
    yield Row(
        part,
        "stride 8",
        as_seconds(fine["seconds"]),
        f"first call: {as_seconds(fine['first'])}",
    )
    against = f"stride {chip}: {as_seconds(coarse['seconds'])}"
    yield at_most(part, "stride 8", fine["seconds"], against, coarse["seconds"], 1.5)
    yield memory(part, "stride 8", fine)
    alone = run(tasks.chips_alone, path, sizes.chips) * fine["labels"].size
    against = f"every chip alone: {as_seconds(alone)} (scaled from {sizes.chips} chips)"
    yield faster(part, "stride 8", fine["seconds"], against, alone, 30)
    resnet = run(tasks.resnet_chips, sizes.resnet)
    for stride, found, least in ((8, fine, 1000), (chip, coarse, None)):
        seconds = resnet * found["labels"].size
        against = f"ResNet-101 at 224 px: {as_seconds(seconds)} (scaled from {sizes.resnet} chips)"
        yield faster(part, f"stride {stride}", found["seconds"], against, seconds, least)
    lazily = run(tasks.classification, path, chip_size=chip, stride=8)
    yield same(part, "lazy, stride 8", lazily, fine)
    flops = run(tasks.image_flops, path, sizes.counted) * side**2
    yield rate(part, "stride 8", flops / fine["seconds"], _sgemm(bench))


def spectra(bench: Bench) -> Iterator[Row]:
    """A spectrum image in memory, and the least that it costs."""
    shape = (*bench.sizes.spectra[-1], bench.sizes.channels)
    path, part = bench.file("spectra", *shape), f"spectra {' x '.join(map(str, shape))}"
    floor = bench.run(tasks.least_for_spectra, path)
    for encoder, most in (("pca", 8), ("spectrum", 20)):
        for context in (1, None):
            options = {"encoder": encoder, "context": context}
            found = bench.run(
                tasks.classification, path, False, calls=1 + bench.sizes.rounds, **options
            )
            what, seconds = f"{encoder}, {_context(context, found)}", found["seconds"]
            first = f"first call: {as_seconds(found['first'])}"
            against = f"normalise, root, project: {as_seconds(floor)}; {first}"
            yield Row(
                part, what, as_seconds(seconds), against, f"{seconds / floor:.2f}", f"at most {most} s",
                seconds <= most,
            )  # fmt: skip
            yield right(part, what, found)
            yield memory(part, what, found)
            lazily = bench.run(tasks.classification, path, **options)
            yield same(part, f"{what}, lazy", lazily, found)


def scaling(bench: Bench) -> Iterator[Row]:
    """Threads, distributed workers, and the cold start."""
    shape = (*bench.sizes.scan, *bench.sizes.pattern)
    path, part = bench.file("patterns", *shape), f"patterns {' x '.join(map(str, shape))}"
    eager = bench.run(tasks.classification, path, False, context=1)
    for name, function in {"thread": tasks.on_threads, "worker": tasks.on_workers}.items():
        one, two = (bench.run(function, path, count) for count in (1, 2))
        efficiency = f"efficiency {one['seconds'] / (2 * two['seconds']):.2f}"
        yield Row(
            part,
            f"2 {name}s",
            as_seconds(two["seconds"]),
            f"1: {as_seconds(one['seconds'])}",
            efficiency,
        )
        yield Row(
            part,
            f"2 {name}s, first call",
            as_seconds(two["first"]),
            f"1: {as_seconds(one['first'])}",
        )
        yield same(part, f"1 {name}", one, eager)
        yield same(part, f"2 {name}s", two, eager)
    side = bench.sizes.started
    seconds = bench.run(tasks.cold_start, bench.file("image", side, side), (side, side))
    part = f"image {side} x {side}"
    what = "cold start: a whole program, imports and all"
    yield Row(part, what, as_seconds(seconds), bar="at most 5 s", met=seconds <= 5)


def growth(bench: Bench) -> Iterator[Row]:
    """Time and memory of lazy data against their size."""
    sizes = bench.sizes
    yield from _growth(
        bench, "images", "image", [(side, side) for side in sizes.image],
        chip_size=tasks.CHIP, stride=8,
    )  # fmt: skip
    scans = [(*scan, *sizes.pattern) for scan in sizes.scans]
    yield from _growth(bench, "patterns", "patterns", scans, context=1)
    maps = [(*scan, sizes.channels) for scan in sizes.spectra]
    yield from _growth(bench, "spectra", "spectra", maps, context=1)


def _growth(
    bench: Bench, name: str, kind: str, shapes: list[tuple[int, ...]], **options: Any
) -> Iterator[Row]:
    part = f"growth, lazy {name}"
    found = []
    for shape in shapes:
        found.append(bench.run(tasks.classification, bench.file(kind, *shape), calls=2, **options))
        seconds, size = found[-1]["seconds"], found[-1]["labels"].size
        peak = f"peak memory {as_bytes(found[-1]['peak'])}"
        each = f"{1e6 * seconds / size:.0f} us a label"
        yield Row(part, " x ".join(map(str, shape)), as_seconds(seconds), peak, each)
    power = _power([f["labels"].size for f in found], [f["seconds"] for f in found])
    what = "time grows as the number of labels to the power"
    yield Row(part, what, f"{power:.2f}", bar="at most 1.1", met=power <= 1.1)
    yield grown(part, *found[-2:])


def _power(sizes: list[int], values: list[float]) -> float:
    """Slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _context(context: int | None, found: tasks.Timed) -> str:
    return "context=1" if context else f"default context (chose {found['context']})"


PARTS = {
    "patterns": patterns,
    "images": images,
    "spectra": spectra,
    "scaling": scaling,
    "growth": growth,
}
