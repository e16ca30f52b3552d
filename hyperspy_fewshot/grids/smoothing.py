"""Edge-preserving pooling: a position is averaged with the neighbours that resemble it."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

# Factor on the difference that noise alone produces: what remains below it is taken for noise.
# At 1 (James-Stein) noise alone would exceed it half of the time and would not be averaged out.
_CAUTION = 2.0
# Patterns are binned to at most this side [px] before they are compared: the bins tell structure
# from noise as well as the pixels do, in fewer numbers.
_COMPARED_SIDE = 32
# Numbers of a chunk in `window_sum` (1 MiB of float32) and terms of one in `_sum_rings`, whose
# factors and indices stay in the cache of a core, too.
_CHUNK, _MOST_TERMS = 2**18, 2**16


@dataclass(frozen=True, eq=False)
class Smoothing:
    """Pool each position with its neighbours, but not across edges.

    The mean over the widest window is refined step by step, down to the position itself: each mean
    moves towards that of the next smaller window as far as the two differ by more than noise. With
    the squared difference D of the two means along k components, in units of its variance, the
    smaller window gets the weight ``max(0, 1 - 2 k / D)``, a positive-part James-Stein factor
    (Proc. 4th Berkeley Symp. 1, 361 (1961)). Where neighbours agree the wide mean remains; at an
    edge the position keeps its own data.

    `components`, shape (p, k), are the directions along which positions are compared, with p
    channels, or pixels after `flatten`. `noise`, shape (k,), is the variance along each of a
    position of weight 1. With `sum_normalise` the weight of a position is the sum of its data, so
    that positions are compared as sum-normalised spectra (EDS); otherwise all have weight 1.
    """

    components: np.ndarray
    noise: np.ndarray
    sum_normalise: bool

    def matrix(self, signal_shape: tuple[int, ...]) -> np.ndarray:
        """Matrix (p, k + 1) from flattened items to their scores along the components and their sum.

        Here p counts all channels or pixels, before any binning.
        """
        columns = self.components.astype(np.float32)
        if len(signal_shape) == 2:
            binned, (height, width) = _bins(signal_shape)
            columns = columns.reshape(*binned, -1).repeat(height, axis=0).repeat(width, axis=1)
            rest = np.subtract(signal_shape, columns.shape[:2])
            columns = np.pad(columns / (height * width), [(0, rest[0]), (0, rest[1]), (0, 0)])
            columns = columns.reshape(math.prod(signal_shape), -1)
        return np.column_stack([columns, np.ones(len(columns), np.float32)])

    def pool(
        self, items: np.ndarray, judged: np.ndarray, used: np.ndarray, context: int
    ) -> np.ndarray:
        """Pool float32 items (*nav, ...), the data or anything linear in them.

        `judged` are the data multiplied by `matrix`, shape (*nav, k + 1). Of the positions only
        those in `used`, shape nav, take part; at all others `items` and `judged` must be 0. The
        widest window has an odd side, `context`. A pooled item has the scale of the mean over this
        window; only its distribution over the signal comes from the neighbours that resemble it.
        """
        shares = self._shares(judged, used, context)
        frames = _frames(items, used.ndim)
        pooled = np.empty_like(frames)
        for frame, share, out in zip(frames, _frames(shares, used.ndim), pooled, strict=True):
            _sum_rings(frame, share, out)
        return pooled.reshape(items.shape)

    def _shares(self, judged: np.ndarray, used: np.ndarray, context: int) -> np.ndarray:
        """Factor on each neighbour by its distance in positions, shape (*nav, context // 2 + 1).

        All nested windows are centred on the position. Hence their mixture is one weighted sum over
        the widest of them, whose weights depend on the larger of the distances along the two axes
        only.
        """
        nav = used.ndim
        count = window_sum(used.astype(np.float32), context, nav)
        weights = np.maximum(judged[..., -1], 0) if self.sum_normalise else 1
        weights = (weights * used).astype(np.float32)
        scores = np.ascontiguousarray(judged[..., :-1])
        wider = window_sum(weights, context, nav)
        level = wider / np.maximum(count, 1)
        pooled = window_sum(scores, context, nav) * _inverse(wider)
        shares = np.repeat(_inverse(wider), context // 2 + 1, axis=-1)
        for side in range(context - 2, 0, -2):
            weight = window_sum(weights, side, nav)
            difference = window_sum(scores, side, nav) * _inverse(weight) - pooled
            squared = (difference**2 / self.noise).sum(axis=-1) * weight
            # The windows share data and hence part of their noise.
            own = 1 - weight / np.maximum(wider, 1e-9)
            expected = _CAUTION * len(self.noise) * own
            trust = np.clip(1 - expected / np.maximum(squared, 1e-12), 0, 1)[..., np.newaxis]
            pooled += trust * difference
            shares *= 1 - trust
            shares[..., : side // 2 + 1] += trust * _inverse(weight)
            wider = weight
        return shares * level[..., np.newaxis]


def _frames(values: np.ndarray, nav: int) -> np.ndarray:
    """View values (*nav, ...) as (frames, rows, columns, n); a line is a single row."""
    shape = (1, 1, *values.shape[:nav])
    sizes = (math.prod(shape[:-2]), *shape[-2:], math.prod(values.shape[nav:]))
    return values.reshape(sizes)


def _inverse(weight: np.ndarray) -> np.ndarray:
    """One over the weight of a window, with a last axis added."""
    return 1 / np.maximum(weight, 1e-9)[..., np.newaxis]


def _sum_rings(values: np.ndarray, shares: np.ndarray, out: np.ndarray) -> None:
    """Sum values (rows, columns, n) over windows into `out`.

    `shares`, shape (rows, columns, r), are factors at the (Chebyshev) distances 0, 1, ... from the
    centre. The sum is a product with a sparse matrix, which reads the window of a position once,
    while it is in the cache. A row of the matrix lists the window from left to right and from top
    to bottom; terms outside the map have factor 0. So the result does not depend on where a block
    begins.
    """
    rows, columns, _ = values.shape
    below, right = (min(shares.shape[-1], size) - 1 for size in (rows, columns))
    reach = np.mgrid[-below : below + 1, -right : right + 1]
    down, across = reach.reshape(2, -1).astype(np.int32)
    distance = np.maximum(abs(down), abs(across))
    flat = values.reshape(rows * columns, -1)
    step = max(1, _MOST_TERMS // (columns * len(distance)))
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        y = np.arange(top, bottom, dtype=np.int32)[:, np.newaxis] + down
        x = np.arange(columns, dtype=np.int32)[:, np.newaxis] + across
        inside = ((y >= 0) & (y < rows))[:, np.newaxis] & ((x >= 0) & (x < columns))
        factors = (shares[top:bottom][..., distance] * inside).ravel()
        where = (y.clip(0, rows - 1) * columns)[:, np.newaxis] + x.clip(0, columns - 1)
        starts = np.arange(0, len(factors) + 1, len(distance), dtype=np.int32)
        matrix = csr_array(
            (factors, where.ravel(), starts), shape=((bottom - top) * columns, len(flat))
        )
        out[top:bottom] = (matrix @ flat).reshape(out[top:bottom].shape)


def flatten(data: np.ndarray, nav: int) -> np.ndarray:
    """Flatten the signal axes of (*nav, *signal); patterns are binned first."""
    if data.ndim == nav + 2:
        (rows, columns), (height, width) = _bins(data.shape[nav:])
        if height * width > 1:
            data = data[..., : rows * height, : columns * width]
            # Adding whole slices is faster than a mean over two short axes.
            binned = np.zeros((*data.shape[:nav], rows, columns), np.float32)
            for y, x in np.ndindex(height, width):
                binned += data[..., y::height, x::width]
            data = binned / (height * width)
    return data.reshape(*data.shape[:nav], -1)


def _bins(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows and columns of a binned pattern, and the height and width of a bin [px].

    Each axis is binned by itself, so that something of a short one remains.
    """
    sides = tuple(-(-size // _COMPARED_SIDE) for size in shape)
    return tuple(size // side for size, side in zip(shape, sides, strict=True)), sides


def window_sum(values: np.ndarray, side: int, nav: int) -> np.ndarray:
    """Sum values (*nav, ...) over windows of positions along the last two navigation axes.

    The windows have an odd side and are cut off at the ends. The terms are added in a fixed order,
    so that the result does not depend on where a block begins. A running sum would be faster for
    wide windows, but its rounding errors depend on where it started.
    """
    if side == 1:
        return values
    frames = _frames(values, nav)
    total = np.zeros_like(frames)
    rows = frames.shape[1]
    step = max(1, _CHUNK // max(1, math.prod(frames.shape[2:])))
    for frame, out in zip(frames, total, strict=True):
        for top in range(0, rows, step):
            band = np.zeros_like(frame[top : top + step])
            _add_shifted(band, frame, side // 2, top)
            _add_shifted(out[top : top + step].swapaxes(0, 1), band.swapaxes(0, 1), side // 2, 0)
    return total.reshape(values.shape)


def _add_shifted(total: np.ndarray, values: np.ndarray, half: int, start: int) -> None:
    """Add to ``total[i]`` all ``values[start + i - half : start + i + half + 1]``."""
    for shift in range(-half, half + 1):
        low = max(0, -shift - start)
        high = min(len(total), len(values) - shift - start)
        if low < high:
            total[low:high] += values[start + low + shift : start + high + shift]
