"""Labels of the pixels of an image, from the probabilities of its chips and the image itself."""

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from hyperspy_fewshot.decision.refinement import guided_coefficients

# Cells, along each axis, from which a linear function of the image is fitted.
_RADIUS = 1
# Standard deviation [px] of the Gaussian that removes the noise of single pixels, and the number of
# pixels around one that it needs.
_SIGMA, _NEEDED = 1.0, 4
# Rows of pixels that are labelled at a time, which bounds the memory.
_ROWS = 256


def pixel_labels(result: Any) -> np.ndarray:
    """Labels (*nav, h, w) of all pixels of an image or a stack, from a computed result.

    Probabilities are fitted by a linear function of the image around every cell, and this function is
    interpolated at the pixels (fast guided filter, K. He and J. Sun, arXiv:1505.00996). Without the
    image, as after loading, the probabilities are interpolated themselves. A pixel is rejected or
    masked with its cell.
    """
    labels, guide = result.labels.data, None
    has_image = result.signal is not None and result.embedding_map.guide is not None
    if has_image:
        guide = np.asarray(result.embedding_map.guide.data)
    shape = result.domain.grid.signal_shape
    found = np.empty((*labels.shape[:-2], *shape), labels.dtype)
    for frame in np.ndindex(labels.shape[:-2]):
        found[frame] = _of_frame(result, frame, None if guide is None else guide[frame])
    return found


def _of_frame(result: Any, frame: tuple[int, ...], guide: np.ndarray | None) -> np.ndarray:
    labels = result.labels.data[frame]
    probabilities = np.moveaxis(result.probabilities.data[:, *frame], 0, -1)
    accepted = labels >= 0
    contrast = 1.0 if guide is None else result.embedding_map.recipe.contrast
    values = np.where(accepted[..., np.newaxis], probabilities, 0)
    if guide is None:
        slopes, levels = None, values
    else:
        grey = np.where(accepted & np.isfinite(guide), guide, 0)[..., np.newaxis] / contrast
        slopes, levels = guided_coefficients(values, grey, accepted, _RADIUS, (0, 1))
    stride, (height, width) = result.domain.grid.stride, result.domain.grid.signal_shape
    found, columns = np.empty((height, width), labels.dtype), np.arange(width)
    for start in range(0, height, _ROWS):
        rows = np.arange(start, min(start + _ROWS, height))
        own = labels[rows[:, np.newaxis] // stride, columns // stride]
        scores = _interpolated(levels, rows, columns, stride)
        if slopes is not None:
            grey = _smoothed(result.signal.data[frame], rows)[..., np.newaxis] / contrast
            scores = scores + grey * _interpolated(slopes, rows, columns, stride)
        found[rows] = np.where(own < 0, own, scores.argmax(axis=-1))
    return found


def _interpolated(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, stride: int
) -> np.ndarray:
    """Interpolate values of cells (r, c, K) linearly at all rows and columns of pixels."""
    for axis, pixels in enumerate((rows, columns)):
        last = values.shape[axis] - 1
        along = np.clip((pixels - (stride - 1) / 2) / stride, 0, last)
        low = np.minimum(along.astype(int), max(0, last - 1))
        weight = (along - low).astype(np.float32).reshape(-1, *(1,) * (2 - axis))
        first = values.take(low, axis=axis)
        values = first + weight * (values.take(np.minimum(low + 1, last), axis=axis) - first)
    return values


def _smoothed(image: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of an image without the noise of single pixels, float32."""
    first = max(0, int(rows[0]) - _NEEDED)
    pixels = np.asarray(image[first : int(rows[-1]) + 1 + _NEEDED]).astype(np.float32)
    smooth = gaussian_filter(pixels, _SIGMA, truncate=_NEEDED, mode="nearest")
    smooth = np.where(np.isfinite(smooth), smooth, 0)
    return smooth[rows[0] - first :][: len(rows)]
