"""ROIs and coordinates become indices by HyperSpy's rules."""

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.axes import AxesManager

from hyperspy_fewshot.support import rois

roi = hs.roi


def axis_of(**options):
    (axis,) = AxesManager([{"size": 20, "navigate": False, **options}])._axes
    return axis


UNIFORM = {"scale": 0.5, "offset": -2.0, "name": "x", "units": "nm"}
NON_UNIFORM = {"axis": np.arange(1.0, 21.0) ** 2, "name": "x"}


@pytest.mark.parametrize(
    ("value", "index"),
    [(3, 3), (-1, 19), (np.int8(4), 4), (-2.0, 0), (-1.8, 0), (7.6, 19), (np.float32(0.4), 5)],
)
def test_ints_are_indices_and_floats_calibrated(value, index):
    assert rois.index_of(value, axis_of(**UNIFORM)) == index


def test_coordinates_on_other_axes():
    assert rois.index_of(26.0, axis_of(**NON_UNIFORM)) == 4
    assert rois.index_of(8.9, axis_of(scale=-0.5, offset=10.0)) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (20, "index 20 lies outside axis 'x', which has 20 points .ints are pixel indices"),
        (-21, "index -21 lies outside axis 'x'"),
        (9.0, "9 nm lies outside axis 'x', which goes from -2 to 7.5 nm .ints are pixel"),
        (1e300, r"1e\+300 nm lies outside axis 'x'"),
        (-np.inf, "-inf nm lies outside axis 'x'"),
        (np.nan, "nan nm lies outside axis 'x'"),
        (np.float32(np.inf), "inf nm lies outside axis 'x'"),
        (10**400, "index 10+ lies outside axis 'x'"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_coordinates_outside(value, message):
    with pytest.raises(ValueError, match=message):
        rois.index_of(value, axis_of(**UNIFORM))


@pytest.mark.parametrize("units", ["", " ", None, hs.signals.Signal1D([1]).axes_manager[0].units])
def test_axes_without_units(units):
    assert rois.units_of(axis_of(units=units)) == ""
    assert rois.units_of(axis_of(**UNIFORM)) == "nm"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e300, np.inf, -np.inf, np.nan, -1e101])
def test_rois_far_out_have_no_bounds(value):
    for wrong in (
        roi.CircleROI(1.0, 2.0, abs(value)),
        roi.CircleROI(value, 2.0, 3.0),
        roi.PolygonROI([(0, 0), (value, 0), (0, 8)]),
        roi.Point2DROI(1.0, value),
        roi.Point1DROI(value),
    ):
        assert not rois.has_bounds(wrong)
    assert rois.has_bounds(roi.CircleROI(1.0, 2.0, 3.0))
    assert rois.has_bounds(roi.CircleROI(1e99, 2.0, 1e99, 4.0))
    assert rois.has_bounds(roi.PolygonROI([(0, 0), (6, 0), (0, 8)]))


@pytest.mark.filterwarnings("error")
def test_areas_in_pixels():
    axes = axis_of(scale=0.5), axis_of(scale=-2.0)
    assert rois.area_in_pixels(roi.RectangularROI(0, 0, 3, 4), axes) == pytest.approx(12)
    assert rois.area_in_pixels(roi.CircleROI(0, 0, 3, 1), axes) == pytest.approx(8 * np.pi)
    assert rois.area_in_pixels(roi.PolygonROI([(0, 0), (4, 0), (0, 6)]), axes) == pytest.approx(12)
    assert rois.area_in_pixels(roi.CircleROI(0, 0, 1e99), axes) > 1e197


def test_names_of_axes():
    assert rois.axis_name(axis_of(**UNIFORM)) == "axis 'x'"
    assert rois.axis_name(axis_of()) == "axis 0"


@pytest.mark.parametrize(
    ("options", "step", "edges"),
    [
        (UNIFORM, 0.5, (-2.25, 7.75)),
        ({"scale": -0.5, "offset": 10.0}, -0.5, (10.25, 0.25)),
        (NON_UNIFORM, 21.0, (-9.5, 410.5)),
        ({"size": 1, "scale": 3.0, "offset": 6.0}, 3.0, (4.5, 7.5)),
    ],
)
def test_step_and_outer_edges(options, step, edges):
    axis = axis_of(**options)
    assert rois.step(axis) == pytest.approx(step)
    assert rois.outer_edges(axis) == pytest.approx(edges)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), (1.5, True), (np.uint8(1), True), (np.float32(1), True)]
    + [(True, False), ("1", False), (None, False), (1j, False)],
)
def test_is_number(value, expected):
    assert rois.is_number(value) is expected


def test_an_roi_that_is_still_to_be_drawn_is_not_defined():
    for kind in (roi.RectangularROI, roi.CircleROI, roi.Point2DROI, roi.SpanROI, roi.Point1DROI):
        assert not rois.is_defined(kind())
    assert not rois.is_defined(roi.PolygonROI([]))
    assert rois.is_defined(roi.CircleROI(1.0, 2.0, 3.0))
    assert rois.is_defined(roi.PolygonROI([(0, 0), (6, 0), (0, 8)]))
