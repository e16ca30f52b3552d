"""The way from a HyperSpy signal to a label map: the page to read first.

:func:`classify` checks the call, finds out what is to be classified, learns
the classes from the support set, and wires the lazy computation of the result.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from hyperspy.defaults_parser import preferences
from hyperspy.signal import BaseSignal

from . import embed, encoding
from .checks import as_mask, check_numbers, check_signal, kind_of, plain
from .chip_size import limited, measured_side, sample_windows
from .chips import ChipGrid
from .context import CONTEXTS
from .encoders import Encoder, default_encoder, get_encoder
from .learning import Task, learn, signal_axis
from .positions import PositionGrid
from .prototypes import FewShotClassifier
from .reading import check_chunks
from .result import FewShotResult
from .settings import Settings
from .support import SupportSet, area_roi_sides, ready_side


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
    check_signal(signal)
    learnt = _learnt(support)
    settings = None if learnt is None else learnt.setup
    chip_size, stride, context, reject = map(plain, (chip_size, stride, context, reject))
    if settings is not None and chip_size is None and signal.axes_manager.signal_dimension == 2:
        chip_size = settings.chip_size
    kind = kind_of(signal, chip_size)
    if signal._lazy:
        check_chunks(signal.data, 0 if kind == "image" else signal.axes_manager.signal_dimension)
    check_numbers(kind, chip_size=chip_size, stride=stride, context=context, reject=reject)
    support = _learnt_support(support) if learnt else _as_support(support)
    if show_progressbar is None:
        show_progressbar = preferences.General.show_progressbar
    # Without a choice, every worker takes the best that it has.
    device = None if device is None else encoding.choose_device(device)
    signal_mask = _signal_mask(signal, kind, signal_mask)
    if settings is not None:
        _check_same(signal, kind, settings, encoder, chip_size, context, reject, signal_mask)
        chip_size, context, signal_mask = settings.chip_size, settings.context, settings.signal_mask
        stride = stride or settings.stride
    if kind == "image" and chip_size is None:
        chip_size = _given_side(signal, support)
    grid = _grid(signal, kind, chip_size, stride, context, signal_mask)
    if settings is not None and kind != "image":
        grid = replace(grid, smoothing=settings.smoothing)
    chosen = _encoder_for(kind, encoder) if settings is None else settings.encoder
    mask = _grid_mask(signal, grid, kind, navigation_mask)
    task = Task(signal, kind, grid, mask, device, chosen)
    if kind == "image" and chip_size is None:
        # What can be wrong is refused before anything is read.
        support.resolve(task.domain)
        side = _measure_side(task, navigation_mask, show_progressbar)
        grid = _grid(signal, kind, side, stride, context, signal_mask)
        task = replace(task, grid=grid, mask=_grid_mask(signal, grid, kind, navigation_mask))
    if kind == "image" and chosen.dense:
        task = replace(task, grid=replace(task.grid, margin=chosen.margin(task.grid.chip_size)))
    if learnt is None:
        learnt, grid = learn(task, support, context, reject, show_progressbar)
        task = replace(task, grid=grid)
    return _wire(task, learnt, support, settings is not None, lazy_output, show_progressbar)


def _wire(
    task: Task,
    classifier: FewShotClassifier,
    support: SupportSet,
    transferred: bool,
    lazy_output: bool | None,
    show_progressbar: bool,
) -> FewShotResult:
    """Wire the computation of all outputs; compute unless lazy."""
    settings = classifier.setup
    embeddings = embed.embeddings(
        task.data, task.grid, task.mask, settings.encoder, settings.embedding_size, task.device
    )
    k = len(classifier.class_names)
    # The blocks need the head alone, not how the data were prepared.
    packed = embeddings.map_blocks(
        replace(classifier, setup=None).predict,
        chunks=(*embeddings.chunks[:-1], (k + 2,)),
        dtype=np.float32,
        meta=np.empty((0,) * embeddings.ndim, np.float32),
    )
    result = FewShotResult.build(task, packed, embeddings, classifier, support, transferred)
    lazy = task.signal._lazy if lazy_output is None else lazy_output
    return result if lazy else result.compute(show_progressbar=show_progressbar)


def _learnt(support: Any) -> FewShotClassifier | None:
    if isinstance(support, FewShotResult):
        support = support.classifier
    if not isinstance(support, FewShotClassifier):
        return None
    if support.setup is None or support.setup.encoder is None:
        raise ValueError(
            "This classifier does not hold its encoder (foreign encoders are not saved), so it "
            "cannot be used again. Classify from result.support with encoder=... instead."
        )
    return support


def _learnt_support(support: FewShotClassifier | FewShotResult) -> SupportSet:
    """Support set that goes with what was learnt; empty if it is not known."""
    return support.support if isinstance(support, FewShotResult) else SupportSet()


def _as_support(support: Any) -> SupportSet:
    support = support if isinstance(support, SupportSet) else SupportSet(support)
    # A copy, since ROIs may be moved and examples be added later.
    support = support.copy()
    if len(support.class_names) < 2:
        raise ValueError(
            f"Few-shot classification needs at least two classes, got {list(support.class_names)}."
            " Give examples of what else there is, for instance of the background."
        )
    for name, shots in support.shots.items():
        if not shots:
            raise ValueError(f"Class {name!r} has no examples; give at least one.")
    return support


def _encoder_for(kind: str, encoder: Any) -> Encoder:
    default = default_encoder(kind)
    encoder = default if encoder is None else get_encoder(encoder)
    if kind not in encoder.kinds:
        raise ValueError(
            f"The encoder {encoder.name!r} is for {' and '.join(encoder.kinds)} data, these are "
            f"{kind} data; leave encoder out for {default.name!r}."
        )
    return encoder


def _grid(
    signal: BaseSignal,
    kind: str,
    chip_size: int | None,
    stride: int | None,
    context: int | None,
    signal_mask: np.ndarray | None,
) -> ChipGrid | PositionGrid:
    nav_shape = signal.axes_manager._navigation_shape_in_array
    shape = signal.axes_manager._signal_shape_in_array
    if kind != "image":
        return PositionGrid(nav_shape, shape, context or CONTEXTS[-1], signal_mask)
    if chip_size is None:
        # Until it is measured.
        chip_size = measured_side((), shape)
    if chip_size > min(shape):
        raise ValueError(
            f"chip_size={chip_size} px is larger than the image, {shape[1]} x {shape[0]} px."
        )
    if stride is not None and stride > min(shape):
        raise ValueError(
            f"stride={stride} px is larger than the image, {shape[1]} x {shape[0]} px."
        )
    return ChipGrid(nav_shape, shape, int(chip_size), int(stride or max(1, chip_size // 4)))


def _given_side(signal: BaseSignal, support: SupportSet) -> int | None:
    """Side of ready chips, or of the area ROIs; None if there are neither."""
    ready = ready_side(support)
    if ready is not None:
        return ready
    sides = area_roi_sides(support, signal.axes_manager.signal_axes)
    shape = signal.axes_manager._signal_shape_in_array
    return limited(float(np.median(sides)), shape) if sides else None


def _measure_side(task: Task, mask: Any, show_progressbar: bool) -> int:
    """Side of the chips, from a sample of the image."""
    shape = task.grid.image_shape
    windows = sample_windows(shape)
    parts = task.read(windows, show_progressbar, "Measuring the lattice")
    if mask is not None:
        mask = as_mask(mask, (), task.signal.axes_manager.signal_shape, "navigation_mask")
        pairs = zip(parts, windows, strict=True)
        parts = [np.where(mask[window], np.nan, part) for part, window in pairs]
    return measured_side(parts, shape)


def _signal_mask(signal: BaseSignal, kind: str, mask: Any) -> np.ndarray | None:
    if mask is None:
        return None
    if kind == "image":
        raise ValueError(
            "signal_mask is for spectra and patterns; mask pixels of an image with navigation_mask."
        )
    mask = as_mask(mask, (), signal.axes_manager.signal_shape, "signal_mask")
    if mask.all():
        raise ValueError("signal_mask leaves nothing: it is True everywhere.")
    return mask


def _grid_mask(
    signal: BaseSignal, grid: ChipGrid | PositionGrid, kind: str, mask: Any
) -> np.ndarray | None:
    """What is left out, on the grid of the label map."""
    if mask is None:
        return None
    axes = signal.axes_manager
    if kind == "image":
        pixels = as_mask(mask, axes.navigation_shape, axes.signal_shape, "navigation_mask")
        rows, columns = (grid.centres(axis).astype(int) for axis in (0, 1))
        limits = [size - 1 for size in grid.image_shape]
        result = pixels[..., np.minimum(rows, limits[0])[:, None], np.minimum(columns, limits[1])]
    else:
        result = as_mask(mask, axes.navigation_shape, (), "navigation_mask")
    if result.all():
        raise ValueError("navigation_mask leaves nothing to classify: it is True everywhere.")
    return result


def _check_same(
    signal: BaseSignal,
    kind: str,
    settings: Settings,
    encoder: Any,
    chip_size: int | None,
    context: int | None,
    reject: bool | float,
    signal_mask: np.ndarray | None,
) -> None:
    """Refuse data of another kind, and arguments that contradict."""
    if kind != settings.kind:
        raise ValueError(
            f"The classifier was learnt on {settings.kind} data, these are {kind} data."
        )
    given = {"chip_size": chip_size, "context": context, "signal_mask": signal_mask}
    if kind == "image":
        del given["context"]
    settings.check(**{name: value for name, value in given.items() if value is not None})
    if reject is not True:
        settings.check(reject=reject)
    asked = settings.encoder if encoder is None else get_encoder(encoder)
    if asked.name != settings.encoder.name:
        raise ValueError(
            f"encoder={asked.name!r} contradicts what the classifier learnt with "
            f"({settings.encoder.name!r}). Leave encoder out, or classify from a support set."
        )
    first, scale, units = signal_axis(signal, kind)
    shape = signal.axes_manager._signal_shape_in_array
    learnt_shape = shape if kind == "image" else _unmasked_shape(settings)
    learnt_first, learnt_scale, learnt_units = settings.signal_axis
    same = units == learnt_units and np.isclose(scale, learnt_scale, rtol=0.01, atol=0)
    if kind != "image" and shape != learnt_shape:
        raise ValueError(
            f"The classifier was learnt on {kind} data of shape {learnt_shape}, these have {shape}."
        )
    if kind == "spectrum":
        apart = abs(first - learnt_first) + abs(scale - learnt_scale) * (shape[0] - 1)
        if not same or apart > abs(scale) / 2:
            raise ValueError(
                f"The classifier was learnt on an axis from {learnt_first:g} in steps of "
                f"{learnt_scale:g} {learnt_units}, this one goes from {first:g} in steps of "
                f"{scale:g} {units}. Interpolate the data first."
            )
    elif not same:
        warnings.warn(
            f"The classifier was learnt at {learnt_scale:g} {learnt_units} per pixel, these data "
            f"have {scale:g} {units}.",
            stacklevel=3,
        )


def _unmasked_shape(settings: Settings) -> tuple[int, ...]:
    mask = settings.signal_mask
    return settings.item_shape if mask is None else mask.shape
