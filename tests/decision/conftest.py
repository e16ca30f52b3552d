"""Support sets that several test modules of this room use."""

import numpy as np
import pytest

from hyperspy_fewshot.decision.classifier import FewShotClassifier


def _fit(embeddings, classes, shots=None, names=None, **options):
    """Fit with one embedding per shot, unless `shots` is given."""
    classes = np.asarray(classes)
    shots = np.arange(len(embeddings)) if shots is None else np.asarray(shots)
    names = names or tuple(f"class {k}" for k in range(classes.max() + 1))
    return FewShotClassifier.fit(embeddings, shots, classes, names, **options)


class _Clusters:
    """Gaussian clusters about random directions; the last one is not in the support set."""

    def __init__(self, seed, n_classes=3, d=32, distance=4.0):
        self.rng, self.d, self.n_classes = np.random.default_rng(seed), d, n_classes
        centres = self.rng.normal(size=(n_classes + 1, d))
        self.centres = distance * centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(self, k, n):
        """Draw n embeddings of class k; class `n_classes` is the unknown one."""
        return self.centres[k] + self.rng.normal(size=(n, self.d)) / np.sqrt(self.d)

    def fit(self, shots, **options):
        """Fit to some shots of each class, centred on all classes."""
        shots = np.broadcast_to(shots, self.n_classes)
        support = np.concatenate([self.draw(k, n) for k, n in enumerate(shots)])
        centre = np.concatenate([self.draw(k, 200) for k in range(self.n_classes + 1)]).mean(axis=0)
        classes = np.repeat(np.arange(self.n_classes), shots)
        return _fit(support, classes, centre=centre, **options)


@pytest.fixture(scope="session")
def fit():
    return _fit


@pytest.fixture(scope="session")
def clusters():
    return _Clusters


@pytest.fixture(scope="session")
def uneven():
    """Embeddings, their shots, the classes of the shots, and the centre.

    Shots have 1 to 4 embeddings and are interleaved; classes have 1 to 5 shots.
    """
    rng = np.random.default_rng(7)
    classes = np.array([0, 0, 1, 0, 0, 1, 1, 2, 0])
    shots = rng.permutation(np.repeat(np.arange(9), [1, 3, 2, 4, 1, 2, 2, 3, 1]))
    centres = rng.normal(size=(3, 6))
    embeddings = centres[classes[shots]] + 0.5 * rng.normal(size=(len(shots), 6)) + 2
    return embeddings, shots, classes, np.full(6, 2.0)
