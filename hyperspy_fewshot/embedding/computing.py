"""Computing dask collections together, with one progress bar."""

import sys
from contextlib import nullcontext
from typing import Any

import dask
from hyperspy.defaults_parser import preferences
from tqdm.auto import tqdm
from tqdm.dask import TqdmCallback


def compute(
    *collections: Any, show_progressbar: bool | None, what: str, scheduler: str | None = None
) -> tuple:
    """Compute dask collections together, in one pass, with a progress bar called `what`.

    Whether the bar is shown follows HyperSpy's preferences if it is None. A scheduler of None is
    the one that is active.
    """
    if show_progressbar is None:
        show_progressbar = preferences.General.show_progressbar
    distributed = sys.modules.get("distributed")
    if show_progressbar and scheduler is None and distributed is not None:
        if _has_client(distributed):
            return _compute_on_cluster(distributed, collections, what)
    with TqdmCallback(desc=what) if show_progressbar else nullcontext():
        return dask.compute(*collections, scheduler=scheduler)


def _compute_on_cluster(distributed: Any, collections: tuple, what: str) -> tuple:
    """Compute collections on the cluster of the active client."""
    others = {future.key for future in distributed.futures_of(collections)}
    kept = dask.persist(*collections)
    futures = distributed.futures_of(kept)
    try:
        with tqdm(total=len(futures), desc=what) as bar:
            for future in distributed.as_completed(futures):
                bar.update()
                if future.status == "error":
                    break
        return dask.compute(*kept)
    except BaseException:
        # The traceback holds the futures: the cluster would go on computing them.
        own = [future for future in futures if future.key not in others]
        distributed.get_client().cancel(own)
        raise


def _has_client(distributed: Any) -> bool:
    """Whether dask would compute on a cluster, and a bar may wait for it.

    Inside a task it may not: the task would keep the thread that it waits for.
    """
    try:
        distributed.get_worker()
    except ValueError:
        pass
    else:
        return False
    try:
        distributed.get_client()
    except ValueError:
        return False
    return True
