"""The synthetic specimens: functions that simulate them as calibrated HyperSpy signals."""

import numpy as np
from hyperspy.signals import Signal2D

from hyperspy_fewshot.data import images, scans
from hyperspy_fewshot.data.specimen import Specimen


def heterostructure(
    shape: tuple[int, int] = (480, 512),
    *,
    pixel_size: float = 0.02,
    counts: float = 30.0,
    probe: float = 0.11,
    seed: int = 0,
) -> Specimen:
    """Simulate an atomic-resolution HAADF image of SrTiO3 grown on Ge, under an amorphous cap.

    The signal is a Signal2D ``(|x, y)``; the classes are "amorphous" (top), "SrTiO3" and "Ge"
    (bottom). The truth is -1 within 0.2 nm of an interface.

    Parameters
    ----------
    shape
        Rows and columns [px], at least 64 each.
    pixel_size, probe
        Size of a pixel, and full width at half maximum of an atom column [nm].
    counts
        Mean detected counts per pixel.
    seed
        Seed of everything random: interfaces, thickness, displaced scan lines, counts.
    """
    _check(shape, 64, counts=counts, pixel_size=pixel_size, probe=probe)
    rng = np.random.default_rng(seed)
    surface, interface = images.front(shape, 0.27, rng), images.front(shape, 0.63, rng)
    microscope = images.Microscope(pixel_size, counts, probe)
    image, truth = images.layers(shape, surface, interface, microscope, rng)
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

    The signal is a Signal2D ``(time|x, y)``; the classes are "amorphous", "SrTiO3" and "Ge".

    Parameters
    ----------
    frames
        Number of frames, half a second apart, at least 2.
    shape
        Rows and columns of a frame [px], at least 64 each.
    pixel_size
        Pixel size [nm].
    counts
        Mean detected counts per pixel of a frame.
    seed
        Seed of everything random.
    """
    _check(shape, 64, frames=frames, counts=counts, pixel_size=pixel_size)
    rng = np.random.default_rng(seed)
    surface, interface = images.front(shape, 0.0, rng), images.front(shape, 0.68, rng)
    microscope = images.Microscope(pixel_size, counts, 0.11)
    frame_surfaces = surface + np.linspace(0.4, 0.2, frames)[:, np.newaxis] * shape[0]
    made = [images.layers(shape, s, interface, microscope, rng) for s in frame_surfaces]
    frame_images, truths = zip(*made, strict=True)
    title = "Synthetic time series of growing SrTiO3"
    signal = _image_signal(np.stack(frame_images), pixel_size, title)
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

    The classes differ only in the arrangement of their atoms. The first grain contains a band of
    stacking faults, in which the close-packed planes are stacked as ABAB instead of ABCABC. An
    amorphous pocket lies where the grains meet. One in a hundred atom columns is missing.

    The signal is a Signal2D ``(|x, y)``; the classes are "grain 1" ..., "stacking faults" and
    "amorphous". The truth is -1 within 0.2 nm of a boundary.

    Parameters
    ----------
    shape
        Rows and columns [px], at least 64 each.
    grains
        Number of grains, at least 2. Their orientations divide 90 degrees equally.
    pixel_size, probe
        Size of a pixel, and full width at half maximum of an atom column [nm].
    counts
        Mean detected counts per pixel.
    seed
        Seed of everything random.
    """
    _check(shape, 64, grains=grains, counts=counts, pixel_size=pixel_size, probe=probe)
    microscope = images.Microscope(pixel_size, counts, probe)
    image, truth = images.grains(shape, grains, microscope, np.random.default_rng(seed))
    signal = _image_signal(image, pixel_size, "Synthetic HAADF of a platinum polycrystal")
    names = (f"grain {i + 1}" for i in range(grains))
    return Specimen(signal, truth, (*names, "stacking faults", "amorphous"))


def eds_spectrum_image(
    shape: tuple[int, int] = (56, 64),
    *,
    counts: float = 40.0,
    pixel_size: float = 2.0,
    spacing: int = 18,
    seed: int = 0,
) -> Specimen:
    """Simulate an EDS spectrum image of FePt and iron oxide nanoparticles on a carbon film.

    The FePt spectrum is a measured one that comes with eXSpy
    (``exspy.data.EDS_TEM_FePt_nanoparticles``). Those of the oxide and of the carbon film on its
    copper grid are X-ray lines of eXSpy's database on a thin-film continuum. The particles are
    spheres on a film whose thickness varies slowly.

    The signal is an EDSTEMSpectrum ``(x, y|Energy)`` with elements, lines and microscope set for
    quantification; the classes are "carbon film", "FePt" and "iron oxide". The truth is -1 on the
    thin rims of the particles.

    Parameters
    ----------
    shape
        Rows and columns of the scan, large enough for two particles.
    counts
        Mean counts per spectrum. A particle gives about five times as many as the film.
    pixel_size
        Step of the scan [nm].
    spacing
        Distance between particles [positions], at least 8; their radii are 0.32 to 0.46 of it.
    seed
        Seed of everything random.
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
    elements = exspy.material.elements
    film = scans.xray_spectrum(energy.axis, scans.SUPPORT_LINES, elements, continuum=0.6)
    oxide = scans.xray_spectrum(energy.axis, scans.OXIDE_LINES, elements, continuum=0.25)
    components = np.stack([film, reference.data / reference.data.sum(), oxide])
    amounts, truth = scans.particles_on_film(shape, spacing, rng)
    amounts *= counts / amounts.sum(axis=-1).mean()
    # Row by row, because the expected counts of the whole scan would take four times its memory.
    signal = exspy.signals.EDSTEMSpectrum(
        np.stack([rng.poisson(row @ components).astype(np.uint16) for row in amounts])
    )
    _calibrate(signal.axes_manager.navigation_axes, pixel_size)
    signal.axes_manager.signal_axes[0].update_from(energy, ("name", "scale", "offset", "units"))
    microscope = reference.metadata.Acquisition_instrument.as_dictionary()
    signal.metadata.add_dictionary({"Acquisition_instrument": microscope})
    signal.metadata.General.title = "Synthetic EDS of nanoparticles on a carbon film"
    signal.set_elements(["C", "Cu", "Fe", "O", "Pt"])
    # set_lines would add a line for every other element, but only these two are to be quantified.
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

    The signal is a Signal2D ``(x, y|kx, ky)``; the classes are "domain 1" ...

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
        Seed of everything random: domains, spots, movement of the beam, counts.
    """
    _check(scan_shape, 8, counts=counts, domains=domains)
    _check(pattern_shape, 16)
    rng = np.random.default_rng(seed)
    counted, truth = scans.domain_patterns(scan_shape, pattern_shape, domains, counts, rng)
    signal = Signal2D(counted)
    _calibrate(signal.axes_manager.navigation_axes, 1.5)
    _calibrate(signal.axes_manager.signal_axes, 0.25, "1/nm", ("kx", "ky"))
    signal.metadata.General.title = "Synthetic 4D-STEM scan of domains"
    return Specimen(signal, truth, tuple(f"domain {i + 1}" for i in range(domains)))


def _image_signal(image: np.ndarray, pixel_size: float, title: str) -> Signal2D:
    """Make a signal of an image or a stack (..., rows, columns), calibrated in nm."""
    signal = Signal2D(image)
    _calibrate(signal.axes_manager.signal_axes, pixel_size)
    signal.metadata.General.title = title
    signal.metadata.set_item("Acquisition_instrument.TEM.acquisition_mode", "STEM")
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return signal


def _calibrate(
    axes: tuple, scale: float, units: str = "nm", names: tuple[str, ...] = ("x", "y")
) -> None:
    """Set name, scale and units of axes."""
    for axis, name in zip(axes, names, strict=True):
        axis.name, axis.scale, axis.units = name, scale, units


def _check(shape: tuple[int, int], least: int, **numbers: float) -> None:
    """Check that `shape` is two integers of at least `least`, and the numbers.

    Counts of things are integers of at least 2; all other numbers are positive.
    """
    if np.shape(shape) != (2,) or any(int(size) != size or size < least for size in shape):
        raise ValueError(
            f"A shape is (rows, columns), integers of at least {least}, but {shape} was given."
        )
    for name, value in numbers.items():
        if name in ("frames", "grains", "domains"):
            if int(value) != value or value < 2:
                raise ValueError(f"{name} must be an integer of at least 2, but {value} was given.")
        elif not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, but {value} was given.")
