"""Edge-preserving pooling: neighbours help where they agree."""

from dataclasses import dataclass

import numpy as np

# A difference counts for what exceeds so many times its expectation from noise.
_CAUTION = 2.0
# Side at which patterns are compared [px]; coarser ones tell noise from structure as well.
_COMPARED_SIDE = 32


@dataclass(frozen=True, eq=False)
class Smoothing:
    """How far a position is trusted against its neighbours.

    From the widest window to the position itself, the mean of every window is
    replaced by that of the next smaller one as far as the two differ by more
    than noise. With the squared difference D of the two means in k
    components, in units of its variance, the smaller window is trusted by the
    positive-part James-Stein factor [1]_ ``max(0, 1 - 2 k / D)``: inside a
    region the wide mean stands, at an edge the position itself.

    Parameters
    ----------
    components
        Shape (p, k), of what :func:`flatten` gives.
    noise
        Variance along each component of a position of weight 1, shape (k,).
    sum_normalise
        Whether a position weighs as much as its sum and is compared by its
        shape (EDS), or all weigh 1.

    References
    ----------
    .. [1] W. James, C. Stein, Proc. 4th Berkeley Symp. 1, 361 (1961).
    """

    components: np.ndarray
    noise: np.ndarray
    sum_normalise: bool

    def judge(self, items: np.ndarray, nav: int) -> np.ndarray:
        """What positions are compared by: scores and sum, shape (*nav, k + 1).

        Parameters
        ----------
        items
            Shape (*nav, *signal), float32.
        nav
            Number of navigation axes.
        """
        matrix = self.matrix(items.shape[nav:])
        return items.reshape(*items.shape[:nav], -1) @ matrix

    def matrix(self, signal_shape: tuple[int, ...]) -> np.ndarray:
        """Columns that flattened items are multiplied with in :meth:`judge`, shape (p, k + 1)."""
        columns = self.components.astype(np.float32)
        if len(signal_shape) == 2:
            columns = _unbinned(columns, signal_shape)
        return np.column_stack([columns, np.ones(len(columns), np.float32)])

    def pool(
        self, items: np.ndarray, judged: np.ndarray, used: np.ndarray, context: int
    ) -> np.ndarray:
        """Pool items over windows of at most `context` positions.

        Parameters
        ----------
        items
            Shape (*nav, ...), float32: the data, or anything linear in them.
        judged
            What :meth:`judge` gives for the data, shape (*nav, k + 1).
        used
            Which positions take part, shape nav; both others are 0 elsewhere.
        context
            Side of the widest window, odd.

        Returns
        -------
        numpy.ndarray
            Shape of `items`; what a position holds on average over the widest
            window, distributed over the signal as in its pooled neighbours.
        """
        nav = used.ndim
        count = window_sum(used.astype(np.float32), context, nav)
        weights = self._weights(judged, used)
        # Both are pooled alike, side by side.
        values = np.concatenate([items.reshape(*used.shape, -1), judged[..., :-1]], axis=-1)
        wider = window_sum(weights, context, nav)
        level = wider / np.maximum(count, 1)
        pooled = _mean(values, wider, context, nav)
        for side in range(context - 2, 0, -2):
            weight = window_sum(weights, side, nav)
            difference = _mean(values, weight, side, nav) - pooled
            trust = self._trust(difference[..., -len(self.noise) :], weight, wider)
            pooled += trust[..., np.newaxis] * difference
            wider = weight
        pooled = pooled[..., : -len(self.noise)] * level[..., np.newaxis]
        return pooled.reshape(items.shape)

    def _weights(self, judged: np.ndarray, used: np.ndarray) -> np.ndarray:
        weights = np.maximum(judged[..., -1], 0) if self.sum_normalise else 1
        return (weights * used).astype(np.float32)

    def _trust(self, scores: np.ndarray, weight: np.ndarray, wider: np.ndarray) -> np.ndarray:
        """Share of the smaller of two nested windows, between 0 and 1, whose scores differ so."""
        # The windows share data, and with it part of their noise.
        own = 1 - weight / np.maximum(wider, 1e-9)
        expected = _CAUTION * len(self.noise) * own
        squared = (scores**2 / self.noise).sum(axis=-1) * weight
        return np.clip(1 - expected / np.maximum(squared, 1e-12), 0, 1)


def _mean(values: np.ndarray, weight: np.ndarray, side: int, nav: int) -> np.ndarray:
    """Mean over a window of a given weight."""
    return window_sum(values, side, nav) / np.maximum(weight, 1e-9)[..., np.newaxis]


def flatten(data: np.ndarray, nav: int) -> np.ndarray:
    """Flatten the signal axes of (*nav, *signal); patterns are binned first."""
    if data.ndim == nav + 2:
        rows, columns, side = _bins(data.shape[nav:])
        data = data[..., : rows * side, : columns * side]
        data = data.reshape(*data.shape[:nav], rows, side, columns, side).mean((-3, -1))
    return data.reshape(*data.shape[:nav], -1)


def _bins(shape: tuple[int, int]) -> tuple[int, int, int]:
    """Rows and columns of a binned pattern, and the side of a bin [px]."""
    side = -(-max(shape) // _COMPARED_SIDE)
    return shape[0] // side, shape[1] // side, side


def _unbinned(columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Columns for flattened patterns from those for binned ones."""
    rows, cols, side = _bins(shape)
    whole = columns.reshape(rows, cols, -1).repeat(side, axis=0).repeat(side, axis=1) / side**2
    missing = [(0, size - n * side) for size, n in zip(shape, (rows, cols), strict=True)]
    return np.pad(whole, (*missing, (0, 0))).reshape(-1, columns.shape[1])


def window_sum(values: np.ndarray, side: int, nav: int) -> np.ndarray:
    """Sum over a window of positions along the last two navigation axes.

    The terms are added in a fixed order, so that the result does not depend
    on where a block begins.

    Parameters
    ----------
    values
        Shape (*nav, ...).
    side
        Side of the window, odd; it is cut off at the ends.
    nav
        Number of navigation axes.
    """
    if side == 1:
        return values
    half = side // 2
    for axis in range(max(0, nav - 2), nav):
        size = values.shape[axis]
        total = np.zeros_like(values)
        for shift in range(-half, half + 1):
            low, high = max(0, -shift), min(size, size - shift)
            if low < high:
                here = (slice(None),) * axis
                source = values[(*here, slice(low + shift, high + shift))]
                total[(*here, slice(low, high))] += source
        values = total
    return values
