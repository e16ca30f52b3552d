"""Choosing few locations that stand for many."""

import numpy as np

# Locations among which the choice is made.
_MOST_JUDGED = 2**13


def spread_out(points: np.ndarray, spacing: float, least: int, most: int) -> np.ndarray:
    """Choose points (n, ndim) far from each other, in the order given.

    Beginning with the one nearest to the middle, the point that is farthest from those before is
    chosen next, until all others are nearer than `spacing` to one of them: at least `least`, at most
    `most` of them, if there are so many.
    """
    if len(points) > _MOST_JUDGED:
        judged = np.random.default_rng(0).choice(len(points), _MOST_JUDGED, replace=False)
        points = points[np.sort(judged)]
    places = points.astype(float)
    squares = ((places - places.mean(axis=0)) ** 2).sum(axis=1)
    chosen = [int(squares.argmin())]
    squares = ((places - places[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(most, len(points)):
        farthest = int(squares.argmax())
        if len(chosen) >= least and squares[farthest] < spacing**2:
            break
        chosen.append(farthest)
        squares = np.minimum(squares, ((places - places[farthest]) ** 2).sum(axis=1))
    return points[np.sort(chosen)]
