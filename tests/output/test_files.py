"""A file is there as a whole or not at all, and says which format it has."""

import os
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.output import files


@pytest.fixture(params=[".hspy", ".zspy"])
def path(request, tmp_path):
    return tmp_path / f"file{request.param}"


def signal(value=0):
    return hs.signals.Signal2D(np.full((4, 5), value))


STATE = {"thing": {"number": 3, "values": np.arange(4.0)}}


def value_of(path):
    return files.read(path, "thing")[0].data[0, 0]


class TestWrite:
    def test_what_is_written_is_read(self, path):
        given = signal(7)
        files.write(path, given, STATE, {"more": np.arange(3)})
        found, state, arrays = files.read(str(path), "thing")
        np.testing.assert_array_equal(found.data, given.data)
        assert state["thing"]["number"] == 3
        np.testing.assert_array_equal(state["thing"]["values"], np.arange(4.0))
        np.testing.assert_array_equal(arrays["more"], np.arange(3))
        assert not given.metadata.has_item("FewShot")
        assert os.listdir(path.parent) == [path.name]

    def test_its_node_is_not_printed(self, path):
        files.write(path, signal(), STATE, {})
        assert "_saved" not in str(hs.load(path).metadata)

    def test_a_file_is_replaced(self, path):
        for value in (1, 2):
            files.write(path, signal(value), STATE, {})
        assert value_of(path) == 2
        assert os.listdir(path.parent) == [path.name]

    def test_a_writer_that_fails_midway(self, path, monkeypatch):
        files.write(path, signal(1), STATE, {})
        save = hs.signals.Signal2D.save

        def fail(self, file, **options):
            save(self, file, **options)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(hs.signals.Signal2D, "save", fail)
            files.write(path, signal(2), STATE, {})
        assert os.listdir(path.parent) == [path.name]
        assert value_of(path) == 1

    def test_a_folder_that_cannot_be_put_in_place(self, tmp_path, monkeypatch):
        path = tmp_path / "file.zspy"
        files.write(path, signal(1), STATE, {})
        replace = os.replace

        def fail(source, target):
            if Path(source).name == path.name and Path(target) == path:
                raise PermissionError(13, "in use")
            replace(source, target)

        with monkeypatch.context() as patch, pytest.raises(PermissionError, match="in use"):
            patch.setattr(os, "replace", fail)
            files.write(path, signal(2), STATE, {})
        assert os.listdir(tmp_path) == [path.name]
        assert value_of(path) == 1


class TestReplacedFolder:
    """A .zspy folder is replaced by two renames, between which a process may be killed."""

    @pytest.fixture
    def cut(self, tmp_path):
        """Path of a file that was moved aside when its replacement was cut off."""
        path = tmp_path / "file [1].zspy"
        files.write(path, signal(5), STATE, {})
        aside = tmp_path / f".{path.name}.abc"
        aside.mkdir()
        os.replace(path, aside / "replaced")
        return path

    def test_reading_recovers_it(self, cut):
        assert value_of(cut) == 5

    def test_writing_recovers_it_until_the_new_one_is_whole(self, cut, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            files.replace_file(cut, interrupted)
        assert value_of(cut) == 5
        files.write(cut, signal(6), STATE, {})
        assert value_of(cut) == 6

    def test_an_interruption_between_the_renames(self, tmp_path, monkeypatch):
        path, rename, calls = tmp_path / "file.zspy", os.replace, []
        files.write(path, signal(5), STATE, {})

        def second_fails(source, target):
            calls.append(target)
            if len(calls) == 2:
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr(files.os, "replace", second_fails)
        with pytest.raises(KeyboardInterrupt):
            files.write(path, signal(6), STATE, {})
        assert value_of(path) == 5
        assert os.listdir(tmp_path) == [path.name]


def interrupted(path):
    raise KeyboardInterrupt


class TestRead:
    def test_there_is_none(self, path):
        with pytest.raises(FileNotFoundError, match=f"There is no file .*{path.name}"):
            files.read(path, "thing")

    def test_of_something_else(self, path):
        signal().save(path)
        with pytest.raises(ValueError, match=f"'{path.name}' holds no thing"):
            files.read(path, "thing")
        path = path.with_stem("other")
        files.write(path, signal(), STATE, {})
        with pytest.raises(ValueError, match=f"'{path.name}' holds no few-shot result"):
            files.read(path, "few-shot result")

    def test_of_the_format_before_formats_had_numbers(self, path):
        old = signal()
        old.metadata.set_item("FewShot._saved.plain", "{}")
        old.metadata.set_item("FewShot._saved.arrays.array_0", np.arange(3))
        old.save(path)
        with pytest.raises(
            ValueError,
            match=r"has format 1 of hyperspy_fewshot; this version reads format 5.*again",
        ):
            files.read(path, "thing")

    def test_of_a_later_format(self, path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(files, "FORMAT", 9)
            files.write(path, signal(), STATE, {})
        with pytest.raises(ValueError, match="has format 9 of hyperspy_fewshot"):
            files.read(path, "thing")

    def test_lazily(self, tmp_path):
        files.write(tmp_path / "file.zspy", signal(5), STATE, {})
        found, _, _ = files.read(tmp_path / "file.zspy", "thing", lazy=True)
        assert found._lazy
        assert found.data.compute()[0, 0] == 5


class TestMayWrite:
    def test_suffix(self, tmp_path):
        for name in ("labels.tif", "labels", "labels.hspy.gz"):
            with pytest.raises(ValueError, match=f"'{name}' must end in .hspy or .zspy"):
                files.may_write(tmp_path / name, None, (".hspy", ".zspy"))

    def test_a_new_file(self, path):
        assert all(files.may_write(path, answer, (path.suffix,)) for answer in (None, True, False))

    def test_a_file_that_exists(self, path, monkeypatch):
        files.write(path, signal(), STATE, {})
        assert files.may_write(path, True, (path.suffix,))
        assert not files.may_write(path, False, (path.suffix,))
        for answer in ("y", "n"):
            monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
            assert files.may_write(path, None, (path.suffix,)) is (answer == "y")
