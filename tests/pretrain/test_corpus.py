import numpy as np
import pytest

from hyperspy_fewshot.pretrain.corpus import Corpus, Mixture


class Rows(Corpus):
    """A corpus of a user: classes differ in the bright row, with noise."""

    def __init__(self, base=0.0):
        self.base = base

    def classes(self, rng, n):
        return [self._maker(row) for row in rng.permutation(4)[:n]]

    def _maker(self, row):
        def draw(rng, m):
            items = self.base + 0.2 * rng.normal(size=(m, 4, 4))
            items[:, row] += 1
            return items.astype(np.float32)

        return draw


def test_corpora_are_defined_by_their_classes():
    items = Rows().specimen(np.random.default_rng(0), 3, 5)
    assert items.shape == (3, 5, 4, 4)
    bright = items.mean(-1).argmax(-1)
    assert (bright == bright[:, :1]).all() and len(set(bright[:, 0])) == 3


def test_mixtures_draw_from_their_corpora():
    mixture = Mixture([Rows(), Rows(100.0), Rows(1e6)], [1, 3, 0])
    rng = np.random.default_rng(0)
    levels = np.array([mixture.specimen(rng, 2, 2).mean() for _ in range(200)])
    assert levels.max() < 1000
    assert (levels > 50).mean() == pytest.approx(0.75, abs=0.08)
    assert len(mixture.classes(rng, 3)) == 3
    np.testing.assert_allclose(Mixture([Rows(), Rows()]).shares, 0.5)
    for weights in ([1.0], [1, -1, 1], [0, 0, 0]):
        with pytest.raises(ValueError, match="3 corpora need as many weights"):
            Mixture(mixture.corpora, weights)
