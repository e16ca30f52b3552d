"""Ready examples: chips, patterns and spectra that bring their own data."""

from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

_PLURAL = {"image": "chips", "pattern": "patterns", "spectrum": "spectra"}


def ready_items(
    example: BaseSignal | np.ndarray, kind: str, shape: tuple[int, ...], axis: Any
) -> np.ndarray:
    """Turn a ready example into items.

    Parameters
    ----------
    example
        One item or many, as signal or as array (*, *shape).
    kind
        ``"image"``, ``"pattern"`` or ``"spectrum"``.
    shape
        Of a chip, of a pattern, or of a spectrum.
    axis
        HyperSpy axis of the spectra to classify; spectra that come as a signal
        on another axis are interpolated.

    Returns
    -------
    numpy.ndarray
        Shape (n, *shape).

    Raises
    ------
    ValueError
        If shape, dimension, type or units do not fit, the range is not
        covered, or a value is not finite.
    """
    wanted = f"{_PLURAL[kind]} of the data, which have shape {shape}"
    data = example
    if isinstance(example, BaseSignal):
        dimension = example.axes_manager.signal_dimension
        if dimension != len(shape):
            raise ValueError(
                f"the signal has {dimension} signal dimensions, {_PLURAL[kind]} have {len(shape)}."
            )
        data = np.asarray(example.data)
        if kind == "spectrum":
            data = _interpolate(data, example.axes_manager.signal_axes[0], axis)
    if data.dtype.kind not in "buif":
        raise ValueError(f"ready examples must be real numbers, got {data.dtype}.")
    if data.shape[-len(shape) :] != shape:
        message = f"ready examples of shape {data.shape} do not match the {wanted}."
        if data.ndim <= 2 and data.shape[-1] <= 3:
            message += " Positions are given as tuples, [tuple(p) for p in array.tolist()]."
        raise ValueError(message)
    if not np.isfinite(data).all():
        raise ValueError("ready examples must be finite, got NaN or infinity.")
    return data.reshape(-1, *shape)


def _interpolate(data: np.ndarray, have: Any, want: Any) -> np.ndarray:
    """Interpolate spectra on another signal axis."""
    if str(have.units) != str(want.units):
        raise ValueError(
            f"the spectra are in {have.units}, the data in {want.units}; convert one of them, or "
            "pass the array where the channels are the same."
        )
    step = abs(want.axis[-1] - want.axis[0]) / max(want.size - 1, 1)
    if have.size == want.size and np.allclose(have.axis, want.axis, rtol=0, atol=1e-3 * step):
        return data
    low, high = min(have.axis), max(have.axis)
    if low > min(want.axis) + step / 2 or high < max(want.axis) - step / 2:
        raise ValueError(
            f"the spectra go from {low:g} to {high:g} {have.units}, which does not cover the data "
            f"({min(want.axis):g} to {max(want.axis):g} {want.units})."
        )
    order = np.argsort(have.axis)
    flat = data.reshape(-1, have.size).astype(float)[:, order]
    resampled = [np.interp(want.axis, have.axis[order], spectrum) for spectrum in flat]
    return np.reshape(resampled, (*data.shape[:-1], want.size))
