"""A file is whole or not there, and an interrupted save goes on where it stopped."""

import json
import os
import signal as signals_of_the_system
import subprocess
import sys
import time
from pathlib import Path

import dask
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import FewShotResult, SupportSet, embed, resuming, storage

SUPPORT = {"a": [(0, 0), (2, 5), (1, 3)], "b": [(6, 1), (5, 4), (6, 5)]}
NAMES = ("labels", "probabilities", "confidence")


def spectra(seed=0):
    """A peak at channel 8 on the left, at channel 20 from column 4 on."""
    values = np.random.default_rng(seed).poisson(20.0, (6, 7, 30)).astype(float)
    values[:, :4, 7:10] += 100
    values[:, 4:, 19:22] += 100
    return hs.signals.Signal1D(values)


def classify(signal=None, **options):
    signal = spectra() if signal is None else signal
    return signal.fewshot_classify(
        options.pop("support", SUPPORT), **{"encoder": "pca", "lazy_output": True, **options}
    )


def assert_same(one, other):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name).data, getattr(other, name).data)
    assert str(one.statistics) == str(other.statistics)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(embed, "_BLOCK_BYTES", 1000)


@pytest.fixture
def expected():
    return classify().compute()


@pytest.fixture(params=[".hspy", ".zspy"])
def path(request, tmp_path):
    return tmp_path / f"result{request.param}"


@pytest.fixture
def failing(monkeypatch):
    """Has the n-th block that is written fail, as on a full disk."""

    def fail_at(n, error=None):
        written, write = [], resuming._write_block

        def fail(block, file):
            written.append(file)
            if len(written) == n:
                raise error or OSError(28, "No space left on device")
            return write(block, file)

        monkeypatch.setattr(resuming, "_write_block", fail)
        return written

    return fail_at


@pytest.fixture
def largest_file():
    """Sets the size that no file can exceed: a full disk for who writes it."""
    resource = pytest.importorskip("resource", reason="no limits for files on this system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestWhole:
    def test_a_lazy_result_is_saved_and_computed(self, path, expected):
        result = classify()
        assert result._pass.packed.npartitions > 4
        result.save(path)
        assert not any(getattr(result, name)._lazy for name in NAMES)
        assert [getattr(result, n).data.dtype for n in NAMES] == [np.int16, np.float32, np.float32]
        assert_same(result, expected)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("lazy", [False, True])
    def test_a_full_disk(self, path, lazy, largest_file, expected):
        classify(spectra(1), lazy_output=False).save(path)
        before = FewShotResult.load(path)
        result = classify(lazy_output=lazy)
        largest_file(4000)
        with pytest.raises(OSError, match="up to .* MB are needed|File too large"):
            result.save(path, overwrite=True)
        largest_file(2**30)
        assert_same(FewShotResult.load(path), before)
        assert sorted(os.listdir(path.parent)) == [path.name] + [f"{path.name}.partial"] * lazy
        result.save(path, overwrite=True)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    def test_a_writer_that_fails_midway(self, path, monkeypatch, expected):
        expected.save(path)
        result = classify(spectra(1), lazy_output=False)

        def fail(result, file):
            file.mkdir() if file.suffix == ".zspy" else file.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(storage, "write", fail)
            result.save(path, overwrite=True)
        assert os.listdir(path.parent) == [path.name]
        assert_same(FewShotResult.load(path), expected)

    def test_a_folder_that_cannot_be_put_in_place(self, tmp_path, monkeypatch, expected):
        path = tmp_path / "result.zspy"
        expected.save(path)
        replace = os.replace

        def fail(source, target):
            if Path(source).name == path.name and Path(target) == path.resolve():
                raise PermissionError(13, "in use")
            replace(source, target)

        with monkeypatch.context() as patch, pytest.raises(PermissionError, match="in use"):
            patch.setattr(os, "replace", fail)
            classify(spectra(1), lazy_output=False).save(path, overwrite=True)
        assert os.listdir(tmp_path) == [path.name]
        assert_same(FewShotResult.load(path), expected)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_overwrite(self, path, lazy, monkeypatch, expected):
        expected.save(path)
        result = classify(spectra(1), lazy_output=lazy)
        result.save(path, overwrite=False)
        monkeypatch.setattr("builtins.input", lambda question: "n")
        result.save(path)
        assert result.labels._lazy == lazy
        assert_same(FewShotResult.load(path), expected)
        monkeypatch.setattr("builtins.input", lambda question: "y")
        result.save(path)
        assert_same(FewShotResult.load(path), result)
        with pytest.raises(ValueError, match="overwrite='yes' must be True, False or None"):
            result.save(path, overwrite="yes")

    def test_what_a_killed_process_left_is_replaced(self, path, expected):
        partial = path.with_name(f"{path.name}.partial")
        partial.mkdir()
        (partial / path.name).write_bytes(b"half")
        if path.suffix == ".zspy":
            (partial / path.name).unlink()
            (partial / path.name).mkdir()
        expected.save(path)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]


class TestResumed:
    @pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
    def test_only_the_missing_blocks_are_computed(self, path, kind, failing, expected):
        result = classify()
        total = result._pass.packed.npartitions
        failing(4, kind("stopped"))
        # Other threads would still finish what they have begun.
        with dask.config.set(scheduler="synchronous"):
            with pytest.raises(kind, match="stopped") as caught:
                result.save(path)
        (note,) = caught.value.__notes__
        assert f"3 of {total} blocks are kept in '{path}.partial'" in note
        assert result.labels._lazy and not path.exists()
        written = failing(0)
        again = classify()
        again.save(path)
        assert len(written) == total - 3
        assert_same(again, expected)
        assert_same(FewShotResult.load(path), expected)
        assert os.listdir(path.parent) == [path.name]

    def test_a_block_that_a_crash_emptied_is_computed_again(self, path, failing, expected):
        failing(5)
        with pytest.raises(OSError, match="No space"):
            classify().save(path)
        next(Path(f"{path}.partial/blocks").glob("*.npy")).write_bytes(b"")
        failing(0)
        classify().save(path)
        assert_same(FewShotResult.load(path), expected)

    @pytest.mark.parametrize(
        ("other", "part"),
        [
            (lambda: classify(spectra(1)), "data"),
            (lambda: classify(support={**SUPPORT, "b": [(6, 1), (5, 4), (6, 4)]}), "support"),
            (lambda: classify(support={"c": SUPPORT["a"], "b": SUPPORT["b"]}), "support"),
            (lambda: classify(context=3), "settings"),
            (lambda: classify(reject=False), "settings"),
            (lambda: classify(encoder="spectrum"), "settings"),
            (lambda: classify(signal_mask=np.arange(30) > 28), "settings"),
            (lambda: classify(navigation_mask=np.eye(7, 6) > 0), "settings"),
            (lambda: spectra().fewshot_classify(classify(), lazy_output=True), "support"),
            (lambda: classify(context=3).compute(), "settings"),
        ],
    )
    def test_another_classification_is_refused(self, other, part, tmp_path, failing):
        path = tmp_path / "result.zspy"
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify().save(path)
        failing(0)
        manifest = (tmp_path / "result.zspy.partial" / "manifest.json").read_text()
        with pytest.raises(ValueError, match=rf"zspy.partial' holds .* differs in its {part}.*del"):
            other().save(path)
        assert (tmp_path / "result.zspy.partial" / "manifest.json").read_text() == manifest
        assert any((tmp_path / "result.zspy.partial" / "blocks").iterdir())

    def test_a_computed_result_takes_the_place_of_its_blocks(self, path, failing, expected):
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify().save(path)
        expected.save(path)
        assert os.listdir(path.parent) == [path.name]

    def test_the_file_of_the_data(self, tmp_path, failing):
        path, data = tmp_path / "result.zspy", tmp_path / "scan.zspy"
        spectra().save(data)
        failing(3)
        with pytest.raises(OSError, match="No space"):
            classify(hs.load(data, lazy=True)).save(path)
        (chunk,) = data.glob("Experiments/*/data/0/0/0")
        os.utime(chunk, (0, time.time() + 5))
        with pytest.raises(ValueError, match="differs in its data"):
            classify(hs.load(data, lazy=True)).save(path)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: spectra().fewshot_classify(SUPPORT, lazy_output=True),
            lambda: hs.signals.Signal2D(
                np.random.default_rng(0).random((2, 40, 56))
            ).fewshot_classify(
                SupportSet({"a": [(0, 9, 9), np.ones((8, 8))], "b": [(1, 40, 30), (0, 40, 30)]}),
                chip_size=8,
                lazy_output=True,
            ),
            lambda: hs.signals.Signal2D(
                np.random.default_rng(0).random((6, 7, 9, 11))
            ).fewshot_classify(SUPPORT, lazy_output=True),
        ],
    )
    def test_fingerprints_repeat(self, make):
        one, other = make(), make()
        fingerprint = one._pass.fingerprint(one)
        assert fingerprint == other._pass.fingerprint(other)
        assert list(fingerprint) == ["data", "support", "settings", "versions"]
        assert fingerprint == one._pass.fingerprint(one.compute())


SCRIPT = """
import signal, sys, time
import dask, hyperspy.api as hs, numpy as np
from hyperspy_fewshot import embed

# What runs in the background of a shell ignores it otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
hs.preferences.General.show_progressbar = False
dask.config.set(num_workers=int(sys.argv[3]))
embed._BLOCK_BYTES = 2000

def slowly(block):
    time.sleep(0.25)
    return block

data = hs.load(sys.argv[1], lazy=True)
result = data.fewshot_classify({support}, encoder="pca")
embedded = result._pass.packed
object.__setattr__(result._pass, "packed", embedded.map_blocks(slowly, meta=embedded._meta))
print("ready", flush=True)
result.save(sys.argv[2])
"""


@pytest.mark.slow
class TestProcesses:
    @pytest.fixture
    def start(self, tmp_path):
        values = np.random.default_rng(0).poisson(20.0, (12, 14, 30)).astype(float)
        values[:, :7, 7:10] += 100
        hs.signals.Signal1D(values).save(tmp_path / "scan.zspy")
        script = tmp_path / "script.py"
        support = {"a": [(0, 0), (2, 5), (1, 3)], "b": [(11, 1), (12, 4), (13, 9)]}
        script.write_text(SCRIPT.replace("{support}", repr(support)))

        def start(name, threads):
            command = [sys.executable, script, tmp_path / "scan.zspy", tmp_path / name, threads]
            return subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )

        return start

    def test_killed_and_interrupted(self, start, tmp_path):
        whole = start("whole.zspy", 2)
        blocks = tmp_path / "cut.zspy.partial" / "blocks"

        def count():
            return len(list(blocks.glob("*.npy")))

        for kill, threads in (
            (signals_of_the_system.SIGKILL, 1),
            (signals_of_the_system.SIGINT, 2),
        ):
            before, process = count(), start("cut.zspy", threads)
            while count() < before + 3 and process.poll() is None:
                time.sleep(0.02)
            done = count()
            process.send_signal(kill)
            _, errors = process.communicate(timeout=60)
            # Blocks in hand are finished, none is begun: each has a few hundredths of a second
            # to be counted, and a quarter to be computed.
            assert count() <= done + 2 * threads
            assert process.returncode != 0
            assert not (tmp_path / "cut.zspy").exists()
        assert "KeyboardInterrupt" in errors and "blocks are kept in" in errors
        kept = {file: file.stat().st_mtime_ns for file in blocks.glob("*.npy")}
        process = start("cut.zspy", 3)
        while not (tmp_path / "cut.zspy").exists() and process.poll() is None:
            now = {file: file.stat().st_mtime_ns for file in kept if file.exists()}
            assert all(kept[file] == when for file, when in now.items())
            time.sleep(0.05)
        assert process.wait(60) == whole.wait(60) == 0
        assert_same(*(FewShotResult.load(tmp_path / name) for name in ("cut.zspy", "whole.zspy")))

    def test_distributed(self, path, expected, failing):
        distributed = pytest.importorskip("distributed", reason="dask.distributed is missing")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0"
            ) as cluster,
            distributed.Client(cluster),
        ):
            result = classify()
            result.save(path)
        assert_same(FewShotResult.load(path), expected)


def test_the_manifest_says_what_it_belongs_to(tmp_path, failing):
    failing(3)
    result = classify()
    with pytest.raises(OSError, match="No space"):
        result.save(tmp_path / "result.hspy")
    manifest = json.loads((tmp_path / "result.hspy.partial" / "manifest.json").read_text())
    assert manifest == {"fingerprint": result._pass.fingerprint(result)}
