"""What is learnt of a data set: context, normalisation, centre and classes."""

from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from hyperspy.signal import BaseSignal
from scipy.sparse.csgraph import connected_components

from . import embed
from .chips import Block, ChipGrid
from .context import CONTEXTS, choose_context
from .encoders import Encoder
from .locate import Domain, Entry
from .positions import PositionGrid
from .prototypes import FewShotClassifier
from .settings import Settings
from .support import SupportSet


@dataclass(frozen=True, eq=False)
class Task:
    """What is classified, where, and what is left out."""

    signal: BaseSignal
    kind: str
    grid: ChipGrid | PositionGrid
    mask: np.ndarray | None
    device: str

    @property
    def data(self) -> da.Array:
        """The data as one dask array, which never copies them."""
        data = self.signal.data
        return data if self.signal._lazy else da.from_array(data, chunks=-1, name=False)

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
    encoder: Encoder,
    context: int | None,
    reject: bool | float,
    show_progressbar: bool,
) -> tuple[FewShotClassifier, ChipGrid | PositionGrid]:
    """Learn normalisation, context, centre and classes of a data set.

    Reads the support examples and the sample, and nothing else.
    """
    grid = task.grid
    entries = support.resolve(task.domain)
    blocks = embed.sample_blocks(grid)
    located = [e for e in entries if e.locations is not None]
    places = [tuple(map(int, place)) for e in located for place in e.locations]
    regions = [grid.region(block) for block in blocks] + [grid.region_at(p) for p in places]
    parts = embed.read(task.data, regions, show_progressbar)
    sampled, examples = parts[: len(blocks)], parts[len(blocks) :]
    if task.kind != "image" and grid.context > 1:
        wide, grid = grid, _with_context(task, sampled, blocks, context)
        sampled = [
            embed.crop(part, wide.region(block), grid.region(block))
            for part, block in zip(sampled, blocks, strict=True)
        ]
        examples = [
            embed.crop(part, wide.region_at(place), grid.region_at(place))
            for part, place in zip(examples, places, strict=True)
        ]
    sample = _finite_sample(sampled, grid, blocks, task.mask)
    if getattr(grid, "smoothing", None) is None:
        pooled = sample
    else:
        # Positions that keep their own noise would lead the components astray.
        pooled = _finite_sample(sampled, replace(grid, smoothing=None), blocks, task.mask)
    encoder = encoder.fit(pooled, kind=task.kind, sum_normalise=task.sum_normalise)
    centre = _centre(embed.encode(encoder, sample, task.device), encoder)
    items = [
        grid.item_at(part, place, task.mask) for part, place in zip(examples, places, strict=True)
    ]
    embeddings, index = _embed_support(entries, items, support, encoder, task.device)
    settings = Settings(
        kind=task.kind,
        encoder=encoder,
        embedding_size=embeddings.shape[1],
        item_shape=grid.item_shape,
        chip_size=getattr(grid, "chip_size", None),
        stride=getattr(grid, "stride", None),
        context=getattr(grid, "context", None),
        smoothing=getattr(grid, "smoothing", None),
        reject=reject,
        signal_mask=getattr(grid, "signal_mask", None),
        signal_axis=signal_axis(task.signal, task.kind),
    )
    groups, group_classes = _independent(entries, grid)
    classifier = FewShotClassifier.fit(
        embeddings,
        groups[index],
        group_classes,
        support.class_names,
        centre=centre,
        reject=reject,
        setup=settings,
    )
    return classifier, grid


def _with_context(
    task: Task, sampled: list[np.ndarray], blocks: list[Block], context: int | None
) -> PositionGrid:
    """The grid with its context; the sample was read with the widest."""
    grid = task.grid
    most = min(grid.context, max(1, min(grid.nav_shape[-2:]) // 2))
    contexts = [side for side in CONTEXTS if side <= most] if context is None else [context]
    regions = [grid.region(block) for block in blocks]
    inner = [
        tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(w, b_, strict=True))
        for w, b_ in zip(regions, blocks, strict=True)
    ]
    chosen, smoothing = choose_context(
        [
            _unmasked(grid.prepare(part), task.mask, region)
            for part, region in zip(sampled, regions, strict=True)
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


def _finite_sample(
    sampled: list[np.ndarray], grid: ChipGrid | PositionGrid, blocks: list, mask: np.ndarray | None
) -> np.ndarray:
    parts = [
        embed.block_items(part, grid, block, mask)
        for part, block in zip(sampled, blocks, strict=True)
    ]
    sample = np.concatenate(parts)
    if not len(sample):
        raise ValueError("Nothing is left to classify: all data are masked or not finite.")
    return sample.astype(np.float32)


def _centre(embeddings: np.ndarray, encoder: Encoder) -> np.ndarray:
    """Mean of the sample, of what the encoder could embed."""
    embeddings = embeddings[np.isfinite(embeddings).all(axis=1)]
    if not len(embeddings):
        raise ValueError(f"The encoder {encoder.name!r} gives NaN or infinity for all of a sample.")
    return embeddings.mean(axis=0, dtype=np.float64)


def _embed_support(
    entries: list[Entry],
    items: list[np.ndarray],
    support: SupportSet,
    encoder: Encoder,
    device: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all support examples, and the entry each belongs to."""
    remaining = iter(items)
    embeddings, index = [], []
    for number, entry in enumerate(entries):
        if entry.items is None:
            here = np.stack([next(remaining) for _ in entry.locations]).astype(np.float32)
        else:
            here = entry.items.astype(np.float32)
        here = here[np.isfinite(here).all(axis=tuple(range(1, here.ndim)))]
        if not len(here):
            name = support.class_names[entry.class_index]
            raise ValueError(f"An example of class {name!r} lies on NaN or infinite data.")
        if encoder.dihedral and here.ndim == 3:
            turned = [np.rot90(here, k, axes=(1, 2)) for k in range(4)]
            here = np.concatenate(turned + [view[:, :, ::-1] for view in turned])
        embeddings.append(embed.encode(encoder, here, device))
        index += [number] * len(here)
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
    linked = np.eye(len(entries), dtype=bool)
    for i, one in enumerate(entries):
        for j, other in enumerate(entries[:i]):
            if classes[i] == classes[j] and one.items is None and other.items is None:
                apart = abs(one.locations[:, np.newaxis] - other.locations)
                # Frames of a stack, and axes that are not pooled, share nothing.
                apart[..., :-2] *= side
                linked[i, j] = (apart.max(axis=-1) < side / 2).any()
    count, groups = connected_components(linked, directed=False)
    return groups, np.array([classes[groups == group][0] for group in range(count)])


def signal_axis(signal: BaseSignal, kind: str) -> tuple[Any, float, str]:
    """What :class:`Settings` records of the signal axis."""
    axis = signal.axes_manager.signal_axes[0]
    values = axis.index2value(np.array([0, axis.size - 1]))
    scale = float(values[1] - values[0]) / max(axis.size - 1, 1)
    return (float(values[0]) if kind == "spectrum" else "", scale, str(axis.units))
