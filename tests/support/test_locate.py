"""Support examples of every kind are found where they lie."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet

roi = hs.roi


def inside(shape, x, y):
    """Whether a point lies in an ROI, from the definition of each kind."""
    kind = type(shape).__name__
    if kind == "RectangularROI":
        return shape.left <= x < shape.right and shape.top <= y < shape.bottom
    if kind == "CircleROI":
        return shape.r_inner <= np.hypot(x - shape.cx, y - shape.cy) <= shape.r
    crossings = 0
    for (x0, y0), (x1, y1) in zip(
        shape.vertices, [*shape.vertices[1:], shape.vertices[0]], strict=True
    ):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize("name", ["rectangle", "circle", "ring", "polygon", "over the edge"])
@pytest.mark.parametrize(("chip_size", "stride"), [(8, 3), (7, 4), (6, 6), (5, 1)])
def test_an_roi_holds_the_chips_of_the_grid_whose_centre_is_inside(
    image, name, chip_size, stride, tools
):
    found = tools.locations(tools.ROIS[name], tools.image_domain(image, chip_size, stride))
    expected = set()
    for top in range((stride - chip_size) // 2, 41 + chip_size, stride):
        for left in range((stride - chip_size) // 2, 53 + chip_size, stride):
            row, column = top + chip_size // 2, left + chip_size // 2
            is_cell = (top - (stride - chip_size) // 2) < 41 and (
                left - (stride - chip_size) // 2
            ) < 53
            row, column = min(row, 40), min(column, 52)
            if is_cell and inside(tools.ROIS[name], -3 + 0.5 * column, 10 + 2 * row):
                expected.add((row, column))
    if stride == 1:
        # 256 chips describe one shot well enough.
        assert found <= expected
        assert len(found) == min(len(expected), 256)
    else:
        assert found == expected
        assert found


@pytest.mark.parametrize("name", ["small circle", "small rectangle", "point"])
def test_a_small_roi_holds_the_chip_at_its_centre(image, name, tools):
    # x = 3.15 is pixel 12.3, y = 41.15 pixel 15.6.
    assert tools.locations(tools.ROIS[name], tools.image_domain(image)) == {(16, 12)}


def test_an_roi_may_extend_beyond_the_image(image, tools):
    corner = roi.RectangularROI(-50.0, -50.0, -2.9, 10.5)
    assert tools.locations(corner, tools.image_domain(image, 16, 8)) == {(0, 0)}


def test_descending_axis(image, tools):
    axis = image.axes_manager.signal_axes[1]
    axis.scale, axis.offset = -2.0, 90.0
    found = tools.locations(
        roi.RectangularROI(-1.0, 30.0, 2.0, 60.0), tools.image_domain(image, 6, 6)
    )
    rows, columns = np.arange(3, 41, 6), np.arange(3, 53, 6)
    assert found == {
        (r, c) for r in rows for c in columns if 30 <= 90 - 2 * r < 60 and -1 <= c / 2 - 3 < 2
    }


def test_frame_of_a_stack(stack, tools):
    domain = tools.image_domain(stack, 6, 6)
    expected = tools.locations(tools.ROIS["circle"], tools.image_domain(stack.inav[0, 0], 6, 6))
    for index in ((2, 1), (-1, 1), (2.0, 1.0)):
        found = tools.locations((index, tools.ROIS["circle"]), domain)
        assert found == {(1, 2, *place) for place in expected}
    assert tools.locations((2, 1, 30, 20), domain) == {(1, 2, 20, 30)}


def test_frame_of_a_series_is_a_number(tools):
    signal = hs.signals.Signal2D(np.zeros((4, 41, 53)))
    signal.axes_manager[0].scale = 0.5
    domain = tools.image_domain(signal, 6, 6)
    point = roi.Point2DROI(30.0, 20.0)
    for frame in (3, -1, 1.5, np.int64(3)):
        assert tools.locations((frame, point), domain) == {(3, 20, 30)}


@pytest.mark.parametrize("name", ["rectangle", "circle", "ring", "polygon", "point"])
def test_an_roi_on_a_scan_holds_what_hyperspy_cuts_out(scan, name, tools):
    numbered = hs.signals.Signal2D(np.arange(41.0 * 53).reshape(41, 53))
    tools.calibrated(numbered, numbered.axes_manager.signal_axes)
    cut = np.atleast_1d(tools.ROIS[name](numbered).data).ravel()
    expected = {divmod(int(i), 53) for i in cut[np.isfinite(cut)]}
    found = tools.locations(tools.ROIS[name], tools.scan_domain(scan))
    assert found <= expected
    assert len(found) == min(256, len(expected))


def test_rectangle_by_hand(scan, tools):
    found = tools.locations(roi.RectangularROI(-1.0, 30.0, 1.0, 36.0), tools.scan_domain(scan))
    assert found == {(row, column) for row in (10, 11, 12) for column in (4, 5, 6, 7)}


def test_line_rois_are_columns_of_a_map(scan, tools):
    found = tools.locations(roi.SpanROI(-2.0, -1.0), tools.scan_domain(scan))
    assert found == {(row, column) for row in range(41) for column in (2, 3)}
    found = tools.locations(roi.Point1DROI(-1.1), tools.scan_domain(scan))
    assert found == {(row, 4) for row in range(41)}


def test_line_scan(tools):
    signal = hs.signals.Signal1D(np.zeros((20, 4)))
    signal.axes_manager[0].scale, signal.axes_manager[0].offset = 0.5, -2.0
    domain = tools.scan_domain(signal)
    assert tools.locations(roi.SpanROI(-1.0, 0.5), domain) == {(2,), (3,), (4,)}
    assert tools.locations(roi.Point1DROI(-1.0), domain) == {(2,)}
    for position in (2, (2,), -1.0, (-1.0,), -18, np.int32(2), np.float32(-1.0)):
        assert tools.locations(position, domain) == {(2,)}


def test_three_navigation_axes(tools):
    signal = hs.signals.Signal1D(np.zeros((2, 41, 53, 4)))
    tools.calibrated(signal, signal.axes_manager.navigation_axes[:2])
    found = tools.locations(roi.RectangularROI(-1.0, 30.0, 1.0, 36.0), tools.scan_domain(signal))
    assert found == {(z, r, c) for z in (0, 1) for r in (10, 11, 12) for c in (4, 5, 6, 7)}
    assert tools.locations((4, 10, 1), tools.scan_domain(signal)) == {(1, 10, 4)}


@pytest.mark.parametrize("kind", ["image", "scan"])
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
def test_ints_are_pixels_and_floats_calibrated(kind, position, image, scan, tools):
    domain = tools.image_domain(image) if kind == "image" else tools.scan_domain(scan)
    assert tools.locations(position, domain) == {(16, 12)}


def test_strokes_are_found_where_they_were_drawn(scan, tools):
    labels = np.zeros((41, 53), int)
    labels[3:9, 4:20] = 2
    labels[20, 50], labels[21, 51] = 1, 1
    support = SupportSet.from_label_map(labels, ["a", "b"])
    (_, _, (one,)), (_, _, (other,)) = support.locate(tools.scan_domain(scan))
    assert one.locations.tolist() == [[20, 50], [21, 51]]
    assert other.locations.tolist() == np.argwhere(labels == 2).tolist()


def test_pixels_of_a_stroke_are_examples_of_their_own(image, tools):
    labels = np.zeros((41, 53), int)
    labels[10:20, 10:30] = 1
    labels[40, 2:7] = 2
    domain = tools.image_domain(image, 6, 6)
    support = SupportSet.from_label_map(labels, ["a", "b"])
    (_, _, (one,)), (_, _, (other,)) = support.locate(domain)
    # Spread over the area rather than on the cells of the grid; of a short stroke all.
    assert len(one.locations) == 10
    assert np.ptp(one.locations, axis=0).tolist() == [9, 19]
    assert all(labels[tuple(place)] == 1 for place in one.locations)
    assert other.locations.tolist() == [[40, column] for column in range(2, 7)]


def test_a_long_stroke_gets_an_example_in_every_stride(image, tools):
    labels = np.zeros((41, 53), int)
    labels[20, 2:50] = labels[5:20, 2] = 1
    ((_, _, (shot,)),) = SupportSet.from_label_map(labels, ["a"]).locate(
        tools.image_domain(image, 8, 3)
    )
    away = np.linalg.norm(np.argwhere(labels)[:, None] - shot.locations, axis=-1).min(axis=1)
    assert away.max() < 3
    assert 63 / 5 < len(shot.locations) < 63 / 2


def test_a_label_map_of_another_shape(image, tools):
    labels = np.zeros((53, 41), int)
    labels[1:9, 1:9], labels[20:28, 20:28] = 1, 2
    support = SupportSet.from_label_map(labels, ["a", "b"])
    with pytest.raises(ValueError, match=r"has shape \(53, 41\), .* have \(41, 53\).*labels.T"):
        support.locate(tools.image_domain(image))


def test_a_label_map_of_one_frame_of_a_stack(stack, tools):
    labels = np.zeros((41, 53), int)
    labels[1:9, 1:9] = 1
    support = SupportSet.from_label_map(labels, ["a"])
    with pytest.raises(ValueError, match=r"have \(4, 3, 41, 53\) .*Label all frames"):
        support.locate(tools.image_domain(stack))


def test_strokes_on_a_stack_lie_in_their_frame(stack, tools):
    labels = np.zeros((4, 3, 41, 53), int)
    labels[1, 2, 10:20, 10:30], labels[3, 0, 40, 2:7] = 1, 2
    support = SupportSet.from_label_map(labels, ["a", "b"])
    (_, _, (one,)), (_, _, (other,)) = support.locate(tools.image_domain(stack, 6, 6))
    assert set(map(tuple, one.locations[:, :2].tolist())) == {(1, 2)}
    assert other.locations.tolist() == [[3, 0, 40, c] for c in range(2, 7)]


def test_many_locations_are_subsampled_by_the_memory_that_they_take(tools):
    signal = hs.signals.Signal2D(np.zeros((40, 50, 200, 300), np.uint8))
    everything = hs.roi.RectangularROI(0, 0, 50, 40)
    for domain, most in [
        (tools.scan_domain(signal), 256),
        (tools.scan_domain(hs.signals.Signal1D(np.zeros((40, 50, 200_000), np.uint8))), 83),
        (tools.scan_domain(hs.signals.Signal1D(np.zeros((40, 50, 3)))), 256),
    ]:
        found = tools.locations(everything, domain)
        assert len(found) == most
        assert found == tools.locations(everything, domain)
        rows, columns = np.transpose(sorted(found))
        assert rows.min() < 5 and rows.max() > 34 and columns.min() < 5 and columns.max() > 44


@pytest.mark.parametrize(
    ("kind", "example", "message"),
    [
        ("image", (1, 2, 3), r"position \(1, 2, 3\) .* 2 axes \(axis 'x', axis 'y'\)"),
        ("image", 7, r"position \(7,\) should have one value for each of the 2 axes"),
        ("image", (60, 3), "index 60 lies outside axis 'x', which has 53 points"),
        ("image", (3, -42), "index -42 lies outside axis 'y', which has 41 points"),
        ("image", (99.5, 30.0), "99.5 lies outside axis 'x', which goes from -3 to 23"),
        ("image", roi.SpanROI(1.0, 2.0), "SpanROI has one dimension; an image needs two"),
        ("image", roi.CircleROI(500.0, 50.0, 3.0), "lies outside the data .*'x': -3 to 23"),
        ("image", (0, roi.CircleROI(6.0, 50.0, 3.0)), "each of the 0 navigation axes .none"),
        ("scan", roi.CircleROI(500.0, 50.0, 3.0), "lies outside the data"),
        ("scan", (0, roi.CircleROI(6.0, 50.0, 3.0)), "for stacks of images; give the ROI alone"),
        ("scan", roi.RectangularROI(-1.1, 30.1, -1.09, 30.11), "lies outside the data"),
        ("stack", roi.CircleROI(6.0, 50.0, 3.0), r"needs its frame: .* \(0, CircleROI"),
        ("stack", (0, roi.CircleROI(6.0, 50.0, 3.0)), "each of the 2 navigation axes"),
        ("stack", (1, 2), "one value for each of the 4 axes"),
    ],
)
def test_examples_that_lie_nowhere(kind, example, message, image, scan, stack, tools):
    domain = {
        "image": lambda: tools.image_domain(image),
        "scan": lambda: tools.scan_domain(scan),
        "stack": lambda: tools.image_domain(stack, 6, 6),
    }[kind]()
    with pytest.raises(ValueError, match=f"Example of class 'a': .*{message}"):
        SupportSet({"a": example}).locate(domain)


def test_a_position_in_a_pattern_suggests_chips(stack, tools):
    with pytest.raises(ValueError, match="Give chip_size to classify the chips of every frame"):
        SupportSet({"a": (1, 2, 3, 4)}).locate(tools.scan_domain(stack))


# Arrays of positions


@pytest.mark.parametrize(
    "given",
    [
        np.array([(3, 40), (5, 12), (12, 16)]),
        np.array([(3, 40), (12, 16)], np.uint8),
        np.array([(3.0, 42.0), (-0.5, 34.0)], np.float32),
    ],
)
def test_rows_of_an_array_are_positions(given, image, scan, tools):
    for domain in (tools.image_domain(image), tools.scan_domain(scan)):
        support = SupportSet({"a": given})
        ((_, _, shots),) = support.locate(domain)
        one_by_one = SupportSet({"a": list(map(tuple, given.tolist()))}).locate(domain)
        expected = [shot.locations.tolist() for _, _, (shot,) in one_by_one]
        assert [shot.locations.tolist() for shot in shots] == expected
        assert support.shots == {"a": len(expected)} == {"a": len(given)}


def test_positions_on_a_stack_and_on_a_line(stack, tools):
    given = np.array([(2, 3, 12, 16), (0, 1, 5, 7), (1, 1, 40, 2)])
    ((_, _, shots),) = SupportSet({"a": given}).locate(tools.image_domain(stack))
    assert [s.locations.tolist() for s in shots] == [
        [[3, 2, 16, 12]],
        [[1, 0, 7, 5]],
        [[1, 1, 2, 40]],
    ]
    line = tools.scan_domain(hs.signals.Signal1D(np.zeros((7, 30))))
    ((_, _, shots),) = SupportSet({"a": np.array([[2], [5]])}).locate(line)
    assert [shot.locations.tolist() for shot in shots] == [[[2]], [[5]]]


def test_positions_that_may_be_ready_examples(image, tools):
    spectra = hs.signals.Signal1D(np.zeros((6, 7, 2)))
    support = SupportSet({"a": np.array([(1, 2), (3, 4), (5, 0)])})
    with pytest.raises(
        ValueError, match=r"either positions on 2 axes or ready spectra of shape \(2,\)"
    ):
        support.locate(tools.scan_domain(spectra))
    ready = SupportSet({"a": hs.signals.Signal1D(np.array([(1.0, 2.0), (3.0, 4.0)]))})
    ((_, _, shots),) = ready.locate(tools.scan_domain(spectra))
    assert [shot.item.tolist() for shot in shots] == [[[1, 2]], [[3, 4]]]
    with pytest.raises(ValueError, match=r"index 99 lies outside axis 'x'"):
        SupportSet({"a": np.array([(1, 2), (99, 4)])}).locate(tools.image_domain(image))
