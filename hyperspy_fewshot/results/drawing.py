"""The picture of a result: labels over the image, and the support set."""

from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from hyperspy_fewshot.output import overlay, pictures
from hyperspy_fewshot.support.locate import frame_of


def draw(
    result: Any,
    ax: Axes | None,
    image: np.ndarray | BaseSignal | None,
    alpha: float,
    frame: int | float | tuple[int | float, ...] | None,
) -> Axes:
    """Draw a computed :class:`FewShotResult`; see its method ``plot``."""
    labels = result.labels.axes_manager
    frame = (0,) * labels.navigation_dimension if frame is None else frame
    index = frame_of(frame, labels.navigation_axes)
    if ax is None:
        _, ax = plt.subplots(figsize=(7.5, 5.5), layout="constrained")
    if image is None:
        guide = None if result.embedding_map is None else result.embedding_map.guide
        image = pictures.backdrop(result.signal, guide, result.domain, index)
    pictures.draw_label_map(
        result.labels.data[index],
        result.class_names,
        labels.signal_axes,
        result.domain.map_axes,
        ax=ax,
        image=image.data if isinstance(image, BaseSignal) else image,
        alpha=alpha,
    )
    ax.set_title(result.labels.metadata.General.title, parse_math=False)
    if not result.transferred:
        colours = pictures.label_colours(len(result.class_names)).colors[1:]
        wrong = result.examples.contradicted if result.examples else ()
        wrong = {(row["class"], row["example"]) for row in wrong}
        overlay.draw_support(ax, result.support, colours, result.domain, index, wrong)
    return ax
