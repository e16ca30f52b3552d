"""Support sets in .npz files: nothing in them runs, and no more is read than there is."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from hyperspy_fewshot import SupportSet
from hyperspy_fewshot.support import npz


@pytest.fixture
def path(tmp_path):
    return tmp_path / "support.npz"


def header(shape, dtype="<f8"):
    """An array of which only the header is there."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def write(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_arrays_come_back(path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(12, dtype=">i2").reshape(3, 4)),
        "c": np.empty((0, 3)),
        "d": np.array("Größe"),
        "e": np.array(True),
    }
    npz.write(path, arrays, "a")
    found = npz.read(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"support.npy": header((10**12,))}, "declares an array of shape"),
        ({"support.npy": header((10**6, 10**6)) + bytes(80)}, "declares an array of shape"),
        ({"support.npy": header((1,), "|V1000000000")}, "declares an array of shape"),
        ({"support.npy": header((1,), "|O") + pickle.dumps(np.array([1], object))}, "objects"),
        ({"support.npy": b"garbage"}, "magic"),
        ({"support.npy": b""}, "magic|EOF|expected"),
        ({"support": saved(np.array("{}")), "x.npy": b"\x93NUMPY\x09\x00"}, "version"),
        ({"else.npy": saved(np.arange(3))}, "it holds no support set"),
        ({"support.npy": saved(np.arange(3))}, "cannot be read"),
        ({"support.npy": saved(np.array("[1]"))}, "The support set is damaged"),
        ({"support.npy": saved(np.array('{"a": 3}'))}, "The support set is damaged"),
        ({"support.npy": saved(np.array('{"masked": [[1, 2]]}'))}, "the name is reserved"),
    ],
)
def test_what_is_no_support_set_is_refused(members, match, path):
    write(path, members)
    with pytest.raises(ValueError, match=match) as caught:
        SupportSet.load(path)
    assert "'support.npz' cannot be read" in str(caught.value)


def test_what_is_compressed_has_a_limit(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in "abcde":
            file.writestr(f"{name}.npy", bytes(2**24))
    content = bytearray(path.read_bytes())
    # The declared sizes in the directory, of which there is one for each member.
    size = (2**24).to_bytes(4, "little")
    content = content.replace(size, (2**30).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="declares more data than a file of its size can hold"):
        SupportSet.load(path)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_damaged_files_are_refused(content, path):
    SupportSet({"a": (1, 2), "b": np.eye(5)}).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match="'support.npz' cannot be read") as caught:
        SupportSet.load(path)
    assert caught.value.__cause__ is not None
    path.unlink()
    with pytest.raises(FileNotFoundError, match="There is no file .*support.npz"):
        SupportSet.load(path)


@pytest.mark.parametrize(
    "example",
    [
        {"roi": "BaseROI", "parameters": {}},
        {"roi": "Point2DROI", "parameters": {"x": 1.0, "y": "os"}},
        {"runs": [[0, 10**18]], "shape": [10**10, 10**10]},
        {"runs": [[0, 2**31]], "shape": [2**20, 2**20]},
        {"array": "x", "shape": [1], "dtype": "f8", "signal_dimension": 10**9, "units": ""},
    ],
)
def test_examples_that_are_made_up(example, path):
    plain = json.dumps({"a": [[1, 2]], "b": [example]})
    write(path, {"support.npy": saved(np.array(plain)), "x.npy": saved(np.zeros(1))})
    with pytest.raises(ValueError, match="'support.npz' cannot be read"):
        SupportSet.load(path)


def test_a_support_set_replaces_a_support_set_only(path):
    for position in ((1, 2), (3, 4)):
        SupportSet({"a": position}).save(path)
        assert SupportSet.load(path).examples == {"a": [position]}
    np.savez(path, data=np.arange(3))
    with pytest.raises(ValueError, match="'support.npz' exists and holds something else"):
        SupportSet({"a": (1, 2)}).save(path)
    np.testing.assert_array_equal(np.load(path)["data"], np.arange(3))
    path.write_text("mine")
    with pytest.raises(ValueError, match="'support.npz' exists and holds something else"):
        SupportSet({"a": (1, 2)}).save(path)
    assert path.read_text() == "mine"


def test_a_file_is_replaced_as_a_whole(path, monkeypatch):
    SupportSet({"a": (1, 2)}).save(path)

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space left"):
        SupportSet({"a": (3, 4)}).save(path)
    assert os.listdir(path.parent) == [path.name]
    assert SupportSet.load(path).examples == {"a": [(1, 2)]}
