"""Encoders keep what tells classes apart, and everything that torch brings works as promised."""

import os
import pickle
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hyperspy_fewshot import Encoder, get_encoder, list_encoders
from hyperspy_fewshot.encoders import default_encoder, foreign
from hyperspy_fewshot.encoders.base import project_onto_components, to_tensor
from hyperspy_fewshot.encoders.fourier import FourierEncoder
from hyperspy_fewshot.encoders.pca import PCAEncoder

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# What all encoders share.


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "f2", "f8", ">u2", ">f4", "?"]
)
def test_any_number_becomes_float32(dtype):
    batch = (np.arange(12).reshape(2, 2, 3) % 2).astype(dtype)
    tensor = to_tensor(batch, "cpu")
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), batch.astype(float))


@pytest.mark.filterwarnings("error")
def test_views_and_read_only_arrays_are_taken():
    batch = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    batch.flags.writeable = False
    np.testing.assert_array_equal(
        to_tensor(batch[:, ::-1, ::2], "cpu").numpy(), batch[:, ::-1, ::2]
    )
    to_tensor(batch, "cpu").zero_()
    assert batch[1, 2, 3] == 23


def test_normalisation_is_robust_and_of_the_whole_sample(rng):
    sample = rng.normal(100, 10, (500, 16, 16)).astype(np.float32)
    sample[3, 2, 1] = 1e9
    fitted = Encoder(name="plain").fit(sample, kind="image")
    assert fitted.offset == pytest.approx(100, abs=0.3)
    assert fitted.scale == pytest.approx(2 * 2.326 * 10, rel=0.02)
    constant = Encoder(name="plain").fit(np.full((4, 3, 3), -7.0, np.float32), kind="image")
    assert (constant.offset, constant.scale) == (-7, 7)
    zero = Encoder(name="plain").fit(np.zeros((4, 3, 3), np.float32), kind="image")
    assert (zero.offset, zero.scale) == (0, 1)


@pytest.mark.parametrize("side", [64, 63, 60])
def test_normalisation_does_not_see_some_columns_only(side):
    # Columns of a lattice: every n-th value of the sample could hit one of them always.
    chip = np.where(np.arange(side) % 8 == 0, 100.0, 0.0) + np.zeros((side, 1))
    sample = np.broadcast_to(chip, (2000, side, side)).astype(np.float32)
    fitted = Encoder(name="plain").fit(sample, kind="image")
    assert fitted.offset == 0
    assert fitted.scale == 100


def test_projection_equals_singular_values(rng):
    for n, p in [(60, 12), (9, 40)]:
        features = (rng.normal(size=(n, 3)) * [9, 4, 2]) @ rng.normal(size=(3, p))
        features += 0.1 * rng.normal(size=(n, p)) + 5
        mean, components = project_onto_components(features.astype(np.float32), 3, 0.0)
        np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
        _, singular, rows = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        expected = rows[:3].T @ rows[:3]
        np.testing.assert_allclose(components @ components.T, expected, atol=1e-3)
        variance = ((features - mean) @ components).var(axis=0)
        np.testing.assert_allclose(variance, singular[:3] ** 2 / n, rtol=1e-3)


def test_projection_divides_by_a_power_of_the_variance(rng):
    features = (rng.normal(size=(400, 5)) * [8, 4, 2, 1, 0.5]).astype(np.float32)
    spreads = {
        power: ((features - mean) @ components).std(axis=0)
        for power in (0.0, 0.25, 0.5)
        for mean, components in [project_onto_components(features, 4, power)]
    }
    np.testing.assert_allclose(spreads[0.5], 1, rtol=1e-3)
    np.testing.assert_allclose(spreads[0.25], np.sqrt(spreads[0.0]), rtol=1e-3)


def test_projection_keeps_no_more_than_there_is(rng):
    rank_two = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 30))
    assert project_onto_components(rank_two.astype(np.float32), 8, 0.0)[1].shape == (30, 2)
    pair = rng.normal(size=(2, 30)).astype(np.float32)
    mean, components = project_onto_components(pair, 8, 0.0)
    assert components.shape == (30, 1)
    between = (pair - mean) @ components
    np.testing.assert_allclose(
        abs(between[0] - between[1]), np.linalg.norm(pair[0] - pair[1]), rtol=1e-4
    )
    for n in (1, 5):
        mean, components = project_onto_components(np.full((n, 6), 3.0, np.float32), 8, 0.5)
        np.testing.assert_allclose(components, np.full((6, 1), 1 / 6))
        np.testing.assert_allclose((np.full((1, 6), 4.0) - mean) @ components, [[1]], rtol=1e-6)


def test_projection_of_many_channels_takes_the_sparse_way(rng):
    features = rng.normal(size=(1100, 3)) * [30, 20, 10] @ rng.normal(size=(3, 1040)) / 30
    features = (features + 0.01 * rng.normal(size=(1100, 1040))).astype(np.float32)
    mean, components = project_onto_components(features, 3, 0.0)
    centred = features - mean
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-4)
    turned = centred.T @ (centred @ components) / 1100
    variance = (centred @ components).var(axis=0)
    np.testing.assert_allclose(turned, components * variance, atol=1e-4 * variance[0])
    assert variance.sum() > 0.99 * centred.var(axis=0).sum()
    np.testing.assert_array_equal(components, project_onto_components(features, 3, 0.0)[1])


# "fourier".


def lattice(shape=(64, 64), period=9.0, angle=0.0, shift=(0.0, 0.0), level=100.0, contrast=20.0):
    """A square lattice of atoms, seen from anywhere."""
    y, x = np.indices(shape) + np.reshape(shift, (2, 1, 1))
    across, along = (
        (x * np.cos(a) + y * np.sin(a)) * 2 * np.pi / period for a in (angle, angle + np.pi / 2)
    )
    return (level + contrast * (np.cos(across) + np.cos(along))).astype(np.float32)


def distance(a, b):
    return float(np.linalg.norm(a - b))


def test_fourier_equals_its_definition_in_numpy(rng):
    for shape in [(12, 9), (15, 16), (5, 1)]:
        chips = rng.normal(50, 9, (3, *shape))
        hann = [np.hanning(n + 2)[1:-1] for n in shape]
        window = np.outer(*hann)
        window /= np.sqrt((window**2).mean())
        means = chips.mean(axis=(1, 2))
        spectrum = np.fft.fft2((chips - means[:, None, None]) * window, norm="ortho")
        rows = np.r_[0 : min(4, (shape[0] - 1) // 2) + 1, -min(4, (shape[0] - 1) // 2) : 0]
        columns = np.arange(min(4, shape[1] // 2) + 1)
        power = np.log(abs(spectrum[:, rows][:, :, columns]) ** 2 + 3.0).reshape(3, -1)
        spread = np.log(chips.std(axis=(1, 2)) + 1e-3)
        expected = np.column_stack([power, means, spread])
        found = FourierEncoder(name="f", max_frequency=4).encode(chips)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_fourier_does_not_depend_on_gain_and_offset(rng):
    chips = np.stack([lattice(angle=a, shift=rng.uniform(0, 9, 2)) for a in (0, 0, 0.6, 0.6)])
    chips = (chips + rng.normal(0, 8, chips.shape)).astype(np.float32)
    turned = FourierEncoder(name="f").fit(chips, kind="image").encode(chips)
    scaled = FourierEncoder(name="f").fit(0.02 * chips + 7, kind="image").encode(0.02 * chips + 7)
    # Components are defined up to their sign.
    np.testing.assert_allclose(turned @ turned.T, scaled @ scaled.T, rtol=0.02, atol=0.05)


@pytest.fixture(scope="module")
def fitted_fourier():
    """Fitted on two orientations and two levels of intensity, with noise."""
    rng = np.random.default_rng(1)
    chips = [
        lattice(angle=angle, level=level, shift=rng.uniform(0, 9, 2)) + rng.normal(0, 8, (64, 64))
        for angle in (0.0, 0.3)
        for level in (100.0, 112.0)
        for _ in range(20)
    ]
    return get_encoder("fourier").fit(np.array(chips, np.float32), kind="image")


def test_fourier_forgets_where_the_lattice_lies(fitted_fourier, rng):
    shifts = rng.uniform(0, 9, (12, 2))
    moved = fitted_fourier.encode(np.stack([lattice(shift=shift) for shift in shifts]))
    turned = fitted_fourier.encode(np.stack([lattice(shift=s, angle=0.3) for s in shifts]))
    brighter = fitted_fourier.encode(np.stack([lattice(shift=s, level=112) for s in shifts]))
    other = fitted_fourier.encode(np.stack([lattice(shift=s, period=7) for s in shifts]))
    inside = max(distance(a, moved.mean(0)) for a in moved)
    for others, ratio in ((turned, 4), (other, 4), (brighter, 1.5)):
        assert min(distance(a, moved.mean(0)) for a in others) > ratio * inside


def test_fourier_does_not_take_rounding_for_intensity():
    chips = np.stack([lattice(period=8, angle=a) for a in (0, 0.4) for _ in range(10)])
    chips += np.random.default_rng(0).normal(0, 3, chips.shape).astype(np.float32)
    chips -= chips.mean(axis=(1, 2), keepdims=True)
    fitted = get_encoder("fourier").fit(chips, kind="image")
    # What is left of the means is rounding: it must not carry weight.
    lifted = fitted.encode(chips + np.float32(1e-5 * chips.std()))
    np.testing.assert_allclose(lifted, fitted.encode(chips), atol=1e-2 * abs(lifted).max())


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (4, 7), (16, 16), (95, 95), (31, 48)])
def test_fourier_takes_chips_of_any_size(shape, rng):
    chips = rng.poisson(40, (20, *shape)).astype(np.float32)
    encoder = get_encoder("fourier").fit(chips, kind="image")
    embeddings = encoder.encode(chips)
    assert np.isfinite(embeddings).all()
    assert embeddings.shape[0] == 20
    assert 1 <= embeddings.shape[1] <= 19
    far = [distance(a, b) for i, a in enumerate(embeddings) for b in embeddings[:i]]
    assert max(far) > 0.1


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f8", ">u2", ">f8"])
@pytest.mark.parametrize("name", ["fourier", "pca"])
def test_type_of_the_data_does_not_matter(name, dtype, rng):
    chips = rng.integers(0, 200, (30, 16, 16))
    encoder = get_encoder(name).fit(chips.astype(np.float32), kind="image")
    expected = encoder.encode(chips.astype(np.float32))
    np.testing.assert_array_equal(encoder.encode(chips.astype(dtype)), expected)


@pytest.mark.parametrize("name", ["fourier", "pca"])
def test_embedding_does_not_depend_on_the_batch(name, rng):
    chips = rng.poisson(20, (30, 16, 16)).astype(np.float32)
    encoder = get_encoder(name).fit(chips, kind="image")
    one_by_one = np.concatenate([encoder.encode(chip[np.newaxis]) for chip in chips])
    np.testing.assert_allclose(encoder.encode(chips), one_by_one, atol=1e-4)


@pytest.mark.parametrize("name", ["fourier", "pca"])
def test_fit_changes_neither_encoder_nor_sample(name, rng):
    chips = rng.poisson(20, (30, 16, 16)).astype(np.float32)
    before, encoder = chips.copy(), get_encoder(name)
    state = encoder.state()
    fitted = encoder.fit(chips, kind="image")
    np.testing.assert_array_equal(chips, before)
    assert encoder.state() == state
    assert fitted is not encoder
    assert pickle.loads(pickle.dumps(fitted)) == fitted
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(fitted)).encode(chips), fitted.encode(chips)
    )


# "pca".


def test_pca_equals_its_definition_in_numpy(rng):
    for n in (60, 9):
        spectra = rng.poisson(rng.uniform(5, 50, (n, 1)) * np.linspace(0.2, 1, 25)).astype(float)
        fitted = get_encoder("pca").fit(spectra.astype(np.float32), kind="spectrum")
        level = spectra.mean(axis=0)
        scaled = spectra / np.sqrt(level + 0.01 * level.mean())
        _, _, rows = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
        kept = rows[: min(8, n - 1)]
        expected = (scaled - scaled.mean(axis=0)) @ kept.T @ kept @ (scaled - scaled.mean(axis=0)).T
        found = fitted.encode(spectra)
        np.testing.assert_allclose(found @ found.T, expected, atol=1e-2 * abs(expected).max())


def test_pca_of_shapes_does_not_see_the_sum(rng):
    spectra = rng.poisson(30, (50, 20)).astype(np.float32)
    by_shape = get_encoder("pca").fit(spectra, kind="spectrum", sum_normalise=True)
    by_counts = get_encoder("pca").fit(spectra, kind="spectrum")
    np.testing.assert_allclose(by_shape.encode(7 * spectra), by_shape.encode(spectra), atol=1e-5)
    assert distance(by_counts.encode(7 * spectra), by_counts.encode(spectra)) > 100
    thick = get_encoder("pca").fit(7 * spectra, kind="spectrum", sum_normalise=True)
    np.testing.assert_allclose(abs(thick.encode(spectra)), abs(by_shape.encode(spectra)), atol=1e-4)


def test_pca_of_shapes_survives_empty_and_negative_spectra(rng):
    spectra = rng.poisson(30, (50, 20)).astype(np.float32)
    spectra[0] = 0
    spectra[1] = -spectra[2]
    spectra[3] -= spectra[3].mean()
    fitted = get_encoder("pca").fit(spectra, kind="spectrum", sum_normalise=True)
    embeddings = fitted.encode(spectra)
    assert np.isfinite(embeddings).all()
    assert (
        np.linalg.norm(embeddings, axis=1).max()
        < 10 * np.median(np.linalg.norm(embeddings, axis=1)) + 10
    )


def test_pca_of_patterns_keeps_what_is_reproduced(rng):
    shapes = rng.uniform(1, 9, (3, 30, 34))
    patterns = rng.poisson(shapes[rng.integers(0, 3, 300)]).astype(np.float32)
    # Three shapes differ in two directions; the rest describes the noise of single patterns.
    assert get_encoder("pca").fit(patterns, kind="pattern").components.shape == (30 * 34, 2)
    noise = rng.poisson(5, (300, 30, 34)).astype(np.float32)
    assert get_encoder("pca").fit(noise, kind="pattern").components.shape == (30 * 34, 1)


def test_pca_bins_patterns_to_64_pixels(rng):
    patterns = rng.poisson(5, (12, 130, 150)).astype(np.float32)
    fitted = get_encoder("pca").fit(patterns, kind="pattern")
    # 150 px are binned by 3: 44 x 50, the last row from what is left of it.
    assert fitted.components.shape[0] == 44 * 50
    binned = np.stack(
        [
            [[p[y : y + 3, x : x + 3].mean() for x in range(0, 150, 3)] for y in range(0, 130, 3)]
            for p in patterns
        ]
    )
    small = get_encoder("pca").fit(binned.astype(np.float32), kind="pattern")
    np.testing.assert_allclose(
        abs(fitted.encode(patterns)), abs(small.encode(binned)), rtol=1e-2, atol=1e-2
    )


def test_pca_of_next_to_nothing(rng):
    pair = rng.poisson(9, (2, 6)).astype(np.float32)
    assert get_encoder("pca").fit(pair, kind="spectrum").encode(pair).shape == (2, 1)
    for same in (np.full((5, 6), 4.0, np.float32), np.zeros((5, 6), np.float32)):
        embeddings = get_encoder("pca").fit(same, kind="spectrum").encode(same)
        np.testing.assert_allclose(embeddings, 0, atol=1e-5)
        assert embeddings.shape == (5, 1)


def test_pca_must_be_fitted():
    with pytest.raises(ValueError, match="has to be fitted first"):
        get_encoder("pca").encode(np.ones((2, 5)))


# Digests.

_PRINT_DIGESTS = """
import numpy as np, torch
from hyperspy_fewshot import get_encoder
sample = np.random.default_rng(0).poisson(9, (40, 12)).astype("f4")
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Conv1d(1, 3, 5), torch.nn.ReLU(), torch.nn.Dropout(0.2))
for encoder in ("pca", module, np.fft.rfft, lambda batch: batch[:, :3] + 2):
    print(get_encoder(encoder).fit(sample, kind="spectrum").sha256)
"""


def test_digests_are_the_same_in_every_process():
    command = [sys.executable, "-c", _PRINT_DIGESTS]
    started = [
        subprocess.Popen(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
        )
        for seed in ("1", "2")
    ]
    found = [process.communicate(timeout=120)[0].split() for process in started]
    assert len(set(found[0])) == 4
    assert found[0] == found[1]


def test_digest_tells_fits_apart(rng):
    spectra = rng.poisson(9, (40, 12)).astype(np.float32)
    one, same, other = (
        get_encoder("pca").fit(x, kind="spectrum") for x in (spectra, spectra.copy(), spectra[1:])
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != get_encoder("pca")
    assert repr(one) == f"<PCAEncoder 'pca', sha256 {one.sha256[:8]}>"


def first_three(batch):
    """Return the first three channels."""
    return batch[:, :3]


def test_digest_of_functions():
    def channels(k):
        return lambda batch: batch[:, :k]

    assert get_encoder(first_three) == get_encoder(first_three)
    assert get_encoder(first_three) != get_encoder(np.fft.rfft)
    assert get_encoder(channels(3)) == get_encoder(channels(3))
    assert get_encoder(channels(3)) != get_encoder(channels(4))
    assert get_encoder(first_three).name == "first_three"
    assert get_encoder(first_three).batch_size == 256


def test_functions_of_a_module_pickle(rng):
    encoder = get_encoder(np.real)
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    batch = rng.random((4, 5))
    np.testing.assert_array_equal(again.encode(batch), batch)


# Modules.


class Scale(torch.nn.Module):
    """Mean over the item, times a number that is no weight."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, items):
        return self.factor * items.flatten(1).mean(1, keepdim=True)


def small_network(channels=1, seed=0):
    """A network whose result would differ in training mode."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
    )


def test_modules_run_in_evaluation_mode_and_are_not_changed(rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    module = small_network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    encoder = get_encoder(module)
    found = encoder.encode(chips)
    assert module.training and module[3].training
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    with torch.no_grad():
        expected = module.eval()(torch.as_tensor(chips)[:, None]).mean((2, 3)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.shape == (6, 4)


def test_training_on_does_not_change_the_encoder(rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    module = small_network()
    encoder = get_encoder(module)
    expected, digest = encoder.encode(chips), encoder.sha256
    with torch.no_grad():
        module[0].weight.mul_(3)
    np.testing.assert_array_equal(encoder.encode(chips), expected)
    assert get_encoder(module).sha256 != digest


def test_modules_that_look_alike_are_not_mixed_up(rng):
    items = rng.random((3, 5)).astype(np.float32)
    one, three = get_encoder(Scale(1)), get_encoder(Scale(3))
    np.testing.assert_allclose(three.encode(items), 3 * one.encode(items), rtol=1e-6)
    assert one != three
    assert one == get_encoder(Scale(1))


def test_channels_are_repeated(rng):
    chips = rng.random((5, 10, 10)).astype(np.float32)
    module = small_network(channels=3).eval()
    with torch.no_grad():
        colour = torch.as_tensor(chips)[:, None].expand(-1, 3, -1, -1)
        expected = module(colour).mean((2, 3)).numpy()
    np.testing.assert_allclose(get_encoder(module).encode(chips), expected, rtol=1e-5)
    grouped = torch.nn.Conv2d(3, 3, 3, groups=3)
    assert get_encoder(grouped).encode(chips).shape == (5, 3)


def test_parameters_that_are_no_convolution_do_not_count_as_channels(rng):
    class Tokens(torch.nn.Module):
        """Like a vision transformer: a parameter of three axes comes first."""

        def __init__(self):
            super().__init__()
            self.position = torch.nn.Parameter(torch.ones(1, 9, 4))
            self.embed = torch.nn.Conv2d(1, 4, 4, stride=4)

        def forward(self, items):
            return (self.embed(items).flatten(2).mT + self.position).mean(1)

    chips = rng.random((5, 12, 12)).astype(np.float32)
    assert get_encoder(Tokens()).encode(chips).shape == (5, 4)


def test_normalisation_and_resampling(rng):
    chips = (50 + 10 * rng.random((40, 20, 20))).astype(np.float32)
    encoder = get_encoder(torch.nn.Flatten(), input_size=5).fit(chips, kind="image")
    found = encoder.encode(chips)
    assert found.shape == (40, 25)
    assert abs(np.median(found)) < 0.05
    assert 0.1 < np.ptp(found) < 1
    ramp = np.broadcast_to(np.arange(20.0), (1, 20, 20))
    steps = np.diff(
        get_encoder(torch.nn.Flatten(), input_size=5).encode(ramp).reshape(5, 5), axis=1
    )
    np.testing.assert_allclose(steps[:, 1:-1], 4, rtol=1e-5)


def test_spectra_have_channels_only_for_convolutions(rng):
    spectra = rng.random((7, 30)).astype(np.float32)
    torch.manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Linear(30, 6), torch.nn.ReLU())
    with torch.no_grad():
        expected = linear(torch.as_tensor(spectra)).numpy()
    np.testing.assert_allclose(get_encoder(linear).encode(spectra), expected, rtol=1e-5)
    convolution = torch.nn.Conv1d(1, 5, 7)
    with torch.no_grad():
        expected = convolution(torch.as_tensor(spectra)[:, None]).mean(2).numpy()
    np.testing.assert_allclose(get_encoder(convolution).encode(spectra), expected, rtol=1e-5)


def test_half_precision_modules_give_float32(rng):
    class Half(torch.nn.Module):
        def forward(self, items):
            return items.flatten(1).to(torch.bfloat16)

    found = get_encoder(Half()).encode(np.ones((2, 3, 4)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones((2, 12)))


def test_modules_that_return_no_tensor():
    class Pair(torch.nn.Module):
        def forward(self, items):
            return items, items

    with pytest.raises(TypeError, match="'Pair' returned tuple; a tensor of shape"):
        get_encoder(Pair()).encode(np.ones((2, 3, 4)))


def test_module_encoders_pickle(rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    encoder = get_encoder(small_network()).fit(chips, kind="image")
    again = pickle.loads(pickle.dumps(encoder))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(chips), encoder.encode(chips))


# Weights and files.


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_are_loaded_into_a_copy(suffix, tmp_path, rng):
    chips = rng.random((6, 10, 10)).astype(np.float32)
    trained, path = small_network(seed=1), tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(trained.state_dict(), path)
    module = small_network(seed=2)
    before = module[0].weight.clone()
    encoder = get_encoder(module, weights=path)
    assert torch.equal(module[0].weight, before)
    np.testing.assert_array_equal(encoder.encode(chips), get_encoder(trained).encode(chips))
    assert encoder == get_encoder(trained)


class Bomb:
    """What a malicious file could hold."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_weights_that_could_run_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, "bomb.pt")
    with pytest.raises(ValueError, match="'bomb.pt' holds more than weights, which could run code"):
        get_encoder(small_network(), weights="bomb.pt")
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_module(tmp_path):
    save_file(small_network(channels=3).state_dict(), tmp_path / "three.safetensors")
    with pytest.raises(RuntimeError, match="size mismatch for 0.weight"):
        get_encoder(small_network(), weights=tmp_path / "three.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network as TorchScript and as exported program."""
    folder, module = tmp_path_factory.mktemp("files"), small_network(channels=3).eval()
    example = torch.zeros(2, 3, 10, 10)
    with pytest.warns(DeprecationWarning):
        torch.jit.script(module).save(folder / "scripted.pt")
        torch.jit.trace(module, example).save(folder / "traced.pt")
    any_batch = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(module, (example,), dynamic_shapes=any_batch)
    torch.export.save(exported, folder / "exported.pt2")
    torch.export.save(torch.export.export(module, (example,)), folder / "fixed.pt2")
    torch.save(module.state_dict(), folder / "weights.pt")
    return folder, module


@pytest.mark.parametrize("name", ["scripted.pt", "traced.pt", "exported.pt2"])
def test_files_encode_like_their_module(files, name, rng):
    folder, module = files
    chips = rng.random((7, 10, 10)).astype(np.float32)
    encoder = get_encoder(folder / name, trusted=True)
    assert encoder.name == name
    expected = get_encoder(module).encode(chips)
    np.testing.assert_allclose(encoder.encode(chips), expected, atol=1e-5)
    again = pickle.loads(pickle.dumps(encoder))
    assert len(pickle.dumps(encoder)) < 2000
    np.testing.assert_array_equal(again.encode(chips), encoder.encode(chips))
    assert get_encoder(str(folder / name), trusted=True) == encoder


def test_files_must_be_trusted(files, monkeypatch):
    folder, _ = files
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("the file was opened"))
    for name in ("scripted.pt", "exported.pt2"):
        with pytest.raises(ValueError, match=rf"'{name}' can run code .*'{name}', trusted=True"):
            get_encoder(folder / name)


def test_files_that_are_not_what_they_should_be(files, tmp_path):
    folder, _ = files
    with pytest.raises(FileNotFoundError, match="There is no encoder file .*none.pt"):
        get_encoder(tmp_path / "none.pt", trusted=True)
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(ValueError, match="neither TorchScript .* nor an exported program"):
        get_encoder(tmp_path / "weights.safetensors", trusted=True)
    chips = np.ones((3, 10, 10), np.float32)
    weights = get_encoder(folder / "weights.pt", trusted=True)
    with pytest.raises(ValueError, match=r"weights.pt' is not TorchScript. .*weights="):
        weights.encode(chips)
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(ValueError, match=r"text.pt2' is not an exported program"):
        get_encoder(tmp_path / "text.pt2", trusted=True).encode(chips)
    with pytest.raises(ValueError, match=r"does not take a batch of shape \(3, 3, 10, 10\) .*Dim"):
        get_encoder(folder / "fixed.pt2", trusted=True).encode(chips)


def test_files_that_change_are_not_trusted_any_more(files, tmp_path):
    path = tmp_path / "network.pt"
    path.write_bytes((files[0] / "scripted.pt").read_bytes())
    encoder = get_encoder(path, trusted=True)
    path.write_bytes((files[0] / "traced.pt").read_bytes())
    foreign._loaded.cache_clear()
    with pytest.raises(ValueError, match="network.pt' has changed since it was chosen"):
        encoder.encode(np.ones((3, 10, 10), np.float32))


def test_a_file_is_loaded_once_for_all_threads(files, monkeypatch):
    loads, load = [], torch.jit.load

    def slow_load(*args, **options):
        loads.append(threading.get_ident())
        threading.Event().wait(0.1)
        return load(*args, **options)

    monkeypatch.setattr(torch.jit, "load", slow_load)
    foreign._loaded.cache_clear()
    encoder = get_encoder(files[0] / "scripted.pt", trusted=True)
    chips = np.ones((3, 10, 10), np.float32)
    threads = [threading.Thread(target=encoder.encode, args=(chips,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


# The optional package timm, played by a stand-in.


@pytest.fixture
def timm(monkeypatch):
    stand_in = types.ModuleType("timm")
    stand_in.asked = []

    def create_model(name, **options):
        stand_in.asked.append((name, options))
        return small_network()

    stand_in.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return stand_in


def test_timm_models_by_name(timm, rng):
    encoder = get_encoder("timm:resnet18.a1_in1k", input_size=32)
    assert timm.asked == [
        ("resnet18.a1_in1k", {"pretrained": True, "num_classes": 0, "in_chans": 1})
    ]
    assert encoder.name == "timm:resnet18.a1_in1k"
    chips = rng.random((3, 10, 10)).astype(np.float32)
    np.testing.assert_array_equal(
        encoder.encode(chips), get_encoder(small_network(), input_size=32).encode(chips)
    )


def test_timm_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="'timm:vit_tiny' needs the package timm: pip install"):
        get_encoder("timm:vit_tiny")


# The way in.


def test_bundled_encoders():
    assert list_encoders() == ["stem", "spectrum", "fourier", "pca"]
    assert list_encoders("image") == list_encoders("pattern") == ["stem", "fourier", "pca"]
    assert list_encoders("spectrum") == ["spectrum", "pca"]
    defaults = {kind: default_encoder(kind).name for kind in ("image", "pattern", "spectrum")}
    assert defaults == {"image": "stem", "pattern": "stem", "spectrum": "spectrum"}
    for kind, name in defaults.items():
        assert name in list_encoders(kind)
    assert isinstance(get_encoder("pca"), PCAEncoder)


def test_encoders_pass_as_they_are():
    encoder = FourierEncoder(name="mine", max_frequency=8)
    assert get_encoder(encoder) is encoder
    with pytest.raises(NotImplementedError, match="Encoder does not define encode"):
        Encoder(name="nothing").encode(np.ones((2, 3)))


@pytest.mark.parametrize(
    "encoder, error, message",
    [
        (
            "furier",
            ValueError,
            "no encoder 'furier'. Bundled: 'stem', 'spectrum', 'fourier', 'pca'",
        ),
        (3, TypeError, "encoder is int; a name, an Encoder, a torch module"),
        (np.ones(3), TypeError, "encoder is ndarray; a name, an Encoder"),
        (FourierEncoder, TypeError, r"encoder is the class FourierEncoder; pass FourierEncoder\("),
        (torch.nn.Flatten, TypeError, r"encoder is the class Flatten; pass Flatten\("),
        ("model.onnx", FileNotFoundError, "There is no encoder file 'model.onnx'"),
    ],
)
def test_what_is_no_encoder(encoder, error, message):
    with pytest.raises(error, match=message):
        get_encoder(encoder)


def test_options_that_would_be_ignored_are_refused():
    for encoder in ("pca", FourierEncoder(name="mine"), first_three):
        with pytest.raises(ValueError, match="input_size=64 is for torch modules"):
            get_encoder(encoder, input_size=64)
        with pytest.raises(ValueError, match="weights='a.pt' is for torch modules"):
            get_encoder(encoder, weights="a.pt")
