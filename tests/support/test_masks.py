"""Masks of users become masks in array order."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.support import masks

NAV, SIGNAL = (4, 3), (6, 5)  # HyperSpy's order


def random_mask(shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.4


@pytest.mark.parametrize("as_signal", [False, True])
@pytest.mark.parametrize(
    ("navigation", "signal"),
    [(NAV, ()), ((), SIGNAL), (NAV, SIGNAL), ((7,), ()), ((7,), SIGNAL), ((), (9,))],
)
def test_a_mask_of_the_whole_shape(navigation, signal, as_signal):
    wanted = random_mask(navigation[::-1] + signal[::-1])
    n = len(navigation)
    given = wanted.transpose(*range(n)[::-1], *range(n, wanted.ndim)[::-1])
    given = hs.signals.BaseSignal(wanted) if as_signal else given
    found = masks.as_mask(given, navigation, signal, "navigation_mask")
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == bool


@pytest.mark.parametrize("as_signal", [False, True])
def test_masks_of_one_frame_and_of_whole_frames(as_signal):
    of_pixels, of_frames = random_mask((5, 6)), random_mask((3, 4))
    for wanted, given in [
        (np.broadcast_to(of_pixels, (3, 4, 5, 6)), of_pixels),
        (np.broadcast_to(of_frames[..., None, None], (3, 4, 5, 6)), of_frames),
    ]:
        given = hs.signals.BaseSignal(given) if as_signal else given.T
        found = masks.as_mask(given, NAV, SIGNAL, "navigation_mask")
        np.testing.assert_array_equal(found, wanted)


def test_numbers_are_true_or_false():
    found = masks.as_mask(np.array([0, 1, 2.5]), (3,), (), "navigation_mask")
    assert found.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            np.zeros((3, 4), bool),
            ValueError,
            r"has shape \(3, 4\), \(4, 3\) is needed .*BaseSignal",
        ),
        (np.zeros((4, 2), bool), ValueError, r"has shape \(4, 2\), \(4, 3\) is needed .* x first"),
        (hs.signals.BaseSignal(np.zeros((4, 3))), ValueError, r"shape \(4, 3\); .* have \(3, 4\)"),
        (True, ValueError, r"has shape \(\)"),
        (np.array([["a"]]), TypeError, "must hold True or False, got ndarray <U1"),
    ],
)
def test_masks_that_do_not_fit(mask, error, message):
    with pytest.raises(error, match=f"navigation_mask .*{message}"):
        masks.as_mask(mask, NAV, (), "navigation_mask")


def test_a_mask_of_cells():
    image = hs.signals.Signal2D(np.zeros((40, 57)))
    grid = ChipGrid((), (40, 57), 16, 7)
    mask = np.zeros((57, 40), bool)
    mask[21:28] = True
    assert np.unique(np.nonzero(masks.cell_mask(image, grid, mask))[1]).tolist() == [3]
    scan = hs.signals.Signal1D(np.zeros((3, 4, 5)))
    wanted = random_mask((3, 4))
    found = masks.cell_mask(scan, PositionGrid((3, 4), (5,)), wanted.T)
    np.testing.assert_array_equal(found, wanted)


def test_a_mask_that_leaves_nothing():
    scan = hs.signals.Signal1D(np.zeros((3, 4, 5)))
    grid = PositionGrid((3, 4), (5,))
    with pytest.raises(ValueError, match="navigation_mask leaves nothing to classify"):
        masks.cell_mask(scan, grid, np.ones((4, 3), bool))
    with pytest.raises(ValueError, match="signal_mask leaves nothing"):
        masks.signal_mask(scan, "spectrum", np.ones(5, bool))


def test_a_signal_mask():
    patterns = hs.signals.Signal2D(np.zeros((3, 4, 5, 6)))
    wanted = random_mask((5, 6))
    np.testing.assert_array_equal(masks.signal_mask(patterns, "pattern", wanted.T), wanted)
    with pytest.raises(ValueError, match="mask pixels of an image with navigation_mask"):
        masks.signal_mask(hs.signals.Signal2D(np.zeros((5, 6))), "image", wanted.T)
