"""Chunks that are slow to read, or too large, are reported with better ones."""

import re

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.embedding import chunks as module
from hyperspy_fewshot.embedding.chunks import check_chunks


@pytest.mark.parametrize(
    ("shape", "chunks", "n_whole", "message"),
    [
        (
            (1200, 256, 2048),
            (1200, 256, 1),
            1,
            r"chunks of shape \(1200, 256, 1\) cut the signal axes, and need 1.2 GB .* at once; "
            r"chunks of shape \(128, 128, 2048\) are better.*s.save\('rechunked.zspy', chunks=",
        ),
        ((300, 200, 256, 320), (100, 200, 256, 320), 2, r"need 3.1 GB .*\(20, 20, 256, 320\)"),
        ((60000, 50000), (60000, 10000), 0, r"need 1.1 GB .* \(5792, 5792\) are better"),
        ((500, 300, 100), (2, 3, 100), 1, r"Its 25000 chunks of 1.2 kB each are slow to read"),
    ],
)
def test_bad_chunks(shape, chunks, n_whole, message):
    data = da.zeros(shape, chunks=chunks, dtype=np.uint16)
    with pytest.warns(UserWarning, match=message):
        check_chunks(data, n_whole)


@pytest.mark.parametrize(
    ("shape", "chunks", "n_whole"),
    [
        ((300, 200, 256, 320), (50, 60, 64, 320), 2),
        ((500, 300, 100), (22, 22, 100), 1),
        ((100, 90, 2000), (10, 9, 100), 1),
        ((5, 512, 600), (1, 512, 600), 0),
        ((30000, 20000), "auto", 0),
    ],
)
def test_good_chunks(shape, chunks, n_whole, recwarn):
    check_chunks(da.zeros(shape, chunks=chunks, dtype=np.uint16), n_whole)
    assert not recwarn


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_files_as_hyperspy_writes_them(suffix, tmp_path, recwarn):
    hs.signals.Signal2D(np.zeros((40, 30, 32, 36), np.uint8)).save(tmp_path / f"s{suffix}")
    recwarn.clear()
    check_chunks(hs.load(tmp_path / f"s{suffix}", lazy=True).data, 2)
    assert not [w for w in recwarn if w.category is UserWarning]


@pytest.mark.parametrize("method", ["fewshot_classify", "fewshot_embed"])
def test_a_call_warns_once_and_the_advice_can_be_followed(method, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 5000)
    monkeypatch.setattr(module, "_GOOD_CHUNK", 4000)
    values = np.arange(11 * 13 * 20, dtype=np.float32).reshape(11, 13, 20)
    signal = hs.signals.Signal1D(values).as_lazy()
    signal.data = signal.data.rechunk((11, 13, 1))
    given = {"encoder": "pca", "context": 1}
    if method == "fewshot_classify":
        given["support"] = {"a": [(0, 0), (2, 5)], "b": [(12, 1), (11, 4)]}
    with pytest.warns(UserWarning, match="cut the signal axes") as caught:
        getattr(signal, method)(**given)
    (warning,) = [w for w in caught if "chunks" in str(w.message)]
    assert warning.filename == __file__
    name, shape = re.search(r"s.save\('(.*)', chunks=\((.*)\)\)", str(warning.message)).groups()
    chunks = tuple(map(int, shape.split(",")))
    signal.save(tmp_path / name, chunks=chunks)
    better = hs.load(tmp_path / name, lazy=True).data
    assert better.chunksize == chunks
    check_chunks(better, 1)
