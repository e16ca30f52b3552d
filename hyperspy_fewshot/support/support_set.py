"""The support set: the labelled examples of all classes."""

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.support import npz
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.locate import Shot, Stroke, is_roi_of_frame, locate
from hyperspy_fewshot.support.painting import strokes_of_labels, strokes_of_masks
from hyperspy_fewshot.support.rois import (
    AREA_ROIS,
    ROIS,
    area_in_pixels,
    has_bounds,
    is_defined,
    is_number,
)
from hyperspy_fewshot.support.serialising import digest_of, from_json, to_json

# A smaller square array holds coordinates rather than a chip.
_LEAST_READY_SIDE = 4
# Name of the array that holds the JSON of a support set in a file.
_MEMBER = "support"
_NEGATIVES, _MASKED = "rejected", "masked"
_ACCEPTED = (
    "a HyperSpy ROI (Point1DROI, Point2DROI, SpanROI, RectangularROI, CircleROI, PolygonROI), a "
    "position tuple (ints: pixels, floats: calibrated units, x before y), an array of positions, a "
    "signal or an array"
)


@dataclass(eq=False)
class SupportSet:
    """Labelled examples of all classes.

    Parameters
    ----------
    examples
        One example, or a list of examples, for each class name. An example is

        - a HyperSpy ROI: ``Point1DROI``, ``Point2DROI``, ``SpanROI``, ``RectangularROI``,
          ``CircleROI`` or ``PolygonROI``;
        - a position tuple in HyperSpy's order (ints are pixel indices, floats are calibrated
          values);
        - for stacks ``(*navigation, x, y)`` or ``(navigation index, roi)``;
        - an array (n, 2) of positions, one in each row; for stacks one column more for each
          navigation axis, for line scans one column;
        - a signal or array that holds ready examples.

        Each element of a list is one shot. Of ready examples and arrays of positions, each item is
        one. An array that may be both, such as (n, 2) on spectra of two channels, is an error. The
        name ``"rejected"`` holds negative examples, which belong to no class. Painted examples
        come from :meth:`from_label_map` and :meth:`from_masks`.

    Attributes
    ----------
    negatives
        The negative examples: queries nearer to one of them than to every class are rejected.

    Examples
    --------
    >>> support = SupportSet({"Ge": [(512, 2600), (1400, 2750)]})
    >>> support.add("cap", (30, 40))
    >>> support.add("rejected", (700, 90))
    >>> support.shots
    {'Ge': 2, 'cap': 1}
    >>> support.negatives
    [(700, 90)]
    """

    examples: Mapping[str, Any] = field(default_factory=dict, repr=False)
    negatives: list = field(default_factory=list, init=False, repr=False)

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
        """Number of shots of each class.

        An array with two axes counts as one chip if it is square and has four or more rows, and as a
        set of positions or spectra otherwise. Whether that matches the data is checked when they are
        classified.
        """
        return {name: sum(map(_n_shots, given)) for name, given in self.examples.items()}

    def add(self, name: str, *examples: Any) -> None:
        """Add examples to a class, which is created if it does not exist.

        With the name ``"rejected"`` they are negative examples.

        Raises
        ------
        TypeError, ValueError
            If the name is not a string or is ``"masked"``, or an example is of a kind that is not
            accepted, or an ROI without a position.
        """
        if not isinstance(name, str):
            raise TypeError(f"Class names are strings, got {name!r}.")
        if name == _MASKED:
            raise ValueError(
                f"A class cannot be called {name!r}: the name is reserved for queries that are left "
                "out, by navigation_mask=."
            )
        for example in examples:
            _check_example(name, example)
        given = self.negatives if name == _NEGATIVES else self.examples.setdefault(name, [])
        given.extend(examples)

    def remove(self, name: str, index: int | None = None) -> None:
        """Remove one example of a class, or the whole class; ``"rejected"``: of the negatives.

        Raises
        ------
        KeyError, IndexError, TypeError
            If there is no such class or example, or the index is no integer.
        """
        self._check(name, *([] if index is None else [index]))
        if index is not None:
            del self._given[name][index]
        elif name == _NEGATIVES:
            self.negatives.clear()
        else:
            del self.examples[name]

    @property
    def _given(self) -> dict[str, list]:
        """Examples of all classes, and under their reserved name the negative ones, if any."""
        return {**self.examples, **({_NEGATIVES: self.negatives} if self.negatives else {})}

    def _check(self, name: str, *indices: int) -> None:
        """Raise if there is no such class, or no example with one of the indices."""
        if name not in self._given:
            raise KeyError(f"There is no class {name!r}; classes are {list(self._given)}.")
        count = len(self._given[name])
        for index in indices:
            if not isinstance(index, int | np.integer) or isinstance(index, bool):
                raise TypeError(f"Examples are removed by their index, an integer; got {index!r}.")
            if not -count <= index < count:
                raise IndexError(f"Class {name!r} has {count} examples, none with index {index}.")

    def copy(self) -> "SupportSet":
        """Return an independent copy; ROIs are copied with their present position."""
        return SupportSet(
            {name: [_copy(example) for example in e] for name, e in self._given.items()}
        )

    @classmethod
    def from_label_map(
        cls, labels: Any, class_names: Sequence[str] | Mapping[int, str] | None = None
    ) -> "SupportSet":
        """Create a support set from a painted label image; each connected stroke is one shot.

        Images from napari, Fiji and ilastik are taken as they are. On stacks, strokes of different
        frames are different shots.

        Parameters
        ----------
        labels
            Whole numbers over the image or the navigation space, as a signal or as an array in array
            order: 0 is unlabelled, 1 to K are the classes. Floating-point numbers are accepted if
            they are whole. A last axis of length 1 of an array with three or more axes is dropped.
        class_names
            Names of the K classes, or a dict of value to name: then values without a name are
            unlabelled. With one name, 255 is its class in an image of 0 and 255. The name
            ``"rejected"`` makes negative examples. None: the names that
            :meth:`FewShotResult.to_label_image` wrote into the metadata, else the values as text.

        Raises
        ------
        ValueError
            If the numbers are not whole, a label does not belong to a class, or a class has no label.
        TypeError
            If `class_names` is a string, or a key is no integer.

        Examples
        --------
        >>> labels = np.zeros((60, 80), dtype=np.uint8)
        >>> labels[5:8, 10:40], labels[30:50, 60], labels[55, 3:9] = 1, 2, 2
        >>> SupportSet.from_label_map(labels, ["matrix", "precipitate"]).shots
        {'matrix': 1, 'precipitate': 2}
        >>> SupportSet.from_label_map(labels, {2: "precipitate"}).shots
        {'precipitate': 2}
        """
        return cls(strokes_of_labels(labels, class_names))

    @classmethod
    def from_masks(cls, masks: Mapping[str, Any]) -> "SupportSet":
        """Create a support set from masks; each connected stroke of a mask is one shot.

        Parameters
        ----------
        masks
            Class name to a mask, or a list of masks, over the image or the navigation space: a
            signal, or an array in array order, of True and False, or of 0 and one other value.

        Raises
        ------
        ValueError
            If a mask holds other values or is False everywhere, if masks have different shapes, or if
            those of two classes share pixels.
        TypeError
            If `masks` is no dict.

        Examples
        --------
        >>> image = np.tile([0.0, 3.0, 9.0, 3.0, 0.0], (4, 1))
        >>> SupportSet.from_masks({"dark": image < 1, "bright": image > 8}).shots
        {'dark': 2, 'bright': 1}
        """
        return cls(strokes_of_masks(masks))

    def locate(self, domain: Domain) -> list[tuple[int, Any, list[Shot]]]:
        """Find all examples in a data set: the index of the class, the example, and its shots.

        The index of negative examples is -1.
        """
        found = []
        for index, (name, examples) in enumerate(self._given.items()):
            index = -1 if name == _NEGATIVES else index
            for example in examples:
                try:
                    found.append((index, example, locate(example, domain)))
                except (ValueError, TypeError, IndexError) as error:
                    kind = TypeError if isinstance(error, TypeError) else ValueError
                    raise kind(f"Example of class {name!r}: {error}") from error
        return found

    def cells(self, domain: Domain) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the index of the class, -1 for negatives, and the cell of every location of a shot.

        Ready examples have no location.
        """
        for index, _, shots in self.locate(domain):
            for shot in shots:
                for place in () if shot.locations is None else shot.locations:
                    yield index, domain.grid.cell_at(place)

    def updated(
        self, examples: Mapping[str, Any], remove: Mapping[str, int | Sequence[int]]
    ) -> "SupportSet":
        """Return a copy with examples added and others removed.

        For each class name, `examples` holds one example or a list of them, and `remove` the index,
        or the indices, of the examples to remove. A class without remaining examples is removed.
        """
        changed = self.copy()
        for name, indices in remove.items():
            self._check(name, *np.ravel(indices))
            given = changed._given[name]
            kept = np.delete(np.arange(len(given)), indices)
            given[:] = [given[i] for i in kept]
            if not given and name != _NEGATIVES:
                changed.remove(name)
        for name, given in examples.items():
            changed.add(name, *_as_list(given))
        return changed

    def describe(self) -> str:
        """Describe the support set as JSON, without the data of ready examples."""
        return self.as_json(None)

    def as_json(self, arrays: dict[str, np.ndarray] | None) -> str:
        """Serialise the support set as JSON; `arrays` receives the data of ready examples."""
        return json.dumps(
            {name: [to_json(e, arrays) for e in given] for name, given in self._given.items()}
        )

    def digest(self) -> str:
        """Digest of the class names and all examples."""
        digests = {name: [digest_of(e) for e in given] for name, given in self._given.items()}
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the support set to a .npz file.

        The file is there as a whole or not at all. It replaces a support set, but nothing else.

        Raises
        ------
        ValueError
            If there is a file that holds something else.
        """
        arrays: dict[str, np.ndarray] = {}
        plain = self.as_json(arrays)
        npz.write(Path(path), {_MEMBER: np.array(plain), **arrays}, _MEMBER)

    @classmethod
    def load(cls, path: str | Path) -> "SupportSet":
        """Read a support set that :meth:`save` wrote.

        Nothing in the file is run.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file holds something else, or is damaged.
        """
        path = Path(path)
        try:
            arrays = npz.read(path)
            if _MEMBER not in arrays:
                raise ValueError("it holds no support set")
            return cls.from_json(str(arrays.pop(_MEMBER)), arrays)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path.name!r} cannot be read: {error}") from error

    @classmethod
    def from_json(cls, plain: str, arrays: Mapping[str, np.ndarray]) -> "SupportSet":
        """Rebuild a support set from the result of :meth:`as_json` and its arrays."""
        given = json.loads(plain)
        if not isinstance(given, dict) or not all(isinstance(e, list) for e in given.values()):
            raise ValueError("The support set is damaged.")
        return cls({name: [from_json(e, arrays) for e in given[name]] for name in given})

    def __len__(self) -> int:
        return sum(self.shots.values())

    def __repr__(self) -> str:
        shots = ", ".join(f"{name!r}: {count}" for name, count in self.shots.items())
        negatives = f", {len(self.negatives)} negative examples" * bool(self.negatives)
        return f"<SupportSet, shots {{{shots}}}{negatives}>"


def area_roi_sides(support: SupportSet, axes: Sequence[Any]) -> list[float]:
    """Square roots of the areas of all area ROIs [px]."""
    rois = [e[1] if is_roi_of_frame(e) else e for e in _all_examples(support)]
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
    examples = [example for given in support.examples.values() for example in given]
    return examples + support.negatives


def _as_list(examples: Any) -> list:
    return examples if isinstance(examples, list) else [examples]


def _copy(example: Any) -> Any:
    is_roi = isinstance(example, ROIS) or is_roi_of_frame(example)
    return from_json(to_json(example), {}) if is_roi else example


def _n_shots(example: Any) -> int:
    if isinstance(example, BaseSignal):
        axes = example.axes_manager
        return int(axes.navigation_size) if axes.navigation_dimension else 1
    if not isinstance(example, np.ndarray) or example.ndim < 2:
        return 1
    is_chip = example.ndim == 2 and example.shape[0] == example.shape[1] >= _LEAST_READY_SIDE
    return 1 if is_chip else len(example)


def _check_example(name: str, example: Any) -> None:
    is_position = isinstance(example, tuple) and example and all(map(is_number, example))
    is_ready = isinstance(example, BaseSignal | np.ndarray | Stroke)
    if is_position or is_ready or is_number(example):
        return
    roi = example[1] if is_roi_of_frame(example) else example
    if not isinstance(roi, ROIS):
        raise TypeError(
            f"Example of class {name!r} is {type(example).__name__} {reprlib.repr(example)}; accepted "
            f"are {_ACCEPTED}. Several examples are given as a list."
        )
    if not is_defined(roi):
        raise ValueError(
            f"Example of class {name!r} is a {type(roi).__name__} that has no position yet: give "
            "its parameters, or draw it with roi.add_widget(s)."
        )
    if not has_bounds(roi):
        raise ValueError(
            f"Example of class {name!r}, {roi}, has coordinates that are not finite or exceed 1e100."
        )


def checked_support(support: Any, reject: bool | float) -> SupportSet:
    """Return a copy of a support set or dict that has two classes and examples of each.

    Negative examples are refused if nothing is to be rejected.
    """
    # A copy, since the user may move ROIs and add examples later.
    support = (support if isinstance(support, SupportSet) else SupportSet(support)).copy()
    if len(support.class_names) < 2:
        raise ValueError(
            f"Few-shot classification needs at least two classes, got {list(support.class_names)}."
            " Add another class, for instance the background."
        )
    for name, shots in support.shots.items():
        if not shots:
            raise ValueError(f"Class {name!r} has no examples; give at least one.")
    if support.negatives and reject is False:
        raise ValueError(
            f'reject=False contradicts the {len(support.negatives)} negative examples ("rejected") of the '
            'support set: leave reject out, or remove them with support.remove("rejected").'
        )
    return support
