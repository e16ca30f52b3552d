"""Drawing of synthetic specimens as plain arrays: atoms, images, particles, spectra, diffraction patterns.

Positions are (row, column) in pixels, images (rows, columns). :mod:`hyperspy_fewshot.data` makes
signals of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.random import Generator
from scipy import ndimage

Shape = tuple[int, int]

UNDEFINED = -1  # truth of positions that belong to no one class

# Projected unit cells: width and height [nm], then the columns as (fraction of the width, fraction
# of the height, brightness). Brightness goes as Z**1.7 over the atom spacing along the beam, the
# usual rule for HAADF.
SRTIO3_001 = (0.3905, 0.3905, ((0.0, 0.0, 1.24), (0.5, 0.5, 0.58)))
GE_110 = (
    0.4001,
    0.5658,
    ((0.0, 0.0, 0.91), (0.0, 0.25, 0.91), (0.5, 0.5, 0.91), (0.5, 0.75, 0.91)),
)
PT_LATTICE = 0.3924  # lattice parameter [nm], face-centred cubic

# Relative strengths of X-ray line families.
SUPPORT_LINES = {"C_K": 1.0, "O_K": 0.04, "Cu_L": 0.08, "Cu_K": 0.25}
OXIDE_LINES = {"O_K": 0.35, "Fe_L": 0.3, "Fe_K": 1.0}


@dataclass(frozen=True)
class Microscope:
    """What turns atom columns into an image: pixel size [nm], mean counts, width of a column [nm], scan noise [px]."""

    pixel_size: float
    counts: float
    probe: float
    scan_noise: float = 0.4

    def record(
        self, atoms: np.ndarray, pedestal: np.ndarray, amorphous: np.ndarray, rng: Generator
    ) -> np.ndarray:
        """Return uint16 counts (rows, columns) of atom columns (n, 3) over what lies between them.

        `pedestal` is what has no resolved structure, per square nanometre as the brightness of the
        atoms is; it is speckled where the mask `amorphous` is True.
        """
        jitter = rng.normal(
            0, [0.004 / self.pixel_size, 0.004 / self.pixel_size, 0.05], (len(atoms), 3)
        )
        # A column scatters the same in all, however wide it appears, so its height follows from its
        # width.
        sigma = self.probe / 2.355 / self.pixel_size
        height = atoms[:, 2] * (1 + jitter[:, 2]) / (2 * np.pi * (sigma * self.pixel_size) ** 2)
        image = draw(np.column_stack([atoms[:, :2] + jitter[:, :2], height]), pedestal.shape, sigma)
        grain = 0.07 / self.pixel_size
        speckle = (
            ndimage.gaussian_filter(rng.normal(size=pedestal.shape), grain)
            * grain
            * 2
            * np.sqrt(np.pi)
        )
        image += ndimage.gaussian_filter(pedestal, 0.1 / self.pixel_size) * (
            1 + 0.15 * speckle * amorphous
        )
        image *= 1 + 0.12 * slow_field(pedestal.shape, rng)
        image = displace_lines(np.maximum(image, 0), self.scan_noise, rng)
        return rng.poisson(image * self.counts / image.mean()).clip(0, 65535).astype(np.uint16)


def layers(
    shape: Shape, surface: np.ndarray, interface: np.ndarray, microscope: Microscope, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and truth of an amorphous cap, SrTiO3 and Ge, parted by two fronts (one row number a column)."""
    rows = np.arange(shape[0])[:, np.newaxis]
    regions = (rows >= surface).astype(np.int64) + (rows >= interface)
    film = lattice(shape, SRTIO3_001, microscope.pixel_size, 0.0)
    substrate = lattice(shape, GE_110, microscope.pixel_size, interface.mean())
    atoms = np.concatenate([within(film, regions, [1]), within(substrate, regions, [2])])
    pedestal = np.array([22.0, 15.0, 15.0])[regions]
    image = microscope.record(atoms, pedestal, regions == 0, rng)
    return image, without_boundaries(regions, microscope.pixel_size)


def grains(
    shape: Shape, number: int, microscope: Microscope, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and truth of a platinum polycrystal: grains, then stacking faults, then an amorphous pocket."""
    regions, sites = wedges(shape, number, rng)
    faults, pocket = number, number + 1
    rows, columns = np.indices(shape)
    middle = (np.array(shape) - 1) / 2
    # The planes of the first grain run towards the middle, so that it has room on both sides of its
    # faults.
    first = np.arctan2(middle[0] - sites[0, 0], sites[0, 1] - middle[1]) + rng.uniform(-0.15, 0.15)
    angles = first + np.deg2rad(np.arange(number) * 90 / number)
    height = (rows - sites[0, 0]) * np.cos(first) + (columns - sites[0, 1]) * np.sin(first)
    band = (0.0, 0.26 * min(shape))
    regions[(regions == 0) & (height > band[0]) & (height < band[1])] = faults
    regions[np.hypot(rows - middle[0], columns - middle[1]) < 0.18 * min(shape)] = pocket

    atoms = []
    for grain in range(number):
        planes = stacked_planes(
            shape, microscope.pixel_size, angles[grain], sites[grain], band if grain == 0 else None
        )
        atoms.append(within(planes, regions, [0, faults] if grain == 0 else [grain]))
    atoms = np.concatenate(atoms)
    atoms = atoms[rng.random(len(atoms)) > 0.01]
    # One atom column takes a**2 / sqrt(8) of the plane: the pocket is as bright as the crystal is
    # on average.
    pedestal = np.where(regions == pocket, 15 + np.sqrt(8) / PT_LATTICE**2, 15.0)
    image = microscope.record(atoms, pedestal, regions == pocket, rng)
    return image, without_boundaries(regions, microscope.pixel_size)


def particles_on_film(shape: Shape, spacing: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the amounts (rows, columns, 3) of film and two kinds of spheres, and the truth (rows, columns)."""
    amounts = np.zeros((*shape, 3))
    amounts[..., 0] = 1 + 0.2 * slow_field(shape, rng)
    places = np.stack(np.indices((shape[0] // spacing, shape[1] // spacing)), axis=-1).reshape(
        -1, 2
    )
    kinds = rng.permutation(np.arange(len(places)) % 2) + 1
    rows, columns = np.indices(shape)
    for place, kind in zip(places, kinds, strict=True):
        radius = spacing * rng.uniform(0.32, 0.46)
        room = spacing / 2 - radius
        centre = (place + 0.5) * spacing - 0.5 + rng.uniform(-room, room, 2)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        amounts[..., kind] += 7 / spacing * np.sqrt(np.maximum(radius**2 - distance**2, 0)) * 2
    thickness = amounts[..., 1:].max(axis=-1)
    kind = amounts[..., 1:].argmax(axis=-1) + 1
    return amounts, np.select([thickness == 0, thickness > 2], [0, kind], UNDEFINED)


def domain_patterns(
    scan_shape: Shape, pattern_shape: Shape, number: int, counts: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return uint16 patterns (scan rows, scan columns, rows, columns) of turned domains, and their truth."""
    truth, _ = wedges(scan_shape, number, rng)
    angles = np.deg2rad(rng.uniform(0, 90) + np.arange(number) * 90 / number)
    spots = [diffraction_spots(pattern_shape, angle, rng) for angle in angles]
    # The beam wanders over the detector during a scan, which no classification may mistake for a
    # domain.
    wander = 0.5 * np.stack([slow_field(scan_shape, rng), slow_field(scan_shape, rng)], axis=-1)
    patterns = np.empty((*scan_shape, *pattern_shape))
    for position in np.ndindex(*scan_shape):
        wandered = spots[truth[position]] + [*wander[position], 0.0]
        patterns[position] = draw(wandered, pattern_shape, 0.025 * min(pattern_shape)) + 0.002
    patterns *= counts / patterns.sum(axis=(-2, -1)).mean()
    return rng.poisson(patterns).astype(np.uint16), truth


def diffraction_spots(shape: Shape, angle: float, rng: Generator) -> np.ndarray:
    """Return the spots (n, 3) of a diffraction pattern: direct beam and a rectangular net turned by `angle` [rad]."""
    h, k = (
        index.ravel() for index in np.meshgrid(np.arange(-5, 6), np.arange(-5, 6), indexing="ij")
    )
    along, across = 0.17 * min(shape) * h, 0.23 * min(shape) * k
    rows = (shape[0] - 1) / 2 + along * np.sin(angle) + across * np.cos(angle)
    columns = (shape[1] - 1) / 2 + along * np.cos(angle) - across * np.sin(angle)
    strength = np.exp(-(h**2 + k**2) / 6) * rng.uniform(0.2, 0.5, len(h))
    strength[(h == 0) & (k == 0)] = 2.0
    return np.column_stack([rows, columns, strength])


def xray_spectrum(
    energy: np.ndarray, families: Mapping[str, float], elements: Mapping, continuum: float
) -> np.ndarray:
    """Return a thin-film X-ray spectrum over `energy` [keV] that sums to one.

    `families` gives the strengths of line families ("Fe_K"), whose lines are looked up in
    `elements` (eXSpy's database); `continuum` is the area of the continuum relative to all lines.
    The widths follow Fiori and Newbury (SEM/1978/I, p. 401) for 133 eV at Mn Ka, the continuum
    Kramers at 200 keV behind a detector window.
    """
    spectrum = np.zeros_like(energy)
    for name, strength in families.items():
        element, family = name.split("_")
        for line, known in (
            elements[element]["Atomic_properties"]["Xray_lines"].as_dictionary().items()
        ):
            if line.startswith(family):
                centre = known["energy (keV)"]
                sigma = np.sqrt(0.133**2 + 2.5e-3 * (centre - 5.899)) / 2.355
                profile = np.exp(-((energy - centre) ** 2) / (2 * sigma**2)) / sigma
                spectrum += strength * known["weight"] * profile
    background = (200 / energy - 1) * np.exp(-((0.4 / energy) ** 2))
    spectrum = spectrum / spectrum.sum() + continuum * background / background.sum()
    return spectrum / spectrum.sum()


def lattice(shape: Shape, cell: tuple, pixel_size: float, first_row: float) -> np.ndarray:
    """Return the atom columns (n, 3) of a projected unit cell over an image: row, column [px] and brightness."""
    width, height = cell[0] / pixel_size, cell[1] / pixel_size
    rows = first_row + height * np.arange(
        -ceil(first_row / height) - 1, ceil((shape[0] - first_row) / height) + 1
    )
    columns = width * np.arange(-1, ceil(shape[1] / width) + 1)
    corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    atoms = []
    for along_width, along_height, brightness in cell[2]:
        positions = corners + [along_height * height, along_width * width]
        atoms.append(np.column_stack([positions, np.full(len(positions), brightness)]))
    return np.concatenate(atoms)


def stacked_planes(
    shape: Shape,
    pixel_size: float,
    angle: float,
    origin: np.ndarray,
    band: tuple[float, float] | None,
) -> np.ndarray:
    """Return the columns (n, 3) of cubic close-packed planes seen edge-on, faulted at heights in `band` [px].

    Each plane is shifted by a third of the row spacing against the one before: always to the same
    side in the cubic stacking, to and fro in the band. Heights are measured from `origin`; `angle`
    [rad] turns the planes' normal from the rows' towards the columns' axis.
    """
    plane = PT_LATTICE / np.sqrt(3) / pixel_size
    row = PT_LATTICE * np.sqrt(6) / 4 / pixel_size
    number = ceil(np.hypot(*shape) / plane)
    height = plane * np.arange(-number, number + 1)
    step = np.ones(len(height), dtype=np.int64)
    if band is not None:
        step[(height > band[0]) & (height < band[1]) & (np.arange(len(height)) % 2 == 1)] = -1
    across = row * (np.arange(-number, number + 1) + (np.cumsum(step) % 3 / 3)[:, np.newaxis])
    height = np.broadcast_to(height[:, np.newaxis], across.shape)
    rows = origin[0] + height * np.cos(angle) - across * np.sin(angle)
    columns = origin[1] + height * np.sin(angle) + across * np.cos(angle)
    return np.column_stack([rows.ravel(), columns.ravel(), np.ones(across.size)])


def within(atoms: np.ndarray, regions: np.ndarray, labels: list[int]) -> np.ndarray:
    """Keep the atoms (n, 3) whose nearest pixel, that of the edge for those outside, has one of the labels."""
    nearest = np.rint(atoms[:, :2]).astype(np.int64)
    row, column = np.clip(nearest, 0, np.array(regions.shape) - 1).T
    return atoms[np.isin(regions[row, column], labels)]


def draw(spots: np.ndarray, shape: Shape, sigma: float) -> np.ndarray:
    """Draw Gaussians (n, 3), row, column [px] and height, exactly where they are, on an empty image of `shape`."""
    reach = ceil(4 * sigma)
    seen = ((spots[:, :2] > -reach) & (spots[:, :2] < np.array(shape) - 1 + reach)).all(axis=1)
    offsets = np.arange(-reach, reach + 1)
    padded = np.zeros((shape[0] + 4 * reach, shape[1] + 4 * reach))
    # Blocks bound the memory: each spot spreads over (2 * reach + 1) ** 2 pixels.
    for block in np.array_split(spots[seen], len(spots) // 4096 + 1):
        nearest = np.rint(block[:, :2]).astype(np.int64)
        distance = (nearest - block[:, :2])[:, :, np.newaxis] + offsets
        along, across = np.exp(-(distance**2) / (2 * sigma**2)).transpose(1, 0, 2)
        values = (
            block[:, 2, np.newaxis, np.newaxis] * along[:, :, np.newaxis] * across[:, np.newaxis, :]
        )
        row, column = (nearest[:, :, np.newaxis] + offsets + 2 * reach).transpose(1, 0, 2)
        flat = row[:, :, np.newaxis] * padded.shape[1] + column[:, np.newaxis, :]
        padded += np.bincount(flat.ravel(), values.ravel(), padded.size).reshape(padded.shape)
    return padded[2 * reach : 2 * reach + shape[0], 2 * reach : 2 * reach + shape[1]]


def displace_lines(image: np.ndarray, amount: float, rng: Generator) -> np.ndarray:
    """Shift every scan line of (rows, columns) by about `amount` px, neighbours alike, as vibration does."""
    shift = ndimage.gaussian_filter1d(rng.normal(size=len(image)), 1.0)
    shift *= amount / shift.std()
    at = np.arange(image.shape[1])
    return np.stack(
        [
            np.interp(at + line_shift, at, line)
            for line_shift, line in zip(shift, image, strict=True)
        ]
    )


def front(shape: Shape, level: float, rng: Generator) -> np.ndarray:
    """Return a wavy and tilted front: its row in each column, around `level` (fraction of the rows)."""
    columns = np.linspace(-0.5, 0.5, shape[1])
    wave = np.sin(2 * np.pi * (rng.uniform(1, 2) * columns + rng.uniform()))
    return shape[0] * (level + 0.03 * rng.uniform(-1, 1) * columns + 0.012 * wave)


def slow_field(shape: Shape, rng: Generator) -> np.ndarray:
    """Return a smooth random field (rows, columns) between -1 and 1 with mean 0."""
    zoom = np.array(shape) / 4
    field = ndimage.zoom(rng.normal(size=(4, 4)), zoom, order=3, mode="reflect", grid_mode=True)
    field -= field.mean()
    return field / np.abs(field).max()


def wedges(shape: Shape, number: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Divide (rows, columns) into wedges that meet near the middle; return the regions and their sites (number, 2)."""
    turn = (
        (np.arange(number) + rng.uniform(-0.12, 0.12, number) + rng.uniform()) / number * 2 * np.pi
    )
    middle = (np.array(shape) - 1) / 2
    sites = middle + 0.56 * middle * np.column_stack([np.sin(turn), np.cos(turn)])
    rows, columns = np.indices(shape)
    distance = [np.hypot(rows - row, columns - column) for row, column in sites]
    return np.argmin(distance, axis=0), sites


def without_boundaries(regions: np.ndarray, pixel_size: float) -> np.ndarray:
    """Return the regions (rows, columns), but -1 within 0.2 nm, half a unit cell, of a boundary."""
    size = 2 * ceil(0.2 / pixel_size) + 1
    same = ndimage.minimum_filter(regions, size) == ndimage.maximum_filter(regions, size)
    return np.where(same, regions, UNDEFINED)
