"""`"pca"`: principal components after scaling Poisson noise to equal variance."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.base import Encoder, to_tensor
from hyperspy_fewshot.encoders.components import leading_components

# Smallest total that an item is divided by, in units of the mean total of the data set: the profile
# of a nearly empty item is noise and must not be amplified. Chosen on EDS maps with vacuum.
_LEAST_TOTAL = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class LinearEncoder(Encoder):
    """Base of the encoders that project items onto components, some after sum normalisation.

    Everything but the division by the total is linear, so positions can be pooled after the
    projection as well as before it. `fit` sets the `components` (p, d), the `centre` (d,) that is
    subtracted from all embeddings, and which of the components are `divided` (d,) by the total. The
    total is the sum of counts; `signs` (p,) are -1 for channels whose mean over the data set is
    negative, as after background subtraction. `least` is the smallest total that is divided by.
    """

    components: np.ndarray | None = None
    centre: np.ndarray | None = None
    divided: np.ndarray | None = None
    signs: np.ndarray | None = None
    least: float = 0.0

    #: Maximum number of channels of spectra (1) and side of patterns (2); larger items are binned.
    longest: ClassVar[dict[int, int]] = {1: 2048, 2: 64}

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) or (n, channels) as (n, d)."""
        return self.encode_reduced(self.reduce(batch, device), device)

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Project items onto the components; the total is appended, shape (n, d + 1)."""
        if self.components is None:
            raise ValueError(
                f"The {self.name!r} encoder has to be fitted first: encoder.fit(sample, kind=...)"
            )
        columns = np.column_stack([self.components, self.signs])
        return (self.binned(batch, device) @ torch.as_tensor(columns, device=device)).cpu().numpy()

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Divide the sum-normalised components by the total, and subtract the centre."""
        embeddings = reduced[:, :-1].copy()
        if self.divided.any():
            embeddings[:, self.divided] /= np.maximum(abs(reduced[:, -1:]), self.least)
        return embeddings - self.centre

    def binned(self, batch: np.ndarray, device: str = "cpu") -> torch.Tensor:
        """Bin items that are too long and flatten them, shape (n, p)."""
        items = to_tensor(batch, device)
        dimensions = items.ndim - 1
        # Each axis is binned by itself, so that something of a short one remains.
        sides = tuple(-(-size // self.longest[dimensions]) for size in items.shape[1:])
        if max(sides) > 1:
            functional = torch.nn.functional
            pool = functional.avg_pool1d if dimensions == 1 else functional.avg_pool2d
            items = pool(items[:, None], sides, ceil_mode=True)[:, 0]
        return items.flatten(1)


def totals(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Totals (n, 1) of a sample (n, p), the signs (p,) of its channels, and the least total."""
    signs = np.where(features.mean(axis=0) < 0, -1, 1).astype(np.float32)
    total = features @ signs[:, np.newaxis]
    least = _LEAST_TOTAL * float(total.mean()) or 1e-9
    # Items whose values are all negative have a profile, too.
    return np.maximum(abs(total), np.float32(least)), signs, least


@dataclass(frozen=True, eq=False, repr=False)
class PCAEncoder(LinearEncoder):
    """Principal components of the data set, without training and without labels.

    Values are divided by the square root of their mean over the data set, so that Poisson noise has
    the same variance everywhere [1]_, and projected onto the principal components of the sample.
    Patterns with sides of more than 64 px and spectra of more than 2048 channels are binned first.

    References
    ----------
    .. [1] M. R. Keenan, P. G. Kotula, Surf. Interface Anal. 36, 203 (2004).
    """

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn the mean and the components; see :meth:`Encoder.fit`."""
        features = self.binned(sample).numpy()
        total, signs, least = totals(features)
        mean, components = leading_components(features / total if sum_normalise else features, kind)
        return replace(
            self,
            components=components,
            centre=mean @ components,
            divided=np.full(components.shape[1], sum_normalise),
            signs=signs,
            least=least,
        )
