"""Label maps as HyperSpy signals, registered as signal type "LabelMap"."""

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from hyperspy.signals import LazySignal1D, LazySignal2D, Signal1D, Signal2D

from hyperspy_fewshot.labels import MASKED
from hyperspy_fewshot.output.pictures import add_legend, label_colours

__all__ = ["LabelMap", "LabelMap1D", "LazyLabelMap", "LazyLabelMap1D"]


class _Labels:
    """What label maps of one and two dimensions share."""

    _signal_type = "LabelMap"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return tuple(self.metadata.get_item("FewShot.class_names", default=()))

    def rebin(
        self,
        new_shape: Sequence[int] | None = None,
        scale: Sequence[int] | None = None,
        crop: bool = True,
        dtype: Any = None,
        out: Any = None,
    ) -> Any:
        """Rebin to the majority label: labels are names and cannot be added.

        Of equally frequent labels the lowest wins.

        Parameters
        ----------
        new_shape, scale
            Shape, or cells per bin, for every axis in HyperSpy's order; bins
            hold whole cells.
        crop
            Must be True: cells that fill no bin are dropped.
        dtype, out
            Must be None: labels keep their type.

        Raises
        ------
        ValueError
            If a bin would hold a fraction of a cell, or `crop`, `dtype` or
            `out` is given.
        """
        if not crop or dtype is not None or out is not None:
            raise ValueError("Labels are rebinned to the majority: no crop=False, dtype or out.")
        given = self._validate_rebin_args_and_get_factors(new_shape=new_shape, scale=scale)
        factors = [int(round(factor)) for factor in given]
        if min(factors) < 1 or not np.allclose(factors, given):
            raise ValueError(
                f"A label cannot be split: cells per bin are {given.tolist()}, whole numbers are needed."
            )
        rebinned = self._deepcopy_with_new_data(self._majority(factors))
        rebinned.get_dimensions_from_data()
        for axis, old in zip(rebinned.axes_manager._axes, self.axes_manager._axes, strict=True):
            factor = factors[axis.index_in_array]
            if factor > 1:
                axis.offset = old.offset + (factor - 1) / 2 * old.scale
                axis.scale = old.scale * factor
        return rebinned

    def _majority(self, factors: list[int]) -> np.ndarray | da.Array:
        bins = dict(enumerate(factors))
        data = da.asarray(self.data)
        # Bins must not straddle chunks.
        whole = [max(c[0] // f, 1) * f for f, c in zip(factors, data.chunks, strict=True)]
        data = data.rechunk(dict(enumerate(whole)))
        last = len(self.class_names) or int(data.max().compute()) + 1
        votes = da.stack(
            [
                da.coarsen(np.sum, (data == value).astype(np.int32), bins, trim_excess=True)
                for value in range(MASKED, last)
            ]
        )
        majority = (votes.argmax(axis=0) + MASKED).astype(self.data.dtype)
        return majority if self._lazy else majority.compute()


class LabelMap(_Labels, Signal2D):
    """A map of class labels: 0 to K - 1, -1 rejected, -2 masked."""

    def plot(self, *args: Any, **kwargs: Any) -> None:
        """Plot with one colour a class and a legend.

        Parameters
        ----------
        *args, **kwargs
            Passed to :meth:`hyperspy.api.signals.Signal2D.plot`.
        """
        names = self.class_names
        # Comparisons and arithmetics with labels give label maps of other types.
        if not names or self.data.dtype.kind not in "iu":
            super().plot(*args, **kwargs)
            return
        cmap = label_colours(len(names))
        defaults = {"cmap": cmap, "vmin": MASKED - 0.5, "vmax": len(names) - 0.5}
        super().plot(*args, **{**defaults, "autoscale": "", "colorbar": False, **kwargs})
        ax = self._plot.signal_plot.ax
        add_legend(ax, names, labels=None)
        # Room for the legend: HyperSpy laid the figure out without it.
        width = ax.get_legend().get_window_extent().width / ax.figure.bbox.width
        ax.figure.subplots_adjust(right=max(0.3, 0.97 - width))
        ax.figure.tight_layout()


class LabelMap1D(_Labels, Signal1D):
    """A line of class labels: 0 to K - 1, -1 rejected, -2 masked."""

    def plot(self, *args: Any, **kwargs: Any) -> None:
        """Plot with class names on the vertical axis.

        Parameters
        ----------
        *args, **kwargs
            Passed to :meth:`hyperspy.api.signals.Signal1D.plot`.
        """
        super().plot(*args, **kwargs)
        names = self.class_names
        # HyperSpy prints a single label instead of plotting it.
        if self._plot is not None and names and self.data.dtype.kind in "iu":
            ax = self._plot.signal_plot.ax
            ax.set_yticks(range(MASKED, len(names)))
            ax.set_yticklabels(["masked", "rejected", *names], parse_math=False)
            ax.set_ylabel("")
            ax.figure.tight_layout()


class LazyLabelMap(LabelMap, LazySignal2D):
    """A label map that has not been computed."""


class LazyLabelMap1D(LabelMap1D, LazySignal1D):
    """A line of labels that has not been computed."""


def build(data: np.ndarray | da.Array, axes: list[dict], labels: bool, metadata: dict) -> Any:
    """Make a signal of a map: a label map if `labels`, lazy if the data are.

    The axes are dictionaries with "navigate", array order.
    """
    lazy = isinstance(data, da.Array)
    one = sum(not axis["navigate"] for axis in axes) == 1
    classes = {
        (True, True): (LabelMap1D, LazyLabelMap1D),
        (True, False): (LabelMap, LazyLabelMap),
        (False, True): (Signal1D, LazySignal1D),
        (False, False): (Signal2D, LazySignal2D),
    }
    return classes[labels, one][lazy](data, axes=axes, metadata=metadata)
