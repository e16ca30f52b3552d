"""`"stem"` for patterns, in which positions count."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch

from .base import Encoder, to_tensor
from .lattice import CHIP
from .network import EMBEDDING, StemNetwork
from .pca import leading_components
from .weights import trained, weights_at

# Patterns of the sample, at most, that show how much the parts vary.
_MOST_JUDGED = 128
# Patterns that run through the network at a time: more are not faster.
_AT_A_TIME = 32


@dataclass(frozen=True, eq=False, repr=False)
class StemPatternEncoder(Encoder):
    """Trained encoder of diffraction patterns.

    What the network makes of a pattern resampled to 64 px, its features kept
    on a grid of 8 x 8 cells, beside the principal components of the data set.

    Parameters
    ----------
    path, digest
        File of weights, "" for those of the package, and its SHA-256.
    components
        Of what :meth:`reduce` gives, shape (p, d); set by :meth:`fit`.
    centre
        Of the mean pattern, shape (d,), subtracted from all; set by :meth:`fit`.
    part_scales
        What the parts of an embedding are multiplied by; set by :meth:`fit`.
    """

    path: str = ""
    digest: str = ""
    components: np.ndarray | None = None
    centre: np.ndarray | None = None
    part_scales: tuple[float, ...] = ()

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"path"}

    @property
    def blocks(self) -> tuple[int, ...]:
        """Lengths of the parts of an embedding: learnt, components."""
        return (EMBEDDING, self.components.shape[1])

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn normalisation, components and scales; see :meth:`Encoder.fit`."""
        fitted = super().fit(sample, kind=kind)
        reduced = fitted.reduce(sample)
        mean, components = leading_components(reduced.reshape(len(reduced), -1), kind)
        fitted = replace(fitted, components=components, centre=mean @ components)
        step = max(1, len(sample) // _MOST_JUDGED)
        parts = fitted._parts(reduced[::step], "cpu")
        spreads = [float(part.var(0, correction=0).sum().sqrt()) for part in parts]
        return replace(fitted, part_scales=tuple(1 / max(s, 1e-6) for s in spreads))

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed patterns (n, h, w) as (n, d)."""
        return self.encode_reduced(self.reduce(batch, device), device)

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Resample patterns (n, h, w) of more than 64 px to (n, 64, 64), anti-aliased."""
        items = to_tensor(batch, device)
        return (_resampled(items) if max(items.shape[1:]) > CHIP else items).cpu().numpy()

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed patterns of at most 64 px."""
        parts = self._parts(reduced, device)
        scaled = [part * scale for part, scale in zip(parts, self.part_scales, strict=True)]
        return torch.cat(scaled, dim=1).cpu().numpy()

    def _parts(self, reduced: np.ndarray, device: str) -> list[torch.Tensor]:
        """What an embedding is made of: tensors (n, d)."""
        items = to_tensor(reduced, device)
        net = trained(StemNetwork, weights_at(self.name, self.path), self.digest, device)
        components, centre = (
            torch.as_tensor(array, device=device) for array in (self.components, self.centre)
        )
        with torch.inference_mode():
            scaled = _resampled((items - self.offset) / self.scale).split(_AT_A_TIME)
            learnt = torch.cat([net.patterns(part) for part in scaled])
        return [learnt, items.flatten(1) @ components - centre]


def _resampled(items: torch.Tensor) -> torch.Tensor:
    """Resample patterns (n, h, w) to 64 px."""
    if items.shape[1:] == (CHIP, CHIP):
        return items
    size = (CHIP, CHIP)
    return torch.nn.functional.interpolate(
        items[:, None], size=size, mode="bilinear", antialias=True
    )[:, 0]
