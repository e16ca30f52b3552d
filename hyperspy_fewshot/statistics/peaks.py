"""The instances of a class: peaks of its probability, one for each."""

from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

# Peaks are one instance unless the probability falls below this share of the lower one between them.
_SADDLE = 0.8
# Probability from which a peak is an instance.
_LEAST = 0.5
# Variance of the number for each instance that is found, since some touch each other.
_OF_TOUCHING = 0.25
# Peaks below that count for the number of instances with their probability.
_FAINTEST = 0.05


def find_peaks(probabilities: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Find peaks in a map of probabilities, shape (rows, columns) or (columns,).

    `side` is that of what the label of a small thing spreads over, in cells. The map is smoothed with
    a Gaussian whose standard deviation is a quarter of it. Peaks are at least half of it apart, and
    those without a valley between them are one.

    Returns cells (n, ndim), and the largest probability within half a side of each, shape (n,); the
    likeliest ones come first.
    """
    values = np.nan_to_num(probabilities.astype(float))
    smooth = gaussian_filter(values, side / 4) if side > 1 else values
    reach = max(1, int(side // 2))
    cells = np.array(_summits(smooth, reach), int).reshape(-1, values.ndim)
    heights = maximum_filter(values, 2 * reach + 1)[tuple(cells.T)]
    cells, heights = cells[heights >= _FAINTEST], heights[heights >= _FAINTEST]
    order = np.argsort(-heights, kind="stable")
    return cells[order], heights[order]


def _summits(smooth: np.ndarray, reach: int) -> list[tuple[int, ...]]:
    """Peaks that a valley separates from higher ones.

    Cells are added from the highest down, as when water falls. Where two islands meet, the lower
    summit is a peak of its own if it is far enough from the higher one, and the water stands lower
    than a share of it.
    """
    order = np.argsort(-smooth, axis=None, kind="stable")
    order = order[: int((smooth > _FAINTEST * smooth.max(initial=0)).sum())]
    cells = np.transpose(np.unravel_index(order, smooth.shape)).tolist()
    owner: dict[tuple[int, ...], int] = {}
    summit: list[int] = []
    found = []

    def root(island: int) -> int:
        while summit[island] < 0:
            island = -summit[island] - 1
        return island

    for number, cell in enumerate(map(tuple, cells)):
        level = smooth[cell]
        islands = sorted(
            {root(owner[n]) for n in _neighbours(cell) if n in owner}, key=lambda i: summit[i]
        )
        if not islands:
            owner[cell] = len(summit)
            summit.append(number)
            continue
        first = islands[0]
        owner[cell] = first
        for other in islands[1:]:
            high, low = (cells[summit[i]] for i in (first, other))
            apart = max(abs(a - b) for a, b in zip(high, low, strict=True))
            if apart > reach and level < _SADDLE * smooth[tuple(low)]:
                found.append(tuple(low))
            summit[other] = -first - 1
    return [*(tuple(cells[s]) for s in summit if s >= 0), *found]


def _neighbours(cell: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Cells beside a cell, also across corners."""
    return [
        tuple(a + b for a, b in zip(cell, step, strict=True))
        for step in product((-1, 0, 1), repeat=len(cell))
        if any(step)
    ]


def is_instance(probabilities: np.ndarray) -> np.ndarray:
    """Which peaks are more likely instances than not."""
    return probabilities >= _LEAST


def count_interval(probabilities: np.ndarray, relative_spread: float) -> tuple[int, float, float]:
    """Count peaks of such probabilities, and the ends of a 95 % interval of the number of instances.

    The interval encloses the number of peaks that are more likely than not and the sum of the
    probabilities of all. Beyond them it extends by 1.96 standard deviations of that sum, if peaks are
    instances independently of each other and some of them touch, and by three times the spread that
    comes from the choice of the shots, as a share of the number.
    """
    count, expected = int(is_instance(probabilities).sum()), float(probabilities.sum())
    variance = float((probabilities * (1 - probabilities)).sum()) + _OF_TOUCHING * count
    half = float(np.hypot(1.96 * np.sqrt(variance), 3 * relative_spread * max(count, expected)))
    return count, max(0.0, min(count, expected) - half), max(count, expected) + half
