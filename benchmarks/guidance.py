"""How well audits, the search for wrong examples, suggestions and detections work, as a Markdown table.

    python benchmarks/guidance.py [--data ../shared/data] [--out docs/guidance_table.md]
        [--only audits wrong suggestions detections] [--draws 2] [--small]

``audits``: maps of two to four classes, 80 to 95 % right, are audited at n places; how often the 95 %
intervals of the fractions hold the truth, and the median half-width for the first class, which covers
35 to 65 %.

``wrong``: of five clicked examples a class one is replaced by an example of another class. How often it
is named in the cases in which it lowers the balanced accuracy by 2 points, and how often any example
of a support without a wrong one is. Synthetic and public cases, both contexts.

``suggestions``: two random examples a class, then five that ``result.suggest(5)`` asks for, or ten random
ones, all with their true class. Balanced accuracy of all other queries of the public tasks.

``detections``: lattices with point defects and EDS maps with particles, five examples a class. Number that
is found over the true number (median), precision, recall and how often the interval holds.
"""

import argparse
import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cases
import hyperspy.api as hs
import numpy as np
from cases import Case, Scene
from scipy import ndimage

from hyperspy_fewshot.data.specimen import Specimen
from hyperspy_fewshot.statistics.audit import Judged, places_of_strata

Line = list[str]
_COST = 0.02
_KINDS = ("vacancy", "substitution", "interstitial", "split")


def simulated_audit(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Audit a random map: estimates, lower and upper ends, and truth of all classes, each (k,)."""
    k, size = rng.integers(2, 5), rng.integers(900, 16_000)
    share = rng.uniform(0.35, 0.65)
    truth = rng.choice(k, size, p=[share, *((1 - share) * rng.dirichlet(np.full(k - 1, 3.0)))])
    right = np.clip(rng.uniform(0.8, 0.95) + rng.normal(0, 0.04, k), 0.6, 0.995)
    chances = [
        np.insert(rng.dirichlet(np.ones(k - 1)) * (1 - r), t, r) for t, r in enumerate(right)
    ]
    labels = (rng.random((size, 1)) > np.cumsum(chances, axis=1)[truth]).sum(axis=1).clip(0, k - 1)
    labels[rng.random(size) < rng.uniform(0, 0.05)] = k
    sizes = np.bincount(labels, minlength=k + 1)
    places = places_of_strata(sizes, n, np.zeros(k + 1, int))
    drawn = np.concatenate(
        [rng.choice(np.flatnonzero(labels == h), m, replace=False) for h, m in enumerate(places)]
    )
    judged = Judged(
        labels[drawn], truth[drawn], labels[drawn], np.ones(len(drawn)), sizes, sizes.astype(float),
        np.zeros(k + 1),
    )  # fmt: skip
    fractions = np.bincount(truth, minlength=k + 1) / size
    return tuple(values[:k] for values in (*judged.fractions(), fractions))


def audits(options: argparse.Namespace) -> Iterator[Line]:
    """Yield what simulated audits give."""
    for n in (50, 200):
        rng = np.random.default_rng(n)
        found = [simulated_audit(rng, n) for _ in range(20 if options.small else 2000)]
        hold = np.concatenate(
            [(low <= true) & (true <= high) for _, low, high, true in found]
        ).mean()
        width = np.median([(high - low)[0] / 2 for _, low, high, _ in found])
        yield ["audit", f"{n} places, {len(found)} maps", "coverage", f"{hold:.3f}"]
        yield [
            "audit",
            f"{n} places, {len(found)} maps",
            "half-width [points]",
            f"{100 * width:.1f}",
        ]


def _scenes(options: argparse.Namespace, synthetic: bool) -> Iterator[Scene]:
    sources = [cases.labelled(options.data)]
    if synthetic:
        sources.append(cases.synthetic(options.small))
    for case in itertools.chain(*sources):
        if case.data == "real" or options.small or case.half:
            yield Scene.of(case)


def _balanced(scene: Scene, labels: np.ndarray) -> float:
    """Balanced accuracy of all queries of known class."""
    truth, labels = scene.truth[scene.known], labels[scene.known]
    return float(np.mean([(labels[truth == k] == k).mean() for k in np.unique(truth)]))


def wrong(options: argparse.Namespace) -> Iterator[Line]:
    """Yield how often a wrong example is named."""
    alarms, found = [], []
    for scene, seed in itertools.product(_scenes(options, True), range(options.draws)):
        support, rng = scene.draw(5, seed, True), np.random.default_rng(seed)
        if len(support) < 2 or min(map(len, support.values())) < 5:
            continue
        others = scene.draw(5, seed + 1000, True)
        clean = scene.classify(support, False)
        alarms.append(bool(clean.examples.contradicted))
        accuracy = _balanced(scene, clean.labels.data)
        for name in support:
            other = rng.choice([n for n in support if n != name])
            spoilt = {n: list(examples) for n, examples in support.items()}
            spoilt[name][2] = others[other][0]
            result = scene.classify(spoilt, False)
            if accuracy - _balanced(scene, result.labels.data) >= _COST:
                rows = result.examples.contradicted
                found.append(any((r["class"], r["example"]) == (name, 2) for r in rows))
    yield ["wrong example", f"{len(found)} that cost 2 points", "named", f"{np.mean(found):.3f}"]
    yield [
        "wrong example",
        f"{len(alarms)} supports without one",
        "alarms",
        f"{np.mean(alarms):.3f}",
    ]


def suggestions(options: argparse.Namespace) -> Iterator[Line]:
    """Yield the balanced accuracy with suggested and with random examples, by task."""
    means = []
    for scene in _scenes(options, False):
        if scene.kind.endswith("context 1") or len(scene.names) < 2:
            continue
        found = [_helped(scene, seed) for seed in range(4 * options.draws)]
        means.append(np.mean(found, axis=0))
        yield [f"suggestions, {scene.case.name.removeprefix('R_')}", *_three(means[-1])]
    if means:
        yield ["suggestions, mean", *_three(np.mean(means, axis=0))]


def _three(values: np.ndarray) -> Line:
    two, five, ten = values
    return [f"2 a class: {two:.3f}", "5 suggested / 10 random", f"{five:.3f} / {ten:.3f}"]


def _helped(scene: Scene, seed: int) -> tuple[float, float, float]:
    """Balanced accuracy with two random examples a class, five suggested ones, and ten random ones."""
    first = scene.draw(2, seed, False)
    result = scene.classify(first, False)
    grid = scene.embedding_map.recipe.grid
    places = np.argwhere(scene.known)
    drawn = np.random.default_rng(seed).permutation(places)[:10]
    rows, columns = (grid.locations(axis) for axis in range(2))
    random = [(int(columns[c]), int(rows[r])) for r, c in drawn]
    figures = [_balanced(scene, result.labels.data)]
    for added in (result.suggest(5), random):
        support = {name: list(examples) for name, examples in first.items()}
        for x, y in added:
            label = scene.truth[grid.cell_at((y, x))]
            if label >= 0:
                support[scene.names[label]].append((x, y))
        figures.append(_balanced(scene, scene.classify(support, False).labels.data))
    return tuple(figures)


def lattice(kind: str, share: float, seed: int, side: int = 768, period: int = 10) -> tuple:
    """Simulate a square lattice with point defects of a kind; the image, and their places (row, column)."""
    rng = np.random.default_rng(seed)
    n = side // period
    # A cut through the lattice would look like a row of vacancies.
    side = n * period
    atoms = (np.mgrid[:n, :n].reshape(2, -1).T + 0.5) * period
    heights, chosen = np.ones(len(atoms)), []
    inner = np.flatnonzero((atoms.min(1) > 3 * period) & (atoms.max(1) < side - 3 * period))
    wanted = max(6, int(share * side**2 / (1.5 * period) ** 2))
    for i in rng.permutation(inner):
        if all(abs(atoms[i] - atoms[j]).max() > 2.5 * period for j in chosen):
            chosen.append(i)
        if len(chosen) == wanted:
            break
    places = atoms[chosen].copy()
    if kind == "vacancy":
        heights[chosen] = 0
    elif kind == "substitution":
        heights[chosen] = 1.8
    elif kind == "interstitial":
        places += period / 2
        atoms, heights = np.vstack([atoms, places]), np.append(heights, np.full(len(places), 0.9))
    else:
        heights[chosen] = 0.6
        atoms[chosen] -= (0, 0.3 * period)
        atoms = np.vstack([atoms, places + (0, 0.3 * period)])
        heights = np.append(heights, np.full(len(places), 0.6))
    image = np.zeros((side, side))
    np.add.at(image, tuple(np.round(atoms).astype(int).clip(0, side - 1).T), heights)
    image = 25 * ndimage.gaussian_filter(image, 2.0) + rng.normal(0, 0.15, image.shape)
    image += 4 * ndimage.gaussian_filter(rng.normal(size=image.shape), 40)
    return image.astype(np.float32), places


def _matches(found: np.ndarray, places: np.ndarray, reach: float) -> int:
    """Number of pairs of a detection and a true place, one each, at most `reach` apart."""
    distances = np.linalg.norm(found[:, np.newaxis] - places, axis=-1)
    count = 0
    while distances.size and distances.min() <= reach:
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        distances = np.delete(np.delete(distances, i, 0), j, 1)
        count += 1
    return count


def _judged(detections, places: np.ndarray, reach: float) -> tuple[float, ...]:
    """Number over the truth, precision, recall, and whether the interval holds."""
    found = np.array([[row[name] for name in detections.axes[::-1]] for row in detections.rows])
    found = found.reshape(-1, 2)
    right, (count, low, high) = _matches(found, places, reach), detections.count
    return (
        count / len(places),
        right / max(1, len(found)),
        right / len(places),
        low <= len(places) <= high,
    )


def _of_lattices(share: float, options: argparse.Namespace) -> Iterator[tuple]:
    for kind, seed in itertools.product(_KINDS, range(options.draws)):
        image, places = lattice(kind, share, seed, 256 if options.small else 768)
        rng, perfect = np.random.default_rng(seed), []
        while len(perfect) < 5:
            place = rng.integers(40, len(image) - 40, 2)
            if abs(places - place).max(axis=1).min() > 24:
                perfect.append((int(place[1]), int(place[0])))
        defects = [(round(x), round(y)) for y, x in rng.permutation(places)[:5]]
        found = hs.signals.Signal2D(image).fewshot_classify(
            {"perfect": perfect, "defect": defects}, chip_size=24, stride=4, show_progressbar=False
        )
        yield kind, _judged(found.detections("defect"), places, 14)


def _of_maps(share: float, options: argparse.Namespace) -> Iterator[tuple]:
    shape = (180, 200) if share < 0.005 else (90, 100)
    chosen = [(0.5, 2.0, 3.5), (False, True), (40, 15), range(options.draws)]
    choices = itertools.product(*(values[:1] if options.small else values for values in chosen))
    for number, (radius, second, counts, _) in enumerate(choices):
        make: Callable[[], Specimen] = partial(
            cases.rare_map, share, radius, second, counts, shape, number
        )
        scene = Scene.of(Case("", "rare", make, {}, {}))
        name, here = scene.names[-1], scene.truth == len(scene.names) - 1
        regions, n = ndimage.label(here, np.ones((3, 3)))
        places = np.array(ndimage.center_of_mass(here, regions, range(1, n + 1)))
        found = scene.classify(scene.draw(5, number, True), True).detections(name)
        yield f"{counts} counts", _judged(found, places, max(2, radius + 1))


def detections(options: argparse.Namespace) -> Iterator[Line]:
    """Yield how well instances are found."""
    for what, source in (("lattice", _of_lattices), ("EDS map", _of_maps)):
        for share in (0.01,) if options.small else (0.01, 0.005, 0.001):
            records = list(source(share, options))
            for group in (*dict.fromkeys(name for name, _ in records), "all"):
                own = np.array([v for name, v in records if group in (name, "all")], float)
                figures = (np.median(own[:, 0]), *own[:, 1:].mean(axis=0))
                shown = "; ".join(f"{value:.2f}" for value in figures)
                yield [
                    f"detections, {what}, {100 * share:g} %", group,
                    "number / truth; precision; recall; coverage", shown,
                ]  # fmt: skip


PARTS = {f.__name__: f for f in (audits, wrong, suggestions, detections)}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="few tiny cases, to see that it runs")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    options = parser.parse_args()
    # HyperSpy says on standard output that numba is not installed.
    logging.getLogger("hyperspy.decorators").setLevel(logging.ERROR)
    lines = ["| what | cases | measured | value |", "|---|---|---|---|"]
    for name in options.only:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for cells in PARTS[name](options):
                lines.append(f"| {' | '.join(cells)} |")
                print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
