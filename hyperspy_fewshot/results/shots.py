"""What a classifier is fitted on: each support example is read and embedded once."""

import math
import warnings
from dataclasses import dataclass, field

import dask.array as da
import numpy as np

from hyperspy_fewshot.embedding.queries import embed_at, embed_items
from hyperspy_fewshot.embedding.recipe import Recipe
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.grids.slices import shape_of
from hyperspy_fewshot.support.domain import Domain
from hyperspy_fewshot.support.locate import Shot
from hyperspy_fewshot.support.overlap import independent_shots
from hyperspy_fewshot.support.serialising import digest_of
from hyperspy_fewshot.support.support_set import SupportSet

# Data of examples that are in memory at a time [bytes].
_BATCH_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class SupportEmbeddings:
    """Embeddings (n, d), the independent shot of each (n,), and the class of every shot.

    The class of negative examples is -1. `examples` are the indices of the examples among those of the
    class that the shots come from, and `twins` the class and index of examples that were given for
    another class before, with this class.
    """

    embeddings: np.ndarray
    shots: np.ndarray
    shot_classes: np.ndarray
    examples: tuple[int, ...] = ()
    twins: tuple[tuple[int, int, int], ...] = ()


@dataclass(eq=False)
class ShotEmbedder:
    """Embeds the examples of support sets on one data set, and remembers them.

    `known` holds the embeddings of the shots of every example so far, by its digest.
    """

    recipe: Recipe
    domain: Domain
    source: DataSource
    known: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def embed(
        self, support: SupportSet, embeddings: np.ndarray | da.Array, show_progressbar: bool
    ) -> SupportEmbeddings:
        """Embed a support set; where there are no data to read, the nearest of all `embeddings`.

        Raises ValueError or TypeError if an example lies outside the data, or on data that are not
        finite.
        """
        located = support.locate(self.domain)
        digests = [digest_of(example) for _, example, _ in located]
        new, names = {}, {}
        for digest, (index, _, shots) in zip(digests, located, strict=True):
            if digest not in self.known:
                new[digest] = shots
                names.setdefault(digest, (*support.class_names, "rejected")[index])
        for digest, found in self._embed_new(new, embeddings, show_progressbar).items():
            if not all(map(len, found)):
                raise ValueError(
                    f"An example of class {names[digest]!r} lies on NaN, infinite or masked data."
                )
            self.known[digest] = found
        parts = [part for digest in digests for part in self.known[digest]]
        shots = [shot for _, _, found in located for shot in found]
        classes = np.repeat([i for i, _, _ in located], [len(found) for _, _, found in located])
        groups, group_classes = independent_shots(shots, classes, self.recipe.side)
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return SupportEmbeddings(
            np.concatenate(parts),
            groups[owners],
            group_classes,
            _first_examples(located, groups),
            _twins([k for k, _, _ in located], digests),
        )

    def _embed_new(
        self, new: dict[str, list[Shot]], embeddings: np.ndarray | da.Array, show_progressbar: bool
    ) -> dict[str, list[np.ndarray]]:
        """Embed shots by the digest of their example: arrays (n, d)."""
        shots = [shot for found in new.values() for shot in found]
        readable = self.source.data is not None
        needs_encoder = readable or any(shot.item is not None for shot in shots)
        if shots and needs_encoder and not self.recipe.complete:
            raise ValueError(
                "The encoder of this embedding map is missing (foreign encoders are not saved), so "
                "that no support example can be embedded. Load the map without a signal: then the "
                "nearest cell stands for a position."
            )
        places = [
            tuple(map(int, place))
            for shot in shots
            if shot.locations is not None
            for place in shot.locations
        ]
        items = [shot.item for shot in shots if shot.item is not None]
        at = iter(np.empty((0, 1, 0)))
        if places and not readable:
            at = iter(self._at_cells(places, embeddings))
        elif places:
            at = iter(self._at_places(places, show_progressbar))
        ready = iter(())
        if items:
            found = embed_items(self.recipe, np.concatenate(items), self.source.device)
            ready = iter(found.swapaxes(0, 1))
        return {
            digest: [
                _finite([next(ready)])
                if shot.item is not None
                else _finite([next(at) for _ in shot.locations])
                for shot in found
            ]
            for digest, found in new.items()
        }

    def _at_places(self, places: list[tuple[int, ...]], show_progressbar: bool) -> list[np.ndarray]:
        """Embeddings (copies, d) of some places, each of which is read once, in batches."""
        recipe, source, found = self.recipe, self.source, {}
        for batch in self._batches(list(dict.fromkeys(places))):
            windows = [recipe.window_at(place) for place in batch]
            data = source.read(windows, show_progressbar, "Reading examples")
            embedded = embed_at(recipe, data, batch, source.mask, source.device)
            found.update(zip(batch, embedded.swapaxes(0, 1), strict=True))
        return [found[place] for place in places]

    def _batches(self, places: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
        """Places whose data fit into memory; neighbours are together, since they share chunks."""
        data, windows = self.source.data, [self.recipe.window_at(place) for place in places]
        largest = max(math.prod(shape_of(window)) for window in windows)
        largest *= math.prod(data.shape[len(windows[0]) :]) * max(4, data.dtype.itemsize)
        size = max(1, _BATCH_BYTES // largest)
        if size >= len(places):
            return [places]
        ordered = sorted(places)
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]

    def _at_cells(
        self, places: list[tuple[int, ...]], embeddings: np.ndarray | da.Array
    ) -> np.ndarray:
        """Embeddings of the cells nearest to some places, shape (n, 1, d)."""
        grid = self.recipe.grid
        if grid.stride > 1:
            warnings.warn(
                "The data are not attached to this embedding map: the nearest cell stands for each "
                "support example. Load the map with EmbeddingMap.load(path, signal=s) to read them.",
                stacklevel=4,
            )
        cells = [grid.cell_at(place) for place in places]
        return np.stack([np.asarray(embeddings[cell]) for cell in cells])[:, np.newaxis]


def _first_examples(located: list, groups: np.ndarray) -> tuple[int, ...]:
    """Index, among those of its class, of the first example of every group of shots."""
    counted: dict[int, int] = {}
    indices = []
    for k, _, shots in located:
        indices += [counted.get(k, 0)] * len(shots)
        counted[k] = counted.get(k, 0) + 1
    _, first = np.unique(groups, return_index=True)
    return tuple(indices[i] for i in first)


def _twins(classes: list[int], digests: list[str]) -> tuple[tuple[int, int, int], ...]:
    """Class and index of examples that were given for another class before, and this class."""
    owners: dict[str, int] = {}
    found, counted = [], dict.fromkeys(classes, 0)
    for k, digest in zip(classes, digests, strict=True):
        other = owners.setdefault(digest, k)
        if k >= 0 and other not in (k, -1):
            found.append((k, counted[k], other))
        counted[k] += 1
    return tuple(found)


def _finite(parts: list[np.ndarray]) -> np.ndarray:
    """Finite rows of some embeddings."""
    rows = np.concatenate(parts)
    return rows[np.isfinite(rows).all(axis=1)]
