"""One torch thread beside the threads of dask, and threads in a process that was forked."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

# The user's number of torch threads, and how many threads run with one at the moment.
_found = _inside = 0
_here = threading.local()
_is_forked = False


def after_fork(function: Callable[[], Any]) -> None:
    """Call a function in every process that is forked from this one, as soon as it starts."""
    # Windows cannot fork.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


class Lock:
    """A lock that is open after a fork: in the new process, the thread that holds it is missing."""

    def __init__(self):
        self._open()
        after_fork(self._open)

    def _open(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: Any) -> None:
        self._lock.release()


_LOCK = Lock()


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


@contextmanager
def usable_threads() -> Iterator[None]:
    """Compute with one torch thread in a process that was forked, else with all of them.

    The threads that torch has started before a fork are missing after it: it would wait for them.
    """
    with one_thread() if _is_forked else nullcontext():
        yield


def _forget_others() -> None:
    """Only the thread that has forked goes on in the new process."""
    global _inside, _is_forked
    was_inside, _inside = _inside, int(getattr(_here, "inside", False))
    if was_inside and not _inside:
        torch.set_num_threads(_found)
    _is_forked = True


after_fork(_forget_others)
