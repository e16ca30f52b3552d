"""What cannot be read is named; chunks that are bad to read are told of, with better ones."""

import re

import dask
import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import reading

VALUES = np.arange(11 * 13 * 20, dtype=np.float32).reshape(11, 13, 20)
CHUNKS = (6, 5, 20)
SUPPORT = {"a": [(0, 0), (2, 5)], "b": [(12, 1), (11, 4)]}


def write(path):
    """A file of 2 x 3 chunks."""
    hs.signals.Signal1D(VALUES).save(path, chunks=CHUNKS)
    return path


def spoil(path, chunk):
    """Overwrite one chunk of a file with what cannot be decompressed."""
    if path.suffix == ".zspy":
        (file,) = path.glob(f"Experiments/*/data/{'/'.join(map(str, chunk))}")
        file.write_bytes(b"spoilt")
        return
    with h5py.File(path) as file:
        ((_, node),) = file["Experiments"].items()
        where = tuple(i * size for i, size in zip(chunk, CHUNKS, strict=True))
        info = node["data"].id.get_chunk_info_by_coord(where)
    with open(path, "r+b") as file:
        file.seek(info.byte_offset)
        file.write(b"\xff" * info.size)


def lazily(path):
    signal = hs.load(path, lazy=True)
    return signal, reading.guarded(signal.data, reading.file_of(signal))


class TestGuarded:
    @pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_names_file_and_chunk(self, suffix, scheduler, tmp_path):
        if (suffix, scheduler) == (".hspy", "processes"):
            pytest.skip("h5py does not pickle")
        path = write(tmp_path / f"scan{suffix}")
        spoil(path, (1, 2, 0))
        _, data = lazily(path)
        message = (
            rf"Chunk \(1, 2, 0\) of 'scan{suffix}' \(positions 6:11, 10:13, 0:20\) cannot be read"
        )
        with dask.config.set(scheduler=scheduler):
            np.testing.assert_array_equal(data[:, :10].compute(), VALUES[:, :10])
            with pytest.raises(OSError, match=message):
                data.compute()

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_classify(self, suffix, tmp_path):
        path = write(tmp_path / f"scan{suffix}")
        spoil(path, (0, 1, 0))
        signal = hs.load(path, lazy=True)
        with pytest.raises(OSError, match=rf"Chunk \(0, 1, 0\) of 'scan{suffix}'"):
            signal.fewshot_classify(SUPPORT, encoder="pca")

    def test_a_result_stays_lazy(self, tmp_path):
        path = write(tmp_path / "scan.zspy")
        result = hs.load(path, lazy=True).fewshot_classify(SUPPORT, encoder="pca")
        spoil(path, (0, 1, 0))
        with pytest.raises(OSError, match=r"Chunk \(0, 1, 0\) of 'scan.zspy'"):
            result.compute()
        assert all(s._lazy for s in (result.labels, result.probabilities, result.confidence))

    def test_a_memory_map_that_was_cut_off(self, tmp_path):
        path = tmp_path / "patterns.blo"
        hs.signals.Signal2D(np.ones((3, 4, 12, 12), np.uint8)).save(path)
        _, data = lazily(path)
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(OSError, match=r"Chunk \(0, 0, 0, 0\) of 'patterns.blo' cannot be read"):
            data.compute()

    def test_an_array_without_a_signal_names_its_file(self, tmp_path):
        path = write(tmp_path / "scan.zspy")
        spoil(path, (0, 0, 0))
        data = reading.guarded(hs.load(path, lazy=True).data, None)
        with pytest.raises(OSError, match=r"Chunk \(0, 0, 0\) of 'scan.zspy'"):
            data.compute()

    @pytest.mark.parametrize("inline", [False, True])
    def test_an_array_in_the_graph_itself(self, inline):
        class Broken:
            shape, dtype, ndim = (4, 6), np.dtype(float), 2

            def __getitem__(self, index):
                raise ValueError("gone" if index[0].stop else "")

        data = da.from_array(
            Broken(), chunks=3, name="broken", meta=np.empty((0, 0)), inline_array=inline
        )
        with pytest.raises(OSError, match=r"Chunk \(0, 0\) of .*Broken.*0:3, 0:3.*gone"):
            reading.guarded(data, None)[:3, :3].compute()

    def test_memory_errors_stay_what_they_are(self):
        class Large:
            shape, dtype, ndim = (4, 6), np.dtype(float), 2

            def __getitem__(self, index):
                raise MemoryError("too large")

        with pytest.raises(MemoryError, match="too large"):
            reading.guarded(da.from_array(Large(), chunks=3), None).compute()

    def test_what_is_computed_raises_its_own_errors(self):
        def fail(block):
            raise KeyError("mine")

        data = da.zeros((4, 6), chunks=3).map_blocks(fail, dtype=float)
        with pytest.raises(KeyError, match="mine"):
            reading.guarded(data, None).compute()

    @pytest.mark.parametrize("inline", [False, True])
    def test_as_much_is_read_as_without(self, inline):
        read = []

        class Source:
            shape, dtype, ndim = (40, 60), np.dtype(float), 2

            def __getitem__(self, index):
                read.append(index)
                return np.zeros(self.shape)[index]

        data = da.from_array(Source(), chunks=-1, name="source", inline_array=inline)
        slices = []
        for array in (data, reading.guarded(data, None)):
            read.clear()
            assert array[3:5, 7:11].compute().shape == (2, 4)
            slices.append(list(read))
        assert slices[0] == slices[1]

    def test_keys_chunks_and_values_are_the_same(self, tmp_path):
        signal, data = lazily(write(tmp_path / "scan.hspy"))
        assert (data.name, data.chunks, data.dtype) == (
            signal.data.name,
            signal.data.chunks,
            signal.data.dtype,
        )
        np.testing.assert_array_equal(data, VALUES)
        np.testing.assert_array_equal(data[4:9, 3:, ::2], VALUES[4:9, 3:, ::2])


class TestCheckChunks:
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
    def test_bad_ones(self, shape, chunks, n_whole, message):
        data = da.zeros(shape, chunks=chunks, dtype=np.uint16)
        with pytest.warns(UserWarning, match=message):
            reading.check_chunks(data, n_whole)

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
    def test_good_ones(self, shape, chunks, n_whole, recwarn):
        reading.check_chunks(da.zeros(shape, chunks=chunks, dtype=np.uint16), n_whole)
        assert not recwarn

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_files_as_hyperspy_writes_them(self, suffix, tmp_path, recwarn):
        hs.signals.Signal2D(np.zeros((40, 30, 32, 36), np.uint8)).save(tmp_path / f"s{suffix}")
        recwarn.clear()
        reading.check_chunks(hs.load(tmp_path / f"s{suffix}", lazy=True).data, 2)
        assert not [w for w in recwarn if w.category is UserWarning]

    def test_classify_warns_once_and_the_advice_can_be_followed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "_MOST_AT_ONCE", 5000)
        monkeypatch.setattr(reading, "_GOOD_CHUNK", 4000)
        signal = hs.signals.Signal1D(VALUES).as_lazy()
        signal.data = signal.data.rechunk((11, 13, 1))
        with pytest.warns(UserWarning, match="cut the signal axes") as caught:
            signal.fewshot_classify(SUPPORT, encoder="pca")
        (warning,) = [w for w in caught if "chunks" in str(w.message)]
        assert warning.filename == __file__
        name, shape = re.search(r"s.save\('(.*)', chunks=\((.*)\)\)", str(warning.message)).groups()
        chunks = tuple(map(int, shape.split(",")))
        signal.save(tmp_path / name, chunks=chunks)
        better = hs.load(tmp_path / name, lazy=True).data
        assert better.chunksize == chunks
        reading.check_chunks(better, 1)
