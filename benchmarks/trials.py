"""The fair trial: draw support examples, classify the other queries, count."""

import warnings
from collections.abc import Sequence

import numpy as np
from tasks import Embedded

from hyperspy_fewshot import FewShotClassifier


def trial(
    sources: Sequence[Embedded], targets: Sequence[Embedded], shots: Sequence[int], n: int
) -> np.ndarray:
    """Balanced accuracy and calibration error of every draw.

    Parameters
    ----------
    sources
        Where the support of a draw is taken, by turns.
    targets
        Where the queries are, embedded alike; the same object as its source
        where support and queries come from the same data.
    shots
        Numbers of shots; those of fewer shots are among those of more.
    n
        Number of draws.

    Returns
    -------
    numpy.ndarray
        Shape (n, number of shots, 2).
    """
    pairs = list(zip(sources, targets, strict=True))
    return np.array([_judge(*pairs[seed % len(pairs)], shots, seed) for seed in range(n)])


def _judge(
    source: Embedded, target: Embedded, shots: Sequence[int], seed: int
) -> list[tuple[float, float]]:
    names = target.task.names_that_count(target.labels)
    names = tuple(n for i, n in enumerate(names) if (source.truth(names) == i).any())
    drawn = draw(source.truth(names), len(names), max(shots), seed)
    owner = np.repeat(np.arange(len(names)), [len(c) for c in drawn])
    rank = np.concatenate([np.arange(len(c)) for c in drawn])
    cells = np.concatenate(drawn)
    embedded, examples = source.support(cells)
    figures = []
    for count in shots:
        chosen = np.flatnonzero(rank < count)
        wanted = np.isin(examples, chosen)
        groups, classes = source.entries(cells[chosen], owner[chosen])
        entries = groups[np.searchsorted(chosen, examples[wanted])]
        keep = target.truth(names) >= 0
        if source is target:
            keep &= queries(keep.shape, cells[chosen], source.reach)
        probabilities, found = predict(
            embedded[wanted], entries, classes, names, source.centre, target.embeddings[keep],
            blocks=source.encoder.blocks,
        )  # fmt: skip
        truth = target.truth(names)[keep]
        figures.append(
            (
                balanced_accuracy(found, truth),
                calibration_error(probabilities.max(axis=1), found == truth),
            )
        )
    return figures


def draw(truth: np.ndarray, k: int, shots: int, seed: int) -> list[np.ndarray]:
    """Support positions of every class, each of shape (shots, 2)."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.argwhere(truth == i))[:shots] for i in range(k)]


def queries(shape: tuple[int, int], support: np.ndarray, reach: int) -> np.ndarray:
    """Cells farther than `reach` from every support position."""
    keep = np.ones(shape, bool)
    for row, column in support:
        near = (slice(max(i - reach, 0), i + reach + 1) for i in (row, column))
        keep[tuple(near)] = False
    return keep


def predict(
    support: np.ndarray,
    entries: np.ndarray,
    entry_classes: np.ndarray,
    names: tuple[str, ...],
    centre: np.ndarray,
    embeddings: np.ndarray,
    blocks: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) and labels (n,) of embeddings (n, d).

    One number alone, such as the intensity, has no direction: the nearest mean
    of a class decides, and there are no probabilities.
    """
    if support.shape[1] == 1:
        classes = entry_classes[entries]
        means = [support[classes == k, 0].mean() for k in range(len(names))]
        found = abs(embeddings - np.array(means)).argmin(axis=1)
        return np.full((len(embeddings), len(names)), np.nan), found
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "With one example")
        classifier = FewShotClassifier.fit(
            support, entries, entry_classes, names, centre=centre, blocks=blocks, reject=False
        )
    packed = classifier.predict(embeddings)
    return packed[:, :-2], packed[:, -2].astype(int)


def balanced_accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes of the share that is right."""
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
