"""Whether what was read from a file fits together, so that using it does not fail later on."""

import math
from typing import Any

import numpy as np

from hyperspy_fewshot.decision.arguments import checked_reject
from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders.base import KINDS, Encoder
from hyperspy_fewshot.encoders.local import N_SCALES, LocalEncoder
from hyperspy_fewshot.encoders.network import EMBEDDING, FEATURES
from hyperspy_fewshot.encoders.pattern import HARMONICS, RINGS, PatternEncoder, binned_shape
from hyperspy_fewshot.encoders.pca import LinearEncoder
from hyperspy_fewshot.encoders.resampling import CHIP
from hyperspy_fewshot.encoders.weights import TrainedEncoder
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.smoothing import flatten
from hyperspy_fewshot.labels import MASKED
from hyperspy_fewshot.output.limits import Unreadable
from hyperspy_fewshot.output.plain import LARGEST

# Largest sides of data [px, positions or channels], and the numbers of an item up to which an
# encoder is tried out.
_LONGEST, _LARGEST_TRIED = 2**24, 2**24
# Widest context of a scan, which the recipe may have from a larger one [positions].
_WIDEST_CONTEXT = 1001
# Pixels of an image: so many in any case, and so many for every label.
_MOST_PIXELS, _MOST_PER_LABEL = 2**30, 2**20


def require(condition: Any, message: str) -> None:
    """Raise Unreadable if a condition does not hold."""
    if not condition:
        raise Unreadable(f"is damaged: {message}.")


def check_shape(name: str, array: Any, shape: tuple[int | None, ...], kinds: str = "f") -> None:
    """Refuse what is no array of a shape and of one of the kinds of dtype; None: any length."""
    require(isinstance(array, np.ndarray), f"{name} is no array")
    same = array.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    require(same and array.dtype.kind in kinds, f"{name} is {array.dtype} of shape {array.shape}")


def check_finite(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Refuse what is no array of finite floats of a shape; None: any length."""
    check_shape(name, array, shape)
    require(np.isfinite(array).all(), f"{name} is not finite")


def check_classifier(classifier: Any) -> None:
    """Refuse a classifier whose parts do not fit together, or that has no recipe."""
    require(isinstance(classifier, FewShotClassifier), "it holds no classifier")
    names, count = classifier.class_names, len(classifier.class_names)
    require(count > 1 and len(set(names)) == count, f"class names are {names}")
    check_recipe(classifier.recipe)
    d = classifier.recipe.size
    check_finite("centre", classifier.centre, (d,))
    check_finite("prototypes", classifier.prototypes, (count, d))
    check_finite("landmarks", classifier.landmarks, (None, d + 1))
    check_finite("coefficients", classifier.coefficients, (len(classifier.landmarks), count))
    _check_jackknife(classifier)
    _check_filters(classifier)
    negative = classifier.negative_landmarks
    check_finite("negative_landmarks", negative, (None, d + 1))
    shape = (len(negative), count + 1)
    check_finite("negative_coefficients", classifier.negative_coefficients, shape)
    if classifier.weights is not None:
        check_finite("weights", classifier.weights, (d,))
    check_shape("thresholds", classifier.thresholds, (count,))
    require((classifier.thresholds < np.inf).all(), "a threshold is not a number")
    temperature, share = classifier.temperature, classifier.leave_one_out
    require(0 < temperature < math.inf, f"the temperature is {temperature}")
    require(0 <= classifier.bias < LARGEST, f"the bias is {classifier.bias}")
    require(math.isnan(share) or 0 <= share <= 1, f"leave_one_out is {share}")
    checked_reject(classifier.reject)


def _check_jackknife(classifier: FewShotClassifier) -> None:
    count = len(classifier.class_names)
    shots = classifier.shots
    require(len(shots) == count and min(shots) > 0, f"the numbers of shots are {shots}")
    shape = (len(classifier.variance_shares), len(classifier.landmarks), count)
    check_finite("variance_shares", classifier.variance_shares, (None,))
    require((classifier.variance_shares >= 0).all(), "a variance is negative")
    check_finite("without_shots", classifier.without_shots, shape)


def _check_filters(classifier: FewShotClassifier) -> None:
    count, d = classifier.prototypes.shape
    classes, rare = classifier.shot_mean_classes, classifier.rare
    check_shape("shot_mean_classes", classes, (None,), "i")
    check_finite("shot_means", classifier.shot_means, (len(classes), d))
    check_shape("rare", rare, (None,), "i")
    check_finite("filters", classifier.filters, (len(rare), d + 1))
    known = set(range(count))
    require(known.issuperset(classes.tolist()), "a shot is of no class")
    one_of_each = len(set(rare.tolist())) == len(rare) < count
    require(known.issuperset(rare.tolist()) and one_of_each, f"rare classes are {rare}")


def check_recipe(recipe: Any) -> None:
    """Refuse a recipe whose parts do not fit together."""
    require(isinstance(recipe, Recipe) and recipe.parts, "it holds no recipe")
    check_finite("centre of the recipe", recipe.centre, (recipe.size,))
    axis, count = recipe.signal_axis, 3 if recipe.grid.kind == "spectrum" else 2
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in axis[:-1])
    require(len(axis) == count and numbers and isinstance(axis[-1], str), f"signal_axis is {axis}")
    cosine, distance = recipe.scatter
    within = -1 <= cosine <= 1 and 0 <= distance < LARGEST
    require(within, f"the scatter within classes is {recipe.scatter}")
    _check_levels(recipe)
    for part in recipe.parts:
        _check_grid(part.grid)
        same = (part.grid.kind, part.grid.nav_shape, part.grid.signal_shape, part.grid.stride)
        first = recipe.grid
        same = same == (first.kind, first.nav_shape, first.signal_shape, first.stride)
        require(same, "the parts of the recipe lie on different grids")
        _check_part(part)


def _check_levels(recipe: Recipe) -> None:
    levels, (subtracted, factor, added) = recipe.levels, recipe.scaling
    known = len(levels) in (0, 3) and all(map(math.isfinite, levels))
    require(known and list(levels) == sorted(levels), f"the grey levels are {levels}")
    finite = all(map(math.isfinite, (subtracted, added))) and 0 < factor < math.inf
    require(finite, f"the grey levels are scaled by {recipe.scaling}")


def _check_grid(grid: Grid) -> None:
    sides = (*grid.nav_shape, *grid.signal_shape)
    require(all(0 < side <= _LONGEST for side in sides), f"the shape of the data is {sides}")
    if isinstance(grid, ChipGrid):
        sizes = {"chip_size": grid.chip_size, "stride": grid.stride}
        require(all(0 < s <= max(grid.signal_shape) for s in sizes.values()), f"sizes are {sizes}")
        pixels = math.prod(sides)
        most = max(_MOST_PIXELS, _MOST_PER_LABEL * math.prod(grid.shape))
        require(pixels <= most, f"{math.prod(grid.shape)} labels are those of {pixels} px")
        return
    require(grid.nav_shape and len(grid.signal_shape) in (1, 2), f"the shape is {sides}")
    context, most = grid.context, max(_WIDEST_CONTEXT, 2 * max(grid.nav_shape) + 1)
    require(0 < context <= most and context % 2, f"context is {context}")
    if grid.signal_mask is not None:
        check_shape("signal_mask", grid.signal_mask, grid.signal_shape, "b")
        require(not grid.signal_mask.all(), "signal_mask leaves nothing")
    if grid.smoothing is not None:
        _check_smoothing(grid)


def _check_smoothing(grid: Any) -> None:
    smoothing = grid.smoothing
    # Not a copy: the items of a file may be large.
    item = np.broadcast_to(np.float32(0), (1, *grid.item_shape))
    small = math.prod(grid.item_shape) <= _LARGEST_TRIED
    length = flatten(item, 1).shape[1] if small else None
    check_finite("components of the smoothing", smoothing.components, (length, None))
    check_finite("noise of the smoothing", smoothing.noise, (smoothing.components.shape[1],))


def _check_part(part: Part) -> None:
    require(0 < part.size < _LONGEST, f"the length of embeddings is {part.size}")
    require(math.isfinite(part.scale), f"the scale of embeddings is {part.scale}")
    groups = (part.size,) if part.groups is None else part.groups
    require(min(groups, default=0) > 0 and sum(groups) == part.size, f"feature groups are {groups}")
    encoder = part.encoder
    margin = encoder.margin(part.grid.side) if encoder is not None and part.dense else 0
    known = encoder is not None and isinstance(part.grid, ChipGrid)
    require(not known or part.grid.margin == margin, "the margin is not that of the encoder")
    if encoder is not None:
        _check_encoder(encoder, part)


def _check_encoder(encoder: Encoder, part: Part) -> None:
    kind, name = part.grid.kind, type(encoder).__name__
    require(set(encoder.kinds) <= set(KINDS) and kind in encoder.kinds, f"{name} is not for {kind}")
    numbers = (encoder.offset, encoder.scale)
    require(all(map(math.isfinite, numbers)) and encoder.scale, f"it normalises by {numbers}")
    require(0 < encoder.batch_size < 2**31, f"batch_size is {encoder.batch_size}")
    if isinstance(encoder, TrainedEncoder):
        _check_trained(encoder, part)
        size = sum(encoder.feature_groups)
    elif isinstance(encoder, LocalEncoder):
        size = sum(encoder.feature_groups)
        check_finite("spread of the encoder", encoder.spread, (size,))
        noise = encoder.noise
        finite = len(noise) == N_SCALES and all(0 <= v < math.inf for v in noise)
        require(finite and (encoder.spread > 0).all(), f"its noise is {noise}")
    else:
        if isinstance(encoder, PatternEncoder):
            _check_pattern(encoder, part)
        else:
            _check_components(encoder)
        size = part.size
        if math.prod(part.grid.item_shape) <= _LARGEST_TRIED:
            item = np.zeros((1, *part.grid.item_shape), np.float32)
            with np.errstate(all="ignore"):
                size = encoder.encode(item).shape[1]
    require(size == part.size, f"{name} gives embeddings of length {size}, not {part.size}")
    groups = encoder.feature_groups or (size,)
    require(sum(groups) == size and min(groups) > 0, f"feature groups of {name} are {groups}")


def _check_components(encoder: Any) -> None:
    check_finite("components of the encoder", encoder.components, (None, None))
    length, d = encoder.components.shape
    if isinstance(encoder, LinearEncoder):
        check_finite("centre of the encoder", encoder.centre, (d,))
        check_finite("signs of the encoder", encoder.signs, (length,))
        check_shape("divided of the encoder", encoder.divided, (d,), "b")
        require(0 <= encoder.least < math.inf, f"the least total is {encoder.least}")
    else:
        check_finite("mean of the encoder", encoder.mean, (length,))
        require(0 < encoder.power < math.inf, f"the power is {encoder.power}")
        require(encoder.max_frequency > 0, f"max_frequency is {encoder.max_frequency}")


def _check_pattern(encoder: PatternEncoder, part: Part) -> None:
    shape = binned_shape(part.grid.item_shape)
    length, whole = math.prod(shape), {"components": encoder.components}
    require((encoder.reference is None) == (encoder.fixed_components is None), "a group is missing")
    if encoder.reference is not None:
        check_finite("reference of the encoder", encoder.reference, shape)
        whole["fixed_components"] = encoder.fixed_components
    for name, components in whole.items():
        check_finite(f"{name} of the encoder", components, (length, None))
    invariants = encoder.polar_components
    check_finite("polar_components of the encoder", invariants, (RINGS * HARMONICS, None))
    check_finite("centre of the encoder", encoder.centre, (sum(encoder.feature_groups),))
    numbers = (encoder.spread, encoder.moment_scale, *encoder.middle)
    known = len(encoder.middle) == 2 and all(map(math.isfinite, numbers)) and encoder.spread > 0
    require(known, f"spread, moment_scale and middle of the encoder are {numbers}")


def _check_trained(encoder: TrainedEncoder, part: Part) -> None:
    kind, scales = part.grid.kind, encoder.part_scales
    known = kind == "image" and isinstance(encoder.textured, bool)
    require(known, f"{type(encoder).__name__} is not for {kind}")
    known = len(scales) == 3 + encoder.textured and all(map(math.isfinite, scales))
    require(known, f"scales are {scales}")
    require(0 < encoder.power < math.inf, f"the power is {encoder.power}")
    length = CHIP * (CHIP // 2 + 1)
    check_finite("mean of the encoder", encoder.mean, (length,))
    if encoder.textured:
        check_finite("mean of the texture", encoder.inner_mean, (2 * FEATURES,))
        check_finite("components of the texture", encoder.inner_components, (2 * FEATURES, None))
    check_finite("components of the encoder", encoder.components, (length, None))
    require(sum(encoder.feature_groups) > EMBEDDING, "the encoder has no components")


def check_labels(labels: np.ndarray, shape: tuple[int, ...], n_classes: int) -> None:
    """Refuse labels of another shape, or that belong to no class."""
    check_shape("the label map", labels, shape, "iu")
    low, high = int(labels.min()), int(labels.max())
    require(low >= MASKED and high < n_classes, f"labels go from {low} to {high}")


def check_sides(axes: list[dict[str, Any]], grid: Grid) -> None:
    """Refuse axes of data, array order, that are not those of a grid."""
    sizes = [(axis["navigate"], axis.get("size") or len(axis["axis"])) for axis in axes]
    shapes = tuple(tuple(size for nav, size in sizes if nav == here) for here in (True, False))
    require(shapes == (grid.nav_shape, grid.signal_shape), f"axes have the shapes {shapes}")
