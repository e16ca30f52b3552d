"""Recipes, classifiers and support sets as JSON and arrays, and back, without pickle."""

from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.encoders.fourier import FourierEncoder
from hyperspy_fewshot.encoders.local import LocalEncoder
from hyperspy_fewshot.encoders.pattern import PatternEncoder
from hyperspy_fewshot.encoders.pca import PCAEncoder
from hyperspy_fewshot.encoders.spectrum import SpectrumEncoder
from hyperspy_fewshot.encoders.stem import StemEncoder
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.smoothing import Smoothing
from hyperspy_fewshot.output.limits import Unreadable

# What a file may make us build. Weights of a trained encoder are found by path and digest.
_KINDS = {
    kind.__name__: kind
    for kind in (
        ChipGrid, FewShotClassifier, FourierEncoder, LocalEncoder, PCAEncoder, Part, PatternEncoder,
        PositionGrid, Recipe, Smoothing, SpectrumEncoder, StemEncoder,
    )
}  # fmt: skip


def encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Describe a value in terms that JSON knows; arrays go to `arrays`.

    Encoders that cannot be saved become None; other unknown types raise TypeError.
    """
    if isinstance(value, np.ndarray):
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"array": name, "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [encode(item, arrays) for item in value]
    if isinstance(value, dict):
        return {"items": {key: encode(item, arrays) for key, item in value.items()}}
    if is_dataclass(value) and _KINDS.get(type(value).__name__) is type(value):
        state = {f.name: encode(getattr(value, f.name), arrays) for f in fields(value)}
        return {"class": type(value).__name__, "state": state}
    if isinstance(value, Encoder):
        return None
    raise TypeError(f"{type(value).__name__} cannot be saved.")


def decode(plain: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Build a value from what :func:`encode` returned.

    Raises Unreadable, a ValueError, for anything else: classes that are not among those that can be
    saved, fields that are missing or of another type, and arrays that are missing.
    """
    if isinstance(plain, list):
        return tuple(decode(item, arrays) for item in plain)
    if not isinstance(plain, dict):
        return plain
    keys = set(plain)
    if keys == {"array", "dtype"}:
        return _array(plain, arrays)
    if keys == {"items"} and isinstance(plain["items"], dict):
        return {key: decode(item, arrays) for key, item in plain["items"].items()}
    if keys == {"class", "state"} and isinstance(plain["state"], dict):
        return _instance(plain["class"], plain["state"], arrays)
    raise Unreadable(f"is damaged: it holds {sorted(keys)[:4]} where a value is expected.")


def _array(plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    name = plain["array"]
    if not isinstance(name, str) or name not in arrays:
        raise Unreadable(f"is damaged: the array {name!r} is missing.")
    array = np.asarray(arrays[name])
    if str(array.dtype) != plain["dtype"]:
        raise Unreadable(f"is damaged: {name!r} is {array.dtype}, {plain['dtype']!r} is declared.")
    return array


def _instance(name: Any, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        what = "an encoder" if isinstance(name, str) and name.endswith("Encoder") else "an object"
        raise Unreadable(f"holds {what} {name!r} that this version does not know.")
    hints = _hints(kind)
    if set(state) != set(hints):
        wrong = sorted(set(state) ^ set(hints))
        raise Unreadable(
            f"was written by another version, or is damaged: {name} differs in {', '.join(wrong[:4])}."
        )
    values = {key: decode(item, arrays) for key, item in state.items()}
    for key, value in values.items():
        if not _matches(value, hints[key]):
            raise Unreadable(f"is damaged: {key} of {name} is {type(value).__name__}.")
    return kind(**values)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of the fields of a class."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _matches(value: Any, hint: Any) -> bool:
    """Whether a value has the type that a field is declared with."""
    if hint is Any:
        return True
    if hint is Grid:
        return isinstance(value, ChipGrid | PositionGrid)
    parts = get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_matches(value, part) for part in parts)
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        inner = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(inner) == len(value) and all(map(_matches, value, inner))
    if hint in (int, float):
        accepted = int if hint is int else int | float
        return isinstance(value, accepted) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)
