"""`"pca"`: principal components of variance-stabilised data."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from .base import Encoder, divide_by_sum, project_onto_components, to_tensor

# Components and their power by kind of item: spectra of many channels have few
# independent constituents above the noise, patterns have one for every domain.
_COMPONENTS = {"spectrum": (8, 0.0), "pattern": (64, 0.25), "image": (64, 0.25)}
_MAX_SIDE = 64


@dataclass(frozen=True, eq=False, repr=False)
class PCAEncoder(Encoder):
    """Training-free encoder that knows the data set, not the labels.

    Values are divided by the square root of their mean over the data set,
    which makes Poisson noise equal in all channels [1]_, and projected on the
    principal components of the sample. Positions inside a pattern are kept;
    patterns of more than 64 px a side are binned first.

    Parameters
    ----------
    sum_normalise
        Whether items are divided by their sum; set by :meth:`fit`.
    weights, mean, components
        Shapes (p,), (p,) and (p, d), set by :meth:`fit`.

    References
    ----------
    .. [1] M. R. Keenan, P. G. Kotula, Surf. Interface Anal. 36, 203 (2004).
    """

    sum_normalise: bool = False
    weights: np.ndarray | None = None
    mean: np.ndarray | None = None
    components: np.ndarray | None = None

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn weights and components; see :meth:`Encoder.fit`."""
        fitted = replace(self, sum_normalise=sum_normalise)
        features = fitted._features(sample, "cpu").numpy()
        level = np.abs(features.mean(axis=0))
        weights = 1 / np.sqrt(level + (0.01 * level.mean() or 1.0))
        n_components, power = _COMPONENTS[kind]
        mean, components = project_onto_components(features * weights, n_components, power)
        return replace(
            fitted,
            weights=weights.astype(np.float32),
            mean=mean / weights,
            components=components * weights[:, np.newaxis],
        )

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) or (n, channels) as (n, d).

        Raises
        ------
        ValueError
            If the encoder is not fitted.
        """
        if self.components is None:
            raise ValueError(
                "The 'pca' encoder has to be fitted first: encoder.fit(sample, kind=...)"
            )
        features = self._features(batch, device) - torch.as_tensor(self.mean, device=device)
        return (features @ torch.as_tensor(self.components, device=device)).cpu().numpy()

    def _features(self, batch: np.ndarray, device: str):
        """Binned, normalised and flattened items: a tensor (n, p)."""
        items = to_tensor(batch, device)
        if items.ndim == 3:
            side = -(-max(items.shape[1:]) // _MAX_SIDE)
            if side > 1:
                items = torch.nn.functional.avg_pool2d(items[:, None], side, ceil_mode=True)
            items = items.flatten(1)
        return divide_by_sum(items) if self.sum_normalise else items
