"""Finding shots of a class that are not independent of each other."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from hyperspy_fewshot.support.locate import Shot

# Share of their data above which two shots depend on each other.
_SHARED = 0.5


def independent_shots(
    shots: Sequence[Shot], classes: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Join shots of a class that share more than half of their data.

    Leaving one of them out would not be a test, as long as the other one stays. `classes` (E,) are
    those of the shots, and `side` is that of the square of data that informs a label. Returns the
    group of each shot (E,), and the class of each group.

    A location is shared if its square has more than half of its area in common with that of a
    location of the other shot. Two shots depend on each other if more than half of the locations of
    the one that has fewer are shared. A shot belongs to the first one of its class that it depends
    on, if that one does not belong to another. So shots in a row do not become one, and shots that
    are added later do not change the groups before them.
    """
    groups = np.full(len(shots), -1)
    located = _Located(shots, classes, side) if any(_has_place(s) for s in shots) else None
    for i, shot in enumerate(shots):
        if groups[i] < 0:
            groups[i] = i
            if _has_place(shot):
                joined = located.dependent_on(i)
                groups[joined[groups[joined] < 0]] = i
    leaders, groups = np.unique(groups, return_inverse=True)
    return groups, classes[leaders]


def _has_place(shot: Shot) -> bool:
    """Whether a shot has locations; ready examples have none."""
    return shot.locations is not None


class _Located:
    """All locations of some shots, to be searched from one shot at a time.

    A list of all pairs of locations would be too long where many lie close together.
    """

    def __init__(self, shots: Sequence[Shot], classes: np.ndarray, side: int) -> None:
        self.side = side
        self.sizes = np.array([len(s.locations) if _has_place(s) else 0 for s in shots])
        self.owners = np.repeat(np.arange(len(shots)), self.sizes)
        self.ends = np.cumsum(self.sizes)
        places = np.concatenate([s.locations for s in shots if _has_place(s)]).astype(float)
        self.n_pooled = min(2, places.shape[1])
        # Scaling puts other classes, other frames and axes that are not pooled out of reach.
        places[:, : -self.n_pooled] *= side
        self.places = np.column_stack([side * classes[self.owners], places])
        self.tree = cKDTree(self.places)

    def dependent_on(self, leader: int) -> np.ndarray:
        """Shots that depend on a shot, itself included."""
        end = self.ends[leader]
        found = [self._sharing(place) for place in self.places[end - self.sizes[leader] : end]]
        if (self.owners[np.concatenate(found)] == leader).all():
            return np.array([leader])
        # How many locations of each shot the leader shares, and how many of the leader's it shares.
        theirs, n_theirs = _counted(self.owners[np.unique(np.concatenate(found))])
        own, n_own = _counted(np.concatenate([np.unique(self.owners[near]) for near in found]))
        # The same shots in both, in the same order.
        smaller = self.sizes[theirs] <= self.sizes[leader]
        share = np.where(smaller, n_theirs / self.sizes[theirs], n_own / self.sizes[leader])
        return own[share > _SHARED]

    def _sharing(self, place: np.ndarray) -> np.ndarray:
        """Numbers of the locations whose data are more than half those of a location."""
        near = np.array(self.tree.query_ball_point(place, self.side / 2, p=np.inf))
        apart = np.abs(self.places[near] - place)[:, -self.n_pooled :]
        return near[np.prod(1 - apart / self.side, axis=1) > _SHARED]


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and how often each occurs."""
    return np.unique(values, return_counts=True)
