"""`"pca"`: principal components of variance-stabilised data."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from .base import project_onto_components, to_tensor
from .linear import LinearEncoder, binned, totals

# Components and their power by kind of item: spectra of many channels have few
# independent constituents above the noise, patterns have one for every domain.
# Of patterns, which have more pixels than the sample has patterns, only those that
# are reproduced are kept.
_COMPONENTS = {
    "spectrum": (8, 0.0, False),
    "pattern": (64, 0.25, True),
    "image": (64, 0.25, False),
}


@dataclass(frozen=True, eq=False, repr=False)
class PCAEncoder(LinearEncoder):
    """Training-free encoder that knows the data set, not the labels.

    Values are divided by the square root of their mean over the data set,
    which makes Poisson noise equal in all channels [1]_, and projected on the
    principal components of the sample. Positions inside a pattern are kept;
    patterns of more than 64 px a side are binned first, as are spectra of more
    than 2048 channels.

    References
    ----------
    .. [1] M. R. Keenan, P. G. Kotula, Surf. Interface Anal. 36, 203 (2004).
    """

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn weights and components; see :meth:`Encoder.fit`."""
        features = binned(to_tensor(sample, "cpu"), self.longest)
        total, signs, least = totals(features)
        if sum_normalise:
            features = features / total
        mean, components = leading_components(features.numpy(), kind)
        return replace(
            self,
            components=components,
            centre=mean @ components,
            divided=np.full(components.shape[1], sum_normalise),
            signs=signs,
            least=least,
        )


def leading_components(features: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) of features (n, p), and their principal components (p, d).

    What they are to be found in are the features with the Poisson noise made
    equal, but the components apply to features as they are.
    """
    level = np.abs(features.mean(axis=0))
    weights = (1 / np.sqrt(level + (0.01 * level.mean() or 1.0))).astype(np.float32)
    mean, components = project_onto_components(features * weights, *_COMPONENTS[kind])
    return mean / weights, components * weights[:, np.newaxis]
