"""Blocks are computed into a folder, each of them once, whatever interrupts it."""

import json
import os
import shutil

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_fewshot.output.partial import compute_into, is_partial, partial_folder

DATA = np.arange(7.0 * 10 * 3).reshape(7, 10, 3)


@pytest.fixture
def computed():
    """A lazy array, which blocks of it were computed, and at which number of them it fails."""
    seen, stop = [], []

    def note(block, block_info=None):
        if block_info:
            seen.append(tuple(block_info[0]["chunk-location"]))
            if stop and len(seen) == stop[0]:
                raise RuntimeError("stopped")
        return block

    lazy = da.from_array(DATA, chunks=(3, 4, 3))
    lazy = lazy.map_blocks(note, dtype=float, meta=np.empty((0, 0, 0)))
    with dask.config.set(scheduler="synchronous"):
        yield lazy, seen, stop


class TestComputeInto:
    def test_gives_the_same_values(self, computed, tmp_path):
        lazy, seen, _ = computed
        found = compute_into(lazy, tmp_path, False)
        np.testing.assert_array_equal(found.compute(), DATA)
        assert sorted(seen) == list(np.ndindex(3, 3, 1))

    def test_blocks_that_are_there_are_not_computed_again(self, computed, tmp_path):
        lazy, seen, stop = computed
        stop.append(5)
        with pytest.raises(RuntimeError, match="stopped") as caught:
            compute_into(lazy, tmp_path, False)
        assert f"4 of 9 blocks are kept in '{tmp_path}'" in caught.value.__notes__[0]
        first = seen[:4]
        stop.clear()
        seen.clear()
        found = compute_into(lazy, tmp_path, False)
        assert sorted([*first, *seen]) == list(np.ndindex(3, 3, 1))
        np.testing.assert_array_equal(found.compute(), DATA)
        seen.clear()
        np.testing.assert_array_equal(compute_into(lazy, tmp_path, False).compute(), DATA)
        assert not seen

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[:-16] + bytes(16),
            lambda content: content[:40],
            lambda content: b"",
            lambda content: bytes(len(content)),
            lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        ],
    )
    def test_a_damaged_block_is_computed_again(self, damage, computed, tmp_path):
        lazy, seen, _ = computed
        compute_into(lazy, tmp_path, False)
        block = tmp_path / "block-1-0-0"
        block.write_bytes(damage(block.read_bytes()))
        seen.clear()
        np.testing.assert_array_equal(compute_into(lazy, tmp_path, False).compute(), DATA)
        assert seen == [(1, 0, 0)]

    def test_a_block_in_the_place_of_another_is_computed_again(self, computed, tmp_path):
        lazy, seen, _ = computed
        compute_into(lazy, tmp_path, False)
        shutil.copy(tmp_path / "block-0-0-0", tmp_path / "block-1-0-0")
        seen.clear()
        np.testing.assert_array_equal(compute_into(lazy, tmp_path, False).compute(), DATA)
        assert seen == [(1, 0, 0)]

    def test_a_block_that_is_damaged_before_it_is_read(self, computed, tmp_path):
        found = compute_into(computed[0], tmp_path, False)
        (tmp_path / "block-1-0-0").write_bytes(bytes(400))
        with pytest.raises(ValueError, match=r"'block-1-0-0' in .* is damaged\. Save again"):
            found.compute()

    def test_a_block_counts_when_it_is_on_the_disk(self, computed, tmp_path, monkeypatch):
        order, replace, fsync = [], os.replace, os.fsync
        monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), fsync(handle)))
        monkeypatch.setattr(os, "replace", lambda *pair: (order.append("name"), replace(*pair)))
        compute_into(computed[0], tmp_path, False)
        assert order == ["flush", "name"] * 9

    def test_what_was_not_finished_is_cleared_away(self, computed, tmp_path):
        (tmp_path / "block-0-0-0-abc.unfinished").write_bytes(b"half")
        compute_into(computed[0], tmp_path, False)
        assert all(file.suffix == "" for file in tmp_path.iterdir())


class TestPartialFolder:
    def test_goes_when_all_is_done(self, tmp_path):
        path = tmp_path / "file.zspy"
        with partial_folder(path, {"data": "1"}) as folder:
            assert folder == tmp_path / "file.zspy.partial"
            assert is_partial(path)
        assert not is_partial(path)

    def test_stays_with_its_manifest_when_something_fails(self, tmp_path, computed):
        with pytest.raises(RuntimeError, match="stop"):
            with partial_folder(tmp_path / "file.zspy", {"data": "1"}, computed[0]) as folder:
                raise RuntimeError("stop")
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest == {"data": "1", "blocks": "((3, 3, 1), (4, 4, 2), (3,))"}

    @pytest.mark.parametrize(
        ("other", "match"),
        [
            ({"data": "2", "settings": "a"}, "differs in its data"),
            ({"data": "2", "settings": "b"}, "differs in its data and settings"),
            ({"data": "1"}, "differs in its settings"),
        ],
    )
    def test_of_something_else_is_refused(self, other, match, tmp_path, computed):
        path = tmp_path / "file.zspy"
        with pytest.raises(RuntimeError, match="stop"):
            with partial_folder(path, {"data": "1", "settings": "a"}, computed[0]):
                raise RuntimeError("stop")
        with pytest.raises(ValueError, match=rf"{match}\. To resume .* delete the folder"):
            with partial_folder(path, other, computed[0]):
                raise AssertionError("not reached")

    def test_of_other_blocks_is_refused(self, tmp_path, computed):
        path, packed = tmp_path / "file.zspy", computed[0]
        with pytest.raises(RuntimeError, match="stop"):
            with partial_folder(path, {"data": "1"}, packed):
                raise RuntimeError("stop")
        with pytest.raises(ValueError, match="differs in its blocks"):
            with partial_folder(path, {"data": "1"}, packed.rechunk((4, 4, 3))):
                raise AssertionError("not reached")
        with partial_folder(path, {"data": "1"}):
            pass
        assert not is_partial(path)

    def test_another_process_that_is_writing(self, tmp_path):
        with partial_folder(tmp_path / "file.zspy", {}):
            with pytest.raises(ValueError, match="Another process is writing to .*file.zspy"):
                with partial_folder(tmp_path / "file.zspy", {}):
                    raise AssertionError("not reached")

    @pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\x00" * 30, '"data"'])
    def test_a_damaged_manifest(self, content, tmp_path):
        folder = tmp_path / "file.zspy.partial"
        folder.mkdir()
        (folder / "manifest.json").write_text(content)
        with pytest.raises(
            ValueError, match="file.zspy.partial' cannot be resumed.*Delete the fol"
        ):
            with partial_folder(tmp_path / "file.zspy", {"data": "1"}):
                raise AssertionError("not reached")
        assert (folder / "manifest.json").read_text() == content

    @pytest.mark.parametrize("name", ["notes.txt", "block-1-0.dm4", "block-0/raw.dm4", "values/0"])
    def test_of_a_user_is_left_alone(self, name, tmp_path):
        mine = tmp_path / "file.zspy.partial" / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        with pytest.raises(ValueError, match="which is no part of an interrupted computation"):
            with partial_folder(tmp_path / "file.zspy", {"data": "1"}):
                raise AssertionError("not reached")
        assert mine.read_text() == "mine"
        assert not (tmp_path / "file.zspy.partial" / "lock").exists()

    def test_a_file_in_its_place(self, tmp_path):
        (tmp_path / "file.zspy.partial").write_text("mine")
        with pytest.raises(ValueError, match="which is no part of an interrupted computation"):
            with partial_folder(tmp_path / "file.zspy", {"data": "1"}):
                raise AssertionError("not reached")
        assert (tmp_path / "file.zspy.partial").read_text() == "mine"

    def test_what_is_put_there_meanwhile_stays(self, tmp_path):
        with partial_folder(tmp_path / "file.zspy", {"data": "1"}) as folder:
            (folder / "notes.txt").write_text("mine")
        assert [entry.name for entry in folder.iterdir()] == ["notes.txt"]
