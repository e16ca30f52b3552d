"""The fair trial: draw support examples, classify all other queries, and score the labels."""

from collections.abc import Sequence

import numpy as np
from tasks import Method


def trial(
    sources: Sequence[Method],
    targets: Sequence[Method],
    shots: Sequence[int],
    n: int,
    reach: int | None = None,
) -> np.ndarray:
    """Balanced accuracy and calibration error of every draw.

    Draws depend on the seed and on the truth alone, so that they are the same for all methods.

    Parameters
    ----------
    sources
        Where support examples come from; the draws take them in turn.
    targets
        Where the queries are, in the same order. The same object as its source where support and
        queries share the data.
    shots
        Numbers of shots; the examples of fewer shots are among those of more.
    n
        Number of draws.
    reach
        Queries at most so many rows and columns of queries away from an example are left out;
        None: no queries.

    Returns
    -------
    numpy.ndarray
        Shape (n, number of shots, 2).
    """
    pairs = list(zip(sources, targets, strict=True))
    return np.array([_judge(*pairs[seed % len(pairs)], shots, seed, reach) for seed in range(n)])


def _judge(
    source: Method, target: Method, shots: Sequence[int], seed: int, reach: int | None
) -> list[tuple[float, float]]:
    names = target.task.names_that_count()
    names = tuple(n for i, n in enumerate(names) if (source.task.truth(names) == i).any())
    truth = target.task.truth(names)
    drawn = draw(source.task.truth(names), len(names), max(shots), seed)
    figures = []
    for count in shots:
        cells = [places[:count] for places in drawn]
        keep = truth >= 0
        if reach is not None:
            keep &= queries(keep.shape, np.concatenate(cells), reach)
        found, confidence = target.predict(dict(zip(names, cells, strict=True)), source)
        error = calibration_error(confidence[keep], (found == truth)[keep])
        figures.append((balanced_accuracy(found[keep], truth[keep]), error))
    return figures


def draw(truth: np.ndarray, k: int, shots: int, seed: int) -> list[np.ndarray]:
    """Draw support positions for every class, each array of shape (shots, 2)."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.argwhere(truth == i))[:shots] for i in range(k)]


def queries(shape: tuple[int, int], support: np.ndarray, reach: int) -> np.ndarray:
    """Cells that are more than `reach` cells away from every support position."""
    keep = np.ones(shape, bool)
    for row, column in support:
        near = (slice(max(i - reach, 0), i + reach + 1) for i in (row, column))
        keep[tuple(near)] = False
    return keep


def balanced_accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes of the fraction of their queries with the right label."""
    return float(np.mean([(found == truth)[truth == k].mean() for k in np.unique(truth)]))


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width; NaN without confidence."""
    if np.isnan(confidence).any():
        return float("nan")
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (index == i).mean() * abs(confidence[index == i].mean() - right[index == i].mean())
        for i in np.unique(index)
    ]
    return float(sum(gaps))
