"""Ready examples bring their own data."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet

PLACES = {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}


@pytest.fixture
def spectra():
    values = np.random.default_rng(0).poisson(20, (6, 7, 30)).astype(float)
    values[:, 4:, 20:24] += 60
    signal = hs.signals.Signal1D(values)
    signal.axes_manager[-1].units, signal.axes_manager[-1].scale = "eV", 0.5
    signal.axes_manager[-1].offset = 100.0
    return signal


def items_of(example, domain):
    """Items of a ready example, shape (n, ...)."""
    ((_, _, shots),) = SupportSet({"a": example}).locate(domain)
    return np.concatenate([shot.item for shot in shots])


# Alone


def test_an_example_is_one_item_or_many(spectra, tools):
    patterns = hs.signals.Signal2D(spectra.data.reshape(6, 7, 5, 6))
    for signal in (spectra, patterns):
        domain, lazy = tools.scan_domain(signal), signal.as_lazy()
        for one in (signal.data[4, 5], signal.inav[5, 4], lazy.inav[5, 4]):
            np.testing.assert_array_equal(items_of(one, domain), signal.data[4:5, 5])
        wanted = signal.data[1:4, 4:6].reshape(6, *signal.data.shape[2:])
        for many in (signal.data[1:4, 4:6], signal.inav[4:6, 1:4], lazy.inav[4:6, 1:4], wanted):
            np.testing.assert_array_equal(items_of(many, domain), wanted)


def test_spectra_on_another_axis_are_interpolated(spectra, tools):
    channels = 0.25 * np.arange(80) - 2
    line = hs.signals.Signal1D(np.stack([3 * channels, 7 - channels]))
    axis = line.axes_manager[-1]
    axis.scale, axis.offset, axis.units = 0.25, 98.0, "eV"
    rising, falling = items_of(line, tools.scan_domain(spectra))
    wanted = 0.5 * np.arange(30)
    np.testing.assert_allclose(rising, 3 * wanted, atol=1e-9)
    np.testing.assert_allclose(falling, 7 - wanted, atol=1e-9)


def test_spectra_on_a_descending_axis(spectra, tools):
    values = np.arange(130.0, 90.0, -0.5)
    axis = {"axis": values, "units": "eV", "navigate": False}
    line = hs.signals.Signal1D(values * 2, axes=[axis])
    (item,) = items_of(line, tools.scan_domain(spectra))
    np.testing.assert_allclose(item, 2 * spectra.axes_manager[-1].axis)


def test_axes_of_a_tiny_scale_are_told_apart(spectra, tools):
    axis = spectra.axes_manager[-1]
    axis.scale, axis.offset, axis.units = 1e-10, 0.0, "m"
    other = spectra.inav[0, 0].deepcopy()
    other.axes_manager[-1].scale = 2e-10
    (item,) = items_of(other, tools.scan_domain(spectra))
    np.testing.assert_allclose(item[::2], other.data[:15])


def test_spectra_in_other_units(spectra, tools):
    other = spectra.inav[0, 0].deepcopy()
    other.axes_manager[-1].units = "keV"
    with pytest.raises(ValueError, match="class 'a': the spectra are in keV, the data in eV"):
        items_of(other, tools.scan_domain(spectra))


def test_a_range_that_is_not_covered(spectra, tools):
    other = spectra.inav[0, 0].isig[5:]
    with pytest.raises(ValueError, match="from 102.5 to 114.5 eV, which does not cover"):
        items_of(other, tools.scan_domain(spectra))


@pytest.mark.parametrize(
    ("example", "match"),
    [
        (np.zeros((9, 8)), r"ready examples of shape \(9, 8\) do not match the chips"),
        (np.zeros((9, 9), complex), "ready examples must be real numbers, got complex128"),
        (np.full((9, 9), np.nan), "ready examples must be finite, got NaN"),
        (np.array([["a"]]), "ready examples must be real numbers, got <U1"),
        (np.array([3, 4]), r"Positions are tuples, or the rows of an array \(n, 2\)"),
        (
            np.array([[3, 4, 1], [5, 6, 1]]),
            r"Positions are tuples, or the rows of an array \(n, 2\)",
        ),
        (hs.signals.Signal1D(np.zeros((9, 9))), "has 1 signal dimensions, chips have 2"),
    ],
)
def test_what_does_not_fit(image, example, match, tools):
    with pytest.raises(ValueError, match=f"Example of class 'a': .*{match}"):
        items_of(example, tools.image_domain(image, chip_size=9))


def test_the_signal_mask_applies_to_ready_examples(spectra, tools):
    mask = np.arange(30) % 3 == 0
    domain = tools.scan_domain(spectra, signal_mask=mask)
    (item,) = items_of(spectra.inav[5, 4], domain)
    np.testing.assert_array_equal(item, spectra.data[4, 5, ~mask])


# In a classification


def test_ready_examples_stand_for_the_positions_that_they_are_of(spectra):
    patterns = hs.signals.Signal2D(spectra.data.reshape(6, 7, 5, 6))
    for signal in (spectra, patterns):
        options = {"context": 1, "encoder": "pca"}
        expected = signal.fewshot_classify(PLACES, **options)
        ready = {name: [signal.inav[p] for p in places] for name, places in PLACES.items()}
        result = signal.fewshot_classify(ready, **options)
        np.testing.assert_allclose(
            result.probabilities.data, expected.probabilities.data, atol=1e-6
        )


def test_each_item_of_an_example_is_a_shot(spectra):
    support = SupportSet({"a": spectra.data[:2, 0], "b": spectra.inav[5:, :2]})
    assert support.shots == {"a": 2, "b": 4}
    options = {"context": 1, "reject": False, "encoder": "pca"}
    result = spectra.fewshot_classify(support, **options)
    single = {"a": list(spectra.data[:2, 0]), "b": list(spectra.data[:2, 5:].reshape(4, 30))}
    expected = spectra.fewshot_classify(single, **options)
    np.testing.assert_array_equal(result.probabilities.data, expected.probabilities.data)


def test_a_position_on_an_image_is_the_chip_that_is_centred_there(image):
    support = {"a": [(20, 15)], "b": [(40, 30)]}
    # An encoder that sees the surroundings would tell a chip with them from one without.
    options = {"chip_size": 7, "stride": 5, "encoder": "fourier"}
    with pytest.warns(UserWarning, match="With one example"):
        result = image.fewshot_classify(support, **options)
    ready = {"a": [image.data[12:19, 17:24]], "b": [image.data[27:34, 37:44]]}
    with pytest.warns(UserWarning, match="With one example"):
        again = image.fewshot_classify(ready, **options)
    np.testing.assert_array_equal(again.probabilities.data, result.probabilities.data)


def test_ready_chips_decide_the_chip_size(image):
    image.data[:, 26:] *= 4
    ready = {
        "a": np.stack([image.data[:9, :9], image.data[10:19, :9]]),
        "b": [image.isig[40:49, 20:29], image.isig[38:47, 5:14]],
    }
    result = image.fewshot_classify(ready, stride=4, reject=False, encoder="fourier")
    assert result.classifier.recipe.grid.chip_size == 9
    assert (result.labels.data[:, :5] == 0).all()
    assert (result.labels.data[:, 8:] == 1).all()
