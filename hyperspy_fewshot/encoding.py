"""Queries through an encoder: batches that fit, on a device."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import dask
import numpy as np
import torch

from .chips import Block, ChipGrid, Field, unmasked, within
from .encoders import Encoder
from .encoders.base import to_tensor
from .encoders.threads import one_thread
from .positions import PositionGrid, alone

Grid = ChipGrid | PositionGrid

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
    with one_thread() if torch.device(device).type == "cpu" else _lock(device):
        yield


@cache
def _lock(device: str) -> threading.Lock:
    """The lock of a device in this process, wherever its name came from."""
    return threading.Lock()


def encode(encoder: Encoder, items: np.ndarray, device: str) -> np.ndarray:
    """Encode items in batches that fit, as float32 of shape (n, d).

    Raises
    ------
    ValueError
        If the encoder does not return n rows of real numbers.
    MemoryError, RuntimeError
        If not even one item fits.
    """
    return _in_batches(
        lambda batch: _check(encoder, encoder.encode(batch, device), batch), encoder, items, device
    )


def _in_batches(
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


def embed_block(
    encoder: Encoder,
    grid: Grid,
    region: np.ndarray,
    block: Block,
    mask: np.ndarray | None,
    device: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Embed the queries of a block that are finite and not masked.

    Parameters
    ----------
    encoder
        A fitted encoder.
    grid
        Where the queries lie.
    region
        The data ``data[grid.region(block)]``.
    block
        Slices into the grid.
    mask
        Queries to leave out (True), shape of the grid; None: none.
    device
        Where to encode.

    Returns
    -------
    index : numpy.ndarray
        Flat indices of the queries inside the block, shape (n,).
    embeddings : numpy.ndarray
        float32, shape (n, d); (0, 0) if there are none.
    """
    if is_dense(encoder, grid):
        return _embed_fields(encoder, grid, region, block, mask, device)
    if isinstance(grid, PositionGrid) and grid.context > 1:
        left_out = None if mask is None else mask[grid.region(block)]
        reduced = _pooled(encoder, grid, region, block, left_out, device)
        size = encoder.batch_of(reduced.shape[1:])
        batches = ((index, reduced[index]) for index in unmasked(block, mask, size))
        encode_batch = encode_reduced
    else:
        batches = grid.batches(region, block, mask, encoder.batch_of(grid.item_shape))
        encode_batch = encode
    indices, parts = [], []
    for index, items in batches:
        kept = finite(items)
        if kept.any():
            index, items = (index, items) if kept.all() else (index[kept], items[kept])
            indices.append(index)
            parts.append(encode_batch(encoder, items, device))
    if not parts:
        return np.empty(0, int), np.empty((0, 0), np.float32)
    return np.concatenate(indices), _joined(encoder, parts)


def embed_blocks(
    encoder: Encoder,
    grid: Grid,
    regions: Sequence[np.ndarray],
    blocks: Sequence[Block],
    mask: np.ndarray | None,
    device: str,
) -> np.ndarray:
    """Embed what :func:`embed_block` embeds of several blocks, on all threads, shape (n, d)."""
    tasks = [
        dask.delayed(embed_block, pure=False, traverse=False)(
            encoder, grid, region, block, mask, device
        )
        for region, block in zip(regions, blocks, strict=True)
    ]
    parts = [found for _, found in dask.compute(*tasks, scheduler="threads") if len(found)]
    return _joined(encoder, parts) if parts else np.empty((0, 0), np.float32)


def embed_at(
    encoder: Encoder,
    grid: Grid,
    regions: Sequence[np.ndarray],
    locations: Sequence[tuple[int, ...]],
    mask: np.ndarray | None,
    device: str,
) -> np.ndarray:
    """Embed the queries at some locations, and their turned copies, as far as they are finite.

    Parameters
    ----------
    encoder, grid, mask, device
        As for :func:`embed_block`; what is masked at a location itself counts.
    regions
        The data ``data[grid.region_at(location)]`` of each.
    locations
        Chip centres [px] or navigation positions, array order.

    Returns
    -------
    numpy.ndarray
        float32, shape (n, d).
    """
    pairs = zip(regions, locations, strict=True)
    if is_dense(encoder, grid):
        fields = (grid.field_at(region, location) for region, location in pairs)
        found = encode_fields(encoder, fields, device)
        return found[np.isfinite(found).all(axis=1)]
    if isinstance(grid, ChipGrid) or grid.context == 1:
        items = [grid.item_at(region, location, mask) for region, location in pairs]
        return embed_items(encoder, np.stack(items), device)
    reduced = [
        _pooled(encoder, grid, region, alone(place), grid.left_out_at(place, mask), device)
        for region, place in pairs
    ]
    return _embed_turned(encoder, np.concatenate(reduced), device, encode_reduced)


def embed_items(encoder: Encoder, items: np.ndarray, device: str) -> np.ndarray:
    """Embed items that are finite, and their turned copies, as float32 of shape (n, d)."""
    return _embed_turned(encoder, items.astype(np.float32), device, encode)


def _embed_turned(encoder, items, device, encode_batch) -> np.ndarray:
    items = items[finite(items)]
    if encoder.dihedral and items.ndim == 3:
        turned = [np.rot90(items, k, axes=(1, 2)) for k in range(4)]
        items = np.concatenate(turned + [view[:, :, ::-1] for view in turned])
    return encode_batch(encoder, items, device) if len(items) else np.empty((0, 1), np.float32)


def encode_reduced(encoder: Encoder, reduced: np.ndarray, device: str) -> np.ndarray:
    """Encode what the encoder's linear first step gave, as :func:`encode` does items."""
    return _in_batches(
        lambda batch: _check(encoder, encoder.encode_reduced(batch, device), batch),
        encoder,
        reduced,
        device,
    )


def _pooled(
    encoder: Encoder,
    grid: PositionGrid,
    region: np.ndarray,
    block: Block,
    left_out: np.ndarray | None,
    device: str,
) -> np.ndarray:
    """Reduced and pooled positions of a block, shape (n, ...)."""
    around = grid.region(block)
    shape = tuple(s.stop - s.start for s in around)
    items = grid.prepare(region).reshape(-1, *grid.item_shape)
    reduced = _in_batches(
        lambda batch: encoder.reduce(batch.astype(np.float32), device), encoder, items, device
    )
    judged = None
    if grid.smoothing is not None:
        matrix = torch.as_tensor(grid.smoothing.matrix(grid.item_shape))
        judged = _in_batches(
            lambda batch: (to_tensor(batch, "cpu").flatten(1) @ matrix).numpy(),
            encoder,
            items,
            "cpu",
        ).reshape(*shape, -1)
    pooled = grid.pool(reduced.reshape(*shape, *reduced.shape[1:]), left_out, judged)
    return pooled[within(around, block)].reshape(-1, *reduced.shape[1:])


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


def _embed_fields(encoder, grid, region, block, mask, device) -> tuple[np.ndarray, np.ndarray]:
    wanted = np.concatenate([*unmasked(block, mask, sys.maxsize), np.empty(0, int)])
    if not len(wanted):
        return wanted, np.empty((0, 0), np.float32)
    found = encode_fields(encoder, grid.fields(region, block), device)
    wanted = wanted[np.isfinite(found[wanted]).all(axis=1)]
    return wanted, found[wanted]


def is_dense(encoder: Encoder, grid: Grid) -> bool:
    """Whether chips are embedded uncut, in the image."""
    return encoder.dense and isinstance(grid, ChipGrid)


def _joined(encoder: Encoder, parts: list[np.ndarray]) -> np.ndarray:
    lengths = {part.shape[1] for part in parts}
    if len(lengths) > 1:
        raise ValueError(
            f"The encoder {encoder.name!r} gave {' and '.join(map(str, sorted(lengths)))} numbers an "
            "item: their number must not depend on the batch."
        )
    return np.concatenate(parts)


def finite(items: np.ndarray) -> np.ndarray:
    """Which items are finite, shape (n,)."""
    if items.dtype.kind in "iub":
        return np.ones(len(items), bool)
    return np.isfinite(items).all(axis=tuple(range(1, items.ndim)))
