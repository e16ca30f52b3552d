"""Accuracy against dose: the published image of SrTiO3 on Ge with thinned counts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hyperspy.api as hs
import numpy as np
from scipy import ndimage
from tasks import nearest_mean
from trials import balanced_accuracy

from hyperspy_fewshot import classify
from hyperspy_fewshot.grids.chips import ChipGrid

FACTORS = (1, 3, 10, 30, 100)
_FINE_STRIDE = 8


@dataclass(frozen=True, eq=False)
class Published:
    """An image with the support set and the prediction of a publication.

    Parameters
    ----------
    image
        Grey levels, integers.
    labels
        0: unknown, 1 to K: the classes; shape of the image.
    chip_size
        Side of a chip [px]; the chips do not overlap.
    support
        Row and column of the support chips of every class; the keys are labels.
    prediction
        Published label of every chip, shape (rows, columns).
    """

    image: np.ndarray
    labels: np.ndarray
    chip_size: int
    support: dict[int, list[tuple[int, int]]]
    prediction: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> "Published":
        """Read it from the folder of the task."""
        read = [
            json.loads((folder / f"{n}.json").read_text("utf-8")) for n in ("published", "meta")
        ]
        published, meta = read
        # The names of the publication are quoted in the names of the task.
        label = {
            name: next(i for i, full in enumerate(meta["classes"], start=1) if f'"{name}"' in full)
            for name in published["classes"]
        }
        return cls(
            image=np.load(folder / "image.npy"),
            labels=np.load(folder / "labels.npy"),
            chip_size=published["chip_px"],
            support={
                label[name]: [tuple(place) for place in places]
                for name, places in published["support_row_col"].items()
            },
            prediction=np.array([label[name] for name in published["classes"]])[
                np.array(published["published_prediction"])
            ],
        )

    def truth(self) -> np.ndarray:
        """Most frequent label of every query; 0: support, or at least half unlabelled."""
        (rows, columns), size = self.prediction.shape, self.chip_size
        chips = self.labels[: rows * size, : columns * size].reshape(rows, size, columns, size)
        counts = np.stack([(chips == k).sum((1, 3)) for k in sorted(self.support)])
        truth = np.array(sorted(self.support))[counts.argmax(axis=0)]
        truth[counts.sum(axis=0) <= size**2 / 2] = 0
        for places in self.support.values():
            truth[tuple(np.transpose(places))] = 0
        return truth

    def classified(self, encoder: Any, image: np.ndarray, stride: int) -> np.ndarray:
        """Label map of the image, thinned or not."""
        size = self.chip_size
        support = {
            str(k): [(size * column + size // 2, size * row + size // 2) for row, column in places]
            for k, places in sorted(self.support.items())
        }
        result = classify(
            hs.signals.Signal2D(image), support, encoder=encoder, chip_size=size, stride=stride,
            reject=False, show_progressbar=False,
        )  # fmt: skip
        return np.array(sorted(self.support))[result.labels.data]

    def classified_by_intensity(self, image: np.ndarray, stride: int) -> np.ndarray:
        """Label map from the mean of each chip alone."""
        means = ndimage.uniform_filter(image.astype(np.float32), self.chip_size)
        classes, size = sorted(self.support), self.chip_size
        places = [np.transpose(self.support[k]) * size + size // 2 for k in classes]
        queries = means[np.ix_(*self._centres(stride))]
        return np.array(classes)[nearest_mean(queries, [means[tuple(p)] for p in places])]

    def wrong_regions(self, labels: np.ndarray, stride: int) -> int:
        """Number of wrong regions of a label map, where chips hold one class only."""
        inside = eroded(self.labels, self.chip_size // 2)
        return count_wrong_regions(labels, inside[np.ix_(*self._centres(stride))])

    def _centres(self, stride: int) -> list[np.ndarray]:
        grid = ChipGrid((), self.image.shape, self.chip_size, stride)
        return [grid.locations(axis) for axis in (0, 1)]


def thin(counts: np.ndarray, factor: float) -> np.ndarray:
    """Keep each count with a probability of 1 / factor; seeded."""
    if factor == 1:
        return counts
    return np.random.default_rng(0).binomial(counts, 1 / factor).astype(counts.dtype)


def eroded(labels: np.ndarray, half: int) -> np.ndarray:
    """Labels where a square of 2 half + 1 pixels holds one class only; 0 elsewhere."""
    least, most = (
        f(labels, 2 * half + 1) for f in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    return np.where(least == most, labels, 0)


def count_wrong_regions(found: np.ndarray, truth: np.ndarray) -> int:
    """Number of connected regions, corners included, with a label other than the known truth."""
    return ndimage.label((truth > 0) & (found != truth), structure=np.ones((3, 3)))[1]


def header(published: Published, fine: bool) -> list[str]:
    """First line of the table, with the mean counts per pixel."""
    doses = [f"{published.image.mean() / factor:.3g}" for factor in FACTORS]
    return ["encoder", *doses, *(["wrong regions"] if fine else [])]


def rows(published: Published, encoders: list[tuple[str, Any]], fine: bool) -> Iterator[list[str]]:
    """Yield the balanced accuracy at every dose, and the wrong regions at full dose."""
    truth = published.truth()
    images = [thin(published.image, factor) for factor in FACTORS]
    methods = {name: partial(published.classified, encoder) for name, encoder in encoders}
    methods["intensity"] = published.classified_by_intensity
    for name, method in methods.items():
        maps = [method(image, published.chip_size) for image in images]
        cells = [name, *(_figure(labels, truth) for labels in maps)]
        if fine:
            labels = method(published.image, _FINE_STRIDE)
            cells.append(str(published.wrong_regions(labels, _FINE_STRIDE)))
        yield cells
    blanks = [""] * (len(FACTORS) - 1 + fine)
    yield ["published", _figure(published.prediction, truth), *blanks]


def _figure(labels: np.ndarray, truth: np.ndarray) -> str:
    found, judged = labels[: truth.shape[0], : truth.shape[1]], truth > 0
    return f"{balanced_accuracy(found[judged], truth[judged]):.3f}"
