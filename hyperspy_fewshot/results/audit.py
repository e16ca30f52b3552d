"""An audit: places drawn at random and judged by eye give unbiased fractions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from hyperspy_fewshot.labels import MASKED, REJECTED
from hyperspy_fewshot.output.places import draw_place
from hyperspy_fewshot.results.audit_statistics import AuditStatistics
from hyperspy_fewshot.statistics.audit import Judged, places_of_strata

_NONE = "rejected"
# Places that are kept of each stratum, in random order, so that an audit can be extended.
_MOST_PLACES = 5000


@dataclass(frozen=True)
class Design:
    """What was drawn, and from what. Cells are counted through the label maps of all results.

    Parameters
    ----------
    seed
        Seed of the draw.
    shapes
        Shapes of the label maps.
    strata
        Names of the labels: the classes and "rejected".
    sizes, areas
        Number of cells of each stratum, and their area [px or positions].
    known
        Area by class of the cells that hold a shot.
    reserve
        Cells of each stratum in random order, as many as can be drawn.
    places
        Stratum and cell of every place of the audit.
    """

    seed: int
    shapes: tuple[tuple[int, ...], ...]
    strata: tuple[str, ...]
    sizes: tuple[int, ...]
    areas: tuple[float, ...]
    known: dict[str, float]
    reserve: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, int], ...] = ()

    def extended(self, n: int) -> Self:
        """Draw further places, up to n; those that were drawn before stay."""
        taken = np.bincount([h for h, _ in self.places], minlength=len(self.strata))
        held = np.array([len(cells) for cells in self.reserve])
        wanted = np.minimum(places_of_strata(np.array(self.sizes), n, taken), held)
        new = [
            (h, self.reserve[h][i])
            for h in range(len(self.strata))
            for i in range(taken[h], wanted[h])
        ]
        order = np.random.default_rng((self.seed, len(self.places))).permutation(len(new))
        return replace(self, places=(*self.places, *(new[i] for i in order)))


@dataclass(eq=False, repr=False)
class Audit:
    """Places of label maps, drawn at random, that the user judges one by one.

    Made by :meth:`FewShotResult.audit`, or by :meth:`draw` for several results. The places are drawn
    from every label in proportion to its area, at least three each, and come in random order, so that
    an audit may end early. The label is not shown. ``audit[i] = "name"`` judges the centre of place i;
    ``"rejected"`` means none of the classes, ``None`` that it cannot be told.

    Parameters
    ----------
    results
        What is audited.
    design
        What was drawn.
    judged
        Judgements by the number of the place.
    promoted
        Labels that places had before they became examples.

    Examples
    --------
    >>> from hyperspy_fewshot import data
    >>> specimen = data.heterostructure((256, 256))
    >>> result = specimen.signal.fewshot_classify(specimen.support(3, margin=16), chip_size=32)
    >>> audit = result.audit(50)
    >>> len(audit), audit.remaining[:3]
    (50, [0, 1, 2])
    >>> axes = audit.plot(0)
    >>> audit[0] = "Ge"
    """

    results: tuple[Any, ...]
    design: Design
    judged: dict[int, str | None] = field(default_factory=dict)
    promoted: dict[int, str] = field(default_factory=dict)

    @classmethod
    def draw(cls, results: Sequence[Any], n: int = 50, seed: int = 0) -> Self:
        """Draw the places of an audit of one or more results.

        Cells that are masked are left out. Those that hold a shot are known already: they count with
        the class of the shot, and are not drawn.

        Parameters
        ----------
        results
            Results with the same classes, such as those of several files by one recipe.
        n
            Number of places.
        seed
            Seed of the draw.

        Raises
        ------
        ValueError
            If the results have other classes, or nothing can be drawn.
        """
        results = tuple(results)
        names = results[0].class_names
        if any(result.class_names != names for result in results):
            raise ValueError("An audit needs results with the same classes.")
        labels, areas, owners = (
            np.concatenate(found) for found in zip(*map(_cells, results), strict=True)
        )
        strata = (*names, _NONE)
        stratum = np.where(labels == REJECTED, len(names), labels)
        stratum[(labels == MASKED) | (owners >= 0)] = -1
        if not (stratum >= 0).any():
            raise ValueError("There is nothing to audit: all cells are masked or hold a shot.")
        known = np.bincount(owners[owners >= 0], areas[owners >= 0], minlength=len(strata))
        cells = [np.flatnonzero(stratum == h) for h in range(len(strata))]
        rng = np.random.default_rng(seed)
        reserve = [rng.permutation(own)[:_MOST_PLACES] for own in cells]
        design = Design(
            seed=seed,
            shapes=tuple(result.labels.data.shape for result in results),
            strata=strata,
            sizes=tuple(map(len, cells)),
            areas=tuple(float(areas[own].sum()) for own in cells),
            known={name: float(area) for name, area in zip(strata, known, strict=True) if area},
            reserve=tuple(tuple(own.tolist()) for own in reserve),
        )
        return cls(results, design.extended(n))

    def extend(self, n: int) -> None:
        """Draw further places until there are n; judgements stay."""
        self.design = self.design.extended(n)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the results as they are now."""
        return self.results[0].class_names

    @property
    def remaining(self) -> list[int]:
        """Numbers of the places that are not judged yet."""
        return [i for i in range(len(self)) if i not in self.judged]

    def __len__(self) -> int:
        return len(self.design.places)

    def __getitem__(self, i: int) -> str | None:
        i = self._number(i)
        if i not in self.judged:
            raise KeyError(f"Place {i} is not judged yet.")
        return self.judged[i]

    def __setitem__(self, i: int, name: str | None) -> None:
        i, names = self._number(i), dict.fromkeys((*self.class_names, *self.design.strata))
        if name is not None and name not in names:
            raise ValueError(
                f"{name!r} is none of {list(names)}. {_NONE!r} means none of the classes, None that it "
                "cannot be told."
            )
        self.judged[i] = name

    def __delitem__(self, i: int) -> None:
        self.judged.pop(self._number(i), None)

    def _number(self, i: int) -> int:
        if not isinstance(i, int | np.integer) or isinstance(i, bool):
            raise TypeError(f"Places are numbered; got {i!r}.")
        if not 0 <= i < len(self):
            raise IndexError(f"There are {len(self)} places, 0 to {len(self) - 1}; got {i}.")
        return int(i)

    def _where(self, i: int) -> tuple[Any, tuple[int, ...]]:
        """The result of a place, and its cell in the label map, array order."""
        cell = self.design.places[self._number(i)][1]
        for result, shape in zip(self.results, self.design.shapes, strict=True):
            size = int(np.prod(shape))
            if cell < size:
                return result, tuple(int(index) for index in np.unravel_index(cell, shape))
            cell -= size
        raise IndexError(f"Place {i} lies in none of the results.")

    def position(self, i: int) -> tuple[int, ...]:
        """Pixel indices of a place in HyperSpy's order, as in a support set."""
        result, cell = self._where(i)
        return result.domain.position_of(cell)

    def plot(self, i: int) -> np.ndarray:
        """Show a place in its surroundings, without its label.

        On the left the image or the map of the scan, on the right the chip with its surroundings, the
        spectrum or the pattern. The cross marks the point to be judged.

        Parameters
        ----------
        i
            Number of the place.

        Returns
        -------
        numpy.ndarray
            The two matplotlib axes.

        Raises
        ------
        ValueError
            If the result was loaded from a file, which does not hold the signal.
        """
        result, cell = self._where(i)
        if result.signal is None:
            raise ValueError(
                "A loaded result does not hold the signal. Set result.signal = s to show places."
            )
        guide = None if result.embedding_map is None else result.embedding_map.guide
        axes = draw_place(result.signal, guide, result.domain, result.domain.location_of(cell))
        axes[0].set_title(f"place {i} of {len(self)}")
        return axes

    @property
    def statistics(self) -> AuditStatistics:
        """Fractions, accuracies and the confusion matrix of the places that are judged."""
        others = [name for name in self.design.strata if name not in self.class_names]
        names = (*self.class_names, *(name for name in others if name != _NONE), _NONE)
        numbers = list(self.judged)
        places = [self.design.places[i] for i in numbers]
        index = {name: k for k, name in enumerate(names)}
        judged = Judged(
            strata=np.array([h for h, _ in places], int),
            classes=np.array([index.get(self.judged[i], -1) for i in numbers], int),
            labels=np.array([index[self._label(i)] for i in numbers], int),
            cell_areas=self._areas(numbers),
            sizes=np.array(self.design.sizes),
            areas=np.array(self.design.areas),
            known=np.array([self.design.known.get(name, 0.0) for name in names]),
        )
        return AuditStatistics.of(judged, names)

    def _label(self, i: int) -> str:
        """Name of the label of a place, as the map is now, or as it was before promotion."""
        if i in self.promoted:
            return self.promoted[i]
        result, cell = self._where(i)
        label = int(result.labels.data[cell])
        return result.class_names[label] if label >= 0 else _NONE

    def _areas(self, numbers: list[int]) -> np.ndarray:
        """Areas of the cells of some places."""
        areas = {id(result): result.domain.grid.cell_areas() for result in self.results}
        found = ((areas[id(result)], cell) for result, cell in map(self._where, numbers))
        return np.array([own[cell[-own.ndim :]] for own, cell in found], float)

    def promote(self, *places: int) -> Any:
        """Make places that were judged examples, and return the updated result.

        They stay in the audit with their judgement and with the label that they had before, since
        the map is right there now because it was told so.

        Parameters
        ----------
        places
            Numbers of places.

        Returns
        -------
        FewShotResult
            With this audit, evaluated on its labels.

        Raises
        ------
        ValueError
            If a place cannot be told, or there are several results.
        """
        if len(self.results) > 1:
            raise ValueError(
                "An audit of several results cannot promote places: update one of them."
            )
        examples: dict[str, list] = {}
        for i in places:
            if self[i] is None:
                raise ValueError(f"Place {i} cannot be told; it is no example.")
            examples.setdefault(self[i], []).append(self.position(i))
        labels = {self._number(i): self._label(i) for i in places}
        result = self.results[0].update(examples)
        result._audit.promoted.update(labels)
        return result

    def on(self, *results: Any) -> "Audit":
        """Return a copy of the audit for newer results of the same data."""
        shapes = tuple(result.labels.data.shape for result in results)
        if shapes != self.design.shapes:
            raise ValueError(
                f"The audit is one of label maps of {self.design.shapes}, not {shapes}."
            )
        return Audit(results, self.design, dict(self.judged), dict(self.promoted))

    def __repr__(self) -> str:
        return f"<Audit, {len(self.judged)} of {len(self)} places judged>"

    def to_json(self) -> str:
        """Describe the audit as JSON, without the results."""
        design = self.design
        return json.dumps(
            {
                "seed": design.seed,
                "shapes": design.shapes,
                "strata": design.strata,
                "sizes": design.sizes,
                "areas": design.areas,
                "known": design.known,
                "reserve": design.reserve,
                "places": design.places,
                "judged": list(self.judged.items()),
                "promoted": list(self.promoted.items()),
            }
        )

    @classmethod
    def from_json(cls, plain: str) -> Self:
        """Build an audit again from :meth:`to_json`; :meth:`on` adds the results.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            return cls._from_plain(json.loads(plain))
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ValueError(f"the audit is damaged: {error}") from error

    @classmethod
    def _from_plain(cls, plain: dict[str, Any]) -> Self:
        names = tuple(plain["strata"])
        design = Design(
            seed=int(plain["seed"]),
            shapes=tuple(tuple(map(int, shape)) for shape in plain["shapes"]),
            strata=names,
            sizes=tuple(map(int, plain["sizes"])),
            areas=tuple(map(float, plain["areas"])),
            known={str(name): float(area) for name, area in plain["known"].items()},
            reserve=tuple(tuple(map(int, own)) for own in plain["reserve"]),
            places=tuple((int(h), int(cell)) for h, cell in plain["places"]),
        )
        _check(design)
        audit = cls((), design, dict(plain["judged"]), dict(plain["promoted"]))
        for i, name in audit.judged.items():
            if audit._number(i) != i or not (name is None or isinstance(name, str)):
                raise ValueError(f"place {i!r} is judged as {name!r}")
        if not all(isinstance(i, int) and name in names for i, name in audit.promoted.items()):
            raise ValueError("a promoted place has no label")
        return audit


def _check(design: Design) -> None:
    """Refuse a design whose parts do not fit together."""
    names, cells = design.strata, sum(int(np.prod(shape, dtype=object)) for shape in design.shapes)
    lengths = {len(names), len(design.sizes), len(design.areas), len(design.reserve)}
    if len(lengths) > 1 or not all(isinstance(name, str) for name in names):
        raise ValueError(f"strata are {names}")
    if min(design.sizes, default=0) < 0 or sum(design.sizes) > cells:
        raise ValueError(f"{design.sizes} cells of {design.shapes}")
    numbers = [*design.areas, *design.known.values()]
    if not all(0 <= number < float("inf") for number in numbers):
        raise ValueError("an area is not a number")
    for size, own in zip(design.sizes, design.reserve, strict=True):
        if len(own) > size or not all(0 <= cell < cells for cell in own):
            raise ValueError("a cell lies outside the label maps")
    held = [set(own) for own in design.reserve]
    if not all(0 <= h < len(names) and cell in held[h] for h, cell in design.places):
        raise ValueError("a place was not drawn")


def _cells(result: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, areas, and the class of the shot that they hold (-1: none), of all cells (n,)."""
    result.compute()
    labels = result.labels.data
    areas = np.broadcast_to(result.domain.grid.cell_areas(), labels.shape).astype(float)
    owners = np.full(labels.shape, -1)
    if not result.transferred:
        for index, cell in result.support.cells(result.domain):
            # Negative examples are known to be of no class.
            owners[cell] = len(result.class_names) if index < 0 else index
    owners[labels == MASKED] = -1
    return labels.astype(int).ravel(), areas.ravel(), owners.ravel()
