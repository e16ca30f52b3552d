"""What is learnt of a data set: context, normalisation, centre and classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from . import encoding, queries, sampling
from .chips import Block, ChipGrid, Field, within
from .context import CONTEXTS, choose_context
from .encoders import Encoder
from .locate import Domain, Entry
from .positions import PositionGrid
from .prototypes import FewShotClassifier
from .reading import file_of, guarded
from .regions import views_of
from .rois import step
from .settings import Settings
from .support import SupportSet

# Settings that are those of the grid; None where its kind has no such thing.
_OF_THE_GRID = ("chip_size", "stride", "context", "smoothing", "signal_mask")

_NOTHING_LEFT = "Nothing is left to classify: all data are masked or not finite."


@dataclass(frozen=True, eq=False)
class Task:
    """What is classified, where, by which encoder, and what is left out.

    The encoder knows nothing of the data, or what it learnt on other data.
    """

    signal: BaseSignal
    kind: str
    grid: ChipGrid | PositionGrid
    mask: np.ndarray | None
    device: str | None
    encoder: Encoder

    @property
    def data(self) -> da.Array:
        """The data as one dask array, which never copies them."""
        data = self.signal.data
        if self.signal._lazy:
            return guarded(data, file_of(self.signal))
        return views_of(data, 0 if self.kind == "image" else len(self.grid.signal_shape))

    def read(self, regions: Sequence[Block], show_progressbar: bool, what: str) -> list[np.ndarray]:
        """Read regions of the data, together; what is in memory needs no reading."""
        if not self.signal._lazy:
            return [self.signal.data[region] for region in regions]
        return sampling.read(self.data, regions, show_progressbar, what)

    @property
    def domain(self) -> Domain:
        """The space in which support examples are looked up."""
        axes = self.signal.axes_manager
        return Domain(self.kind, axes.navigation_axes, axes.signal_axes, self.grid)

    @property
    def sum_normalise(self) -> bool:
        """Whether the sum of a spectrum says nothing of its class (EDS)."""
        return self.kind == "spectrum" and self.signal.metadata.Signal.signal_type.startswith("EDS")


def learn(
    task: Task,
    support: SupportSet,
    context: int | None,
    reject: bool | float,
    show_progressbar: bool,
) -> tuple[FewShotClassifier, ChipGrid | PositionGrid]:
    """Learn normalisation, context, centre and classes of a data set.

    Reads the support examples and the sample, and nothing else.
    """
    entries = support.resolve(task.domain)
    data = _Read.of(task, entries, show_progressbar)
    grid = task.grid
    if task.kind != "image" and grid.context > 1:
        grid = _with_context(task, data, context)
        data = data.narrowed(task.grid, grid)
    encoder, centre = _fit_encoder(task, data, grid, show_progressbar)
    embeddings, index = _embed_support(replace(task, grid=grid), entries, data, support, encoder)
    groups, group_classes = _independent(entries, grid)
    classifier = FewShotClassifier.fit(
        embeddings,
        groups[index],
        group_classes,
        support.class_names,
        centre=centre,
        blocks=encoder.blocks,
        reject=reject,
        setup=_settings(task, grid, encoder, embeddings.shape[1], reject),
    )
    return classifier, grid


@dataclass(frozen=True, eq=False)
class _Read:
    """What was read of the data: the sample and the support examples."""

    blocks: list[Block]
    sampled: list[np.ndarray]
    places: list[tuple[int, ...]]
    examples: list[np.ndarray]

    @classmethod
    def of(cls, task: Task, entries: list[Entry], show_progressbar: bool) -> "_Read":
        """Read both together."""
        grid = task.grid
        blocks = sampling.sample_blocks(grid)
        located = [e for e in entries if e.locations is not None]
        places = [tuple(map(int, place)) for e in located for place in e.locations]
        regions = [grid.region(block) for block in blocks] + [grid.region_at(p) for p in places]
        parts = task.read(regions, show_progressbar, "Reading examples")
        return cls(blocks, parts[: len(blocks)], places, parts[len(blocks) :])

    def narrowed(self, wide: PositionGrid, grid: PositionGrid) -> "_Read":
        """Cut off what the context of another grid does not need."""
        sampled = [
            sampling.crop(part, wide.region(block), grid.region(block))
            for part, block in zip(self.sampled, self.blocks, strict=True)
        ]
        examples = [
            sampling.crop(part, wide.region_at(place), grid.region_at(place))
            for part, place in zip(self.examples, self.places, strict=True)
        ]
        return replace(self, sampled=sampled, examples=examples)


def _fit_encoder(
    task: Task, data: _Read, grid: ChipGrid | PositionGrid, show_progressbar: bool
) -> tuple[Encoder, np.ndarray]:
    """The fitted encoder, and the mean embedding of the sample."""
    sample = _sample(task, data, grid)
    encoder = task.encoder.fit(sample, kind=task.kind, sum_normalise=task.sum_normalise)
    sampled, blocks = data.sampled, data.blocks
    if task.kind == "pattern" and task.mask is None and len(blocks) > 1:
        # Patterns take long to embed, and a quarter of each of many pieces tells the mean
        # of all. A quarter of a single piece, or what a mask leaves of it, would not.
        blocks = [_half(block) for block in data.blocks]
        triples = zip(sampled, data.blocks, blocks, strict=True)
        sampled = [sampling.crop(p, grid.region(b), grid.region(half)) for p, b, half in triples]
    embeddings = queries.embed_blocks(
        encoder, grid, sampled, blocks, task.mask, task.device, show_progressbar
    )
    if not len(embeddings):
        raise ValueError(_NOTHING_LEFT)
    embeddings = embeddings[np.isfinite(embeddings).all(axis=1)]
    if not len(embeddings):
        raise ValueError(f"The encoder {encoder.name!r} gives NaN or infinity for all of a sample.")
    return encoder, embeddings.mean(axis=0, dtype=np.float64)


def _half(block: Block) -> Block:
    """The first half of a block along its last two axes."""
    first = max(0, len(block) - 2)
    halves = (slice(s.start, s.start + -(-(s.stop - s.start) // 2)) for s in block[first:])
    return (*block[:first], *halves)


def _sample(task: Task, data: _Read, grid: ChipGrid | PositionGrid) -> list[Field] | np.ndarray:
    """What an encoder is fitted on: fields if it is dense, or finite, unmasked items."""
    pairs = list(zip(data.sampled, data.blocks, strict=True))
    if queries.is_dense(task.encoder, grid):
        fields = [field for part, block in pairs for field in grid.fields(part, block)]
        if not any(np.isfinite(field.pixels).any() for field in fields):
            raise ValueError(_NOTHING_LEFT)
        return fields
    if isinstance(grid, PositionGrid):
        # Positions that keep their own noise would lead the components astray.
        grid = replace(grid, smoothing=None)
    parts = [
        items.astype(np.float32)
        for part, block in pairs
        for _, items in grid.batches(part, block, task.mask, 4096)
    ]
    parts = [items[encoding.finite(items)] for items in parts]
    if not sum(map(len, parts)):
        raise ValueError(_NOTHING_LEFT)
    return np.concatenate(parts)


def _settings(
    task: Task,
    grid: ChipGrid | PositionGrid,
    encoder: Encoder,
    embedding_size: int,
    reject: bool | float,
) -> Settings:
    return Settings(
        kind=task.kind,
        encoder=encoder,
        embedding_size=embedding_size,
        item_shape=grid.item_shape,
        reject=reject,
        signal_axis=signal_axis(task.signal, task.kind),
        **{name: getattr(grid, name, None) for name in _OF_THE_GRID},
    )


def _with_context(task: Task, data: _Read, context: int | None) -> PositionGrid:
    """The grid with its context; the sample was read with the widest."""
    grid = task.grid
    most = min(grid.context, max(1, min(grid.nav_shape[-2:]) // 2))
    contexts = [side for side in CONTEXTS if side <= most] if context is None else [context]
    regions = [grid.region(block) for block in data.blocks]
    inner = [within(region, block) for region, block in zip(regions, data.blocks, strict=True)]
    chosen, smoothing = choose_context(
        [
            _unmasked(grid.prepare(part), task.mask, region)
            for part, region in zip(data.sampled, regions, strict=True)
        ],
        inner,
        len(grid.nav_shape),
        sum_normalise=task.sum_normalise,
        contexts=contexts,
    )
    return replace(grid, context=chosen, smoothing=smoothing)


def _unmasked(part: np.ndarray, mask: np.ndarray | None, region: Block) -> np.ndarray:
    """The data of a region with NaN where the user leaves out positions."""
    if mask is None:
        return part
    part = part.astype(np.float32)
    part[mask[region]] = np.nan
    return part


def _embed_support(
    task: Task, entries: list[Entry], data: _Read, support: SupportSet, encoder: Encoder
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all support examples, and the entry each belongs to."""
    located = zip(data.examples, data.places, strict=True)
    embeddings, index = [], []
    for number, entry in enumerate(entries):
        if entry.items is not None:
            found = queries.embed_items(encoder, entry.items, task.device)
        else:
            regions, places = zip(*(next(located) for _ in entry.locations), strict=True)
            found = queries.embed_at(encoder, task.grid, regions, places, task.mask, task.device)
        found = found[~np.isnan(found).any(axis=1)]
        if not len(found):
            name = support.class_names[entry.class_index]
            raise ValueError(f"An example of class {name!r} lies on NaN or infinite data.")
        embeddings.append(found)
        index += [number] * len(found)
    return np.concatenate(embeddings), np.array(index)


def _independent(
    entries: list[Entry], grid: ChipGrid | PositionGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Join entries of a class that share most of their data.

    Leaving one of them out while another stays would show nothing.

    Returns
    -------
    groups : numpy.ndarray
        Number of the group of every entry.
    group_classes : numpy.ndarray
        Class of every group.
    """
    side = grid.item_shape[0] if isinstance(grid, ChipGrid) else grid.context
    classes = np.array([entry.class_index for entry in entries])
    located = [i for i, entry in enumerate(entries) if entry.locations is not None]
    if not located:
        return np.arange(len(entries)), classes
    points = np.concatenate([entries[i].locations for i in located]).astype(float)
    owners = np.repeat(located, [len(entries[i].locations) for i in located])
    # Other classes, frames of a stack and axes that are not pooled are far away.
    points[:, :-2] *= side
    points = np.column_stack([points, side * classes[owners]])
    pairs = owners[cKDTree(points).query_pairs((side - 0.5) / 2, p=np.inf, output_type="ndarray")]
    links = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(entries),) * 2)
    count, groups = connected_components(links, directed=False)
    return groups, np.array([classes[groups == group][0] for group in range(count)])


def signal_axis(signal: BaseSignal, kind: str) -> tuple[Any, float, str]:
    """What :class:`Settings` records of the signal axis."""
    axis = signal.axes_manager.signal_axes[0]
    first = float(axis.axis[0]) if kind == "spectrum" else ""
    return (first, step(axis), str(axis.units))
