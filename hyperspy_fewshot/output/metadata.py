"""Metadata of what is returned: inherited ones, and what is needed to repeat it."""

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hyperspy.signal import BaseSignal

from hyperspy_fewshot.decision.classifier import FewShotClassifier
from hyperspy_fewshot.embedding.recipe import UNSCALED, Recipe
from hyperspy_fewshot.statistics import Statistics
from hyperspy_fewshot.support.support_set import SupportSet

_COPIED = ("General", "Acquisition_instrument", "Sample")


def metadata_of(signal: BaseSignal | None, what: str) -> dict:
    """Metadata that a result inherits, with a title of its own."""
    if signal is None:
        return {"General": {"title": what}}
    tree = signal.metadata.as_dictionary()
    metadata = {key: tree[key] for key in _COPIED if key in tree}
    title = signal.metadata.get_item("General.title", default="") or signal.__class__.__name__
    metadata.setdefault("General", {})["title"] = f"{what} of {title}"
    return metadata


def provenance(
    classifier: FewShotClassifier, support: SupportSet, transferred: bool, recipe: Recipe
) -> dict:
    """Everything that is needed to repeat a result; `recipe` is the one for these data."""
    reject = classifier.reject
    return {
        "class_names": list(classifier.class_names),
        "support": support.describe(),
        "transferred": transferred,
        "reject": "default" if reject is True else str(reject),
        "thresholds": [float(value) for value in classifier.thresholds],
        "temperature": float(classifier.temperature),
        "leave_one_out": float(classifier.leave_one_out),
        **recipe_metadata(recipe),
    }


def recipe_metadata(recipe: Recipe) -> dict[str, Any]:
    """What is needed to repeat an embedding map."""
    encoders = [part.encoder for part in recipe.parts]
    node = {
        "encoder": ", ".join(dict.fromkeys(e.name if e else "" for e in encoders)),
        "encoder_sha256": ", ".join(encoder.sha256 if encoder else "" for encoder in encoders),
        "kind": recipe.grid.kind,
        "versions": versions(),
    }
    settings = {**recipe.grid.settings(), "stride": recipe.grid.stride}
    for name in ("chip_size", "context", "stride"):
        if name in settings and (name != "stride" or "chip_size" in settings):
            node[name] = int(settings[name])
    if recipe.scaling != UNSCALED:
        names = ("median", "factor", "learnt_median")
        node["standardised"] = dict(zip(names, recipe.scaling, strict=True))
    return node


@cache
def versions() -> str:
    """Versions of the packages that decide a result, as JSON."""
    return json.dumps({n: _version(n) for n in ("hyperspy_fewshot", "hyperspy", "torch", "numpy")})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        # A checkout that is not installed.
        return "unknown"


def as_columns(statistics: Statistics) -> dict:
    """Statistics as lists, since names may not be keys of metadata."""
    rows = statistics.to_dict()
    columns = {key: [row[key] for row in rows.values()] for key in next(iter(rows.values()))}
    return {"name": list(rows), "units": statistics.units, **columns}
