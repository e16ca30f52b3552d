"""Torch beside the threads of dask and of other programs, and in dask's workers."""

import ctypes
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch

# The user's number of torch threads, and how many blocks have set their own.
_LOCK = threading.Lock()
_threads = _inside = 0
_here = threading.local()

# What dask asks of glibc in its worker processes: to give back freed memory at once.
_TRIMMED_BY_DASK = ("MALLOC_TRIM_THRESHOLD_", "65536")
# Parameters of mallopt, as malloc.h numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: two thread pools fight, and lose to other programs.

    Torch keeps the number for every thread and, for threads to come, for the
    process. A thread that torch first sees in here starts with the 1 of the
    others, hence all restore what the first of them found.
    """
    global _threads, _inside
    if getattr(_here, "inside", False):
        yield
        return
    keep_freed_memory()
    with _LOCK:
        # Asked in every thread: torch would set a new one up after us.
        found = torch.get_num_threads()
        _threads = _threads if _inside else found
        _inside += 1
        torch.set_num_threads(1)
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        with _LOCK:
            _inside -= 1
            torch.set_num_threads(_threads)


@lru_cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory in a dask worker, as it would in any other process.

    Torch takes and frees tensors of the same sizes at every batch. Where glibc
    gives each of them back to the system, encoding takes twice as long. A
    value other than dask's own is the user's, and stays.

    Returns
    -------
    bool
        Whether anything was changed.
    """
    name, value = _TRIMMED_BY_DASK
    # Dask leaves the variable behind in the process that starts workers, too.
    started = multiprocessing.parent_process() is not None
    if not started or os.environ.get(name) != value or os.name != "posix":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # 32 and 64 MiB are how far glibc raises the two by itself.
    return mallopt is not None and all(
        [mallopt(_M_MMAP_THRESHOLD, 32 * 2**20), mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)]
    )
