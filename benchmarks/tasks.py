"""Labelled data sets, and the methods that are tried on them."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import hyperspy.api as hs
import numpy as np
from scipy import ndimage

from hyperspy_fewshot import EmbeddingMap, embed, get_encoder, list_encoders
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.encoders import Encoder, default_encoder

Predictions = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled data set.

    Parameters
    ----------
    name
        Folder of the set and folder of the task, such as "pychip/moo3".
    kind
        "image", "pattern" or "spectrum".
    signal
        The data.
    labels
        0: unknown, 1 to K: the classes; shape of the image or the scan.
    class_names
        Names of the K classes.
    chip_size
        Of images [px]; None for the others.
    """

    name: str
    kind: str
    signal: hs.signals.BaseSignal
    labels: np.ndarray
    class_names: tuple[str, ...]
    chip_size: int | None

    @classmethod
    def load(cls, folder: Path) -> "Task":
        """Read a task from its folder."""
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        labels, name = np.load(folder / "labels.npy"), "/".join(folder.parts[-2:])
        is_image = (folder / "image.npy").exists()
        data = np.load(folder / ("image.npy" if is_image else "data.npy"))
        if data.ndim == 3:
            signal = hs.signals.Signal1D(data)
            signal.set_signal_type("EDS_TEM" if "eds" in name else "EELS")
        else:
            signal = hs.signals.Signal2D(data)
        return cls(
            name=name,
            kind={2: "image", 3: "spectrum", 4: "pattern"}[data.ndim],
            signal=signal,
            labels=labels,
            class_names=tuple(meta["classes"]),
            chip_size=meta["trivial_baseline_chip"] if is_image else None,
        )

    @property
    def options(self) -> dict[str, int]:
        """Chip size and stride of the task; nothing for spectra and patterns."""
        if self.kind != "image":
            return {}
        return {"chip_size": self.chip_size, "stride": self.chip_size // 4}

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the queries, where support examples are drawn, too.

        In images, the centres of cells of a quarter of the chip size: of the two pixels there, the
        one whose chip is that of the cell.
        """
        step = self.options.get("stride", 1)
        rows, columns = (
            np.minimum(np.arange(0, size, step) + step // 2, size - 1) for size in self.labels.shape
        )
        return rows, columns

    def reach(self, contexts: Iterable[int]) -> int:
        """Rows and columns of queries up to which a query shares data with an example.

        In images, up to half the chip size of the task, for all methods alike; in scans, as far as
        the widest context reaches.
        """
        if self.kind != "image":
            return max(contexts) // 2
        return (self.chip_size // 2 - 1) // self.options["stride"]

    def truth(self, names: Sequence[str]) -> np.ndarray:
        """Index among these names of the true class of every query; -1: none of them."""
        index = [-1, *(names.index(n) if n in names else -1 for n in self.class_names)]
        return np.array(index)[self.labels[np.ix_(*self.places)]]

    def examples(self, cells: np.ndarray) -> list[tuple[int, int]]:
        """Positions (x, y) of queries that are given by their index, shape (n, 2)."""
        rows, columns = self.places
        return [(int(columns[j]), int(rows[i])) for i, j in cells]

    def standardised(self) -> "Task":
        """Return the task with a median of 0 and a range of 1 from the 1st to the 99th percentile.

        Images from different microscopes, detectors or bit depths have no
        common scale of grey levels.
        """
        data = self.signal.data.astype(np.float32)
        low, middle, high = np.percentile(data, (1, 50, 99))
        return replace(self, signal=hs.signals.Signal2D((data - middle) / (high - low)))

    def names_that_count(self) -> tuple[str, ...]:
        """Classes that cover at least 1 % of the area and are the truth of at least 30 queries."""
        labels = self.labels[np.ix_(*self.places)]
        return tuple(
            name
            for k, name in enumerate(self.class_names, start=1)
            if (labels == k).sum() >= 30 and (self.labels == k).mean() >= 0.01
        )


@dataclass(frozen=True, eq=False)
class Embedded:
    """A task that an encoder has embedded.

    Parameters
    ----------
    task
        The data and their labels.
    embedding_map
        The embeddings of all cells, computed.
    """

    task: Task
    embedding_map: EmbeddingMap

    @classmethod
    def of(cls, task: Task, encoder: Any, **options: Any) -> "Embedded":
        """Embed a task with an encoder that is fitted to it.

        The default encoder has its own chip size and stride, the others those of the task.
        """
        is_default = encoder is default_encoder(task.kind)
        settings = {} if is_default else {"encoder": encoder, **task.options}
        return cls(task, embed(task.signal, show_progressbar=False, **settings, **options))

    def reused_on(self, task: Task) -> "Embedded":
        """Embed another image with the recipe that was learnt on this one, at its grey levels."""
        found = embed(task.signal, show_progressbar=False, recipe=self.recipe, standardise=True)
        return Embedded(task, found)

    def predict(self, support: Mapping[str, np.ndarray], source: Self) -> Predictions:
        """Label all queries from examples on the same image, or on the one that gave the recipe.

        Parameters
        ----------
        support
            Indices of the examples among the queries of the source, shape (n, 2), by the name of
            the class.
        source
            Where the examples are.

        Returns
        -------
        tuple of numpy.ndarray
            Label and confidence of every query, as a user finds them at its pixel.
        """
        examples = {name: source.task.examples(cells) for name, cells in support.items()}
        with warnings.catch_warnings():
            # About few examples.
            warnings.simplefilter("ignore", UserWarning)
            result = source.embedding_map.classify(examples, False, show_progressbar=False)
            if source is not self:
                result = self.embedding_map.classify(result, show_progressbar=False)
        stride = self.recipe.grid.stride
        pixels, cells = (
            np.ix_(*(places // step for places in self.task.places)) for step in (1, stride)
        )
        return result.labels_at_pixels().data[pixels], result.confidence.data[cells]

    @property
    def recipe(self) -> Recipe:
        """What was learnt of the data without labels."""
        return self.embedding_map.recipe

    @property
    def setting(self) -> str:
        """Chip size or context."""
        return f"{'chip' if self.task.chip_size else 'context'} {self.side}"

    @property
    def side(self) -> int:
        """Chip size or context."""
        return self.recipe.side


@dataclass(frozen=True, eq=False)
class Intensity:
    """The plainest method for images: the class whose mean is nearest to that of the chip.

    Parameters
    ----------
    task
        An image and its labels.
    means
        Mean of the chip around every query.
    """

    task: Task
    means: np.ndarray

    @classmethod
    def of(cls, task: Task) -> "Intensity":
        """Take the mean of the chips of a task."""
        means = ndimage.uniform_filter(task.signal.data.astype(np.float64), task.chip_size)
        return cls(task, means[np.ix_(*task.places)])

    @property
    def setting(self) -> str:
        """Chip size."""
        return f"chip {self.side}"

    @property
    def side(self) -> int:
        """Chip size."""
        return self.task.chip_size

    def predict(self, support: Mapping[str, np.ndarray], source: Self) -> Predictions:
        """Label all queries as :meth:`Embedded.predict` does; the confidence is NaN."""
        shots = [source.means[tuple(cells.T)] for cells in support.values()]
        labels = nearest_mean(self.means, shots)
        return labels, np.full(labels.shape, np.nan)


Method = Embedded | Intensity


def nearest_mean(values: np.ndarray, examples: Sequence[np.ndarray]) -> np.ndarray:
    """Index of the class whose examples have the mean nearest to each value."""
    means = np.array([shots.mean() for shots in examples])
    return abs(values[..., np.newaxis] - means).argmin(axis=-1)


def sqrt_spectrum(spectra: np.ndarray) -> np.ndarray:
    """Square root of the sum-normalised spectrum, the baseline of spectra."""
    spectra = spectra.astype(np.float32)
    return np.sqrt(np.maximum(spectra, 0) / np.maximum(spectra.sum(1, keepdims=True), 1e-9))


def raw_pixels(patterns: np.ndarray) -> np.ndarray:
    """All pixels, the baseline of patterns."""
    return patterns.reshape(len(patterns), -1).astype(np.float32)


def baseline(task: Task) -> tuple[str, Method]:
    """Name and the plainest method for a task."""
    if task.kind == "image":
        return "intensity", Intensity.of(task)
    encoder = {"spectrum": sqrt_spectrum, "pattern": raw_pixels}[task.kind]
    return encoder.__name__.replace("_", " "), Embedded.of(task, encoder, context=1)


def encoders_for(kind: str, names: list[str], **options: Any) -> Iterator[tuple[str, Encoder]]:
    """Yield names and encoders for a kind of data; without names, all bundled ones."""
    for name in names or list_encoders(kind):
        bundled = name in list_encoders()
        encoder = get_encoder(name, **({} if bundled else options))
        # The networks of timm take images.
        if kind in encoder.kinds and not (kind == "spectrum" and name.startswith("timm:")):
            yield encoder.name, encoder
