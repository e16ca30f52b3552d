import numpy as np
import pytest

from hyperspy_fewshot.encoders.components import (
    eigenpairs,
    leading_components,
    poisson_weights,
    principal_components,
)


def test_components_equal_singular_vectors(rng):
    for n, p in [(60, 12), (9, 40)]:
        features = (rng.normal(size=(n, 3)) * [9, 4, 2]) @ rng.normal(size=(3, p))
        features += 0.1 * rng.normal(size=(n, p)) + 5
        mean, components = principal_components(features.astype(np.float32), 3, 0.0)
        np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
        _, singular, rows = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        expected = rows[:3].T @ rows[:3]
        np.testing.assert_allclose(components @ components.T, expected, atol=1e-3)
        variance = ((features - mean) @ components).var(axis=0)
        np.testing.assert_allclose(variance, singular[:3] ** 2 / n, rtol=1e-3)


def test_components_are_divided_by_a_power_of_the_variance(rng):
    features = (rng.normal(size=(400, 5)) * [8, 4, 2, 1, 0.5]).astype(np.float32)
    spreads = {
        power: ((features - mean) @ components).std(axis=0)
        for power in (0.0, 0.25, 0.5)
        for mean, components in [principal_components(features, 4, power)]
    }
    np.testing.assert_allclose(spreads[0.5], 1, rtol=1e-3)
    np.testing.assert_allclose(spreads[0.25], np.sqrt(spreads[0.0]), rtol=1e-3)


def test_components_do_not_exceed_the_rank(rng):
    rank_two = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 30))
    assert principal_components(rank_two.astype(np.float32), 8, 0.0)[1].shape == (30, 2)
    pair = rng.normal(size=(2, 30)).astype(np.float32)
    mean, components = principal_components(pair, 8, 0.0)
    assert components.shape == (30, 1)
    between = (pair - mean) @ components
    np.testing.assert_allclose(
        abs(between[0] - between[1]), np.linalg.norm(pair[0] - pair[1]), rtol=1e-4
    )
    for n in (1, 5):
        mean, components = principal_components(np.full((n, 6), 3.0, np.float32), 8, 0.5)
        np.testing.assert_allclose(components, np.full((6, 1), 1 / 6))
        np.testing.assert_allclose((np.full((1, 6), 4.0) - mean) @ components, [[1]], rtol=1e-6)


def test_components_of_many_features(rng):
    features = rng.normal(size=(1100, 3)) * [30, 20, 10] @ rng.normal(size=(3, 1040)) / 30
    features = (features + 0.01 * rng.normal(size=(1100, 1040))).astype(np.float32)
    mean, components = principal_components(features, 3, 0.0)
    centred = features - mean
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-4)
    turned = centred.T @ (centred @ components) / 1100
    variance = (centred @ components).var(axis=0)
    np.testing.assert_allclose(turned, components * variance, atol=1e-4 * variance[0])
    assert variance.sum() > 0.99 * centred.var(axis=0).sum()
    np.testing.assert_array_equal(components, principal_components(features, 3, 0.0)[1])


def test_only_reproduced_components_are_kept(rng):
    n, p = 60, 400
    signal = rng.normal(size=(n, 3)) * [9, 7, 5] @ np.linalg.qr(rng.normal(size=(p, 3)))[0].T
    features = (signal + 0.3 * rng.normal(size=(n, p))).astype(np.float32)
    assert principal_components(features, 20, reproduced=True)[1].shape == (p, 3)
    assert principal_components(features, 20)[1].shape == (p, 20)
    noise = rng.normal(size=(n, p)).astype(np.float32)
    assert principal_components(noise, 20, reproduced=True)[1].shape == (p, 1)


@pytest.mark.parametrize("size, k", [(30, 5), (200, 4), (200, 150)])
def test_eigenpairs_equal_those_of_numpy(rng, size, k):
    features = rng.normal(size=(size + 9, size)) * np.linspace(1, 4, size)
    matrix = (features.T @ features).astype(np.float32)
    values, vectors = eigenpairs(matrix, k)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1][:k], rtol=1e-4)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-3 * values[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-4)


def test_eigenpairs_leave_out_rounding_errors():
    matrix = np.diag(np.array([5, 3, 1e-9, 0, 0], np.float32))
    np.testing.assert_allclose(eigenpairs(matrix, 5)[0], [5, 3])
    values, vectors = eigenpairs(np.zeros((300, 300), np.float32), 4)
    np.testing.assert_array_equal(values, [0])
    assert vectors.shape == (300, 1)


def test_poisson_noise_gets_equal_variance(rng):
    mean = np.geomspace(4, 400, 7)
    counts = rng.poisson(mean, (20_000, 7)).astype(np.float32)
    scaled = counts * poisson_weights(counts.mean(axis=0))
    np.testing.assert_allclose(scaled.var(axis=0), mean / (mean + 0.01 * mean.mean()), rtol=0.05)
    np.testing.assert_array_equal(poisson_weights(np.zeros(3)), np.ones(3))
    np.testing.assert_allclose(poisson_weights(-mean), poisson_weights(mean))


@pytest.mark.parametrize("kind, most", [("spectrum", 8), ("image", 64)])
def test_leading_components_apply_to_unscaled_features(rng, kind, most):
    features = rng.poisson(np.linspace(1, 30, 90), (200, 90)).astype(np.float32)
    mean, components = leading_components(features, kind)
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
    weights = poisson_weights(features.mean(axis=0))
    centred = (features - features.mean(axis=0)) * weights
    found = (features - mean) @ components
    values, vectors = np.linalg.eigh(centred.T @ centred / 200)
    power = {"spectrum": 0.0, "image": 0.25}[kind]
    expected = centred @ vectors[:, ::-1][:, :most] * values[::-1][:most] ** -power
    assert found.shape == (200, most)
    np.testing.assert_allclose(abs(found), abs(expected), atol=1e-2 * abs(expected).max())
