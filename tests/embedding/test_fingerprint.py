"""Data are recognised again from a few pieces of them."""

import dask.array as da
import numpy as np
import pytest

from hyperspy_fewshot.embedding.fingerprint import fingerprint
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid

GRIDS = {
    "image": ChipGrid((), (300, 401), 16, 4),
    "stack": ChipGrid((2, 3), (90, 70), 16, 4),
    "spectra": PositionGrid((11, 14), (50,)),
    "patterns": PositionGrid((5, 6), (12, 13)),
}


@pytest.fixture(params=GRIDS)
def grid_and_data(request):
    grid = GRIDS[request.param]
    shape = (*grid.nav_shape, *grid.signal_shape)
    data = np.random.default_rng(0).integers(0, 900, shape).astype(np.uint16)
    return grid, data


def digest(data, grid):
    return fingerprint(DataSource(data), grid)


def test_other_data_have_another_fingerprint(grid_and_data):
    grid, data = grid_and_data
    digests = {digest(data, grid), digest(data + 1, grid), digest(data[..., ::-1], grid)}
    digests |= {digest(data.astype("f8"), grid), digest(data[::-1], grid), digest(data[1:], grid)}
    assert len(digests) == 6


def test_lazy_data_have_the_fingerprint_of_eager_data(grid_and_data):
    grid, data = grid_and_data
    expected = digest(data, grid)
    for chunks in (-1, 7, tuple(-(-n // 3) for n in data.shape)):
        assert digest(da.from_array(data, chunks=chunks), grid) == expected
    assert digest(np.asfortranarray(data), grid) == expected


def test_a_few_pieces_are_read(grid_and_data, tools):
    grid, data = grid_and_data
    chunks = [10 if grid.kind == "image" else -1] * data.ndim
    chunks[: len(grid.nav_shape)] = [1] * len(grid.nav_shape)
    store = tools.Store(data)
    digest(store.chunked(chunks), grid)
    assert set(store.reads.values()) == {1}
    read = sum(np.prod([b - a for a, b in where]) for where in store.reads)
    # Windows of 64 px reach into chunks that go up to 9 px further on each side.
    most = 16 * (82 * 82 if grid.kind == "image" else np.prod(grid.signal_shape))
    assert 0 < read <= most


def test_few_pieces_of_large_patterns_are_read(tools):
    class Large:
        shape, dtype, ndim = (40, 50, 4096, 4096), np.dtype("u2"), 4
        read = 0

        def __getitem__(self, where):
            part = np.broadcast_to(np.uint16(7), self.shape)[where]
            Large.read += part.nbytes
            return part

    data = da.from_array(Large(), chunks=(1, 1, 4096, 4096), meta=np.empty((0,) * 4, "u2"))
    digest(data, PositionGrid((40, 50), (4096, 4096)))
    assert 0 < Large.read <= 64 * 2**20
