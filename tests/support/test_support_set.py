"""A support set can be changed, copied, saved and described."""

import json

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet
from hyperspy_fewshot.support.support_set import area_roi_sides, checked_support, ready_side

roi = hs.roi


def assert_same(one, other):
    assert one.class_names == other.class_names
    assert one.shots == other.shots
    assert one.describe() == other.describe()


def test_numbers_of_shots(tools):
    support = tools.every_kind()
    shots = {
        "rois": 10,
        "positions": 6,
        "frames / of stacks": 2,
        "scribbles": 2,
        "arrays of positions": 4,
        "ready": 5,
    }
    assert support.shots == shots
    assert len(support) == 29
    assert support.class_names == tuple(shots)
    assert repr(support).startswith("<SupportSet, shots {'rois': 10, 'positions': 6")


def test_add_and_remove():
    support = SupportSet({"Ge": [(512, 2600), (1400, 2750)]})
    support.add("cap", (30, 40))
    support.add("Ge", roi.Point2DROI(1, 2), (3, 4))
    assert support.shots == {"Ge": 4, "cap": 1}
    support.remove("Ge", 0)
    assert support.examples["Ge"][0] == (1400, 2750)
    support.remove("cap")
    assert support.class_names == ("Ge",)
    with pytest.raises(KeyError, match="no class 'cap'; classes are .*Ge"):
        support.remove("cap")
    with pytest.raises(IndexError, match="Class 'Ge' has 3 examples, none with index 7"):
        support.remove("Ge", 7)


def test_the_dict_that_it_is_made_of_stays_as_it_is():
    given = {"a": [(1, 2)]}
    SupportSet(given).add("a", (3, 4))
    assert given == {"a": [(1, 2)]}


def test_copy_keeps_where_rois_are_now():
    moving = roi.RectangularROI(1.0, 2.0, 3.0, 4.0)
    support = SupportSet({"a": [moving, (0, moving)]})
    copy = support.copy()
    moving.right = 9.0
    copy.add("a", (1, 2))
    assert copy.examples["a"][0].right == copy.examples["a"][1][1].right == 3.0
    assert support.shots == {"a": 2}


def test_save_and_load(tmp_path, tools):
    support = tools.every_kind()
    support.save(tmp_path / "support.npz")
    loaded = SupportSet.load(tmp_path / "support.npz")
    assert_same(loaded, support)
    np.testing.assert_array_equal(loaded.examples["ready"][0], support.examples["ready"][0])
    assert loaded.examples["ready"][0].dtype == np.uint8
    for one, other in zip(loaded.examples["ready"][1:], support.examples["ready"][1:], strict=True):
        np.testing.assert_array_equal(one.data, other.data)
        assert one.axes_manager.signal_dimension == other.axes_manager.signal_dimension
    np.testing.assert_array_equal(loaded.examples["ready"][1].axes_manager[-1].axis, [5, 6, 7, 8])


def test_loaded_examples_lie_where_the_saved_ones_do(tmp_path, image, tools):
    support = SupportSet(
        {
            "rois": list(tools.ROIS.values()),
            "positions": [(1, 2), (1.5, 22.0)],
            "scribbles": tools.every_kind().examples["scribbles"],
        }
    )
    support.save(tmp_path / "support.npz")
    domain = tools.image_domain(image)
    loaded = SupportSet.load(tmp_path / "support.npz").locate(domain)
    for (k, _, (one,)), (j, _, (other,)) in zip(loaded, support.locate(domain), strict=True):
        assert k == j
        np.testing.assert_array_equal(one.locations, other.locations)


def test_the_description_is_json_without_the_data(tools):
    support = tools.every_kind()
    plain = json.loads(support.describe())
    assert plain["rois"][0] == {
        "roi": "RectangularROI",
        "parameters": {"left": -1.0, "top": 30.0, "right": 9.0, "bottom": 60.0},
    }
    assert plain["positions"] == [[1, 2], [1.5, 2.0], [3, 0.5], 7, 2.5, [1, 2, 3]]
    assert plain["frames / of stacks"][0]["frame"] == 0
    assert plain["arrays of positions"][0] == {
        "positions": [[1, 2], [3, 4], [5, 6]],
        "dtype": "int64",
    }
    assert plain["ready"][0] == {"shape": [4, 4], "dtype": "uint8"}
    del plain["ready"]
    rebuilt = SupportSet.from_json(json.dumps(plain), {})
    support.remove("ready")
    assert_same(rebuilt, support)


def test_the_description_of_a_long_stroke_is_short():
    labels = np.zeros((500, 600), int)
    labels[100:400, 100:500] = 1
    support = SupportSet.from_label_map(labels, ["a"])
    assert len(support.describe()) < 10_000
    (rebuilt,) = SupportSet.from_json(support.describe(), {}).examples["a"]
    np.testing.assert_array_equal(rebuilt.points, np.argwhere(labels))


def test_data_that_were_left_out_have_to_be_given_again():
    plain = SupportSet({"a": np.zeros((4, 4))}).describe()
    with pytest.raises(ValueError, match=r"shape \(4, 4\) has to be given again"):
        SupportSet.from_json(plain, {})


# Changed copies


def test_updated_adds_to_a_copy():
    support = SupportSet({"a": [(1, 2), (3, 4)], "b": (5, 6)})
    changed = support.updated({"b": [(7, 8)], "c": (9, 1)}, {})
    assert changed.shots == {"a": 2, "b": 2, "c": 1}
    assert changed.class_names == ("a", "b", "c")
    assert support.shots == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("indices", "left"),
    [(0, [1, 2, 3]), (-1, [0, 1, 2]), ([0, 2], [1, 3]), ([-1, 3, 0], [1, 2]), ([], [0, 1, 2, 3])],
)
def test_updated_removes_by_the_index_before_the_change(indices, left):
    support = SupportSet({"a": [(i, i) for i in range(4)], "b": (5, 6)})
    changed = support.updated({}, {"a": indices})
    assert changed.examples["a"] == [(i, i) for i in left]
    assert len(support.examples["a"]) == 4


def test_a_class_without_examples_is_removed():
    support = SupportSet({"a": [(1, 2), (3, 4)], "b": (5, 6)})
    assert support.updated({}, {"a": [0, 1]}).class_names == ("b",)
    # One that gets others stays, as the last class.
    assert support.updated({"a": (7, 8)}, {"a": [0, 1]}).examples["a"] == [(7, 8)]


@pytest.mark.parametrize(
    ("remove", "error", "message"),
    [
        ({"c": 0}, KeyError, "no class 'c'"),
        ({"a": 2}, IndexError, "Class 'a' has 2 examples, none with index 2"),
        ({"a": -3}, IndexError, "Class 'a' has 2 examples, none with index -3"),
        ({"a": [0, 5]}, IndexError, "none with index 5"),
        ({"a": 1.0}, TypeError, "removed by their index, an integer; got .*1.0"),
        ({"a": "b"}, TypeError, "removed by their index, an integer; got .*'b'"),
    ],
)
def test_there_is_nothing_to_remove(remove, error, message):
    support = SupportSet({"a": [(1, 2), (3, 4)], "b": (5, 6)})
    with pytest.raises(error, match=message):
        support.updated({}, remove)
    assert support.shots == {"a": 2, "b": 1}


# Digests


def test_the_digest_changes_with_names_and_examples():
    supports = [
        {"a": (1, 2), "b": (3, 4)},
        {"b": (3, 4), "a": (1, 2)},
        {"a": (1, 2), "c": (3, 4)},
        {"a": [(1, 2), (3, 4)], "b": (3, 4)},
        {"a": (1.0, 2.0), "b": (3, 4)},
        {"a": np.array([(1, 2)]), "b": (3, 4)},
        {"a": np.array([(1.0, 2.0)]), "b": (3, 4)},
        {"a": np.eye(4), "b": (3, 4)},
        {"a": 2 * np.eye(4), "b": (3, 4)},
    ]
    assert len({SupportSet(support).digest() for support in supports}) == len(supports)
    assert SupportSet(supports[0]).digest() == SupportSet(supports[0]).copy().digest()


# What is accepted


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([(1, 2)], TypeError, "support is list; a dict of class name to examples is needed"),
        ({3: (1, 2)}, TypeError, "Class names are strings, got 3"),
        ({"masked": (1, 2)}, ValueError, "cannot be called 'masked'"),
        ({"a": "here"}, TypeError, "class 'a' is str 'here'; accepted are a HyperSpy ROI"),
        ({"a": ()}, TypeError, "accepted are"),
        ({"a": (True, False)}, TypeError, "accepted are"),
        ({"a": [[(1, 2), (3, 4)]]}, TypeError, "Several examples are given as a list"),
        ({"a": roi.CircleROI()}, ValueError, "CircleROI that has no position yet"),
        ({"a": (0, roi.PolygonROI([]))}, ValueError, "PolygonROI that has no position yet"),
    ],
)
def test_what_is_not_accepted(given, error, message):
    with pytest.raises(error, match=message):
        SupportSet(given)


def test_checked_support_is_a_copy_with_two_classes():
    given = SupportSet({"a": (1, 2), "b": (3, 4)})
    assert_same(checked_support(given, True), given)
    assert checked_support(given, True) is not given
    assert_same(checked_support(given.examples, True), given)
    with pytest.raises(ValueError, match=r"at least two classes, got \['a'\]"):
        checked_support({"a": (1, 2)}, True)
    with pytest.raises(ValueError, match="Class 'b' has no examples"):
        checked_support({"a": (1, 2), "b": []}, True)


def test_checked_support_refuses_negatives_that_are_of_no_use():
    given = {"a": (1, 2), "b": (3, 4), "rejected": [(5, 6), (7, 8)]}
    assert checked_support(given, True).negatives == checked_support(given, 0.1).negatives
    with pytest.raises(ValueError, match=r"reject=False contradicts the 2 negative examples"):
        checked_support(given, False)


def test_negative_examples_belong_to_no_class(tmp_path):
    support = SupportSet({"rejected": [(1, 2)], "a": [(3, 4)], "b": (5, 6)})
    support.add("rejected", roi.Point2DROI(7, 8), np.arange(5.0))
    assert support.class_names == ("a", "b")
    assert support.shots == {"a": 1, "b": 1}
    assert len(support) == 2
    assert len(support.negatives) == 3
    assert repr(support) == "<SupportSet, shots {'a': 1, 'b': 1}, 3 negative examples>"
    support.save(tmp_path / "support.npz")
    for same in (support.copy(), SupportSet.load(tmp_path / "support.npz")):
        assert same.digest() == support.digest()
        assert same.describe() == support.describe()
        assert same.negatives[0] == (1, 2)
    digest = support.digest()
    changed = support.updated({"rejected": (9, 9), "c": (1, 1)}, {"rejected": [0, -1]})
    assert changed.negatives[1:] == [(9, 9)]
    assert changed.class_names == ("a", "b", "c")
    assert support.digest() == digest != changed.digest()
    support.remove("rejected", 1)
    assert len(support.negatives) == 2
    with pytest.raises(IndexError, match="Class 'rejected' has 2 examples, none with index 2"):
        support.remove("rejected", 2)
    support.remove("rejected")
    assert support.negatives == []
    with pytest.raises(KeyError, match="There is no class 'rejected'"):
        support.remove("rejected")


def test_a_result_keeps_where_rois_were(scan):
    moving = roi.CircleROI(0.0, 30.0, 4.0)
    for given in (dict, SupportSet):
        support = given({"a": [moving, (5, 5)], "b": [(40, 30), (50, 3)]})
        result = scan.fewshot_classify(support, encoder="pca", context=1, lazy_output=True)
        moving.cx += 3
        assert result.support.examples["a"][0].cx == moving.cx - 3


# What the support set says of the chip size


def test_sides_of_area_rois(image, tools):
    rois = {
        "a": [roi.RectangularROI(0.0, 10.0, 5.0, 50.0), (3, 4)],
        "b": (0, roi.CircleROI(6.0, 50.0, 4.0)),
        "c": [roi.CircleROI(6.0, 50.0, 4.0, 2.0), roi.PolygonROI([(0, 0), (6, 0), (0, 8)])],
        "d": [roi.SpanROI(1.0, 2.0), roi.Point2DROI(1.0, 20.0)],
    }
    # A pixel covers 0.5 x 2.
    areas = [5 * 40, np.pi * 16, np.pi * 12, 24]
    found = area_roi_sides(SupportSet(rois), image.axes_manager.signal_axes)
    np.testing.assert_allclose(found, np.sqrt(areas))


@pytest.mark.parametrize(
    ("example", "side"),
    [
        (np.zeros((9, 9)), 9),
        (np.zeros((5, 9, 9)), 9),
        (hs.signals.Signal2D(np.zeros((9, 9))), 9),
        (np.zeros((9, 8)), None),
        (np.zeros((3, 3)), None),
        (np.zeros(9), None),
        ((9, 9), None),
    ],
)
def test_side_of_ready_chips(example, side):
    assert ready_side(SupportSet({"a": [(1, 2), example]})) == side
