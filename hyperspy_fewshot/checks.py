"""What a call must satisfy before any data are read."""

from typing import Any

import numpy as np
from hyperspy.exceptions import SignalDimensionError
from hyperspy.signal import BaseSignal


def check_signal(signal: Any) -> None:
    """Refuse what cannot be classified.

    Raises
    ------
    TypeError
        If it is no HyperSpy signal, or its data are complex, RGB or ragged.
    hyperspy.exceptions.SignalDimensionError
        If the signal dimension is not 1 or 2.
    ValueError
        If it is a single spectrum, or empty.
    """
    if not isinstance(signal, BaseSignal):
        raise TypeError(
            f"A HyperSpy signal is needed, got {type(signal).__name__}; wrap an image as "
            "hs.signals.Signal2D(array), spectra as hs.signals.Signal1D(array)."
        )
    if signal.ragged:
        raise TypeError("Ragged signals cannot be classified: their positions hold other shapes.")
    if signal.data.dtype.fields:
        raise TypeError(
            "RGB images cannot be classified: make one grey channel, for instance with "
            "s.change_dtype('uint8') and s.mean over the colours."
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
            "(2) can be classified. Change it with s.transpose(signal_axes=2) or "
            "s.as_signal2D((0, 1))."
        )
        raise error
    if axes.navigation_dimension == 0 and axes.signal_dimension == 1:
        raise ValueError(
            "A single spectrum has no navigation positions to classify. Load a spectrum image or a "
            "line scan; several single spectra are joined with hs.stack([...])."
        )
    if signal.data.size == 0:
        raise ValueError("The signal is empty.")


def kind_of(signal: BaseSignal, chip_size: int | None) -> str:
    """What is classified: ``"image"``, ``"pattern"`` or ``"spectrum"``."""
    axes = signal.axes_manager
    if axes.signal_dimension == 1:
        return "spectrum"
    return "image" if axes.navigation_dimension == 0 or chip_size is not None else "pattern"


def check_numbers(
    kind: str,
    *,
    chip_size: int | None,
    stride: int | None,
    context: int | None,
    reject: bool | float,
) -> None:
    """Refuse sizes and levels that are out of range.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a value is out of range, or has no meaning for the kind of data.
    """
    for name, value in (("chip_size", chip_size), ("stride", stride), ("context", context)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
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
    if not isinstance(reject, bool | np.bool_) and not 0 < reject < 1:
        raise ValueError(f"reject={reject!r} must be True, False, or a level between 0 and 1.")


def as_mask(
    mask: Any, navigation_shape: tuple[int, ...], signal_shape: tuple[int, ...], name: str
) -> np.ndarray:
    """Turn a mask into a boolean array in array order.

    Parameters
    ----------
    mask
        A signal, or an array in HyperSpy's order (x, y).
    navigation_shape, signal_shape
        Shapes in HyperSpy's order. Where there are both, a mask of the signal
        shape alone holds for all frames.
    name
        For the message.

    Raises
    ------
    ValueError
        If the shape does not fit.
    """
    whole = navigation_shape + signal_shape
    in_array = navigation_shape[::-1] + signal_shape[::-1]
    if isinstance(mask, BaseSignal):
        data = np.asarray(mask.data, dtype=bool)
        if data.shape in (in_array, signal_shape[::-1]) and data.shape:
            return data
        shown, expected = data.shape[::-1], whole
    else:
        data = np.asarray(mask, dtype=bool)
        n = len(navigation_shape)
        if data.shape == whole:
            return data.transpose(*range(n)[::-1], *range(n, data.ndim)[::-1])
        if data.shape == signal_shape and data.shape:
            return data.T
        shown, expected = data.shape, whole
    raise ValueError(
        f"{name} has shape {shown}, the data have {expected} (HyperSpy's order, x first; True "
        "leaves out). A mask in array order is passed transposed, mask.T."
    )
