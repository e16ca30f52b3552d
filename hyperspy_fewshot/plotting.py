"""The picture of a label map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Circle, Patch, Polygon, Rectangle

from .locate import Region, is_frame_roi, is_number
from .prototypes import MASKED, REJECTED

_MASKED_COLOUR = (0.0, 0.0, 0.0, 1.0)
_REJECTED_COLOUR = (0.72, 0.72, 0.72, 1.0)


def label_colours(k: int) -> ListedColormap:
    """Colours of masked, rejected and k classes, from label -2 up."""
    # Colours that remain apart for the colour-blind come first.
    palette = [colormaps["tab10"](i) for i in (0, 1, 2, 3, 4, 9, 6, 8, 5, 7)]
    if k > len(palette):
        palette = [colormaps["tab20"](i) for i in range(20)]
    if k > len(palette):
        palette = list(colormaps["turbo"](np.linspace(0.05, 0.95, k)))
    return ListedColormap([_MASKED_COLOUR, _REJECTED_COLOUR, *palette[:k]], name="fewshot")


def add_legend(ax: Axes, class_names: Sequence[str], labels: np.ndarray | None) -> None:
    """Put a legend of class names beside an axes.

    Rejected and masked are named when `labels` holds them, or is None.
    """
    colours = label_colours(len(class_names)).colors
    patches = [Patch(color=c, label=n) for c, n in zip(colours[2:], class_names, strict=True)]
    for value, name in ((REJECTED, "rejected"), (MASKED, "masked")):
        if labels is None or (labels == value).any():
            patches.append(Patch(color=colours[value - MASKED], label=name))
    ax.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False
    )


def draw_label_map(
    labels: np.ndarray,
    class_names: Sequence[str],
    axes: Sequence[Any],
    *,
    ax: Axes,
    image: np.ndarray | None = None,
    image_axes: Sequence[Any] | None = None,
    alpha: float = 0.5,
) -> None:
    """Draw a label map, over its image where there is one.

    Parameters
    ----------
    labels
        Shape (rows, columns), or (columns,) for a line.
    class_names
        Names of the classes.
    axes, image_axes
        HyperSpy axes (x, y), or (x,), of the map and of the image.
    ax
        Where to draw.
    image
        Grey picture under the labels, any shape that covers the same area.
    alpha
        Opacity of the labels over an image.
    """
    k = len(class_names)
    extent = _extent(axes)
    if image is not None:
        low, high = np.nanpercentile(image, (1, 99))
        ax.imshow(np.atleast_2d(image), cmap="gray", vmin=low, vmax=high, extent=_extent(image_axes))
    ax.imshow(
        np.atleast_2d(labels),
        cmap=label_colours(k),
        vmin=MASKED - 0.5,
        vmax=k - 0.5,
        interpolation="nearest",
        alpha=1.0 if image is None else alpha,
        extent=extent,
    )
    limits = extent if image is None else _extent(image_axes)
    ax.set(xlim=limits[:2], ylim=limits[2:])
    if len(axes) == 1:
        ax.set_aspect("auto")
        ax.set_yticks([])
    ax.set_xlabel(_axis_label(axes[0]))
    if len(axes) > 1:
        ax.set_ylabel(_axis_label(axes[1]))
    add_legend(ax, class_names, labels)


def draw_support(
    ax: Axes,
    examples: Sequence[tuple[int, Any]],
    class_count: int,
    axes: Sequence[Any],
    chip_size: int | None,
) -> None:
    """Outline the support examples.

    Parameters
    ----------
    ax
        Where to draw.
    examples
        Class number and example.
    class_count
        Number of classes.
    axes
        HyperSpy axes (x, y) on which positions are given.
    chip_size
        Side of a chip [px], drawn around positions; None: one position.
    """
    colours = label_colours(class_count).colors[2:]
    for index, example in examples:
        example = example[1] if is_frame_roi(example) else example
        for colour, width in (("white", 3.0), (colours[index], 1.5)):
            patch = _outline(example, axes, chip_size)
            if patch is None:
                continue
            patch.set(fill=False, edgecolor=colour, linewidth=width)
            ax.add_patch(patch)


def _outline(example: Any, axes: Sequence[Any], chip_size: int | None) -> Patch | None:
    """What to draw for an example; None for what lies elsewhere."""
    name = type(example).__name__
    if name == "RectangularROI":
        size = (example.right - example.left, example.bottom - example.top)
        return Rectangle((example.left, example.top), *size)
    if name == "CircleROI":
        return Circle((example.cx, example.cy), example.r)
    if name == "PolygonROI":
        return Polygon(example.vertices)
    if name == "Point2DROI":
        example = (float(example.x), float(example.y))
    if isinstance(example, Region):
        example = tuple(int(v) for v in np.median(example.points, axis=0)[::-1])
    if not isinstance(example, tuple) or not all(map(is_number, example)) or len(axes) < 2:
        return None
    x, y = (
        a.index2value(v) if isinstance(v, int | np.integer) else v
        for v, a in zip(example[-2:], axes, strict=True)
    )
    width, height = ((chip_size or 1) * a.scale for a in axes)
    return Rectangle((x - width / 2, y - height / 2), width, height)


def _extent(axes: Sequence[Any]) -> tuple[float, float, float, float]:
    """Outer edges (left, right, bottom, top) of an image on its axes."""
    values = [axis.axis for axis in axes]
    edges = []
    for value in values:
        step = (value[-1] - value[0]) / max(len(value) - 1, 1) or 1.0
        edges.append((value[0] - step / 2, value[-1] + step / 2))
    (left, right), (top, bottom) = edges if len(edges) == 2 else (edges[0], (0.0, 1.0))
    return left, right, bottom, top


def _axis_label(axis: Any) -> str:
    units = str(axis.units)
    return f"{axis.name} [{'px' if units == '<undefined>' else units}]"
