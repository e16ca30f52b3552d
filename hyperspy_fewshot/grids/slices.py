"""Slices that select cells of a grid, or the data that they need."""

from collections.abc import Iterator

import numpy as np

Slices = tuple[slice, ...]


def within(have: Slices, want: Slices) -> Slices:
    """Slices that crop data that were read for `have` to `want`."""
    return tuple(
        slice(w.start - h.start, w.stop - h.start) for h, w in zip(have, want, strict=True)
    )


def around(windows: list[Slices]) -> Slices:
    """The smallest slices that hold several windows."""
    return tuple(
        slice(min(s.start for s in along), max(s.stop for s in along))
        for along in zip(*windows, strict=True)
    )


def single(location: tuple[int, ...]) -> Slices:
    """Slices that select one position."""
    return tuple(slice(i, i + 1) for i in location)


def shape_of(slices: Slices) -> tuple[int, ...]:
    """Shape of what the slices select."""
    return tuple(s.stop - s.start for s in slices)


def unmasked(block: Slices, mask: np.ndarray | None, size: int) -> Iterator[np.ndarray]:
    """Yield flat indices of the cells of a block that are not masked, at most `size` at a time."""
    index = np.arange(int(np.prod(shape_of(block))))
    if mask is not None:
        index = index[~mask[block].reshape(-1)]
    for start in range(0, len(index), size):
        yield index[start : start + size]
