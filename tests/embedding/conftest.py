"""Data, encoders and naive references that several test modules of this room use."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import torch

from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.grids import chips, positions
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid

# Data of all-different dimensions: their shape, a grid and the most uneven chunks.
CASES = {
    "patterns": ((2, 3, 40, 56), PositionGrid((2, 3), (40, 56)), (1, (1, 2), (17, 23), (30, 26))),
    "pooled patterns": ((2, 3, 8, 9), PositionGrid((2, 3), (8, 9), 3), (2, 1, 8, (5, 4))),
    "pooled spectra": (
        (11, 14, 20),
        PositionGrid((11, 14), (20,), 5),
        ((1, 7, 3), (9, 5), (13, 7)),
    ),
    "series": ((2, 7, 8, 6), PositionGrid((2, 7, 8), (6,), 3), (1, (3, 4), 8, 6)),
    "line": ((37, 20), PositionGrid((37,), (20,), 3), ((1, 30, 6), 20)),
    "image": ((40, 56), ChipGrid((), (40, 56), 16, 5), ((17, 23), (1, 30, 25))),
    "stack": ((2, 3, 40, 56), ChipGrid((2, 3), (40, 56), 13, 9), (2, (1, 2), (17, 23), (30, 26))),
}


class Store:
    """An array that remembers what is read of it, as a file could."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.reads = Counter()
        self._lock = threading.Lock()

    def __getitem__(self, where):
        part = self.data[where]
        if part.size:
            with self._lock:
                self.reads[tuple((s.start, s.stop) for s in where)] += 1
        return part

    def chunked(self, chunks):
        return da.from_array(self, chunks=chunks)


@dataclass(frozen=True, eq=False)
class Moments(Encoder):
    """Mean, spread and first value of each item, and a log of the calls."""

    name: str = "moments"
    calls: list = field(default_factory=list)

    def encode(self, batch, device="cpu"):
        self.calls.append((len(batch), torch.get_num_threads()))
        flat = batch.reshape(len(batch), -1).astype(float)
        return np.stack([flat.mean(1), flat.std(1), flat[:, 0]], axis=1)

    @property
    def n_items(self):
        return sum(n for n, _ in self.calls)


def naive_items(data, grid, mask=None):
    """All items of a grid, shape (*grid.shape, *item_shape), one by one."""
    mask = np.zeros(grid.shape, bool) if mask is None else mask
    items = np.full((*grid.shape, *grid.item_shape), np.nan)
    frames = data
    if grid.kind == "image":
        wide = [(0, 0)] * (data.ndim - 2) + [(n - 1, n - 1) for n in data.shape[-2:]]
        frames = np.pad(data, wide, mode="reflect")
    for at in np.ndindex(grid.shape):
        if grid.kind == "image":
            first = [
                i * grid.stride + (grid.stride - grid.chip_size) // 2 + n - 1
                for i, n in zip(at[-2:], data.shape[-2:], strict=True)
            ]
            chip = tuple(slice(low, low + grid.chip_size) for low in first)
            items[at] = frames[at[:-2]][chip]
        elif np.isfinite(data[at]).all():
            half, first = grid.context // 2, max(0, len(at) - 2)
            window = tuple(
                slice(i, i + 1) if axis < first else slice(max(0, i - half), i + half + 1)
                for axis, i in enumerate(at)
            )
            near = data[window].reshape(-1, *grid.item_shape).astype(float)
            # An example may lie at a masked position; its neighbours may not.
            kept = ~mask[window].ravel() & np.isfinite(near.reshape(len(near), -1)).all(axis=1)
            items[at] = near[kept].mean(axis=0) if kept.any() else np.nan
    return items


def naive_embeddings(data, grid, encoder, mask=None):
    """Embeddings of all queries, shape (*grid.shape, d); NaN where masked or not finite."""
    items = naive_items(data, grid, mask).reshape(-1, *grid.item_shape)
    dead = ~np.isfinite(items).all(axis=tuple(range(1, items.ndim)))
    if mask is not None:
        dead |= mask.ravel()
    found = encoder.encode(items[~dead].astype(np.float32))
    embeddings = np.full((len(items), found.shape[1]), np.nan, np.float32)
    embeddings[~dead] = found
    return embeddings.reshape(*grid.shape, -1)


def recipe_of(encoder, grid, size=3, **options):
    """Make a recipe of one part."""
    return Recipe((Part(encoder, grid, size, **options),), np.zeros(size), (1.0, "nm"))


@pytest.fixture(scope="session")
def tools():
    """What test modules cannot import from here."""
    return SimpleNamespace(
        Store=Store,
        Moments=Moments,
        CASES=CASES,
        naive_items=naive_items,
        naive_embeddings=naive_embeddings,
        recipe_of=recipe_of,
    )


@pytest.fixture(params=CASES)
def case(request):
    """Data, grid and chunks."""
    shape, grid, chunks = CASES[request.param]
    rng = np.random.default_rng(len(request.param))
    return rng.integers(0, 4000, shape).astype(np.uint16), grid, chunks


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that every case has several."""
    monkeypatch.setattr(chips, "_BLOCK_SIDE", 16)
    monkeypatch.setattr(chips, "_BLOCK_CHIPS", 1)
    monkeypatch.setattr(positions, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(positions, "_BLOCK_PATTERNS", 2)
