"""Elements that images, spectra and patterns are drawn with: spots, smooth fields, domains.

Positions are (row, column) in pixels, shapes and images (rows, columns).
"""

from math import ceil

import numpy as np
from numpy.random import Generator
from scipy import ndimage

Shape = tuple[int, int]

UNDEFINED = -1  # truth of positions that belong to no single class

# Spots that are drawn at once, which bounds the memory: each covers (2 * reach + 1)² pixels.
_BATCH = 4096


def draw_spots(spots: np.ndarray, shape: Shape, sigma: float) -> np.ndarray:
    """Draw Gaussian spots of standard deviation `sigma` [px] on an empty image.

    `spots` holds row, column [px] and height of each, shape (n, 3). Positions have subpixel
    accuracy.
    """
    reach = ceil(4 * sigma)
    seen = ((spots[:, :2] > -reach) & (spots[:, :2] < np.array(shape) - 1 + reach)).all(axis=1)
    offsets = np.arange(-reach, reach + 1)
    padded = np.zeros((shape[0] + 4 * reach, shape[1] + 4 * reach))
    for batch in np.array_split(spots[seen], len(spots) // _BATCH + 1):
        nearest = np.rint(batch[:, :2]).astype(np.int64)
        distance = (nearest - batch[:, :2])[:, :, np.newaxis] + offsets
        along, across = np.exp(-(distance**2) / (2 * sigma**2)).transpose(1, 0, 2)
        heights = batch[:, 2, np.newaxis, np.newaxis]
        values = heights * along[:, :, np.newaxis] * across[:, np.newaxis, :]
        row, column = (nearest[:, :, np.newaxis] + offsets + 2 * reach).transpose(1, 0, 2)
        flat = row[:, :, np.newaxis] * padded.shape[1] + column[:, np.newaxis, :]
        padded += np.bincount(flat.ravel(), values.ravel(), padded.size).reshape(padded.shape)
    return padded[2 * reach : 2 * reach + shape[0], 2 * reach : 2 * reach + shape[1]]


def slow_field(shape: Shape, rng: Generator) -> np.ndarray:
    """Return a smooth random field (rows, columns) between -1 and 1 with mean 0."""
    zoom = np.array(shape) / 4
    field = ndimage.zoom(rng.normal(size=(4, 4)), zoom, order=3, mode="reflect", grid_mode=True)
    field -= field.mean()
    return field / np.abs(field).max()


def wedges(shape: Shape, number: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Divide an area into wedges that meet near its middle.

    Returns the wedge of each position, 0 to number - 1, shape `shape`, and a position inside each
    wedge, shape (number, 2).
    """
    jitter = rng.uniform(-0.12, 0.12, number)
    turn = (np.arange(number) + jitter + rng.uniform()) / number * 2 * np.pi
    middle = (np.array(shape) - 1) / 2
    sites = middle + 0.56 * middle * np.column_stack([np.sin(turn), np.cos(turn)])
    rows, columns = np.indices(shape)
    distance = [np.hypot(rows - row, columns - column) for row, column in sites]
    return np.argmin(distance, axis=0), sites
