"""The positions and pixels inside an ROI are those that HyperSpy, or their coordinates, name."""

import tracemalloc

import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.axes import AxesManager
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.support import inside as module
from hyperspy_fewshot.support.inside import pixels_inside, positions_inside

roi = hs.roi
UP, DOWN = {"scale": 0.5, "offset": -3.0}, {"scale": -0.5, "offset": 6.5}


def axes_of(*options):
    """Axes in HyperSpy's order, x first."""
    return tuple(AxesManager([{"size": 20, "navigate": False, **o}])._axes[0] for o in options)


def uneven(size=20):
    return {"axis": np.cumsum(np.linspace(0.3, 0.8, size)) - 3.0}


def cut_out(given, axes):
    """Positions that HyperSpy cuts out of an array of their numbers, in array order."""
    shape = tuple(axis.size for axis in axes)[::-1]
    dictionaries = [{**axis.get_axis_dictionary(), "navigate": False} for axis in axes[::-1]]
    numbers = BaseSignal(np.arange(np.prod(shape), dtype=float).reshape(shape), axes=dictionaries)
    try:
        flat = np.atleast_1d(given(numbers).data).ravel()
    except ValueError:
        return np.empty((0, len(axes)), int)
    flat = flat[np.isfinite(flat)].astype(int)
    return np.transpose(np.unravel_index(flat, shape))


def found_on(given, axes):
    try:
        return positions_inside(given, axes)
    except ValueError as error:
        assert "lies outside the data (" in str(error)
        return np.empty((0, len(axes)), int)


def some_rois(rng, kinds, snapped=True):
    """ROIs of every kind, most of them inside -3 to 6.5, some on positions and between them."""
    for pitch in (0, 0, 0.25, 0.5) if snapped else (0, 0, 0):
        a, b, c, d, e, f = rng.uniform(-2.6, 6.4, 6)
        if pitch:
            a, b, c, d, e, f = (pitch * np.round(np.array([a, b, c, d, e, f]) / pitch)).tolist()
        (left, right), (top, bottom) = sorted((a, b)), sorted((c, d))
        made = {
            "span": roi.SpanROI(left, right + 0.1),
            "rectangle": roi.RectangularROI(left, top, right + 0.1, bottom + 0.1),
            "over the edge": roi.RectangularROI(left - 9, top, right, bottom + 9),
            "circle": roi.CircleROI(a, c, 0.2 + abs(e) / 2),
            "ring": roi.CircleROI(a, c, 0.4 + abs(e), abs(e) / 2),
            "polygon": roi.PolygonROI([(a, b), (c, d), (e, f)]),
            "lasso": roi.PolygonROI(rng.uniform(-2.9, 6.4, (9, 2)).tolist()),
            "line": roi.Point1DROI(a),
            "point": roi.Point2DROI(a, c),
        }
        yield from (made[kind] for kind in kinds)


LINES, AREAS = (
    ("span", "line"),
    ("rectangle", "over the edge", "circle", "ring", "polygon", "lasso"),
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ((UP,), LINES),
        ((UP, UP), (*LINES, *AREAS, "point")),
        (({"scale": 0.31, "offset": -2.9, "size": 30}, UP), (*LINES, *AREAS, "point")),
        ((UP, UP, {"size": 3}), (*LINES, "rectangle", "over the edge", "point")),
        ((uneven(),), LINES),
        ((uneven(), UP), (*LINES, "rectangle", "over the edge", "point")),
    ],
)
def test_positions_are_those_that_hyperspy_cuts_out(options, kinds, seed):
    axes = axes_of(*options)
    for given in some_rois(np.random.default_rng(seed), kinds):
        np.testing.assert_array_equal(
            found_on(given, axes), cut_out(given, axes), err_msg=str(given)
        )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("frames", [(), ({"size": 3},)])
def test_the_direction_of_an_axis_does_not_matter(seed, frames):
    up = axes_of(UP, UP, *frames)
    kinds = (*LINES, *AREAS, "point")
    for turned in (axes_of(DOWN, UP, *frames), axes_of(DOWN, DOWN, *frames)):
        for given in some_rois(np.random.default_rng(seed), kinds):
            expected = found_on(given, up)
            if isinstance(given, roi.Point1DROI | roi.Point2DROI):
                # Halfway between two positions HyperSpy rounds by the direction.
                given = type(given)(*(0.501 * round(v / 0.5) for v in given.parameters.values()))
                expected = found_on(given, up)
            for axis in range(2):
                if turned[axis].scale < 0:
                    expected[:, -1 - axis] = 19 - expected[:, -1 - axis]
            assert set(map(tuple, found_on(given, turned))) == set(map(tuple, expected))


SQUARES = {"expression": "a * x ** 2 + b", "a": 0.03, "b": -2.5, "size": 17}


def naively(given, axes):
    """Positions whose coordinates lie inside a circle or polygon."""
    found = []
    for row, column in np.ndindex(axes[1].size, axes[0].size):
        x, y = axes[0].axis[column], axes[1].axis[row]
        if isinstance(given, roi.CircleROI):
            inside = given.r_inner <= np.hypot(x - given.cx, y - given.cy) <= given.r
        else:
            ends = zip(given.vertices, given.vertices[1:] + given.vertices[:1], strict=True)
            inside = (
                1
                == sum(
                    (y1 > y) != (y2 > y) and x < x1 + (x2 - x1) * (y - y1) / (y2 - y1)
                    for (x1, y1), (x2, y2) in ends
                )
                % 2
            )
        if inside:
            found.append((row, column))
    return np.reshape(found, (-1, 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("other", [UP, DOWN, uneven(14), SQUARES])
def test_coordinates_decide_on_axes_that_are_not_uniform(seed, other):
    axes = axes_of(uneven(), other)
    for given in some_rois(np.random.default_rng(seed), ("circle", "ring", "polygon"), False):
        np.testing.assert_array_equal(found_on(given, axes), naively(given, axes))
        in_frames = found_on(given, axes_of(uneven(), other, {"size": 2}))
        expected = [(z, *place) for z in range(2) for place in naively(given, axes).tolist()]
        assert in_frames.tolist() == list(map(list, expected))


def test_areas_hold_their_positions_in_all_frames():
    flat, deep = axes_of(UP, UP), axes_of(UP, UP, {"size": 2}, {"size": 3})
    for given in some_rois(np.random.default_rng(0), ("circle", "polygon")):
        expected = found_on(given, flat)
        found = found_on(given, deep)
        assert len(found) == 6 * len(expected)
        for frame in np.ndindex(3, 2):
            here = (found[:, :2] == frame).all(axis=1)
            np.testing.assert_array_equal(found[here, 2:], expected)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 30.0), (-30.0, 2.0), (-30.0, 30.0)])
def test_polygons_beyond_the_edge_hold_the_rest_of_their_positions(low, high):
    corners = [(low, -1.1), (high, -1.1), (high, 2.1), (low, 2.1)]
    (expected,) = [found_on(roi.RectangularROI(low, -1.1, high, 2.1), axes_of(UP, UP))]
    found = found_on(roi.PolygonROI(corners), axes_of(UP, UP))
    assert set(map(tuple, expected)) <= set(map(tuple, found))
    assert found[:, 1].max() - expected[:, 1].max() <= 1


# Pixels of images


def pixels_one_by_one(given, axes, rows, columns):
    """Pixels of a grid whose centres lie inside an area, all of which are judged."""
    x, y = np.meshgrid(axes[0].index2value(columns), axes[1].index2value(rows))
    i, j = np.nonzero(module._inside(given, x, y, 1e-6 * 0.3))
    return np.column_stack([rows[i], columns[j]])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("options", [(UP, DOWN), (uneven(), UP), (DOWN, uneven(25))])
def test_pixels_are_those_of_the_whole_grid(seed, options):
    axes = axes_of(*options)
    rows, columns = np.arange(1, axes[1].size, 2), np.arange(0, 20, 3)
    for given in some_rois(np.random.default_rng(seed), AREAS):
        expected = pixels_one_by_one(given, axes, rows, columns)
        if len(expected):
            found = pixels_inside(given, axes, rows, columns)
            np.testing.assert_array_equal(found, expected)


# Large ROIs

HUGE = {"size": 20_000}


def peak_of(function, *given):
    tracemalloc.start()
    found = function(*given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, peak


@pytest.mark.parametrize(
    ("given", "fraction"),
    [
        (roi.RectangularROI(0, 0, 20_000, 20_000), 1.0),
        (roi.CircleROI(9_999.0, 9_999.0, 9_000.0), 0.636),
        (roi.PolygonROI([(0, 0), (20_000, 0), (0, 20_000)]), 0.5),
        (roi.CircleROI(0.0, 0.0, 1e90), 1.0),
        (roi.PolygonROI([(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)]), 1.0),
    ],
)
@pytest.mark.filterwarnings("error")
def test_of_a_huge_roi_a_regular_subset_is_judged(given, fraction):
    axes = axes_of(HUGE, HUGE)
    pixels = np.arange(0, 20_000, 2)
    for found, peak in (
        peak_of(positions_inside, given, axes),
        peak_of(pixels_inside, given, axes, pixels, pixels),
    ):
        assert peak < 200e6
        assert 200_000 < len(found) <= 2**20
        assert len(found) == pytest.approx(fraction * 2**20, rel=0.2)
        assert (found.min(axis=0) < 2000).all() and (found.max(axis=0) > 16_000).all()


def test_a_small_roi_on_a_huge_scan_needs_little_memory():
    axes = axes_of(HUGE, HUGE)
    for given in (
        roi.CircleROI(9_000.0, 9_000.0, 20.0),
        roi.PolygonROI([(5, 5), (99, 5), (5, 99)]),
    ):
        found, peak = peak_of(positions_inside, given, axes)
        assert 1000 < len(found) < 6000 and peak < 3e6
        found, peak = peak_of(pixels_inside, given, axes, np.arange(20_000), np.arange(20_000))
        assert 1000 < len(found) < 6000 and peak < 3e6


def test_a_thin_roi_is_searched_until_it_is_found(monkeypatch):
    monkeypatch.setattr(module, "_MOST_JUDGED", 100)
    axes = axes_of({"size": 300}, {"size": 200})
    thin = roi.PolygonROI([(3, 3), (250, 180), (251, 180), (4, 3)])
    monkeypatch.setattr(module.hs_roi, "mask_from_rois", None)
    found = positions_inside(thin, axes)
    assert 0 < len(found) <= 400
    assert (abs(found[:, 1] - 3 - (found[:, 0] - 3) * 247 / 177) <= 2).all()
    many = positions_inside(
        roi.SpanROI(3.0, 290.0), axes_of({"size": 300}, {"size": 20}, {"size": 9})
    )
    assert 50 <= len(many) <= 100
    assert len(set(many[:, 0].tolist())) > 5


# Borders


def test_a_border_through_pixel_centres_does_not_depend_on_rounding():
    x, y = axes_of({"scale": 0.1}, {"scale": 0.1})
    # 3 * 0.1 is more than 0.3, and 7 * 0.1 more than 0.7.
    square = roi.RectangularROI(0.3, 0.3, 0.7, 0.7)
    found = pixels_inside(square, (x, y), np.arange(20), np.arange(20))
    np.testing.assert_array_equal(np.unique(found), [3, 4, 5, 6])
    circle = roi.CircleROI(0.5, 0.5, 0.2)
    found = pixels_inside(circle, (x, y), np.arange(20), np.arange(20))
    assert {(5, 3), (5, 7), (3, 5), (7, 5)} <= set(map(tuple, found.tolist()))
