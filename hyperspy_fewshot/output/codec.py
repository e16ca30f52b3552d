"""Recipes, classifiers and support sets as JSON and arrays, and back, without pickle."""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.embedding.recipe import Part, Recipe
from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.encoders.fourier import FourierEncoder
from hyperspy_fewshot.encoders.pattern import StemPatternEncoder
from hyperspy_fewshot.encoders.pca import PCAEncoder
from hyperspy_fewshot.encoders.spectrum import SpectrumEncoder
from hyperspy_fewshot.encoders.stem import StemEncoder
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.grids.smoothing import Smoothing

# What a file may make us build. Weights of a trained encoder are found by path and digest.
_KINDS = {
    kind.__name__: kind
    for kind in (
        ChipGrid, FewShotClassifier, FourierEncoder, PCAEncoder, Part, PositionGrid, Recipe,
        Smoothing, SpectrumEncoder, StemEncoder, StemPatternEncoder,
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

    Raises KeyError for a class that is not one of those that can be saved.
    """
    if isinstance(plain, list):
        return tuple(decode(item, arrays) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        return np.asarray(arrays[plain["array"]]).astype(plain["dtype"])
    if "items" in plain:
        return {key: decode(item, arrays) for key, item in plain["items"].items()}
    state = {key: decode(item, arrays) for key, item in plain["state"].items()}
    return _KINDS[plain["class"]](**state)
