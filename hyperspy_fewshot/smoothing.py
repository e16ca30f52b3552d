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

    def pool(self, items: np.ndarray, used: np.ndarray, context: int) -> np.ndarray:
        """Pool items over windows of at most `context` positions.

        Parameters
        ----------
        items
            Shape (*nav, *signal), float32, 0 where not used.
        used
            Which positions take part, shape nav.
        context
            Side of the widest window, odd.

        Returns
        -------
        numpy.ndarray
            Shape of `items`; what a position holds on average over the widest
            window, distributed over the signal as in its pooled neighbours.
        """
        nav = used.ndim
        as_item = (..., *(np.newaxis,) * (items.ndim - nav))
        count = window_sum(used.astype(np.float32), context, nav)
        weights = self._weights(items, used)
        wider = window_sum(weights, context, nav)
        level = wider / np.maximum(count, 1)
        pooled = window_sum(items, context, nav) / np.maximum(wider, 1e-9)[as_item]
        for side in range(context - 2, 0, -2):
            weight = window_sum(weights, side, nav)
            difference = window_sum(items, side, nav) / np.maximum(weight, 1e-9)[as_item] - pooled
            pooled += self._trust(difference, weight, wider)[as_item] * difference
            wider = weight
        return pooled * level[as_item]

    def _weights(self, items: np.ndarray, used: np.ndarray) -> np.ndarray:
        if not self.sum_normalise:
            return used.astype(np.float32)
        return np.abs(items).sum(axis=tuple(range(used.ndim, items.ndim)))

    def _trust(self, difference: np.ndarray, weight: np.ndarray, wider: np.ndarray) -> np.ndarray:
        """Share of the smaller of two nested windows, between 0 and 1."""
        scores = flatten(difference, weight.ndim) @ self.components
        # The windows share data, and with it part of their noise.
        own = 1 - weight / np.maximum(wider, 1e-9)
        expected = _CAUTION * len(self.noise) * own
        squared = (scores**2 / self.noise).sum(axis=-1) * weight
        return np.clip(1 - expected / np.maximum(squared, 1e-12), 0, 1)


def flatten(data: np.ndarray, nav: int) -> np.ndarray:
    """Flatten the signal axes of (*nav, *signal); patterns are binned first."""
    if data.ndim == nav + 2:
        side = -(-max(data.shape[nav:]) // _COMPARED_SIDE)
        if side > 1:
            rows, columns = (size // side for size in data.shape[nav:])
            data = data[..., : rows * side, : columns * side]
            data = data.reshape(*data.shape[:nav], rows, side, columns, side).mean((-3, -1))
    return data.reshape(*data.shape[:nav], -1)


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
