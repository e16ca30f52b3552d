"""Queries and support examples: from data that were read to embeddings."""

import sys
from collections.abc import Sequence

import dask
import numpy as np
import torch

from .chips import Block, ChipGrid, unmasked, within
from .computing import compute
from .encoders import Encoder
from .encoders.base import to_tensor
from .encoding import choose_device, encode, encode_fields, encode_reduced, finite, in_batches
from .positions import PositionGrid, alone

Grid = ChipGrid | PositionGrid


def embed_block(
    encoder: Encoder,
    grid: Grid,
    region: np.ndarray,
    block: Block,
    mask: np.ndarray | None,
    device: str | None,
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
        Where to encode; None: on the best that the process finds.

    Returns
    -------
    index : numpy.ndarray
        Flat indices of the queries inside the block, shape (n,).
    embeddings : numpy.ndarray
        float32, shape (n, d); (0, 0) if there are none.
    """
    device = device or choose_device(None)
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
    device: str | None,
    show_progressbar: bool,
) -> np.ndarray:
    """Embed what :func:`embed_block` embeds of several blocks, on all threads, shape (n, d)."""
    tasks = [
        dask.delayed(embed_block, pure=False, traverse=False)(
            encoder, grid, region, block, mask, device
        )
        for region, block in zip(regions, blocks, strict=True)
    ]
    with dask.config.set(scheduler="threads"):
        # Not on a cluster, where the blocks would have to go first.
        found = compute(*tasks, show_progressbar=show_progressbar, what="Embedding the sample")
    parts = [part for _, part in found if len(part)]
    return _joined(encoder, parts) if parts else np.empty((0, 0), np.float32)


def embed_at(
    encoder: Encoder,
    grid: Grid,
    regions: Sequence[np.ndarray],
    locations: Sequence[tuple[int, ...]],
    mask: np.ndarray | None,
    device: str | None,
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
    device = device or choose_device(None)
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


def embed_items(encoder: Encoder, items: np.ndarray, device: str | None) -> np.ndarray:
    """Embed items that are finite, and their turned copies, as float32 of shape (n, d)."""
    device = device or choose_device(None)
    return _embed_turned(encoder, items.astype(np.float32), device, encode)


def _embed_turned(encoder, items, device, encode_batch) -> np.ndarray:
    items = items[finite(items)]
    if encoder.dihedral and items.ndim == 3:
        turned = [np.rot90(items, k, axes=(1, 2)) for k in range(4)]
        items = np.concatenate(turned + [view[:, :, ::-1] for view in turned])
    return encode_batch(encoder, items, device) if len(items) else np.empty((0, 1), np.float32)


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
    reduced = in_batches(
        lambda batch: encoder.reduce(batch.astype(np.float32), device), encoder, items, device
    )
    judged = None
    if grid.smoothing is not None:
        matrix = torch.as_tensor(grid.smoothing.matrix(grid.item_shape))
        judged = in_batches(
            lambda batch: (to_tensor(batch, "cpu").flatten(1) @ matrix).numpy(),
            encoder,
            items,
            "cpu",
        ).reshape(*shape, -1)
    pooled = grid.pool(reduced.reshape(*shape, *reduced.shape[1:]), left_out, judged)
    return pooled[within(around, block)].reshape(-1, *reduced.shape[1:])


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
