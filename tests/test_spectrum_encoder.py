import pickle

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hyperspy_fewshot import FewShotClassifier, get_encoder, list_encoders
from hyperspy_fewshot.encoders import filters
from hyperspy_fewshot.encoders.filters import SpectrumNetwork
from hyperspy_fewshot.encoders.linear import LinearEncoder
from hyperspy_fewshot.encoders.pca import PCAEncoder
from hyperspy_fewshot.encoders.spectrum import SpectrumEncoder
from hyperspy_fewshot.encoders.weights import bundled_weights
from hyperspy_fewshot.pretrain.corpus import Corpus
from hyperspy_fewshot.pretrain.recipes import RECIPES, train
from hyperspy_fewshot.pretrain.spectra import BandCorpus, EdgeCorpus, XRayCorpus

CORPORA = (XRayCorpus, EdgeCorpus, BandCorpus)


@pytest.fixture
def encoder():
    return SpectrumEncoder.load()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def peaks(channels, *centres, width=4.0):
    """Spectra of one peak each on a flat background, shape (k, channels), of sum 1."""
    place = np.arange(channels)
    spectra = 0.3 / channels + np.exp(-((place - np.array(centres)[:, None]) ** 2) / 2 / width**2)
    return spectra / spectra.sum(axis=1, keepdims=True)


def few_shot_accuracy(encoder, counts, truth, seeds=3):
    """Share of queries right with five shots, mean over draws."""
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
    # Shapes are not: they are divided by the sum.
    linear = sum(fitted.blocks[:2])
    first, second, mixed = (
        fitted.encode(x)[:, :linear]
        for x in (counts[:5], counts[5:10], (counts[:5] + 3 * counts[5:10]) / 4)
    )
    np.testing.assert_allclose(mixed, (first + 3 * second) / 4, atol=1e-4)


def test_the_sum_counts_unless_only_the_shape_does(encoder, rng):
    counts = rng.poisson(400 * peaks(50, 10, 40)[rng.integers(0, 2, 70)]).astype(np.float32)
    by_shape = encoder.fit(counts, kind="spectrum", sum_normalise=True)
    by_counts = encoder.fit(counts, kind="spectrum")
    for fitted, by_sum in ((by_shape, [False, True, False]), (by_counts, [True, True, False])):
        edges = np.cumsum(fitted.blocks)[:-1]
        parts = [np.split(fitted.encode(x), edges, axis=1) for x in (7 * counts, counts)]
        apart = [abs(more - less).max() for more, less in zip(*parts, strict=True)]
        assert [bool(distance > 1) for distance in apart] == by_sum
        assert min(apart) < 1e-4
    # The unit of the data does not count.
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


def test_a_subtracted_background_does_not_lift_its_noise(encoder, rng):
    truth = rng.integers(0, 2, 200)
    shapes = peaks(120, 80, 95)
    background = 200 * np.exp(-np.arange(120) / 60)
    counts = rng.poisson(background + 300 * shapes[truth]) - background
    fitted = encoder.fit(counts.astype(np.float32), kind="spectrum")
    leading = fitted.encode(counts)[:, 0]
    assert abs(np.corrcoef(leading, truth)[0, 1]) > 0.9


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "u4", "f4", "f8"])
def test_any_type_of_number(encoder, rng, dtype):
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


def test_a_batch_is_embedded_item_by_item(encoder, rng):
    counts = rng.poisson(9, (30, 40)).astype(np.float32)
    fitted = encoder.fit(counts, kind="spectrum")
    one_by_one = np.concatenate([fitted.encode(counts[i : i + 1]) for i in range(30)])
    np.testing.assert_allclose(one_by_one, fitted.encode(counts), atol=1e-5)


def test_fitting_leaves_encoder_and_sample_as_they_are(encoder, rng):
    counts = rng.poisson(9, (30, 40)).astype(np.float32)
    before = counts.copy()
    fitted = encoder.fit(counts, kind="spectrum")
    fitted.encode(counts)
    np.testing.assert_array_equal(counts, before)
    assert encoder.components is None and fitted != encoder


def test_must_be_fitted(encoder):
    with pytest.raises(ValueError, match="'spectrum' encoder has to be fitted first"):
        encoder.encode(np.ones((2, 5)))


def test_pickles_small_and_equal(encoder, rng):
    counts = rng.poisson(9, (30, 40)).astype(np.float32)
    fitted = encoder.fit(counts, kind="spectrum")
    packed = pickle.dumps(fitted)
    assert len(packed) < 8000
    again = pickle.loads(packed)
    assert again == fitted
    np.testing.assert_array_equal(again.encode(counts), fitted.encode(counts))
    # What is saved with a result is the fields.
    assert SpectrumEncoder(**fitted.state()) == fitted


def test_fitting_again_gives_the_same(encoder, rng):
    counts = rng.poisson(9, (60, 50)).astype(np.float32)
    before = torch.get_num_threads()
    first = encoder.fit(counts, kind="spectrum")
    torch.set_num_threads(3)
    again = encoder.fit(counts, kind="spectrum")
    torch.set_num_threads(before)
    assert again == first and again.sha256 == first.sha256


def test_the_digest_covers_the_weights(encoder, tmp_path):
    bundled = bundled_weights("spectrum")
    assert bundled.stat().st_size < 4 * 2**20
    copy = tmp_path / "copy.safetensors"
    save_file(SpectrumNetwork().state_dict(), copy)
    other = SpectrumEncoder.load(copy)
    assert other.sha256 != encoder.sha256
    copy.write_bytes(bundled.read_bytes())
    assert SpectrumEncoder.load(copy) == encoder
    with pytest.raises(ValueError, match="The weights in 'copy.safetensors' have changed"):
        other.fit(np.ones((3, 9), np.float32), kind="spectrum")


def test_is_bundled(encoder):
    assert get_encoder("spectrum") == encoder
    assert "spectrum" in list_encoders("spectrum") and "spectrum" not in list_encoders("image")


# Its parts.


def test_scales_add_up():
    scales = filters._scales(23)
    assert scales.shape == (7, 23, 23)
    np.testing.assert_allclose(scales.sum(0).numpy(), np.eye(23), atol=1e-6)


def test_smoothing_equals_a_loop():
    values, width, found = np.arange(9.0) ** 2, 2.0, []
    for i in range(9):
        weights = [np.exp(-((i - j) ** 2) / (2 * width**2)) for j in range(9)]
        found.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    smoothed = torch.as_tensor(values, dtype=torch.float32) @ filters._gaussian(9, width)
    np.testing.assert_allclose(smoothed.numpy(), found, rtol=1e-5)


def test_noise_and_number_of_independent_spectra(rng):
    counts = rng.poisson(40, (400, 300)).astype(np.float32)
    # A channel of signal, and channels that are almost empty.
    counts[:, 50] = rng.uniform(0, 400, 400)
    counts[:, 200:] = rng.poisson(0.02, (400, 100))
    repeated = torch.as_tensor(np.repeat(counts, 5, axis=0))
    scaled = filters.Scaled.of(repeated)
    found = scaled.spectra.var(0)
    np.testing.assert_allclose(scaled.noise[:40], found[:40], rtol=0.3)
    assert float(scaled.noise[200:].mean()) == pytest.approx(float(found[200:].mean()), rel=0.3)
    assert scaled.independent() == pytest.approx(400, rel=0.1)


def test_traces_are_those_of_filtered_noise(rng):
    counts = torch.as_tensor(rng.poisson(40, (50, 12)), dtype=torch.float32)
    scaled = filters.Scaled.of(counts)
    matrix = rng.normal(size=(12, 12)).astype(np.float32)
    covariance = matrix.T @ np.diag(scaled.noise.numpy()) @ matrix
    found = [float(trace) for trace in scaled.traces(torch.as_tensor(matrix))]
    np.testing.assert_allclose(
        found, [np.trace(covariance), np.trace(covariance @ covariance)], rtol=1e-4
    )


def test_signal_variance_along_sample_components(rng):
    n, p, strong, weak = 1000, 500, 5.0, 0.3
    signal = rng.normal(size=(n, 2)) * np.sqrt([strong, weak])
    data = rng.normal(size=(n, p))
    data[:, :2] += signal
    variance, vectors = np.linalg.eigh(data.T @ data / n)
    found = filters._signal_variance(variance[::-1][:2], 1.0, p / n)
    along = strong * vectors[0, -1] ** 2
    assert found[0] == pytest.approx(along, rel=0.1)
    # Below the noise of so few spectra.
    assert found[1] == 0


def test_untrained_network_keeps_all_scales(rng):
    counts = torch.as_tensor(rng.poisson(40, (30, 26)), dtype=torch.float32)
    found = SpectrumNetwork().filters(filters.Scaled.of(counts))
    np.testing.assert_allclose(found.detach().numpy(), np.eye(26), atol=1e-5)


def test_network_embeds_a_batch_and_its_gradient_is_finite(rng):
    network = SpectrumNetwork()
    items = torch.as_tensor(XRayCorpus(channels=50).specimen(rng, 3, 5)).flatten(0, 1)
    embeddings = network(items)
    assert embeddings.shape == (15, 50)
    embeddings.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


# Its training.


def test_training_gives_weights_that_the_encoder_takes(tmp_path, encoder):
    options = {"steps": 2, "workers": 0, "show_progressbar": False}
    first, again, other = (
        train("spectrum", tmp_path / str(i), seed=seed, **options)
        for i, seed in enumerate((3, 3, 4))
    )
    assert first.name == "spectrum.safetensors"
    mine = get_encoder("spectrum", weights=first)
    assert mine == get_encoder("spectrum", weights=again) != encoder
    assert mine != get_encoder("spectrum", weights=other)
    log = (tmp_path / "0" / "log.csv").read_text().splitlines()
    assert [line.split(",")[3] for line in log[1:]] == ["x-ray lines", "edges", "bands"]


def test_an_episode_is_of_one_specimen():
    # Filters follow from all items, and are those of a data set.
    assert RECIPES["spectrum"].plan.specimens == 1


def test_images_are_not_for_spectra(tmp_path):
    hs.signals.Signal2D(np.ones((90, 90))).save(tmp_path / "image.hspy")
    with pytest.raises(ValueError, match="trained on spectra; leave the images out"):
        train("spectrum", tmp_path / "out", images=tmp_path)


# Its corpora.


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_specimen_follows_from_its_seed(corpus):
    first, again, other = (
        corpus(channels=70).specimen(np.random.default_rng(seed), 3, 5) for seed in (1, 1, 2)
    )
    assert first.shape == (3, 5, 70) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("corpus", CORPORA)
def test_specimens_are_counts_of_the_level_asked_for(corpus, rng):
    made = corpus(channels=70, counts=(500, 500))
    assert isinstance(made, Corpus)
    spectra = made.specimen(rng, 4, 20)
    assert (spectra >= 0).all()
    sums = spectra.sum(axis=-1)
    assert sums.mean() == pytest.approx(1, abs=1e-3)
    if made.by_shape:
        np.testing.assert_allclose(sums, 1, rtol=1e-5)
    else:
        # In units of one count all are integers.
        counts = spectra / spectra[spectra > 0].min()
        np.testing.assert_allclose(counts, counts.round(), atol=1e-2)


def test_members_of_a_class_are_alike(rng):
    for corpus in CORPORA:
        expected = [draw(rng, 6) for draw in corpus(related=0.0).classes(rng, 5)]
        assert expected[0].shape == (6, 384)
        means = np.stack([members.mean(axis=0) for members in expected])
        inside = np.mean([members.std(axis=0).mean() for members in expected])
        assert means.std(axis=0).mean() > inside / 2
