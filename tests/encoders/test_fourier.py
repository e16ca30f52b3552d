import numpy as np
import pytest

from hyperspy_fewshot import get_encoder
from hyperspy_fewshot.encoders.fourier import FourierEncoder


def lattice(shape=(64, 64), period=9.0, angle=0.0, shift=(0.0, 0.0), level=100.0, contrast=20.0):
    """A square lattice of atoms."""
    y, x = np.indices(shape) + np.reshape(shift, (2, 1, 1))
    across, along = (
        (x * np.cos(a) + y * np.sin(a)) * 2 * np.pi / period for a in (angle, angle + np.pi / 2)
    )
    return (level + contrast * (np.cos(across) + np.cos(along))).astype(np.float32)


def distance(a, b):
    return float(np.linalg.norm(a - b))


def test_equals_its_definition_in_numpy(rng):
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


def test_does_not_depend_on_gain_and_offset(rng):
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


def test_position_of_the_lattice_does_not_matter(fitted_fourier, rng):
    shifts = rng.uniform(0, 9, (12, 2))
    moved = fitted_fourier.encode(np.stack([lattice(shift=shift) for shift in shifts]))
    turned = fitted_fourier.encode(np.stack([lattice(shift=s, angle=0.3) for s in shifts]))
    brighter = fitted_fourier.encode(np.stack([lattice(shift=s, level=112) for s in shifts]))
    other = fitted_fourier.encode(np.stack([lattice(shift=s, period=7) for s in shifts]))
    inside = max(distance(a, moved.mean(0)) for a in moved)
    for others, ratio in ((turned, 4), (other, 4), (brighter, 1.5)):
        assert min(distance(a, moved.mean(0)) for a in others) > ratio * inside


def test_rounding_errors_are_not_intensity():
    chips = np.stack([lattice(period=8, angle=a) for a in (0, 0.4) for _ in range(10)])
    chips += np.random.default_rng(0).normal(0, 3, chips.shape).astype(np.float32)
    chips -= chips.mean(axis=(1, 2), keepdims=True)
    fitted = get_encoder("fourier").fit(chips, kind="image")
    # The remaining means are rounding errors.
    lifted = fitted.encode(chips + np.float32(1e-5 * chips.std()))
    np.testing.assert_allclose(lifted, fitted.encode(chips), atol=1e-2 * abs(lifted).max())


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (4, 7), (16, 16), (95, 95), (31, 48)])
def test_chips_of_any_size(shape, rng):
    chips = rng.poisson(40, (20, *shape)).astype(np.float32)
    encoder = get_encoder("fourier").fit(chips, kind="image")
    embeddings = encoder.encode(chips)
    assert np.isfinite(embeddings).all()
    assert embeddings.shape[0] == 20
    assert 1 <= embeddings.shape[1] <= 19
    far = [distance(a, b) for i, a in enumerate(embeddings) for b in embeddings[:i]]
    assert max(far) > 0.1
