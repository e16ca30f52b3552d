import numpy as np
import pytest

from hyperspy_fewshot import get_encoder


def test_equals_its_definition_in_numpy(rng):
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


def test_sum_normalised_spectra_do_not_depend_on_the_sum(rng):
    spectra = rng.poisson(30, (50, 20)).astype(np.float32)
    by_profile = get_encoder("pca").fit(spectra, kind="spectrum", sum_normalise=True)
    by_counts = get_encoder("pca").fit(spectra, kind="spectrum")
    np.testing.assert_allclose(
        by_profile.encode(7 * spectra), by_profile.encode(spectra), atol=1e-5
    )
    assert np.linalg.norm(by_counts.encode(7 * spectra) - by_counts.encode(spectra)) > 100
    thick = get_encoder("pca").fit(7 * spectra, kind="spectrum", sum_normalise=True)
    np.testing.assert_allclose(
        abs(thick.encode(spectra)), abs(by_profile.encode(spectra)), atol=1e-4
    )


def test_empty_and_negative_spectra_stay_finite(rng):
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


def test_patterns_keep_reproduced_components(rng):
    means = rng.uniform(1, 9, (3, 30, 34))
    patterns = rng.poisson(means[rng.integers(0, 3, 300)]).astype(np.float32)
    # Three means differ in two directions; the other components are noise of single patterns.
    assert get_encoder("pca").fit(patterns, kind="pattern").components.shape == (30 * 34, 2)
    noise = rng.poisson(5, (300, 30, 34)).astype(np.float32)
    assert get_encoder("pca").fit(noise, kind="pattern").components.shape == (30 * 34, 1)


def test_bins_patterns_to_64_pixels(rng):
    patterns = rng.poisson(5, (12, 130, 150)).astype(np.float32)
    fitted = get_encoder("pca").fit(patterns, kind="pattern")
    # Both sides are binned by 3: 44 x 50, the last row from the remaining pixel.
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


def test_tiny_and_constant_samples(rng):
    pair = rng.poisson(9, (2, 6)).astype(np.float32)
    assert get_encoder("pca").fit(pair, kind="spectrum").encode(pair).shape == (2, 1)
    for same in (np.full((5, 6), 4.0, np.float32), np.zeros((5, 6), np.float32)):
        embeddings = get_encoder("pca").fit(same, kind="spectrum").encode(same)
        np.testing.assert_allclose(embeddings, 0, atol=1e-5)
        assert embeddings.shape == (5, 1)


def test_must_be_fitted():
    with pytest.raises(ValueError, match="has to be fitted first"):
        get_encoder("pca").encode(np.ones((2, 5)))
