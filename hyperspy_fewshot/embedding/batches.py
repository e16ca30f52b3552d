"""Encoding on a device, in batches that fit into its memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.encoders.threads import Lock, one_thread
from hyperspy_fewshot.grids.field import Field

# Batch sizes that fitted after memory had run out, by encoder, item shape and device.
_FITTING: dict[tuple, int] = {}
_LOCKS: dict[tuple[str, int], Lock] = {}


def choose_device(device: str | torch.device | None) -> str:
    """Return the device to compute on, as torch names it.

    None stands for cuda if there is one, then mps, else the CPU.

    Raises
    ------
    ValueError
        If torch does not know the device, or it is not available.
    """
    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        known = torch.device(device)
        # Only a value that comes back proves that the device works.
        torch.zeros(1, device=known).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}); None chooses one, "
            "'cpu' is always available."
        ) from error
    return str(known)


@contextmanager
def using(device: str) -> Iterator[None]:
    """Compute with one torch thread on a CPU, or one block at a time on any other device."""
    known = torch.device(device)
    with one_thread() if known.type == "cpu" else _lock_of(known):
        yield


def _lock_of(device: torch.device) -> Lock:
    key = (device.type, device.index or 0)
    # `setdefault` is atomic: two threads cannot get different locks.
    return _LOCKS.get(key) or _LOCKS.setdefault(key, Lock())


def encode_reduced(encoder: Encoder, reduced: np.ndarray, device: str) -> np.ndarray:
    """Encode what the linear first step of an encoder returned, as float32 of shape (n, d).

    Raises ValueError if the encoder does not return n rows of real numbers.
    """
    return in_batches(
        lambda batch: _checked(encoder, encoder.encode_reduced(batch, device), batch),
        encoder,
        reduced,
        device,
    )


def in_batches(
    function: Callable[[np.ndarray], np.ndarray], encoder: Encoder, items: np.ndarray, device: str
) -> np.ndarray:
    """Call a function on items in batches that fit, and concatenate the results.

    The batch size is halved when memory runs out, and remembered.
    """
    what = (encoder.sha256, items.shape[1:], device)
    size, start, parts = encoder.batch_of(items.shape[1:]), 0, []
    with using(device):
        while start < len(items):
            size = min(size, _FITTING.get(what, size))
            try:
                parts.append(function(items[start : start + size]))
                start += size
            except (MemoryError, RuntimeError) as error:
                if size == 1 or not _is_out_of_memory(error):
                    raise
                _FITTING[what] = size // 2
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory is short; torch has no exception class for that of the CPU."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _checked(encoder: Encoder, embeddings: np.ndarray, batch: np.ndarray) -> np.ndarray:
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
    """Embed all chips of some fields with a dense encoder, as float32 of shape (n, d)."""
    with using(device):
        parts = [_encode_field(encoder, field, device) for field in fields]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _encode_field(encoder: Encoder, field: Field, device: str) -> np.ndarray:
    """Embed the chips of a field (r, c, d); half of its rows at a time when memory runs out."""
    try:
        return encoder.encode_field(field, device)
    except (MemoryError, RuntimeError) as error:
        half = len(field.rows) // 2
        if not half or not _is_out_of_memory(error):
            raise
    halves = (replace(field, rows=rows) for rows in (field.rows[:half], field.rows[half:]))
    return np.concatenate([_encode_field(encoder, part, device) for part in halves])
