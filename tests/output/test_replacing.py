"""A file or folder is there as a whole, whoever else writes to its path, and is killed doing so."""

import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.output import files, replacing
from hyperspy_fewshot.output.replacing import recover, replace_file

# Each save writes files that hold the same number; the last line printed is that of the last save.
SCRIPT = """
import sys
from pathlib import Path
from hyperspy_fewshot.output.replacing import replace_file

path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def save(new):
    if path.suffix == ".zspy":
        new.mkdir()
    for file in [new / str(i) for i in range(5)] if path.suffix == ".zspy" else [new]:
        file.write_text(str(number) * 1000)

print("ready", flush=True)
for number in range(first, first + count):
    replace_file(path, save)
    print(number, flush=True)
"""


@pytest.fixture(params=[".hspy", ".zspy"])
def path(request, tmp_path):
    return tmp_path / f"file{request.param}"


def start(path, first, count):
    arguments = [sys.executable, "-c", SCRIPT, str(path), str(first), str(count)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def value_of(path):
    """The number that all files of a folder hold."""
    recover(path)
    parts = [file.read_text() for file in path.iterdir()] if path.is_dir() else [path.read_text()]
    assert len(parts) == (5 if path.suffix == ".zspy" else 1)
    (content,) = set(parts)
    number = content[:4]
    assert content == number * 1000
    return int(number)


def test_two_processes_at_one_path(path):
    processes = [start(path, first, 40) for first in (1000, 2000)]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert len(output.split()) == 40
    assert value_of(path) in (1039, 2039)
    assert os.listdir(path.parent) == [path.name]


def test_processes_that_are_killed(path):
    rng, saved = random.Random(0), 0
    for first in range(1000, 9000, 1000):
        process = start(path, first, 999)
        time.sleep(rng.random() * 0.05)
        process.kill()
        output, _ = process.communicate(timeout=60)
        saved = int(output.split()[-1]) if output else saved
        if saved:
            # The one that was killed may have been complete, too.
            assert value_of(path) in (saved, saved + 1, first)
            saved = value_of(path)
    replace_file(path, lambda new: new.write_text("x") if path.suffix == ".hspy" else new.mkdir())
    assert os.listdir(path.parent) == [path.name]


def test_results_are_read_while_they_are_replaced(path):
    def signal(value):
        return hs.signals.Signal2D(np.full((40, 50), value))

    def write(first):
        for value in range(first, first + 5):
            files.write(path, signal(value), {"thing": {"value": value}}, {})

    def read(_):
        for _ in range(10):
            found, state, _ = files.read(path, "thing")
            assert (found.data == state["thing"]["value"]).all()

    files.write(path, signal(0), {"thing": {"value": 0}}, {})
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(write, 100), pool.submit(write, 200), pool.submit(read, 0)]
        for task in tasks:
            task.result()
    assert files.read(path, "thing")[1]["thing"]["value"] in (104, 204)
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_another_process_deletes_meanwhile(path, monkeypatch):
    """The other one has released the lock, and is faster."""
    folder = path.parent / f".{path.name}.abc"
    folder.mkdir()
    (folder / "lock").write_text("")
    delete = replacing._delete

    def late(found, lock):
        if found == folder and folder.exists():
            shutil.rmtree(folder)
        delete(found, lock)

    monkeypatch.setattr(replacing, "_delete", late)
    replace_file(path, lambda new: new.write_text("x"))
    assert os.listdir(path.parent) == [path.name]


class TestLeftBehind:
    def test_what_a_process_that_was_killed_leaves_is_cleared(self, path):
        folder = path.parent / f".{path.name}.abc"
        folder.mkdir()
        for name in ("lock", path.name):
            (folder / name).write_text("")
        (folder / "discarded-1").mkdir()
        replace_file(path, lambda new: new.write_text("x"))
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("name", ["lock", "notes.txt"])
    def test_what_is_not_ours_stays(self, name, path):
        folder = path.parent / f".{path.name}.abc"
        folder.mkdir()
        (folder / name).write_text("mine")
        (folder / "notes.txt").write_text("mine")
        replace_file(path, lambda new: new.write_text("x"))
        assert (folder / "notes.txt").read_text() == "mine"

    def test_the_folder_of_a_longer_name_is_not_recovered(self, tmp_path):
        aside = tmp_path / ".file.zspy.zspy.abc" / "replaced"
        aside.mkdir(parents=True)
        recover(tmp_path / "file.zspy")
        assert aside.exists()
        recover(tmp_path / "file.zspy.zspy")
        assert not aside.exists()


def test_it_is_flushed_before_it_is_there(path, monkeypatch):
    flushed, fsync = [], os.fsync

    def note(handle):
        flushed.append(path.exists())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    files.write(path, hs.signals.Signal2D(np.zeros((4, 5))), {"thing": {}}, {})
    assert flushed and not any(flushed)
