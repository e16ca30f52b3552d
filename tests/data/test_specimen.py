"""Support examples and accuracy of a specimen."""

import numpy as np
import pytest

from hyperspy_fewshot import data


@pytest.mark.parametrize(("shots", "margin"), [(1, 0), (4, 1)])
def test_support_lies_inside_its_class(specimen, shots, margin):
    support = specimen.support(shots=shots, seed=3, margin=margin)
    assert tuple(support) == specimen.class_names
    for label, positions in enumerate(support.values()):
        assert len(set(positions)) == shots
        for *navigation, x, y in positions:
            assert all(type(index) is int for index in (*navigation, x, y))
            assert min(x, y) >= margin
            square = (slice(y - margin, y + margin + 1), slice(x - margin, x + margin + 1))
            neighbours = specimen.truth[(*navigation, *square)]
            assert neighbours.shape == (2 * margin + 1,) * 2
            assert (neighbours == label).all()


def test_a_margin_of_half_a_chip_keeps_chips_inside_their_class():
    specimen = data.polycrystal()
    for label, positions in enumerate(specimen.support(margin=32).values()):
        for x, y in positions:
            assert (specimen.truth[y - 32 : y + 33, x - 32 : x + 33] == label).all()


def test_the_seed_determines_the_support_which_is_spread_out(specimens):
    specimen = specimens["heterostructure"]
    assert specimen.support(seed=5) == specimen.support(seed=5) != specimen.support(seed=6)
    first, second = np.array(specimen.support(shots=2)["Ge"])
    assert np.abs(first - second).max() > 30


def test_support_of_a_class_that_is_too_small(specimens):
    with pytest.raises(
        ValueError, match=r"'carbon film' has 0 positions at least 30 px .* 5 shots were asked for"
    ):
        specimens["eds_spectrum_image"].support(margin=30)


def test_accuracy_is_balanced_and_ignores_undefined_truth():
    specimen = data.Specimen(None, np.array([[0, 0, 0, 1], [0, 0, -1, 1]]), ("a", "b"))
    assert specimen.accuracy([[0, 0, 0, 1], [0, 0, 7, 1]]) == 1
    assert specimen.accuracy(np.zeros((2, 4))) == 0.5
    assert specimen.accuracy([[0, 0, 0, 1], [0, 0, 0, -1]]) == 0.75, (
        "rejected labels count as wrong"
    )


def test_accuracy_of_labels_on_another_grid(specimens):
    with pytest.raises(
        ValueError, match=r"shape \(3, 4\), the truth \(208, 240\); .*labels_at_pixels"
    ):
        specimens["heterostructure"].accuracy(np.zeros((3, 4)))
