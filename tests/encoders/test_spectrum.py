import pickle

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from hyperspy_fewshot import FewShotClassifier, get_encoder, list_encoders
from hyperspy_fewshot.encoders import spectrum
from hyperspy_fewshot.encoders.components import poisson_weights
from hyperspy_fewshot.encoders.pca import LinearEncoder, PCAEncoder
from hyperspy_fewshot.encoders.spectrum import SpectrumEncoder


@pytest.fixture
def encoder():
    return get_encoder("spectrum")


def peaks(channels, *centres, width=4.0):
    """Spectra of one peak each on a flat background, shape (k, channels), of sum 1."""
    place = np.arange(channels)
    spectra = 0.3 / channels + np.exp(-((place - np.array(centres)[:, None]) ** 2) / 2 / width**2)
    return spectra / spectra.sum(axis=1, keepdims=True)


def few_shot_accuracy(encoder, counts, truth, seeds=3):
    """Accuracy with five shots, mean over draws."""
    fitted = encoder.fit(counts, kind="spectrum", sum_normalise=True)
    embeddings, right = fitted.encode(counts), []
    names = tuple("abcdefgh"[: truth.max() + 1])
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(truth))
        shots = np.concatenate([order[truth[order] == k][:5] for k in range(len(names))])
        classifier = FewShotClassifier.fit(
            embeddings[shots], np.arange(len(shots)), truth[shots], names,
            centre=embeddings.mean(axis=0), reject=False,
        )  # fmt: skip
        labels = classifier.predict(embeddings)[:, -2]
        queries = np.setdiff1d(order, shots)
        right.append((labels == truth)[queries].mean())
    return np.mean(right)


def test_beats_pca_where_channels_are_many_and_counts_few(encoder):
    background = np.exp(-np.arange(1000) / 300)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 4, 200)
        spectra = peaks(1000, 150, 230, 420, 610, width=8.0)
        rates = spectra[truth] + spectra.mean(axis=0) + 3 * background / background.sum()
        counts = rng.poisson(12 * rates).astype(np.float32)
        ours = few_shot_accuracy(encoder, counts, truth)
        assert ours > few_shot_accuracy(PCAEncoder(name="pca"), counts, truth) + 0.05


def test_is_linear_in_the_counts(encoder, rng):
    counts = rng.poisson(20 * peaks(60, 10, 40)[rng.integers(0, 2, 70)]).astype(np.float32)
    fitted = encoder.fit(counts, kind="spectrum")
    # The third group is not: it is divided by the sum.
    linear = sum(fitted.feature_groups[:2])
    first, second, mixed = (
        fitted.encode(x)[:, :linear]
        for x in (counts[:5], counts[5:10], (counts[:5] + 3 * counts[5:10]) / 4)
    )
    np.testing.assert_allclose(mixed, (first + 3 * second) / 4, atol=1e-4)


def test_dependence_on_the_sum(encoder, rng):
    counts = rng.poisson(400 * peaks(50, 10, 40)[rng.integers(0, 2, 70)]).astype(np.float32)
    by_profile = encoder.fit(counts, kind="spectrum", sum_normalise=True)
    by_counts = encoder.fit(counts, kind="spectrum")
    for fitted, by_sum in ((by_profile, [False, True, False]), (by_counts, [True, True, False])):
        edges = np.cumsum(fitted.feature_groups)[:-1]
        parts = [np.split(fitted.encode(x), edges, axis=1) for x in (7 * counts, counts)]
        apart = [abs(more - less).max() for more, less in zip(*parts, strict=True)]
        assert [bool(distance > 1) for distance in apart] == by_sum
        assert min(apart) < 1e-4
    # The unit of the data does not matter.
    np.testing.assert_allclose(
        encoder.fit(9 * counts, kind="spectrum").encode(9 * counts),
        by_counts.encode(counts),
        rtol=1e-2,
        atol=1e-2,
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 9, 30])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_few_channels_and_few_spectra(encoder, rng, channels, n):
    counts = rng.poisson(9, (n, channels)).astype(np.float32)
    embeddings = encoder.fit(counts, kind="spectrum").encode(counts)
    assert embeddings.shape[0] == n and 3 <= embeddings.shape[1] <= 3 * min(channels, 8)
    assert np.isfinite(embeddings).all()


@pytest.mark.parametrize("sum_normalise", [True, False])
def test_zero_constant_and_negative_spectra_stay_finite(encoder, rng, sum_normalise):
    counts = rng.poisson(30, (50, 20)).astype(np.float32)
    subtracted = counts - counts.mean(axis=0)
    for sample in (subtracted, -counts, np.zeros_like(counts), np.full_like(counts, 3)):
        fitted = encoder.fit(sample, kind="spectrum", sum_normalise=sum_normalise)
        assert np.isfinite(fitted.encode(sample)).all()


def test_background_subtraction(encoder, rng):
    truth = rng.integers(0, 2, 200)
    shapes = peaks(120, 80, 95)
    background = 200 * np.exp(-np.arange(120) / 60)
    counts = rng.poisson(background + 300 * shapes[truth]) - background
    fitted = encoder.fit(counts.astype(np.float32), kind="spectrum")
    leading = fitted.encode(counts)[:, 0]
    assert abs(np.corrcoef(leading, truth)[0, 1]) > 0.9


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "u4", "f4", "f8"])
def test_any_dtype(encoder, rng, dtype):
    counts = rng.poisson(9, (30, 40))
    fitted = encoder.fit(counts.astype(np.float32), kind="spectrum")
    np.testing.assert_allclose(
        fitted.encode(counts.astype(dtype)), fitted.encode(counts.astype("f4")), atol=1e-6
    )


def test_many_channels_are_binned(encoder, rng, monkeypatch):
    monkeypatch.setitem(LinearEncoder.longest, 1, 20)
    counts = rng.poisson(9, (30, 45)).astype(np.float32)
    binned = np.stack([counts[:, i : i + 3].mean(axis=1) for i in range(0, 45, 3)], axis=1)
    long, short = (encoder.fit(x, kind="spectrum") for x in (counts, binned))
    assert long.signs.shape == (15,)
    np.testing.assert_allclose(long.encode(counts), short.encode(binned), atol=1e-4)


def test_embeddings_do_not_depend_on_the_batch(encoder, rng):
    counts = rng.poisson(9, (30, 40)).astype(np.float32)
    fitted = encoder.fit(counts, kind="spectrum")
    one_by_one = np.concatenate([fitted.encode(counts[i : i + 1]) for i in range(30)])
    np.testing.assert_allclose(one_by_one, fitted.encode(counts), atol=1e-5)


def test_fit_changes_neither_encoder_nor_sample(encoder, rng):
    counts = rng.poisson(9, (30, 40)).astype(np.float32)
    before = counts.copy()
    fitted = encoder.fit(counts, kind="spectrum")
    fitted.encode(counts)
    np.testing.assert_array_equal(counts, before)
    assert encoder.components is None and fitted != encoder


def test_must_be_fitted(encoder):
    with pytest.raises(ValueError, match="'spectrum' encoder has to be fitted first"):
        encoder.encode(np.ones((2, 5)))


def test_pickle_is_small_and_equal(encoder, rng):
    counts = rng.poisson(9, (30, 40)).astype(np.float32)
    fitted = encoder.fit(counts, kind="spectrum")
    packed = pickle.dumps(fitted)
    assert len(packed) < 8000
    again = pickle.loads(packed)
    assert again == fitted
    np.testing.assert_array_equal(again.encode(counts), fitted.encode(counts))
    # Files of results hold the fields.
    assert SpectrumEncoder(**fitted.state()) == fitted


def test_is_bundled(encoder):
    assert get_encoder("spectrum") == encoder
    assert "spectrum" in list_encoders("spectrum") and "spectrum" not in list_encoders("image")


def test_equals_its_definition_in_numpy(encoder, rng):
    counts = rng.poisson(30 * peaks(50, 10, 30)[rng.integers(0, 2, 80)] + 2).astype(np.float32)
    fitted = encoder.fit(counts, kind="spectrum", sum_normalise=True)
    profiles = counts / counts.sum(axis=1, keepdims=True)

    def scores(items, smooth):
        scaled = (items - items.mean(axis=0)) * poisson_weights(items.mean(axis=0))
        if smooth:
            scaled = gaussian_filter1d(scaled, 2, axis=1)
        left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
        variance = singular**2 / len(items)
        found = left[:, :8] * singular[:8]
        return found * (1 - variance[8] / variance[:8]) * variance[:8] ** -0.25 if smooth else found

    expected = [scores(profiles, True), scores(counts, False), scores(profiles, False)]
    # Scaled to a total variance of 1; smoothing a second time is part of the first group only.
    groups = np.split(fitted.encode(counts), np.cumsum(fitted.feature_groups)[:-1], axis=1)
    assert fitted.feature_groups == (8, 8, 8)
    for group, scores_ in zip(groups, expected, strict=True):
        scores_ = scores_ / np.sqrt(scores_.var(axis=0).sum())
        # Components are defined up to their sign.
        np.testing.assert_allclose(abs(group), abs(scores_), atol=2e-2 * abs(scores_).max())


def test_components_of_noise_get_little_weight(encoder, rng):
    counts = rng.poisson(4000 * peaks(200, 60, 120)[rng.integers(0, 2, 300)]).astype(np.float32)
    smoothed = encoder.fit(counts, kind="spectrum", sum_normalise=True).encode(counts)[:, :8]
    share = smoothed.var(axis=0) / smoothed.var(axis=0).sum()
    assert share[0] > 0.95


def test_large_samples_are_subsampled(encoder, rng, monkeypatch):
    counts = rng.poisson(300 * peaks(40, 10, 30)[rng.integers(0, 2, 900)]).astype(np.float32)
    whole = encoder.fit(counts, kind="spectrum")
    monkeypatch.setattr(spectrum, "_LEARNT_FROM", 500)
    part, again = (encoder.fit(counts, kind="spectrum") for _ in range(2))
    assert part == again != whole
    cosine = np.corrcoef(part.encode(counts)[:, 0], whole.encode(counts)[:, 0])[0, 1]
    assert abs(cosine) > 0.99
