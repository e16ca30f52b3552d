import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from hyperspy_fewshot import data, get_encoder
from hyperspy_fewshot.encoders.pattern import ANGLES, FLOOR, HARMONICS, RINGS, PatternEncoder


@pytest.fixture(scope="module")
def encoder():
    return get_encoder("pattern")


def fit(patterns, **given):
    encoder = replace(get_encoder("pattern"), **given)
    return encoder.fit(patterns.astype(np.float32), kind="pattern")


def assert_close(found, expected, part=1e-4):
    """Equal to a fraction of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=part * np.max(abs(expected)))


def spots(turn=0.0, spacing=11.0, shift=(0.0, 0.0), shape=(47, 52), counts=None, seed=0):
    """Draw a direct beam and a rotated lattice of spots, 2 sigma of 3 px each."""
    h, k = np.mgrid[-4:5, -4:5].reshape(2, -1)
    along, across = spacing * h, 0.8 * spacing * k
    rows = (shape[0] - 1) / 2 + shift[0] + along * np.cos(turn) + across * np.sin(turn)
    columns = (shape[1] - 1) / 2 + shift[1] - along * np.sin(turn) + across * np.cos(turn)
    heights = np.where((h == 0) & (k == 0), 8.0, np.exp(-(h**2 + k**2) / 8) * (1 + 0.3 * (h > 0)))
    y, x = np.ogrid[: shape[0], : shape[1]]
    squared = (y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2
    pattern = 0.02 + (heights * np.exp(-squared / 4.5)).sum(axis=-1)
    if counts is None:
        return pattern
    rng = np.random.default_rng(seed)
    return rng.poisson(pattern * counts / pattern.sum()).astype(np.uint16)


@pytest.mark.parametrize(
    "shape", [(48, 52), (7, 9), (64, 64), (100, 33), (16, 1024), (1, 500), (36, 1), (44, 61)]
)
def test_patterns_of_any_shape(encoder, shape):
    patterns = np.random.default_rng(0).poisson(20, (30, *shape)).astype(np.uint16)
    fitted = fit(patterns)
    assert type(fitted) is PatternEncoder and not fitted.dense
    found = fitted.encode(patterns)
    assert found.shape == (30, sum(fitted.feature_groups)) and np.isfinite(found).all()
    assert found.dtype == np.float32
    assert_close(fitted.encode(patterns[5:7]), found[5:7])
    assert_close(fitted.encode(patterns.astype(">f8")), found)
    np.testing.assert_array_equal(fitted.encode_reduced(fitted.reduce(patterns)), found)
    again = pickle.loads(pickle.dumps(fitted))
    assert again == fitted and again != encoder


def test_what_was_set_is_kept():
    given = {"dihedral": True, "batch_size": 7, "name": "mine"}
    fitted = fit(np.ones((5, 8, 8)), **given)
    assert {name: getattr(fitted, name) for name in given} == given


@pytest.mark.parametrize("value", [0, 3, -2.5, 1e6])
@pytest.mark.parametrize("number", [1, 5])
def test_single_and_constant_patterns_stay_finite(number, value):
    patterns = np.full((number, 8, 9), value, np.float32)
    found = fit(patterns).encode(patterns)
    assert np.isfinite(found).all() and abs(found).max() < 0.01


def test_it_has_to_be_fitted_first(encoder):
    with pytest.raises(ValueError, match=r"'pattern' encoder has to be fitted first: encoder\.fit"):
        encoder.encode(np.ones((3, 8, 8)))


def test_equals_its_definition():
    """Without descan: components of the pattern, of its invariants, and the moments."""
    patterns = np.random.default_rng(0).poisson(20, (40, 31, 37)).astype(np.float32)
    fitted = fit(patterns)
    assert fitted.reference is None and fitted.fixed_components is None
    level = np.maximum(patterns.astype(float) - np.percentile(patterns, 0.1), 0)
    level /= level.mean()
    logs = np.log(level + FLOOR)
    logs -= logs.mean(axis=(1, 2), keepdims=True)
    spread = logs.std(axis=(1, 2))
    normed = logs / np.maximum(spread, np.median(spread) / 2)[:, None, None]
    invariants = [_invariants(pattern, fitted.middle) for pattern in normed]
    moments = np.log(np.stack([level.mean((1, 2)), level.std((1, 2))], axis=1) + 0.1)
    parts = [
        normed.reshape(40, -1) @ fitted.components,
        np.reshape(invariants, (40, -1)) @ fitted.polar_components,
        moments * fitted.moment_scale,
    ]
    expected = np.concatenate([part - part.mean(axis=0) for part in parts], axis=1)
    assert_close(fitted.encode(patterns), expected, 1e-3)
    lengths = np.cumsum((0, *fitted.feature_groups))
    variances = np.add.reduceat(expected.var(axis=0), lengths[:-1])
    np.testing.assert_allclose(variances[:2], [1, 0.25], rtol=1e-3)
    assert 0 < variances[2] < 0.0626


def _invariants(pattern, middle):
    """Magnitudes of the harmonics of one pattern, ring by ring."""
    width = min(pattern.shape) / 2 / RINGS
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    rings = []
    for radius in (np.arange(RINGS) + 0.5) * width:
        places = [middle[0] + radius * np.sin(angles), middle[1] + radius * np.cos(angles)]
        ring = ndimage.map_coordinates(pattern, places, order=1, mode="nearest")
        rings.append(abs(np.fft.rfft(ring * np.sqrt(radius), norm="ortho"))[:HARMONICS])
    return rings


def test_large_patterns_are_binned():
    patterns = np.random.default_rng(0).poisson(20, (9, 131, 70)).astype(np.uint16)
    reduced = get_encoder("pattern").reduce(patterns)
    assert reduced.shape == (9, 44, 35) and reduced.dtype == np.float32
    whole = patterns[:, :129].reshape(9, 43, 3, 35, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(reduced[:, :43], whole, rtol=1e-6)
    rest = patterns[:, 129:].reshape(9, 2, 35, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced[:, 43], rest, rtol=1e-6)
    small = patterns[:, :60, :50].astype(np.float32)
    assert get_encoder("pattern").reduce(small) is small


def test_reducing_is_linear_and_keeps_what_is_not_finite():
    first, second = np.random.default_rng(0).random((2, 5, 100, 90)).astype(np.float32)
    reduce = get_encoder("pattern").reduce
    np.testing.assert_allclose(
        reduce(2 * first + second), 2 * reduce(first) + reduce(second), rtol=1e-5
    )
    first[2, 99, 3] = np.nan
    assert np.isnan(reduce(first)[2, 49, 1]) and np.isnan(reduce(first)).sum() == 1


def test_patterns_that_are_not_finite_stay_alone():
    shifts = np.random.default_rng(1).uniform(-3, 3, (60, 2))
    patterns = np.array([spots(shift=shift) for shift in shifts], np.float32)
    fitted = fit(patterns)
    assert fitted.reference is not None
    expected = fitted.encode(patterns)
    patterns[7, 3, 4] = np.nan
    found = fitted.encode(patterns)
    assert np.isnan(found[7]).all()
    np.testing.assert_array_equal(np.delete(found, 7, 0), np.delete(expected, 7, 0))


@pytest.mark.parametrize("change", [lambda x: 3 * x, lambda x: x + 100.0, lambda x: x - 50.0])
def test_gain_and_offset_of_the_camera_do_not_matter(change):
    patterns = np.random.default_rng(0).poisson(np.tile([[spots()]], (40, 1, 1, 1))[:, 0] * 9)
    patterns = patterns.astype(np.float32)
    assert_close(
        fit(change(patterns)).encode(change(patterns)), fit(patterns).encode(patterns), 5e-3
    )


def test_masked_pixels_do_not_hide_the_offset_of_the_camera():
    patterns = np.random.default_rng(0).poisson(5, (40, 30, 34)) + 200.0
    patterns[:, :9] = 0
    assert 195 < fit(patterns).offset < 205


def within_share(group, kinds):
    """Share of the variance of a group that lies within two kinds of items."""
    within = np.mean([group[kinds == kind].var(axis=0).sum() for kind in (0, 1)])
    return within / group.var(axis=0).sum()


def groups_of(fitted, embeddings):
    return np.split(embeddings, np.cumsum(fitted.feature_groups)[:-1], axis=-1)


def test_rotation_changes_the_pattern_but_not_its_invariants():
    """Two phases in any orientation are told by the second group."""
    rng = np.random.default_rng(0)
    turns, phases = rng.uniform(0, 2 * np.pi, 200), np.arange(200) % 2
    patterns = np.array(
        [
            spots(turn, (11.0, 12.5)[phase], counts=20_000, seed=i)
            for i, (turn, phase) in enumerate(zip(turns, phases, strict=True))
        ]
    )
    fitted = fit(patterns)
    aligned, polar = groups_of(fitted, fitted.encode(patterns))[:2]
    assert within_share(aligned, phases) > 0.9 and within_share(polar, phases) < 0.5
    means = np.array([polar[:100][phases[:100] == phase].mean(axis=0) for phase in (0, 1)])
    distances = ((polar[100:, None] - means) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(distances.argmin(axis=1), phases[100:])


def test_descan_is_removed():
    rng = np.random.default_rng(0)
    shifts, kinds = rng.uniform(-4, 4, (120, 2)), np.arange(120) % 2
    patterns = np.array(
        [
            spots(0.1 * kind, shift=shift, counts=100_000, seed=i)
            for i, (shift, kind) in enumerate(zip(shifts, kinds, strict=True))
        ]
    )
    fitted = fit(patterns)
    assert fitted.reference is not None and len(fitted.feature_groups) == 4
    aligned, _, fixed, _ = groups_of(fitted, fitted.encode(patterns))
    assert within_share(aligned, kinds) < 0.6 and within_share(fixed, kinds) > 0.9


def test_patterns_at_rest_are_not_aligned():
    """Different orientations are no descan, and neither is noise."""
    turned = [spots(0.1 * (i % 4), counts=3000, seed=i) for i in range(80)]
    assert fit(np.array(turned)).reference is None
    noise = np.random.default_rng(0).poisson(3, (80, 40, 44))
    assert fit(noise).reference is None


def test_total_intensity_is_kept_in_the_moments():
    """Thickness alone changes the last group only."""
    dark = np.random.default_rng(0).poisson(40 * spots(), (60, 47, 52)) + 0.0
    patterns = dark * np.where(np.arange(60) % 2, 2.0, 1.0)[:, None, None]
    *_, moments = groups_of(fitted := fit(patterns), fitted.encode(patterns))
    assert (moments[1::2, 0].min() > moments[::2, 0].max()) and np.isfinite(moments).all()


def test_domains_of_few_counts():
    """Better than components of counts, with five shots and with one."""
    scan = data.diffraction_scan(counts=100.0, domains=4, seed=3)
    for shots in (1, 5):
        found = {}
        for name in ("pattern", "pca"):
            support = scan.support(shots=shots, seed=1)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "With one example")
                result = scan.signal.fewshot_classify(support, encoder=name, reject=False)
            found[name] = scan.accuracy(result.labels.data)
        assert found["pattern"] > 0.9 and found["pattern"] >= found["pca"] - 0.01
