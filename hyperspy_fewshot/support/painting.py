"""Painted examples: from label images and masks to strokes, and back to a label image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal
from hyperspy.signals import Signal1D, Signal2D
from scipy import ndimage

from hyperspy_fewshot.support.locate import Stroke

# Value of the foreground of a binary mask in Fiji.
_BINARY = 255
# More values than these are those of a picture, or of instances rather than classes.
_MOST_UNNAMED = 64
# Where a label image keeps its class names.
_NAMES = "FewShot.class_names"

ClassNames = Sequence[str] | Mapping[int, str] | None


def strokes_of_labels(labels: Any, class_names: ClassNames) -> dict[str, list[Stroke]]:
    """Find the strokes of every class in a label image; see :meth:`SupportSet.from_label_map`."""
    if isinstance(labels, BaseSignal) and labels.metadata.Signal.signal_type == "LabelMap":
        raise ValueError(
            "In a label map of a result 0 is the first class; in a label image it is unlabelled. "
            "Give result.to_label_image()."
        )
    data = _whole_numbers(_array(labels))
    strokes: dict[str, list[Stroke]] = {}
    for value, name in _named_values(labels, data, class_names).items():
        found = _connected(data == value)
        if not found:
            raise ValueError(f"Class {name!r} (label {value}) has no labelled pixel.")
        strokes.setdefault(name, []).extend(found)
    return strokes


def strokes_of_masks(masks: Mapping[str, Any]) -> dict[str, list[Stroke]]:
    """Find the strokes of every class in its masks; see :meth:`SupportSet.from_masks`."""
    if not isinstance(masks, Mapping):
        raise TypeError(
            f"masks is {type(masks).__name__}; a dict of class name to mask, or to a list of masks, is "
            "needed, such as {'matrix': mask, 'precipitate': other}."
        )
    strokes: dict[str, list[Stroke]] = {}
    whole: dict[str, np.ndarray] = {}
    for name, given in masks.items():
        given = given if isinstance(given, list) else [given]
        own = [_as_mask(name, mask) for mask in given]
        for mask in own:
            _check_beside(name, mask, whole)
            whole[name] = whole.get(name, False) | mask
        strokes[name] = [stroke for mask in own for stroke in _connected(mask)]
    return strokes


def label_image(
    data: np.ndarray, axes: list[dict[str, Any]], class_names: Sequence[str], title: str
) -> BaseSignal:
    """Make a label image of integers, 0 for none and 1 to K for the classes.

    The axes are dictionaries with "navigate", array order.
    """
    dtype = np.uint8 if len(class_names) <= np.iinfo(np.uint8).max else np.uint16
    is_line = sum(not axis["navigate"] for axis in axes) == 1
    image = (Signal1D if is_line else Signal2D)(data.astype(dtype), axes=axes)
    image.metadata.General.title = title
    image.metadata.set_item(_NAMES, list(class_names))
    return image


def _array(given: Any) -> np.ndarray:
    """Data of a signal or an array; masked pixels are unlabelled.

    Exporters such as that of ilastik write arrays with a channel axis of length 1.
    """
    if isinstance(given, BaseSignal):
        given = given.data
    elif np.ndim(given) > 2 and np.shape(given)[-1] == 1:
        given = given[..., 0]
    return np.ma.filled(given, 0) if isinstance(given, np.ma.MaskedArray) else np.asarray(given)


def _whole_numbers(data: np.ndarray) -> np.ndarray:
    """Labels as integers; ValueError if they are none."""
    if data.dtype.kind == "f":
        fractional = data[~(np.isfinite(data) & (data == np.rint(data)))]
        if fractional.size:
            raise ValueError(
                f"A label image or mask holds whole numbers, got {data.dtype} with {fractional[0]:g}."
            )
        return data.astype(np.int64)
    if data.dtype.kind not in "bui":
        raise ValueError(f"A label image or mask holds whole numbers, got {data.dtype}.")
    return data


def _named_values(labels: Any, data: np.ndarray, class_names: ClassNames) -> dict[int, str]:
    """Class name of every value of a label image that is one of a class."""
    if isinstance(class_names, Mapping):
        for value in class_names:
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                raise TypeError(f"Values of a label image are integers, got the key {value!r}.")
        return {int(value): name for value, name in class_names.items()}
    found = np.unique(data).astype(object)
    if class_names is None and isinstance(labels, BaseSignal):
        class_names = labels.metadata.get_item(_NAMES)
        if class_names is not None:
            _check_values(data, found, class_names)
            return {value: class_names[value - 1] for value in found if value}
    if class_names is None:
        marked = [value for value in found if value]
        if not 0 < len(marked) <= _MOST_UNNAMED:
            raise ValueError(
                f"Labels of shape {data.shape} have {len(marked)} values beside 0 (unlabelled), which "
                "is not a class each. Give class_names, for instance {1: 'matrix', 2: 'precipitate'}."
            )
        return {value: str(int(value)) for value in marked}
    if isinstance(class_names, str):
        raise TypeError(f"class_names is the string {class_names!r}; a list of names is needed.")
    if len(class_names) == 1 and _BINARY in found and set(found) <= {0, _BINARY}:
        return {_BINARY: class_names[0]}
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"Class names must differ, got {list(class_names)}.")
    _check_values(data, found, class_names)
    return dict(enumerate(class_names, start=1))


def _check_values(data: np.ndarray, found: np.ndarray, class_names: Sequence[str]) -> None:
    count = len(class_names)
    if not len(found) or found[0] < 0 or found[-1] > count:
        raise ValueError(
            f"Labels of shape {data.shape} hold {found.tolist()[:9]}; with {count} class names they "
            f"must go from 0 (unlabelled) to {count}. Name other values by a dict of value to name."
        )


def _as_mask(name: str, given: Any) -> np.ndarray:
    data = _whole_numbers(_array(given))
    values = np.unique(data)
    values = values[values != 0]
    if len(values) > 1:
        raise ValueError(
            f"A mask of class {name!r} holds {values.tolist()[:9]}; True and False are needed, or 0 "
            "and one other value. For several values use SupportSet.from_label_map."
        )
    if not len(values):
        raise ValueError(f"A mask of class {name!r}, shape {data.shape}, is False everywhere.")
    return data != 0


def _check_beside(name: str, mask: np.ndarray, others: Mapping[str, np.ndarray]) -> None:
    """Refuse a mask of another shape, or one that shares pixels with that of another class."""
    for other, whole in others.items():
        if mask.shape != whole.shape:
            raise ValueError(
                f"A mask of class {name!r} has shape {mask.shape}, one of {other!r} has {whole.shape}."
            )
        shared = int((mask & whole).sum()) if other != name else 0
        if shared:
            raise ValueError(f"The masks of classes {other!r} and {name!r} share {shared} pixels.")


def _connected(mask: np.ndarray) -> list[Stroke]:
    """Strokes of a mask: pixels that touch, at corners too, but not those of other frames."""
    if not mask.any():
        return []
    touching = np.zeros((3,) * mask.ndim, int)
    touching[(1,) * max(0, mask.ndim - 2)] = 1
    numbered, _ = ndimage.label(mask, touching)
    indices = ndimage.value_indices(numbered, ignore_value=0).values()
    return [Stroke(np.transpose(index), mask.shape) for index in indices]
