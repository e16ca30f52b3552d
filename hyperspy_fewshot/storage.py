"""A result in one .hspy or .zspy file, without pickle."""

import json
import os
import shutil
from errno import ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hyperspy.io import load as hs_load
from hyperspy.signal import BaseSignal

from . import signals
from .encoders import Encoder
from .encoders.fourier import FourierEncoder
from .encoders.pattern import StemPatternEncoder
from .encoders.pca import PCAEncoder
from .encoders.spectrum import SpectrumEncoder
from .encoders.stem import StemEncoder
from .layout import Geometry, axis_dictionaries, class_axis
from .prototypes import FewShotClassifier
from .settings import Settings
from .smoothing import Smoothing
from .support import SupportSet

if TYPE_CHECKING:
    from .result import FewShotResult

# Encoders whose description is numbers, and weights found by path and digest;
# others are not saved.
_SAVED: dict[str, type[Encoder]] = {
    kind.__name__: kind
    for kind in (FourierEncoder, PCAEncoder, SpectrumEncoder, StemEncoder, StemPatternEncoder)
}
# What a group, an array or a value costs beside its own bytes, at most.
_COSTS = 4096


def write(result: "FewShotResult", path: Path) -> None:
    """Write a computed result; what is there is replaced."""
    arrays: dict[str, np.ndarray] = {
        "probabilities": result.probabilities.data,
        "confidence": result.confidence.data,
        "cell_areas": result.geometry.cell_areas,
    }
    plain = {
        **describe(result.classifier, arrays),
        "geometry": _flatten("geometry", {**vars(result.geometry), "cell_areas": None}, arrays),
        "support": result.support.to_json(arrays),
        "transferred": result.transferred,
    }
    labels = result.labels.deepcopy()
    # HyperSpy does not print what begins with an underscore.
    labels.metadata.set_item("FewShot._saved.plain", json.dumps(plain, default=as_plain))
    for name, array in arrays.items():
        labels.metadata.set_item(f"FewShot._saved.arrays.{name}", array)
    _check_room(path, labels)
    labels.save(path, overwrite=True)


def _check_room(path: Path, signal: BaseSignal) -> None:
    """Raise if a disk is too full for a file: HDF5 may crash where it finds out by itself."""
    size = signal.data.nbytes + sum(
        _room_of(tree.as_dictionary()) for tree in (signal.metadata, signal.original_metadata)
    )
    room = path.with_name("room")
    try:
        with open(room, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif shutil.disk_usage(path.parent).free < size:
                raise OSError(ENOSPC, os.strerror(ENOSPC))
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; up to {size / 1e6:.1f} MB are needed", str(path)
        ) from error
    finally:
        room.unlink(missing_ok=True)


def _room_of(value: Any) -> int:
    """Most bytes that something takes in a file: its own, and what it costs to keep."""
    if isinstance(value, dict):
        return _COSTS + sum(map(_room_of, value.values()))
    return _COSTS + (value.nbytes if isinstance(value, np.ndarray) else len(str(value)))


def load(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save` wrote, as arguments of FewShotResult."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    # A Path is never taken for a pattern, as a string is.
    labels = hs_load(path)
    if isinstance(labels, list) or not labels.metadata.has_item("FewShot._saved"):
        raise ValueError(f"{path.name!r} holds no few-shot result; result.save(path) writes one.")
    plain = json.loads(labels.metadata.get_item("FewShot._saved.plain"))
    arrays = labels.metadata.get_item("FewShot._saved.arrays").as_dictionary()
    delattr(labels.metadata.FewShot, "_saved")
    encoder = _build_encoder(plain["encoder"], arrays)
    settings = _restore(plain["settings"], arrays)
    smoothing = settings["smoothing"] and Smoothing(**_restore(settings["smoothing"], arrays))
    classifier = _restore(plain["classifier"], arrays)
    item_shape = tuple(settings["item_shape"])
    setup = Settings(
        encoder=encoder, **{**settings, "item_shape": item_shape, "smoothing": smoothing}
    )
    axes = axis_dictionaries(labels)
    k = len(classifier["class_names"])
    geometry = _restore(plain["geometry"], arrays)
    geometry["cell_areas"] = np.asarray(arrays["cell_areas"])
    geometry["image_axes"] = tuple(geometry["image_axes"])
    metadata = {"General": {"title": "Few-shot probabilities"}}
    return {
        "labels": labels,
        "probabilities": signals.build(
            np.asarray(arrays["probabilities"]), [class_axis(k), *axes], False, metadata
        ),
        "confidence": signals.build(
            np.asarray(arrays["confidence"]), axes, False, {"General": {"title": "Confidence"}}
        ),
        "embeddings": None,
        "classifier": FewShotClassifier(
            setup=setup, **{**classifier, "class_names": tuple(classifier["class_names"])}
        ),
        "support": SupportSet.from_json(plain["support"], arrays),
        "geometry": Geometry(**geometry),
        "transferred": plain["transferred"],
    }


def describe(classifier: FewShotClassifier, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A classifier in terms that JSON knows, with :func:`as_plain`; its arrays go to `arrays`."""
    return {
        "classifier": _flatten("classifier", _classifier_state(classifier), arrays),
        "settings": _settings_state(classifier.setup, arrays),
        "encoder": _encoder_state(classifier.setup.encoder, arrays),
    }


def _classifier_state(classifier: FewShotClassifier) -> dict[str, Any]:
    state = {key: value for key, value in vars(classifier).items() if key != "setup"}
    return {**state, "class_names": list(classifier.class_names)}


def _settings_state(settings: Settings, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    state = {key: value for key, value in vars(settings).items() if key != "encoder"}
    if settings.smoothing is not None:
        state["smoothing"] = _flatten("smoothing", vars(settings.smoothing), arrays)
    return _flatten("settings", state, arrays)


def _encoder_state(encoder: Encoder | None, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    kind = type(encoder).__name__
    if kind not in _SAVED:
        return {}
    return {"class": kind, "state": _flatten("encoder", encoder.state(), arrays)}


def _build_encoder(plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> Encoder | None:
    if not plain:
        return None
    state = _restore(plain["state"], arrays)
    # JSON knows no tuples.
    state = {key: tuple(v) if isinstance(v, list) else v for key, v in state.items()}
    return _SAVED[plain["class"]](**state)


def as_plain(value: Any) -> Any:
    """What JSON does not know: values of NumPy."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _flatten(prefix: str, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Move arrays out of a state; what stays can be written as JSON."""
    plain = {}
    for key, value in state.items():
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}_{key}"] = value
            value = {"array": f"{prefix}_{key}", "dtype": str(value.dtype)}
        plain[key] = value
    return plain


def _restore(plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        key: np.asarray(arrays[value["array"]]).astype(value["dtype"])
        if isinstance(value, dict) and "array" in value
        else value
        for key, value in plain.items()
    }
