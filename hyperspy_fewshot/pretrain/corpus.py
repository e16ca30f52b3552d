"""The base class of corpora, sources of synthetic data sets with known classes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

#: Draws members of one class: ``(rng, m)`` to float32 of shape (m, *item_shape).
Maker = Callable[[np.random.Generator, int], np.ndarray]


class Corpus(ABC):
    """A source of specimens: data sets with a few classes each.

    To train on your own material or microscope, subclass this and define :meth:`classes`, or mix
    corpora with :class:`Mixture`.
    """

    @abstractmethod
    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw the classes of one specimen.

        Parameters
        ----------
        rng
            The only source of randomness.
        n
            Number of classes.

        Returns
        -------
        list of callable
            For every class a function ``(rng, m)`` that draws m members, float32 of shape
            (m, *item_shape).
        """

    def specimen(self, rng: np.random.Generator, n: int, members: int) -> np.ndarray:
        """Draw members of the classes of one specimen.

        Parameters
        ----------
        rng
            The only source of randomness.
        n
            Number of classes.
        members
            Members of a class.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, members, *item_shape).
        """
        return np.stack([draw(rng, members) for draw in self.classes(rng, n)])


class Mixture(Corpus):
    """Specimens of several corpora.

    Parameters
    ----------
    corpora
        The corpora; their items have the same shape.
    weights
        Relative weight of each corpus; None: equal weights.
    """

    def __init__(self, corpora: Sequence[Corpus], weights: Sequence[float] | None = None):
        shares = np.ones(len(corpora)) if weights is None else np.asarray(weights, float)
        if len(shares) != len(corpora) or not (shares >= 0).all() or not shares.any():
            raise ValueError(f"{len(corpora)} corpora need as many weights, got {weights}.")
        self.corpora = list(corpora)
        self.shares = shares / shares.sum()

    def _one(self, rng: np.random.Generator) -> Corpus:
        return self.corpora[rng.choice(len(self.corpora), p=self.shares)]

    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw the classes of a specimen of one of the corpora."""
        return self._one(rng).classes(rng, n)

    def specimen(self, rng: np.random.Generator, n: int, members: int) -> np.ndarray:
        """Draw a specimen of one of the corpora."""
        return self._one(rng).specimen(rng, n, members)
