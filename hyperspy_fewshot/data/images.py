"""Simulation of atomic-resolution HAADF images: atom columns, layers, grains.

Positions are (row, column) in pixels, images (rows, columns). Atom columns are arrays (n, 3) of
row, column and brightness.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from hyperspy_fewshot.data.drawing import UNDEFINED, Shape, draw_spots, slow_field, wedges

# Projected unit cells: width and height [nm], then the columns as (fraction of the width, fraction
# of the height, brightness). The brightness is Z**1.7 divided by the spacing of the atoms along the
# beam, the usual rule for HAADF.
SRTIO3_001 = (0.3905, 0.3905, ((0.0, 0.0, 1.24), (0.5, 0.5, 0.58)))
GE_110 = (
    0.4001, 0.5658,
    ((0.0, 0.0, 0.91), (0.0, 0.25, 0.91), (0.5, 0.5, 0.91), (0.5, 0.75, 0.91)),
)  # fmt: skip
PT_LATTICE = 0.3924  # lattice parameter [nm], face-centred cubic


@dataclass(frozen=True)
class Microscope:
    """Records images of atom columns that are `probe` [nm] wide (full width at half maximum).

    `counts` is the mean per pixel, `scan_noise` the standard deviation of the displacement of scan
    lines [px].
    """

    pixel_size: float
    counts: float
    probe: float
    scan_noise: float = 0.4

    def record(
        self, atoms: np.ndarray, pedestal: np.ndarray, amorphous: np.ndarray, rng: Generator
    ) -> np.ndarray:
        """Record the counts of an image of atom columns (n, 3) as uint16.

        `pedestal` is the intensity without resolved structure, in brightness of the atoms per
        square nanometre. It is speckled where `amorphous` is True. Both have the shape of the image.
        """
        jitter = [0.004 / self.pixel_size, 0.004 / self.pixel_size, 0.05]
        jitter = rng.normal(0, jitter, (len(atoms), 3))
        # The total intensity of a column does not depend on its width, so its height does.
        sigma = self.probe / 2.355 / self.pixel_size
        height = atoms[:, 2] * (1 + jitter[:, 2]) / (2 * np.pi * (sigma * self.pixel_size) ** 2)
        spots = np.column_stack([atoms[:, :2] + jitter[:, :2], height])
        image = draw_spots(spots, pedestal.shape, sigma)
        grain = 0.07 / self.pixel_size
        noise = ndimage.gaussian_filter(rng.normal(size=pedestal.shape), grain)
        speckle = noise * grain * 2 * np.sqrt(np.pi)
        smooth = ndimage.gaussian_filter(pedestal, 0.1 / self.pixel_size)
        image += smooth * (1 + 0.15 * speckle * amorphous)
        image *= 1 + 0.12 * slow_field(pedestal.shape, rng)
        image = displace_lines(np.maximum(image, 0), self.scan_noise, rng)
        return rng.poisson(image * self.counts / image.mean()).clip(0, 65535).astype(np.uint16)


def layers(
    shape: Shape, surface: np.ndarray, interface: np.ndarray, microscope: Microscope, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate image and truth of an amorphous cap on SrTiO3 on Ge.

    `surface` and `interface` are where the SrTiO3 and the Ge begin: a row for every column.
    """
    rows = np.arange(shape[0])[:, np.newaxis]
    labels = (rows >= surface).astype(np.int64) + (rows >= interface)
    film = lattice(shape, SRTIO3_001, microscope.pixel_size, 0.0)
    substrate = lattice(shape, GE_110, microscope.pixel_size, interface.mean())
    atoms = np.concatenate([within(film, labels, [1]), within(substrate, labels, [2])])
    pedestal = np.array([22.0, 15.0, 15.0])[labels]
    image = microscope.record(atoms, pedestal, labels == 0, rng)
    return image, without_boundaries(labels, microscope.pixel_size)


def grains(
    shape: Shape, number: int, microscope: Microscope, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate image and truth of a platinum polycrystal.

    The classes are the grains, the stacking faults in the first grain, and an amorphous pocket.
    """
    labels, sites = wedges(shape, number, rng)
    faults, pocket = number, number + 1
    rows, columns = np.indices(shape)
    middle = (np.array(shape) - 1) / 2
    # The planes of the first grain run towards the middle, so that it has room on both sides of its
    # faults.
    first = np.arctan2(middle[0] - sites[0, 0], sites[0, 1] - middle[1]) + rng.uniform(-0.15, 0.15)
    angles = first + np.deg2rad(np.arange(number) * 90 / number)
    height = (rows - sites[0, 0]) * np.cos(first) + (columns - sites[0, 1]) * np.sin(first)
    band = (0.0, 0.26 * min(shape))
    labels[(labels == 0) & (height > band[0]) & (height < band[1])] = faults
    labels[np.hypot(rows - middle[0], columns - middle[1]) < 0.18 * min(shape)] = pocket

    atoms = []
    for grain in range(number):
        faulted, wanted = (band, [0, faults]) if grain == 0 else (None, [grain])
        planes = stacked_planes(shape, microscope.pixel_size, angles[grain], sites[grain], faulted)
        atoms.append(within(planes, labels, wanted))
    atoms = np.concatenate(atoms)
    atoms = atoms[rng.random(len(atoms)) > 0.01]
    # The projected area of an atom column is a² / sqrt(8): the pocket is as bright as the crystal
    # is on average.
    pedestal = np.where(labels == pocket, 15 + np.sqrt(8) / PT_LATTICE**2, 15.0)
    image = microscope.record(atoms, pedestal, labels == pocket, rng)
    return image, without_boundaries(labels, microscope.pixel_size)


def lattice(shape: Shape, cell: tuple, pixel_size: float, first_row: float) -> np.ndarray:
    """Return the atom columns (n, 3) of a projected crystal lattice that covers an image.

    A unit cell, such as ``SRTIO3_001``, begins at `first_row` [px].
    """
    width, height = cell[0] / pixel_size, cell[1] / pixel_size
    above, below = ceil(first_row / height), ceil((shape[0] - first_row) / height)
    rows = first_row + height * np.arange(-above - 1, below + 1)
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
    """Return the atom columns (n, 3) of cubic close-packed planes seen edge-on.

    Each plane is shifted by a third of the row spacing against the previous one: always in the same
    direction in cubic stacking, alternately back and forth in a faulted band. `angle` [rad] is that
    of the normal of the planes from the direction of the rows towards the columns, and `band` the
    range of faulted heights [px], measured from `origin`; None: no faults.
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


def within(atoms: np.ndarray, labels: np.ndarray, wanted: list[int]) -> np.ndarray:
    """Select the atom columns whose nearest pixel of the image has one of the wanted labels."""
    nearest = np.rint(atoms[:, :2]).astype(np.int64)
    row, column = np.clip(nearest, 0, np.array(labels.shape) - 1).T
    return atoms[np.isin(labels[row, column], wanted)]


def displace_lines(image: np.ndarray, amount: float, rng: Generator) -> np.ndarray:
    """Shift every scan line as vibrations do, with a standard deviation of `amount` [px].

    The shifts of adjacent lines are correlated.
    """
    shift = ndimage.gaussian_filter1d(rng.normal(size=len(image)), 1.0)
    shift *= amount / shift.std()
    at = np.arange(image.shape[1])
    return np.stack([np.interp(at + s, at, line) for s, line in zip(shift, image, strict=True)])


def front(shape: Shape, level: float, rng: Generator) -> np.ndarray:
    """Return the row of a wavy and tilted front in each column, about `level` (fraction of the rows)."""
    columns = np.linspace(-0.5, 0.5, shape[1])
    wave = np.sin(2 * np.pi * (rng.uniform(1, 2) * columns + rng.uniform()))
    return shape[0] * (level + 0.03 * rng.uniform(-1, 1) * columns + 0.012 * wave)


def without_boundaries(labels: np.ndarray, pixel_size: float) -> np.ndarray:
    """Set the labels (rows, columns) to -1 within 0.2 nm, half a unit cell, of a boundary."""
    size = 2 * ceil(0.2 / pixel_size) + 1
    same = ndimage.minimum_filter(labels, size) == ndimage.maximum_filter(labels, size)
    return np.where(same, labels, UNDEFINED)
