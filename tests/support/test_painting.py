"""Label images and masks, as other programs write them, become strokes."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet
from hyperspy_fewshot.support.painting import label_image
from hyperspy_fewshot.support.rois import area_in_pixels

NAMES = ["left", "right"]


def painted(dtype=np.uint8):
    """Two strokes of class 1, one of them over a corner, and one of class 2."""
    labels = np.zeros((41, 53), dtype)
    labels[3:9, 4:20], labels[9:12, 20:24], labels[30:35, 4:20] = 1, 1, 1
    labels[5:30, 40:45] = 2
    return labels


def marked(support):
    """Label image of the strokes of a support set, 1 to K."""
    strokes = list(support.examples.values())
    labels = np.zeros(strokes[0][0].shape, int)
    for value, own in enumerate(strokes, start=1):
        for stroke in own:
            labels[tuple(stroke.points.T)] = value
    return labels


# Label images


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64", "float32", "float64"])
def test_one_stroke_is_one_shot(dtype):
    labels = painted(dtype)
    masked = np.ma.array(labels, mask=labels == 0)
    for given in (
        labels,
        labels[..., np.newaxis],  # ilastik
        masked,
        hs.signals.Signal2D(labels),
        hs.signals.Signal2D(labels).as_lazy(),
        hs.signals.BaseSignal(labels).T,
    ):
        support = SupportSet.from_label_map(given, NAMES)
        assert support.shots == {"left": 2, "right": 1}
        np.testing.assert_array_equal(marked(support), painted())


def test_values_have_names():
    labels = painted() * 50
    support = SupportSet.from_label_map(labels, {100: "right", 50: "left"})
    assert support.shots == {"right": 1, "left": 2}
    assert SupportSet.from_label_map(labels, {100: "right"}).class_names == ("right",)
    both = SupportSet.from_label_map(labels, {0: "rest", np.uint8(50): "marked", 100: "marked"})
    assert both.shots == {"rest": 1, "marked": 3}
    support = SupportSet.from_label_map(labels, {50: "left", 100: "rejected"})
    assert (support.class_names, len(support.negatives)) == (("left",), 1)


def test_without_names_values_are_names():
    assert SupportSet.from_label_map(3 * painted()).shots == {"3": 2, "6": 1}
    image = label_image(painted(), [{"size": n, "navigate": False} for n in (41, 53)], NAMES, "")
    assert SupportSet.from_label_map(image).shots == {"left": 2, "right": 1}
    image.data[image.data == 1] = 0
    assert SupportSet.from_label_map(image).shots == {"right": 1}
    with pytest.raises(ValueError, match=r"have 250 values beside 0 .* Give class_names"):
        SupportSet.from_label_map(np.arange(251).reshape(1, -1))
    with pytest.raises(ValueError, match=r"have 0 values beside 0 .* Give class_names"):
        SupportSet.from_label_map(np.zeros((4, 5), int))


def test_binary_masks_of_fiji_are_0_and_255():
    mask = np.where(painted() == 1, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(
        marked(SupportSet.from_label_map(mask, ["particle"])), painted() == 1
    )
    with pytest.raises(
        ValueError, match=r"hold \[0, 255\]; with 2 class .* a dict of value to name"
    ):
        SupportSet.from_label_map(mask, ["particle", "film"])
    with pytest.raises(ValueError, match=r"hold \[0, 50, 255\]; with 1 class"):
        SupportSet.from_label_map(np.array([[0, 50, 255]]), ["particle"])


def test_strokes_of_different_frames_are_different_shots():
    labels = np.zeros((3, 41, 53), int)
    labels[:2, 4, 5:20] = 1
    assert SupportSet.from_label_map(labels, ["a"]).shots == {"a": 2}
    line = np.array([1, 1, 0, 1, 0, 2])
    assert SupportSet.from_label_map(line, ["a", "b"]).shots == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.array([[0, 0.5]]), "holds whole numbers, got float64 with 0.5"),
        (np.array([[0, np.nan, 1]], np.float32), "holds whole numbers, got float32 with nan"),
        (np.array([[0j, 1]]), "holds whole numbers, got complex128"),
        (np.zeros((4, 5)), r"Class 'a' \(label 1\) has no labelled pixel"),
        (np.array([[0, 3]]), "2 class names they must go from 0 .unlabelled. to 2"),
        (np.array([[-1, 2]]), "2 class names they must go from 0"),
        (np.array([[0, 2]]), r"Class 'a' \(label 1\) has no labelled pixel"),
        (np.zeros((0, 3), int), "Labels of shape"),
    ],
)
def test_bad_label_images(labels, match):
    with pytest.raises(ValueError, match=match):
        SupportSet.from_label_map(labels, ["a", "b"])


@pytest.mark.parametrize(
    ("names", "error", "match"),
    [
        ("ab", TypeError, "class_names is the string 'ab'; a list of names is needed"),
        ({"a": 1, "b": 2}, TypeError, "Values of a label image are integers, got the key 'a'"),
        ({True: "a"}, TypeError, "got the key True"),
        ({7: "a"}, ValueError, r"Class 'a' \(label 7\) has no labelled pixel"),
        (["a", "a"], ValueError, r"Class names must differ, got \['a', 'a'\]"),
        (["a", "masked"], ValueError, "cannot be called 'masked'"),
    ],
)
def test_bad_names(names, error, match):
    with pytest.raises(error, match=match):
        SupportSet.from_label_map(painted(), names)


# Masks


def test_masks_are_strokes():
    labels = painted()
    masks = {"left": labels == 1, "right": hs.signals.Signal2D(np.where(labels == 2, 255, 0))}
    support = SupportSet.from_masks(masks)
    assert support.shots == {"left": 2, "right": 1}
    np.testing.assert_array_equal(marked(support), labels)
    # Masks of a list are shots of their own, even where they touch.
    top = np.zeros((41, 53), bool)
    top[12:14, 20:24] = True
    support = SupportSet.from_masks({"left": [labels == 1, top], "rejected": labels == 2})
    assert support.shots == {"left": 3}
    assert len(support.negatives) == 1


@pytest.mark.parametrize(
    ("masks", "error", "match"),
    [
        ([np.eye(4)], TypeError, "masks is list; a dict of class name to mask"),
        ({"a": np.arange(4)}, ValueError, r"mask of class 'a' holds \[1, 2, 3\].*from_label_map"),
        (
            {"a": np.zeros((4, 5), bool)},
            ValueError,
            r"class 'a', shape \(4, 5\), is False everywhere",
        ),
        ({"a": np.full((4, 5), 0.5)}, ValueError, "holds whole numbers, got float64 with 0.5"),
        (
            {"a": np.eye(4), "b": np.eye(5)},
            ValueError,
            r"class 'b' has shape \(5, 5\), one of 'a' has \(4, 4\)",
        ),
        ({"a": np.eye(4), "b": np.ones((4, 4))}, ValueError, "'a' and 'b' share 4 pixels"),
    ],
)
def test_bad_masks(masks, error, match):
    with pytest.raises(error, match=match):
        SupportSet.from_masks(masks)


# In a classification


def test_the_way_there_and_back(tmp_path):
    values = np.random.default_rng(0).normal(10, 1, (41, 53))
    values[:, 26:] += 20
    signal = hs.signals.Signal2D(values)
    axis = signal.axes_manager[0]
    axis.name, axis.scale, axis.offset, axis.units = "x", 0.5, -3.0, "nm"
    labels = painted()
    settings = {"chip_size": 8, "stride": 3, "encoder": "pca"}
    support = SupportSet.from_label_map(labels, NAMES)
    result = signal.fewshot_classify(support, **settings)
    image = result.to_label_image()
    expected = result.labels_at_pixels().data
    assert image.data.dtype == np.uint8
    assert image.axes_manager[0].scale == 0.5
    np.testing.assert_array_equal(image.data, np.where(expected < 0, 0, expected + 1))
    assert image.metadata.General.title.startswith("Label image of Few-shot labels of")
    image.save(tmp_path / "labels.tif")
    loaded = hs.load(tmp_path / "labels.tif")
    np.testing.assert_array_equal(loaded.data, image.data)
    for given, names in ((image, None), (loaded, NAMES), (loaded.data, NAMES)):
        again = SupportSet.from_label_map(given, names)
        assert again.class_names == tuple(NAMES)
        np.testing.assert_array_equal(marked(again), image.data)
    with pytest.raises(ValueError, match=r"Give result.to_label_image\(\)"):
        SupportSet.from_label_map(result.labels, NAMES)


def test_leave_one_out_leaves_out_strokes():
    signal = hs.signals.Signal2D(np.random.default_rng(0).normal(10, 1, (60, 80)))
    signal.data[:, 40:] += 20
    labels = np.zeros((60, 80), int)
    labels[5, 5:30], labels[30, 5:30], labels[55, 5:30] = 1, 1, 1
    labels[5, 50:75], labels[40, 50:75] = 2, 2
    support = SupportSet.from_label_map(labels, NAMES)
    result = signal.fewshot_classify(support, chip_size=8, stride=4, encoder="pca")
    assert result.classifier.shots == (3, 2)
    assert [row["class"] for row in result.examples.rows] == ["left"] * 3 + ["right"] * 2
    assert len(result.classifier.landmarks) == 5 * 10


def test_a_concave_polygon_is_measured_inside(tools):
    signal = hs.signals.Signal2D(np.zeros((60, 80)))
    for axis, scale in zip(signal.axes_manager.signal_axes, (0.5, 0.25), strict=True):
        axis.scale = scale
    # The letter U: columns 10 to 30, with a notch of columns 16 to 24 from the top to row 40.
    corners = [(10, 8), (16, 8), (16, 40), (24, 40), (24, 8), (30, 8), (30, 50), (10, 50)]
    polygon = hs.roi.PolygonROI([((x - 0.5) * 0.5, (y - 0.5) * 0.25) for x, y in corners])
    inside = np.zeros((60, 80), bool)
    inside[8:50, 10:30], inside[8:40, 16:24] = True, False
    assert area_in_pixels(polygon, signal.axes_manager.signal_axes) == pytest.approx(inside.sum())
    for stride in (3, 5):
        grid = inside[stride // 2 :: stride, stride // 2 :: stride]
        found = tools.locations(polygon, tools.image_domain(signal, 8, stride))
        assert found == {
            (stride * row + stride // 2, stride * column + stride // 2)
            for row, column in np.argwhere(grid).tolist()
        }
