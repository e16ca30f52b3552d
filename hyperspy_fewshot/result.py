"""What a classification returns."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import dask.array as da
import numpy as np
from hyperspy.defaults_parser import preferences
from hyperspy.signal import BaseSignal
from hyperspy.signals import LazySignal1D
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from . import layout, overlay, plotting, saving, signals, storage
from .computing import compute
from .learning import Task
from .locate import frame_of
from .prototypes import MASKED, FewShotClassifier
from .resuming import Pass
from .statistics import Statistics, label_statistics
from .support import SupportSet


@dataclass(eq=False, repr=False)
class FewShotResult:
    """Label map, probabilities and statistics of a few-shot classification.

    Parameters
    ----------
    labels
        Label map: 0 to K - 1, -1 rejected, -2 masked.
    probabilities
        Probability of every class, class index as first navigation axis, data
        of shape ``(K, *nav, rows, columns)``; NaN where masked.
    confidence
        Probability of the label's class; NaN where rejected or masked.
    embeddings
        Embeddings of all queries, lazy; None after loading.
    classifier
        What was learnt; pass it as `support` for other data of the same kind.
    support
        The support set.
    geometry
        What the statistics need to know of the map.
    signal
        What was classified; None after loading.
    transferred
        Whether the classifier was learnt on other data, where the support set
        lies.
    """

    labels: BaseSignal
    probabilities: BaseSignal
    confidence: BaseSignal
    embeddings: BaseSignal | None
    classifier: FewShotClassifier
    support: SupportSet
    geometry: layout.Geometry
    signal: BaseSignal | None = None
    transferred: bool = False
    _statistics: Statistics | None = field(default=None, init=False)
    _pass: Pass | None = field(default=None, init=False)

    @classmethod
    def build(
        cls,
        task: Task,
        packed: da.Array,
        embeddings: da.Array,
        classifier: FewShotClassifier,
        support: SupportSet,
        transferred: bool,
    ) -> "FewShotResult":
        """Wrap what :meth:`FewShotClassifier.predict` gives for every block.

        Parameters
        ----------
        task
            What is classified.
        packed
            Shape (*grid.shape, K + 2): probabilities, label, confidence.
        embeddings
            Shape (*grid.shape, d).
        classifier, support
            What was learnt, and of what.
        transferred
            Whether the classifier was learnt on other data.
        """
        k, signal = len(classifier.class_names), task.signal
        axes = layout.map_axes(task.domain)
        metadata = layout.metadata_of(signal, "Few-shot labels of")
        metadata["FewShot"] = layout.provenance(classifier, support, transferred)
        labels = signals.build(packed[..., k].astype(np.int16), axes, True, metadata)
        labels.original_metadata.add_dictionary(signal.original_metadata.as_dictionary())
        probabilities = signals.build(
            da.moveaxis(packed[..., :k], -1, 0),
            [layout.class_axis(k), *axes],
            False,
            layout.metadata_of(signal, "Few-shot probabilities of"),
        )
        confidence = signals.build(
            packed[..., k + 1], axes, False, layout.metadata_of(signal, "Few-shot confidence of")
        )
        feature = {"name": "Embedding", "size": embeddings.shape[-1], "navigate": False}
        embedded = LazySignal1D(
            embeddings, axes=[*({**axis, "navigate": True} for axis in axes), feature]
        )
        n_masked = 0 if task.mask is None else int(task.mask.sum())
        result = cls(
            labels=labels,
            probabilities=probabilities,
            confidence=confidence,
            embeddings=embedded,
            classifier=classifier,
            support=support,
            geometry=layout.Geometry.of(task.domain, n_masked),
            signal=signal,
            transferred=transferred,
        )
        result._pass = Pass(task, packed)
        return result

    @property
    def _lazy(self) -> bool:
        return any(signal._lazy for signal in (self.labels, self.probabilities, self.confidence))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.classifier.class_names

    @property
    def statistics(self) -> Statistics:
        """Counts, fractions, areas, regions and confidence of every class.

        Computes a lazy result.
        """
        self.compute()
        return self._statistics

    @property
    def fractions(self) -> dict[str, float]:
        """Fraction of every class; computes a lazy result."""
        return self.statistics.fractions

    @property
    def fractions_signal(self) -> BaseSignal:
        """Fractions of a stack: class index as signal axis, over the frames.

        Raises
        ------
        ValueError
            If there is one map only.
        """
        frames = self.statistics.frames
        if not frames:
            raise ValueError("There is one map only; its fractions are result.fractions.")
        k = len(self.class_names)
        nav = [axis for axis in layout.axis_dictionaries(self.labels) if axis["navigate"]]
        data = np.empty((*(axis["size"] for axis in nav), k))
        for index, frame in frames.items():
            data[index] = list(frame.fractions.values())
        axis = {**layout.class_axis(k), "navigate": False}
        metadata = {"General": {"title": "Few-shot fractions"}}
        return signals.build(data, [*nav, axis], False, metadata)

    def compute(self, show_progressbar: bool | None = None) -> "FewShotResult":
        """Compute labels, probabilities and confidence, in place, in one pass.

        Parameters
        ----------
        show_progressbar
            Whether to show one; None follows HyperSpy's preferences.

        Returns
        -------
        FewShotResult
            This result. What is computed already is not computed again.

        Raises
        ------
        OSError
            If a chunk of the file cannot be read. Whatever stops the
            computation, the result stays lazy.
        """
        names = ("labels", "probabilities", "confidence")
        names = [name for name in names if getattr(self, name)._lazy]
        if names:
            if show_progressbar is None:
                show_progressbar = preferences.General.show_progressbar
            data = compute(
                *(getattr(self, name).data for name in names),
                show_progressbar=show_progressbar,
                what="Classifying",
            )
            for name, values in zip(names, data, strict=True):
                layout.make_eager(getattr(self, name), values)
        if self._statistics is None:
            self._statistics = self._make_statistics()
            table = layout.as_columns(self._statistics)
            self.labels.metadata.set_item("FewShot.statistics", table)
        return self

    def _make_statistics(self) -> Statistics:
        labels = self.labels.data
        unasked = int((labels == MASKED).sum()) - self.geometry.n_masked
        if unasked > 0:
            warnings.warn(
                f"{unasked} of {labels.size} queries hold NaN or infinite data; they are masked "
                f"(label {MASKED}).",
                stacklevel=4,
            )
        return label_statistics(
            labels,
            self.confidence.data,
            self.class_names,
            cell_areas=self.geometry.cell_areas,
            area_scale=self.geometry.area_scale,
            units=self.geometry.units,
            overlap=self.geometry.overlap,
            frames=labels.ndim - self.geometry.cell_areas.ndim,
        )

    def mask(self, name: str) -> BaseSignal:
        """Where a class is, as boolean signal; computes a lazy result.

        Parameters
        ----------
        name
            A class, or ``"rejected"`` or ``"masked"``.

        Returns
        -------
        hyperspy.signal.BaseSignal
            For spectra and patterns over the navigation space, so that
            ``s.decomposition(navigation_mask=~mask)`` uses this class alone;
            for images over the pixels of the image.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        values = dict(zip(self.class_names, range(len(self.class_names)), strict=True))
        values = {"rejected": -1, "masked": MASKED, **values}
        if name not in values:
            raise ValueError(f"There is no class {name!r}; classes are {list(self.class_names)}.")
        self.compute()
        whole = self.labels if self.geometry.stride is None else self.labels_at_pixels()
        axes = layout.axis_dictionaries(whole)
        if self.geometry.stride is None:
            axes = [{**axis, "navigate": True} for axis in axes]
        title = f"{name} of {self.labels.metadata.General.title}"
        return BaseSignal(
            whole.data == values[name], axes=axes, metadata={"General": {"title": title}}
        )

    def labels_at_pixels(self) -> BaseSignal:
        """Label map on the grid of the image itself; computes a lazy result.

        Every pixel has the label of the cell that it lies in. Maps over a
        navigation space have one label a position already.
        """
        self.compute()
        if self.geometry.stride is None:
            return self.labels.deepcopy()
        data = self.labels.data
        for axis, size in zip((-2, -1), self.geometry.image_shape, strict=True):
            data = np.repeat(data, self.geometry.stride, axis=axis)
            data = data.take(range(size), axis=axis)
        axes = layout.axis_dictionaries(self.labels)[:-2] + list(self.geometry.image_axes)
        metadata = self.labels.metadata.as_dictionary()
        return signals.build(data, axes, True, metadata)

    def class_signals(self, method: str = "mean") -> BaseSignal:
        """Mean or summed spectrum or pattern of every class.

        Reads the data once more; computes a lazy result.

        Parameters
        ----------
        method
            ``"mean"`` or ``"sum"``.

        Returns
        -------
        hyperspy.signal.BaseSignal
            Of the type of the original signal, with its metadata, the class
            index as navigation axis. A class without a position holds zeros.

        Raises
        ------
        ValueError
            If `method` is another, the data are images, or the result was
            loaded from a file, which does not hold the signal.
        """
        if method not in ("mean", "sum"):
            raise ValueError(f"method={method!r} must be 'mean' or 'sum'.")
        if self.signal is None:
            raise ValueError("A loaded result does not hold the signal; classify it again.")
        if self.geometry.stride is not None:
            raise ValueError(
                "class_signals is for spectra and patterns; use mask(name) to index an image."
            )
        self.compute()
        return layout.class_signals(self.signal, self.labels.data, self.class_names, method)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        image: np.ndarray | BaseSignal | None = None,
        alpha: float = 0.5,
        frame: int | float | tuple[int | float, ...] | None = None,
    ) -> Axes:
        """Draw the label map over the image, with legend and support.

        Computes a lazy result.

        Parameters
        ----------
        ax
            Where to draw; None makes a figure.
        image
            What to show under the labels, covering the same area; None: the
            image itself, or the sum over the signal when it is in memory.
        alpha
            Opacity of the labels over an image.
        frame
            Which map of several: by navigation index (ints) or calibrated
            value (floats), a tuple where there are more axes; None: the first.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            If there is no such frame.
        """
        self.compute()
        labels = self.labels.axes_manager
        frame = (0,) * labels.navigation_dimension if frame is None else frame
        index = frame_of(frame, labels.navigation_axes)
        if ax is None:
            _, ax = plt.subplots(figsize=(7.5, 5.5), layout="constrained")
        if image is None and self.signal is not None:
            image = layout.backdrop(self.signal, self.geometry, index)
        axes = layout.picture_axes(self.labels, self.geometry)
        plotting.draw_label_map(
            self.labels.data[index],
            self.class_names,
            labels.signal_axes,
            axes,
            ax=ax,
            image=image.data if isinstance(image, BaseSignal) else image,
            alpha=alpha,
        )
        ax.set_title(self.labels.metadata.General.title, parse_math=False)
        if not self.transferred:
            overlay.draw_support(
                ax,
                self.support,
                plotting.label_colours(len(self.class_names)).colors[2:],
                labels.navigation_axes,
                axes,
                index=index,
                chip_size=self.classifier.setup.chip_size,
            )
        return ax

    def save(self, path: str | Path, overwrite: bool | None = None) -> None:
        """Write everything but the data and the embeddings to one file.

        The file is a label map that ``hyperspy.api.load`` reads, too. It is
        written in a folder ``<path>.partial`` and renamed when it is whole; a
        file that it replaces stays until then.

        A lazy result is computed block by block into that folder, which an
        interruption leaves behind: saving the same classification there again,
        also in another session, computes the missing blocks only. What counts
        is that data, support, settings and versions are the same. With
        dask.distributed all workers need access to the folder.

        Parameters
        ----------
        path
            Ends in .hspy or .zspy.
        overwrite
            Whether to replace a file; None asks. If not, nothing is computed.

        Raises
        ------
        ValueError
            If the path ends otherwise, or the folder holds another
            classification that was interrupted.
        OSError
            If a chunk of the file cannot be read, or the disk is full. A note
            says what is kept in the folder.
        """
        path = Path(path).resolve()
        if not saving.may_write(path, overwrite):
            return
        with saving.replacing(self, path, preferences.General.show_progressbar) as file:
            storage.write(self.compute(), file)

    @classmethod
    def load(cls, path: str | Path) -> "FewShotResult":
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no result.
        """
        return cls(**storage.load(path))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.labels.data.shape))
        lazy = ", not computed" if self.labels._lazy else ""
        head = f"<FewShotResult, {len(self.class_names)} classes, {shape} labels{lazy}>"
        return head if self._statistics is None else f"{head}\n{self._statistics}"

    def _repr_html_(self) -> str:
        head = repr(self).splitlines()[0].strip("<>")
        table = "" if self._statistics is None else self._statistics._repr_html_()
        return f"<p>{head}</p>{table}"
