"""Pictures of single places of a data set in their surroundings, without labels."""

from typing import Any

import dask
import numpy as np
from hyperspy.signal import BaseSignal
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from hyperspy_fewshot.embedding.reading import filled
from hyperspy_fewshot.output.pictures import backdrop, draw_picture
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.rois import step, units_of

# What is shown of an image, in chips.
_SHOWN_CHIPS = 6
_MARK = {"marker": "+", "markersize": 14, "markeredgewidth": 1.5, "color": "tab:red"}


def draw_place(
    signal: BaseSignal, guide: BaseSignal | None, domain: Domain, location: tuple[int, ...]
) -> np.ndarray:
    """Draw what lies at a location of the data, given in array order.

    Of an image the chip in its surroundings; of spectra and patterns the map, and beside it what was
    measured there. Returns the axes, shape (2,).
    """
    _, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    n = len(domain.frame_axes)
    frame, place = location[:n], location[n:]
    image = backdrop(signal, guide, domain, frame)
    if image is not None:
        draw_picture(axes[0], image, domain.map_axes)
    else:
        axes[0].set_axis_off()
    axes[0].plot(*_values(domain, place), **_MARK)
    if domain.is_image:
        _draw_chip(axes[1], signal, domain, frame, place)
    else:
        _draw_item(axes[1], signal, domain, location)
    return axes


def _values(domain: Domain, place: tuple[int, ...]) -> tuple[float, float]:
    """Calibrated x and y of a place on the map; y of a line is its middle."""
    values = [float(a.index2value(i)) for a, i in zip(domain.map_axes, place[::-1], strict=True)]
    return (*values, 0.5)[:2]


def _draw_chip(ax: Axes, signal: BaseSignal, domain: Domain, frame, place) -> None:
    side = domain.grid.side
    half = _SHOWN_CHIPS * side // 2
    shape = domain.grid.signal_shape
    shown = tuple(
        slice(max(0, p - half), min(n, p + half)) for p, n in zip(place, shape, strict=True)
    )
    data = filled(dask.compute(signal.data[(*frame, *shown)])[0]).astype(float)
    low, high = np.nanpercentile(data, (1, 99))
    (top, left), axes = (s.start for s in shown), domain.map_axes
    edges = [
        (
            float(axis.index2value(first)) - step(axis) / 2,
            float(axis.index2value(last - 1)) + step(axis) / 2,
        )
        for axis, first, last in zip(axes, (left, top), (shown[1].stop, shown[0].stop), strict=True)
    ]
    ax.imshow(data, cmap="gray", vmin=low, vmax=high, extent=(*edges[0], *edges[1][::-1]))
    x, y = _values(domain, place)
    width, height = (side * step(axis) for axis in axes)
    ax.add_patch(
        Rectangle((x - width / 2, y - height / 2), width, height, fill=False, edgecolor="tab:red")
    )
    ax.plot(x, y, **_MARK)
    ax.set(xlabel=f"x [{units_of(axes[0]) or 'px'}]", ylabel=f"y [{units_of(axes[1]) or 'px'}]")


def _draw_item(ax: Axes, signal: BaseSignal, domain: Domain, location: tuple[int, ...]) -> None:
    """Draw a spectrum or pattern, and the mean over the context of a spectrum."""
    grid = domain.grid
    here = tuple(slice(i, i + 1) for i in location)
    around = grid.window(here)
    items, near = dask.compute(signal.data[location], signal.data[around])
    items = filled(items).astype(float)
    if len(domain.signal_axes) == 2:
        ax.imshow(np.sqrt(np.maximum(items, 0)), cmap="gray")
        ax.set(xlabel="x [px]", ylabel="y [px]", title="square root of the counts")
        return
    axis = domain.signal_axes[0]
    ax.plot(axis.axis, items, drawstyle="steps-mid", linewidth=0.8, label="position")
    if grid.context > 1:
        mean = np.nanmean(filled(near).astype(float), axis=tuple(range(len(location))))
        ax.plot(axis.axis, mean, linewidth=1.2, label=f"mean of {grid.context} positions a side")
        ax.legend(frameon=False)
    ax.set(xlabel=_named(axis), ylabel="counts")


def _named(axis: Any) -> str:
    name = "signal" if str(axis.name) in ("", "<undefined>") else str(axis.name)
    return f"{name} [{units_of(axis) or 'channel'}]"
