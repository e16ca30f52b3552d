"""The embeddings of all queries: computed once, classified as often as you like."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal
from hyperspy.signals import LazySignal1D

from hyperspy_fewshot.decision.arguments import checked_reject
from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.decision.covering import accept_covered
from hyperspy_fewshot.decision.refinement import refined
from hyperspy_fewshot.embedding.blocks import block_sides, embed_all
from hyperspy_fewshot.embedding.computing import compute
from hyperspy_fewshot.embedding.fingerprint import fingerprint
from hyperspy_fewshot.embedding.learning import SampleEmbeddings
from hyperspy_fewshot.embedding.reading import naming_unreadable
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.output import files, label_maps
from hyperspy_fewshot.output.axes import axes_of_map, make_eager
from hyperspy_fewshot.output.metadata import metadata_of, recipe_metadata
from hyperspy_fewshot.results import storage
from hyperspy_fewshot.results.examples import Examples
from hyperspy_fewshot.results.result import FewShotResult
from hyperspy_fewshot.results.shots import ShotEmbedder
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.support_set import SupportSet, checked_support

# Embeddings [bytes] that are kept in memory beside a result, so that it can be updated.
_MOST_KEPT = 2**30


@dataclass(eq=False, repr=False)
class EmbeddingMap:
    """The embeddings of all queries of a data set.

    Embedding depends on the data, not on labels. It is done once; each
    :meth:`classify` then takes a fraction of a second.

    Parameters
    ----------
    embeddings
        Embeddings, data of shape ``(*nav, rows, columns, d)`` for images and
        ``(*nav, d)`` for spectra and patterns. NaN where masked.
    guide
        Mean intensity of each cell of an image; None for spectra and patterns.
    recipe
        What was learnt of the data set without labels. Pass it as `recipe` to
        embed other data in the same way.
    sample
        Embeddings of a sample of the data set, shape (n, d).
    domain
        Where the queries lie.
    source
        The data that are read for support examples; its data are None after
        loading without a signal.
    signal
        The signal that was embedded; None after loading without one.
    known
        Embeddings of the support examples so far, by the digest of the example.
    """

    embeddings: BaseSignal
    guide: BaseSignal | None
    recipe: Recipe
    sample: np.ndarray
    domain: Domain
    source: DataSource
    signal: BaseSignal | None = None
    known: dict[str, list[np.ndarray]] = field(default_factory=dict)
    _fingerprint: str = ""

    @classmethod
    def build(
        cls,
        recipe: Recipe,
        sample: SampleEmbeddings,
        domain: Domain,
        source: DataSource,
        signal: BaseSignal,
    ) -> Self:
        """Build the lazy embedding map of a data set; no data are read."""
        if sample.whole is None:
            packed = embed_all(recipe, source)
        else:
            sides = (*block_sides(recipe.grid, source.data), -1)
            packed = da.from_array(sample.whole, chunks=sides)
        axes = axes_of_map(domain)
        metadata = metadata_of(signal, "Few-shot embeddings")
        metadata["FewShot"] = recipe_metadata(recipe)
        feature = {"name": "Embedding", "size": recipe.size, "navigate": False}
        embeddings = LazySignal1D(
            packed[..., : recipe.size],
            axes=[*({**axis, "navigate": True} for axis in axes), feature],
            metadata=metadata,
        )
        guide = None
        if recipe.grid.n_guides:
            metadata = metadata_of(signal, "Few-shot guide image")
            guide = label_maps.build(packed[..., recipe.size], axes, False, metadata)
        return cls(embeddings, guide, recipe, sample.embeddings, domain, source, signal)

    @property
    def _lazy(self) -> bool:
        return self.embeddings._lazy

    @property
    def is_kept(self) -> bool:
        """Whether the embeddings are small enough to be kept in memory beside a result."""
        return self.embeddings.data.nbytes <= _MOST_KEPT

    def compute(self, show_progressbar: bool | None = None) -> Self:
        """Compute the embeddings, in place, in one pass over the data.

        Parameters
        ----------
        show_progressbar
            Whether to show one; None follows HyperSpy's preferences.

        Returns
        -------
        EmbeddingMap
            This map. What is computed already is not computed again.
        """
        if self._lazy:
            self.compute_with((), show_progressbar, "Embedding", keep=True)
        return self

    def compute_with(
        self,
        arrays: tuple[da.Array, ...],
        show_progressbar: bool | None,
        what: str,
        keep: bool,
    ) -> tuple[np.ndarray, ...]:
        """Compute arrays that follow from the embeddings, in one pass.

        Parameters
        ----------
        arrays
            Lazy arrays.
        show_progressbar
            Whether to show one; None follows HyperSpy's preferences.
        what
            Title of the progress bar.
        keep
            Whether to compute and keep the embeddings, too.
        """
        own = [s for s in (self.embeddings, self.guide) if s is not None and s._lazy and keep]
        with self.naming_unreadable():
            found = compute(
                *arrays, *(s.data for s in own), show_progressbar=show_progressbar, what=what
            )
        for signal, data in zip(own, found[len(arrays) :], strict=True):
            make_eager(signal, data)
        return found[: len(arrays)]

    def classify(
        self,
        support: Mapping | SupportSet | FewShotClassifier | FewShotResult,
        reject: bool | float = True,
        *,
        show_progressbar: bool | None = None,
    ) -> FewShotResult:
        """Classify the queries from a support set.

        Only the data of support examples that are new to this map are read.

        Parameters
        ----------
        support
            The labelled examples of all classes, see
            :meth:`~hyperspy.api.signals.BaseSignal.fewshot_classify`. A
            result or classifier that was made with the same recipe is used
            again.
        reject
            Whether queries that resemble no class are rejected (label -1). A
            float is the significance level.
        show_progressbar
            Whether to show one; None follows HyperSpy's preferences.

        Returns
        -------
        FewShotResult
            Lazy if the embeddings are.

        Raises
        ------
        ValueError, TypeError
            If the support set cannot be used, or a classifier was made with
            another recipe.
        """
        reject = checked_reject(reject)
        learnt = support.classifier if isinstance(support, FewShotResult) else support
        if isinstance(learnt, FewShotClassifier):
            self._check_recipe(learnt, reject)
            known = support.support if isinstance(support, FewShotResult) else SupportSet()
            return self._result(self._with_filters(learnt), known, True, show_progressbar)
        support = checked_support(support, reject)
        embedder = ShotEmbedder(self.recipe, self.domain, self.source, self.known)
        known = embedder.embed(support, self.embeddings.data, show_progressbar)
        classifier = FewShotClassifier.fit(
            known.embeddings,
            known.shots,
            known.shot_classes,
            support.class_names,
            centre=self.recipe.centre,
            feature_groups=self.recipe.feature_groups,
            scatter=self.recipe.scatter,
            reject=reject,
            recipe=self.recipe,
        )
        classifier = self._with_filters(classifier)
        examples = Examples.of(known, classifier, support.class_names)
        examples.warn(known, support.class_names)
        return self._result(classifier, support, False, show_progressbar, examples)

    def _with_filters(self, classifier: FewShotClassifier) -> FewShotClassifier:
        """Add filters of rare classes, but not to chips: those at the edges would not pass them."""
        mixes = self.recipe.grid.mixes
        return classifier if mixes else classifier.for_frequencies_of(self.sample)

    def _check_recipe(self, classifier: FewShotClassifier, reject: bool | float) -> None:
        recipe = classifier.recipe
        if recipe is None or recipe.sha256 != self.recipe.sha256:
            raise ValueError(
                "The classifier was made with another recipe than this embedding map. Embed the "
                "data with recipe=classifier.recipe, or classify from a support set."
            )
        classifier.check_reject(reject)

    def _result(
        self,
        classifier: FewShotClassifier,
        support: SupportSet,
        transferred: bool,
        show_progressbar: bool | None,
        examples: Examples | None = None,
    ) -> FewShotResult:
        predictions = self.predict(classifier)
        result = FewShotResult.build(
            predictions, classifier, support, self.domain, self.signal, self, transferred
        )
        result.spread, result.examples = classifier.spread(self.sample), examples
        return result if self._lazy else result.compute(show_progressbar)

    def predict(self, classifier: FewShotClassifier) -> np.ndarray | da.Array:
        """Classify all queries, as :meth:`FewShotClassifier.predict` does one by one.

        A rejected query that an accepted one covers is given the class that it
        resembles most: it lies at a boundary, and is not unknown. This does not
        apply to queries near negative examples. Probabilities of images are
        then refined, so that boundaries of classes follow edges in the image.

        Parameters
        ----------
        classifier
            Made with the recipe of this map.

        Returns
        -------
        numpy.ndarray or dask.array.Array
            Shape (*grid.shape, K + 2): probabilities, label, confidence.
        """
        embeddings, grid = self.embeddings.data, self.recipe.grid
        axes = range(max(0, len(grid.shape) - 2), len(grid.shape))
        reach = grid.reach if classifier.rejects else 0
        radius = 0 if self.guide is None else grid.refined_over
        settle = partial(
            _settled,
            reach=dict.fromkeys(axes, reach),
            radius=radius,
            contrast=self.recipe.contrast,
        )
        if not isinstance(embeddings, da.Array):
            guide = None if self.guide is None else self.guide.data
            return settle(classifier.judge(embeddings), guide)
        # The blocks need the decision alone, not the recipe.
        meta = np.empty((0,) * embeddings.ndim, np.float32)
        predictions = embeddings.map_blocks(
            replace(classifier, recipe=None).judge,
            chunks=(*embeddings.chunks[:-1], (len(classifier.class_names) + 2,)),
            dtype=np.float32,
            meta=meta,
        )
        if not (classifier.rejects or radius):
            return predictions
        guides = [] if self.guide is None else [da.asarray(self.guide.data)[..., np.newaxis]]
        packed = da.concatenate([predictions, *guides], axis=-1).rechunk({-1: -1})
        depth = {axis: min(reach + 2 * radius, grid.shape[axis]) for axis in axes}
        settled = packed.map_overlap(
            partial(_settled_block, settle, bool(guides)), depth=depth, boundary="none", meta=meta
        )
        return settled[..., : predictions.shape[-1]]

    def cells(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose at most so many cells that are not masked, at random; their embeddings (n, d) too."""
        shape = self.domain.grid.shape
        flat = np.random.default_rng(0).permutation(int(np.prod(shape)))[: 2 * most]
        chosen = np.array(np.unravel_index(np.sort(flat), shape))
        embeddings = self.embeddings.data
        if isinstance(embeddings, da.Array):
            (found,) = compute(
                embeddings.vindex[(*chosen, slice(None))], show_progressbar=None, what="Reading"
            )
        else:
            found = embeddings[tuple(chosen)]
        known = np.isfinite(found).all(axis=1)
        return chosen.T[known][:most], found[known][:most]

    def save(self, path: str | Path, overwrite: bool | None = None) -> None:
        """Write the embeddings, the recipe and the embedded support examples to one file.

        A lazy map is computed block by block into a folder ``<path>.partial``.
        After an interruption, saving the same map there again computes the
        missing blocks only. Afterwards this map holds the computed embeddings:
        in memory up to 1 GiB, otherwise lazily from the file.

        Parameters
        ----------
        path
            Ends in .zspy.
        overwrite
            Whether to replace a file; None asks. If not, nothing is computed.
            Only files that hyperspy_fewshot wrote are replaced.

        Raises
        ------
        ValueError
            If the path ends otherwise, if there is a file that was not written
            by hyperspy_fewshot or that is read from, or if the folder holds
            something else.
        OSError
            If the disk is full.
        """
        storage.save_embedding_map(self, path, overwrite)

    @property
    def n_masked(self) -> int:
        """Number of queries that the user left out."""
        return 0 if self.source.mask is None else int(self.source.mask.sum())

    def naming_unreadable(self) -> AbstractContextManager[None]:
        """Name the chunk that cannot be read, of the data or of a saved map, in errors inside."""
        saved = files.source_of(self.embeddings)
        if saved:
            return naming_unreadable(self.embeddings.data, repr(str(saved[0])))
        return naming_unreadable(self.source.data, self.source.name)

    @property
    def fingerprint(self) -> str:
        """Digest of the data; a few pieces of them are read when it is first asked for."""
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.source, self.recipe.grid)
        return self._fingerprint

    @classmethod
    def load(cls, path: str | Path, signal: BaseSignal | None = None, lazy: bool = False) -> Self:
        """Read what :meth:`save` wrote.

        Nothing in the file is run.

        Parameters
        ----------
        path
            The file.
        signal
            The signal that was embedded, from which new support examples are
            read. Without it, the nearest cell stands for a position.
        lazy
            Whether to leave the embeddings on disk.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds no embedding map or is damaged, or `signal` holds
            other data.
        """
        return cls(**storage.load_embedding_map(path, signal, lazy))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.domain.grid.shape))
        lazy = ", not computed" if self._lazy else ""
        names = [repr(p.encoder.name) if p.encoder else "?" for p in self.recipe.parts]
        names = ", ".join(dict.fromkeys(names))
        return f"<EmbeddingMap, {shape} embeddings of length {self.recipe.size} by {names}{lazy}>"


def _settled(
    packed: np.ndarray,
    guide: np.ndarray | None,
    reach: dict[int, int],
    radius: int,
    contrast: float,
) -> np.ndarray:
    """Decide what depends on neighbours: first what is rejected, then which class it is."""
    packed = accept_covered(packed, reach)
    return refined(packed, guide, contrast, radius, tuple(reach)) if radius else packed


def _settled_block(settle: Callable, has_guide: bool, block: np.ndarray) -> np.ndarray:
    """Apply `_settled` to a block whose last number is that of the guide image, if there is one."""
    if not has_guide:
        return settle(block, None)
    packed, guide = block[..., :-1], block[..., -1]
    return np.concatenate([settle(packed, guide), guide[..., np.newaxis]], axis=-1)
