"""Blocks are computed into a folder, each of them once, whatever interrupts it."""

import json

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

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

    def test_a_block_that_was_not_finished_is_computed_again(self, computed, tmp_path):
        lazy, seen, _ = computed
        compute_into(lazy, tmp_path, False)
        zarr.open_array(tmp_path / "done", mode="r+")[1, 0, 0] = False
        zarr.open_array(tmp_path / "values", mode="r+")[3:6, :4] = -1
        seen.clear()
        np.testing.assert_array_equal(compute_into(lazy, tmp_path, False).compute(), DATA)
        assert seen == [(1, 0, 0)]


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
