"""The support set: the labelled examples of all classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal
from scipy import ndimage

from .locate import Domain, Entry, Region, is_frame_roi, resolve
from .rois import AREA_ROIS, ROIS, area_in_pixels, is_defined, is_number
from .written import from_json, to_json

# Two or three columns of a square array are coordinates rather than a chip.
_LEAST_READY_SIDE = 4
_RESERVED = ("rejected", "masked")
_ACCEPTED = (
    "a HyperSpy ROI (Point1DROI, Point2DROI, SpanROI, RectangularROI, CircleROI, PolygonROI), a "
    "position tuple (ints: pixels, floats: calibrated units, x before y), a signal or an array"
)


@dataclass(eq=False)
class SupportSet:
    """Labelled examples of all classes.

    Parameters
    ----------
    examples
        Class name to one example or a list of them. An example is a HyperSpy
        ROI (``Point1DROI``, ``Point2DROI``, ``SpanROI``, ``RectangularROI``,
        ``CircleROI``, ``PolygonROI``), a position tuple in HyperSpy's order
        (ints are pixel indices, floats calibrated values), for stacks
        ``(*navigation, x, y)`` or ``(navigation index, roi)``, or a signal or
        array of ready examples. One element of a list is one shot; of ready
        examples every item is one.

    Raises
    ------
    TypeError
        If it is no dict, or as in :meth:`add`.
    ValueError
        As in :meth:`add`.

    Examples
    --------
    >>> support = SupportSet({"Ge": [(512, 2600), (1400, 2750)]})
    >>> support.add("cap", (30, 40))
    >>> support.shots
    {'Ge': 2, 'cap': 1}
    """

    examples: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.examples, Mapping):
            raise TypeError(
                f"support is {type(self.examples).__name__}; a dict of class name to examples is "
                "needed, such as {'matrix': [(10, 20)], 'precipitate': [(40, 60)]}."
            )
        given, self.examples = self.examples, {}
        for name, examples in given.items():
            self.add(name, *_as_list(examples))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return tuple(self.examples)

    @property
    def shots(self) -> dict[str, int]:
        """Number of examples of every class.

        An array of two axes counts as one chip if it is square, else as a set
        of spectra; what it is to the data shows when they are classified.
        """
        return {name: sum(map(_n_shots, entries)) for name, entries in self.examples.items()}

    def add(self, name: str, *examples: Any) -> None:
        """Add examples to a class, which is made if there is none.

        Raises
        ------
        TypeError
            If the name is not a string, or an example is none of the kinds
            that are accepted.
        ValueError
            If the name is "rejected" or "masked", or an ROI has no position.
        """
        if not isinstance(name, str):
            raise TypeError(f"Class names are strings, got {name!r}.")
        if name in _RESERVED:
            raise ValueError(
                f"A class cannot be called {name!r}: results call so what has no class."
            )
        for example in examples:
            _check_example(name, example)
        self.examples.setdefault(name, []).extend(examples)

    def remove(self, name: str, index: int | None = None) -> None:
        """Take back one example of a class, or the whole class.

        Raises
        ------
        KeyError
            If there is no such class.
        IndexError
            If there is no such example.
        """
        if name not in self.examples:
            raise KeyError(f"There is no class {name!r}; classes are {list(self.examples)}.")
        if index is None:
            del self.examples[name]
        else:
            del self.examples[name][index]

    def copy(self) -> "SupportSet":
        """Return a copy that can be changed on its own; ROIs are copied where they are now."""
        return SupportSet(
            {name: [_copy(example) for example in e] for name, e in self.examples.items()}
        )

    @classmethod
    def from_label_map(cls, labels: Any, class_names: Sequence[str]) -> "SupportSet":
        """Make a support set of scribbles.

        Parameters
        ----------
        labels
            Integers over the image or the navigation space, as signal or as
            array in array order: 0 is unlabelled, 1 to K are the classes.
            Every connected stroke is one shot.
        class_names
            Names of the K classes.

        Raises
        ------
        ValueError
            If a label is no class, or a class has no label.
        """
        data = np.asarray(labels.data if isinstance(labels, BaseSignal) else labels)
        if data.dtype.kind not in "iu":
            raise ValueError(f"A label map holds integers, got {data.dtype}.")
        if data.size == 0 or data.min() < 0 or data.max() > len(class_names):
            raise ValueError(
                f"Labels of shape {data.shape} hold {np.unique(data).tolist()[:9]}; with "
                f"{len(class_names)} class names they must go from 0 (unlabelled) to "
                f"{len(class_names)}."
            )
        examples = {}
        for value, name in enumerate(class_names, start=1):
            strokes, count = ndimage.label(data == value, structure=np.ones((3,) * data.ndim))
            if count == 0:
                raise ValueError(f"Class {name!r} (label {value}) has no labelled pixel.")
            points = np.argwhere(strokes)
            order = np.argsort(strokes[strokes > 0], kind="stable")
            ends = np.cumsum(np.bincount(strokes[strokes > 0])[1:])[:-1]
            examples[name] = [Region(p, data.shape) for p in np.split(points[order], ends)]
        return cls(examples)

    def resolve(self, domain: Domain) -> list[Entry]:
        """Find all examples in a data set.

        Raises
        ------
        ValueError, TypeError
            If an example lies outside the data or is of another kind.
        """
        entries = []
        for index, (name, examples) in enumerate(self.examples.items()):
            for example in examples:
                try:
                    entries += resolve(example, domain, index)
                except (ValueError, TypeError, IndexError) as error:
                    kind = TypeError if isinstance(error, TypeError) else ValueError
                    raise kind(f"Example of class {name!r}: {error}") from error
        return entries

    def describe(self) -> str:
        """Everything but the data of ready examples, as JSON."""
        return json.dumps(self.to_json())

    def to_json(self, arrays: dict[str, np.ndarray] | None = None) -> dict[str, list]:
        """Plain lists and numbers; the data of ready examples go to `arrays`."""
        return {
            name: [to_json(e, arrays) for e in entries] for name, entries in self.examples.items()
        }

    def save(self, path: str | Path) -> None:
        """Write the support set to a .npz file."""
        arrays: dict[str, np.ndarray] = {}
        plain = self.to_json(arrays)
        with open(path, "wb") as file:
            np.savez(file, support=json.dumps(plain), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "SupportSet":
        """Read a support set that :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            plain = json.loads(str(arrays["support"]))
            return cls.from_json(plain, arrays)

    @classmethod
    def from_json(cls, plain: Mapping[str, list], arrays: Mapping[str, np.ndarray]) -> "SupportSet":
        """Build a support set from what :meth:`to_json` gives, and its arrays."""
        return cls(
            {name: [from_json(e, arrays) for e in entries] for name, entries in plain.items()}
        )

    def __len__(self) -> int:
        return sum(self.shots.values())

    def __repr__(self) -> str:
        shots = ", ".join(f"{name!r}: {count}" for name, count in self.shots.items())
        return f"<SupportSet, shots {{{shots}}}>"


def area_roi_sides(support: SupportSet, axes: Sequence[Any]) -> list[float]:
    """Sides of all area ROIs in pixels: the square roots of their areas."""
    rois = [e[1] if is_frame_roi(e) else e for e in _all_examples(support)]
    return [float(np.sqrt(area_in_pixels(r, axes))) for r in rois if isinstance(r, AREA_ROIS)]


def ready_side(support: SupportSet) -> int | None:
    """Side of the ready chips of a support set; None if there are none."""
    for example in _all_examples(support):
        if isinstance(example, BaseSignal | np.ndarray):
            shape = np.shape(example.data if isinstance(example, BaseSignal) else example)
            if len(shape) > 1 and shape[-1] == shape[-2] >= _LEAST_READY_SIDE:
                return int(shape[-1])
    return None


def _all_examples(support: SupportSet) -> list[Any]:
    return [example for entries in support.examples.values() for example in entries]


def _as_list(examples: Any) -> list:
    return examples if isinstance(examples, list) else [examples]


def _copy(example: Any) -> Any:
    is_roi = isinstance(example, ROIS) or is_frame_roi(example)
    return from_json(to_json(example), {}) if is_roi else example


def _n_shots(example: Any) -> int:
    if isinstance(example, BaseSignal):
        axes = example.axes_manager
        return int(axes.navigation_size) if axes.navigation_dimension else 1
    if not isinstance(example, np.ndarray) or example.ndim < 2:
        return 1
    return 1 if example.ndim == 2 and len(set(example.shape)) == 1 else len(example)


def _check_example(name: str, example: Any) -> None:
    is_position = isinstance(example, tuple) and example and all(map(is_number, example))
    is_ready = isinstance(example, BaseSignal | np.ndarray | Region)
    if is_position or is_ready or is_number(example):
        return
    roi = example[1] if is_frame_roi(example) else example
    if not isinstance(roi, ROIS):
        raise TypeError(
            f"Example of class {name!r} is {_shown(example)}; accepted are {_ACCEPTED}. Several "
            "examples are given as a list."
        )
    if not is_defined(roi):
        raise ValueError(
            f"Example of class {name!r} is a {type(roi).__name__} that has no position yet: give "
            "its parameters, or draw it with roi.add_widget(s)."
        )


def _shown(example: Any) -> str:
    shown = repr(example)
    return f"{type(example).__name__} {shown if len(shown) < 60 else shown[:57] + '...'}"
