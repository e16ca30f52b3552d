import numpy as np
import pytest
import torch
from scipy import ndimage

from hyperspy_fewshot.encoders.alignment import brightest, find_shifts, learn_reference, shifted


def blobs(shape, shifts, seed=0):
    """Draw smooth patterns with a mean of 0 at shifted places, shape (n, h, w)."""
    rng = np.random.default_rng(seed)
    places, heights = rng.uniform(0.2, 0.8, (6, 2)) * shape, rng.uniform(0.5, 2, 6)
    y, x = np.ogrid[: shape[0], : shape[1]]
    patterns = [
        sum(
            height * np.exp(-((y - row - dy) ** 2 + (x - column - dx) ** 2) / 8)
            for (row, column), height in zip(places, heights, strict=True)
        )
        for dy, dx in shifts
    ]
    patterns = np.array(patterns, np.float32)
    return torch.from_numpy(patterns - patterns.mean((1, 2), keepdims=True))


@pytest.mark.parametrize("shape", [(48, 56), (61, 44), (17, 64)])
def test_shifts_are_found_to_a_part_of_a_pixel(shape):
    reach = min(shape) // 8
    shifts = np.random.default_rng(0).uniform(1 - reach, reach - 1, (30, 2))
    found = find_shifts(blobs(shape, shifts), blobs(shape, [(0, 0)])[0])
    np.testing.assert_allclose(found, shifts, atol=0.15)


def test_shifts_go_no_further_than_an_eighth():
    far = blobs((48, 56), [(20, 0), (0, -25)])
    assert abs(find_shifts(far, blobs((48, 56), [(0, 0)])[0])).max() <= 6.5


def test_shifts_are_undone():
    patterns, shifts = torch.rand(5, 14, 18), torch.tensor(np.random.rand(5, 2) * 4 - 2).float()
    for found, pattern, shift in zip(shifted(patterns, shifts), patterns, shifts, strict=True):
        expected = ndimage.shift(pattern.numpy(), -shift.numpy(), order=1, mode="nearest")
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_reference_is_the_pattern_in_the_middle():
    shifts = np.random.default_rng(0).uniform(-4, 4, (200, 2))
    shifts -= shifts.mean(axis=0)
    reference = learn_reference(blobs((50, 46), shifts))
    expected = blobs((50, 46), [(0, 0)])[0].numpy()
    assert np.corrcoef(reference.ravel(), expected.ravel())[0, 1] > 0.98
    assert np.isfinite(reference).all() and reference.shape == (50, 46)


@pytest.mark.parametrize("shape", [(3, 40, 44), (80, 7, 90), (80, 1, 1)])
def test_too_few_or_too_small_patterns_are_not_aligned(shape):
    assert learn_reference(torch.rand(shape)) is None


def test_noise_is_not_aligned():
    noise = blobs((40, 44), np.zeros((200, 2))) + torch.randn(200, 40, 44)
    assert learn_reference(noise) is None


def test_the_direct_beam():
    y, x = np.ogrid[:40, :51]
    pattern = 9.0 * (np.hypot(y - 22.5, x - 24) < 4) + np.exp(-np.hypot(y - 2, x - 45))
    np.testing.assert_allclose(brightest(pattern), (22.5, 24), atol=0.01)


@pytest.mark.parametrize("place", [None, (2, 3), (38, 20)])
def test_without_a_direct_beam_it_is_the_middle(place):
    pattern = np.zeros((40, 51))
    if place is not None:
        pattern[place] = 1
    assert brightest(pattern) == (19.5, 25.0)
