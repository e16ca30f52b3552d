import os
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

os.environ["MPLBACKEND"] = "agg"
# Beside dask's threads, and other programs, more BLAS threads only get in the way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dask.array as da  # noqa: E402
import hyperspy.api as hs  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from hyperspy_fewshot.grids import chips, positions  # noqa: E402
from hyperspy_fewshot.grids.chips import ChipGrid  # noqa: E402
from hyperspy_fewshot.grids.positions import PositionGrid  # noqa: E402

hs.preferences.General.show_progressbar = False

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real data, from HYPERSPY_FEWSHOT_DATA or beside the checkout."""
    default = CHECKOUT.parent / "shared" / "data"
    path = Path(os.environ.get("HYPERSPY_FEWSHOT_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set HYPERSPY_FEWSHOT_DATA)")
    return path


@pytest.fixture(autouse=True)
def close_figures():
    """Close the figures that a test leaves open."""
    yield
    plt.close("all")


def image(nav_shape=(), shape=(41, 53), seed=0):
    """Dark left, bright right half (from column 26 on), with axes and metadata."""
    values = np.random.default_rng(seed).normal(10, 1, (*nav_shape, *shape))
    values[..., 26:] += 20
    signal = hs.signals.Signal2D(values)
    for axis, name, scale, offset in zip(
        signal.axes_manager.signal_axes, "xy", (0.5, 0.2), (-3.0, 10.0), strict=True
    ):
        axis.name, axis.units, axis.scale, axis.offset = name, "nm", scale, offset
    signal.metadata.General.title = "Two halves"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    signal.metadata.set_item("Sample.description", "halves")
    signal.original_metadata.set_item("vendor.secret", 42)
    return signal


def spectra(nav_shape=(6, 7), seed=0):
    """Spectra with a peak at channel 8 on the left, at channel 20 from column 4 on."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(20.0, (*nav_shape, 30)).astype(float)
    values[..., :4, 7:10] += 100
    values[..., 4:, 19:22] += 100
    signal = hs.signals.Signal1D(values)
    signal.metadata.General.title = "Two phases"
    for axis, scale, offset in zip(
        signal.axes_manager.navigation_axes[:2], (1.5, 2.5), (4.0, -1.0), strict=False
    ):
        axis.units, axis.scale, axis.offset = "nm", scale, offset
    return signal


def patterns(nav_shape=(6, 7), seed=0):
    """Patterns of 5 x 6 pixels that hold the values of :func:`spectra`."""
    signal = spectra(nav_shape, seed)
    axes = signal.axes_manager.as_dictionary().values()
    result = hs.signals.Signal2D(signal.data.reshape(*nav_shape, 5, 6))
    for axis, old in zip(result.axes_manager._axes, axes, strict=False):
        if old["navigate"]:
            axis.scale, axis.offset, axis.units = old["scale"], old["offset"], old["units"]
    return result


IMAGE_SUPPORT = {"dark": [(8, 8), (12, 30)], "bright": [(45, 10), (40, 30)]}
STACK_SUPPORT = {
    name: [(i, *place) for i, place in enumerate(places)] for name, places in IMAGE_SUPPORT.items()
}
SCAN_SUPPORT = {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}
LINE_SUPPORT = {"a": [0, 2], "b": [4, 6]}
# How to make a signal of each kind, support examples on it, and settings that are quick to compute.
KINDS = {
    "image": (image, IMAGE_SUPPORT, {"chip_size": 8, "stride": 3, "encoder": "pca"}),
    "stack": (
        lambda: image((3,)),
        STACK_SUPPORT,
        {"chip_size": 8, "stride": 4, "encoder": "pca"},
    ),
    "patterns": (patterns, SCAN_SUPPORT, {"encoder": "pca", "context": 3}),
    "spectra": (spectra, SCAN_SUPPORT, {"encoder": "pca", "context": 3}),
    "line scan": (lambda: spectra((7,)), LINE_SUPPORT, {"encoder": "pca", "context": 1}),
}


@cache
def made(kind):
    """Return the result of a kind, which tests leave as it is."""
    make, support, settings = KINDS[kind]
    return make().fewshot_classify(support, **settings)


class CountingEncoder:
    """Mean and spread of every item; counts the items that it is given."""

    def __init__(self):
        self.count = 0

    def __call__(self, items):
        self.count += len(items)
        flat = items.reshape(len(items), -1).astype(np.float32)
        return np.stack([flat.mean(1), flat.std(1), np.abs(np.diff(flat)).mean(1)], axis=1)


def counting(signal, chunks):
    """Return a lazy signal that counts how often each chunk is read, and its counts."""
    counts, array = Counter(), signal.data

    def read(block, block_info=None):
        if block_info:
            counts[tuple(block_info[0]["chunk-location"])] += 1
        return block

    lazy = signal.as_lazy()
    lazy.data = da.from_array(array, chunks=chunks).map_blocks(
        read, dtype=array.dtype, meta=np.empty((0,) * array.ndim, array.dtype)
    )
    counts.clear()
    return lazy, counts


def lazily(signal):
    """Return the same signal, lazy, in uneven chunks."""
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk(
        tuple((n // 3, n - n // 3) if n > 2 else n for n in lazy.data.shape)
    )
    return lazy


@pytest.fixture
def in_pieces(monkeypatch):
    """Treat small data as large ones: a sample that is a part of them, and several blocks."""
    for grid, module in ((ChipGrid, chips), (PositionGrid, positions)):
        monkeypatch.setattr(grid, "sample_size", 16)
        monkeypatch.setattr(module, "_SAMPLE_SIDE", 2)
    monkeypatch.setattr(chips, "_BLOCK_SIDE", 16)
    monkeypatch.setattr(positions, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(positions, "_BLOCK_PATTERNS", 4)


@pytest.fixture(scope="session")
def scenes():
    """Two classes in a signal of each kind, as functions, examples, settings and results."""
    return SimpleNamespace(
        image=image,
        spectra=spectra,
        patterns=patterns,
        made=made,
        lazily=lazily,
        counting=counting,
        CountingEncoder=CountingEncoder,
        kinds=KINDS,
        image_support=IMAGE_SUPPORT,
        stack_support=STACK_SUPPORT,
        scan_support=SCAN_SUPPORT,
        image_settings=KINDS["image"][2],
    )
