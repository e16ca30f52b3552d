"""Mean or summed spectra and patterns of each class."""

import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.embedding.computing import compute
from hyperspy_fewshot.output.axes import axis_dictionaries, class_axis


def class_signals(
    signal: BaseSignal,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    method: str,
) -> BaseSignal:
    """Sum or average (`method`) the data over the positions of every class.

    The labels have the shape of the navigation space.
    """
    axes = tuple(range(labels.ndim))
    shape = (*labels.shape, *(1,) * (signal.data.ndim - labels.ndim))
    sums = []
    for value in range(len(class_names)):
        here = labels == value
        if signal._lazy:
            kept = da.where(da.from_array(here.reshape(shape), chunks=-1), signal.data, 0)
            total = kept.sum(axis=axes, dtype=float)
        else:
            total = signal.data[here].sum(axis=0, dtype=float)
        sums.append(total / max(1, int(here.sum())) if method == "mean" else total)
    if signal._lazy:
        (stacked,) = compute(da.stack(sums), show_progressbar=None, what="Summing")
    else:
        stacked = np.stack(sums)
    inner = [axis for axis in axis_dictionaries(signal) if not axis["navigate"]]
    result = BaseSignal(stacked, axes=[class_axis(len(class_names)), *inner])
    result.metadata.add_dictionary(signal.metadata.as_dictionary())
    title = signal.metadata.get_item("General.title", default="")
    result.metadata.General.title = f"{method} of {', '.join(class_names)} in {title}"
    result.original_metadata.add_dictionary(signal.original_metadata.as_dictionary())
    result.set_signal_type(signal.metadata.Signal.signal_type)
    return result
