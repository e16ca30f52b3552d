"""Data with known truth: synthetic specimens, maps with a rare class, and labelled tasks."""

import itertools
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tasks import Task

from hyperspy_fewshot import EmbeddingMap, FewShotResult, data
from hyperspy_fewshot.data import Specimen, scans
from hyperspy_fewshot.data.drawing import slow_field

# A class of a task counts if it has twice as many queries as the ten shots that are drawn.
_FEWEST_QUERIES = 20
# Users click this far inside a class at most, on both sides together [px].
_FAR_INSIDE = 32
# Chip size and stride of the synthetic images [px], as in the demonstration.
_CHIPS = {"chip_size": 64, "stride": 16}
_CONTEXTS = ({"context": None}, {"context": 1})
# Tiny data, and encoders that take no time to fit.
_SMALL_IMAGE, _SMALL_SCAN = {"shape": (128, 160)}, {"shape": (24, 36), "spacing": 12}
_SMALL_CHIPS = {"chip_size": 16, "stride": 8, "encoder": "fourier"}
_SMALL_CONTEXTS = tuple({**settings, "encoder": "pca"} for settings in _CONTEXTS)
# Factor by which the margin of clicked places shrinks until there are enough of them.
_SHRINK = 0.8


@dataclass(frozen=True, eq=False)
class Case:
    """A data set with known truth and the settings to embed it with.

    Parameters
    ----------
    name
        The same for all settings; its hash decides which half of the cases it
        belongs to.
    data
        "synthetic", "real", "rare" or "demo".
    make
        Makes the data. Where the truth of real data is -1, they are masked.
    settings
        Arguments of ``fewshot_embed``.
    notes
        What else describes the case.
    """

    name: str
    data: str
    make: Callable[[], Specimen]
    settings: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def half(self) -> int:
        """Half of the cases that it belongs to, 0 or 1."""
        return zlib.crc32(self.name.encode()) % 2


def synthetic(small: bool = False) -> Iterator[Case]:
    """Yield the synthetic specimens over seeds."""
    image, scan = (_SMALL_IMAGE, _SMALL_SCAN) if small else ({}, {})
    patterns = {"scan_shape": (12, 16), "pattern_shape": (20, 24)} if small else {}
    chips, contexts = (_SMALL_CHIPS, _SMALL_CONTEXTS) if small else (_CHIPS, _CONTEXTS)
    for seed in range(1 if small else 10):
        for name, maker in (("het", data.heterostructure), ("poly", data.polycrystal)):
            make = partial(maker, seed=seed, **image)
            yield Case(f"S_{name}{seed}", "synthetic", make, chips)
        for name, maker, shape, doses in (
            ("eds", data.eds_spectrum_image, scan, (40, 10)),
            ("dif", data.diffraction_scan, patterns, (400, 100)),
        ):
            for counts in doses[:1] if small else doses:
                make = partial(maker, counts=float(counts), seed=seed, **shape)
                for context in contexts:
                    yield Case(f"S_{name}{seed}_{counts}", "synthetic", make, context)


def labelled(folder: Path) -> Iterator[Case]:
    """Yield the labelled tasks of a folder; nothing if there is none."""
    for path in sorted(folder.resolve().glob("*/*/labels.npy")):
        task = Task.load(path.parent)
        name = f"R_{task.name.replace('/', '__')}"
        for settings in ({},) if task.kind == "image" else _CONTEXTS:
            yield Case(name, "real", partial(_counted, task), settings)


def _counted(task: Task) -> Specimen:
    """Return a task with the classes that count; the truth of the others is -1, as if unknown."""
    stride = task.options.get("stride", 1)
    at_queries = task.labels[(stride - 1) // 2 :: stride, (stride - 1) // 2 :: stride]
    counts = np.bincount(at_queries.ravel(), minlength=len(task.class_names) + 1)
    kept = [k for k in range(1, len(counts)) if counts[k] >= _FEWEST_QUERIES]
    index = np.full(len(counts), -1)
    index[kept] = np.arange(len(kept))
    names = tuple(task.class_names[k - 1] for k in kept)
    return Specimen(task.signal, index[task.labels], names)


def rare(small: bool = False) -> Iterator[Case]:
    """Yield EDS maps in which one class is rare."""
    shape, choices = (90, 100), [(0.01, 0.005), (0.5, 2.0, 3.5), (False, True), (40, 15), (0, 1)]
    if small:
        shape, choices = (40, 50), [values[:1] for values in choices]
    for number, chosen in enumerate(itertools.product(*choices)):
        share, radius, second, counts, _ = chosen
        make = partial(rare_map, share, radius, second, counts, shape, number)
        name = f"RARE_{'_'.join(map(str, chosen))}"
        for context in _CONTEXTS:
            yield Case(name, "rare", make, context, {"share": share, "radius": radius})


def rare_map(
    share: float, radius: float, second: bool, counts: float, shape: tuple[int, int], seed: int
) -> Specimen:
    """Simulate an EDS map of a carbon film with a few small FePt particles.

    Parameters
    ----------
    share
        Share of the positions that the particles cover, roughly.
    radius
        Of a particle [positions].
    second
        Whether iron oxide covers a part of the film, as a second frequent class.
    counts
        Mean counts per spectrum.
    shape
        Rows and columns.
    seed
        Seed of everything random.
    """
    import exspy

    rng = np.random.default_rng(seed)
    reference = exspy.data.EDS_TEM_FePt_nanoparticles()
    energy, elements = reference.axes_manager.signal_axes[0].axis, exspy.material.elements
    film = scans.xray_spectrum(energy, scans.SUPPORT_LINES, elements, continuum=0.6)
    oxide = scans.xray_spectrum(energy, scans.OXIDE_LINES, elements, continuum=0.25)
    components = np.stack([film, oxide, reference.data / reference.data.sum()])
    rows, columns = np.indices(shape)
    frequent = second * (columns > 0.6 * shape[1])
    reach = int(radius)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= radius
    particles = np.zeros(shape, bool)
    for _ in range(max(1, round(share * rows.size / disc.sum()))):
        row, column = (rng.integers(reach + 1, size - reach - 1) for size in shape)
        particles |= np.hypot(rows - row, columns - column) <= radius
    amounts = np.stack([1 + 0.2 * slow_field(shape, rng), frequent, particles], axis=-1)
    amounts *= counts / amounts.sum(axis=-1).mean()
    spectra = rng.poisson(amounts @ components).astype(np.uint16)
    names = ("film", "oxide", "particles") if second else ("film", "particles")
    truth = np.where(particles, len(names) - 1, frequent)
    return Specimen(exspy.signals.EDSTEMSpectrum(spectra), truth, names)


def demonstrated(small: bool = False) -> Iterator[Case]:
    """Yield the specimens of the demonstration over seeds."""
    chips = _SMALL_CHIPS if small else _CHIPS
    image, scan = (_SMALL_IMAGE, _SMALL_SCAN) if small else ({}, {})
    for seed in range(1 if small else 20):
        notes = {"seed": seed, "margin": chips["chip_size"] // 2}
        for maker in (data.heterostructure,) if small else (data.heterostructure, data.polycrystal):
            make = partial(maker, seed=seed, **image)
            yield Case(maker.__name__, "demo", make, chips, notes)
        make = partial(data.eds_spectrum_image, seed=seed, **scan)
        yield Case("eds_spectrum_image", "demo", make, {}, {"seed": seed, "margin": 1})


@dataclass(frozen=True, eq=False)
class Scene:
    """A case whose queries are embedded.

    Parameters
    ----------
    case, specimen
        What was embedded.
    embedding_map
        The embeddings of all queries.
    truth
        Class of every query, shape (rows, columns). Boundaries of synthetic
        data have the nearest class, masked queries of real data -1.
    known
        Queries whose label is judged: all but masked ones and those on a
        boundary.
    depth
        Distance [px or positions] along an axis to the nearest place of another
        class, of every query.
    fractions
        True fraction of every class in what the queries cover.
    """

    case: Case
    specimen: Specimen
    embedding_map: EmbeddingMap
    truth: np.ndarray
    known: np.ndarray
    depth: np.ndarray
    fractions: np.ndarray

    @classmethod
    def of(cls, case: Case) -> "Scene":
        """Make and embed the data of a case."""
        specimen, settings = case.make(), dict(case.settings)
        truth = specimen.truth
        if case.data == "real":
            # An array of a mask is in HyperSpy's order, x first.
            settings["navigation_mask"] = (truth < 0).T
        else:
            truth = nearest_class(truth)
        found = specimen.signal.fewshot_embed(**settings, show_progressbar=False)
        grid = found.recipe.grid
        centres = (grid.centres(axis).astype(int) for axis in range(2))
        cells = np.ix_(*map(np.minimum, centres, np.array(truth.shape) - 1))
        at_queries = truth[cells]
        covered = at_queries >= 0
        for axis, size in enumerate(truth.shape):
            covered = covered.repeat(grid.stride, axis).take(range(size), axis)
        counted = truth[covered & (truth >= 0)]
        return cls(
            case=case,
            specimen=specimen,
            embedding_map=found,
            truth=at_queries,
            known=specimen.truth[cells] >= 0,
            depth=depth(truth)[cells],
            fractions=np.bincount(counted, minlength=len(specimen.class_names)) / len(counted),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.specimen.class_names

    @property
    def side(self) -> int:
        """Chip size or context."""
        return self.embedding_map.recipe.grid.side

    @property
    def kind(self) -> str:
        """Kind of the data, and whether neighbours inform a label."""
        kind = {"image": "images", "pattern": "patterns", "spectrum": "spectra"}
        single = self.case.settings.get("context") == 1
        return kind[self.embedding_map.recipe.grid.kind] + ", context 1" * single

    def interior(self, label: int) -> np.ndarray:
        """Queries of a class at least one chip or context away from any boundary."""
        return self.known & (self.truth == label) & (self.depth >= self.side)

    def draw(self, shots: int, seed: int, clicked: bool) -> dict[str, list[tuple[int, int]]]:
        """Draw support examples (x, y) of every class, inside it as a user clicks, or anywhere."""
        truth = np.where(self.known, self.truth, -1)
        reach = min(self.side, _FAR_INSIDE) // 2 + 1 if clicked else 0
        cells = draw(truth, self.depth, len(self.names), shots, seed, reach)
        rows, columns = (self.embedding_map.recipe.grid.locations(axis) for axis in range(2))
        return {
            name: [(int(columns[column]), int(rows[row])) for row, column in places]
            for name, places in zip(self.names, cells, strict=True)
        }

    def classify(self, support: Mapping[str, list], reject: bool) -> FewShotResult:
        """Classify the queries, without warnings about few examples."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return self.embedding_map.classify(support, reject, show_progressbar=False)


def nearest_class(truth: np.ndarray) -> np.ndarray:
    """Replace -1 in the truth by the class of the nearest place that has one."""
    index = ndimage.distance_transform_edt(truth < 0, return_distances=False, return_indices=True)
    return truth[tuple(index)]


def depth(truth: np.ndarray) -> np.ndarray:
    """Distance along an axis from every place to the nearest one of another class; 0 at -1."""
    distances = np.zeros(truth.shape, int)
    for label in range(truth.max() + 1):
        here = truth == label
        distances[here] = ndimage.distance_transform_cdt(here, "chessboard")[here]
    return distances


def draw(
    truth: np.ndarray, depth: np.ndarray, k: int, shots: int, seed: int, reach: float
) -> list[np.ndarray]:
    """Draw cells of every class, each array of shape (shots, 2).

    Their depth is at least `reach`, so that chips of less than twice that hold
    one class. Where too few cells, fewer than twice the shots, are as deep, it
    shrinks.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for label in range(k):
        margin, places = reach, np.empty((0, 2))
        while len(places) < 2 * shots:
            places = np.argwhere((truth == label) & (depth >= margin))
            if margin < 1:
                break
            margin *= _SHRINK
        drawn.append(rng.permutation(places)[:shots])
    return drawn
