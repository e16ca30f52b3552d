"""Specimens for speed.py: three classes in bands, seeded, written once as files."""

from pathlib import Path

import hyperspy.api as hs
import numpy as np
from hyperspy.signal import BaseSignal

CLASSES = ("left", "middle", "right")
_SHOTS = 5

Item = tuple[int, ...]


def written(folder: Path, kind: str, shape: Item, ending: str = "zspy") -> Path:
    """File of a specimen, made if it is not there.

    Parameters
    ----------
    folder
        Where it lies.
    kind
        ``"patterns"``, ``"spectra"`` or ``"image"``.
    shape
        Of the data: navigation, then signal axes.
    ending
        Of the file: ``"zspy"`` or ``"hspy"``, with HyperSpy's default chunks and compression.
    """
    path = folder / f"{kind}_{'x'.join(map(str, shape))}.{ending}"
    if not path.exists():
        signal(kind, shape).save(path, show_progressbar=False)
    return path


def signal(kind: str, shape: Item) -> BaseSignal:
    """Make a specimen in memory, uint16."""
    rng = np.random.default_rng(0)
    classes = bands(shape[1])
    if kind == "image":
        rates = np.take_along_axis(_textures(shape), classes[np.newaxis, np.newaxis], axis=0)[0]
        return hs.signals.Signal2D(rng.poisson(rates).astype(np.uint16))
    rates = {"patterns": _rings, "spectra": _peaks}[kind](shape[2:])
    data = np.empty(shape, np.uint16)
    for row in data:
        row[:] = rng.poisson(rates[classes])
    return (hs.signals.Signal2D if kind == "patterns" else hs.signals.Signal1D)(data)


def bands(width: int) -> np.ndarray:
    """Class of every column."""
    return np.arange(width) * len(CLASSES) // width


def support(width: int, height: int) -> dict[str, list[tuple[int, int]]]:
    """Positions (x, y) down the middle of every band."""
    rows = [(2 * i + 1) * height // (2 * _SHOTS) for i in range(_SHOTS)]
    columns = [(2 * i + 1) * width // (2 * len(CLASSES)) for i in range(len(CLASSES))]
    return {name: [(x, y) for y in rows] for name, x in zip(CLASSES, columns, strict=True)}


def support_of(signal: BaseSignal) -> dict[str, list[tuple[int, int]]]:
    """The same for a signal of any kind."""
    axes = signal.axes_manager
    return support(*(axes.navigation_shape or axes.signal_shape))


def right(labels: np.ndarray) -> tuple[float, float]:
    """Share of the labels not rejected that are right, and share rejected.

    What lies within a twentieth of the width of a boundary is left out.
    """
    width = labels.shape[1]
    classes, columns, reach = bands(width), np.arange(width), width // 20
    before, after = np.maximum(columns - reach, 0), np.minimum(columns + reach, width - 1)
    inside = classes[before] == classes[after]
    labels, classes = (
        labels[:, inside],
        np.broadcast_to(classes[inside], (len(labels), inside.sum())),
    )
    kept = labels >= 0
    return float((labels == classes)[kept].mean()), float(1 - kept.mean())


def _textures(shape: Item) -> np.ndarray:
    """Lattices that differ in period and orientation [counts]."""
    y, x = np.indices(shape, np.float32)
    vectors = ((0.7, 0.0), (0.55, 0.1), (0.6, 0.35))
    waves = [np.cos(u * x + v * y) + np.cos(v * x - u * y) for u, v in vectors]
    return 30 + 7 * np.stack(waves)


def _rings(shape: Item) -> np.ndarray:
    """Disks on rings, and the direct beam [counts]."""
    y, x = (i / n - 0.5 for i, n in zip(np.indices(shape), shape, strict=True))
    patterns = []
    for radius, number in ((0.2, 4), (0.27, 6), (0.34, 8)):
        angles = 2 * np.pi * np.arange(number) / number
        centres = [(0, 0), *zip(radius * np.cos(angles), radius * np.sin(angles), strict=True)]
        disks = sum(np.hypot(x - u, y - v) < 0.05 for u, v in centres)
        patterns.append(0.5 + 10 * disks)
    return np.stack(patterns)


def _peaks(shape: Item) -> np.ndarray:
    """A falling background with two peaks [counts]."""
    energy = np.linspace(0, 1, *shape)
    return np.stack(
        [
            4 / (1 + 4 * energy) + 3 * sum(np.exp(-(((energy - c) / 0.02) ** 2)) for c in centres)
            for centres in ((0.2, 0.5), (0.3, 0.5), (0.3, 0.7))
        ]
    )
