"""The data that are embedded."""

from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np

from hyperspy_fewshot.embedding.reading import read
from hyperspy_fewshot.grids.slices import Slices


@dataclass(frozen=True, eq=False)
class DataSource:
    """The data that are embedded, and what is left out of them.

    Parameters
    ----------
    data
        Shape (*nav, *signal).
    mask
        Cells of the grid to leave out (True); None: none.
    sum_normalise
        Whether the sum of a spectrum says nothing about its class (EDS).
    device
        Where to encode; None: on the best device of each process.
    name
        What errors call the data, such as the name of their file.
    """

    data: np.ndarray | da.Array
    mask: np.ndarray | None = None
    sum_normalise: bool = False
    device: str | None = None
    name: str = ""

    def read(
        self, windows: Sequence[Slices], show_progressbar: bool | None, what: str
    ) -> list[np.ndarray]:
        """Read windows of the data together."""
        return read(self.data, windows, show_progressbar, what, self.name)
