"""Counts, fractions with their intervals, areas and regions of the classes of a label map."""

import numpy as np
from scipy import ndimage

from hyperspy_fewshot.labels import MASKED, REJECTED
from hyperspy_fewshot.statistics.table import Statistics

# Half-width of a 95 % interval of the normal distribution, in standard deviations.
_HALF_WIDTH = 1.96


def label_statistics(
    labels: np.ndarray,
    confidence: np.ndarray,
    class_names: tuple[str, ...],
    *,
    cell_areas: np.ndarray,
    area_scale: float = 1.0,
    units: str = "px²",
    overlap: float = 1.0,
    frames: int = 0,
) -> Statistics:
    """Compute the statistics of a label map.

    `labels` and `confidence`, shape (*nav, *map), are as in a result: -1 rejected, -2 masked, both
    of confidence NaN. A cell of the map covers `cell_areas` pixels, shape `map`, each of which has
    the area `area_scale` in `units`. `overlap` is the number of neighbouring labels that depend on
    the same data. The first `frames` axes run over the frames of a stack, each of which then has
    statistics of its own.

    Notes
    -----
    The interval of a class is ``fraction ± 1.96 s`` with ``s² = overlap * sum(a² p (1 - p)) /
    (sum a)²``. The sum runs over the labels of all classes; a is the area of a label and p the
    probability that it belongs to the class: its confidence c, or (1 - c) / (K - 1) if it has
    the label of another class. The errors of labels that share no data are assumed to be
    independent. Errors that all labels have in common, such as a class that is missing in the
    support set, are not included.
    """
    areas = np.broadcast_to(cell_areas, labels.shape).astype(float)
    total = areas[labels != MASKED].sum() or np.nan
    half_widths = _half_widths(labels, confidence, areas, len(class_names), overlap) / total
    rows = {}
    names = {**dict(enumerate(class_names)), REJECTED: "rejected", MASKED: "masked"}
    for label, name in names.items():
        here = labels == label
        count, area = int(here.sum()), float(areas[here].sum())
        fraction = area / total if label != MASKED else np.nan
        low = high = mean_confidence = np.nan
        if label >= 0:
            low = max(fraction - half_widths[label], 0.0)
            high = min(fraction + half_widths[label], 1.0)
            mean_confidence = confidence[here].mean() if count else np.nan
        regions = count_regions(here, frames)
        rows[name] = {
            "count": count,
            "fraction": float(fraction),
            "fraction_low": float(low),
            "fraction_high": float(high),
            "area": area * area_scale,
            "regions": regions,
            "region_area": area * area_scale / regions if regions else 0.0,
            "confidence": float(mean_confidence),
        }
    options = {
        "cell_areas": cell_areas, "area_scale": area_scale, "units": units, "overlap": overlap,
    }  # fmt: skip
    of_frames = {
        index: label_statistics(labels[index], confidence[index], class_names, **options)
        for index in (np.ndindex(labels.shape[:frames]) if frames else ())
    }
    return Statistics(rows, units, of_frames)


def _half_widths(
    labels: np.ndarray, confidence: np.ndarray, areas: np.ndarray, n_classes: int, overlap: float
) -> np.ndarray:
    """Half-widths of the intervals of the areas of all classes, shape (K,)."""
    classified = labels >= 0
    own = confidence[classified]
    other = (1 - own) / max(n_classes - 1, 1)
    # Sums of the variances of the areas, by the class of the label, if p is `own` or `other`. A
    # label adds to the variance of its own class and to those of all others.
    of_own, of_others = (
        np.bincount(labels[classified], areas[classified] ** 2 * p * (1 - p), n_classes)
        for p in (own, other)
    )
    summed = of_own + of_others @ (1 - np.eye(n_classes))
    return _HALF_WIDTH * np.sqrt(overlap * summed)


def count_regions(mask: np.ndarray, frames: int = 0) -> int:
    """Count the connected components of a mask (*nav, *map), never across the first `frames` axes.

    Cells are connected through a common edge, not through a corner.
    """
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    for axis in range(frames):
        np.moveaxis(structure, axis, 0)[[0, 2]] = False
    return int(ndimage.label(mask, structure)[1])
