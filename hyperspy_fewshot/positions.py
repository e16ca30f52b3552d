"""Which navigation positions inform a label: the context of a position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .chips import Block

#: Sides of the neighbourhoods among which the context is chosen.
CONTEXTS = (1, 3, 5, 7, 9)


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
    """

    nav_shape: tuple[int, ...]
    signal_shape: tuple[int, ...]
    context: int = 1
    signal_mask: np.ndarray | None = None

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

    def location_in_cells(self, location: np.ndarray) -> np.ndarray:
        """Where a position lies on the label map: at itself."""
        return np.asarray(location, float)

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
        inner = tuple(
            slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, block, strict=True)
        )
        wanted = np.arange(int(np.prod([s.stop - s.start for s in block])))
        if mask is not None:
            wanted = wanted[~mask[block].reshape(-1)]
        items = items[inner].reshape(-1, *self.item_shape)
        for start in range(0, len(wanted), size):
            index = wanted[start : start + size]
            yield index, items[index]

    def region_at(self, location: tuple[int, ...]) -> Block:
        """Slices of the data that hold a position and its context."""
        return self.region(tuple(slice(i, i + 1) for i in location))

    def item_at(self, region: np.ndarray, location: tuple[int, ...]) -> np.ndarray:
        """Pool one position out of its region."""
        block = tuple(slice(i, i + 1) for i in location)
        (_, items), = self.batches(region, block, None, 1)
        return items[0]

    def prepare(self, data: np.ndarray) -> np.ndarray:
        """Apply the signal mask to data (*, *signal)."""
        if self.signal_mask is None:
            return data
        if len(self.signal_shape) == 1:
            return data[..., ~self.signal_mask]
        return np.where(self.signal_mask, np.zeros((), data.dtype), data)

    def pool(self, items: np.ndarray, left_out: np.ndarray | None) -> np.ndarray:
        """Mean over the context, of what is finite and not left out.

        A position that is not finite itself stays so.
        """
        if self.context == 1:
            return items
        nav = len(self.nav_shape)
        items = items.astype(np.float32)
        valid = np.isfinite(items).all(axis=tuple(range(nav, items.ndim)))
        used = valid if left_out is None else valid & ~left_out
        as_item = (..., *(np.newaxis,) * (items.ndim - nav))
        summed = window_sum(np.where(used[as_item], items, np.float32(0)), self.context, nav)
        count = window_sum(used.astype(np.float32), self.context, nav)
        pooled = summed / np.maximum(count, 1)[as_item]
        return np.where(valid[as_item], pooled, np.float32(np.nan))


def window_sum(values: np.ndarray, side: int, nav: int) -> np.ndarray:
    """Sum over a window of positions along the last two navigation axes.

    The terms are added in a fixed order, so that the result does not depend
    on where a block begins.
    """
    half = side // 2
    for axis in range(max(0, nav - 2), nav):
        size = values.shape[axis]
        total = np.zeros_like(values)
        for shift in range(-half, half + 1):
            low, high = max(0, -shift), min(size, size - shift)
            if low < high:
                here = (slice(None),) * axis
                total[(*here, slice(low, high))] += values[(*here, slice(low + shift, high + shift))]
        values = total
    return values


def choose_context(
    regions: Sequence[np.ndarray],
    inner: Sequence[Block],
    nav: int,
    *,
    sum_normalise: bool,
    contexts: Sequence[int] = CONTEXTS,
) -> int:
    """Choose the context by how well neighbours predict a position.

    The data of a position are predicted from the mean of its neighbours, the
    position itself left out, in the leading principal components of the
    Poisson-scaled data. The error has two parts: the noise that the
    neighbours bring, which falls with the window, and the blur, which grows
    with it; the window with the least error is taken. Pooling nothing has no
    such error: it is preferred to 3 when the noise, estimated from second
    differences [1]_, is too small for pooling to pay. Labels play no part,
    hence one shot is enough.

    Parameters
    ----------
    regions
        Contiguous pieces of the data (*nav, channels), finite or not.
    inner
        For every region the slices of the positions to judge; around them
        lies at least half the widest window, or the end of the scan.
    nav
        Number of navigation axes.
    sum_normalise
        Whether a position counts by its sum and is judged by its shape (EDS).
    contexts
        The sides to choose from.

    Returns
    -------
    int

    References
    ----------
    .. [1] J. Immerkaer, Comput. Vis. Image Underst. 64, 300 (1996).
    """
    candidates = [side for side in contexts if side > 1]
    if not candidates:
        return 1
    scores, totals, valid = _scores(regions, nav, sum_normalise, min(5, candidates[-1]))
    errors = dict.fromkeys(candidates, 0.0)
    noise = 0.0
    judged = 0
    for score, total, used, block in zip(scores, totals, valid, inner, strict=True):
        own = score / np.maximum(total, 1e-9)
        weight = np.where(used, total[..., 0], 0.0)[block]
        judged += int((weight > 0).sum())
        for side in candidates:
            around = window_sum(total, side, nav) - total
            predicted = (window_sum(score, side, nav) - score) / np.maximum(around, 1e-9)
            errors[side] += float((weight * ((own - predicted) ** 2).sum(-1)[block]).sum())
        second = _second_difference(own * np.sqrt(total), nav)
        noise += float(np.where(weight > 0, (second**2).sum(-1)[block], 0.0).sum())
    if not judged:
        return 1
    best = min(errors, key=errors.__getitem__)
    # With n positions the pooled risk is noise / n + ((n - 1) / n)^2 blur and
    # the error noise * n / (n - 1) + blur; pooling pays if that risk < noise.
    n = best ** min(2, nav)
    blur = max(errors[best] - noise * n / (n - 1), 0.0)
    pooled = noise / n + ((n - 1) / n) ** 2 * blur
    return best if pooled < noise else 1


def _scores(
    regions: Sequence[np.ndarray], nav: int, sum_normalise: bool, side: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Unpooled data on the leading components of the pooled data."""
    from .encoders.pca import PCAEncoder

    valid = [np.isfinite(region).all(axis=-1) for region in regions]
    clean = [
        np.where(used[..., np.newaxis], region, 0).astype(np.float32)
        for used, region in zip(valid, regions, strict=True)
    ]
    pooled = np.concatenate(
        [
            (
                window_sum(part, side, nav)
                / np.maximum(window_sum(used.astype(np.float32), side, nav), 1)[..., np.newaxis]
            )[used]
            for part, used in zip(clean, valid, strict=True)
        ]
    )
    encoder = PCAEncoder(name="context").fit(
        pooled, kind="spectrum", sum_normalise=sum_normalise
    )
    scores = [part @ encoder.components for part in clean]
    totals = [
        part.sum(-1, keepdims=True) if sum_normalise else used[..., np.newaxis].astype(np.float32)
        for part, used in zip(clean, valid, strict=True)
    ]
    return scores, totals, valid


def _second_difference(values: np.ndarray, nav: int) -> np.ndarray:
    """Second differences along the last two navigation axes, of unit gain."""
    for axis in range(max(0, nav - 2), nav):
        if values.shape[axis] < 3:
            continue
        padded = np.pad(
            values, [(1, 1) if i == axis else (0, 0) for i in range(values.ndim)], mode="reflect"
        )
        left, middle, right = (
            np.take(padded, range(i, i + values.shape[axis]), axis=axis) for i in range(3)
        )
        values = (2 * middle - left - right) / np.sqrt(6)
    return values


def _widen(block: Block, shape: tuple[int, ...], half: int) -> Block:
    """Widen the last two slices of a block, inside the shape."""
    first = max(0, len(shape) - 2)
    return tuple(
        s if axis < first else slice(max(0, s.start - half), min(size, s.stop + half))
        for axis, (s, size) in enumerate(zip(block, shape, strict=True))
    )
