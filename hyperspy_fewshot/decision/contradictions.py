"""Shots that the others contradict: most likely marked by mistake, or of the wrong class."""

from dataclasses import dataclass

import numpy as np

from hyperspy_fewshot.decision.ridge import fit_ridge
from hyperspy_fewshot.decision.vectors import l2_normalise, margins_of

# Contradiction above which a shot counts as wrong. Chosen on 63 public and simulated data sets with
# five shots a class: a wrong shot that costs 2 points of balanced accuracy is found in nine of ten
# cases, and one in twenty supports without a wrong shot has one that counts as wrong.
_WRONG = 1.3
# Of a class with fewer shots it cannot be said which of them is wrong.
_LEAST_SHOTS = 3
# Most shots that are found to be wrong, as a share of all, and most that are looked at, since the time
# grows with the cube of their number.
_MOST_WRONG, _MOST_SHOTS = 1 / 3, 256


@dataclass(frozen=True, eq=False)
class LeftOutShots:
    """Shots judged by classifiers that were fitted without them, one by one; all arrays (E,).

    Parameters
    ----------
    best
        Class of the highest score; -1 if the shot is the only one of its class.
    margins
        Score of the own class less the highest of the others; NaN likewise.
    wrong
        Whether the others contradict the shot.
    """

    best: np.ndarray
    margins: np.ndarray
    wrong: np.ndarray


def left_out_shots(
    vectors: np.ndarray, classes: np.ndarray, weights: np.ndarray | None, bias: float
) -> LeftOutShots:
    """Judge shots given as centred mean embeddings (E, d) of such classes (E,).

    The shot of lowest margin is looked at first. Three margins are added up: how much more it
    resembles another class, how well it would fit in there, and how much nearer its nearest shot of
    another class is than that of its own. If the sum is too large it is set aside, and the next one
    is looked at without it.
    """
    weighted = vectors if weights is None else vectors * weights
    scores = _left_out_scores(weighted, classes, bias)
    wrong = np.zeros(len(classes), bool)
    units = l2_normalise(vectors)
    kept, left = np.arange(len(classes)), scores
    for _ in range(int(_MOST_WRONG * len(classes)) if len(classes) <= _MOST_SHOTS else 0):
        index = _contradicted(weighted[kept], units[kept], classes[kept], left, bias)
        if index is None:
            break
        wrong[kept[index]] = True
        kept = np.delete(kept, index)
        left = _left_out_scores(weighted[kept], classes[kept], bias)
    known = ~np.isnan(scores[:, 0])
    best = np.where(known, np.nan_to_num(scores).argmax(axis=1), -1)
    return LeftOutShots(best, margins_of(scores, classes), wrong)


def _left_out_scores(weighted: np.ndarray, classes: np.ndarray, bias: float) -> np.ndarray:
    """Scores (E, K) of shots that were left out; NaN for the only one of a class."""
    found = fit_ridge(weighted, np.arange(len(classes)), classes, bias).left_out
    scores = np.full((len(classes), classes.max() + 1), np.nan)
    scores[found.shots] = found.scores
    return scores


def _contradicted(
    weighted: np.ndarray, units: np.ndarray, classes: np.ndarray, scores: np.ndarray, bias: float
) -> int | None:
    """Number of the shot that the others contradict most, by left-out scores; None if they do not."""
    margins = margins_of(scores, classes)
    margins[np.bincount(classes)[classes] < _LEAST_SHOTS] = np.nan
    if np.isnan(margins).all() or np.nanmin(margins) >= 0:
        return None
    i = int(np.nanargmin(margins))
    moved = classes.copy()
    moved[i] = scores[i].argmax()
    # Another class may have lost its last shot: classes are numbered anew.
    _, moved = np.unique(moved, return_inverse=True)
    fits = margins_of(_left_out_scores(weighted, moved, bias), moved)[i]
    alike = units @ units[i]
    alike[i] = -np.inf
    nearer = alike[classes != classes[i]].max() - alike[classes == classes[i]].max()
    return i if -margins[i] + np.nan_to_num(fits) + nearer > _WRONG else None
