"""Examples become plain lists and numbers, and come back."""

import json

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.support.locate import Stroke
from hyperspy_fewshot.support.serialising import digest_of, from_json, to_json


def there_and_back(example):
    arrays = {}
    plain = json.loads(json.dumps(to_json(example, arrays)))
    return from_json(plain, arrays)


def test_every_kind_of_example_comes_back(tools):
    for examples in tools.every_kind().examples.values():
        for example in examples:
            back = there_and_back(example)
            is_number = isinstance(example, int | float)
            assert isinstance(back, type(example)) or is_number
            assert digest_of(back) == digest_of(example)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), (1.0, 2.0)),
        ((1, 2), (2, 1)),
        (hs.roi.CircleROI(1.0, 2.0, 3.0), hs.roi.CircleROI(1.0, 2.0, 3.5)),
        (hs.roi.Point2DROI(1.0, 2.0), (0, hs.roi.Point2DROI(1.0, 2.0))),
        (np.eye(3), 2 * np.eye(3)),
        (np.eye(3), np.eye(3, dtype=np.float32)),
        (np.eye(3), hs.signals.Signal2D(np.eye(3))),
    ],
)
def test_different_examples_have_different_digests(one, other):
    assert digest_of(one) != digest_of(other)
    assert digest_of(one) == digest_of(there_and_back(one))


def test_a_spectrum_keeps_its_axis():
    values = np.arange(130.0, 90.0, -0.5)
    axis = {"axis": values, "units": "eV", "navigate": False}
    back = there_and_back(hs.signals.Signal1D(values * 2, axes=[axis]))
    np.testing.assert_array_equal(back.data, values * 2)
    np.testing.assert_array_equal(back.axes_manager[-1].axis, values)
    assert back.axes_manager[-1].units == "eV"


def test_lazy_examples_are_computed():
    lazy = hs.signals.Signal2D(np.arange(60.0).reshape(5, 3, 4)).as_lazy()
    back = there_and_back(lazy)
    np.testing.assert_array_equal(back.data, np.arange(60.0).reshape(5, 3, 4))
    assert back.axes_manager.signal_dimension == 2


@pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7), (40,)])
def test_points_of_strokes_come_back(shape):
    points = np.argwhere(np.random.default_rng(0).random(shape) < 0.6)
    back = there_and_back(Stroke(points, shape))
    np.testing.assert_array_equal(back.points, points)
    assert back.shape == shape


def test_data_that_were_not_saved_have_to_be_given_again():
    with pytest.raises(ValueError, match=r"shape \(5, 5\) has to be given again"):
        from_json(to_json(np.eye(5)), {})


@pytest.mark.parametrize("dtype", ["int64", ">i2", "uint8", "float32", "float64"])
@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_arrays_of_positions_are_numbers(dtype, columns):
    positions = (np.arange(6 * columns).reshape(6, columns) * 0.7).astype(dtype)
    back = from_json(to_json(positions), {})
    np.testing.assert_array_equal(back, positions)
    assert back.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    "plain",
    [
        {"positions": [[1, 2], [3]], "dtype": "int64"},
        {"positions": [], "dtype": "int64"},
        {"positions": [1, 2], "dtype": "int64"},
        {"positions": [[1, "a"]], "dtype": "int64"},
        {"positions": [[1, float("nan")]], "dtype": "float64"},
        {"positions": [[1, 2, 3, 4, 5]], "dtype": "int64"},
        {"positions": [[1, 2]], "dtype": "object"},
        {"positions": [[1, 2]]},
        {"positions": [[1, 2**70]], "dtype": "int64"},
    ],
)
def test_damaged_arrays_of_positions(plain):
    with pytest.raises(ValueError, match="An example is"):
        from_json(plain, {})
