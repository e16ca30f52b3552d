"""`"stem"` for patterns, in which positions count."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch

from .base import Encoder, to_tensor
from .lattice import CHIP
from .network import EMBEDDING, StemNetwork
from .pca import PCAEncoder
from .weights import trained, weights_at


@dataclass(frozen=True, eq=False, repr=False)
class StemPatternEncoder(Encoder):
    """Trained encoder of diffraction patterns.

    What the network makes of a pattern resampled to 64 px, its features kept
    on a grid of 8 x 8 cells, beside the principal components of the data set.

    Parameters
    ----------
    path, digest
        File of weights, "" for those of the package, and its SHA-256.
    pca_weights, pca_mean, pca_components
        As those of :class:`PCAEncoder`; set by :meth:`fit`.
    part_scales
        What the parts of an embedding are multiplied by; set by :meth:`fit`.
    """

    path: str = ""
    digest: str = ""
    pca_weights: np.ndarray | None = None
    pca_mean: np.ndarray | None = None
    pca_components: np.ndarray | None = None
    part_scales: tuple[float, ...] = ()

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"path"}

    @property
    def blocks(self) -> tuple[int, ...]:
        """Lengths of the parts of an embedding: learnt, components."""
        return (EMBEDDING, self.pca_components.shape[1])

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn normalisation, components and scales; see :meth:`Encoder.fit`."""
        fitted = super().fit(sample, kind=kind)
        pca = PCAEncoder("pca").fit(sample, kind=kind)
        fitted = replace(
            fitted, pca_weights=pca.weights, pca_mean=pca.mean, pca_components=pca.components
        )
        step = max(1, len(sample) // 512)
        parts = fitted._parts(sample[::step], "cpu")
        spreads = [float(part.var(0, correction=0).sum().sqrt()) for part in parts]
        return replace(fitted, part_scales=tuple(1 / max(s, 1e-6) for s in spreads))

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed patterns (n, h, w) as (n, d)."""
        parts = self._parts(batch, device)
        scaled = [part * scale for part, scale in zip(parts, self.part_scales, strict=True)]
        return torch.cat(scaled, dim=1).cpu().numpy()

    def _parts(self, batch: np.ndarray, device: str) -> list[torch.Tensor]:
        """What an embedding is made of: tensors (n, d)."""
        pca = PCAEncoder(
            "pca", weights=self.pca_weights, mean=self.pca_mean, components=self.pca_components
        )
        items = (to_tensor(batch, device) - self.offset) / self.scale
        if items.shape[1:] != (CHIP, CHIP):
            items = torch.nn.functional.interpolate(
                items[:, None], size=(CHIP, CHIP), mode="bilinear", antialias=True
            )[:, 0]
        net = trained(StemNetwork, weights_at(self.name, self.path), self.digest, device)
        with torch.inference_mode():
            learnt = torch.cat([net.patterns(part) for part in items.split(32)])
        return [learnt, torch.as_tensor(pca.encode(batch, device), device=device)]
