"""The measurements of speed.py. As a program it makes one of them in a process of its own."""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hyperspy.api as hs
import numpy as np
import torch
from hyperspy.signal import BaseSignal

from hyperspy_fewshot import FewShotResult
from hyperspy_fewshot.encoders import Encoder

CHIP = 64
_CLASSES = ("left", "middle", "right")
_SHOTS = 5

Found = dict[str, Any]


def write(path: str, shape: list[int]) -> None:
    """Save three bands of waves with Poisson noise, with HyperSpy's chunks and compression."""
    rng, classes = np.random.default_rng(0), bands(shape[1])
    axes = np.indices(shape[2:] or shape, np.float32)
    waves = [3 + sum(np.cos(frequency * axis) for axis in axes) for frequency in (0.7, 0.55, 0.4)]
    if len(shape) == 2:
        data = rng.poisson(8 * np.choose(classes, waves)).astype(np.uint16)
    else:
        data = np.empty(shape, np.uint16)
        for row in data:
            row[:] = rng.poisson(np.stack(waves)[classes])
    make = hs.signals.Signal1D if len(shape) == 3 else hs.signals.Signal2D
    make(data).save(path, show_progressbar=False)


def bands(width: int) -> np.ndarray:
    """Class of every column."""
    return np.arange(width) * len(_CLASSES) // width


def examples(signal: BaseSignal) -> dict[str, list[tuple[int, int]]]:
    """Positions (x, y) along the middle of every band."""
    axes = signal.axes_manager
    width, height = axes.navigation_shape or axes.signal_shape
    columns = [(2 * k + 1) * width // (2 * len(_CLASSES)) for k in range(len(_CLASSES))]
    rows = [(2 * i + 1) * height // (2 * _SHOTS) for i in range(_SHOTS)]
    return {name: [(x, y) for y in rows] for name, x in zip(_CLASSES, columns, strict=True)}


def classification(path: str, lazy: bool, calls: int, **options: Any) -> Found:
    """Time whole calls, the first and the fastest of the others; peak memory of the first."""
    signal = hs.load(path, lazy=lazy)
    support, before = examples(signal), _peak_memory()
    first, result = timed(_classified, signal, support, **options)
    memory, labels = _peak_memory() - before, result.labels
    # Otherwise its embeddings would stay in memory beside those of the next calls.
    del result
    others = [timed(_classified, signal, support, **options)[0] for _ in range(calls - 1)]
    return {
        "first": first,
        "seconds": min(others, default=first),
        "memory": memory,
        "labels": labels.data,
        "right": float((labels.data == bands(labels.data.shape[1])).mean()),
        "context": labels.metadata.get_item("FewShot.context", 1),
    }


def updates(path: str, lazy: bool, calls: int, **options: Any) -> Found:
    """Time a first call and the updates after it; count labels that differ from a new call's."""
    signal = hs.load(path, lazy=lazy)
    support = examples(signal)
    first, result = timed(_classified, signal, support, **options)
    name, (x, y) = _CLASSES[0], support[_CLASSES[0]][0]
    # An example is read and embedded once only, so that each call needs another one.
    changes: dict[str, Callable[[int], Found]] = {
        "one more example": lambda i: {"examples": {name: [(x + 1, y + i)]}},
        "one example removed": lambda i: {"remove": {name: i}},
        "rejection off": lambda i: {"reject": False},
    }
    times, differ = {}, 0
    for what, change in changes.items():
        found = [timed(result.update, show_progressbar=False, **change(i)) for i in range(calls)]
        times[what], updated = min(seconds for seconds, _ in found), found[0][1]
        options["reject"] = updated.classifier.reject
        new = _classified(signal, updated.support, **options)
        differ += int((updated.labels.data != new.labels.data).sum())
    return {"first": first, "times": times, "differ": differ}


def least(path: str, rows: int, calls: int) -> Found:
    """Time reading and encoding patterns, and a plain ``map`` scaled from its first rows."""
    signal, lazy = hs.load(path), hs.load(path, lazy=True)
    encoder = _fitted_encoder(lazy, context=1)
    part, items = lazy.inav[:, :rows], signal.data.reshape(-1, *signal.data.shape[2:])

    def embed(pattern: np.ndarray) -> np.ndarray:
        return encoder.encode(pattern[np.newaxis])[0]

    def embed_part() -> None:
        size = embed(items[0]).shape
        found = part.map(
            embed, inplace=False, ragged=False, output_dtype=np.float32, output_signal_size=size,
            show_progressbar=False,
        )  # fmt: skip
        found.compute(show_progressbar=False)

    reading = min(timed(_read, lazy.data)[0] for _ in range(calls))
    encoding = min(timed(_encode, encoder, items)[0] for _ in range(calls))
    mapping = timed(embed_part)[0] * len(signal.data) / len(part.data)
    return {
        f"reading {reading:.2f} s + encoding {encoding:.2f} s": reading + encoding,
        f"plain map, scaled from {len(part.data)} rows": mapping,
    }


def _read(data: Any) -> None:
    """Read and decompress every chunk, and keep one number of each."""
    corner = (slice(1),) * data.ndim
    data.map_blocks(lambda chunk: chunk[corner].copy(), chunks=(1,) * data.ndim).compute()


def chips_alone(path: str, count: int) -> float:
    """Time per chip of the encoder, on chips cut out of an image."""
    signal = hs.load(path)
    encoder = _fitted_encoder(signal, chip_size=CHIP, stride=CHIP)
    starts = np.random.default_rng(0).integers(len(signal.data) - CHIP, size=(count, 2))
    chips = np.stack([signal.data[y : y + CHIP, x : x + CHIP] for y, x in starts])
    # The first call builds the network, too.
    _encode(encoder, chips[:4])
    return timed(_encode, encoder, chips)[0] / count


def _encode(encoder: Encoder, items: np.ndarray) -> None:
    """Encode items in memory, with one thread per core."""
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    size = min(encoder.batch_of(items.shape[1:]), -(-len(items) // cores))
    batches = np.split(items, range(size, len(items), size))
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(encoder.encode, batches))
    torch.set_num_threads(threads)


def timed(function: Callable, *args: Any, **options: Any) -> tuple[float, Any]:
    """Wall time [s] of a call, and what it returns."""
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


def _classified(signal: BaseSignal, support: Any, **options: Any) -> FewShotResult:
    result = signal.fewshot_classify(support, show_progressbar=False, **options)
    return result.compute(show_progressbar=False)


def _fitted_encoder(signal: BaseSignal, **options: Any) -> Encoder:
    found = signal.fewshot_embed(lazy_output=True, show_progressbar=False, **options)
    return found.recipe.parts[0].encoder


def _peak_memory() -> float:
    """Largest memory of this process so far [MB]; NaN where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return 1.024e-3 * float(status.read_text().partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    _, _name, _path, _options, _out = sys.argv
    Path(_out).write_bytes(pickle.dumps(globals()[_name](_path, **json.loads(_options))))
