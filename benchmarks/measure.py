"""Times, peak memory and processes of their own, for speed.py."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

_PROCESS = Path("/proc/self")
_PACKAGES = ("hyperspy", "rosettasciio", "dask", "distributed", "numpy", "torch")
# Torch and BLAS have as many threads as they choose, as they do for most users.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

CORES = os.cpu_count() or 1


def fresh(function: Callable, *args: Any, **options: Any) -> Any:
    """Call a function of a module in a new process."""
    for name in _THREADS:
        os.environ.pop(name, None)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **options).result()


def here(function: Callable, *args: Any, **options: Any) -> Any:
    """Call a function in this process: sooner, but its memory is that of all before."""
    return function(*args, **options)


def timed(function: Callable, *args: Any, **options: Any) -> tuple[float, Any]:
    """Wall time [s] of a call, and what it returns."""
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


class Peak:
    """Peak memory of this process above what it holds now."""

    def __init__(self):
        # Linux can forget the peak so far.
        with suppress(OSError):
            (_PROCESS / "clear_refs").write_text("5")
        self._start = _memory("VmRSS")

    def above(self) -> float:
        """Peak since then [bytes]."""
        return _memory("VmHWM") - self._start


def _memory(name: str) -> float:
    """A memory of this process [bytes]; the peak so far where there is no /proc."""
    if not _PROCESS.exists():
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most) if sys.platform == "darwin" else most * 1024.0
    lines = (_PROCESS / "status").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith(name)))


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """So many threads of torch, then as many as before; None: no other number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_all_cores(function: Callable, parts: Iterable) -> list:
    """Call a function for all parts: a thread a core, one thread of torch in each."""
    options = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with torch_threads(1), ThreadPoolExecutor(CORES, **options) as pool:
        return list(pool.map(function, parts))


def sgemm(side: int, repeats: int = 5) -> float:
    """Rate of a float32 matrix product on all cores [FLOP/s]."""
    matrix = torch.rand(side, side)
    with torch_threads(CORES):
        return 2 * side**3 / min(timed(torch.mm, matrix, matrix)[0] for _ in range(repeats))


def machine() -> str:
    """Processor and system."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    return f"{CORES} cores, {name}, {platform.system()}"


def versions() -> str:
    """Versions of Python and of the packages that matter."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"Python {platform.python_version()}, {packages}"
