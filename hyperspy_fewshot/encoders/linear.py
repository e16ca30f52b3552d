"""Encoders that project items on components."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .base import Encoder, to_tensor

# Least total that an item is divided by, in units of the data set's mean total:
# what is nearly empty has no shape.
_LEAST_TOTAL = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class LinearEncoder(Encoder):
    """Projection of items on components, of some parts after division by the total.

    Everything but the division is linear, and positions can be pooled after
    the projection as well as before it.

    Parameters
    ----------
    components
        Shape (p, d), set by :meth:`fit`.
    centre
        Embedding of the mean item, shape (d,), subtracted from all.
    divided
        Which of the d numbers are those of an item divided by its total,
        shape (d,).
    signs
        What channels are multiplied by in the total, shape (p,): -1 where the
        data set's mean is negative, as it may be where something was
        subtracted. Of counts the total is the sum.
    least
        Smallest total that an item is divided by.
    """

    components: np.ndarray | None = None
    centre: np.ndarray | None = None
    divided: np.ndarray | None = None
    signs: np.ndarray | None = None
    least: float = 0.0

    #: Longest side of patterns and most channels of spectra; more are binned.
    longest: ClassVar[dict[int, int]] = {1: 2048, 2: 64}

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) or (n, channels) as (n, d).

        Raises
        ------
        ValueError
            If the encoder is not fitted.
        """
        return self.encode_reduced(self.reduce(batch, device), device)

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Project items on the components, beside their totals: shape (n, d + 1)."""
        if self.components is None:
            raise ValueError(
                f"The {self.name!r} encoder has to be fitted first: encoder.fit(sample, kind=...)"
            )
        columns = np.column_stack([self.components, self.signs])
        features = binned(to_tensor(batch, device), self.longest)
        return (features @ torch.as_tensor(columns, device=device)).cpu().numpy()

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Divide by the total where it does not count, and centre."""
        embeddings = reduced[:, :-1].copy()
        if self.divided.any():
            embeddings[:, self.divided] /= np.maximum(abs(reduced[:, -1:]), self.least)
        return embeddings - self.centre


def binned(items: torch.Tensor, longest: dict[int, int]) -> torch.Tensor:
    """Flatten items after binning those that are too long: a tensor (n, p)."""
    dimensions = items.ndim - 1
    side = -(-max(items.shape[1:]) // longest[dimensions])
    if side > 1:
        pool = {1: torch.nn.functional.avg_pool1d, 2: torch.nn.functional.avg_pool2d}[dimensions]
        items = pool(items[:, None], side, ceil_mode=True)[:, 0]
    return items.flatten(1)


def totals(features: torch.Tensor) -> tuple[torch.Tensor, np.ndarray, float]:
    """Totals of a sample (n, p), shape (n, 1), the signs that make them, and the least of them."""
    signs = torch.where(features.mean(0) < 0, -1.0, 1.0)
    total = features @ signs[:, None]
    least = _LEAST_TOTAL * float(total.mean()) or 1e-9
    # What is all negative has a shape, too.
    return total.abs().clamp(min=least), signs.numpy(), least
