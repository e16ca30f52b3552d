"""Which navigation positions inform a label: the context of a position."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .chips import Block, unmasked, within
from .smoothing import Smoothing, window_sum


@dataclass(frozen=True, eq=False)
class PositionGrid:
    """Every navigation position, pooled with its neighbours.

    Parameters
    ----------
    nav_shape, signal_shape
        Shapes of the navigation and signal space, array order.
    context
        Side of the square (for line scans: length) of positions whose mean is
        classified, odd; 1 pools nothing. Only the last two navigation axes
        are pooled. What lies outside the scan, is masked or not finite takes
        no part in the mean.
    signal_mask
        Channels or pixels to leave out (True), shape `signal_shape`.
        Channels are dropped, pixels of patterns set to 0.
    smoothing
        How far a position is trusted against its neighbours; None: the plain
        mean over the context.
    """

    nav_shape: tuple[int, ...]
    signal_shape: tuple[int, ...]
    context: int = 1
    signal_mask: np.ndarray | None = None
    smoothing: Smoothing | None = None

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
    def overlap(self) -> float:
        """How many neighbouring labels rest on the same data."""
        return float(self.context ** min(2, len(self.nav_shape)))

    def cell_areas(self) -> np.ndarray:
        """One position each, shape of the last (at most two) axes."""
        return np.ones(self.nav_shape[-2:], int)

    def region(self, block: Block) -> Block:
        """Slices of the data that hold a block of positions and its context."""
        return _widen(block, self.nav_shape, self.context // 2)

    def batches(
        self, region: np.ndarray, block: Block, mask: np.ndarray | None, size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pool the positions of a block, some at a time.

        Parameters
        ----------
        region
            Data, shape (*nav, *signal), as ``data[grid.region(block)]``.
        block
            Slices into the navigation space.
        mask
            Positions to leave out (True), shape `nav_shape`; None: none.
        size
            Most items in a batch.

        Yields
        ------
        index : numpy.ndarray
            Flat indices of the items inside the block, shape (n,).
        items : numpy.ndarray
            Shape (n, *item_shape).
        """
        around = self.region(block)
        left_out = None if mask is None else mask[around]
        items = self.pool(self.prepare(region), left_out)
        items = items[within(around, block)].reshape(-1, *self.item_shape)
        for index in unmasked(block, mask, size):
            # Slices are not copied.
            whole = index[-1] + 1 - index[0] == len(index)
            yield index, items[index[0] : index[-1] + 1] if whole else items[index]

    def region_at(self, location: tuple[int, ...]) -> Block:
        """Slices of the data that hold a position and its context."""
        return self.region(alone(location))

    def item_at(
        self, region: np.ndarray, location: tuple[int, ...], mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Pool one position out of its region.

        The mask leaves out neighbours, never the position itself.
        """
        here = within(self.region_at(location), alone(location))
        pooled = self.pool(self.prepare(region), self.left_out_at(location, mask))
        return pooled[here].reshape(self.item_shape)

    def left_out_at(self, location: tuple[int, ...], mask: np.ndarray | None) -> np.ndarray | None:
        """Which neighbours of a position a mask leaves out, but not the position itself."""
        if mask is None:
            return None
        around = self.region_at(location)
        left_out = mask[around].copy()
        left_out[within(around, alone(location))] = False
        return left_out

    def prepare(self, data: np.ndarray) -> np.ndarray:
        """Apply the signal mask to data (*, *signal)."""
        if self.signal_mask is None:
            return data
        if len(self.signal_shape) == 1:
            return data[..., ~self.signal_mask]
        return np.where(self.signal_mask, np.zeros((), data.dtype), data)

    def pool(
        self, items: np.ndarray, left_out: np.ndarray | None, judged: np.ndarray | None = None
    ) -> np.ndarray:
        """Mean over the context, of what is finite and not left out.

        A position that is not finite itself stays so.

        Parameters
        ----------
        items
            Shape (*nav, ...): data as :meth:`prepare` gives, or what is
            linear in them.
        left_out
            Positions that take no part, shape nav; None: none.
        judged
            What the smoothing makes of the data; None: `items` are the data.
        """
        if self.context == 1:
            return items
        nav = len(self.nav_shape)
        items = items.astype(np.float32, copy=False)
        if self.smoothing is None:
            judged = np.empty((*items.shape[:nav], 0), np.float32)
        elif judged is None:
            judged = self.smoothing.judge(items, nav)
        valid = np.isfinite(items).all(axis=tuple(range(nav, items.ndim)))
        used = valid if left_out is None else valid & ~left_out
        if not used.all():
            items, judged = (_cleared(array, ~used) for array in (items, judged))
        if self.smoothing is not None:
            pooled = self.smoothing.pool(items, judged, used, self.context)
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


def alone(location: tuple[int, ...]) -> Block:
    """The block of one position."""
    return tuple(slice(i, i + 1) for i in location)


def _widen(block: Block, shape: tuple[int, ...], half: int) -> Block:
    """Widen the last two slices of a block, inside the shape."""
    first = max(0, len(shape) - 2)
    return tuple(
        s if axis < first else slice(max(0, s.start - half), min(size, s.stop + half))
        for axis, (s, size) in enumerate(zip(block, shape, strict=True))
    )
