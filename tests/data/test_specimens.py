"""The synthetic specimens correspond to their truth, calibration and counts."""

import numpy as np
import pytest

from hyperspy_fewshot import data


def strongest_period(image):
    """Period [px] of the strongest spot of the power spectrum, and its power against the mean at that frequency."""
    chip = image - image.mean()
    chip = chip * np.hanning(chip.shape[0])[:, np.newaxis] * np.hanning(chip.shape[1])
    power = np.abs(np.fft.fft2(chip, (1024, 1024))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(1024), np.fft.fftfreq(1024), indexing="ij"))
    power[frequency < 0.03] = 0
    peak = frequency.flat[power.argmax()]
    return 1 / peak, power.max() / power[np.abs(frequency / peak - 1) < 0.05].mean()


def test_shape_and_truth_share_one_grid(specimen):
    signal, truth = specimen.signal, specimen.truth
    grid = signal.axes_manager.navigation_shape[::-1]
    if signal.axes_manager.signal_dimension == 2 and len(grid) < 2:
        grid += signal.axes_manager.signal_shape[::-1]
    assert truth.shape == grid
    assert len(set(signal.data.shape)) == signal.data.ndim, "swapped axes could go unnoticed"
    assert signal.data.dtype == np.uint16


def test_every_class_is_present(specimen):
    assert set(np.unique(specimen.truth)) - {-1} == set(range(len(specimen.class_names)))
    assert len(set(specimen.class_names)) == len(specimen.class_names)


def test_axes_are_calibrated(specimen):
    for axis in specimen.signal.axes_manager._axes:
        assert axis.units in {"nm", "1/nm", "keV", "s"}
        assert axis.name in {"x", "y", "kx", "ky", "Energy", "time"}


def test_the_seed_determines_the_specimen(kind, simulate, specimen):
    again, other = simulate(kind, seed=0), simulate(kind, seed=1)
    np.testing.assert_array_equal(again.signal.data, specimen.signal.data)
    np.testing.assert_array_equal(again.truth, specimen.truth)
    assert (other.signal.data != specimen.signal.data).any()


@pytest.mark.parametrize("kind", ["heterostructure", "polycrystal", "image_stack"])
@pytest.mark.parametrize("counts", [4.0, 90.0])
def test_image_counts_per_pixel(kind, counts, simulate):
    mean = simulate(kind, counts=counts).signal.data.mean()
    np.testing.assert_allclose(mean, counts, rtol=0.02)


def test_spectrum_and_pattern_counts(simulate):
    spectra = simulate("eds_spectrum_image", counts=55.0).signal.data
    patterns = simulate("diffraction_scan", counts=300.0).signal.data
    np.testing.assert_allclose(spectra.sum(axis=-1).mean(), 55, rtol=0.03)
    np.testing.assert_allclose(patterns.sum(axis=(-2, -1)).mean(), 300, rtol=0.03)


def test_heterostructure_has_the_lattice_periods_of_its_materials():
    specimen = data.heterostructure((420, 400), pixel_size=0.025)
    cap, film, substrate = (
        specimen.signal.data[(specimen.truth == label).all(axis=1)] for label in range(3)
    )
    strontium_titanate, strength = strongest_period(film)
    np.testing.assert_allclose(strontium_titanate * 0.025, 0.3905 / np.sqrt(2), rtol=0.02)
    assert strength > 20
    germanium, strength = strongest_period(substrate)
    np.testing.assert_allclose(germanium * 0.025, 0.5658 / np.sqrt(3), rtol=0.02)
    assert strength > 20
    assert strongest_period(cap)[1] < 15


def test_grains_differ_in_orientation_only():
    polycrystal = data.polycrystal((480, 512))
    image, truth = polycrystal.signal.data, polycrystal.truth
    means = [image[truth == label].mean() for label in range(len(polycrystal.class_names))]
    np.testing.assert_allclose(means, np.mean(means), rtol=0.15)
    support = polycrystal.support(shots=1, margin=32)
    powers = []
    for name in ("grain 1", "grain 2", "grain 3", "amorphous"):
        (x, y), *_ = support[name]
        chip = image[y - 32 : y + 32, x - 32 : x + 32] - image.mean()
        power = np.abs(
            np.fft.fftshift(np.fft.fft2(chip * np.outer(np.hanning(64), np.hanning(64))))
        )
        power[28:37, 28:37] = 0
        powers.append(power)
    lattices, amorphous = powers[:3], powers[3]
    assert min(power.max() for power in lattices) > 2 * amorphous.max()
    spots = {np.unravel_index(power.argmax(), power.shape) for power in lattices}
    assert len(spots) == 3, "the strongest spots of the three orientations are in different places"


def test_spots_turn_with_the_domains(specimens):
    scan = specimens["diffraction_scan"]
    means = [scan.signal.data[scan.truth == label].mean(axis=0).ravel() for label in range(3)]
    beam = [np.unravel_index(mean.argmax(), (32, 38)) for mean in means]
    assert all(abs(row - 15.5) < 1.6 and abs(column - 18.5) < 1.6 for row, column in beam)
    assert np.max(np.corrcoef(np.sqrt(means))[np.triu_indices(3, 1)]) < 0.9


def test_film_grows_from_frame_to_frame(specimens):
    film = (specimens["image_stack"].truth == 1).sum(axis=(1, 2))
    assert (np.diff(film) > 0).all()


def test_eds_lines_are_where_the_truth_puts_them(specimens):
    specimen = specimens["eds_spectrum_image"]
    signal = specimen.signal
    iron = signal.isig[6.2:6.6].data.sum(axis=-1)
    platinum = signal.isig[9.2:9.7].data.sum(axis=-1)
    film, fept, oxide = (specimen.truth == label for label in range(3))
    assert iron[oxide].mean() > 10 * iron[fept].mean() > 10 * iron[film].mean()
    assert platinum[fept].mean() > 10 * platinum[oxide].mean()


def test_eds_is_quantifiable_and_gives_back_the_measured_composition():
    import exspy

    factors = [1.450226, 5.075602]

    def iron_fraction(signal):
        windows = signal.estimate_background_windows(line_width=[5.0, 2.0])
        intensities = signal.get_lines_intensity(background_windows=windows)
        iron, platinum = signal.quantification(
            intensities, "CL", factors, composition_units="atomic"
        )
        np.testing.assert_allclose(iron.data + platinum.data, 100)
        return iron.data[0]

    specimen = data.eds_spectrum_image((40, 48), counts=2000.0)
    signal = specimen.signal
    assert signal.metadata.Signal.signal_type == "EDS_TEM"
    assert signal.metadata.Sample.xray_lines == ["Fe_Ka", "Pt_La"]
    fept = signal.inav[0, 0].deepcopy()
    fept.data = signal.data[specimen.truth == 1].sum(axis=0)
    reference = exspy.data.EDS_TEM_FePt_nanoparticles()
    reference.metadata.Sample.xray_lines = ["Fe_Ka", "Pt_La"]
    np.testing.assert_allclose(iron_fraction(fept), iron_fraction(reference), atol=2)
    fept.data = signal.data[specimen.truth == 2].sum(axis=0)
    assert iron_fraction(fept) > 95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.heterostructure((63, 100)), r"at least 64, but \(63, 100\) was given"),
        (lambda: data.polycrystal(256), r"A shape is \(rows, columns\).* but 256 was given"),
        (lambda: data.image_stack(shape=(64, 70, 3)), r"A shape is \(rows, columns\)"),
        (
            lambda: data.heterostructure(counts=0),
            "counts must be positive and finite, but 0 was given",
        ),
        (
            lambda: data.heterostructure(pixel_size=float("nan")),
            "pixel_size must be positive and finite",
        ),
        (
            lambda: data.polycrystal(probe=-0.1),
            "probe must be positive and finite, but -0.1 was given",
        ),
        (
            lambda: data.polycrystal(grains=1),
            "grains must be an integer of at least 2, but 1 was given",
        ),
        (lambda: data.image_stack(1), "frames must be an integer of at least 2"),
        (lambda: data.diffraction_scan(domains=2.5), "domains must be an integer"),
        (lambda: data.diffraction_scan(pattern_shape=(8, 40)), r"at least 16, but \(8, 40\)"),
        (
            lambda: data.eds_spectrum_image((18, 35)),
            r"No room for two particles 18 positions apart",
        ),
        (
            lambda: data.eds_spectrum_image(spacing=4),
            r"No room for two particles 4 positions apart \(at least 8\)",
        ),
    ],
)
def test_invalid_sizes_and_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call()
