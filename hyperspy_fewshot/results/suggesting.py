"""Where one more example helps most."""

from typing import Any

import numpy as np

from hyperspy_fewshot.decision.suggestions import typical_queries
from hyperspy_fewshot.statistics.intervals import beside_others

# Queries among which places are chosen.
_MOST_CANDIDATES = 1500
# The weight of doubt rises from 0 with two shots a class to this power.
_HIGHEST_POWER = 2.0


def suggested(result: Any, n: int) -> list[tuple[int, ...]]:
    """Positions of n queries of a result that would help most as examples."""
    embedding_map, classifier = result.embedding_map, result.classifier
    if embedding_map is None:
        raise ValueError(
            "A loaded result does not hold its embeddings. Classify a saved embedding map instead: "
            "EmbeddingMap.load(path, signal=s).classify(result.support)."
        )
    result.compute()
    cells, embeddings = embedding_map.cells(_MOST_CANDIDATES)
    centred = (embeddings - classifier.centre).astype(np.float64)
    chosen = typical_queries(
        centred,
        classifier.shot_means.astype(np.float64),
        _forbidden(result, cells, n),
        _doubts(classifier, embeddings),
        n,
    )
    return [result.domain.position_of(cells[i]) for i in chosen]


def _doubts(classifier: Any, embeddings: np.ndarray) -> np.ndarray:
    """Weight of each query: 1 with two shots a class or fewer, its doubt with many."""
    probabilities = np.sort(classifier.predict(embeddings)[:, :-2], axis=1)
    doubt = 1 - (probabilities[:, -1] - probabilities[:, -2])
    power = _HIGHEST_POWER * max(0.0, 1 - 2 / np.mean(classifier.shots))
    return np.power(doubt.astype(np.float64), power)


def _forbidden(result: Any, cells: np.ndarray, n: int) -> np.ndarray:
    """Which cells hold an example, belong to the audit, or lie at a boundary if n others do not."""
    taken = np.zeros(result.domain.grid.shape, bool)
    if not result.transferred:
        for _, cell in result.support.cells(result.domain):
            taken[cell] = True
    if result._audit is not None:
        taken.reshape(-1)[[cell for _, cell in result._audit.design.places]] = True
    held = taken[tuple(cells.T)]
    # What lies at a boundary is hard to judge.
    beside = beside_others(result.labels.data, len(result.domain.map_axes))[tuple(cells.T)]
    return held | beside if (~(held | beside)).sum() >= n else held
