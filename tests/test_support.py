"""Support examples of every kind are found where they lie, and can be written down and read back."""

import json

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet
from hyperspy_fewshot.chips import ChipGrid
from hyperspy_fewshot.locate import Domain
from hyperspy_fewshot.positions import PositionGrid

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

roi = hs.roi
# Scales and offsets that differ in x and y, one of them negative.
X, Y = {"name": "x", "scale": 0.5, "offset": -3.0}, {"name": "y", "scale": 2.0, "offset": 10.0}
ROIS = {
    "rectangle": roi.RectangularROI(-1.0, 30.0, 9.0, 60.0),
    "circle": roi.CircleROI(6.0, 50.0, 9.0),
    "ring": roi.CircleROI(6.0, 50.0, 12.0, 6.0),
    "polygon": roi.PolygonROI([(-2.3, 21.0), (12.4, 33.0), (7.2, 77.7), (0.3, 60.1)]),
    "small circle": roi.CircleROI(3.2, 41.2, 0.01),
    "small rectangle": roi.RectangularROI(3.1, 41.1, 3.2, 41.2),
    "point": roi.Point2DROI(3.1, 41.1),
    "over the edge": roi.RectangularROI(-30.0, 0.0, 1.0, 28.0),
}


def calibrated(signal, axes):
    for axis, values in zip(axes, (X, Y), strict=True):
        for key, value in values.items():
            setattr(axis, key, value)
    return signal


@pytest.fixture
def image():
    signal = hs.signals.Signal2D(np.random.default_rng(0).random((41, 53)))
    return calibrated(signal, signal.axes_manager.signal_axes)


@pytest.fixture
def scan():
    signal = hs.signals.Signal1D(np.random.default_rng(0).random((41, 53, 4)))
    return calibrated(signal, signal.axes_manager.navigation_axes)


def image_domain(signal, chip_size=8, stride=3):
    axes = signal.axes_manager
    shape = axes._navigation_shape_in_array, axes._signal_shape_in_array
    grid = ChipGrid(*shape, chip_size, stride)
    return Domain("image", axes.navigation_axes, axes.signal_axes, grid)


def scan_domain(signal):
    axes = signal.axes_manager
    grid = PositionGrid(axes._navigation_shape_in_array, axes._signal_shape_in_array)
    kind = "spectrum" if axes.signal_dimension == 1 else "pattern"
    return Domain(kind, axes.navigation_axes, axes.signal_axes, grid)


def locations(example, domain):
    """Set of indices at which one example is found."""
    (entry,) = SupportSet({"a": example}).resolve(domain)
    return {tuple(map(int, place)) for place in entry.locations}


def inside(region, x, y):
    """Whether a point lies in an ROI, from the definition of each kind."""
    kind = type(region).__name__
    if kind == "RectangularROI":
        return region.left <= x < region.right and region.top <= y < region.bottom
    if kind == "CircleROI":
        return region.r_inner <= np.hypot(x - region.cx, y - region.cy) <= region.r
    crossings = 0
    for (x0, y0), (x1, y1) in zip(
        region.vertices, [*region.vertices[1:], region.vertices[0]], strict=True
    ):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            crossings += 1
    return crossings % 2 == 1


class TestRoisOnImages:
    @pytest.mark.parametrize("name", ["rectangle", "circle", "ring", "polygon", "over the edge"])
    @pytest.mark.parametrize(("chip_size", "stride"), [(8, 3), (7, 4), (6, 6), (5, 1)])
    def test_every_grid_chip_whose_centre_is_inside(self, image, name, chip_size, stride):
        found = locations(ROIS[name], image_domain(image, chip_size, stride))
        expected = set()
        for top in range((stride - chip_size) // 2, 41 + chip_size, stride):
            for left in range((stride - chip_size) // 2, 53 + chip_size, stride):
                row, column = top + chip_size // 2, left + chip_size // 2
                is_cell = (top - (stride - chip_size) // 2) < 41 and (
                    left - (stride - chip_size) // 2
                ) < 53
                row, column = min(row, 40), min(column, 52)
                if is_cell and inside(ROIS[name], -3 + 0.5 * column, 10 + 2 * row):
                    expected.add((row, column))
        if stride == 1:
            # 256 chips of one entry are enough.
            assert found <= expected
            assert len(found) == min(len(expected), 256)
        else:
            assert found == expected
            assert found

    @pytest.mark.parametrize("name", ["small circle", "small rectangle", "point"])
    def test_the_chip_at_the_centre_where_there_is_none(self, image, name):
        # x = 3.15 is pixel 12.3, y = 41.15 pixel 15.6.
        assert locations(ROIS[name], image_domain(image)) == {(16, 12)}

    def test_a_corner_of_an_roi_suffices(self, image):
        region = roi.RectangularROI(-50.0, -50.0, -2.9, 10.5)
        assert locations(region, image_domain(image, 16, 8)) == {(0, 0)}

    def test_descending_axis(self, image):
        axis = image.axes_manager.signal_axes[1]
        axis.scale, axis.offset = -2.0, 90.0
        found = locations(roi.RectangularROI(-1.0, 30.0, 2.0, 60.0), image_domain(image, 6, 6))
        rows, columns = np.arange(3, 41, 6), np.arange(3, 53, 6)
        assert found == {
            (r, c) for r in rows for c in columns if 30 <= 90 - 2 * r < 60 and -1 <= c / 2 - 3 < 2
        }

    def test_frame_of_a_stack(self):
        signal = hs.signals.Signal2D(np.zeros((4, 3, 41, 53)))
        calibrated(signal, signal.axes_manager.signal_axes)
        domain = image_domain(signal, 6, 6)
        expected = locations(ROIS["circle"], image_domain(signal.inav[0, 0], 6, 6))
        for index in ((2, 1), (-1, 1), (2.0, 1.0)):
            found = locations((index, ROIS["circle"]), domain)
            assert found == {(1, 2, *place) for place in expected}
        assert locations((2, 1, 30, 20), domain) == {(1, 2, 20, 30)}

    def test_frame_of_a_series_is_a_number(self):
        signal = hs.signals.Signal2D(np.zeros((4, 41, 53)))
        signal.axes_manager[0].scale = 0.5
        domain = image_domain(signal, 6, 6)
        point = roi.Point2DROI(30.0, 20.0)
        for frame in (3, -1, 1.5, np.int64(3)):
            assert locations((frame, point), domain) == {(3, 20, 30)}


class TestRoisOnScans:
    @pytest.mark.parametrize("name", ["rectangle", "circle", "ring", "polygon", "point"])
    def test_what_hyperspy_itself_cuts_out(self, scan, name):
        numbered = scan._get_navigation_signal(np.arange(41.0 * 53).reshape(41, 53))
        cut = np.atleast_1d(ROIS[name](numbered).data).ravel()
        expected = {divmod(int(i), 53) for i in cut[np.isfinite(cut)]}
        found = locations(ROIS[name], scan_domain(scan))
        assert found <= expected
        assert len(found) == min(256, len(expected))

    def test_rectangle_by_hand(self, scan):
        found = locations(roi.RectangularROI(-1.0, 30.0, 1.0, 36.0), scan_domain(scan))
        assert found == {(row, column) for row in (10, 11, 12) for column in (4, 5, 6, 7)}

    def test_line_rois_are_columns_of_a_map(self, scan):
        found = locations(roi.SpanROI(-2.0, -1.0), scan_domain(scan))
        assert found == {(row, column) for row in range(41) for column in (2, 3)}
        found = locations(roi.Point1DROI(-1.1), scan_domain(scan))
        assert found == {(row, 4) for row in range(41)}

    def test_line_scan(self):
        signal = hs.signals.Signal1D(np.zeros((20, 4)))
        signal.axes_manager[0].scale, signal.axes_manager[0].offset = 0.5, -2.0
        domain = scan_domain(signal)
        assert locations(roi.SpanROI(-1.0, 0.5), domain) == {(2,), (3,), (4,)}
        assert locations(roi.Point1DROI(-1.0), domain) == {(2,)}
        for position in (2, (2,), -1.0, (-1.0,), -18, np.int32(2), np.float32(-1.0)):
            assert locations(position, domain) == {(2,)}

    def test_three_navigation_axes(self):
        signal = hs.signals.Signal1D(np.zeros((2, 41, 53, 4)))
        calibrated(signal, signal.axes_manager.navigation_axes[:2])
        found = locations(roi.RectangularROI(-1.0, 30.0, 1.0, 36.0), scan_domain(signal))
        assert found == {(z, r, c) for z in (0, 1) for r in (10, 11, 12) for c in (4, 5, 6, 7)}
        assert locations((4, 10, 1), scan_domain(signal)) == {(1, 10, 4)}


class TestPositions:
    @pytest.mark.parametrize("make", [image_domain, scan_domain])
    @pytest.mark.parametrize(
        "position",
        [
            (12, 16),
            (3.0, 42.0),
            (12, 42.0),
            (-41, -25),
            (np.int64(12), np.uint8(16)),
            (np.float32(3.1), np.float64(41.2)),
        ],
    )
    def test_ints_are_pixels_and_floats_calibrated(self, make, position, image, scan):
        domain = make(image if make is image_domain else scan)
        assert locations(position, domain) == {(16, 12)}

    def test_the_chip_is_centred_exactly_there(self, image):
        support = {"a": [(20, 15)], "b": [(40, 30)]}
        # An encoder that sees the surroundings would tell a chip with them from one without.
        options = {"chip_size": 7, "stride": 5, "encoder": "fourier"}
        result = image.fewshot_classify(support, **options)
        ready = {"a": [image.data[12:19, 17:24]], "b": [image.data[27:34, 37:44]]}
        again = image.fewshot_classify(ready, **options)
        np.testing.assert_array_equal(again.probabilities.data, result.probabilities.data)


class TestReadyExamples:
    support = {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}

    @pytest.fixture
    def spectra(self):
        values = np.random.default_rng(0).poisson(20, (6, 7, 30)).astype(float)
        values[:, 4:, 20:24] += 60
        signal = hs.signals.Signal1D(values)
        signal.axes_manager[-1].units, signal.axes_manager[-1].scale = "eV", 0.5
        signal.axes_manager[-1].offset = 100.0
        return signal

    def taken(self, signal, how):
        return {
            name: [how(signal, place) for place in places] for name, places in self.support.items()
        }

    @pytest.mark.parametrize(
        "how",
        [
            lambda s, p: s.data[p[::-1]],
            lambda s, p: s.inav[p],
            lambda s, p: s.as_lazy().inav[p],
            lambda s, p: s.data[p[::-1]].astype("float32"),
        ],
        ids=["array", "signal", "lazy signal", "float32"],
    )
    def test_spectra_and_patterns_are_the_positions_that_they_are_of(self, spectra, how):
        patterns = spectra.isig[:].deepcopy()
        patterns = hs.signals.Signal2D(patterns.data.reshape(6, 7, 5, 6))
        for signal in (spectra, patterns):
            expected = signal.fewshot_classify(self.support, context=1)
            result = signal.fewshot_classify(self.taken(signal, how), context=1)
            np.testing.assert_allclose(
                result.probabilities.data, expected.probabilities.data, atol=1e-6
            )

    def test_many_in_one_are_a_shot_each(self, spectra):
        one = {"a": spectra.data[:2, 0], "b": spectra.inav[5:, :2]}
        support = SupportSet(one)
        assert support.shots == {"a": 2, "b": 4}
        result = spectra.fewshot_classify(support, context=1, reject=False)
        single = {"a": list(spectra.data[:2, 0]), "b": list(spectra.data[:2, 5:].reshape(4, 30))}
        expected = spectra.fewshot_classify(single, context=1, reject=False)
        np.testing.assert_array_equal(result.probabilities.data, expected.probabilities.data)

    def test_spectra_on_another_axis_are_interpolated(self, spectra):
        channels = 0.25 * np.arange(80) - 2
        line = hs.signals.Signal1D(np.stack([3 * channels, 7 - channels]))
        axis = line.axes_manager[-1]
        axis.scale, axis.offset, axis.units = 0.25, 98.0, "eV"
        entries = SupportSet({"a": line}).resolve(scan_domain(spectra))
        wanted = 0.5 * np.arange(30)
        np.testing.assert_allclose(entries[0].items[0], 3 * wanted, atol=1e-9)
        np.testing.assert_allclose(entries[1].items[0], 7 - wanted, atol=1e-9)

    def test_spectra_on_a_descending_axis(self, spectra):
        values = np.arange(130.0, 90.0, -0.5)
        axis = {"axis": values, "units": "eV", "navigate": False}
        line = hs.signals.Signal1D(values * 2, axes=[axis])
        (entry,) = SupportSet({"a": line}).resolve(scan_domain(spectra))
        np.testing.assert_allclose(entry.items[0], 2 * spectra.axes_manager[-1].axis)

    def test_a_tiny_scale_is_another_axis_too(self, spectra):
        for axis, scale in ((spectra.axes_manager[-1], 1e-10), (None, None)):
            if axis is not None:
                axis.scale, axis.offset, axis.units = scale, 0.0, "m"
        other = spectra.inav[0, 0].deepcopy()
        other.axes_manager[-1].scale = 2e-10
        (entry,) = SupportSet({"a": other}).resolve(scan_domain(spectra))
        np.testing.assert_allclose(entry.items[0, ::2], other.data[:15])

    def test_another_unit(self, spectra):
        other = spectra.inav[0, 0].deepcopy()
        other.axes_manager[-1].units = "keV"
        with pytest.raises(ValueError, match="class 'a': the spectra are in keV, the data in eV"):
            spectra.fewshot_classify({"a": other, "b": (6, 1)})

    def test_a_range_that_is_not_covered(self, spectra):
        other = spectra.inav[0, 0].isig[5:]
        with pytest.raises(ValueError, match="from 102.5 to 114.5 eV, which does not cover"):
            spectra.fewshot_classify({"a": other, "b": (6, 1)})

    def test_chips_of_images(self, image):
        image.data[:, 26:] *= 4
        ready = {
            "a": np.stack([image.data[:9, :9], image.data[10:19, :9]]),
            "b": image.isig[40:49, 20:29],
        }
        result = image.fewshot_classify(ready, stride=4, reject=False)
        assert result.classifier.setup.chip_size == 9
        assert (result.labels.data[:, :5] == 0).all()
        assert (result.labels.data[:, 8:] == 1).all()

    @pytest.mark.parametrize(
        ("example", "match"),
        [
            (np.zeros((9, 8)), r"ready examples of shape \(9, 8\) do not match the chips"),
            (np.zeros((9, 9), complex), "ready examples must be real numbers, got complex128"),
            (np.full((9, 9), np.nan), "ready examples must be finite, got NaN"),
            (np.array([["a"]]), "ready examples must be real numbers, got <U1"),
            (np.array([3, 4]), r"Positions are given as tuples, \[tuple\(p\) for p in"),
            (np.array([[3, 4], [5, 6]]), r"Positions are given as tuples, \[tuple\(p\) for p in"),
            (hs.signals.Signal1D(np.zeros((9, 9))), "has 1 signal dimensions, chips have 2"),
        ],
    )
    def test_what_does_not_fit(self, image, example, match):
        with pytest.raises(ValueError, match=f"Example of class 'a': .*{match}"):
            image.fewshot_classify({"a": example, "b": (30, 20)}, chip_size=9)


class TestScribbles:
    def test_one_stroke_is_one_shot(self):
        labels = np.zeros((41, 53), np.uint8)
        labels[3:9, 4:20] = 1
        labels[9:12, 20:24] = 1  # over a corner: the same stroke
        labels[30:35, 4:20] = 1
        labels[5:30, 40:45] = 2
        support = SupportSet.from_label_map(labels, ["left", "right"])
        assert support.shots == {"left": 2, "right": 1}
        for given in (hs.signals.Signal2D(labels), hs.signals.BaseSignal(labels).T):
            assert SupportSet.from_label_map(given, ["left", "right"]).shots == support.shots

    def test_strokes_are_found_where_they_were_drawn(self, scan):
        labels = np.zeros((41, 53), int)
        labels[3:9, 4:20] = 2
        labels[20, 50], labels[21, 51] = 1, 1
        one, other = SupportSet.from_label_map(labels, ["a", "b"]).resolve(scan_domain(scan))
        assert one.locations.tolist() == [[20, 50], [21, 51]]
        assert other.locations.tolist() == np.argwhere(labels == 2).tolist()

    def test_chips_whose_centre_is_covered_or_the_nearest_pixel(self, image):
        labels = np.zeros((41, 53), int)
        labels[10:20, 10:30] = 1
        labels[40, 2:7] = 2
        domain = image_domain(image, 6, 6)
        one, other = SupportSet.from_label_map(labels, ["a", "b"]).resolve(domain)
        assert one.locations.tolist() == [[r, c] for r in (15,) for c in (15, 21, 27)]
        assert other.locations.tolist() == [[40, 4]]

    def test_classify(self, image):
        image.data = 5 + image.data
        image.data[:, 26:] *= 4
        labels = np.zeros((41, 53), int)
        labels[5:9, 2:15], labels[20:30, 4:8], labels[5:30, 40:45] = 1, 1, 2
        support = SupportSet.from_label_map(labels, ["dark", "bright"])
        result = image.fewshot_classify(support, chip_size=6, stride=3, reject=False)
        assert (result.labels.data[:, :7] == 0).all()
        assert (result.labels.data[:, 10:] == 1).all()

    def test_of_a_stack(self):
        signal = hs.signals.Signal2D(np.random.default_rng(0).random((3, 24, 36)))
        signal.data[..., 18:] *= 5
        labels = np.zeros((3, 24, 36), int)
        labels[0, 2:20, 2:12], labels[2, 2:20, 25:33] = 1, 2
        support = SupportSet.from_label_map(labels, ["a", "b"])
        result = signal.fewshot_classify(support, chip_size=8, stride=3, reject=False)
        assert (result.labels.data[..., :4] == 0).all()
        assert (result.labels.data[..., 8:] == 1).all()

    @pytest.mark.parametrize(
        ("labels", "match"),
        [
            (np.zeros((4, 5)), "holds integers, got float64"),
            (np.array([[0, 3]]), "2 class names they must go from 0 .unlabelled. to 2"),
            (np.array([[-1, 2]]), "2 class names they must go from 0"),
            (np.array([[0, 2]]), r"Class 'a' \(label 1\) has no labelled pixel"),
            (np.zeros((0, 3), int), "Labels of shape"),
        ],
    )
    def test_errors(self, labels, match):
        with pytest.raises(ValueError, match=match):
            SupportSet.from_label_map(labels, ["a", "b"])

    def test_another_shape(self, image):
        labels = np.zeros((53, 41), int)
        labels[1:9, 1:9], labels[20:28, 20:28] = 1, 2
        support = SupportSet.from_label_map(labels, ["a", "b"])
        with pytest.raises(ValueError, match=r"has shape \(53, 41\), .* have \(41, 53\)"):
            image.fewshot_classify(support)


def every_kind():
    """A support set with an example of each kind."""
    labels = np.zeros((41, 53), int)
    labels[3:9, 4:20], labels[9, 5], labels[30:35, 30:34] = 1, 1, 1
    (scribble,) = SupportSet.from_label_map(labels, ["x"]).examples.values()
    line = hs.signals.Signal1D(np.arange(12.0).reshape(3, 4))
    line.axes_manager[-1].units, line.axes_manager[-1].offset = "eV", 5.0
    return SupportSet(
        {
            "rois": [*ROIS.values(), roi.SpanROI(1.0, 2.0), roi.Point1DROI(3.0)],
            "positions": [(1, 2), (1.5, 2.0), (np.int64(3), np.float32(0.5)), 7, 2.5, (1, 2, 3)],
            "frames / of stacks": [(0, roi.Point2DROI(1.0, 2.0)), ((1, 2.5), ROIS["polygon"])],
            "scribbles": scribble,
            "ready": [
                np.arange(16, dtype="uint8").reshape(4, 4),
                line,
                hs.signals.Signal2D(np.eye(3)),
            ],
        }
    )


def assert_same(one, other):
    assert one.class_names == other.class_names
    assert one.shots == other.shots
    assert one.describe() == other.describe()


class TestSupportSet:
    def test_counts(self):
        support = every_kind()
        shots = {"rois": 10, "positions": 6, "frames / of stacks": 2, "scribbles": 2, "ready": 5}
        assert support.shots == shots
        assert len(support) == 25
        assert support.class_names == tuple(shots)
        assert repr(support).startswith("<SupportSet, shots {'rois': 10, 'positions': 6")

    def test_add_and_remove(self):
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
        with pytest.raises(IndexError):
            support.remove("Ge", 7)

    def test_the_dict_that_it_is_made_of_stays_as_it_is(self):
        given = {"a": [(1, 2)]}
        SupportSet(given).add("a", (3, 4))
        assert given == {"a": [(1, 2)]}

    def test_copy_keeps_where_rois_are_now(self):
        moving = roi.RectangularROI(1.0, 2.0, 3.0, 4.0)
        support = SupportSet({"a": [moving, (0, moving)]})
        copy = support.copy()
        moving.right = 9.0
        copy.add("a", (1, 2))
        assert copy.examples["a"][0].right == copy.examples["a"][1][1].right == 3.0
        assert support.shots == {"a": 2}

    def test_a_result_keeps_where_rois_were(self, scan):
        moving = roi.CircleROI(0.0, 30.0, 4.0)
        for given in (dict, SupportSet):
            result = scan.fewshot_classify(given({"a": [moving, (5, 5)], "b": [(40, 30), (50, 3)]}))
            moving.cx += 3
            assert result.support.examples["a"][0].cx == moving.cx - 3

    def test_save_and_load(self, tmp_path):
        support = every_kind()
        support.save(tmp_path / "support.npz")
        loaded = SupportSet.load(tmp_path / "support.npz")
        assert_same(loaded, support)
        np.testing.assert_array_equal(loaded.examples["ready"][0], support.examples["ready"][0])
        assert loaded.examples["ready"][0].dtype == np.uint8
        for one, other in zip(
            loaded.examples["ready"][1:], support.examples["ready"][1:], strict=True
        ):
            np.testing.assert_array_equal(one.data, other.data)
            assert one.axes_manager.signal_dimension == other.axes_manager.signal_dimension
        np.testing.assert_array_equal(
            loaded.examples["ready"][1].axes_manager[-1].axis, [5, 6, 7, 8]
        )

    def test_loaded_examples_lie_where_the_saved_ones_do(self, tmp_path, image):
        support = SupportSet(
            {
                "rois": list(ROIS.values()),
                "positions": [(1, 2), (1.5, 22.0)],
                "scribbles": every_kind().examples["scribbles"],
            }
        )
        support.save(tmp_path / "support.npz")
        domain = image_domain(image)
        loaded = SupportSet.load(tmp_path / "support.npz").resolve(domain)
        for one, other in zip(loaded, support.resolve(domain), strict=True):
            np.testing.assert_array_equal(one.locations, other.locations)

    def test_description_is_json_without_the_data(self):
        support = every_kind()
        plain = json.loads(support.describe())
        assert plain["rois"][0] == {
            "roi": "RectangularROI",
            "parameters": {"left": -1.0, "top": 30.0, "right": 9.0, "bottom": 60.0},
        }
        assert plain["positions"] == [[1, 2], [1.5, 2.0], [3, 0.5], 7, 2.5, [1, 2, 3]]
        assert plain["frames / of stacks"][0]["frame"] == 0
        assert plain["ready"][0] == {"shape": [4, 4], "dtype": "uint8"}
        del plain["ready"]
        rebuilt = SupportSet.from_json(plain, {})
        support.remove("ready")
        assert_same(rebuilt, support)

    def test_description_of_a_large_region_is_short(self):
        labels = np.zeros((500, 600), int)
        labels[100:400, 100:500] = 1
        support = SupportSet.from_label_map(labels, ["a"])
        assert len(support.describe()) < 10_000
        (rebuilt,) = SupportSet.from_json(json.loads(support.describe()), {}).examples["a"]
        np.testing.assert_array_equal(rebuilt.points, np.argwhere(labels))

    def test_data_that_were_left_out_have_to_be_given_again(self):
        plain = json.loads(SupportSet({"a": np.zeros((4, 4))}).describe())
        with pytest.raises(ValueError, match=r"shape \(4, 4\) has to be given again"):
            SupportSet.from_json(plain, {})
