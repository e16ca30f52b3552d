"""The encoder of the surroundings of a place."""

import numpy as np
import pytest
from scipy import ndimage

from hyperspy_fewshot.encoders.local import LocalEncoder
from hyperspy_fewshot.grids.chips import ChipGrid

SHAPE = (150, 133)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3) * 400 + rng.normal(size=SHAPE) * 5
    image[:, 80:] += 60
    return (image + 300).astype(np.float32)


def fields(encoder, image, stride=4, chip=8, block=None):
    grid = ChipGrid((), image.shape, chip, stride, encoder.margin(chip))
    block = block or tuple(slice(0, n) for n in grid.shape)
    return grid, list(grid.fields(image[grid.window(block)], block))


@pytest.fixture(scope="module")
def fitted(image):
    encoder = LocalEncoder("local", ("image",))
    return encoder.fit(fields(encoder, image)[1], kind="image")


def test_features_of_the_finest_scale_are_those_of_scipy(image, fitted):
    grid, (field,) = fields(fitted, image, stride=3, chip=9)
    rows, columns = (np.minimum(grid.centres(axis).astype(int), SHAPE[axis] - 1) for axis in (0, 1))
    found = fitted._features(field, "cpu").numpy().reshape(24, len(rows), len(columns))
    x = (image - fitted.offset) / fitted.scale

    def gaussian(sigma, *order):
        return ndimage.gaussian_filter(x, sigma, order, mode="reflect", truncate=3)

    hessian = np.array(
        [[gaussian(1, 2, 0), gaussian(1, 1, 1)], [gaussian(1, 1, 1), gaussian(1, 0, 2)]]
    )
    values = np.linalg.eigvalsh(hessian.transpose(2, 3, 0, 1))
    squares = ndimage.gaussian_filter(x**2, 2, mode="reflect", truncate=3)
    expected = [
        gaussian(1, 0, 0),
        np.hypot(gaussian(1, 1, 0), gaussian(1, 0, 1)),
        values[..., 1],
        values[..., 0],
        np.sqrt(squares - gaussian(2, 0, 0) ** 2),
    ]
    inner = (slice(4, -4), slice(4, -4))
    for feature, naive in zip(found, expected, strict=False):
        naive = naive[np.ix_(rows, columns)]
        # The kernels of SciPy's derivatives are normalised in another way.
        correlation = np.corrcoef(feature[inner].ravel(), naive[inner].ravel())[0, 1]
        assert correlation > 0.995
        assert np.std(feature[inner]) == pytest.approx(np.std(naive[inner]), rel=0.06)


def test_does_not_depend_on_the_block(image, fitted):
    whole = fitted.encode_field(fields(fitted, image)[1][0])
    block = (slice(9, 20), slice(14, 31))
    part = fitted.encode_field(fields(fitted, image, block=block)[1][0])
    np.testing.assert_allclose(part, whole[block], atol=1e-4)


def test_groups_have_unit_variance(image, fitted):
    found = fitted.encode_field(fields(fitted, image)[1][0]).reshape(-1, 24)
    for group in np.split(found, np.cumsum(fitted.feature_groups)[:-1], axis=1):
        assert group.var(axis=0).sum() == pytest.approx(1, abs=1e-3)


def test_is_invariant_to_rotation(image, fitted):
    # The pixels of all scales fill this square.
    square = image[:128, :128]
    found, turned = (
        fitted.encode_field(fields(fitted, one)[1][0]) for one in (square, np.rot90(square))
    )
    np.testing.assert_allclose(np.rot90(found)[3:-3, 3:-3], turned[3:-3, 3:-3], atol=1e-3)


def test_noise_is_measured_at_every_scale():
    rng = np.random.default_rng(3)
    image = rng.normal(0, 10, (256, 256)).astype(np.float32)
    encoder = LocalEncoder("local", ("image",))
    encoder = encoder.fit(fields(encoder, image)[1], kind="image")
    assert encoder.noise[0] == pytest.approx((10 / encoder.scale) ** 2, rel=0.1)
    assert all(np.diff(encoder.noise) < 0)


def test_chips_that_are_not_finite_are_nan(image, fitted):
    spoilt = image.copy()
    spoilt[40, 60] = np.nan
    found = fitted.encode_field(fields(fitted, spoilt)[1][0])
    bad = np.isnan(found).all(axis=-1)
    assert bad[10, 15] and bad.sum() == np.isnan(found).any(axis=-1).sum() == 4


def test_a_constant_image():
    encoder = LocalEncoder("local", ("image",))
    image = np.full((40, 50), 7, np.uint8)
    encoder = encoder.fit(fields(encoder, image)[1], kind="image")
    assert np.isfinite(encoder.encode_field(fields(encoder, image)[1][0])).all()


def test_single_chips_are_reflected(image, fitted):
    found = fitted.encode(np.stack([image[:8, :8], image[50:58, 30:38]]))
    assert found.shape == (2, 24) and np.isfinite(found).all()
