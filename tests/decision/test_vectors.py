"""Operations on arrays of embeddings against naive references."""

import numpy as np

from hyperspy_fewshot.decision.vectors import group_means, l2_normalise


def test_l2_normalise_keeps_directions_and_zeros():
    vectors = np.random.default_rng(0).normal(size=(3, 4, 5))
    vectors[1, 2] = 0
    units = l2_normalise(vectors)
    for unit, vector in zip(units.reshape(-1, 5), vectors.reshape(-1, 5), strict=True):
        expected = vector / np.sqrt((vector**2).sum()) if vector.any() else vector
        np.testing.assert_allclose(unit, expected, rtol=1e-12)


def test_group_means_of_scattered_rows():
    values = np.random.default_rng(0).normal(size=(7, 3))
    groups = np.array([4, 0, 4, 2, 0, 4, 9])
    expected = [values[groups == g].mean(axis=0) for g in (0, 2, 4, 9)]
    np.testing.assert_allclose(group_means(values, groups), expected, rtol=1e-12)
