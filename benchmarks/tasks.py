"""Labelled data sets and their embeddings."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hyperspy.api as hs
import numpy as np

from hyperspy_fewshot import EmbeddingMap, SupportSet, embed, get_encoder, list_encoders
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.results.shots import ShotEmbedder, SupportEmbeddings


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
        """Settings that the trial fixes."""
        if self.kind != "image":
            return {}
        return {"chip_size": self.chip_size, "stride": self.chip_size // 4}

    def standardised(self) -> "Task":
        """Return the task with a median of 0 and a range of 1 from the 1st to the 99th percentile.

        Images from different microscopes, detectors or bit depths have no
        common scale of grey levels.
        """
        data = self.signal.data.astype(np.float32)
        low, middle, high = np.percentile(data, (1, 50, 99))
        return replace(self, signal=hs.signals.Signal2D((data - middle) / (high - low)))

    def names_that_count(self, labels: np.ndarray) -> tuple[str, ...]:
        """Classes that cover at least 1 % of the area and have at least 30 of these labels."""
        return tuple(
            name
            for k, name in enumerate(self.class_names, start=1)
            if (labels == k).sum() >= 30 and (self.labels == k).mean() >= 0.01
        )


@dataclass(frozen=True, eq=False)
class Embedded:
    """A task whose queries are embedded.

    Parameters
    ----------
    task
        The data and their labels.
    embedding_map
        The embeddings of all queries, computed.
    embedder
        Embeds support examples as a first call does, each of them once.
    labels
        True labels of the queries, shape (rows, columns).
    reach
        A query at most this many cells away from a support position shares
        data with it.
    """

    task: Task
    embedding_map: EmbeddingMap
    embedder: ShotEmbedder
    labels: np.ndarray
    reach: int

    @classmethod
    def of(cls, task: Task, encoder: Any, **options: Any) -> "Embedded":
        """Embed a task with an encoder that is fitted to it."""
        return cls._embed(task, encoder=encoder, **task.options, **options)

    def reused_on(self, task: Task) -> "Embedded":
        """Embed another image with the recipe that was learnt on this one."""
        return self._embed(task, recipe=self.recipe)

    @classmethod
    def _embed(cls, task: Task, **options: Any) -> "Embedded":
        found = embed(task.signal, show_progressbar=False, **options)
        grid = found.recipe.grid
        # A query of an image is judged if it is at least half a chip away.
        reach = (grid.side // 2 - 1) // grid.stride if task.chip_size else grid.side // 2
        rows, columns = (
            np.minimum(grid.centres(axis).astype(int), task.labels.shape[axis] - 1)
            for axis in (0, 1)
        )
        return cls(
            task=task,
            embedding_map=found,
            embedder=ShotEmbedder(found.recipe, found.domain, found.source),
            labels=task.labels[np.ix_(rows, columns)],
            reach=reach,
        )

    @property
    def embeddings(self) -> np.ndarray:
        """Shape (rows, columns, d)."""
        return self.embedding_map.embeddings.data

    @property
    def recipe(self) -> Recipe:
        """What was learnt of the data without labels."""
        return self.embedding_map.recipe

    @property
    def setting(self) -> str:
        """Chip size or context."""
        return f"{'chip' if self.task.chip_size else 'context'} {self.recipe.side}"

    def truth(self, names: tuple[str, ...]) -> np.ndarray:
        """Index among these names of the true class of every query; -1: none of them."""
        index = [-1, *(names.index(n) if n in names else -1 for n in self.task.class_names)]
        return np.array(index)[self.labels]

    def support(self, cells: Mapping[str, np.ndarray]) -> SupportEmbeddings:
        """Embed support examples as :func:`hyperspy_fewshot.classify` does.

        Parameters
        ----------
        cells
            Their cells, shape (n, 2), by the name of the class.
        """
        rows, columns = (self.recipe.grid.locations(axis).tolist() for axis in (0, 1))
        examples = {
            name: [(columns[column], rows[row]) for row, column in places]
            for name, places in cells.items()
        }
        return self.embedder.embed(SupportSet(examples), self.embeddings, show_progressbar=False)


def intensity(chips: np.ndarray) -> np.ndarray:
    """Mean intensity, the baseline of images."""
    return chips.mean((1, 2), dtype=np.float64)[:, np.newaxis]


def sqrt_spectrum(spectra: np.ndarray) -> np.ndarray:
    """Square root of the sum-normalised spectrum, the baseline of spectra."""
    spectra = spectra.astype(np.float32)
    return np.sqrt(np.maximum(spectra, 0) / np.maximum(spectra.sum(1, keepdims=True), 1e-9))


def raw_pixels(patterns: np.ndarray) -> np.ndarray:
    """All pixels, the baseline of patterns."""
    return patterns.reshape(len(patterns), -1).astype(np.float32)


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "image": intensity,
    "spectrum": sqrt_spectrum,
    "pattern": raw_pixels,
}


def encoders_for(kind: str, names: list[str], **options: Any) -> Iterator[tuple[str, Encoder]]:
    """Yield names and encoders for a kind of data; without names, all bundled ones."""
    for name in names or list_encoders(kind):
        bundled = name in list_encoders()
        encoder = get_encoder(name, **({} if bundled else options))
        # The networks of timm take images.
        if kind in encoder.kinds and not (kind == "spectrum" and name.startswith("timm:")):
            yield encoder.name, encoder
