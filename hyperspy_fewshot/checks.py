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
        If a size is not an integer, or `reject` neither boolean nor number.
    ValueError
        If a value is out of range, or has no meaning for the kind of data.
    """
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
    accepted = f"reject={reject!r} must be True, False, or a level between 0 and 1."
    if not isinstance(reject, bool | int | float):
        raise TypeError(accepted)
    if not isinstance(reject, bool) and not 0 < reject < 1:
        raise ValueError(accepted)


def plain(value: Any) -> Any:
    """Turn a NumPy scalar into a Python number; the rest stays as it is."""
    return value.item() if isinstance(value, np.generic) else value


def as_mask(
    mask: Any, navigation_shape: tuple[int, ...], signal_shape: tuple[int, ...], name: str
) -> np.ndarray:
    """Turn a mask into a boolean array in array order.

    Parameters
    ----------
    mask
        A signal, or an array in HyperSpy's order (x, y).
    navigation_shape, signal_shape
        Shapes in HyperSpy's order. Where there are both, as in a stack of
        images, a mask of the signal shape alone holds for all frames, and one
        of the navigation shape alone for whole frames.
    name
        For the message.

    Returns
    -------
    numpy.ndarray
        Boolean, shape (*navigation, *signal) in array order, read-only.

    Raises
    ------
    TypeError
        If it is neither boolean nor a number.
    ValueError
        If the shape does not fit.
    """
    is_signal = isinstance(mask, BaseSignal)
    data = np.asarray(mask.data if is_signal else mask)
    if data.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold True or False, got {type(mask).__name__} {data.dtype}.")
    full = navigation_shape[::-1] + signal_shape[::-1]
    for nav, sig in (
        (navigation_shape, signal_shape),
        ((), signal_shape),
        (navigation_shape, ()),
    ):
        fits = data.shape == (nav[::-1] + sig[::-1] if is_signal else nav + sig)
        if data.shape and fits:
            if not is_signal:
                data = data.transpose(*range(len(nav))[::-1], *range(len(nav), data.ndim)[::-1])
            spread = nav[::-1] or (1,) * len(navigation_shape)
            spread += sig[::-1] or (1,) * len(signal_shape)
            return np.broadcast_to(data.astype(bool).reshape(spread), full)
    raise ValueError(_misfit(data.shape, navigation_shape + signal_shape, full, name, is_signal))


def _misfit(
    shape: tuple[int, ...],
    expected: tuple[int, ...],
    in_array: tuple[int, ...],
    name: str,
    is_signal: bool,
) -> str:
    """What to say of a mask whose shape does not fit."""
    if is_signal:
        return f"{name} is a signal with data of shape {shape}; the data to mask have {in_array}."
    message = (
        f"{name} has shape {shape}, {expected} is needed (HyperSpy's order, x first; True leaves "
        "out)."
    )
    if shape and shape == in_array:
        message += f" This is the order of arrays: pass hs.signals.BaseSignal(mask) as {name}."
    return message
