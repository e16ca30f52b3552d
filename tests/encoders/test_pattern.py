import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hyperspy_fewshot import get_encoder
from hyperspy_fewshot.encoders.components import leading_components
from hyperspy_fewshot.encoders.network import EMBEDDING, StemNetwork
from hyperspy_fewshot.encoders.pattern import StemPatternEncoder
from hyperspy_fewshot.encoders.weights import bundled_weights


@pytest.fixture(scope="module")
def encoder():
    return get_encoder("stem")


def assert_close(found, expected, part=1e-5):
    """Equal to a fraction of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=part * np.max(abs(expected)))


@pytest.mark.parametrize(
    "shape", [(48, 52), (7, 9), (64, 64), (100, 33), (16, 1024), (1, 500), (36, 1)]
)
def test_patterns_of_any_shape(encoder, shape):
    patterns = np.random.default_rng(0).poisson(20, (30, *shape)).astype(np.uint16)
    fitted = encoder.fit(patterns.astype(np.float32), kind="pattern")
    assert type(fitted) is StemPatternEncoder and not fitted.dense
    found = fitted.encode(patterns)
    assert found.shape == (30, sum(fitted.feature_groups)) and np.isfinite(found).all()
    assert_close(fitted.encode(patterns[5:7]), found[5:7])
    assert_close(fitted.encode(patterns.astype(">f8")), found)
    again = pickle.loads(pickle.dumps(fitted))
    assert again == fitted and again != encoder


def test_what_was_set_is_handed_on_to_the_encoder_of_patterns(encoder):
    given = {"dihedral": True, "batch_size": 7, "name": "mine", "kinds": ("pattern",)}
    fitted = replace(encoder, **given).fit(np.ones((5, 8, 8), np.float32), kind="pattern")
    assert type(fitted) is StemPatternEncoder
    assert {name: getattr(fitted, name) for name in given} == given
    assert fitted.digest == encoder.digest


def test_single_and_constant_patterns_stay_finite(encoder):
    for patterns in (np.ones((1, 8, 8), np.float32), np.full((5, 8, 8), 3, np.float32)):
        assert np.isfinite(encoder.fit(patterns, kind="pattern").encode(patterns)).all()


def test_equals_its_definition(encoder):
    patterns = np.random.default_rng(0).poisson(20, (40, 64, 64)).astype(np.float32)
    fitted = encoder.fit(patterns, kind="pattern")
    network = StemNetwork().eval()
    network.load_state_dict(load_file(bundled_weights("stem")))
    low, middle, high = np.percentile(patterns, (1, 50, 99))
    with torch.no_grad():
        learnt = network.patterns(
            torch.as_tensor((patterns - middle) / (high - low)).float()
        ).numpy()
    features = patterns.reshape(40, -1)
    mean, components = leading_components(features, "pattern")
    found = np.split(fitted.encode(patterns), [EMBEDDING], axis=1)
    for group, expected in zip(found, (learnt, (features - mean) @ components), strict=True):
        expected = expected / np.sqrt(expected.var(axis=0).sum())
        assert_close(group, expected, 1e-3)


def test_large_patterns_are_resampled(encoder):
    patterns = np.random.default_rng(0).poisson(20, (9, 130, 70)).astype(np.float32)
    assert encoder.fit(patterns, kind="pattern").reduce(patterns).shape == (9, 64, 64)
    small = patterns[:, :60, :50]
    fitted = encoder.fit(small, kind="pattern")
    np.testing.assert_array_equal(fitted.reduce(small), small)
    np.testing.assert_array_equal(fitted.encode_reduced(small), fitted.encode(small))
