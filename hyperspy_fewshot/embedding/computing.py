"""Computing dask collections together, with one progress bar."""

import sys
import threading
from contextlib import nullcontext
from typing import Any

import dask
import dask.threaded
from hyperspy.defaults_parser import preferences
from tqdm.auto import tqdm
from tqdm.dask import TqdmCallback

from hyperspy_fewshot.encoders.threads import after_fork

# What dask computed with when this process was forked; empty if it was not.
_inherited: dict[str, Any] = {}


def compute(
    *collections: Any, show_progressbar: bool | None, what: str, scheduler: str | None = None
) -> tuple:
    """Compute dask collections together, in one pass, with a progress bar called `what`.

    Whether the bar is shown follows HyperSpy's preferences if it is None. A scheduler of None is
    the one that is active.
    """
    if show_progressbar is None:
        show_progressbar = preferences.General.show_progressbar
    _check_inherited(scheduler)
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
        return _client() is not None
    return False


def _client() -> Any:
    """Return the active client of dask.distributed, or None."""
    distributed = sys.modules.get("distributed")
    try:
        return None if distributed is None else distributed.get_client()
    except ValueError:
        return None


def _start_again() -> None:
    """In a process that has just been forked, let dask make new pools of threads.

    It would wait for the threads of the pools that it had, which only the parent has. No argument
    or setting replaces the pools in what HyperSpy computes, such as when it writes a lazy signal.
    """
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    dask.threaded.pools_lock = threading.Lock()
    settings = {name: dask.config.get(name, None) for name in ("scheduler", "pool")}
    _inherited.update(settings, client=_client())


after_fork(_start_again)


def _check_inherited(scheduler: str | None) -> None:
    """Refuse a client, an executor or a pool from before a fork: dask would wait without end."""
    if not _inherited:
        return
    used = scheduler or dask.config.get("scheduler", None)
    if used in (None, "distributed", "dask.distributed"):
        used = _client() or used
    if used in (None, "threads", "threading", "processes", "multiprocessing"):
        used = dask.config.get("pool", None)
    if used is None or isinstance(used, str) or callable(used):
        return
    if any(used is one for one in _inherited.values()):
        raise RuntimeError(
            f"dask would compute with {used!r}, which does not work in this process, because it was "
            "forked from the one that made it. Start processes with "
            "multiprocessing.get_context('spawn'), or make a client or an executor in each of them."
        )
