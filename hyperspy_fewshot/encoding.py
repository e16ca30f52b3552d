"""Items through an encoder: devices, and batches that fit."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from .chips import Field
from .encoders import Encoder
from .encoders.threads import one_thread

# Batches that fitted where memory had run out, by encoder, shape and device.
_FITTING: dict[tuple, int] = {}


def choose_device(device: str | torch.device | None) -> str:
    """Return the device to compute on, as torch names it.

    None stands for cuda if there is one, then mps, else the CPU.

    Raises
    ------
    ValueError
        If torch does not know the device, or it is not there.
    """
    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        known = torch.device(device)
        # Only a value that comes back proves that the device is there.
        torch.zeros(1, device=known).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}); None chooses one, "
            "'cpu' is always there."
        ) from error
    return str(known)


@contextmanager
def using(device: str) -> Iterator[None]:
    """Compute on a device: one torch thread on a CPU, one block at a time on any other."""
    with one_thread() if torch.device(device).type == "cpu" else _lock(*_place(device)):
        yield


@cache
def _lock(kind: str, number: int) -> threading.Lock:
    """The lock of a device in this process."""
    return threading.Lock()


def _place(device: str) -> tuple[str, int]:
    known = torch.device(device)
    return known.type, known.index or 0


def encode(encoder: Encoder, items: np.ndarray, device: str) -> np.ndarray:
    """Encode items in batches that fit, as float32 of shape (n, d).

    Raises
    ------
    ValueError
        If the encoder does not return n rows of real numbers.
    MemoryError, RuntimeError
        If not even one item fits.
    """
    return in_batches(
        lambda batch: _check(encoder, encoder.encode(batch, device), batch), encoder, items, device
    )


def encode_reduced(encoder: Encoder, reduced: np.ndarray, device: str) -> np.ndarray:
    """Encode what the encoder's linear first step gave, as :func:`encode` does items."""
    return in_batches(
        lambda batch: _check(encoder, encoder.encode_reduced(batch, device), batch),
        encoder,
        reduced,
        device,
    )


def in_batches(
    function: Callable[[np.ndarray], np.ndarray], encoder: Encoder, items: np.ndarray, device: str
) -> np.ndarray:
    """Call a function on items in batches that fit, which is remembered, and join the results."""
    what = (encoder.sha256, items.shape[1:], device)
    size, start, parts = encoder.batch_of(items.shape[1:]), 0, []
    with using(device):
        while start < len(items):
            size = min(size, _FITTING.get(what, size))
            try:
                parts.append(function(items[start : start + size]))
                start += size
            except (MemoryError, RuntimeError) as error:
                if size == 1 or not _of_memory(error):
                    raise
                _FITTING[what] = size // 2
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _of_memory(error: Exception) -> bool:
    """Whether an error says that memory is short; torch has no class for that of the machine."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _check(encoder: Encoder, embeddings: np.ndarray, batch: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings)
    right = embeddings.ndim == 2 and len(embeddings) == len(batch)
    if not right or embeddings.dtype.kind not in "biuf":
        raise ValueError(
            f"The encoder {encoder.name!r} turned a batch of shape {batch.shape} into "
            f"{embeddings.shape} of type {embeddings.dtype}; real numbers of shape "
            f"({len(batch)}, d) are needed."
        )
    return embeddings.astype(np.float32, copy=False)


def encode_fields(encoder: Encoder, fields: Iterable[Field], device: str) -> np.ndarray:
    """Embed all chips of some fields with a dense encoder, float32 of shape (n, d)."""
    with using(device):
        parts = [_encode_field(encoder, field, device) for field in fields]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _encode_field(encoder: Encoder, field: Field, device: str) -> np.ndarray:
    """Embed the chips of a field (r, c, d), half of the rows at a time where memory runs out."""
    try:
        return encoder.encode_field(field, device)
    except (MemoryError, RuntimeError) as error:
        half = len(field.rows) // 2
        if not half or not _of_memory(error):
            raise
    halves = (replace(field, rows=rows) for rows in (field.rows[:half], field.rows[half:]))
    return np.concatenate([_encode_field(encoder, part, device) for part in halves])


def finite(items: np.ndarray) -> np.ndarray:
    """Which items are finite, shape (n,)."""
    if items.dtype.kind in "iub":
        return np.ones(len(items), bool)
    return np.isfinite(items).all(axis=tuple(range(1, items.ndim)))
