"""What a classification returns."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal
from matplotlib.axes import Axes

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.labels import MASKED, REJECTED
from hyperspy_fewshot.output import axes as output_axes
from hyperspy_fewshot.output import label_maps
from hyperspy_fewshot.output.class_signals import class_signals
from hyperspy_fewshot.output.metadata import as_columns, metadata_of, provenance
from hyperspy_fewshot.results import storage
from hyperspy_fewshot.results.audit import Audit
from hyperspy_fewshot.results.detections import Detections
from hyperspy_fewshot.results.drawing import draw
from hyperspy_fewshot.results.examples import Examples
from hyperspy_fewshot.results.pixels import pixel_labels
from hyperspy_fewshot.results.remarks import warn_of_labels
from hyperspy_fewshot.results.suggesting import suggested
from hyperspy_fewshot.statistics import Statistics, label_statistics
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.painting import label_image
from hyperspy_fewshot.support.support_set import SupportSet


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
    classifier
        What was learnt; pass it as `support` for other data of the same kind.
    support
        The support set.
    domain
        Where the queries lie.
    signal
        What was classified; None after loading.
    embedding_map
        The :class:`~hyperspy_fewshot.EmbeddingMap` that was classified; None
        after loading.
    transferred
        Whether the classifier was learnt on other data, where the support set
        lies.
    packed
        What a lazy result is computed from; None once it is computed.
    spread
        Standard deviation of the fraction of every class over the choice of
        the shots, shape (K,).
    examples
        How well each example agrees with the others; None if the classifier
        was learnt on other data.
    """

    labels: BaseSignal
    probabilities: BaseSignal
    confidence: BaseSignal
    classifier: FewShotClassifier
    support: SupportSet
    domain: Domain
    signal: BaseSignal | None = None
    embedding_map: Any = None
    transferred: bool = False
    packed: da.Array | None = None
    spread: np.ndarray | None = None
    examples: Examples | None = None
    _audit: Audit | None = None
    _statistics: Statistics | None = field(default=None, init=False)

    @classmethod
    def build(
        cls,
        packed: da.Array | np.ndarray,
        classifier: FewShotClassifier,
        support: SupportSet,
        domain: Domain,
        signal: BaseSignal | None,
        embedding_map: Any,
        transferred: bool,
    ) -> "FewShotResult":
        """Wrap what :meth:`FewShotClassifier.predict` returns for all queries.

        Parameters
        ----------
        packed
            Shape (*grid.shape, K + 2): probabilities, label, confidence.
        classifier, support
            What was learnt, and from what.
        domain, signal, embedding_map
            What was classified.
        transferred
            Whether the classifier was learnt on other data.
        """
        k, axes = len(classifier.class_names), output_axes.axes_of_map(domain)
        metadata = metadata_of(signal, "Few-shot labels")
        metadata["FewShot"] = provenance(classifier, support, transferred, embedding_map.recipe)
        labels, probabilities, confidence = _unpacked(packed, k)
        labels = label_maps.build(labels, axes, True, metadata)
        if signal is not None:
            labels.original_metadata.add_dictionary(signal.original_metadata.as_dictionary())
        return cls(
            labels=labels,
            probabilities=label_maps.build(
                probabilities,
                [output_axes.class_axis(k), *axes],
                False,
                metadata_of(signal, "Few-shot probabilities"),
            ),
            confidence=label_maps.build(
                confidence, axes, False, metadata_of(signal, "Few-shot confidence")
            ),
            classifier=classifier,
            support=support,
            domain=domain,
            signal=signal,
            embedding_map=embedding_map,
            transferred=transferred,
            packed=packed if isinstance(packed, da.Array) else None,
        )

    @property
    def _lazy(self) -> bool:
        return self.packed is not None

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
        nav = [axis for axis in output_axes.axis_dictionaries(self.labels) if axis["navigate"]]
        data = np.empty((*(axis["size"] for axis in nav), k))
        for index, frame in frames.items():
            data[index] = list(frame.fractions.values())
        axis = {**output_axes.class_axis(k), "navigate": False}
        metadata = {"General": {"title": "Few-shot fractions"}}
        return label_maps.build(data, [*nav, axis], False, metadata)

    def compute(self, show_progressbar: bool | None = None) -> "FewShotResult":
        """Compute labels, probabilities and confidence, in place, in one pass.

        The embeddings are kept, too, if they take at most 1 GiB, so that
        :meth:`update` does not read the data again.

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
        Exception
            If a chunk of the file cannot be read. The result stays lazy,
            whatever stops the computation.
        """
        if self._lazy and not self.embedding_map._lazy:
            # The map was computed since this result was built.
            self.make_eager(self.embedding_map.predict(self.classifier))
        elif self._lazy:
            keep = self.embedding_map.is_kept
            (packed,) = self.embedding_map.compute_with(
                (self.packed,), show_progressbar, "Classifying", keep
            )
            self.make_eager(packed)
        if self._statistics is None:
            self._statistics = self._make_statistics()
            self.labels.metadata.set_item("FewShot.statistics", as_columns(self._statistics))
        return self

    def make_eager(self, packed: np.ndarray) -> None:
        """Take computed predictions in place of lazy ones."""
        signals = (self.labels, self.probabilities, self.confidence)
        for signal, data in zip(signals, _unpacked(packed, len(self.class_names)), strict=True):
            output_axes.make_eager(signal, data)
        self.packed = None

    def _make_statistics(self) -> Statistics:
        labels, areas = self.labels.data, self.domain.grid.cell_areas()
        left_out = None if self.embedding_map is None else self.embedding_map.n_masked
        warn_of_labels(labels, left_out)
        scale, units = output_axes.area_unit(self.domain)
        return label_statistics(
            labels,
            self.probabilities.data,
            self.class_names,
            cell_areas=areas,
            spread=self.spread,
            shots=self.classifier.shots,
            area_scale=scale,
            units=units,
            overlap=self.domain.grid.overlap,
            boundary=self.domain.grid.boundary,
            frames=labels.ndim - areas.ndim,
        )

    def update(
        self,
        examples: Mapping[str, Any] | None = None,
        remove: Mapping[str, int | list[int]] | None = None,
        *,
        reject: bool | float | None = None,
        show_progressbar: bool | None = None,
    ) -> "FewShotResult":
        """Classify again with more, or fewer, support examples.

        Only the data of new examples are read, unless the embeddings were too
        large to be kept.

        Parameters
        ----------
        examples
            Class name to one example or a list of them, as in a support set;
            a name that is new makes a class.
        remove
            Class name to the index, or indices, of the examples to leave out.
            A class whose examples are all removed goes.
        reject
            As in :meth:`EmbeddingMap.classify`; None: as before.
        show_progressbar
            Whether to show one; None follows HyperSpy's preferences.

        Returns
        -------
        FewShotResult
            A result of its own; this one is not changed.

        Raises
        ------
        ValueError
            If this result was loaded from a file, which does not hold the
            embeddings, or its classifier was learnt on other data.
        KeyError, IndexError
            If there is no such class or example to remove.
        """
        if self.embedding_map is None:
            raise ValueError(
                "A loaded result does not hold its embeddings. Save result.embedding_map, and use "
                "EmbeddingMap.load(path, signal=s).classify(result.support.copy()) with the "
                "examples added."
            )
        if self.transferred:
            raise ValueError(
                "This classifier was learnt on other data: update the result that it came from, "
                "or classify these data from a support set of their own."
            )
        support = self.support.updated(examples or {}, remove or {})
        if not self._lazy and self.embedding_map._lazy:
            warnings.warn(
                "The embeddings are not in memory: they take more than 1 GiB, or the result was lazy "
                "when it was saved. This update is one more pass over the data. To save it, keep a "
                "map: result.embedding_map.save(path).",
                stacklevel=2,
            )
        reject = self.classifier.reject if reject is None else reject
        result = self.embedding_map.classify(support, reject, show_progressbar=show_progressbar)
        result._audit = None if self._audit is None else self._audit.on(result)
        return result if self._lazy else result.compute(show_progressbar)

    def audit(self, n: int = 50, seed: int = 0) -> Audit:
        """Draw places at random, to be judged by eye: unbiased fractions with narrow intervals.

        The audit is kept with the result: calling this again returns it, with more places if `n` is
        larger; it is saved and loaded, and :meth:`update` evaluates it on the new labels. Computes a
        lazy result.

        Parameters
        ----------
        n
            Number of places.
        seed
            Seed of the draw.

        Returns
        -------
        Audit

        Raises
        ------
        ValueError
            If an audit with another seed holds judgements already, or nothing can be drawn.
        """
        audit = self._audit
        if audit is not None and audit.design.seed != seed:
            if audit.judged:
                raise ValueError(
                    f"The audit of this result has the seed {audit.design.seed} and "
                    f"{len(audit.judged)} judgements; go on with result.audit(n, seed={audit.design.seed})."
                )
            audit = None
        if audit is None:
            audit = Audit.draw([self], n, seed)
        elif n > len(audit):
            audit.extend(n)
        self._audit = audit
        return audit

    def suggest(self, n: int = 5) -> list[tuple[int, ...]]:
        """Choose places where one more example helps most.

        They are typical of what no example explains and, with many examples, doubtful. Places that
        hold an example or belong to the audit are left out, and those at boundaries where possible.

        Parameters
        ----------
        n
            Number of places.

        Returns
        -------
        list of tuple of int
            Positions as in a support set: pixel indices, x before y.

        Raises
        ------
        ValueError
            If this result was loaded from a file, which does not hold the embeddings.
        """
        return suggested(self, n)

    def detections(self, name: str) -> Detections:
        """Find the instances of a class, and count them; computes a lazy result.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        if name not in self.class_names:
            raise ValueError(f"There is no class {name!r}; classes are {list(self.class_names)}.")
        self.compute()
        return Detections.of(self, name)

    def mask(self, name: str) -> BaseSignal:
        """Return where a class is, as a boolean signal; computes a lazy result.

        Parameters
        ----------
        name
            A class, or ``"rejected"`` or ``"masked"``.

        Returns
        -------
        hyperspy.signal.BaseSignal
            For spectra and patterns over the navigation space, so that ``~mask`` is a navigation
            mask for ``s.decomposition``; for images over the pixels of the image.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        values = {"rejected": REJECTED, "masked": MASKED}
        values |= {name: value for value, name in enumerate(self.class_names)}
        if name not in values:
            raise ValueError(f"There is no class {name!r}; classes are {list(self.class_names)}.")
        whole = self.labels_at_pixels()
        axes = output_axes.axis_dictionaries(whole)
        if not self.domain.is_image:
            axes = [{**axis, "navigate": True} for axis in axes]
        title = f"{name} of {self.labels.metadata.General.title}"
        return BaseSignal(
            whole.data == values[name], axes=axes, metadata={"General": {"title": title}}
        )

    def labels_at_pixels(self) -> BaseSignal:
        """Return the label map on the grid of the image itself; computes a lazy result.

        Boundaries between classes follow the edges in the image, which is read
        once more. A loaded result has no image: the boundaries are interpolated
        then. Maps over a navigation space have one label a position already.
        """
        self.compute()
        own = not self.domain.is_image or self.domain.grid.stride == 1
        data = self.labels.data.copy() if own else pixel_labels(self)
        metadata = self.labels.metadata.as_dictionary()
        return label_maps.build(data, output_axes.axes_of_data(self.domain), True, metadata)

    def to_label_image(self) -> BaseSignal:
        """Return the labels as napari, Fiji and ilastik have them; computes a lazy result.

        After ``.save("labels.tif")`` they read it, and :meth:`SupportSet.from_label_map` takes it
        back, as it is or corrected.

        Returns
        -------
        hyperspy.signal.BaseSignal
            Over the pixels of the image or the navigation space: 0 where rejected or masked, 1 to K
            for the classes in the order of `class_names`; uint8 up to 255 classes, otherwise uint16.
        """
        labels = self.labels_at_pixels()
        axes, title = output_axes.axis_dictionaries(labels), labels.metadata.General.title
        data = np.maximum(labels.data + 1, 0)
        return label_image(data, axes, self.class_names, f"Label image of {title}")

    def class_signals(self, method: str = "mean") -> dict[str, BaseSignal]:
        """Return the mean or summed spectrum or pattern of every class.

        Reads the data once more; computes a lazy result.

        Parameters
        ----------
        method
            ``"mean"`` or ``"sum"``.

        Returns
        -------
        dict
            Class name to a signal of the type of the original one, with its
            metadata and signal axes. With ``"sum"``, acquisition times (live
            and real time, exposure, dwell and integration time) are those of
            one position multiplied by the number of positions, so that
            quantification with zeta-factors is right. A class without a
            position holds zeros, with a warning.

        Raises
        ------
        ValueError
            If `method` is something else, the data are images, or the result was loaded.
        """
        if method not in ("mean", "sum"):
            raise ValueError(f"method={method!r} must be 'mean' or 'sum'.")
        if self.signal is None:
            raise ValueError("A loaded result does not hold the signal; classify it again.")
        if self.domain.is_image:
            raise ValueError(
                "class_signals is for spectra and patterns; use mask(name) to index an image."
            )
        self.compute()
        return class_signals(self.signal, self.labels.data, self.class_names, method)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        image: np.ndarray | BaseSignal | None = None,
        alpha: float = 0.5,
        frame: int | float | tuple[int | float, ...] | None = None,
    ) -> Axes:
        """Draw the label map over the image, with a legend and the support set.

        Computes a lazy result.

        Parameters
        ----------
        ax
            Where to draw; None makes a figure.
        image
            What to show under the labels, covering the same area; None: the
            image itself, or the sum over the signal if it is in memory.
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
        return draw(self, ax, image, alpha, frame)

    def save(self, path: str | Path, overwrite: bool | None = None) -> None:
        """Write everything but the data and the embeddings to one file.

        The file is a label map that ``hyperspy.api.load`` reads, too. It is
        there as a whole or not at all; a file that it replaces stays until
        then.

        A lazy result is computed block by block into a folder
        ``<path>.partial``, which an interruption leaves behind: saving the
        same classification there again, also in another session, computes the
        missing blocks only. Data, support, settings and versions must be the
        same. With dask.distributed all workers need access to the folder.

        Parameters
        ----------
        path
            Ends in .hspy or .zspy.
        overwrite
            Whether to replace a file; None asks. If not, nothing is computed.
            Only files that hyperspy_fewshot wrote are replaced.

        Raises
        ------
        ValueError
            If the path ends otherwise, if there is a file that was not written
            by hyperspy_fewshot or that the data come from, or if the folder
            holds another classification that was interrupted.
        OSError
            If the disk is full.
        """
        storage.save_result(self, path, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "FewShotResult":
        """Read what :meth:`save` wrote.

        Nothing in the file is run.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no result, is damaged, or was written by another
            version in another format.
        """
        result = cls(**storage.load_result(path))
        if result._audit is not None:
            result._audit = result._audit.on(result)
        return result

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.labels.data.shape))
        lazy = ", not computed" if self._lazy else ""
        head = f"<FewShotResult, {len(self.class_names)} classes, {shape} labels{lazy}>"
        if self._statistics is None:
            return head
        wrong = self.examples.summary if self.examples else ""
        return "\n".join(filter(None, (head, str(self._statistics), wrong)))

    def _repr_html_(self) -> str:
        head = repr(self).splitlines()[0].strip("<>")
        table = "" if self._statistics is None else self._statistics._repr_html_()
        return f"<p>{head}</p>{table}"


def _unpacked(packed: da.Array | np.ndarray, k: int) -> tuple[da.Array | np.ndarray, ...]:
    """Labels, probabilities and confidence from what a classifier predicts."""
    xp = da if isinstance(packed, da.Array) else np
    probabilities = xp.moveaxis(packed[..., :k], -1, 0)
    return packed[..., k].astype(np.int16), probabilities, packed[..., k + 1]
