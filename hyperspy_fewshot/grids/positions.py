"""Which navigation positions inform a label: the context of a position."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from hyperspy_fewshot.grids.protocol import FirstStep
from hyperspy_fewshot.grids.sampling import affordable
from hyperspy_fewshot.grids.slices import Slices, shape_of, single, unmasked, within
from hyperspy_fewshot.grids.smoothing import Smoothing, window_sum

# Positions of the sample, and the side of the contiguous tiles that it consists of: a
# context can only be chosen where neighbours are known.
_SAMPLE_SIZE = 8192
_SAMPLE_SIDE = 8
# A block holds so many bytes, and of patterns, which take long to embed, so many positions.
_BLOCK_BYTES = 16 * 2**20
_BLOCK_PATTERNS = 256
# A scheduler slows down with more blocks than this: those of very large data grow instead.
_MOST_BLOCKS = 50_000
_LARGEST_BLOCK_BYTES = 128 * 2**20


@dataclass(frozen=True, eq=False)
class PositionGrid:
    """Every navigation position, pooled with its neighbours.

    Parameters
    ----------
    nav_shape, signal_shape
        Shapes of the navigation and signal space, array order.
    context
        Side of the square (for line scans: length) of positions that inform a
        label, odd; 1 pools nothing. Only the last two navigation axes are
        pooled. Positions outside the scan, masked ones, and those with data
        that are not finite are left out of the mean.
    signal_mask
        Channels or pixels to leave out (True), shape `signal_shape`. Channels
        are dropped, pixels of patterns are set to 0.
    smoothing
        How far a position is trusted against its neighbours; None: the plain
        mean over the context.
    """

    nav_shape: tuple[int, ...]
    signal_shape: tuple[int, ...]
    context: int = 1
    signal_mask: np.ndarray | None = None
    smoothing: Smoothing | None = None

    stride = 1
    n_guides = 0
    mixes = False
    # The mean over the context keeps boundaries where they are.
    boundary = 0.5
    refined_over = 0

    @property
    def sample_size(self) -> int:
        """Most positions in the sample of a data set."""
        return affordable(self.item_shape, _SAMPLE_SIZE)

    @property
    def kind(self) -> str:
        """What lies at a position: ``"spectrum"`` or ``"pattern"``."""
        return "spectrum" if len(self.signal_shape) == 1 else "pattern"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label map: the navigation shape."""
        return self.nav_shape

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of what is encoded."""
        if self.signal_mask is not None and len(self.signal_shape) == 1:
            return (int((~self.signal_mask).sum()),)
        return self.signal_shape

    @property
    def is_slow(self) -> bool:
        """Whether items take long to embed, as patterns do."""
        return len(self.signal_shape) == 2

    @property
    def side(self) -> int:
        """Side of the square of positions that inform a label."""
        return self.context

    @property
    def reach(self) -> int:
        """Positions, along each axis, up to which a pooled position covers others."""
        return self.context // 2

    @property
    def overlap(self) -> float:
        """Number of neighbouring labels that rest on the same data."""
        return float(self.context ** min(2, len(self.nav_shape)))

    @property
    def n_whole(self) -> int:
        """Number of signal axes, which are read whole."""
        return len(self.signal_shape)

    def for_data(
        self, nav_shape: tuple[int, ...], signal_shape: tuple[int, ...], stride: int | None
    ) -> Self:
        """Return the same grid over another scan; every position is a query, at any stride."""
        return replace(self, nav_shape=nav_shape, signal_shape=signal_shape)

    def without_smoothing(self) -> Self:
        """Return the same grid with the plain mean over the context."""
        return replace(self, smoothing=None)

    def settings(self) -> dict[str, Any]:
        """Return context and signal mask, which decide the embeddings."""
        return {"context": self.context, "signal_mask": self.signal_mask}

    def sample_side(self, whole: bool) -> int:
        """Side in positions of the tiles of the sample; `whole`: they cover the scan."""
        return max(self.nav_shape) if whole else _SAMPLE_SIDE

    def block_shape(self, dtype: np.dtype, chunks: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """Positions along each axis of the blocks in which data with such chunks are embedded.

        A block is a multiple or a fraction of a chunk, as far as that fits.
        """
        item = math.prod(self.signal_shape) * dtype.itemsize
        limit = _BLOCK_BYTES
        if len(self.signal_shape) == 2:
            limit = min(limit, _BLOCK_PATTERNS * item)
        total = item * math.prod(self.nav_shape)
        limit = max(limit, min(_LARGEST_BLOCK_BYTES, total // _MOST_BLOCKS))
        return _fitted([max(sizes) for sizes in chunks], self.nav_shape, max(1, limit // item))

    def cell_areas(self) -> np.ndarray:
        """One position each, shape of the last (at most two) axes."""
        return np.ones(self.nav_shape[-2:], int)

    def centres(self, axis: int) -> np.ndarray:
        """Positions along the rows (0) or columns (1) axis."""
        return self.locations(axis).astype(float)

    def locations(self, axis: int) -> np.ndarray:
        """Indices of the positions along the rows (0) or columns (1) axis."""
        return np.arange(self.nav_shape[-2:][axis])

    def cell_at(self, location: Sequence[int]) -> tuple[int, ...]:
        """Return the position itself."""
        return tuple(map(int, location))

    def cell_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return the mask of the positions."""
        return mask

    def prepare(self, data: np.ndarray) -> np.ndarray:
        """Apply the signal mask to data (..., *signal)."""
        if self.signal_mask is None:
            return data
        if len(self.signal_shape) == 1:
            return data[..., ~self.signal_mask]
        return np.where(self.signal_mask, np.zeros((), data.dtype), data)

    def window(self, block: Slices) -> Slices:
        """Positions that a block needs: its own, and those in their context."""
        half, first = self.context // 2, max(0, len(self.nav_shape) - 2)
        return tuple(
            s if axis < first else slice(max(0, s.start - half), min(size, s.stop + half))
            for axis, (s, size) in enumerate(zip(block, self.nav_shape, strict=True))
        )

    def window_at(self, location: tuple[int, ...]) -> Slices:
        """Positions that an example at a position needs."""
        return self.window(single(location))

    def batches(
        self, data: np.ndarray, block: Slices, mask: np.ndarray | None, size: int, step: FirstStep
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield flat indices and pooled positions of a block; see :class:`Grid`."""
        left_out = None if mask is None else mask[self.window(block)]
        items = self._pooled(data, block, left_out, step)
        for index in unmasked(block, mask, size):
            # A slice is not copied.
            whole = index[-1] + 1 - index[0] == len(index)
            yield index, items[index[0] : index[-1] + 1] if whole else items[index]

    def item_at(
        self, data: np.ndarray, location: tuple[int, ...], mask: np.ndarray | None, step: FirstStep
    ) -> np.ndarray:
        """Reduce and pool one position, shape (1, ...).

        The mask leaves out neighbours, never the position itself.
        """
        here, left_out = single(location), None
        if mask is not None:
            left_out = mask[self.window(here)].copy()
            left_out[within(self.window(here), here)] = False
        return self._pooled(data, here, left_out, step)

    def guide(self, data: np.ndarray, block: Slices) -> np.ndarray:
        """Return nothing: there is no guide image of a scan, shape (cells, 0)."""
        return np.empty((math.prod(shape_of(block)), 0), np.float32)

    def _pooled(
        self, data: np.ndarray, block: Slices, left_out: np.ndarray | None, step: FirstStep
    ) -> np.ndarray:
        """Reduced and pooled positions of a block, shape (n, ...)."""
        around = self.window(block)
        shape = shape_of(around)
        items = self.prepare(data).reshape(-1, *self.item_shape)
        reduced = step.reduce(items)
        if self.context > 1:
            scores = None
            if self.smoothing is not None:
                scores = step.project(items, self.smoothing.matrix(self.item_shape))
                scores = scores.reshape(*shape, -1)
            reduced = self.pool(reduced.reshape(*shape, *reduced.shape[1:]), left_out, scores)
            reduced = reduced[within(around, block)]
            reduced = reduced.reshape(-1, *reduced.shape[len(shape) :])
        return reduced

    def pool(
        self, items: np.ndarray, left_out: np.ndarray | None, scores: np.ndarray | None
    ) -> np.ndarray:
        """Mean over the context of positions that are finite and not left out.

        The items (*nav, ...) are the data or anything linear in them; `scores` (*nav, k + 1) are what
        the smoothing compares positions by. A position that is not finite itself stays so.
        """
        nav = len(self.nav_shape)
        items = items.astype(np.float32, copy=False)
        if scores is None:
            scores = np.empty((*items.shape[:nav], 0), np.float32)
        valid = np.isfinite(items).all(axis=tuple(range(nav, items.ndim)))
        used = valid if left_out is None else valid & ~left_out
        if not used.all():
            items, scores = (_cleared(array, ~used) for array in (items, scores))
        if self.smoothing is not None:
            pooled = self.smoothing.pool(items, scores, used, self.context)
        else:
            count = window_sum(used.astype(np.float32), self.context, nav)
            as_item = (..., *(np.newaxis,) * (items.ndim - nav))
            pooled = window_sum(items, self.context, nav) / np.maximum(count, 1)[as_item]
        pooled[~valid] = np.nan
        return pooled


def _cleared(array: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Copy an array with zeros at some positions."""
    array = array.copy()
    array[where] = 0
    return array


def _fitted(chunk: list[int], shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Sides of blocks of at most `most` positions, in whole chunks or equal parts of them."""
    sides = [min(c, n) for c, n in zip(chunk, shape, strict=True)]
    while math.prod(sides) > most:
        longest = int(np.argmax(sides))
        if sides[longest] == 1:
            break
        sides[longest] = -(-sides[longest] // 2)
    for axis in reversed(range(len(sides))):
        room = most // math.prod(sides)
        if room > 1:
            sides[axis] = min(sides[axis] * room, shape[axis])
    return tuple(sides)
