"""Computing dask collections together, with a progress bar on every scheduler."""

from contextlib import nullcontext
from typing import Any

import dask
from tqdm.dask import TqdmCallback


def compute(*collections: Any, show_progressbar: bool, what: str) -> tuple:
    """Compute dask collections together, in one pass.

    Parameters
    ----------
    collections
        What :func:`dask.compute` takes.
    show_progressbar
        Whether to show a bar.
    what
        What the bar is called.
    """
    with TqdmCallback(desc=what) if show_progressbar else nullcontext():
        return dask.compute(*collections)
