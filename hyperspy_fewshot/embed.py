"""From data to embeddings: blocks of a lazy array through an encoder."""

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import torch
from dask.highlevelgraph import HighLevelGraph

from .chips import Block, ChipGrid, Field, within
from .computing import compute
from .encoders import Encoder
from .encoders.threads import one_thread
from .positions import PositionGrid
from .regions import join, pieces_of

Grid = ChipGrid | PositionGrid

# A block: positions as float32 [bytes], or the side of a piece of image [px];
# in chips where a dense encoder resamples them to its size.
_BLOCK_BYTES = 16 * 2**20
_BLOCK_SIDE = 1024
_BLOCK_CHIPS = 16
# The sample from which the data set's normalisation, centre and components are
# estimated: as float32 [bytes], and in items.
_SAMPLE_BYTES = 64 * 2**20
_MOST_SAMPLED = {ChipGrid: 2048, PositionGrid: 8192}
# Side of the contiguous pieces of the sample: chips overlap already, positions
# need neighbours around which a context can be chosen.
_SAMPLE_SIDE = {ChipGrid: 4, PositionGrid: 8}
# The same where an encoder sees what surrounds a chip, which must be read, too.
_DENSE_SAMPLE_SIDE = 8

_GPU_LOCK = threading.Lock()


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


def encode(encoder: Encoder, items: np.ndarray, device: str) -> np.ndarray:
    """Encode items in batches that fit, as float32 of shape (n, d).

    Raises
    ------
    ValueError
        If the encoder does not return n rows of real numbers.
    torch.OutOfMemoryError, MemoryError
        If not even one item fits.
    """
    size, start, parts = encoder.batch_of(items.shape[1:]), 0, []
    with one_thread() if torch.device(device).type == "cpu" else _GPU_LOCK:
        while start < len(items):
            try:
                parts.append(_check(encoder, items[start : start + size], device))
                start += size
            except (torch.OutOfMemoryError, MemoryError):
                if size == 1:
                    raise
                size //= 2
    return np.concatenate(parts)


def _check(encoder: Encoder, batch: np.ndarray, device: str) -> np.ndarray:
    embeddings = np.asarray(encoder.encode(batch, device))
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
    with one_thread() if torch.device(device).type == "cpu" else _GPU_LOCK:
        parts = [_encode_field(encoder, field, device) for field in fields]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _encode_field(encoder: Encoder, field: Field, device: str) -> np.ndarray:
    """Embed the chips of a field (r, c, d), half of the rows at a time where memory runs out."""
    try:
        return encoder.encode_field(field, device)
    except (torch.OutOfMemoryError, MemoryError):
        half = len(field.rows) // 2
        if not half:
            raise
    halves = (replace(field, rows=rows) for rows in (field.rows[:half], field.rows[half:]))
    return np.concatenate([_encode_field(encoder, part, device) for part in halves])


def sample_blocks(grid: Grid) -> list[Block]:
    """Where the data set is sampled: seeded, and decided by the shape alone.

    Returns
    -------
    list of tuple of slice
        Contiguous blocks of the grid; all of it when it is small.
    """
    fitting = _SAMPLE_BYTES // (4 * math.prod(grid.item_shape))
    # Of large items a few more are worth four times the memory.
    count = min(_MOST_SAMPLED[type(grid)], max(fitting, min(256, 4 * fitting), 16))
    if math.prod(grid.shape) <= count:
        return [tuple(slice(0, size) for size in grid.shape)]
    dense = isinstance(grid, ChipGrid) and grid.margin > 0
    side = _DENSE_SAMPLE_SIDE if dense else _SAMPLE_SIDE[type(grid)]
    # Along a line the pieces are longer, so that their number stays the same.
    sides = (1,) * (len(grid.shape) - 2) + ((side**2,) if len(grid.shape) == 1 else (side, side))
    tiles = tuple(-(-size // s) for size, s in zip(grid.shape, sides, strict=True))
    chosen = np.random.default_rng(0).choice(
        math.prod(tiles), size=min(-(-count // side**2), math.prod(tiles)), replace=False
    )
    corners = np.transpose(np.unravel_index(np.sort(chosen), tiles)) * np.array(sides)
    return [
        tuple(
            slice(int(low), int(min(low + s, size)))
            for low, s, size in zip(corner, sides, grid.shape, strict=True)
        )
        for corner in corners
    ]


def read(data: da.Array, regions: Sequence[Block], show_progressbar: bool) -> list[np.ndarray]:
    """Read regions of the data, together.

    What is computed is computed once for all of them; of a file only what they
    cover is read, which matters where a chunk is large and the regions few.
    """
    parts = compute(
        *(data[region] for region in regions),
        show_progressbar=show_progressbar,
        what="Reading examples",
    )
    return [np.asarray(part) for part in parts]


def crop(region: np.ndarray, have: Block, want: Block) -> np.ndarray:
    """Cut a region that was read for `have` down to `want`."""
    return region[within(have, want)]


def block_items(
    region: np.ndarray, grid: Grid, block: Block, mask: np.ndarray | None
) -> np.ndarray:
    """All finite, unmasked items of a block, shape (n, *item_shape)."""
    parts = [items for _, items in grid.batches(region, block, mask, 4096)]
    items = np.concatenate(parts) if parts else np.empty((0, *grid.item_shape), region.dtype)
    return items[_finite(items)]


def embeddings(
    data: da.Array, grid: Grid, mask: np.ndarray | None, encoder: Encoder, size: int, device: str
) -> da.Array:
    """Embed every query, lazily.

    Parameters
    ----------
    data
        Shape (*nav, H, W) or (*nav, *signal).
    grid
        Where the queries lie.
    mask
        Queries to leave out (True), shape of the grid; None: none.
    encoder
        A fitted encoder.
    size
        Length d of an embedding.
    device
        Where to encode.

    Returns
    -------
    dask.array.Array
        float32, shape (*grid.shape, d). Masked queries, and those whose data
        are not finite, have NaN in place of an embedding.
    """
    name = f"fewshot-{uuid4().hex}"
    chunks = _block_sizes(grid, data, encoder.dense)
    edges = [np.cumsum((0, *sizes)) for sizes in chunks]
    # One node of the graph holds what all blocks share.
    job = _Job(grid, mask, encoder, size, device, edges)
    shared = dask.delayed(job, name=f"{name}-job", traverse=False)
    layer: dict = {}
    for index in np.ndindex(*map(len, chunks)):
        pieces = pieces_of(data, grid.region(job.block(index)), layer, f"{name}-{index}")
        layer[(name, *index, 0)] = (_embed_block, shared.key, pieces, *index)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[data, shared])
    meta = np.empty((0,) * (len(chunks) + 1), np.float32)
    return da.Array(graph, name, (*chunks, (size,)), meta=meta)


@dataclass(frozen=True, eq=False)
class _Job:
    """What the blocks of one classification share."""

    grid: Grid
    mask: np.ndarray | None
    encoder: Encoder
    size: int
    device: str
    edges: list[np.ndarray]

    def block(self, index: tuple[int, ...]) -> Block:
        """Slices of the grid that a block covers."""
        return tuple(
            slice(int(e[i]), int(e[i + 1])) for e, i in zip(self.edges, index, strict=True)
        )


def _embed_block(job: _Job, pieces: list, *index: int) -> np.ndarray:
    block = job.block(index)
    shape = tuple(s.stop - s.start for s in block)
    if job.encoder.dense and isinstance(job.grid, ChipGrid):
        return _embed_dense(job, join(pieces), block).reshape(*shape, job.size)
    result = np.full((math.prod(shape), job.size), np.nan, np.float32)
    size = job.encoder.batch_of(job.grid.item_shape)
    batches = job.grid.batches(join(pieces), block, job.mask, size)
    for number, items in batches:
        finite = _finite(items)
        if not finite.any():
            continue
        embedded = encode(job.encoder, items[finite], job.device)
        if embedded.shape[1] != job.size:
            raise ValueError(
                f"The encoder {job.encoder.name!r} gave {embedded.shape[1]} numbers an item, "
                f"{job.size} before: their number must not depend on the batch."
            )
        result[number[finite]] = embedded
    return result.reshape(*shape, job.size)


def _embed_dense(job: _Job, region: np.ndarray, block: Block) -> np.ndarray:
    left_out = None if job.mask is None else job.mask[block]
    if left_out is not None and left_out.all():
        return np.full((left_out.size, job.size), np.nan, np.float32)
    result = encode_fields(job.encoder, job.grid.fields(region, block), job.device)
    if left_out is not None:
        result[left_out.ravel()] = np.nan
    return result


def _finite(items: np.ndarray) -> np.ndarray:
    return np.isfinite(items).all(axis=tuple(range(1, items.ndim)))


def _block_sizes(grid: Grid, data: da.Array, dense: bool) -> tuple[tuple[int, ...], ...]:
    """Sizes of the blocks of the grid along every axis."""
    if isinstance(grid, ChipGrid):
        side = _BLOCK_CHIPS * grid.chip_size if dense else _BLOCK_SIDE
        cells = max(1, side // grid.stride)
        limits = (1,) * len(grid.nav_shape) + (cells, cells)
        return da.core.normalize_chunks(limits, grid.shape)
    nav = len(grid.nav_shape)
    chunks = da.core.normalize_chunks(
        ("auto",) * nav + (-1,) * (data.ndim - nav),
        data.shape,
        limit=_BLOCK_BYTES,
        dtype=np.float32,
        previous_chunks=data.chunks,
    )
    return chunks[:nav]
