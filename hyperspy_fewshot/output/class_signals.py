"""Mean or summed spectra and patterns of each class."""

import warnings
from numbers import Real

import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.embedding.computing import compute
from hyperspy_fewshot.output.axes import axis_dictionaries

# Acquisition times in the metadata of HyperSpy, eXSpy and LumiSpy that add up when data are summed.
_TIMES = {"dwell_time", "exposure", "integration_time", "live_time", "real_time"}


def class_signals(
    signal: BaseSignal,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    method: str,
) -> dict[str, BaseSignal]:
    """Sum or average (`method`) the data over the positions of every class.

    The labels have the shape of the navigation space.
    """
    places = [labels == value for value in range(len(class_names))]
    reduced = [_reduced(signal.data, here, method) for here in places]
    if signal._lazy:
        what = "Summing" if method == "sum" else "Averaging"
        reduced = compute(*reduced, show_progressbar=None, what=what)
    signals = {}
    for name, here, data in zip(class_names, places, reduced, strict=True):
        n = int(here.sum())
        if not n:
            data = np.zeros(data.shape)
            warnings.warn(
                f"No position has the class {name!r}; its mean and sum are given as zeros.",
                stacklevel=3,
            )
        elif not isinstance(signal.data, np.ma.MaskedArray) and not np.ma.is_masked(data):
            data = np.asarray(data)
        what = f"{method.capitalize()} of {name}"
        signals[name] = _like(signal, data, what, n if method == "sum" else 1)
    return signals


def _reduced(data: np.ndarray | da.Array, here: np.ndarray, method: str) -> np.ndarray | da.Array:
    """Sum or mean over the positions where `here` is True; values that are masked do not count."""
    if isinstance(data, da.Array):
        flat = (1,) * (data.ndim - here.ndim)
        outside = da.from_array(~here.reshape(*here.shape, *flat), data.chunks[: here.ndim] + flat)
        meta = np.ma.empty((0,) * data.ndim, data.dtype)
        kept = da.map_blocks(_masked, data, outside, meta=meta)
        return getattr(kept, method)(axis=tuple(range(here.ndim)), dtype=float)
    if not here.any():
        return np.zeros(data.shape[here.ndim :])
    return getattr(data[here], method)(axis=0, dtype=float)


def _masked(block: np.ndarray, outside: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.array(block, mask=np.broadcast_to(outside, block.shape))


def _like(signal: BaseSignal, data: np.ndarray, what: str, n: int) -> BaseSignal:
    """Make a signal of one spectrum or pattern, a sum of `n`, with axes and metadata of a signal."""
    axes = [axis for axis in axis_dictionaries(signal) if not axis["navigate"]]
    result = BaseSignal(data, axes=axes)
    metadata = signal.metadata.as_dictionary()
    _multiply_times(metadata.get("Acquisition_instrument", {}), n)
    # The variance is one of every position.
    for key in ("variance", "_sig_variance"):
        metadata["Signal"].get("Noise_properties", {}).pop(key, None)
    result.metadata.add_dictionary(metadata)
    title = signal.metadata.get_item("General.title", default="")
    result.metadata.General.title = f"{what} in {title}" if title else what
    result.original_metadata.add_dictionary(signal.original_metadata.as_dictionary())
    result.set_signal_type(signal.metadata.Signal.signal_type)
    return result


def _multiply_times(tree: dict, n: int) -> None:
    """Multiply all acquisition times in a tree of metadata."""
    for key, value in tree.items():
        if isinstance(value, dict):
            _multiply_times(value, n)
        elif key in _TIMES and isinstance(value, Real):
            tree[key] = value * n
