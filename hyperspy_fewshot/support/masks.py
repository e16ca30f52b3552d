"""Masks given by the user: which channels, pixels and positions are left out."""

from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.grids.protocol import Grid


def signal_mask(signal: BaseSignal, kind: str, mask: Any) -> np.ndarray:
    """Return a mask of channels or detector pixels in array order."""
    if kind == "image":
        raise ValueError(
            "signal_mask is for spectra and patterns; mask pixels of an image with navigation_mask."
        )
    mask = as_mask(mask, (), signal.axes_manager.signal_shape, "signal_mask")
    if mask.all():
        raise ValueError("signal_mask leaves nothing: it is True everywhere.")
    return mask


def location_mask(signal: BaseSignal, grid: Grid, mask: Any) -> np.ndarray:
    """Return a mask of pixels or navigation positions in array order."""
    axes = signal.axes_manager
    shape = axes.signal_shape if grid.kind == "image" else ()
    return as_mask(mask, axes.navigation_shape, shape, "navigation_mask")


def cell_mask(signal: BaseSignal, grid: Grid, mask: Any) -> np.ndarray:
    """Return a mask of the cells of a grid."""
    cells = grid.cell_mask(location_mask(signal, grid, mask))
    if cells.all():
        raise ValueError("navigation_mask leaves nothing to classify: it is True everywhere.")
    return cells


def as_mask(
    mask: Any, navigation_shape: tuple[int, ...], signal_shape: tuple[int, ...], name: str
) -> np.ndarray:
    """Convert a signal, or an array in HyperSpy's order (x, y), into a mask in array order.

    The shapes are in HyperSpy's order, the result is boolean of shape (*navigation, *signal),
    read-only. If both shapes are given, as for a stack of images, a mask of the signal shape applies
    to all frames, and a mask of the navigation shape masks whole frames.
    """
    is_signal = isinstance(mask, BaseSignal)
    data = np.asarray(mask.data if is_signal else mask)
    if data.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold True or False, got {type(mask).__name__} {data.dtype}.")
    full, wanted = navigation_shape[::-1] + signal_shape[::-1], navigation_shape + signal_shape
    for nav, sig in ((navigation_shape, signal_shape), ((), signal_shape), (navigation_shape, ())):
        if data.shape and data.shape == (nav[::-1] + sig[::-1] if is_signal else nav + sig):
            if not is_signal:
                data = data.transpose(*range(len(nav))[::-1], *range(len(nav), data.ndim)[::-1])
            of_frames = (1,) * (len(signal_shape) - len(sig))
            return np.broadcast_to(data.astype(bool).reshape(data.shape + of_frames), full)
    if is_signal:
        raise ValueError(
            f"{name} is a signal with data of shape {data.shape}; the data to mask have {full}."
        )
    hint = ""
    if data.shape and data.shape == full:
        hint = f" This is the order of arrays: pass hs.signals.BaseSignal(mask) as {name}."
    raise ValueError(
        f"{name} has shape {data.shape}, {wanted} is needed (HyperSpy's order, x first; True leaves "
        f"out).{hint}"
    )
