"""From a HyperSpy signal to an embedding map and a label map: the page to read first.

:func:`embed` checks the call, places the queries, learns the recipe from a
sample, and builds the lazy embedding map. :func:`classify` does the same, and
classifies the map, so that both come out of one pass over the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot import checks
from hyperspy_fewshot.decision.arguments import checked_reject
from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.embedding.batches import choose_device
from hyperspy_fewshot.embedding.chunks import check_chunks
from hyperspy_fewshot.embedding.context import CONTEXTS
from hyperspy_fewshot.embedding.learning import embed_sample, learn
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.encoders import default_encoder, get_encoder
from hyperspy_fewshot.encoders.base import check_orientations
from hyperspy_fewshot.grids.chip_size import (
    default_side,
    default_stride,
    lattice_period,
    limited,
    sample_windows,
)
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.results.embedding_map import EmbeddingMap
from hyperspy_fewshot.results.result import FewShotResult
from hyperspy_fewshot.support import masks
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.support_set import (
    SupportSet,
    area_roi_sides,
    checked_support,
    ready_side,
)


def classify(
    signal: BaseSignal,
    support: Mapping | SupportSet | FewShotClassifier | FewShotResult,
    *,
    encoder: Any = None,
    chip_size: int | None = None,
    stride: int | None = None,
    context: int | None = None,
    reject: bool | float = True,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    device: Any = None,
    lazy_output: bool | None = None,
    show_progressbar: bool | None = None,
    standardise: bool | None = None,
) -> FewShotResult:
    """Classify a signal from a handful of labelled examples of each class.

    The same as the method ``signal.fewshot_classify(support, ...)``, where the
    parameters are described.

    Raises
    ------
    hyperspy.exceptions.SignalDimensionError
        If the signal dimension is not 1 or 2.
    TypeError
        If the data are complex, RGB or ragged, or an argument has a type that
        is not accepted.
    ValueError
        If there is nothing to classify, an argument is out of range, an
        example lies outside the data or is of another kind, or an argument
        contradicts a classifier that is used again.
    """
    checks.check_signal(signal)
    reject = checked_reject(reject)
    learnt = support.classifier if isinstance(support, FewShotResult) else support
    recipe = new_support = None
    if isinstance(learnt, FewShotClassifier):
        recipe = checks.recipe_of(learnt, reject)
    else:
        support = new_support = checked_support(support, reject)
    lazy = signal._lazy if lazy_output is None else lazy_output
    settings = _Settings(
        encoder,
        chip_size,
        stride,
        context,
        navigation_mask,
        signal_mask,
        device,
        lazy,
        show_progressbar,
        standardise,
    )
    embedding_map = _embed(signal, settings, recipe, new_support)
    result = embedding_map.classify(support, reject, show_progressbar=show_progressbar)
    return result if lazy else result.compute(show_progressbar)


def embed(
    signal: BaseSignal,
    *,
    encoder: Any = None,
    chip_size: int | None = None,
    stride: int | None = None,
    context: int | None = None,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    device: Any = None,
    lazy_output: bool | None = None,
    show_progressbar: bool | None = None,
    recipe: Recipe | None = None,
    standardise: bool | None = None,
) -> EmbeddingMap:
    """Embed every query of a signal, without labels.

    The same as the method ``signal.fewshot_embed(...)``, where the parameters
    are described.

    Raises
    ------
    hyperspy.exceptions.SignalDimensionError, TypeError, ValueError
        As in :func:`classify`.
    """
    checks.check_signal(signal)
    if recipe is not None:
        checks.check_complete(recipe)
    lazy = signal._lazy if lazy_output is None else lazy_output
    settings = _Settings(
        encoder,
        chip_size,
        stride,
        context,
        navigation_mask,
        signal_mask,
        device,
        lazy,
        show_progressbar,
        standardise,
    )
    embedding_map = _embed(signal, settings, recipe, None)
    return embedding_map if lazy else embedding_map.compute(show_progressbar)


def _embed(
    signal: BaseSignal,
    settings: "_Settings",
    recipe: Recipe | None,
    support: SupportSet | None,
) -> EmbeddingMap:
    """Build the lazy embedding map by a recipe, which is learnt if there is none."""
    # Check.
    settings = settings.checked(signal, recipe, support)
    if signal._lazy:
        n_whole = 0 if settings.kind == "image" else signal.axes_manager.signal_dimension
        check_chunks(signal.data, n_whole)
    encoder = _encoder_for(settings) if recipe is None else recipe.parts[0].encoder
    # Place.
    dense = encoder.dense
    grid = _grid(signal, settings, recipe, dense)
    source = _source(signal, settings, grid)
    if support is not None:
        # What is wrong with an example is said before any data are read.
        support.locate(Domain.of(grid, signal))
    if settings.chip_size is not None:
        checks.announce(grid)
    if settings.kind == "image" and recipe is None and (dense or settings.chip_size is None):
        period = _period(signal, settings, source, grid)
        if settings.chip_size is None:
            side = default_side(period, grid.signal_shape, dense)
            settings = replace(settings, chip_size=side)
            grid = _grid(signal, settings, recipe, dense)
            source = replace(source, mask=_mask(signal, settings, grid))
            checks.announce(grid)
        grid = replace(grid, lattice=period is not None)
    # Embed the sample.
    show = settings.show_progressbar
    if recipe is None:
        axis = checks.signal_axis(signal, settings.kind)
        recipe, sample = learn(source, encoder, grid, settings.context, axis, show)
    else:
        recipe = recipe.on(grid)
        recipe, sample = embed_sample(recipe, source, show, settings.standardise)
    return EmbeddingMap.build(recipe, sample, Domain.of(recipe.grid, signal), source, signal)


@dataclass(frozen=True, eq=False)
class _Settings:
    """Arguments of a call that decide the embeddings, as in :func:`embed`."""

    encoder: Any
    chip_size: int | None
    stride: int | None
    context: int | None
    navigation_mask: Any
    signal_mask: Any
    device: Any
    lazy: bool
    show_progressbar: bool | None
    standardise: bool | None
    kind: str = ""

    def checked(
        self, signal: BaseSignal, recipe: Recipe | None, support: SupportSet | None
    ) -> "_Settings":
        """Refuse what is out of range, and take from recipe and support what is left open."""
        chip_size, stride, context = map(checks.plain, (self.chip_size, self.stride, self.context))
        learnt = {} if recipe is None else recipe.grid.settings()
        if chip_size is None and signal.axes_manager.signal_dimension == 2:
            chip_size = learnt.get("chip_size")
        kind = checks.kind_of(signal, chip_size)
        checks.check_standardise(self.standardise, kind, recipe)
        checks.check_numbers(kind, chip_size=chip_size, stride=stride, context=context)
        signal_mask = self.signal_mask
        if signal_mask is not None:
            signal_mask = masks.signal_mask(signal, kind, signal_mask)
        if recipe is not None:
            given = {"chip_size": chip_size, "context": context, "signal_mask": signal_mask}
            checks.check_recipe(signal, kind, recipe, self.encoder, given)
        elif context is not None:
            checks.check_context(context, checks.shapes(signal)[0])
        if chip_size is None and kind == "image":
            chip_size = _given_side(signal, support)
        return replace(
            self,
            kind=kind,
            chip_size=chip_size,
            stride=stride,
            context=context,
            signal_mask=signal_mask,
            # Without a choice, every worker of a cluster takes the best device it has.
            device=None if self.device is None else choose_device(self.device),
        )


def _encoder_for(settings: _Settings):
    default = default_encoder(settings.kind)
    encoder = default if settings.encoder is None else get_encoder(settings.encoder)
    if settings.kind not in encoder.kinds:
        raise ValueError(
            f"The encoder {encoder.name!r} is for {' and '.join(encoder.kinds)} data, these are "
            f"{settings.kind} data; leave encoder out for {default.name!r}."
        )
    check_orientations(encoder, settings.kind)
    return encoder


def _grid(signal: BaseSignal, settings: _Settings, recipe: Recipe | None, dense: bool) -> Grid:
    """Where the queries lie; a context that is to be chosen is the widest one."""
    nav_shape, shape = checks.shapes(signal)
    if settings.kind != "image":
        if recipe is not None:
            return recipe.grid.for_data(nav_shape, shape, None)
        return PositionGrid(
            nav_shape, shape, settings.context or CONTEXTS[-1], settings.signal_mask
        )
    # Until it is measured, the chip size without a lattice stands in.
    chip_size = settings.chip_size or default_side(None, shape, dense)
    checks.check_sides(shape, chip_size=chip_size, stride=settings.stride)
    if recipe is not None:
        return recipe.grid.for_data(nav_shape, shape, settings.stride)
    stride = settings.stride or default_stride(chip_size, nav_shape, shape, dense)
    return ChipGrid(nav_shape, shape, chip_size, stride)


def _mask(signal: BaseSignal, settings: _Settings, grid: Grid) -> np.ndarray | None:
    mask = settings.navigation_mask
    return None if mask is None else masks.cell_mask(signal, grid, mask)


def _source(signal: BaseSignal, settings: _Settings, grid: Grid) -> DataSource:
    mask = _mask(signal, settings, grid)
    is_eds = signal.metadata.Signal.signal_type.startswith("EDS")
    # Until a lazy result is computed, the user may change data in memory.
    changing = settings.lazy and not signal._lazy
    return DataSource(
        data=signal.data.copy() if changing else signal.data,
        mask=mask,
        sum_normalise=settings.kind == "spectrum" and is_eds,
        device=settings.device,
        name=checks.file_name(signal),
    )


def _given_side(signal: BaseSignal, support: SupportSet | None) -> int | None:
    """Side of ready chips, or of the area ROIs; None if there are neither."""
    if support is None:
        return None
    side = ready_side(support)
    sides = area_roi_sides(support, signal.axes_manager.signal_axes)
    if side is None and sides:
        side = limited(float(np.median(sides)), checks.shapes(signal)[1])
    return side


def _period(
    signal: BaseSignal, settings: _Settings, source: DataSource, grid: Grid
) -> float | None:
    """Period of the crystal lattice in a sample of the middle frame [px]; None without one."""
    frame = tuple(slice(size // 2, size // 2 + 1) for size in grid.nav_shape)
    windows = [(*frame, *window) for window in sample_windows(grid.signal_shape)]
    parts = source.read(windows, settings.show_progressbar, "Measuring the lattice")
    if settings.navigation_mask is not None:
        mask = masks.location_mask(signal, grid, settings.navigation_mask)
        pairs = zip(parts, windows, strict=True)
        parts = [np.where(mask[window], np.nan, part) for part, window in pairs]
    return lattice_period([part.reshape(part.shape[-2:]) for part in parts])
