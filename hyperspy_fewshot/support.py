"""The support set: the labelled examples of all classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hyperspy import roi as hs_roi
from hyperspy.signal import BaseSignal
from scipy import ndimage

from .locate import (
    AREA_ROIS,
    ROIS,
    Domain,
    Entry,
    Region,
    area_in_pixels,
    is_frame_roi,
    is_number,
    resolve,
)

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
        """Number of examples of every class."""
        return {name: sum(map(_n_shots, entries)) for name, entries in self.examples.items()}

    def add(self, name: str, *examples: Any) -> None:
        """Add examples to a class, which is made if there is none.

        Raises
        ------
        TypeError
            If the name is not a string, or an example is none of the kinds
            that are accepted.
        """
        if not isinstance(name, str):
            raise TypeError(f"Class names are strings, got {name!r}.")
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
        """Return a copy that can be changed on its own."""
        return SupportSet({name: list(entries) for name, entries in self.examples.items()})

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
        if data.min() < 0 or data.max() > len(class_names):
            raise ValueError(
                f"Labels go from {data.min()} to {data.max()}; with {len(class_names)} class names "
                f"they must go from 0 (unlabelled) to {len(class_names)}."
            )
        examples = {}
        for value, name in enumerate(class_names, start=1):
            strokes, count = ndimage.label(data == value, structure=np.ones((3,) * data.ndim))
            if count == 0:
                raise ValueError(f"Class {name!r} (label {value}) has no labelled pixel.")
            examples[name] = [Region(np.argwhere(strokes == i + 1)) for i in range(count)]
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
            name: [_to_json(e, arrays) for e in entries] for name, entries in self.examples.items()
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
            {name: [_from_json(e, arrays) for e in entries] for name, entries in plain.items()}
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
    ready = [e for e in _all_examples(support) if isinstance(e, BaseSignal | np.ndarray)]
    return int(ready[0].data.shape[-1]) if ready else None


def _all_examples(support: SupportSet) -> list[Any]:
    return [example for entries in support.examples.values() for example in entries]


def _as_list(examples: Any) -> list:
    if isinstance(examples, str):
        return [examples]
    if isinstance(examples, list):
        return examples
    return [examples]


def _is_position(example: Any) -> bool:
    return isinstance(example, tuple) and all(is_number(value) for value in example)


def _n_shots(example: Any) -> int:
    if isinstance(example, BaseSignal):
        return max(1, int(example.axes_manager.navigation_size))
    return 1 if not isinstance(example, np.ndarray) or example.ndim < 2 else len(example)


def _check_example(name: str, example: Any) -> None:
    known = (
        isinstance(example, (*ROIS, BaseSignal, np.ndarray, Region))
        or _is_position(example)
        or is_frame_roi(example)
        or is_number(example)
    )
    if not known:
        raise TypeError(
            f"Example of class {name!r} is {type(example).__name__}; accepted are {_ACCEPTED}."
        )


def _to_json(example: Any, arrays: dict[str, np.ndarray] | None = None) -> Any:
    """A plain description; the data of ready examples go to `arrays`."""
    if isinstance(example, ROIS):
        parameters = {
            key: value if is_number(value) or isinstance(value, list | tuple) else None
            for key, value in example.parameters.items()
        }
        return {"roi": type(example).__name__, "parameters": parameters}
    if is_frame_roi(example):
        return {"frame": _to_json(example[0]), **_to_json(example[1])}
    if isinstance(example, Region):
        return {"points": example.points.tolist()}
    if isinstance(example, BaseSignal | np.ndarray):
        return _array_to_json(example, arrays)
    if isinstance(example, tuple):
        return [_to_json(value) for value in example]
    return int(example) if isinstance(example, int | np.integer) else float(example)


def _array_to_json(example: Any, arrays: dict[str, np.ndarray] | None) -> dict[str, Any]:
    data = np.asarray(example.data if isinstance(example, BaseSignal) else example)
    plain: dict[str, Any] = {"shape": list(data.shape), "dtype": str(data.dtype)}
    if isinstance(example, BaseSignal):
        axis = example.axes_manager.signal_axes[0]
        plain["signal_dimension"] = int(example.axes_manager.signal_dimension)
        plain["units"] = str(axis.units)
        plain["axis"] = [float(value) for value in axis.axis]
    if arrays is not None:
        plain["array"] = f"example_{len(arrays)}"
        arrays[plain["array"]] = data
    return plain


def _from_json(plain: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(plain, list):
        return tuple(_from_json(value, arrays) for value in plain)
    if not isinstance(plain, dict):
        return plain
    if "roi" in plain:
        given = {key: value for key, value in plain["parameters"].items() if value is not None}
        if "vertices" in given:
            given["vertices"] = [tuple(vertex) for vertex in given["vertices"]]
        roi = getattr(hs_roi, plain["roi"])(**given)
        return (_from_json(plain["frame"], arrays), roi) if "frame" in plain else roi
    if "points" in plain:
        return Region(np.array(plain["points"]))
    data = arrays[plain["array"]]
    if "axis" not in plain:
        return data
    signal = BaseSignal(data).transpose(signal_axes=plain["signal_dimension"])
    if plain["signal_dimension"] == 1:
        signal.axes_manager.signal_axes[0].convert_to_non_uniform_axis()
        signal.axes_manager.signal_axes[0].axis = np.array(plain["axis"])
        signal.axes_manager.signal_axes[0].units = plain["units"]
    return signal
