"""One torch thread beside the threads of dask, without changing the user's setting."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
# The user's number of torch threads, and how many threads run with one at the moment.
_found = _inside = 0
_here = threading.local()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread: two thread pools, of dask and of torch, slow each other down.

    A thread that uses torch for the first time while others are in here starts with their 1;
    therefore all of them restore the number that the first one found.
    """
    global _found, _inside
    if getattr(_here, "inside", False):
        yield
        return
    with _LOCK:
        # Asked in every thread: otherwise torch would set the number at its first use, after us.
        found = torch.get_num_threads()
        _found = _found if _inside else found
        _inside += 1
        torch.set_num_threads(1)
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        with _LOCK:
            _inside -= 1
            torch.set_num_threads(_found)
