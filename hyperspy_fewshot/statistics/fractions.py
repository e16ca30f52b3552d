"""Counts, fractions with their intervals, areas and regions of the classes of a label map."""

import numpy as np
from scipy import ndimage

from hyperspy_fewshot.labels import MASKED, REJECTED
from hyperspy_fewshot.statistics.intervals import fraction_intervals
from hyperspy_fewshot.statistics.table import Statistics


def label_statistics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    *,
    cell_areas: np.ndarray,
    spread: np.ndarray | None = None,
    shots: tuple[int, ...] | None = None,
    area_scale: float = 1.0,
    units: str = "px²",
    overlap: float = 1.0,
    boundary: float = 0.5,
    frames: int = 0,
) -> Statistics:
    """Compute the statistics of a label map.

    `labels`, shape (*nav, *map), and `probabilities`, shape (K, *nav, *map), are as in a result: -1
    rejected, -2 masked. A cell of the map covers `cell_areas` pixels, shape `map`, each of which has
    the area `area_scale` in `units`. `spread`, shape (K,), is the standard deviation of the fractions
    over the choice of the shots, and `shots` their number for each class. `overlap` is the number of
    neighbouring labels that depend on the same data, and boundaries may be shifted by `boundary` cells.
    The first `frames` axes run over the frames of a
    stack, each of which then has statistics of its own. For the intervals see
    :func:`~hyperspy_fewshot.statistics.intervals.fraction_intervals`.
    """
    areas = np.broadcast_to(cell_areas, labels.shape).astype(float)
    total = areas[labels != MASKED].sum() or np.nan
    n_map = min(2, labels.ndim - frames)
    parts = fraction_intervals(labels, probabilities, areas, spread, overlap, boundary, n_map)
    rows = {}
    names = {**dict(enumerate(class_names)), REJECTED: "rejected", MASKED: "masked"}
    for label, name in names.items():
        here = labels == label
        count, area = int(here.sum()), float(areas[here].sum())
        regions = count_regions(here, frames)
        is_class = label >= 0
        rows[name] = {
            "count": count,
            "fraction": float(area / total) if label != MASKED else np.nan,
            "fraction_low": float(parts["low"][label]) if is_class else np.nan,
            "fraction_high": float(parts["high"][label]) if is_class else np.nan,
            "area": area * area_scale,
            "regions": regions,
            "region_area": area * area_scale / regions if regions else 0.0,
            "confidence": float(probabilities[label][here].mean())
            if is_class and count
            else np.nan,
            "shots": int(shots[label]) if is_class and shots is not None else 0,
        }
    explained = {
        name: {key: float(values[k]) for key, values in parts.items()}
        for k, name in enumerate(class_names)
    }
    options = {
        "cell_areas": cell_areas, "spread": spread, "shots": shots, "area_scale": area_scale,
        "units": units, "overlap": overlap, "boundary": boundary,
    }  # fmt: skip
    of_frames = {
        index: label_statistics(
            labels[index], probabilities[(slice(None), *index)], class_names, **options
        )
        for index in (np.ndindex(labels.shape[:frames]) if frames else ())
    }
    return Statistics(rows, units, of_frames, explained)


def count_regions(mask: np.ndarray, frames: int = 0) -> int:
    """Count the connected components of a mask (*nav, *map), never across the first `frames` axes.

    Cells are connected through a common edge, not through a corner.
    """
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    for axis in range(frames):
        np.moveaxis(structure, axis, 0)[[0, 2]] = False
    return int(ndimage.label(mask, structure)[1])
