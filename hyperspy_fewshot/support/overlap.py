"""Finding shots of a class that are not independent of each other."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hyperspy_fewshot.support.locate import Shot


def independent_shots(
    shots: Sequence[Shot], classes: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Join shots of a class that share much of their data.

    Leaving one of them out would not be a test, as long as the other one stays. `classes` (E,) are
    those of the shots, and `side` is that of the square of data that informs a label. Returns the
    group of each shot (E,), and the class of each group.
    """
    located = [i for i, shot in enumerate(shots) if shot.locations is not None]
    if not located:
        return np.arange(len(shots)), classes
    points = np.concatenate([shots[i].locations for i in located]).astype(float)
    owners = np.repeat(located, [len(shots[i].locations) for i in located])
    # Scaling puts other classes, other frames and axes that are not pooled out of reach.
    points[:, :-2] *= side
    points = np.column_stack([points, side * classes[owners]])
    pairs = owners[cKDTree(points).query_pairs((side - 0.5) / 2, p=np.inf, output_type="ndarray")]
    links = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(shots),) * 2)
    _, groups = connected_components(links, directed=False)
    return groups, classes[np.unique(groups, return_index=True)[1]]
