"""`"stem"` for diffraction patterns: features keep their positions."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.base import to_tensor
from hyperspy_fewshot.encoders.components import leading_components
from hyperspy_fewshot.encoders.network import EMBEDDING
from hyperspy_fewshot.encoders.resampling import CHIP, resized
from hyperspy_fewshot.encoders.weights import TrainedEncoder, spreads

# Patterns of the sample, about, from which the spread of the feature groups is estimated.
_SPREAD_FROM = 128
# Patterns that run through the network at a time: with more, features leave the cache of the CPU.
_AT_A_TIME = 32


@dataclass(frozen=True, eq=False, repr=False)
class StemPatternEncoder(TrainedEncoder):
    """Trained encoder of diffraction patterns.

    The network sees a pattern resampled to 64 x 64 px, and its features are kept on a grid of
    8 x 8 cells. The principal components of the data set are the second feature group: `fit` sets
    `components` (p, d) and `centre` (d,), the components of the mean pattern.
    """

    components: np.ndarray | None = None
    centre: np.ndarray | None = None

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """Lengths of the learnt features and of the components."""
        return (EMBEDDING, self.components.shape[1])

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn normalisation, components and scales; see :meth:`Encoder.fit`."""
        fitted = super().fit(sample, kind=kind)
        reduced = fitted.reduce(sample)
        mean, components = leading_components(reduced.reshape(len(reduced), -1), kind)
        fitted = replace(fitted, components=components, centre=mean @ components)
        parts = fitted._parts(reduced[:: max(1, len(sample) // _SPREAD_FROM)], "cpu")
        return replace(fitted, part_scales=tuple(1 / max(s, 1e-6) for s in spreads(parts)))

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed patterns (n, h, w) as (n, d)."""
        return self.encode_reduced(self.reduce(batch, device), device)

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Resample patterns with a side of more than 64 px to (n, 64, 64), anti-aliased."""
        items = to_tensor(batch, device)
        return (resized(items, CHIP) if max(items.shape[1:]) > CHIP else items).cpu().numpy()

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed the output of :meth:`reduce`, patterns of at most 64 x 64 px."""
        return self.joined(self._parts(reduced, device))

    def _parts(self, reduced: np.ndarray, device: str) -> list[torch.Tensor]:
        """Feature groups before scaling, tensors (n, d)."""
        items, network = to_tensor(reduced, device), self.network(device)
        with torch.inference_mode():
            scaled = resized((items - self.offset) / self.scale, CHIP).split(_AT_A_TIME)
            learnt = torch.cat([network.patterns(part) for part in scaled])
        components, centre = (
            torch.as_tensor(array, device=device) for array in (self.components, self.centre)
        )
        return [learnt, items.flatten(1) @ components - centre]
