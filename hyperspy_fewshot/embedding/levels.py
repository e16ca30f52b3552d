"""Grey levels of images: measured in a sample, and mapped to those that a recipe was learnt on."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hyperspy_fewshot.embedding.recipe import UNSCALED, Recipe
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.slices import Slices

_PERCENTILES = (1, 50, 99)
# Pixels from which the levels are measured.
_MOST_PIXELS = 2**20
# Share of their joint extent that two ranges have in common, below which they are taken for
# different scales, and below which they may be. Quarters of one image, which differ in content only,
# had 0.10 or more on 19 micrographs, and 0.60 or more on 16 of them, frames of a series 0.99. Images
# of other bit depths have 0.00. For 0.20 to 0.56 (other contrast at the same detector) it was better
# to standardise, but this cannot be told from other content.
_LEAST_IN_COMMON, _DOUBTFUL = 0.05, 0.6
# A smaller range, relative to the levels, is a rounding error.
_LEAST_RANGE = 1e-9


def grey_levels(
    where: Grid | Recipe,
    blocks: Sequence[Slices],
    data: Sequence[np.ndarray],
    mask: np.ndarray | None,
) -> tuple[float, ...]:
    """Measure 1st percentile, median and 99th percentile of the pixels of some blocks of cells.

    `data` are those of ``where.window(block)`` for each block. Pixels that are not finite, and those
    of masked cells, are left out. Empty for spectra and patterns, and if no pixel is left.
    """
    grid = where.grid if isinstance(where, Recipe) else where
    if grid.kind != "image":
        return ()
    found = []
    for block, part in zip(blocks, data, strict=True):
        window = where.window(block)
        rows, columns = (
            np.arange(max(w.start, s.start * grid.stride), min(w.stop, s.stop * grid.stride))
            for w, s in zip(window[-2:], block[-2:], strict=True)
        )
        rows, columns = rows[:, np.newaxis], columns[np.newaxis]
        own = part[..., rows - window[-2].start, columns - window[-1].start]
        kept = np.isfinite(own)
        if mask is not None:
            cells = rows // grid.stride - block[-2].start, columns // grid.stride - block[-1].start
            kept &= ~mask[block][..., *cells]
        found.append(own[kept])
    pixels = np.concatenate(found)
    if pixels.size > _MOST_PIXELS:
        pixels = pixels[np.random.default_rng(0).integers(0, pixels.size, _MOST_PIXELS)]
    return tuple(np.percentile(pixels.astype(float), _PERCENTILES).tolist()) if pixels.size else ()


def on_levels(recipe: Recipe, levels: tuple[float, ...], standardise: bool | None) -> Recipe:
    """Return a recipe for data with such grey levels.

    The data are mapped to the median and the range that the recipe was learnt on if `standardise` is
    True or, with a warning, if it is None and the ranges have next to nothing in common. If they have
    little in common, a warning says what can be done.
    """
    recipe = replace(recipe, scaling=UNSCALED)
    if standardise is False or not levels or not recipe.levels:
        return recipe
    (low, middle, high), (learnt_low, learnt_middle, learnt_high) = levels, recipe.levels
    varied = _varies(levels) and _varies(recipe.levels)
    if standardise is None:
        common = min(high, learnt_high) - max(low, learnt_low)
        joint = max(high, learnt_high) - min(low, learnt_low)
        if not varied or common >= _DOUBTFUL * joint:
            return recipe
        other = common < _LEAST_IN_COMMON * joint
        done = (
            "the image is standardised to their median and range. standardise=True does it without "
            "this warning, standardise=False does not do it."
            if other
            else "if brightness or contrast were set otherwise, give standardise=True; if only the "
            "content is another one, standardise=False."
        )
        warnings.warn(
            f"Grey levels here go from {low:.4g} to {high:.4g} (1 % to 99 %), those that the recipe was "
            f"learnt on from {learnt_low:.4g} to {learnt_high:.4g}: {done}",
            stacklevel=6,
        )
        if not other:
            return recipe
    factor = (learnt_high - learnt_low) / (high - low) if varied else 1.0
    return replace(recipe, scaling=(middle, factor, learnt_middle))


def _varies(levels: tuple[float, ...]) -> bool:
    low, _, high = levels
    return high - low > _LEAST_RANGE * max(abs(low), abs(high))
