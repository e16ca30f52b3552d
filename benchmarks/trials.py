"""The fair trial: draw support examples, classify all other queries, and score the labels."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from tasks import Embedded

from hyperspy_fewshot import FewShotClassifier
from hyperspy_fewshot.results.shots import SupportEmbeddings


def trial(
    sources: Sequence[Embedded], targets: Sequence[Embedded], shots: Sequence[int], n: int
) -> np.ndarray:
    """Balanced accuracy and calibration error of every draw.

    Parameters
    ----------
    sources
        Where support examples come from; the draws take them in turn.
    targets
        Where the queries are, embedded with the recipe of the source. The same
        object as its source where support and queries share the data.
    shots
        Numbers of shots; the examples of fewer shots are among those of more.
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
    truth = target.truth(names)
    drawn = draw(source.truth(names), len(names), max(shots), seed)
    learnt = {"centre": source.recipe.centre, "feature_groups": source.recipe.feature_groups}
    figures = []
    for count in shots:
        cells = [places[:count] for places in drawn]
        keep = truth >= 0
        if source is target:
            keep &= queries(keep.shape, np.concatenate(cells), source.reach)
        support = source.support(dict(zip(names, cells, strict=True)))
        probabilities, found = predict(support, names, target.embeddings[keep], **learnt)
        error = calibration_error(probabilities.max(axis=1), found == truth[keep])
        figures.append((balanced_accuracy(found, truth[keep]), error))
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


def predict(
    support: SupportEmbeddings, names: tuple[str, ...], embeddings: np.ndarray, **learnt: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) and labels (n,) of embeddings (n, d).

    A single number, such as the intensity, has no direction. Then the nearest
    class mean decides, and the probabilities are NaN.
    """
    if embeddings.shape[1] == 1:
        classes = support.shot_classes[support.shots]
        means = [support.embeddings[classes == k, 0].mean() for k in range(len(names))]
        found = abs(embeddings - np.array(means)).argmin(axis=1)
        return np.full((len(embeddings), len(names)), np.nan), found
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "With one example")
        classifier = FewShotClassifier.fit(
            support.embeddings, support.shots, support.shot_classes, names, reject=False, **learnt
        )
    packed = classifier.predict(embeddings)
    return packed[:, :-2], packed[:, -2].astype(int)


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
