"""Labelled data sets, and their embeddings as the package makes them."""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hyperspy.api as hs
import numpy as np

from hyperspy_fewshot import FewShotResult, classify, get_encoder, list_encoders, queries
from hyperspy_fewshot.chips import ChipGrid
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.learning import _independent
from hyperspy_fewshot.locate import Entry
from hyperspy_fewshot.positions import PositionGrid


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled data set.

    Parameters
    ----------
    name
        Folder of the set and folder of the task.
    kind
        What the package calls its items: "image", "pattern" or "spectrum".
    signal
        The data.
    labels
        0 unknown, 1 to K the classes; shape of the image or the scan.
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
        """What the trial prescribes to the package."""
        if self.kind != "image":
            return {}
        return {"chip_size": self.chip_size, "stride": self.chip_size // 4}

    def standardised(self) -> "Task":
        """The same with median 0 and a 1-99 % range of 1.

        Images of another microscope, detector or bit depth share no scale of
        grey levels.
        """
        data = self.signal.data.astype(np.float32)
        low, middle, high = np.percentile(data, (1, 50, 99))
        return replace(self, signal=hs.signals.Signal2D((data - middle) / (high - low)))

    def names_that_count(self, labels: np.ndarray) -> tuple[str, ...]:
        """Classes of at least 1 % of the area and 30 of these labels."""
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
        What was embedded.
    embeddings
        Shape (rows, columns, d).
    labels
        True labels of the queries, shape (rows, columns).
    grid
        Where the queries lie.
    result
        Of a classification from any support: it holds what does not depend on
        the support, the fitted encoder and the centre.
    reach
        Queries so many cells away from a support position, or nearer, share
        its data.
    """

    task: Task
    embeddings: np.ndarray
    labels: np.ndarray
    grid: ChipGrid | PositionGrid
    result: FewShotResult
    reach: int

    @classmethod
    def of(cls, task: Task, encoder: Any, **options: Any) -> "Embedded":
        """Embed a task with an encoder that is fitted to it."""
        # Any two support positions do: what is wanted does not depend on them.
        places = [np.argwhere(task.labels == k)[0] for k in np.unique(task.labels)[-2:]]
        support = {str(i): tuple(place[::-1].tolist()) for i, place in enumerate(places)}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "With one example")
            return cls._of_result(
                task, _lazily(task, support, encoder=encoder, **task.options, **options)
            )

    def reused_on(self, task: Task) -> "Embedded":
        """Embed another image with what was learnt on this one."""
        return self._of_result(task, _lazily(task, self.result))

    @classmethod
    def _of_result(cls, task: Task, result: FewShotResult) -> "Embedded":
        settings, shape = result.classifier.setup, task.labels.shape
        embeddings = result.embeddings.data.compute()
        if task.kind == "image":
            margin = settings.encoder.margin(settings.chip_size) if settings.encoder.dense else 0
            grid = ChipGrid((), shape, settings.chip_size, settings.stride, margin)
            cells = [
                np.minimum(grid.centres(axis).astype(int), size - 1)
                for axis, size in enumerate(shape)
            ]
            # What is half a chip away, or more, is judged.
            reach = (settings.chip_size // 2 - 1) // settings.stride
        else:
            grid = PositionGrid(
                shape, settings.item_shape, settings.context, smoothing=settings.smoothing
            )
            cells, reach = [np.arange(size) for size in shape], settings.context // 2
        return cls(
            task=task,
            embeddings=embeddings,
            labels=task.labels[np.ix_(*cells)],
            grid=grid,
            result=result,
            reach=reach,
        )

    @property
    def encoder(self) -> Encoder:
        """The encoder as it was fitted."""
        return self.result.classifier.setup.encoder

    @property
    def centre(self) -> np.ndarray:
        """Mean embedding of the data set that was learnt on."""
        return self.result.classifier.centre

    def truth(self, names: tuple[str, ...]) -> np.ndarray:
        """Index among these names of the true class of every query; -1: none of them."""
        index = [-1, *(names.index(n) if n in names else -1 for n in self.task.class_names)]
        return np.array(index)[self.labels]

    def support(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embed support examples as :func:`hyperspy_fewshot.classify` does.

        Parameters
        ----------
        cells
            Where they lie on the grid, shape (n, 2).

        Returns
        -------
        embeddings : numpy.ndarray
            Shape (n or 8 n, d).
        examples : numpy.ndarray
            Which example each belongs to.
        """
        places, data = self._places(cells), self.task.signal.data
        found, examples = [], []
        for number, place in enumerate(map(tuple, places)):
            region = data[self.grid.region_at(place)]
            found.append(queries.embed_at(self.encoder, self.grid, [region], [place], None, None))
            examples += [number] * len(found[-1])
        return np.concatenate(found), np.array(examples)

    def entries(self, cells: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entry of every example, and class of every entry: those that overlap count as one."""
        places = self._places(cells)
        examples = [
            Entry(int(k), locations=p[np.newaxis]) for p, k in zip(places, classes, strict=True)
        ]
        return _independent(examples, self.grid)

    def _places(self, cells: np.ndarray) -> np.ndarray:
        """Positions in the data, shape (n, 2), of cells of the grid."""
        if isinstance(self.grid, PositionGrid):
            return cells
        return np.column_stack([self.grid.centre_pixels(axis)[cells[:, axis]] for axis in (0, 1)])


def _lazily(task: Task, support: Any, **options: Any) -> FewShotResult:
    return classify(task.signal, support, lazy_output=True, show_progressbar=False, **options)


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
    """Names and encoders for a kind of data; without names all that are bundled."""
    for name in names or list_encoders(kind):
        bundled = name in list_encoders()
        encoder = get_encoder(name, **({} if bundled else options))
        # What timm has is for images, as its input is.
        if kind in encoder.kinds and not (kind == "spectrum" and name.startswith("timm:")):
            yield encoder.name, encoder
