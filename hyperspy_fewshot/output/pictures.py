"""The picture of a label map."""

from collections.abc import Sequence
from typing import Any

import dask
import numpy as np
from hyperspy.signal import BaseSignal
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from hyperspy_fewshot.embedding.reading import filled
from hyperspy_fewshot.labels import MASKED, REJECTED
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.rois import outer_edges, units_of

_MASKED_COLOUR = (0.0, 0.0, 0.0, 1.0)
_REJECTED_COLOUR = (0.72, 0.72, 0.72, 1.0)
_LEGEND_ROWS = 16
# Larger images are drawn at a fraction of their pixels.
_MOST_PIXELS_A_SIDE = 1024


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
    named = list(zip(class_names, colours[2:], strict=True))
    for value, name in ((REJECTED, "rejected"), (MASKED, "masked")):
        if labels is None or (labels == value).any():
            named.append((name, colours[value - MASKED]))
    legend = ax.legend(
        handles=[Patch(color=colour, label=str(i)) for i, (_, colour) in enumerate(named)],
        ncols=-(-len(named) // _LEGEND_ROWS),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
    )
    # As text: a name may begin with an underscore or hold a dollar sign.
    for text, (name, _) in zip(legend.get_texts(), named, strict=True):
        text.set(text=name, parse_math=False)


def draw_label_map(
    labels: np.ndarray,
    class_names: Sequence[str],
    axes: Sequence[Any],
    picture_axes: Sequence[Any],
    *,
    ax: Axes,
    image: np.ndarray | None = None,
    alpha: float = 0.5,
) -> None:
    """Draw labels (rows, columns), or (columns,), over their image where there is one.

    `axes` and `picture_axes` are the HyperSpy axes (x, y), or (x,), of the map, and of what it was
    made of. The grey image may have any shape that covers the same area.
    """
    k = len(class_names)
    if image is not None:
        draw_picture(ax, image, picture_axes)
    ax.imshow(
        np.atleast_2d(labels),
        cmap=label_colours(k),
        vmin=MASKED - 0.5,
        vmax=k - 0.5,
        interpolation="nearest",
        alpha=1.0 if image is None else alpha,
        extent=_extent(axes),
    )
    _label_axes(ax, picture_axes)
    add_legend(ax, class_names, labels)


def draw_picture(ax: Axes, image: np.ndarray, axes: Sequence[Any]) -> None:
    """Draw a grey image (rows, columns), or (columns,), that covers the axes (x, y), or (x,)."""
    image = np.atleast_2d(np.asarray(image, dtype=float))
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (None, None)
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, extent=_extent(axes))
    _label_axes(ax, axes)


def _label_axes(ax: Axes, axes: Sequence[Any]) -> None:
    """Set limits, aspect and labels for a picture of what lies on HyperSpy axes."""
    # The last cells may reach beyond the image.
    limits = _extent(axes)
    ax.set(xlim=limits[:2], ylim=limits[2:])
    ax.set_aspect("equal" if _has_shape(axes) else "auto")
    if len(axes) == 1:
        ax.set_yticks([])
    ax.set_xlabel(_axis_label(axes[0], "x"))
    if len(axes) > 1:
        ax.set_ylabel(_axis_label(axes[1], "y"))


def _extent(axes: Sequence[Any]) -> tuple[float, float, float, float]:
    """Outer edges (left, right, bottom, top) of an image on its axes."""
    left, right = outer_edges(axes[0])
    top, bottom = outer_edges(axes[1]) if len(axes) == 2 else (0.0, 1.0)
    return left, right, bottom, top


def _has_shape(axes: Sequence[Any]) -> bool:
    """Whether x and y can be drawn to the same scale."""
    if len(axes) < 2 or units_of(axes[0]) != units_of(axes[1]):
        return False
    left, right, bottom, top = _extent(axes)
    return 0.1 < abs((right - left) / (bottom - top)) < 10


def _axis_label(axis: Any, name: str) -> str:
    name = name if str(axis.name) in ("", "<undefined>") else str(axis.name)
    return f"{name} [{units_of(axis) or 'px'}]"


def backdrop(
    signal: BaseSignal | None, guide: BaseSignal | None, domain: Domain, index: tuple[int, ...]
) -> np.ndarray | None:
    """Return the picture under one frame of a label map; None if it would need a pass over data.

    The guide image of an embedding map stands in for an image that is not there.
    """
    if domain.is_image and signal is not None:
        data = signal.data[index]
        every = max(1, -(-max(data.shape) // _MOST_PIXELS_A_SIDE))
        return filled(dask.compute(data[::every, ::every])[0]).astype(float)
    if guide is not None and not guide._lazy:
        return guide.data[index]
    if domain.is_image or signal is None or signal._lazy:
        return None
    signal_axes = tuple(range(-signal.axes_manager.signal_dimension, 0))
    return np.nansum(filled(signal.data[index]), axis=signal_axes, dtype=float)
