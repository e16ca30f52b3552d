"""The support set on the picture of a label map."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from hyperspy.signal import BaseSignal
from matplotlib.axes import Axes
from matplotlib.patches import Annulus, Circle, Patch, Polygon, Rectangle

from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.locate import (
    Stroke,
    frame_of,
    is_roi_of_frame,
    positions_in,
)
from hyperspy_fewshot.support.rois import ROIS, index_of, inner_radius, outer_edges, step
from hyperspy_fewshot.support.support_set import SupportSet

_MOST_POINTS = 2000


def draw_support(
    ax: Axes,
    support: SupportSet,
    colours: Sequence[Any],
    domain: Domain,
    index: tuple[int, ...],
    wrong: Collection[tuple[str, int]] = (),
) -> None:
    """Outline the examples that lie in one frame, given by its index in array order.

    `colours` are those of rejected queries, for negative examples, and then of the classes. Ready
    examples have no place and are not drawn. Those in `wrong`, given by class name and index, get a
    red rim.
    """
    axes = domain.map_axes
    drawn = (("", support.negatives), *support.examples.items())
    for colour, (name, examples) in zip(colours, drawn, strict=False):
        placed = (
            (i, one)
            for i, example in enumerate(examples)
            for one in positions_in(example, domain) or [example]
        )
        for i, example in placed:
            here = _in_frame(example, domain, index)
            if isinstance(here, np.ndarray):
                _draw_points(ax, here, axes, colour)
            elif here is not None:
                # Positions of a scan are drawn as their own square, chips with their size.
                side = domain.grid.side if domain.is_image else 1
                rims = [("white", 3.0), (colour, 1.5)]
                if (name, i) in wrong:
                    rims.insert(0, ("red", 7.0))
                for edge, width in rims:
                    patch = _outline(here, axes, side)
                    patch.set(fill=False, edgecolor=edge, linewidth=width)
                    ax.add_patch(patch)


def _in_frame(example: Any, domain: Domain, index: tuple[int, ...]) -> Any:
    """An example as ROI, place (x, y) or points (n, ndim); None if it lies elsewhere."""
    if isinstance(example, BaseSignal | np.ndarray):
        return None
    if isinstance(example, Stroke):
        n = len(domain.frame_axes)
        points = example.points[(example.points[:, :n] == index).all(axis=1), n:]
        return points if len(points) else None
    if is_roi_of_frame(example):
        if frame_of(example[0], domain.frame_axes) != index:
            return None
        example = example[1]
    if isinstance(example, hs_roi.Point2DROI):
        place = (float(example.x), float(example.y))
    elif isinstance(example, hs_roi.Point1DROI):
        place = (float(example.value),)
    elif isinstance(example, ROIS):
        return example
    else:
        position = example if isinstance(example, tuple) else (example,)
        frame, place = domain.on_map(position)
        if frame_of(frame, domain.frame_axes) != index:
            return None
    pairs = zip(place, domain.map_axes, strict=False)
    return tuple(float(axis.index2value(index_of(value, axis))) for value, axis in pairs)


def _draw_points(ax: Axes, points: np.ndarray, axes: Sequence[Any], colour: Any) -> None:
    """Draw points (n, ndim), array order, as dots."""
    points = points[:: max(1, len(points) // _MOST_POINTS)]
    places = [axis.index2value(points[:, -1 - i]) for i, axis in enumerate(axes)]
    x, y = places if len(places) == 2 else (places[0], np.full(len(points), 0.5))
    style = {"marker": "s", "markersize": 3, "markeredgecolor": "white", "markeredgewidth": 0.4}
    ax.plot(x, y, linestyle="", color=colour, **style)


def _outline(example: Any, axes: Sequence[Any], side: int) -> Patch:
    """What to draw for an ROI, or for a chip or position at a place."""
    name = type(example).__name__
    if name == "CircleROI":
        centre, inner = (example.cx, example.cy), inner_radius(example)
        return Annulus(centre, example.r, example.r - inner) if inner else Circle(centre, example.r)
    if name == "PolygonROI":
        return Polygon(example.vertices)
    if name == "RectangularROI":
        spans = [(example.left, example.right), (example.top, example.bottom)]
    elif name == "SpanROI":
        spans = [(example.left, example.right)]
    else:
        # An even side has its centre half a pixel before the pixel it is centred on.
        spans = [
            (value - (side // 2 + 0.5) * step(axis), value + ((side + 1) // 2 - 0.5) * step(axis))
            for value, axis in zip(example, axes, strict=False)
        ]
    if len(spans) == 1:
        spans.append(outer_edges(axes[1]) if len(axes) == 2 else (0.0, 1.0))
    (left, right), (top, bottom) = spans
    return Rectangle((left, top), right - left, bottom - top)
