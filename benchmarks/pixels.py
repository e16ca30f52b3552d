"""Every labelled pixel judged: the package and a pixel classifier, from the same clicks or strokes.

Clicks are five positions of each class, half a chip of the task inside it, or as deep as it goes.
They are given to the package as positions, and to the pixel classifier as squares of 5 x 5 px.
Strokes are wiggly lines through the clicks, 3 px wide and about a chip long, inside the chips around
the clicks. Each of their pixels has its true label, so that a boundary cuts a stroke into pieces of
several classes. They are given to the package as a label map, and to the pixel classifier as they
are. The package has all its defaults and ``reject=False``.

The pixel classifier is what Weka and ilastik do: a random forest on the intensity, the gradient and
the eigenvalues of the Hessian after Gaussian filters of 1 to 16 px.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import depth, draw
from tasks import Task

from hyperspy_fewshot import SupportSet

TASKS = (
    "ai4stem/fe_bcc_gb",
    "isbi2012/00",
    "nasa_superalloy/difftest_lshr_15kx_3kv_0",
    "nasa_superalloy/spot2_0d_4",
    "pychip/moo3",
    "temul/au_np",
)
FIGURES = ("accuracy", "mean IoU", "fraction error [points]", "accuracy near", "accuracy far")
# Pixels at most so far from another label, along an axis, are near a boundary.
_NEAR = 4
_SHOTS = 5
_CLICK = 5
# Span and amplitude of a stroke, in chips, and the number of its waves.
_SPAN, _AMPLITUDE, _PERIODS = 0.85, 0.08, 1


@dataclass(frozen=True, eq=False)
class Scene:
    """An image of which every pixel is judged that has a label.

    Parameters
    ----------
    task
        The image.
    truth
        Class of every pixel, -1 where it is unknown.
    depth
        Distance [px] along an axis from every pixel to the nearest one with another label.
    """

    task: Task
    truth: np.ndarray
    depth: np.ndarray

    @classmethod
    def of(cls, task: Task) -> "Scene":
        """Measure how far the pixels of a task are from boundaries."""
        truth = task.labels.astype(int) - 1
        return cls(task, truth, depth(truth))

    def clicks(self, seed: int) -> list[np.ndarray]:
        """Draw the clicks of every class, arrays of rows and columns, shape (n, 2)."""
        places = self.task.places
        cells, k = np.ix_(*places), len(self.task.class_names)
        reach = self.task.chip_size // 2 + 1
        drawn = draw(self.truth[cells], self.depth[cells], k, _SHOTS, seed, reach)
        return [np.stack([axis[i] for axis, i in zip(places, c.T, strict=True)], 1) for c in drawn]

    def strokes(self, clicks: list[np.ndarray], seed: int) -> np.ndarray:
        """Label map of strokes through the clicks: 0 unlabelled, 1 to K the true classes."""
        rng, marked = np.random.default_rng(seed), np.zeros(self.truth.shape, bool)
        for place in np.concatenate(clicks):
            marked |= stroke(place, self.task.chip_size, self.truth.shape, rng)
        return np.where(marked, self.truth + 1, 0)

    def squares(self, clicks: list[np.ndarray]) -> np.ndarray:
        """Label map of squares around the clicks, each of the class that was clicked."""
        labels = np.zeros(self.truth.shape, int)
        for k, places in enumerate(clicks, start=1):
            for row, column in places:
                labels[_around(row, _CLICK), _around(column, _CLICK)] = k
        return labels

    def figures(self, found: np.ndarray) -> list[float]:
        """Figures of a label map at all pixels, in the order of ``FIGURES``."""
        known = self.truth >= 0
        found, truth, near = found[known], self.truth[known], self.depth[known] <= _NEAR
        right, k = found == truth, len(self.task.class_names)
        hits, true = (np.bincount(t, minlength=k) for t in (truth[right], truth))
        counts = np.bincount(found[found >= 0], minlength=k)
        return [
            right.mean(),
            (hits / (true + counts - hits)).mean(),
            100 * abs(counts - true).mean() / len(truth),
            right[near].mean(),
            right[~near].mean(),
        ]


def _around(centre: int, side: int) -> slice:
    return slice(max(centre - side // 2, 0), centre - side // 2 + side)


def stroke(
    place: np.ndarray, chip_size: int, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Mask of a wiggly line, 3 px wide, through a place and inside the chip around it."""
    steps = np.linspace(-0.5, 0.5, 8 * chip_size)
    phase, angle = rng.uniform(0, 2 * np.pi, 2)
    swing = np.sin(2 * np.pi * _PERIODS * steps + phase) - np.sin(phase)
    along, across = _SPAN * chip_size * steps, _AMPLITUDE * chip_size * swing
    turned = (
        along * np.cos(angle) - across * np.sin(angle),
        along * np.sin(angle) + across * np.cos(angle),
    )
    mask = np.zeros(shape, bool)
    line = []
    for offset, centre, size in zip(turned, place, shape, strict=True):
        # The chip, the image, and one pixel for the width of the line.
        low = max(centre - chip_size // 2, 0) + 1
        high = min(centre - chip_size // 2 + chip_size, size) - 2
        line.append(np.clip(np.rint(centre + offset).astype(int), low, high))
    for row, column in zip(*line, strict=True):
        mask[_around(row, 3), _around(column, 3)] = True
    return mask


@dataclass(frozen=True, eq=False)
class Forest:
    """A random forest on the features of single pixels.

    Parameters
    ----------
    features
        Shape (rows, columns, number of features).
    """

    features: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> "Forest":
        """Compute the features of an image."""
        from skimage.feature import multiscale_basic_features

        features = multiscale_basic_features(
            image, intensity=True, edges=True, texture=True, sigma_min=1, sigma_max=16
        )
        return cls(features)

    def predict(self, labels: np.ndarray) -> np.ndarray:
        """Class of every pixel from a label map: 0 unlabelled, 1 to K the classes."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            n_estimators=100, class_weight="balanced", n_jobs=2, random_state=0
        )
        forest.fit(self.features[labels > 0], labels[labels > 0] - 1)
        flat = self.features.reshape(-1, self.features.shape[-1])
        return forest.predict(flat).reshape(labels.shape)


def _classified(task: Task, support: SupportSet) -> np.ndarray:
    with warnings.catch_warnings():
        # About few examples.
        warnings.simplefilter("ignore", UserWarning)
        result = task.signal.fewshot_classify(support, reject=False, show_progressbar=False)
    return result.labels_at_pixels().data


def measure(task: Task, draws: int) -> dict[tuple[str, str], np.ndarray]:
    """Figures and seconds of every draw, shape (draws, 6), by what is marked and by the method."""
    scene, names = Scene.of(task), task.class_names
    start = time.perf_counter()
    forest = Forest.of(task.signal.data)
    filtering = time.perf_counter() - start
    found: dict[tuple[str, str], list] = {}
    for seed in range(draws):
        clicks = scene.clicks(seed)
        strokes = scene.strokes(clicks, seed)
        examples = {
            name: [(int(x), int(y)) for y, x in places]
            for name, places in zip(names, clicks, strict=True)
        }
        supports = {
            "clicks": (SupportSet(examples), scene.squares(clicks)),
            "strokes": (SupportSet.from_label_map(strokes, names), strokes),
        }
        for marks, (support, labels) in supports.items():
            start = time.perf_counter()
            ours = _classified(task, support)
            between = time.perf_counter()
            theirs = forest.predict(labels)
            end = time.perf_counter()
            found.setdefault((marks, "fewshot_classify"), []).append(
                [*scene.figures(ours), between - start]
            )
            found.setdefault((marks, "forest"), []).append(
                [*scene.figures(theirs), filtering + end - between]
            )
    return {key: np.array(figures) for key, figures in found.items()}


def rows(folders: list[Path], draws: int) -> Iterator[list[str]]:
    """Yield the lines of the table: means over the draws of every task, and over the tasks."""
    yield ["task", "marks", "method", *FIGURES, "seconds"]
    means: dict[tuple[str, str], list] = {}
    for folder in folders:
        if "/".join(folder.parts[-2:]) in TASKS:
            task = Task.load(folder)
            for key, figures in measure(task, draws).items():
                means.setdefault(key, []).append(figures.mean(axis=0))
                yield [task.name, *key, *_shown(means[key][-1])]
    for key, figures in means.items():
        yield [f"mean of {len(figures)}", *key, *_shown(np.mean(figures, axis=0))]


def _shown(figures: np.ndarray) -> list[str]:
    digits = (3, 3, 1, 3, 3, 1)
    return [f"{value:.{n}f}" for value, n in zip(figures, digits, strict=True)]
