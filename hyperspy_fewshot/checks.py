"""What a call must satisfy before any data are read."""

import math
import warnings
from typing import Any

import numpy as np
from hyperspy.exceptions import SignalDimensionError
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.encoders import get_encoder
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.output.files import source_of
from hyperspy_fewshot.support.rois import axis_name, step

# How many signals of a list are shown.
_SHOWN_SIGNALS = 10
# Chips that are announced before they are computed.
_MANY_CHIPS = 2_000_000


def check_signal(signal: Any) -> None:
    """Refuse what cannot be classified: TypeError, SignalDimensionError or ValueError."""
    if isinstance(signal, list | tuple) and any(isinstance(one, BaseSignal) for one in signal):
        listed = [f"  signals[{i}]: {one!r}" for i, one in enumerate(signal[:_SHOWN_SIGNALS])]
        listed += ["  ..."] * (len(signal) > _SHOWN_SIGNALS)
        raise TypeError(
            f"This is a {type(signal).__name__} of {len(signal)} signals, but one is needed. Files such "
            "as .bcf and .emd hold several signals; choose one, for instance s = signals[0]:\n"
            + "\n".join(listed)
        )
    if not isinstance(signal, BaseSignal):
        raise TypeError(
            f"A HyperSpy signal is needed, got {type(signal).__name__}; wrap an image as "
            "hs.signals.Signal2D(array), spectra as hs.signals.Signal1D(array)."
        )
    if signal.ragged:
        raise TypeError("Ragged signals cannot be classified: their positions hold other shapes.")
    if signal.data.dtype.fields:
        raise TypeError(
            "RGB images cannot be classified: make them grey, for instance with "
            "s.change_dtype('uint8') and then s = s.mean(-1).as_signal2D((0, 1))."
        )
    if signal.data.dtype.kind == "c":
        raise TypeError(
            "Complex data cannot be classified: classify s.amplitude, s.phase or s.real instead."
        )
    if signal.data.dtype.kind not in "uifb":
        raise TypeError(f"Data of type {signal.data.dtype} cannot be classified.")
    axes = signal.axes_manager
    if axes.signal_dimension not in (1, 2):
        error = SignalDimensionError(axes.signal_dimension, 2)
        error.msg = (
            f"The signal dimension is {axes.signal_dimension}; spectra (1) or images and patterns "
            "(2) can be classified. Change it with s.transpose(signal_axes=1) or "
            "s.transpose(signal_axes=2)."
        )
        raise error
    if axes.navigation_dimension == 0 and axes.signal_dimension == 1:
        raise ValueError(
            "A single spectrum has no navigation positions to classify. Load a spectrum image or a "
            "line scan; several single spectra are joined with hs.stack([...])."
        )
    if signal.data.size == 0:
        raise ValueError("The signal is empty.")
    for axis in axes.navigation_axes + axes.signal_axes:
        _check_scale(axis)


def _check_scale(axis: Any) -> None:
    """Refuse an axis on which coordinates mean nothing."""
    if not (np.isfinite(axis.axis[[0, -1]]).all() and step(axis)):
        number = axis.index_in_axes_manager
        raise ValueError(
            f"Scale and offset of {axis_name(axis)} must be finite, and the scale not 0. Set them, "
            f"for instance s.axes_manager[{number}].scale = 1 and s.axes_manager[{number}].offset = 0."
        )


def kind_of(signal: BaseSignal, chip_size: int | None) -> str:
    """What is classified: ``"image"``, ``"pattern"`` or ``"spectrum"``."""
    axes = signal.axes_manager
    if axes.signal_dimension == 1:
        return "spectrum"
    return "image" if axes.navigation_dimension == 0 or chip_size is not None else "pattern"


def check_numbers(
    kind: str, *, chip_size: int | None, stride: int | None, context: int | None
) -> None:
    """Refuse sizes that are no integers, out of range, or without meaning for the kind of data."""
    for name, value in (("chip_size", chip_size), ("stride", stride), ("context", context)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}={value!r} must be an integer.")
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if context is not None and kind == "image" and context != 1:
        raise ValueError(
            "context is for spectra and patterns; a chip sees its surroundings by chip_size."
        )
    if context is not None and context % 2 == 0:
        raise ValueError(f"context={context} must be odd: it is centred on a position.")
    if kind != "image":
        for name, value in (("chip_size", chip_size), ("stride", stride)):
            if value is not None:
                raise ValueError(
                    f"{name} is for images; what is classified here is the {kind} at every "
                    "navigation position."
                )


def check_standardise(standardise: bool | None, kind: str, recipe: Recipe | None) -> None:
    """Refuse to standardise what has no grey levels, or has nothing to be brought to."""
    if standardise is None or standardise is False:
        return
    if standardise is not True:
        raise TypeError(f"standardise={standardise!r} must be True, False or None.")
    if kind != "image":
        raise ValueError(
            f"standardise=True is for images, these are {kind} data, which are normalised one by one; "
            "leave it out."
        )
    if recipe is None:
        raise ValueError(
            "standardise=True brings an image to the grey levels of another one: give the result of "
            "that one as support, or its recipe. Without one, encoders normalise the image itself; "
            "leave it out."
        )


def check_context(context: int, nav_shape: tuple[int, ...]) -> None:
    """Refuse a context that is wider than the scan."""
    longest = max(nav_shape[-2:], default=1)
    if context > longest:
        raise ValueError(
            f"context={context} is wider than the scan, which has {longest} positions along its "
            "longer side."
        )


def announce(grid: Grid) -> None:
    """Warn of so many chips that they take long to compute."""
    count = math.prod(grid.shape)
    if grid.kind == "image" and count > _MANY_CHIPS:
        warnings.warn(
            f"{count} chips will be computed (chip_size={grid.side}, stride={grid.stride}). Give a "
            "larger stride, or chip_size, for fewer.",
            stacklevel=5,
        )


def check_sides(shape: tuple[int, ...], **sides: int | None) -> None:
    """Refuse a chip size or a stride [px] that is larger than an image of a shape."""
    for name, side in sides.items():
        if side is not None and side > min(shape):
            raise ValueError(
                f"{name}={side} px is larger than the image, {shape[1]} x {shape[0]} px."
            )


def plain(value: Any) -> Any:
    """Turn a NumPy scalar into a Python number; the rest stays as it is."""
    return value.item() if isinstance(value, np.generic) else value


def shapes(signal: BaseSignal) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Navigation and signal shape of a signal in array order."""
    axes = signal.axes_manager
    return tuple(axes.navigation_shape[::-1]), tuple(axes.signal_shape[::-1])


def file_name(signal: BaseSignal) -> str:
    """Name of the file that a signal was loaded from; empty if it was not loaded."""
    found = source_of(signal)
    return repr(str(found[0])) if found else ""


def signal_axis(signal: BaseSignal, kind: str) -> tuple[Any, ...]:
    """First value, scale and units of the signal axis; of images and patterns without the first."""
    axis = signal.axes_manager.signal_axes[0]
    first = (float(axis.axis[0]),) if kind == "spectrum" else ()
    return (*first, step(axis), str(axis.units))


def recipe_of(classifier: FewShotClassifier, reject: bool | float) -> Recipe:
    """Return the recipe of a classifier that is used again.

    Raises ValueError if the recipe is incomplete, or `reject` contradicts the classifier.
    """
    check_complete(classifier.recipe)
    classifier.check_reject(reject)
    return classifier.recipe


def check_complete(recipe: Any) -> None:
    """Refuse what is no recipe, and a recipe without its encoder."""
    if not isinstance(recipe, Recipe) or not recipe.complete:
        raise ValueError(
            "The encoder is missing (foreign encoders are not saved), so that this cannot be used "
            "again. Classify from result.support with encoder=... instead."
        )


def check_recipe(
    signal: BaseSignal, kind: str, recipe: Recipe, encoder: Any, given: dict[str, Any]
) -> None:
    """Refuse data of another kind than a recipe is for, and arguments that contradict it.

    `given` holds chip size, context and signal mask as given; None is no contradiction.
    """
    grid = recipe.grid
    if kind != grid.kind:
        raise ValueError(f"The recipe was learnt on {grid.kind} data, these are {kind} data.")
    learnt = grid.settings()
    for name, value in given.items():
        if value is not None and name in learnt:
            _check_same(name, value, learnt[name])
    if encoder is not None:
        asked = get_encoder(encoder)
        known = {digest for part in recipe.parts for digest in (part.origin, part.encoder.sha256)}
        if asked.sha256 not in known:
            raise ValueError(
                f"encoder={asked.name!r} is another one than the recipe was learnt with "
                f"({recipe.parts[0].encoder.name!r}). Leave encoder out, or classify from a support set."
            )
    _check_signal_axis(signal, kind, recipe)


def _check_same(name: str, value: Any, learnt: Any) -> None:
    same = np.array_equal(value, learnt) if name == "signal_mask" else value == learnt
    if not same:
        shown = "another one" if name == "signal_mask" else repr(value)
        raise ValueError(
            f"{name}={shown} contradicts what the classifier learnt with ({learnt!r}). Leave "
            f"{name} out, or classify from a support set."
        )


def _check_signal_axis(signal: BaseSignal, kind: str, recipe: Recipe) -> None:
    shape, grid = shapes(signal)[1], recipe.grid
    *first, scale, units = signal_axis(signal, kind)
    *learnt_first, learnt_scale, learnt_units = recipe.signal_axis
    same = units == learnt_units and np.isclose(scale, learnt_scale, rtol=0.01, atol=0)
    if kind != "image" and shape != grid.signal_shape:
        raise ValueError(
            f"The recipe was learnt on {kind} data of shape {grid.signal_shape}, these have {shape}."
        )
    if kind == "spectrum":
        apart = abs(first[0] - learnt_first[0]) + abs(scale - learnt_scale) * (shape[0] - 1)
        if not same or apart > abs(scale) / 2:
            raise ValueError(
                f"The recipe was learnt on an axis from {learnt_first[0]:g} in steps of "
                f"{learnt_scale:g} {learnt_units}, this one goes from {first[0]:g} in steps of "
                f"{scale:g} {units}. Interpolate the data first."
            )
    elif not same:
        warnings.warn(
            f"The recipe was learnt at {learnt_scale:g} {learnt_units} per pixel, these data have "
            f"{scale:g} {units}.",
            stacklevel=7,
        )
