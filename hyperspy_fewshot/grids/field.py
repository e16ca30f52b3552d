"""A piece of an image in which several chips are embedded at once."""

from dataclasses import dataclass

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
    def of_chip(cls, chip: np.ndarray, margin: int) -> "Field":
        """Make a field of a chip without surroundings, which is reflected at its edges."""
        side = len(chip)
        index = reflected(-margin, side + margin, side)
        zero = np.zeros(1, int)
        return cls(
            chip[index[:, np.newaxis], index], (-margin, -margin), zero, zero, side, chip.shape
        )


def reflected(low: int, high: int, size: int) -> np.ndarray:
    """Pixels low to high - 1 of an axis, reflected at its first and last pixel."""
    # A single pixel can only be repeated.
    period = max(1, 2 * (size - 1))
    index = np.arange(low, high) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
