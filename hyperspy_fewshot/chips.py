"""Where the chips of an image lie, and which pixels a block of them needs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Block = tuple[slice, ...]


def within(have: Block, want: Block) -> Block:
    """Slices that cut a region that was read for `have` down to `want`."""
    return tuple(
        slice(w.start - h.start, w.stop - h.start) for h, w in zip(have, want, strict=True)
    )


def unmasked(block: Block, mask: np.ndarray | None, size: int) -> Iterator[np.ndarray]:
    """Hand out flat indices of what is not masked inside a block, some at a time."""
    index = np.arange(int(np.prod([s.stop - s.start for s in block])))
    if mask is not None:
        index = index[~mask[block].reshape(-1)]
    for start in range(0, len(index), size):
        yield index[start : start + size]


@dataclass(frozen=True, eq=False)
class Field:
    """A piece of an image, and the chips that are to be embedded in it.

    Parameters
    ----------
    pixels
        Shape (h, w).
    origin
        Row and column of the first pixel in the image; what lies beyond the
        image is reflected.
    rows, columns
        First row of the chips, shape (r,), and first column, shape (c,), in
        the image: every row goes with every column.
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
        """Reflect a chip without surroundings at its edges."""
        side = len(chip)
        around = _reflected(-margin, side + margin, side)
        zero = np.zeros(1, int)
        return cls(
            chip[around[:, np.newaxis], around], (-margin, -margin), zero, zero, side, chip.shape
        )


@dataclass(frozen=True, eq=False)
class ChipGrid:
    """A regular grid of square chips over an image or a stack of images.

    The centre of cell i lies at ``(stride - 1) / 2 + i * stride`` for all
    ``i < ceil(size / stride)``, so that the cells cover every pixel; what a
    chip reaches beyond the image is reflected.

    Parameters
    ----------
    nav_shape
        Shape of the stack, array order; () for one image.
    image_shape
        (rows, columns) of a frame [px].
    chip_size, stride
        Side of a chip and distance between neighbours [px].
    margin
        Pixels around a chip that the encoder sees, too.
    """

    nav_shape: tuple[int, ...]
    image_shape: tuple[int, int]
    chip_size: int
    stride: int
    margin: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label map, (*nav, rows, columns)."""
        return (*self.nav_shape, *(-(-size // self.stride) for size in self.image_shape))

    @property
    def item_shape(self) -> tuple[int, int]:
        """Shape of a chip [px]."""
        return (self.chip_size, self.chip_size)

    @property
    def overlap(self) -> float:
        """How many neighbouring labels rest on the same pixels."""
        return max(1.0, (self.chip_size / self.stride) ** 2)

    def centres(self, axis: int) -> np.ndarray:
        """Centres of the cells [px] along the rows (0) or columns (1) axis."""
        return (self.stride - 1) / 2 + self.stride * np.arange(self.shape[axis - 2])

    def cell_sizes(self, axis: int) -> np.ndarray:
        """Pixels of the image that each cell covers along an axis."""
        starts = self.stride * np.arange(self.shape[axis - 2])
        return np.minimum(self.stride, self.image_shape[axis] - starts)

    def cell_areas(self) -> np.ndarray:
        """Pixels of the image that each cell covers, shape (rows, columns)."""
        return np.outer(self.cell_sizes(0), self.cell_sizes(1))

    def centre_pixels(self, axis: int) -> np.ndarray:
        """Pixels on which a chip equals that of the grid, along an axis."""
        starts = self.stride * np.arange(self.shape[axis - 2]) + self._before
        return np.minimum(starts + self.chip_size // 2, self.image_shape[axis] - 1)

    def region(self, block: Block) -> Block:
        """Slices of the data that hold all pixels of a block of cells."""
        return (*block[:-2], *self._spans(self._bounds(block)))

    def batches(
        self, region: np.ndarray, block: Block, mask: np.ndarray | None, size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cut the chips of a block out of its region, some at a time.

        Parameters
        ----------
        region
            Pixels, shape (*nav, h, w), as ``data[grid.region(block)]``.
        block
            Slices into the grid.
        mask
            Cells to leave out (True), shape of the grid; None: none.
        size
            Most chips in a batch.

        Yields
        ------
        index : numpy.ndarray
            Flat indices of the chips inside the block, shape (n,).
        chips : numpy.ndarray
            Shape (n, chip_size, chip_size).
        """
        windows = self._windows(self._extend(region, self._bounds(block)))
        for index in unmasked(block, mask, size):
            yield index, windows[np.unravel_index(index, windows.shape[:-2])]

    def fields(self, region: np.ndarray, block: Block) -> Iterator[Field]:
        """Hand out the chips of a block frame by frame, uncut.

        Parameters
        ----------
        region, block
            As for :meth:`batches`.

        Yields
        ------
        Field
            One for every frame of the block, in order.
        """
        bounds, starts = self._bounds(block), self._starts(block)
        pixels = self._extend(region, bounds)
        for frame in pixels.reshape(-1, *pixels.shape[-2:]):
            yield self._field(frame, bounds, starts)

    def field_at(self, region: np.ndarray, location: tuple[int, ...]) -> Field:
        """Hand out the chip centred on a pixel (*nav, y, x), uncut, from its region."""
        bounds = self._chip_bounds(location)
        starts = [np.array([low + self.margin]) for low, _ in bounds]
        pixels = self._extend(region, bounds)
        return self._field(pixels.reshape(pixels.shape[-2:]), bounds, starts)

    def _field(self, pixels, bounds, starts) -> Field:
        origin = (bounds[0][0], bounds[1][0])
        return Field(pixels, origin, *starts, self.chip_size, self.image_shape)

    def region_at(self, location: tuple[int, ...]) -> Block:
        """Slices of the data that hold the chip centred on a pixel (*nav, y, x)."""
        nav = (slice(i, i + 1) for i in location[: len(self.nav_shape)])
        return (*nav, *self._spans(self._chip_bounds(location)))

    def item_at(
        self, region: np.ndarray, location: tuple[int, ...], mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Cut the chip centred on a pixel (*nav, y, x) out of its region.

        The mask leaves out cells, not pixels: it does not change a chip.
        """
        chip = self._extend(region, self._chip_bounds(location))
        return chip.reshape(self.item_shape)

    @property
    def _before(self) -> int:
        """First pixel of the first chip, seen from the first pixel of its cell."""
        # An odd and an even size cannot share a centre: half a pixel early.
        return (self.stride - self.chip_size) // 2

    def _chip_bounds(self, location: tuple[int, ...]) -> list[tuple[int, int]]:
        starts = [int(i) - self.chip_size // 2 for i in location[len(self.nav_shape) :]]
        return [(s - self.margin, s + self.chip_size + self.margin) for s in starts]

    def _starts(self, block: Block) -> list[np.ndarray]:
        """First pixels of a block's chips along both axes."""
        starts = [self.stride * np.arange(s.start, s.stop) + self._before for s in block[-2:]]
        if not self.margin:
            return starts
        # A cell that hangs over the edge may have its centre outside: its chip is
        # the one around the last pixel, as in `centre_pixels`.
        half = self.chip_size // 2
        pairs = zip(starts, self.image_shape, strict=True)
        return [np.clip(first, -half, size - 1 - half) for first, size in pairs]

    def _bounds(self, block: Block) -> list[tuple[int, int]]:
        """First and last + 1 pixel that a block needs, beyond the image too."""
        beyond = self.chip_size + self.margin
        return [
            (int(first[0]) - self.margin, int(first[-1]) + beyond) for first in self._starts(block)
        ]

    def _pixels(self, bounds: list[tuple[int, int]]) -> list[np.ndarray]:
        """Pixels of the image for all places inside the bounds, by axis."""
        pairs = zip(bounds, self.image_shape, strict=True)
        return [_reflected(low, high, size) for (low, high), size in pairs]

    def _spans(self, bounds: list[tuple[int, int]]) -> Block:
        """Slices that hold what lies inside the bounds and what is reflected."""
        return tuple(slice(int(p.min()), int(p.max()) + 1) for p in self._pixels(bounds))

    def _extend(self, region: np.ndarray, bounds: list[tuple[int, int]]) -> np.ndarray:
        """Bring a region that was read for the bounds to their size."""
        pairs = zip(bounds, self.image_shape, strict=True)
        if all(low >= 0 and high <= size for (low, high), size in pairs):
            return region
        rows, columns = (pixels - pixels.min() for pixels in self._pixels(bounds))
        return region[..., rows[:, np.newaxis], columns]

    def _windows(self, pixels: np.ndarray) -> np.ndarray:
        views = np.lib.stride_tricks.sliding_window_view(pixels, self.item_shape, axis=(-2, -1))
        return views[..., :: self.stride, :: self.stride, :, :]


def _reflected(low: int, high: int, size: int) -> np.ndarray:
    """Pixels low to high - 1 of an axis, reflected at its first and last pixel."""
    # One pixel has nothing to reflect but itself.
    period = max(1, 2 * (size - 1))
    index = np.arange(low, high) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)
