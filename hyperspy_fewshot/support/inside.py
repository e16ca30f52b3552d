"""Which positions of a scan, or pixels of an image, lie inside an ROI."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from matplotlib.path import Path as Polygon

from hyperspy_fewshot.support.rois import LINE_ROIS, axis_name, index_of, inner_radius, step

# Most positions or pixels that are judged at once. Of a larger ROI a regular subset is judged: no
# more than some hundred of those inside are used, which need not be chosen from all of them.
_MOST_JUDGED = 2**20

# Which points of given rows and columns are inside, shape (rows, columns).
_Judge = Callable[[np.ndarray, np.ndarray], np.ndarray]


def positions_inside(roi: Any, axes: Sequence[Any]) -> np.ndarray:
    """Find the navigation positions inside an ROI, by HyperSpy's rules.

    `axes` are in HyperSpy's order, the indices (n, len(axes)) in array order. An ROI holds its
    positions in all frames, a line ROI in all rows, too. Of very many a regular subset is found.
    """
    n = 1 if isinstance(roi, LINE_ROIS) else 2
    try:
        ranges, judge = _on_scan(roi, axes[:n])
    except ValueError as error:
        raise ValueError(f"{_outside(roi, axes)} or between its positions.") from error
    points = _inside_of([range(1), *ranges][-2:], judge)[:, -n:]
    if not len(points):
        raise ValueError(f"{_outside(roi, axes)} or between its positions.")
    frames = tuple(axis.size for axis in axes[n:])[::-1]
    total = math.prod(frames) * len(points)
    frame, point = np.divmod(np.arange(0, total, -(-total // _MOST_JUDGED)), len(points))
    index = np.unravel_index(frame, frames) if frames else ()
    return np.column_stack([*index, points[point]])


def pixels_inside(
    roi: Any, axes: Sequence[Any], rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Find the pixels (y, x) of a grid that lie inside an ROI on an image, shape (n, 2).

    `axes` are (x, y); `rows` and `columns` are the pixels of the grid along y and x. If the ROI
    contains none of them, the pixel at its centre is returned. Of very many a regular subset is
    found.
    """
    x_axis, y_axis = axes
    if isinstance(roi, LINE_ROIS):
        raise ValueError(f"{type(roi).__name__} has one dimension; an image needs two.")
    if isinstance(roi, hs_roi.Point2DROI):
        return np.array([(index_of(float(roi.y), y_axis), index_of(float(roi.x), x_axis))])
    # The tolerance keeps rounding errors from deciding about pixel centres on the border.
    tolerance = 1e-6 * min(abs(step(x_axis)), abs(step(y_axis)))
    low, high, centre = _bounds(roi)
    near = [
        numbers[_between(axis.index2value(numbers), first - 2 * tolerance, last + 2 * tolerance)]
        for numbers, axis, first, last in zip((columns, rows), axes, low, high, strict=True)
    ]
    found = _inside_of(near[::-1], _by_value(roi, axes, tolerance))
    if len(found):
        return found
    least, most = np.transpose([sorted((axis.low_value, axis.high_value)) for axis in axes])
    if (high < least).any() or (low > most).any():
        raise ValueError(f"{_outside(roi, axes)}.")
    x, y = np.clip(centre, least, most)
    return np.array([(index_of(float(y), y_axis), index_of(float(x), x_axis))])


def _inside_of(sides: Sequence[Sequence[int]], judge: _Judge) -> np.ndarray:
    """Points (y, x) of a grid that are inside, shape (n, 2); of a large grid a regular subset.

    `sides` are the rows and columns of the grid. The subset gets denser as long as none is inside.
    """
    rows, columns = sides
    excess = len(rows) * len(columns) / _MOST_JUDGED
    down = max(1, min(math.ceil(math.sqrt(excess)), len(rows)))
    across = max(1, math.ceil(excess / down))
    while True:
        y, x = np.asarray(rows[::down], int), np.asarray(columns[::across], int)
        band = max(1, _MOST_JUDGED // max(1, len(x)))
        found = [np.empty((0, 2), int)]
        for top in range(0, len(y), band):
            i, j = np.nonzero(judge(y[top : top + band], x))
            found.append(np.column_stack([y[top + i], x[j]]))
        if sum(map(len, found)) or down == across == 1:
            return np.concatenate(found)
        down, across = -(-down // 2), -(-across // 2)


def _on_scan(roi: Any, axes: Sequence[Any]) -> tuple[list[range], _Judge]:
    """Ranges (y, x), or (x,), of positions that hold an ROI, and which of them are inside.

    HyperSpy cuts areas out of ascending axes only, circles and polygons out of uniform ones. Here,
    a descending axis holds what it would hold the other way round, and on axes that are not uniform
    the coordinates of the positions decide. Raises ValueError if the ROI lies outside.
    """
    judge = _all_of
    if isinstance(roi, hs_roi.Point1DROI | hs_roi.Point2DROI):
        place = (roi.value,) if isinstance(roi, hs_roi.Point1DROI) else (roi.x, roi.y)
        indices = [index_of(float(value), axis) for value, axis in zip(place, axes, strict=True)]
        return [range(index, index + 1) for index in indices[::-1]], judge
    if isinstance(roi, hs_roi.SpanROI):
        ends = [(roi.left, roi.right)]
    elif isinstance(roi, hs_roi.RectangularROI):
        ends = [(roi.left, roi.right), (roi.top, roi.bottom)]
    elif not all(axis.is_uniform for axis in axes):
        low, high, _ = _bounds(roi)
        values = zip(axes, low, high, strict=True)
        ranges = [_holding(_between(axis.axis, *bounds)) for axis, *bounds in values]
        return ranges[::-1], _by_value(roi, axes, 0.0)
    elif isinstance(roi, hs_roi.CircleROI):
        at = zip((roi.cx, roi.cy), axes, strict=True)
        centre = [value + 0.5001 * abs(axis.scale) for value, axis in at]
        ends = [(c - roi.r, c + roi.r) for c in centre]
        judge = _in_ring(roi, axes, centre)
    else:
        low, high, _ = _bounds(roi)
        # HyperSpy adds the scale of the other axis.
        ends = list(zip(low, high + [abs(axis.scale) for axis in axes[::-1]], strict=True))
        judge = _in_polygon(roi, axes)
    return [_range_of(axis, *along) for axis, along in zip(axes, ends, strict=True)][::-1], judge


def _range_of(axis: Any, low: float, high: float) -> range:
    """Indices of an axis from one coordinate up to another one, as HyperSpy rounds them."""
    ascending, size = step(axis) > 0, axis.size
    # An ROI may extend beyond the ends.
    first, last = (0, size) if ascending else (size - 1, -1)
    if low >= axis.low_value:
        first = int(axis.value2index(low))
    try:
        last = int(axis.value2index(high))
    except ValueError:
        if high <= axis.high_value:
            raise
    return range(first, last) if ascending else range(last + 1, first + 1)


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which values lie between two bounds."""
    return (values >= low) & (values <= high)


def _holding(inside: np.ndarray) -> range:
    """The smallest range of indices that holds all that are inside."""
    found = np.flatnonzero(inside).tolist()
    return range(found[0], found[-1] + 1) if found else range(0)


def _all_of(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Say that every point is inside."""
    return np.ones((len(rows), len(columns)), bool)


def _by_value(roi: Any, axes: Sequence[Any], tolerance: float) -> _Judge:
    """Judge points by their coordinates on axes (x, y)."""

    def judge(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        x, y = np.meshgrid(axes[0].index2value(columns), axes[1].index2value(rows))
        return _inside(roi, x, y, tolerance)

    return judge


def _in_ring(roi: Any, axes: Sequence[Any], centre: Sequence[float]) -> _Judge:
    """Judge points by their distance from a centre (x, y)."""

    def judge(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        x, y = (
            axis.axis[numbers] - middle
            for axis, numbers, middle in zip(axes, (columns, rows), centre, strict=True)
        )
        squares = x**2 + y[:, np.newaxis] ** 2
        return _between(squares, inner_radius(roi) ** 2, roi.r**2)

    return judge


def _in_polygon(roi: Any, axes: Sequence[Any]) -> _Judge:
    """Judge points by HyperSpy's raster of a polygon; by their coordinates if it would be large."""
    low, high, _ = _bounds(roi)
    scales = [abs(axis.scale) for axis in axes]
    first, last = (
        [round(value / scale) for value, scale in zip(corner.tolist(), scales, strict=True)]
        for corner in (low, high)
    )
    if math.prod(b - a + 1 for a, b in zip(first, last, strict=True)) > _MOST_JUDGED:
        return _by_value(roi, axes, 0.0)
    ends = {"xy_min": tuple(low.tolist()), "xy_max": tuple(high.tolist())}
    raster = hs_roi.mask_from_rois([roi], **ends, x_scale=scales[0], y_scale=scales[1])

    def judge(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        # Numbers of the points in the raster, which is a multiple of the scale from zero.
        x, y = (
            (numbers if axis.scale > 0 else axis.size - 1 - numbers)
            + (round(axis.low_value / abs(axis.scale)) - start)
            for axis, numbers, start in zip(axes, (columns, rows), first, strict=True)
        )
        known = [(0 <= i) & (i < n) for i, n in zip((y, x), raster.shape, strict=True)]
        inside = np.outer(*known)
        inside[np.ix_(*known)] = raster[np.ix_(y[known[0]], x[known[1]])]
        return inside

    return judge


def _outside(roi: Any, axes: Sequence[Any]) -> str:
    ranges = ", ".join(f"{axis_name(a)}: {a.low_value:g} to {a.high_value:g}" for a in axes)
    return f"{roi} lies outside the data ({ranges})"


def _inside(roi: Any, x: np.ndarray, y: np.ndarray, tolerance: float) -> np.ndarray:
    """Which of the points x, y, shape (rows, columns), lie inside an area ROI."""
    if isinstance(roi, hs_roi.RectangularROI):
        left, right, top, bottom = (
            edge - tolerance for edge in (roi.left, roi.right, roi.top, roi.bottom)
        )
        return (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if isinstance(roi, hs_roi.CircleROI):
        r = np.hypot(x - roi.cx, y - roi.cy)
        return (r <= roi.r + tolerance) & (r >= inner_radius(roi) - tolerance)
    points = np.column_stack([x.ravel(), y.ravel()])
    return Polygon(roi.vertices).contains_points(points).reshape(x.shape)


def _bounds(roi: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) of an area ROI, and its centre."""
    if isinstance(roi, hs_roi.CircleROI):
        centre = np.array([roi.cx, roi.cy], float)
        return centre - roi.r, centre + roi.r, centre
    if isinstance(roi, hs_roi.RectangularROI):
        corners = np.array([(roi.left, roi.top), (roi.right, roi.bottom)], float)
    else:
        corners = np.asarray(roi.vertices, float)
    return corners.min(axis=0), corners.max(axis=0), corners.mean(axis=0)
