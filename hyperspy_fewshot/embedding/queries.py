"""Queries and support examples: from data in memory to embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hyperspy_fewshot.embedding.batches import (
    choose_device,
    encode_fields,
    encode_reduced,
    in_batches,
)
from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.encoders.base import to_tensor
from hyperspy_fewshot.grids.field import Field, joined
from hyperspy_fewshot.grids.slices import Slices, shape_of, within

# Side of the square [px] in which examples are embedded together, and their largest number: all
# rows are combined with all columns.
_NEARBY, _MOST_TOGETHER = 64, 16

Turn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EncoderStep:
    """The linear first step of an encoder, in batches on a device.

    `turn` is a rotation or reflection that is applied to the items first.
    """

    encoder: Encoder
    device: str
    turn: Turn = np.asarray

    def reduce(self, items: np.ndarray) -> np.ndarray:
        """Turn and reduce items (n, ...)."""
        return in_batches(
            lambda batch: self.encoder.reduce(self.turn(batch), self.device),
            self.encoder,
            items,
            self.device,
        )

    def project(self, items: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Multiply flattened items (n, p) by a matrix (p, k)."""
        columns = torch.as_tensor(matrix)
        return in_batches(
            lambda batch: (to_tensor(batch, "cpu").flatten(1) @ columns).numpy(),
            self.encoder,
            items,
            "cpu",
        )


def embed_block(
    recipe: Recipe, data: np.ndarray, block: Slices, mask: np.ndarray | None, device: str | None
) -> np.ndarray:
    """Embed a block of queries, float32 of shape (cells, d).

    `data` are those of ``recipe.window(block)``. Cells of the mask, and those with data that are
    not finite, become NaN. A device of None is the best one of the process.
    """
    device, data = device or choose_device(None), recipe.scaled(data)
    window = recipe.window(block)
    columns = [
        _embed_part(part, data[within(window, part.grid.window(block))], block, mask, device)
        for part in recipe.parts
    ]
    embeddings = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
    embeddings[np.isnan(embeddings).any(axis=1)] = np.nan
    return embeddings


def _embed_part(part: Part, data, block, mask, device) -> np.ndarray:
    cells = int(np.prod(shape_of(block)))
    left_out = np.zeros(cells, bool) if mask is None else mask[block].reshape(-1)
    found = [] if left_out.all() else list(_encoded(part, data, block, mask, left_out, device))
    size = part.size or (found[0][1].shape[1] if found else 0)
    embeddings = np.full((cells, size), np.nan, np.float32)
    for index, encoded in found:
        embeddings[index] = _sized(part.encoder, encoded, size)
    if part.scale != 1:
        embeddings *= part.scale
    return embeddings


def _encoded(part: Part, data, block, mask, left_out, device):
    """Yield flat indices and embeddings of the queries of a block that are finite."""
    grid, encoder = part.grid, part.encoder
    if part.dense:
        index = np.flatnonzero(~left_out)
        yield index, encode_fields(encoder, grid.fields(data, block), device)[index]
        return
    step, size = EncoderStep(encoder, device), encoder.batch_of(grid.item_shape)
    for index, items in grid.batches(data, block, mask, size, step):
        kept = _finite(items)
        if kept.all():
            yield index, encode_reduced(encoder, items, device)
        elif kept.any():
            yield index[kept], encode_reduced(encoder, items[kept], device)


def embed_at(
    recipe: Recipe,
    data: Sequence[np.ndarray],
    locations: Sequence[tuple[int, ...]],
    mask: np.ndarray | None,
    device: str | None,
) -> np.ndarray:
    """Embed support examples and their augmented copies, float32 of shape (copies, n, d).

    `data` are those of ``recipe.window_at(location)`` for each location. A mask leaves out
    neighbours, not the location itself. NaN where data are not finite.
    """
    device, data = device or choose_device(None), [recipe.scaled(array) for array in data]
    columns = []
    for part in recipe.parts:
        windows = [
            array[within(recipe.window_at(place), part.grid.window_at(place))]
            for array, place in zip(data, locations, strict=True)
        ]
        columns.append(_embed_part_at(part, windows, locations, mask, device))
    return _joined(columns)


def _embed_part_at(part: Part, windows, locations, mask, device) -> np.ndarray:
    grid, pairs = part.grid, list(zip(windows, locations, strict=True))
    if part.dense:
        groups = _nearby(locations, len(grid.nav_shape))
        fields = [[grid.field_at(*pairs[i]) for i in group] for group in groups]
        return _embed_fields(part, fields, device)

    def reduced(step: EncoderStep) -> np.ndarray:
        return np.concatenate([grid.item_at(data, place, mask, step) for data, place in pairs])

    return _embed_copies(part, reduced, device)


def embed_items(recipe: Recipe, items: np.ndarray, device: str | None) -> np.ndarray:
    """Embed ready examples (n, ...), and their augmented copies, as :func:`embed_at` does."""
    device, items = device or choose_device(None), recipe.scaled(items).astype(np.float32)
    return _joined([_embed_ready(part, items, device) for part in recipe.parts])


def _embed_ready(part: Part, items: np.ndarray, device: str) -> np.ndarray:
    if not part.dense:
        return _embed_copies(part, lambda step: step.reduce(items), device)
    grid = part.grid
    fields = [[Field.of_chip(item, grid.margin, grid.chip_size)] for item in items]
    return _embed_fields(part, fields, device)


def _embed_fields(part: Part, groups: list[list[Field]], device: str) -> np.ndarray:
    """Embed single chips in their surroundings, some of them together, shape (1, n, d)."""
    found = []
    for fields in groups:
        whole, rows, columns = joined(fields)
        chips = encode_fields(part.encoder, [whole], device)
        found.append(chips[rows * len(whole.columns) + columns])
    embeddings = np.concatenate(found)
    return part.scale * _sized(part.encoder, embeddings, part.size)[np.newaxis]


def _nearby(locations: Sequence[tuple[int, ...]], n_nav: int) -> list[list[int]]:
    """Divide locations (*nav, y, x) into runs that lie within a small square, by their index."""
    groups: list[list[int]] = []
    for i in range(len(locations)):
        group = groups[-1] if groups else []
        places = np.array([locations[j] for j in (*group, i)])
        extents = np.ptp(places, axis=0)
        near = not extents[:n_nav].any() and extents[n_nav:].max() <= _NEARBY
        if group and near and len(group) < _MOST_TOGETHER:
            group.append(i)
        else:
            groups.append([i])
    return groups


def _embed_copies(part: Part, reduced: Callable, device: str) -> np.ndarray:
    """Embed examples in all orientations that do not change the class, shape (copies, n, d)."""
    turns = _turns(part.grid.item_shape) if part.encoder.dihedral else [np.asarray]
    items = np.stack([reduced(EncoderStep(part.encoder, device, turn)) for turn in turns])
    copies, n = items.shape[:2]
    items = items.reshape(copies * n, *items.shape[2:])
    kept = _finite(items)
    embeddings = np.full((len(items), part.size), np.nan, np.float32)
    if kept.any():
        found = encode_reduced(part.encoder, items[kept], device)
        embeddings[kept] = part.scale * _sized(part.encoder, found, part.size)
    return embeddings.reshape(copies, n, -1)


def _joined(columns: list[np.ndarray]) -> np.ndarray:
    """Put the embeddings of several parts beside each other."""
    copies = max(len(column) for column in columns)
    return np.concatenate([np.broadcast_to(c, (copies, *c.shape[1:])) for c in columns], axis=-1)


def _turns(item_shape: tuple[int, ...]) -> list[Turn]:
    """Rotations and reflections that keep the shape of items (n, h, w)."""
    if len(item_shape) != 2:
        return [np.asarray]
    square = item_shape[0] == item_shape[1]
    turns: list[Turn] = []
    for k in range(4) if square else (0, 2):
        turns.append(lambda items, k=k: np.rot90(items, k, axes=(1, 2)))
        turns.append(lambda items, k=k: np.rot90(items, k, axes=(1, 2))[:, :, ::-1])
    return turns


def _finite(items: np.ndarray) -> np.ndarray:
    """Which items are finite, shape (n,)."""
    if items.dtype.kind in "iub":
        return np.ones(len(items), bool)
    return np.isfinite(items).all(axis=tuple(range(1, items.ndim)))


def _sized(encoder: Encoder, embeddings: np.ndarray, size: int) -> np.ndarray:
    if embeddings.shape[1] != size:
        raise ValueError(
            f"The encoder {encoder.name!r} returned {embeddings.shape[1]} numbers an item, "
            f"{size} before: their number must not depend on the batch."
        )
    return embeddings
