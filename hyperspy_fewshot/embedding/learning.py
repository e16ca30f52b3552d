"""Learning a recipe from a sample of the data, without labels."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperspy_fewshot.embedding.blocks import block_sides, embed_windows
from hyperspy_fewshot.embedding.context import CONTEXTS, choose_context
from hyperspy_fewshot.embedding.levels import grey_levels, on_levels
from hyperspy_fewshot.embedding.neighbours import scatter_within_classes
from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.embedding.sample import embedded_blocks, is_whole, sample_blocks
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.encoders.threads import usable_threads
from hyperspy_fewshot.grids.field import Field
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.slices import Slices, within

_NOTHING_LEFT = "Nothing is left to classify: all data are masked or not finite."
# Scale of the embeddings of positions by themselves beside those that are pooled, which are less
# noisy. With 1 more of what is small is found, but with one shot noisy maps lose 4 % accuracy.
_BY_THEMSELVES = 0.7
# Items that are cut out of the sample at a time.
_ITEMS_AT_A_TIME = 4096


@dataclass(frozen=True, eq=False)
class SampleEmbeddings:
    """Embeddings of the sample of a data set.

    Parameters
    ----------
    embeddings
        Those that are finite, float32, shape (n, d).
    blocks
        The same, not only finite ones, in contiguous blocks (*block, d).
    whole
        Embeddings and guide values of all queries, as
        :func:`~hyperspy_fewshot.embedding.blocks.embed_all` gives them, where
        the sample is the whole data set; None otherwise.
    """

    embeddings: np.ndarray
    blocks: list[np.ndarray]
    whole: np.ndarray | None


@dataclass(frozen=True, eq=False)
class _Sample:
    """Blocks of a grid with the data that they need."""

    blocks: list[Slices]
    data: list[np.ndarray]

    @classmethod
    def read(
        cls, source: DataSource, grid: Grid | Recipe, show_progressbar: bool | None
    ) -> "_Sample":
        """Read what a grid or all grids of a recipe need."""
        blocks = sample_blocks(grid.grid if isinstance(grid, Recipe) else grid)
        windows = [grid.window(block) for block in blocks]
        return cls(blocks, source.read(windows, show_progressbar, "Sampling"))

    def narrowed(self, wide: Recipe, grid: Grid) -> "_Sample":
        """Crop the data to what another grid needs."""
        triples = zip(self.data, self.blocks, strict=True)
        data = [d[within(wide.window(block), grid.window(block))] for d, block in triples]
        return replace(self, data=data)


def learn(
    source: DataSource,
    encoder: Encoder,
    grid: Grid,
    context: int | None,
    signal_axis: tuple[Any, ...],
    show_progressbar: bool | None,
) -> tuple[Recipe, SampleEmbeddings]:
    """Learn how to embed a data set, from one sample of it.

    Parameters
    ----------
    source
        The data.
    encoder
        An encoder, not fitted.
    grid
        Where the queries lie, with the widest context.
    context
        As given by the user; None: it is chosen.
    signal_axis
        As in :class:`Recipe`.
    show_progressbar
        Whether to show one.

    Returns
    -------
    recipe : Recipe
    sample : SampleEmbeddings

    Raises
    ------
    ValueError
        If nothing is left to classify.
    """
    parts, spreads = _parts(encoder, grid)
    recipe = Recipe(parts, np.empty(0), signal_axis)
    sample = _Sample.read(source, recipe, show_progressbar)
    levels = grey_levels(recipe, sample.blocks, sample.data, source.mask)
    if grid.context > 1:
        pooled = _with_context(source, grid, sample, context)
        sample = sample.narrowed(recipe, pooled)
        parts, spreads = _parts(encoder, pooled)
        recipe = replace(recipe, parts=parts)
    fitted = (_fitted(source, part, sample.narrowed(recipe, part.grid)) for part in parts)
    recipe = replace(recipe, parts=tuple(fitted), levels=levels)
    found = _embed_sample(recipe, sample, source, show_progressbar)
    if not found.embeddings.shape[1]:
        raise ValueError(_NOTHING_LEFT)
    if not len(found.embeddings):
        raise ValueError(
            f"The encoder {encoder.name!r} returns NaN or infinity for all of a sample."
        )
    if len(parts) == 1:
        parts = (replace(recipe.parts[0], size=found.embeddings.shape[1]),)
    else:
        parts, found = _equalised(recipe.parts, spreads, found)
    centre = found.embeddings.mean(axis=0, dtype=np.float64)
    scatter = scatter_within_classes(found.blocks, centre, recipe.grid)
    return replace(recipe, parts=parts, centre=centre, scatter=scatter), found


def _parts(encoder: Encoder, grid: Grid) -> tuple[tuple[Part, ...], tuple[float, ...]]:
    """Parts that are not fitted, the widest first, and their distances from the centre.

    Spectra that are pooled are embedded by themselves, too: what is as small as a position vanishes
    from the mean of its neighbours. Of images the encoder says which chips it embeds.
    """
    if grid.kind == "image":
        found = [
            (own, _around_chips(own, grid, size), spread)
            for own, size, spread in encoder.parts(grid.chip_size, grid.lattice)
        ]
    elif grid.kind == "spectrum" and grid.context > 1:
        single = replace(grid, context=1, smoothing=None)
        found = [(encoder, grid, 1.0), (encoder, single, _BY_THEMSELVES)]
    else:
        found = [(encoder, grid, 1.0)]
    parts = tuple(Part(own, where, origin=own.sha256) for own, where, _ in found)
    return parts, tuple(spread for _, _, spread in found)


def _around_chips(encoder: Encoder, grid: Grid, chip_size: int) -> Grid:
    """Grid of chips of a size, with as much of their surroundings as an encoder needs."""
    margin = encoder.margin(chip_size) if encoder.dense else 0
    return replace(grid, chip_size=chip_size, margin=margin)


def _fitted(source: DataSource, part: Part, sample: _Sample) -> Part:
    """Fit the encoder of a part to the data of a sample that its grid needs."""
    items = _fields(part, sample) if part.dense else _items(part, sample, source.mask)
    with usable_threads():
        fitted = part.encoder.fit(items, kind=part.grid.kind, sum_normalise=source.sum_normalise)
        size = 0 if part.dense else fitted.encode(items[:1]).shape[1]
        groups = fitted.feature_groups
    return replace(part, encoder=fitted, size=size or sum(groups or ()), groups=groups)


def _equalised(
    parts: tuple[Part, ...], spreads: tuple[float, ...], found: SampleEmbeddings
) -> tuple[tuple[Part, ...], SampleEmbeddings]:
    """Scale parts so that their root mean square distances from the centre are the spreads."""
    ends = np.cumsum([part.size for part in parts])[:-1]
    variances = np.split(found.embeddings.var(axis=0, dtype=np.float64), ends)
    scales = [
        float(spread / np.sqrt(variance.sum() or 1.0))
        for spread, variance in zip(spreads, variances, strict=True)
    ]
    factors = np.repeat(scales, [part.size for part in parts]).astype(np.float32)
    parts = tuple(replace(p, scale=scale) for p, scale in zip(parts, scales, strict=True))
    whole = found.whole
    if whole is None:
        blocks = [block * factors for block in found.blocks]
    else:
        # Beside the embeddings there are guide values.
        blocks = [whole[..., : len(factors)]]
        blocks[0] *= factors
    return parts, SampleEmbeddings(found.embeddings * factors, blocks, whole)


def embed_sample(
    recipe: Recipe,
    source: DataSource,
    show_progressbar: bool | None,
    standardise: bool | None = False,
) -> tuple[Recipe, SampleEmbeddings]:
    """Embed the sample of a data set by a recipe that was learnt on another one.

    Returns also the recipe for the grey levels of the data set, see :func:`on_levels`.
    """
    sample = _Sample.read(source, recipe, show_progressbar)
    levels = grey_levels(recipe, sample.blocks, sample.data, source.mask)
    recipe = on_levels(recipe, levels, standardise)
    return recipe, _embed_sample(recipe, sample, source, show_progressbar)


def _with_context(source: DataSource, grid: Grid, sample: _Sample, context: int | None) -> Grid:
    """Choose the context; the sample was read with the widest."""
    most = min(grid.context, max(1, min(grid.nav_shape[-2:]) // 2))
    contexts = [side for side in CONTEXTS if side <= most] if context is None else [context]
    windows = [grid.window(block) for block in sample.blocks]
    inner = [within(w, block) for w, block in zip(windows, sample.blocks, strict=True)]
    pieces = [
        _unmasked(grid.prepare(data), source.mask, window)
        for data, window in zip(sample.data, windows, strict=True)
    ]
    chosen, smoothing = choose_context(
        pieces, inner, len(grid.nav_shape), sum_normalise=source.sum_normalise, contexts=contexts
    )
    return replace(grid, context=chosen, smoothing=smoothing)


def _unmasked(data: np.ndarray, mask: np.ndarray | None, window: Slices) -> np.ndarray:
    """Data with NaN at positions that the user leaves out."""
    if mask is None:
        return data
    data = data.astype(np.float32)
    data[mask[window]] = np.nan
    return data


def _fields(part: Part, sample: _Sample) -> list[Field]:
    """Fields on which a dense encoder is fitted."""
    pairs = zip(sample.data, sample.blocks, strict=True)
    fields = [field for data, block in pairs for field in part.grid.fields(data, block)]
    if not any(np.isfinite(field.pixels).any() for field in fields):
        raise ValueError(_NOTHING_LEFT)
    return fields


def _items(part: Part, sample: _Sample, mask: np.ndarray | None) -> np.ndarray:
    """Finite, unmasked items on which an encoder is fitted, float32."""
    # The plain mean: positions that keep their own noise would distort the components.
    grid = part.grid.without_smoothing()
    items = [
        items.astype(np.float32)
        for data, block in zip(sample.data, sample.blocks, strict=True)
        for _, items in grid.batches(data, block, mask, _ITEMS_AT_A_TIME, _Unreduced())
    ]
    axes = tuple(range(1, len(grid.item_shape) + 1))
    items = [batch[np.isfinite(batch).all(axis=axes)] for batch in items]
    if not sum(map(len, items)):
        raise ValueError(_NOTHING_LEFT)
    return np.concatenate(items)


class _Unreduced:
    """The first step of no encoder, for items as they are."""

    def reduce(self, items: np.ndarray) -> np.ndarray:
        """Return the items."""
        return items

    def project(self, items: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Multiply flattened items (n, p) by a matrix (p, k)."""
        return items.reshape(len(items), -1) @ matrix


def _embed_sample(
    recipe: Recipe, sample: _Sample, source: DataSource, show_progressbar: bool
) -> SampleEmbeddings:
    """Embed a sample; of slow items a part of it."""
    grid = recipe.grid
    chosen = embedded_blocks(grid, sample.blocks, source.mask, block_sides(grid, source.data))
    data = [
        sample.data[i][within(recipe.window(sample.blocks[i]), recipe.window(block))]
        for i, block in chosen
    ]
    blocks = [block for _, block in chosen]
    packed = embed_windows(recipe, data, blocks, source, show_progressbar)
    size = max(part.shape[-1] for part in packed)
    rows = [part.reshape(-1, size) for part in packed if part.shape[-1] == size]
    embeddings = np.concatenate(rows)[:, : size - grid.n_guides]
    # Where all of the sample is masked, embeddings have no length.
    known = np.isfinite(embeddings).all(axis=1) & (embeddings.shape[1] > 0)
    embeddings = embeddings[known]
    d = embeddings.shape[1]
    contiguous = [part[..., :d] for part in packed if part.shape[-1] == size]
    whole = None
    if is_whole(grid, sample.blocks):
        whole = np.full((*grid.shape, size), np.nan, np.float32)
        for part, block in zip(packed, blocks, strict=True):
            # A block without a single embedding holds guide values only.
            whole[(*block, slice(size - part.shape[-1], None))] = part
        contiguous = [whole[..., :d]]
    return SampleEmbeddings(embeddings, contiguous, whole)
