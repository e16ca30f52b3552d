"""Computing dask collections together, with a progress bar on every scheduler."""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import dask
from dask.base import get_scheduler
from tqdm.auto import tqdm
from tqdm.dask import TqdmCallback

if TYPE_CHECKING:
    from distributed import Client


def compute(*collections: Any, show_progressbar: bool, what: str) -> tuple:
    """Compute dask collections together, in one pass.

    Parameters
    ----------
    collections
        Dask arrays and delayed objects.
    show_progressbar
        Whether to show a bar.
    what
        What the bar is called.

    Raises
    ------
    Exception
        What a task raises, on whatever machine it runs.
    """
    client = _active_client()
    if client is not None:
        return _compute_on(client, collections, show_progressbar, what)
    with TqdmCallback(desc=what) if show_progressbar else nullcontext():
        return dask.compute(*collections)


def _active_client() -> "Client | None":
    """The client that dask would compute on; None where there is none to wait for."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    client = getattr(get_scheduler(), "__self__", None)
    if not isinstance(client, distributed.Client):
        return None
    try:
        distributed.get_worker()
    except ValueError:
        return client
    # Inside a task dask knows how to wait without blocking the worker.
    return None


def _compute_on(client: "Client", collections: tuple, show_progressbar: bool, what: str) -> tuple:
    """Compute on a cluster; blocks are fetched when they are done, and joined here.

    No worker has to hold more than a few of them.
    """
    from distributed import as_completed, futures_of

    persisted = client.persist(collections)
    futures, blocks = futures_of(persisted), {}
    try:
        with tqdm(total=len(futures), desc=what, disable=not show_progressbar) as bar:
            for batch in as_completed(futures).batches():
                fetched = client.gather(batch)
                for future, block in zip(batch, fetched, strict=True):
                    blocks[future.key] = block
                    future.release()
                bar.update(len(batch))
    finally:
        # What is not wanted any more is not computed, whoever still holds the traceback.
        for future in futures:
            future.release()
    return tuple(_joined(collection, blocks) for collection in persisted)


def _joined(collection: Any, blocks: dict[Any, Any]) -> Any:
    finalize, arguments = collection.__dask_postcompute__()
    return finalize(_nested(collection.__dask_keys__(), blocks), *arguments)


def _nested(keys: Any, blocks: dict[Any, Any]) -> Any:
    """What stands in place of keys, which are nested in lists."""
    return [_nested(key, blocks) for key in keys] if isinstance(keys, list) else blocks[keys]
