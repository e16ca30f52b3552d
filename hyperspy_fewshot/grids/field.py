"""A piece of an image in which several chips are embedded at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Field:
    """A piece of an image, and the chips that are to be embedded in it.

    Parameters
    ----------
    pixels
        Shape (h, w).
    origin
        Row and column of the first pixel in the image; pixels beyond the
        image are reflections.
    rows, columns
        First row of the chips, shape (r,), and first column, shape (c,), in
        the image; every row is combined with every column.
    chip_size
        Side of a chip [px].
    image_shape
        (rows, columns) of the whole image [px].
    """

    pixels: np.ndarray
    origin: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    chip_size: int
    image_shape: tuple[int, int]

    @classmethod
    def of_chip(cls, chip: np.ndarray, margin: int, chip_size: int | None = None) -> "Field":
        """Make a field of a chip without surroundings, which is reflected at its edges.

        It holds one chip in the middle of the given one; of the same size if `chip_size` is None.
        """
        side = len(chip)
        size = chip_size or side
        index = reflected(-margin, side + margin, side)
        first = np.array([(side - size) // 2])
        pixels = chip[index[:, np.newaxis], index]
        return cls(pixels, (-margin, -margin), first, first, size, chip.shape)


def joined(fields: Sequence[Field]) -> tuple[Field, np.ndarray, np.ndarray]:
    """Join fields of one chip each, which lie near each other in an image.

    Returns also the row and the column in the joined field of the chip of each of them. Pixels that
    belong to no field are 0; its other chips are therefore not to be used.
    """
    origins = np.array([field.origin for field in fields])
    ends = origins + [field.pixels.shape for field in fields]
    origin = origins.min(axis=0)
    pixels = np.zeros(ends.max(axis=0) - origin, fields[0].pixels.dtype)
    for field, low, high in zip(fields, origins - origin, ends - origin, strict=True):
        pixels[low[0] : high[0], low[1] : high[1]] = field.pixels
    rows, row_of = np.unique([field.rows[0] for field in fields], return_inverse=True)
    columns, column_of = np.unique([field.columns[0] for field in fields], return_inverse=True)
    top, left = origin.tolist()
    whole = replace(fields[0], pixels=pixels, origin=(top, left), rows=rows, columns=columns)
    return whole, row_of, column_of


def reflected(low: int, high: int, size: int) -> np.ndarray:
    """Pixels low to high - 1 of an axis, reflected at its first and last pixel."""
    # A single pixel can only be repeated.
    period = max(1, 2 * (size - 1))
    index = np.arange(low, high) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
