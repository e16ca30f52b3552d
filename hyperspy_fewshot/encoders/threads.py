"""Torch beside the threads of dask and of other programs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The user's number of torch threads, and how many blocks have set their own.
_LOCK = threading.Lock()
_threads = _inside = 0
_here = threading.local()


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
