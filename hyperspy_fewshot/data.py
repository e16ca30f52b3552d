"""Synthetic specimens with known truth, to try, test and measure the classification on.

Every function returns a :class:`Specimen`: a calibrated HyperSpy signal of Poisson counts, and the
class of each of its positions. Sizes are given in array order, (rows, columns); positions come in
HyperSpy's order, (x, y). Everything random comes from ``seed``, so that a specimen can be made
again. A size or number that will not do is a ``ValueError``.
"""

from dataclasses import dataclass

import numpy as np
from hyperspy.signals import BaseSignal, Signal2D
from numpy.typing import ArrayLike
from scipy import ndimage

from . import _simulate

__all__ = [
    "Specimen",
    "diffraction_scan",
    "eds_spectrum_image",
    "heterostructure",
    "image_stack",
    "polycrystal",
]


@dataclass(frozen=True, eq=False)
class Specimen:
    """A signal whose truth is known.

    Attributes
    ----------
    signal
        What a microscope would have recorded.
    truth
        Class of each position, 0 to K-1 in the order of ``class_names``, or -1 where it is not
        defined, as on the boundary itself. In array order: (rows, columns) of an image or of a
        scan, (frames, rows, columns) of a stack.
    class_names
        Names of the K classes.
    """

    signal: BaseSignal
    truth: np.ndarray
    class_names: tuple[str, ...]

    def support(
        self, shots: int = 5, seed: int = 0, margin: int = 1
    ) -> dict[str, list[tuple[int, ...]]]:
        """Choose support examples that the truth vouches for, apart from each other as a user would click them.

        Parameters
        ----------
        shots
            Examples per class.
        seed
            Of the choice.
        margin
            The square reaching this many pixels to each side of an example lies inside its class
            and inside the image; half a chip keeps whole chips pure.

        Returns
        -------
        support
            Class name to positions in HyperSpy's order, (x, y), for stacks (frame, x, y), ready for
            ``fewshot_classify(support=...)``.

        Raises
        ------
        ValueError
            If a class is too small for that many examples with that margin.
        """
        rng = np.random.default_rng(seed)
        chosen = {}
        for label, name in enumerate(self.class_names):
            candidates = np.argwhere(_inner(self.truth == label, margin))
            if len(candidates) < shots:
                raise ValueError(
                    f"{name!r} has {len(candidates)} positions at least {margin} px from other classes and from the "
                    f"edge, but {shots} shots were asked for; use a smaller margin or fewer shots."
                )
            positions = _spread(candidates, shots, rng)
            chosen[name] = [(*map(int, p[:-2]), int(p[-1]), int(p[-2])) for p in positions]
        return chosen

    def accuracy(self, labels: ArrayLike) -> float:
        """Balanced accuracy of labels against the truth: the mean, over the classes, of the fraction found.

        Parameters
        ----------
        labels
            Integers in the shape of ``truth``: 0 to K-1 in the order of ``class_names``. Negative
            labels (rejected or masked) count as wrong. For an image pass the labels at its pixels,
            not at its chips.

        Returns
        -------
        accuracy
            Between 0 and 1, over the positions whose truth is defined.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        labels = np.asarray(labels)
        if labels.shape != self.truth.shape:
            raise ValueError(
                f"The labels have shape {labels.shape}, the truth {self.truth.shape}; both must be on one grid (for an "
                "image use result.labels_at_pixels().data)."
            )
        present = np.unique(self.truth[self.truth >= 0])
        return float(np.mean([(labels[self.truth == label] == label).mean() for label in present]))


def heterostructure(
    shape: tuple[int, int] = (480, 512),
    *,
    pixel_size: float = 0.02,
    counts: float = 30.0,
    probe: float = 0.11,
    seed: int = 0,
) -> Specimen:
    """Simulate an atomic-resolution HAADF image of SrTiO3 grown on Ge, under an amorphous cap.

    Parameters
    ----------
    shape
        Rows and columns [px], at least 64 each.
    pixel_size
        In nm.
    counts
        Mean detected counts per pixel.
    probe
        Full width at half maximum of an atom column [nm].
    seed
        Of everything random: interfaces, thickness, displaced scan lines, counts.

    Returns
    -------
    specimen
        Signal2D ``(|x, y)`` of uint16; classes "amorphous" (top), "SrTiO3" and "Ge" (bottom). The truth
        is -1 within 0.2 nm of an interface.
    """
    _check(shape, 64, counts=counts, pixel_size=pixel_size, probe=probe)
    rng = np.random.default_rng(seed)
    surface, interface = _simulate.front(shape, 0.27, rng), _simulate.front(shape, 0.63, rng)
    microscope = _simulate.Microscope(pixel_size, counts, probe)
    image, truth = _simulate.layers(shape, surface, interface, microscope, rng)
    signal = _image_signal(image, pixel_size, "Synthetic HAADF of SrTiO3 on Ge")
    return Specimen(signal, truth, ("amorphous", "SrTiO3", "Ge"))


def image_stack(
    frames: int = 5,
    shape: tuple[int, int] = (192, 224),
    *,
    pixel_size: float = 0.02,
    counts: float = 30.0,
    seed: int = 0,
) -> Specimen:
    """Simulate a time series of HAADF images in which the SrTiO3 film of :func:`heterostructure` grows.

    Parameters
    ----------
    frames
        Number of frames, half a second apart, at least 2.
    shape
        Rows and columns of a frame [px], at least 64 each.
    pixel_size
        In nm.
    counts
        Mean detected counts per pixel of a frame.
    seed
        Of everything random.

    Returns
    -------
    specimen
        Signal2D ``(time|x, y)`` of uint16; classes "amorphous", "SrTiO3" and "Ge"; truth (frames, rows,
        columns).
    """
    _check(shape, 64, counts=counts, pixel_size=pixel_size)
    _check_number("frames", frames)
    rng = np.random.default_rng(seed)
    surface, interface = _simulate.front(shape, 0.0, rng), _simulate.front(shape, 0.68, rng)
    microscope = _simulate.Microscope(pixel_size, counts, 0.11)
    frame_surfaces = surface + np.linspace(0.4, 0.2, frames)[:, np.newaxis] * shape[0]
    made = [_simulate.layers(shape, s, interface, microscope, rng) for s in frame_surfaces]
    images, truths = zip(*made, strict=True)
    signal = _image_signal(np.stack(images), pixel_size, "Synthetic time series of growing SrTiO3")
    _calibrate(signal.axes_manager.navigation_axes, 0.5, "s", ("time",))
    return Specimen(signal, np.stack(truths), ("amorphous", "SrTiO3", "Ge"))


def polycrystal(
    shape: tuple[int, int] = (480, 512),
    *,
    grains: int = 3,
    pixel_size: float = 0.02,
    counts: float = 30.0,
    probe: float = 0.11,
    seed: int = 0,
) -> Specimen:
    """Simulate an atomic-resolution HAADF image of a platinum polycrystal along [110], with defects.

    The classes differ in nothing but the order of their atoms. The first grain holds a band of
    stacking faults, where the close-packed planes follow each other as ABAB instead of ABCABC; an
    amorphous pocket lies where the grains meet; one in a hundred atom columns is missing.

    Parameters
    ----------
    shape
        Rows and columns [px], at least 64 each.
    grains
        Number of grains, at least 2; their orientations divide 90 degrees.
    pixel_size
        In nm.
    counts
        Mean detected counts per pixel.
    probe
        Full width at half maximum of an atom column [nm].
    seed
        Of everything random.

    Returns
    -------
    specimen
        Signal2D ``(|x, y)`` of uint16; classes "grain 1" ..., "stacking faults" and "amorphous". The
        truth is -1 within 0.2 nm of a boundary.
    """
    _check(shape, 64, counts=counts, pixel_size=pixel_size, probe=probe)
    _check_number("grains", grains)
    microscope = _simulate.Microscope(pixel_size, counts, probe)
    image, truth = _simulate.grains(shape, grains, microscope, np.random.default_rng(seed))
    signal = _image_signal(image, pixel_size, "Synthetic HAADF of a platinum polycrystal")
    return Specimen(signal, truth, (*_numbered("grain", grains), "stacking faults", "amorphous"))


def eds_spectrum_image(
    shape: tuple[int, int] = (56, 64),
    *,
    counts: float = 40.0,
    pixel_size: float = 2.0,
    spacing: int = 18,
    seed: int = 0,
) -> Specimen:
    """Simulate an EDS spectrum image of FePt and iron oxide nanoparticles on a carbon film.

    The FePt spectrum is the measured one that eXSpy ships
    (``exspy.data.EDS_TEM_FePt_nanoparticles``). The oxide and the carbon film on its copper grid
    are made of the X-ray lines of eXSpy's database over a thin-film continuum. The film is under
    everything and varies slowly in thickness; the particles are spheres.

    Parameters
    ----------
    shape
        Rows and columns of the scan, with room for two particles.
    counts
        Mean counts in a spectrum, over all positions; a particle gives about five times as many as
        the film.
    pixel_size
        Step of the scan [nm].
    spacing
        Distance between particles [positions], at least 8; their radii are 0.32 to 0.46 of it.
    seed
        Of everything random.

    Returns
    -------
    specimen
        EDSTEMSpectrum ``(x, y|Energy)`` of uint16, with elements, lines and microscope set for
        quantification; classes "carbon film", "FePt" and "iron oxide". The truth is -1 on the thin
        rims of the particles.
    """
    import exspy

    _check(shape, 8, counts=counts, pixel_size=pixel_size)
    if spacing < 8 or (shape[0] // spacing) * (shape[1] // spacing) < 2:
        raise ValueError(
            f"No room for two particles {spacing} positions apart (at least 8) in a scan of {shape}."
        )
    rng = np.random.default_rng(seed)
    reference = exspy.data.EDS_TEM_FePt_nanoparticles()
    energy = reference.axes_manager.signal_axes[0]
    spectra = np.stack(
        [
            _simulate.xray_spectrum(
                energy.axis, _simulate.SUPPORT_LINES, exspy.material.elements, continuum=0.6
            ),
            reference.data / reference.data.sum(),
            _simulate.xray_spectrum(
                energy.axis, _simulate.OXIDE_LINES, exspy.material.elements, continuum=0.25
            ),
        ]
    )
    amounts, truth = _simulate.particles_on_film(shape, spacing, rng)
    amounts *= counts / amounts.sum(axis=-1).mean()
    # Row by row: the expected counts of a whole scan would take four times the memory of the scan
    # itself.
    signal = exspy.signals.EDSTEMSpectrum(
        np.stack([rng.poisson(row @ spectra).astype(np.uint16) for row in amounts])
    )
    _calibrate(signal.axes_manager.navigation_axes, pixel_size)
    signal.axes_manager.signal_axes[0].update_from(energy, ("name", "scale", "offset", "units"))
    microscope = reference.metadata.Acquisition_instrument.as_dictionary()
    signal.metadata.add_dictionary({"Acquisition_instrument": microscope})
    signal.metadata.General.title = "Synthetic EDS of nanoparticles on a carbon film"
    signal.set_elements(["C", "Cu", "Fe", "O", "Pt"])
    # Not set_lines, which would add a line for every other element: only these two are to be
    # quantified.
    signal.metadata.Sample.xray_lines = ["Fe_Ka", "Pt_La"]
    return Specimen(signal, truth, ("carbon film", "FePt", "iron oxide"))


def diffraction_scan(
    scan_shape: tuple[int, int] = (20, 24),
    pattern_shape: tuple[int, int] = (44, 48),
    *,
    domains: int = 3,
    counts: float = 400.0,
    seed: int = 0,
) -> Specimen:
    """Simulate a 4D-STEM scan over domains of one crystal in different orientations.

    Parameters
    ----------
    scan_shape
        Rows and columns of the scan, at least 8 each.
    pattern_shape
        Rows and columns of a pattern [px], at least 16 each.
    domains
        Number of domains, at least 2.
    counts
        Mean counts in a pattern.
    seed
        Of everything random: the domains, the strengths of their spots, the wander of the beam,
        counts.

    Returns
    -------
    specimen
        Signal2D ``(x, y|kx, ky)`` of uint16; classes "domain 1" ...; truth over the scan, defined
        everywhere.
    """
    _check(scan_shape, 8, counts=counts)
    _check(pattern_shape, 16)
    _check_number("domains", domains)
    patterns, truth = _simulate.domain_patterns(
        scan_shape, pattern_shape, domains, counts, np.random.default_rng(seed)
    )
    signal = Signal2D(patterns)
    _calibrate(signal.axes_manager.navigation_axes, 1.5)
    _calibrate(signal.axes_manager.signal_axes, 0.25, "1/nm", ("kx", "ky"))
    signal.metadata.General.title = "Synthetic 4D-STEM scan of domains"
    return Specimen(signal, truth, _numbered("domain", domains))


def _image_signal(image: np.ndarray, pixel_size: float, title: str) -> Signal2D:
    """Wrap an image or a stack (..., rows, columns), calibrated in nm."""
    signal = Signal2D(image)
    _calibrate(signal.axes_manager.signal_axes, pixel_size)
    signal.metadata.General.title = title
    signal.metadata.set_item("Acquisition_instrument.TEM.acquisition_mode", "STEM")
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return signal


def _calibrate(
    axes: tuple, scale: float, units: str = "nm", names: tuple[str, ...] = ("x", "y")
) -> None:
    """Set name, scale and units of the axes of a signal made here."""
    for axis, name in zip(axes, names, strict=True):
        axis.name, axis.scale, axis.units = name, scale, units


def _inner(mask: np.ndarray, margin: int) -> np.ndarray:
    """Return where the square of `margin` px to each side, on the last two axes, is all inside the mask."""
    size = (1,) * (mask.ndim - 2) + (2 * margin + 1,) * 2
    return ndimage.minimum_filter(mask, size=size, mode="constant", cval=False)


def _spread(candidates: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `number` of the candidates (n, ndim), each the farthest from those before among a few random ones."""
    left = rng.permutation(candidates)
    chosen, left = [left[0]], left[1:]
    while len(chosen) < number:
        few = rng.choice(len(left), min(12, len(left)), replace=False)
        distance = np.abs(left[few, np.newaxis] - np.stack(chosen)).max(axis=-1).min(axis=1)
        best = few[distance.argmax()]
        chosen.append(left[best])
        left = np.delete(left, best, axis=0)
    return np.stack(chosen)


def _numbered(name: str, number: int) -> tuple[str, ...]:
    """Return "name 1" to "name number"."""
    return tuple(f"{name} {i}" for i in range(1, number + 1))


def _check(shape: tuple[int, int], least: int, **positive: float) -> None:
    """Raise unless `shape` is two whole numbers of at least `least`, and all the others are positive."""
    if np.shape(shape) != (2,) or any(int(size) != size or size < least for size in shape):
        raise ValueError(
            f"A shape is (rows, columns), whole numbers of at least {least}, but {shape} was given."
        )
    for name, value in positive.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, but {value} was given.")


def _check_number(name: str, number: int) -> None:
    """Raise unless there are at least two of something."""
    if int(number) != number or number < 2:
        raise ValueError(f"{name} must be a whole number of at least 2, but {number} was given.")
