"""Results and embedding maps in files: what of them is written, and how they are built again."""

import hashlib
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from hyperspy.defaults_parser import preferences
from hyperspy.signal import BaseSignal

from hyperspy_fewshot.embedding.fingerprint import fingerprint
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.output import files, label_maps, validation
from hyperspy_fewshot.output.axes import (
    axes_of_map,
    axis_dictionaries,
    class_axis,
    make_eager,
)
from hyperspy_fewshot.output.metadata import metadata_of, versions
from hyperspy_fewshot.output.partial import compute_into, is_partial, partial_folder
from hyperspy_fewshot.output.plain import plain_axes
from hyperspy_fewshot.results.audit import Audit
from hyperspy_fewshot.results.examples import Examples
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.support_set import SupportSet

_RESULT, _MAP = "few-shot result", "embedding map"
_OF_RESULT = (
    "probabilities", "confidence", "classifier", "axes", "transferred", "support", "spread", "audit",
    "examples",
)  # fmt: skip
_OF_MAP = ("recipe", "axes", "sample", "guide", "mask", "known", "fingerprint")


def save_result(result: Any, path: str | Path, overwrite: bool | None) -> None:
    """Write a :class:`FewShotResult`; a lazy one is computed block by block first."""
    path = Path(path).resolve()
    if not files.may_write(path, overwrite, (".hspy", ".zspy"), _sources(result.embedding_map)):
        return
    if result.embedding_map is None or not (result._lazy or is_partial(path)):
        _write_result(result, path)
        return
    recipe, embedding_map = result.classifier.recipe, result.embedding_map
    digests = {
        "data": embedding_map.fingerprint,
        "support": result.support.digest() + (recipe.sha256 if result.transferred else ""),
        "settings": f"{_settings(embedding_map)} {result.classifier.reject!r}",
        "versions": versions(),
    }
    with partial_folder(path, digests, result.packed) as folder:
        if not result._lazy:
            _write_result(result, path)
            return
        with embedding_map.naming_unreadable():
            packed = compute_into(result.packed, folder)
        result.make_eager(packed.compute())
        _write_result(result, path)


def _sources(embedding_map: Any) -> list[Path]:
    """Files that an embedding map is computed or read from."""
    if embedding_map is None:
        return []
    own = files.source_of(embedding_map.embeddings) if embedding_map._lazy else []
    return files.source_of(embedding_map.signal) + own


def _settings(embedding_map: Any) -> str:
    """What decides embeddings beside the data."""
    mask = embedding_map.source.mask
    masked = "" if mask is None else hashlib.sha256(np.packbits(mask)).hexdigest()
    return f"{embedding_map.recipe.description} {masked}"


def _write_result(result: Any, path: Path) -> None:
    result.compute()
    arrays: dict[str, np.ndarray] = {}
    state = {
        "probabilities": result.probabilities.data,
        "confidence": result.confidence.data,
        "classifier": result.classifier,
        "axes": result.domain.axis_dictionaries,
        "transferred": result.transferred,
        "spread": result.spread,
        "support": result.support.as_json(arrays),
        "examples": None if result.examples is None else result.examples.rows,
        "audit": None if result._audit is None else result._audit.to_json(),
    }
    files.write(path, result.labels, {_RESULT: state}, arrays)


def load_result(path: str | Path) -> dict[str, Any]:
    """Read what :func:`save_result` wrote, as arguments of :class:`FewShotResult`."""
    path = Path(path)
    labels, state, arrays = files.read(path, _RESULT)
    with files.naming(path):
        state = _fields(state[_RESULT], _OF_RESULT)
        classifier, axes = state["classifier"], axis_dictionaries(labels)
        validation.check_classifier(classifier)
        domain = _domain(classifier.recipe, state["axes"])
        names, shape = classifier.class_names, domain.grid.shape
        validation.check_labels(labels.data, shape, len(names))
        validation.check_shape("probabilities", state["probabilities"], (len(names), *shape))
        validation.check_shape("confidence", state["confidence"], shape)
        _check_map_axes(labels, domain)
        support = SupportSet.from_json(state["support"], arrays)
        transferred = state["transferred"]
        same = transferred is True or support.class_names == names
        validation.require(isinstance(transferred, bool) and same, "the support set is another one")
        labels.metadata.set_item("FewShot.class_names", list(names))
        class_axes = [class_axis(len(names)), *axes]
        validation.check_finite("spread", state["spread"], (len(names),))
        audit = None if state["audit"] is None else Audit.from_json(state["audit"])
        examples = None if state["examples"] is None else Examples.checked(state["examples"], names)
        same = audit is None or audit.design.shapes == (shape,)
        validation.require(same, "the audit is one of other label maps")
        return {
            "labels": labels,
            "probabilities": _signal(state["probabilities"], class_axes, "Few-shot probabilities"),
            "confidence": _signal(state["confidence"], axes, "Few-shot confidence"),
            "classifier": classifier,
            "support": support,
            "domain": domain,
            "transferred": transferred,
            "spread": state["spread"],
            "examples": examples,
            "_audit": audit,
        }


def _fields(state: Any, names: tuple[str, ...]) -> dict[str, Any]:
    found = sorted(state) if isinstance(state, dict) else []
    validation.require(found == sorted(names), f"it holds {found}")
    return state


def _domain(recipe: Recipe, axes: Any) -> Domain:
    """Build the axes of the data again, which have to be those of the grid."""
    validation.require(isinstance(axes, tuple), "it holds no axes")
    rebuilt = plain_axes(axes)
    validation.check_sides(rebuilt, recipe.grid)
    return Domain(recipe.grid, rebuilt)


def _check_map_axes(labels: BaseSignal, domain: Domain) -> None:
    """Refuse a map whose axes are not divided into frames and maps as those of the data are."""
    found = [axis["navigate"] for axis in axis_dictionaries(labels)]
    expected = [axis["navigate"] for axis in axes_of_map(domain)]
    validation.require(found == expected, "the axes of the label map are others")


def save_embedding_map(embedding_map: Any, path: str | Path, overwrite: bool | None) -> None:
    """Write an :class:`EmbeddingMap`; a lazy one is computed block by block first."""
    path = Path(path).resolve()
    if not files.may_write(path, overwrite, (".zspy",), _sources(embedding_map)):
        return
    embeddings, guide = embedding_map.embeddings, embedding_map.guide
    if not (embedding_map._lazy or is_partial(path)):
        _write_map(embedding_map, embeddings, path)
        return
    packed = None
    if embedding_map._lazy:
        parts = [embeddings.data] if guide is None else [embeddings.data, guide.data[..., None]]
        packed = da.concatenate(parts, axis=-1).rechunk({-1: -1})
    digests = {
        "data": embedding_map.fingerprint,
        "settings": _settings(embedding_map),
        "versions": versions(),
    }
    with partial_folder(path, digests, packed) as folder:
        if packed is None:
            _write_map(embedding_map, embeddings, path)
            return
        with embedding_map.naming_unreadable():
            packed = compute_into(packed, folder, what="Embedding")
        if guide is not None:
            make_eager(guide, packed[..., -1].compute())
        size = embedding_map.recipe.size
        _write_map(embedding_map, embeddings._deepcopy_with_new_data(packed[..., :size]), path)
    loaded, _, _ = files.read(path, _MAP, lazy=not embedding_map.is_kept)
    if loaded._lazy:
        embeddings.data, embeddings.tmp_parameters = loaded.data, loaded.tmp_parameters
    else:
        make_eager(embeddings, loaded.data)


def _write_map(embedding_map: Any, embeddings: BaseSignal, path: Path) -> None:
    state = {
        "recipe": embedding_map.recipe,
        "axes": embedding_map.domain.axis_dictionaries,
        "sample": embedding_map.sample,
        "guide": None if embedding_map.guide is None else embedding_map.guide.data,
        "mask": embedding_map.source.mask,
        "known": embedding_map.known,
        "fingerprint": embedding_map.fingerprint,
    }
    files.write(path, embeddings, {_MAP: state}, {}, preferences.General.show_progressbar)


def load_embedding_map(path: str | Path, signal: BaseSignal | None, lazy: bool) -> dict[str, Any]:
    """Read what :func:`save_embedding_map` wrote, as arguments of :class:`EmbeddingMap`.

    Raises ValueError if the map is that of other data than the signal.
    """
    path = Path(path)
    embeddings, state, _ = files.read(path, _MAP, lazy)
    with files.naming(path):
        state = _fields(state[_MAP], _OF_MAP)
        recipe, guide, known = (state[name] for name in ("recipe", "guide", "known"))
        validation.check_recipe(recipe)
        domain = _domain(recipe, state["axes"])
        _check_map(embeddings, state, domain)
        if guide is not None:
            guide = _signal(guide, axes_of_map(domain), "Few-shot guide image")
    source = DataSource(None if signal is None else signal.data, state["mask"])
    if signal is not None and fingerprint(source, recipe.grid) != state["fingerprint"]:
        raise ValueError(f"{path.name!r} is the embedding map of other data than this signal.")
    return {
        "embeddings": embeddings,
        "guide": guide,
        "recipe": recipe,
        "sample": state["sample"],
        "domain": domain,
        "source": source,
        "signal": signal,
        "known": {digest: list(found) for digest, found in known.items()},
        "_fingerprint": state["fingerprint"],
    }


def _check_map(embeddings: BaseSignal, state: dict[str, Any], domain: Domain) -> None:
    """Refuse an embedding map whose parts do not fit together."""
    recipe, shape, known = state["recipe"], domain.grid.shape, state["known"]
    found = embeddings.data
    validation.require(
        found.shape == (*shape, recipe.size) and found.dtype.kind == "f",
        f"the embeddings are {found.dtype} of shape {found.shape}",
    )
    navigate = [axis["navigate"] for axis in axis_dictionaries(embeddings)]
    validation.require(navigate == [True] * len(shape) + [False], "the axes of the map are others")
    validation.check_shape("the sample", state["sample"], (None, recipe.size))
    if recipe.grid.n_guides or state["guide"] is not None:
        validation.check_shape("the guide image", state["guide"], shape)
    if state["mask"] is not None:
        validation.check_shape("the mask", state["mask"], shape, "b")
    validation.require(isinstance(known, dict), "it holds no support examples")
    for arrays in known.values():
        validation.require(isinstance(arrays, tuple), "it holds no support examples")
        for array in arrays:
            validation.check_finite("a support example", array, (None, recipe.size))
    validation.require(isinstance(state["fingerprint"], str), "it holds no fingerprint")


def _signal(data: np.ndarray, axes: list[dict], title: str) -> BaseSignal:
    return label_maps.build(data, axes, False, metadata_of(None, title))
