"""Recognising data again without reading all of them."""

import hashlib
import math

import numpy as np

from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.grids.protocol import Grid

# A few pieces stand for all data: most of them, their total [bytes], and the side of a
# window of an image [px].
_MOST_PIECES = 16
_MOST_BYTES = 64 * 2**20
_WINDOW = 64


def fingerprint(source: DataSource, grid: Grid) -> str:
    """Digest of shape, type and a few pieces of the data, which are read.

    Which spectra, patterns or windows of an image are read depends on the
    shape alone.
    """
    data = source.data
    whole = data.shape[data.ndim - grid.n_whole :]
    sides = [1] * (data.ndim - grid.n_whole) + list(whole)
    if not whole:
        sides[-2:] = [min(_WINDOW, side) for side in data.shape[-2:]]
    fitting = _MOST_BYTES // (math.prod(sides) * data.dtype.itemsize)
    count = min(max(1, fitting), _MOST_PIECES)
    most = np.subtract(data.shape, sides)
    corners = np.random.default_rng(0).integers(0, most + 1, (count, data.ndim))
    windows = [
        tuple(slice(int(low), int(low) + side) for low, side in zip(corner, sides, strict=True))
        for corner in corners
    ]
    digest = hashlib.sha256(f"{data.shape} {data.dtype}".encode())
    for piece in source.read(windows, False, "Reading"):
        digest.update(np.ascontiguousarray(piece))
    return digest.hexdigest()
