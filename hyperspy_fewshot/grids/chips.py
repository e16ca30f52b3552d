"""Where the chips of an image lie, and which pixels they need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from hyperspy_fewshot.grids.field import Field, reflected
from hyperspy_fewshot.grids.protocol import FirstStep
from hyperspy_fewshot.grids.sampling import affordable
from hyperspy_fewshot.grids.slices import Slices, unmasked

# Chips of the sample, and the side in chips of the contiguous tiles that it consists of.
_SAMPLE_SIZE, _SAMPLE_SIDE = 2048, 4
# The same for an encoder that sees what surrounds a chip and reads that, too. Larger tiles are
# cheaper then: they are at least so wide [cells], and at least a chip. Their largest number.
_SAMPLE_SIZE_IN_IMAGE, _SAMPLE_SIDE_IN_IMAGE, _SAMPLE_TILES = 16384, 8, 32
# Side of a block [px], and the largest in chips where the encoder resamples them. A block takes
# about a second at most: so long an interruption has to wait.
_BLOCK_SIDE, _BLOCK_CHIPS = 1024, 16
# Distance over which labels are refined by the guide image [px]. More improves the labels of most
# pixels, but things of a few pixels vanish.
_REFINED_OVER = 8


@dataclass(frozen=True, eq=False)
class ChipGrid:
    """A regular grid of square chips over an image or a stack of images.

    The centre of cell i lies at ``(stride - 1) / 2 + i * stride`` for all
    ``i < ceil(size / stride)``, so that the cells cover every pixel. Where a
    chip extends beyond the image, the image is reflected.

    Parameters
    ----------
    nav_shape
        Shape of the stack, array order; () for one image.
    signal_shape
        (rows, columns) of a frame [px].
    chip_size, stride
        Side of a chip and distance between neighbours [px].
    margin
        Pixels around a chip that the encoder sees, too.
    lattice
        Whether a crystal lattice was found in the image.
    """

    nav_shape: tuple[int, ...]
    signal_shape: tuple[int, int]
    chip_size: int
    stride: int
    margin: int = 0
    lattice: bool = False

    kind = "image"
    context = 1
    n_guides = 1
    n_whole = 0
    is_slow = False
    mixes = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label map, (*nav, rows, columns)."""
        return (*self.nav_shape, *(-(-size // self.stride) for size in self.signal_shape))

    @property
    def item_shape(self) -> tuple[int, int]:
        """Shape of a chip [px]."""
        return (self.chip_size, self.chip_size)

    @property
    def side(self) -> int:
        """Side of a chip [px]."""
        return self.chip_size

    @property
    def sample_size(self) -> int:
        """Most chips in the sample of a data set."""
        if not self.margin:
            return affordable(self.item_shape, _SAMPLE_SIZE)
        return min(_SAMPLE_SIZE_IN_IMAGE, _SAMPLE_TILES * self.sample_side(False) ** 2)

    @property
    def reach(self) -> int:
        """Cells, along each axis, up to which a chip covers the centres of others."""
        return self.chip_size // (2 * self.stride)

    @property
    def refined_over(self) -> int:
        """Cells, along each axis, over which labels are refined by the guide image: 8 px."""
        return round(_REFINED_OVER / self.stride)

    @property
    def boundary(self) -> float:
        """Cells by which boundaries may be shifted: a sixteenth of a chip, at least half a cell."""
        return max(0.5, self.chip_size / 16 / self.stride)

    @property
    def overlap(self) -> float:
        """Number of neighbouring labels that rest on the same pixels."""
        return max(1.0, (self.chip_size / self.stride) ** 2)

    def for_data(
        self, nav_shape: tuple[int, ...], signal_shape: tuple[int, int], stride: int | None
    ) -> Self:
        """Return the same chips over another image or stack, at another stride if one is given."""
        stride = stride or self.stride
        return replace(self, nav_shape=nav_shape, signal_shape=signal_shape, stride=stride)

    def without_smoothing(self) -> Self:
        """Return the grid itself: chips are not pooled."""
        return self

    def settings(self) -> dict[str, Any]:
        """Return the chip size, which decides the embeddings."""
        return {"chip_size": self.chip_size}

    def sample_side(self, whole: bool) -> int:
        """Side in cells of the tiles of the sample; `whole`: they cover the grid."""
        if not self.margin:
            return max(self.shape) if whole else _SAMPLE_SIDE
        # Tiles of a whole image can be embedded in parallel.
        side = self._block_side if whole else self.chip_size
        return max(side // self.stride, 1 if whole else _SAMPLE_SIDE_IN_IMAGE)

    @property
    def _block_side(self) -> int:
        """Side of a block [px]."""
        return min(_BLOCK_SIDE, _BLOCK_CHIPS * self.chip_size) if self.margin else _BLOCK_SIDE

    def block_shape(self, dtype: np.dtype, chunks: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """Cells along each axis of the blocks in which data are embedded."""
        cells = max(1, self._block_side // self.stride)
        return (1,) * len(self.nav_shape) + (cells, cells)

    def centres(self, axis: int) -> np.ndarray:
        """Centres of the cells [px] along the rows (0) or columns (1) axis."""
        return (self.stride - 1) / 2 + self.stride * np.arange(self.shape[axis - 2])

    def cell_areas(self) -> np.ndarray:
        """Pixels of the image that each cell covers, shape (rows, columns)."""
        sizes = []
        for axis, size in enumerate(self.signal_shape):
            starts = self.stride * np.arange(self.shape[axis - 2])
            sizes.append(np.minimum(self.stride, size - starts))
        return np.outer(*sizes)

    def locations(self, axis: int) -> np.ndarray:
        """Pixels on which a chip equals that of the grid, along an axis."""
        starts = self.stride * np.arange(self.shape[axis - 2]) + self._before
        return np.minimum(starts + self.chip_size // 2, self.signal_shape[axis] - 1)

    def cell_at(self, location: Sequence[int]) -> tuple[int, ...]:
        """Cell that a pixel (*nav, y, x) lies in."""
        n = len(self.nav_shape)
        return (*map(int, location[:n]), *(int(i) // self.stride for i in location[n:]))

    def cell_mask(self, mask: np.ndarray) -> np.ndarray:
        """Mask of the cells from a mask of all pixels: a cell is masked with its centre."""
        rows, columns = (
            np.minimum(self.centres(axis).astype(int), size - 1)
            for axis, size in enumerate(self.signal_shape)
        )
        return mask[..., rows[:, np.newaxis], columns]

    def prepare(self, data: np.ndarray) -> np.ndarray:
        """Return chips as they are."""
        return data

    def window(self, block: Slices) -> Slices:
        """Pixels that a block of cells needs."""
        return (*block[:-2], *self._spans(self._bounds(block)))

    def window_at(self, location: tuple[int, ...]) -> Slices:
        """Pixels that the chip centred on a pixel (*nav, y, x) needs."""
        nav = (slice(i, i + 1) for i in location[: len(self.nav_shape)])
        return (*nav, *self._spans(self._chip_bounds(location)))

    def batches(
        self, data: np.ndarray, block: Slices, mask: np.ndarray | None, size: int, step: FirstStep
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield flat indices and chips of a block, `size` at a time; see :class:`Grid`."""
        pixels = self._extend(data, self._bounds(block))
        chips = np.lib.stride_tricks.sliding_window_view(pixels, self.item_shape, axis=(-2, -1))
        chips = chips[..., :: self.stride, :: self.stride, :, :]
        for index in unmasked(block, mask, size):
            yield index, step.reduce(chips[np.unravel_index(index, chips.shape[:-2])])

    def item_at(
        self, data: np.ndarray, location: tuple[int, ...], mask: np.ndarray | None, step: FirstStep
    ) -> np.ndarray:
        """Cut out the chip centred on a pixel (*nav, y, x), shape (1, ...).

        The mask leaves out cells, not pixels: it does not change a chip.
        """
        chip = self._extend(data, self._chip_bounds(location))
        return step.reduce(chip.reshape(1, *self.item_shape))

    def fields(self, data: np.ndarray, block: Slices) -> Iterator[Field]:
        """Yield the chips of a block inside their surroundings, one field for every frame."""
        bounds, starts = self._bounds(block), self._starts(block)
        pixels = self._extend(data, bounds)
        for frame in pixels.reshape(-1, *pixels.shape[-2:]):
            yield self._field(frame, bounds, starts)

    def field_at(self, data: np.ndarray, location: tuple[int, ...]) -> Field:
        """Return the chip centred on a pixel (*nav, y, x) inside its surroundings."""
        bounds = self._chip_bounds(location)
        starts = [np.array([low + self.margin]) for low, _ in bounds]
        pixels = self._extend(data, bounds)
        return self._field(pixels.reshape(pixels.shape[-2:]), bounds, starts)

    def guide(self, data: np.ndarray, block: Slices) -> np.ndarray:
        """Mean of the pixels in the middle of each chip, up to the stride, shape (cells, 1)."""
        side = min(self.stride, self.chip_size)
        bounds, starts = self._bounds(block), self._starts(block)
        pixels = self._extend(data, bounds)
        inner = (self.chip_size - side) // 2
        rows, columns = (s - low + inner for s, (low, _) in zip(starts, bounds, strict=True))
        means = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(-2, -1))
        means = means[..., rows[:, np.newaxis], columns, :, :]
        return means.mean(axis=(-2, -1), dtype=np.float32).reshape(-1, 1)

    def _field(self, pixels, bounds, starts) -> Field:
        origin = (bounds[0][0], bounds[1][0])
        return Field(pixels, origin, *starts, self.chip_size, self.signal_shape)

    @property
    def _before(self) -> int:
        """First pixel of the first chip, seen from the first pixel of its cell."""
        # An odd and an even size cannot share a centre: the chip lies half a pixel early.
        return (self.stride - self.chip_size) // 2

    def _chip_bounds(self, location: tuple[int, ...]) -> list[tuple[int, int]]:
        starts = [int(i) - self.chip_size // 2 for i in location[len(self.nav_shape) :]]
        return [(s - self.margin, s + self.chip_size + self.margin) for s in starts]

    def _starts(self, block: Slices) -> list[np.ndarray]:
        """First pixels of the chips of a block along both axes."""
        starts = [self.stride * np.arange(s.start, s.stop) + self._before for s in block[-2:]]
        if not self.margin:
            return starts
        # A cell that extends beyond the edge may have its centre outside: its chip is
        # the one around the last pixel, as in `locations`.
        half = self.chip_size // 2
        pairs = zip(starts, self.signal_shape, strict=True)
        return [np.clip(first, -half, size - 1 - half) for first, size in pairs]

    def _bounds(self, block: Slices) -> list[tuple[int, int]]:
        """First and last + 1 pixel that a block needs, also beyond the image."""
        beyond = self.chip_size + self.margin
        return [
            (int(first[0]) - self.margin, int(first[-1]) + beyond) for first in self._starts(block)
        ]

    def _pixels(self, bounds: list[tuple[int, int]]) -> list[np.ndarray]:
        """Pixels of the image at all places inside the bounds, by axis."""
        pairs = zip(bounds, self.signal_shape, strict=True)
        return [reflected(low, high, size) for (low, high), size in pairs]

    def _spans(self, bounds: list[tuple[int, int]]) -> Slices:
        """Slices that hold the pixels inside the bounds and those that are reflected."""
        return tuple(slice(int(p.min()), int(p.max()) + 1) for p in self._pixels(bounds))

    def _extend(self, data: np.ndarray, bounds: list[tuple[int, int]]) -> np.ndarray:
        """Reflect pixels that were read for the bounds, up to the size of the bounds."""
        pairs = zip(bounds, self.signal_shape, strict=True)
        if all(low >= 0 and high <= size for (low, high), size in pairs):
            return data
        rows, columns = (pixels - pixels.min() for pixels in self._pixels(bounds))
        return data[..., rows[:, np.newaxis], columns]
