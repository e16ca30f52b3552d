"""Windows are read together, each chunk once, and chunks that cannot be read are named."""

import dask
import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.embedding import reading
from hyperspy_fewshot.embedding.reading import (
    filled,
    join,
    naming_unreadable,
    pieces_of,
    read,
)
from hyperspy_fewshot.embedding.source import DataSource

VALUES = np.arange(11 * 13 * 20, dtype=np.float32).reshape(11, 13, 20)
CHUNKS = (6, 5, 20)
SUPPORT = {"a": [(0, 0), (2, 5)], "b": [(12, 1), (11, 4)]}


# Windows


def test_every_chunk_is_read_once(tools):
    data = np.random.default_rng(0).random((9, 11, 6))
    store = tools.Store(data)
    windows = [
        (slice(0, 5), slice(2, 9)),
        (slice(3, 9), slice(0, 11)),
        (slice(4, 5), slice(4, 5), slice(0, 6)),
    ]
    parts = read(store.chunked((4, 3, 6)), windows, False, "Reading", "")
    for part, window in zip(parts, windows, strict=True):
        assert type(part) is np.ndarray
        np.testing.assert_array_equal(part, data[window])
    assert set(store.reads.values()) == {1}
    assert len(store.reads) == 3 * 4


def test_only_the_window_is_read_of_a_chunk_that_no_other_window_needs(tools):
    data = np.arange(720.0).reshape(10, 12, 6)
    store = tools.Store(data)
    windows = [(slice(1, 2), slice(3, 5)), (slice(9, 10), slice(0, 2))]
    parts = read(store.chunked((5, 6, 6)), windows, False, "Reading", "")
    for part, window in zip(parts, windows, strict=True):
        np.testing.assert_array_equal(part, data[window])
    assert set(store.reads) == {((1, 2), (3, 5), (0, 6)), ((9, 10), (0, 2), (0, 6))}


def test_the_order_of_windows_is_kept():
    data = np.random.default_rng(0).random((20, 30, 6))
    windows = [
        (slice(0, 2), slice(0, 3)),
        (slice(11, 13), slice(11, 16)),
        (slice(16, 19), slice(1, 2)),
        (slice(12, 14), slice(8, 14)),
        (slice(11, 13), slice(11, 16)),
    ]
    parts = read(da.from_array(data, chunks=(5, 5, 6)), windows, False, "Reading", "")
    for part, window in zip(parts, windows, strict=True):
        np.testing.assert_array_equal(part, data[window])


def test_data_in_memory_are_not_copied():
    source = DataSource(VALUES)
    (part,) = source.read([(slice(1, 2), slice(3, 5))], False, "Reading")
    assert np.shares_memory(part, VALUES)
    np.testing.assert_array_equal(part, VALUES[1:2, 3:5])


def test_no_window_reads_nothing(tools):
    store = tools.Store(VALUES)
    assert read(store.chunked(CHUNKS), [], False, "Reading", "") == []
    assert not store.reads


def test_pieces_join_to_the_window():
    data = np.arange(210).reshape(5, 6, 7)
    lazy = da.from_array(data, chunks=((1, 4), (2, 3, 1), 4))
    for window in [
        (slice(0, 5),),
        (slice(1, 2), slice(1, 6)),
        (slice(0, 4), slice(2, 5), slice(3, 5)),
    ]:
        layer = {}
        pieces = pieces_of(lazy, window, layer, "piece")
        graph = {**dict(lazy.__dask_graph__()), **layer, "whole": (join, pieces)}
        np.testing.assert_array_equal(dask.get(graph, "whole"), data[window])
    # A chunk that lies in the window as a whole needs no task.
    layer = {}
    window = (slice(0, 1), slice(0, 2), slice(0, 4))
    assert pieces_of(lazy, window, layer, "piece") == [[[(lazy.name, 0, 0, 0)]]]
    assert layer == {}


# What cannot be read


def write(path):
    """A file of 2 x 3 chunks."""
    hs.signals.Signal1D(VALUES).save(path, chunks=CHUNKS)
    return path


def damage(path, chunk):
    """Overwrite one chunk of a file with bytes that cannot be decompressed."""
    if path.suffix == ".zspy":
        (file,) = path.glob(f"Experiments/*/data/{'/'.join(map(str, chunk))}")
        file.write_bytes(b"damaged")
        return
    with h5py.File(path) as file:
        ((_, node),) = file["Experiments"].items()
        where = tuple(i * size for i, size in zip(chunk, CHUNKS, strict=True))
        info = node["data"].id.get_chunk_info_by_coord(where)
    with open(path, "r+b") as file:
        file.seek(info.byte_offset)
        file.write(b"\xff" * info.size)


def notes_of(caught):
    return "\n".join(caught.value.__notes__)


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_a_damaged_chunk_is_named_when_the_sample_is_read(suffix, tmp_path):
    path = write(tmp_path / f"scan{suffix}")
    damage(path, (0, 1, 0))
    signal = hs.load(path, lazy=True)
    with pytest.raises((OSError, RuntimeError)) as caught:
        signal.fewshot_classify(SUPPORT, encoder="pca", context=1)
    assert f"Chunk (0, 1, 0) of {str(path)!r} cannot be read" in notes_of(caught)
    assert "copy it again" in notes_of(caught)


def test_a_damaged_chunk_is_named_in_the_pass_over_the_data(tmp_path):
    path = write(tmp_path / "scan.zspy")
    result = hs.load(path, lazy=True).fewshot_classify(SUPPORT, encoder="pca", context=1)
    damage(path, (1, 2, 0))
    # Embeddings of a sample that is the whole of the data are kept: embed them again.
    again = hs.load(path, lazy=True)
    with pytest.raises((OSError, RuntimeError)) as caught:
        again.fewshot_classify(result, lazy_output=False)
    assert f"Chunk (1, 2, 0) of {str(path)!r} cannot be read" in notes_of(caught)


def test_windows_beside_a_damaged_chunk_are_read(tmp_path):
    path = write(tmp_path / "scan.zspy")
    damage(path, (1, 2, 0))
    source = DataSource(hs.load(path, lazy=True).data, name="'scan.zspy'")
    (part,) = source.read([(slice(0, 6), slice(0, 13))], False, "Reading")
    np.testing.assert_array_equal(part, VALUES[:6])
    with pytest.raises(Exception) as caught:  # noqa: B017 (what zarr raises)
        source.read([(slice(5, 7), slice(0, 13))], False, "Reading")
    assert "Chunk (1, 2, 0) of 'scan.zspy' cannot be read" in notes_of(caught)


def test_data_without_a_name():
    def broken(block, block_info=None):
        if block_info[0]["chunk-location"] == (1, 0):
            raise KeyError("mine")
        return block

    data = da.zeros((4, 6), chunks=(2, 3)).map_blocks(broken, dtype=float)
    with pytest.raises(KeyError, match="mine") as caught, naming_unreadable(data, ""):
        data.compute()
    assert "Chunk (1, 0) of the data cannot be read" in notes_of(caught)


def test_errors_that_have_nothing_to_do_with_reading_get_no_note():
    for data in (VALUES, da.from_array(VALUES, chunks=CHUNKS)):
        with pytest.raises(ValueError, match="mine") as caught, naming_unreadable(data, "data"):
            raise ValueError("mine")
        assert not hasattr(caught.value, "__notes__")


def test_the_search_for_the_chunk_takes_a_limited_time(monkeypatch):
    monkeypatch.setattr(reading, "_SEARCH_TIME", 0.0)
    data = da.zeros((4, 6), chunks=2).map_blocks(lambda block: 1 / 0, dtype=float, meta=VALUES)
    with pytest.raises(ZeroDivisionError) as caught, naming_unreadable(data, "data"):
        data.compute()
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "i8", "f2", ">f4", "f8"])
def test_masked_entries_are_read_as_nan(dtype):
    data = np.random.default_rng(0).integers(0, 2, (5, 6, 4)).astype(dtype)
    mask = np.random.default_rng(1).random(data.shape) < 0.2
    expected = np.where(mask, np.nan, data.astype(np.result_type(dtype, np.float32)))
    masked = np.ma.array(data, mask=mask)
    windows = [(slice(0, 4), slice(1, 6)), (slice(2, 3), slice(0, 6))]
    numbered = np.arange(data.size).reshape(data.shape)

    def some_masked(block):
        # Only the first chunk says so.
        where = np.unravel_index(block, data.shape)
        return np.ma.array(data[where], mask=mask[where]) if block[0, 0, 0] == 0 else data[where]

    chunks = (3, 4, 4)
    lying = da.from_array(numbered, chunks=chunks).map_blocks(
        some_masked, dtype=dtype, meta=np.empty((0, 0, 0), dtype)
    )
    for source in (masked, da.from_array(masked, chunks=chunks), lying):
        truth = expected
        if source is lying:
            truth = data.astype(expected.dtype)
            truth[:3, :4] = expected[:3, :4]
        for found, window in zip(read(source, windows, False, "", ""), windows, strict=True):
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, truth[window])
            layer = {}
            pieces = pieces_of(source, window, layer, "piece")
            if isinstance(source, da.Array):
                graph = {**source.__dask_graph__(), **layer, "joined": (join, pieces)}
                pieces = dask.get(graph, "joined")
            found = join(pieces)
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, truth[window])


def test_plain_data_are_not_copied():
    data = np.arange(6, dtype=np.uint16)
    assert filled(data) is data
