"""`"pattern"`: components of aligned logarithmic patterns, and what an in-plane rotation leaves."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.alignment import (
    brightest,
    find_shifts,
    learn_reference,
    sampled,
    shifted,
)
from hyperspy_fewshot.encoders.base import Encoder, to_tensor
from hyperspy_fewshot.encoders.components import balanced_components
from hyperspy_fewshot.encoders.fourier import LEAST_SPREAD

#: Longest side of a pattern; larger ones are binned.
SIDE = 64
#: Added to a pattern before the logarithm, in units of its mean: damps the noise of weaker pixels.
FLOOR = 0.3
#: Rings of a polar pattern, angles on each, and harmonics of the angle that are kept.
RINGS, ANGLES, HARMONICS = 20, 48, 13
#: Components that are kept of each group at most.
COMPONENTS = 64
# Standard deviations over the data set of the aligned pattern, of the invariants to rotation and of
# the pattern as it is, and the largest of the moments. The head can turn a group down, but not with
# one shot: there the others help more often than they disturb. Chosen on simulated scans.
_SHARES, _MOST_MOMENTS = (1.0, 0.5, 0.6), 0.25
# Patterns from which the components are learnt, for speed, and patterns that are embedded at a time:
# with more they leave the cache of the CPU.
_LEARNT_FROM, _AT_A_TIME = 4096, 32
# Percentile of the sample that counts as 0: cameras add a constant, background subtraction leaves
# negative values. It is taken from about so many patterns.
_LOWEST, _LOWEST_FROM = 0.1, 512


@dataclass(frozen=True, eq=False, repr=False)
class PatternEncoder(Encoder):
    """Encoder of diffraction patterns, without training and without labels.

    In the logarithm of a pattern faint reflections count beside the direct beam; it is divided by
    its standard deviation, so that the thickness of the specimen matters less. If the beam moves
    over the detector during the scan (descan), patterns are shifted to the same place; :meth:`fit`
    finds out whether that makes them more alike. An embedding joins up to four groups:

    - principal components of the aligned pattern,
    - those of the magnitudes of its angular harmonics, in rings around the direct beam, which do not
      depend on in-plane rotation and so tell phases in any orientation,
    - if patterns are aligned, principal components of the pattern as it is,
    - the logarithms of its mean and standard deviation.

    Patterns with sides of more than 64 px are binned first. `fit` sets the normalisation (`offset`
    counts as 0, `scale` is the mean), the median `spread` of logarithmic patterns, the `reference`
    (h, w) that patterns are aligned with (None: they are not), row and column of the `middle` of the
    rings, the `components` (p, d), `polar_components` (q, d) and `fixed_components` (p, d) of the
    first groups, the `moment_scale` of the last one, and the `centre` of all embeddings.
    """

    spread: float = 1.0
    reference: np.ndarray | None = None
    middle: tuple[float, ...] = (0.0, 0.0)
    components: np.ndarray | None = None
    polar_components: np.ndarray | None = None
    fixed_components: np.ndarray | None = None
    moment_scale: float = 1.0
    centre: np.ndarray | None = None

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """Lengths of the groups: aligned, polar, fixed if there is one, moments."""
        groups = (self.components, self.polar_components, self.fixed_components)
        return (*(group.shape[1] for group in groups if group is not None), 2)

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn normalisation, alignment and components; see :meth:`Encoder.fit`."""
        if len(sample) > _LEARNT_FROM:
            sample = np.random.default_rng(0).choice(sample, _LEARNT_FROM, replace=False)
        reduced = self.reduce(sample)
        offset = _lowest(reduced)
        mean = np.maximum(reduced - offset, 0).mean(axis=0, dtype=np.float64)
        fitted = replace(
            self, offset=offset, scale=float(mean.mean()) or 1.0, middle=brightest(mean)
        )
        fitted = fitted._with_alignment(reduced)
        parts = [fitted._features(batch) for batch in _batches(reduced)]
        aligned, polar, *fixed, moments = (
            torch.cat(group).numpy() for group in zip(*parts, strict=True)
        )
        return fitted._with_components([aligned, polar, *fixed], moments, mean)

    def _with_alignment(self, reduced: np.ndarray) -> Self:
        """Set spread and, where patterns have to be aligned, the reference and its middle."""
        logs = torch.cat([self._logarithm(batch)[1] for batch in _batches(reduced)])
        spread = max(float(_moments(logs)[2].median()), LEAST_SPREAD)
        fitted = replace(self, spread=spread)
        reference = learn_reference(fitted._normalised(logs))
        if reference is None:
            return fitted
        return replace(fitted, reference=reference, middle=brightest(np.exp(reference)))

    def _with_components(
        self, groups: list[np.ndarray], moments: np.ndarray, mean: np.ndarray
    ) -> Self:
        """Set components and scales from the features (n, p) of all groups and the mean pattern."""
        learnt, centres, spreads = [], [], []
        for group, share in zip(groups, _SHARES, strict=False):
            average, components = balanced_components(group, COMPONENTS)
            spreads.append(_spread((group - average) @ components))
            learnt.append((components * (share / spreads[-1])).astype(np.float32))
            centres.append(average @ learnt[-1])
        # Moments count as much as the change of the logarithmic pattern that comes with them.
        level = mean / self.scale
        gain = float(np.linalg.norm(level / (level + FLOOR))) / (self.spread * spreads[0])
        scale = min(gain, _MOST_MOMENTS / _spread(moments - moments.mean(axis=0)))
        centres.append(scale * moments.mean(axis=0))
        return replace(
            self,
            components=learnt[0],
            polar_components=learnt[1],
            fixed_components=learnt[2] if len(learnt) > 2 else None,
            moment_scale=scale,
            centre=np.concatenate(centres).astype(np.float32),
        )

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed patterns (n, h, w) as (n, d)."""
        return self.encode_reduced(self.reduce(batch, device), device)

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Bin patterns with sides of more than 64 px, each side by itself, as float32.

        On any device this is done by NumPy: adding slices takes a tenth of the time of pooling, and
        less is copied to the device.
        """
        if max(batch.shape[1:]) <= SIDE:
            return batch.astype(np.float32, copy=False)
        return np.concatenate([_binned(_binned(part, 1), 2) for part in _batches(batch)])

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed the output of :meth:`reduce`, patterns of at most 64 x 64 px."""
        if self.components is None:
            raise ValueError(
                f"The {self.name!r} encoder has to be fitted first: encoder.fit(sample, kind=...)"
            )
        groups = (self.components, self.polar_components, self.fixed_components)
        matrices = [torch.as_tensor(g, device=device) for g in groups if g is not None]
        centre = torch.as_tensor(self.centre, device=device)
        found = []
        for batch in _batches(reduced):
            *parts, moments = self._features(batch, device)
            joined = [part @ matrix for part, matrix in zip(parts, matrices, strict=True)]
            found.append(torch.cat([*joined, self.moment_scale * moments], dim=1) - centre)
        return torch.cat(found).cpu().numpy()

    def _features(self, reduced: np.ndarray, device: str = "cpu") -> list[torch.Tensor]:
        """Features of the groups before their components, tensors (n, p)."""
        level, logs = self._logarithm(reduced, device)
        patterns = self._normalised(logs)
        aligned, fixed = patterns, []
        if self.reference is not None:
            reference = torch.as_tensor(self.reference, device=device)
            # A pattern that is not finite has no shift, and its embedding stays NaN.
            found = find_shifts(patterns, reference).nan_to_num()
            aligned, fixed = shifted(patterns, found), [patterns.flatten(1)]
        mean, _, spread = _moments(level)
        moments = torch.log(torch.stack([mean, spread], dim=1) + 0.1)
        return [aligned.flatten(1), self._invariants(aligned), *fixed, moments]

    def _logarithm(
        self, reduced: np.ndarray, device: str = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Patterns in units of their mean over the data set, and their logarithms."""
        level = ((to_tensor(reduced, device) - self.offset) / self.scale).clamp(min=0)
        return level, torch.log(level + FLOOR)

    def _normalised(self, logs: torch.Tensor) -> torch.Tensor:
        """Subtract the mean of each pattern and divide by its standard deviation."""
        _, centred, spread = _moments(logs)
        # A pattern of nothing but noise is not amplified to the contrast of the others.
        return centred / spread.clamp(min=self.spread / 2)[:, None, None]

    def _invariants(self, patterns: torch.Tensor) -> torch.Tensor:
        """Magnitudes of the angular harmonics of patterns (n, h, w) in rings, shape (n, q)."""
        sides, device = patterns.shape[1:], patterns.device
        width = min(sides) / 2 / RINGS
        radius = (torch.arange(RINGS, device=device) + 0.5)[:, None] * width
        angle = torch.arange(ANGLES, device=device) * (2 * torch.pi / ANGLES)
        y = 2 * (self.middle[0] + 0.5 + radius * torch.sin(angle)) / sides[0] - 1
        x = 2 * (self.middle[1] + 0.5 + radius * torch.cos(angle)) / sides[1] - 1
        places = torch.stack([x, y], dim=-1).expand(len(patterns), -1, -1, -1)
        # Each place counts as much as the area that it stands for.
        rings = sampled(patterns, places) * torch.sqrt(radius)
        return torch.fft.rfft(rings, norm="ortho")[..., :HARMONICS].abs().flatten(1)


def binned_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a pattern of this shape after :meth:`PatternEncoder.reduce`."""
    return tuple(-(-side // -(-side // SIDE)) for side in shape)


def _moments(patterns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means (n,), patterns without them (n, h, w), and standard deviations (n,)."""
    mean = patterns.flatten(1).mean(1)
    centred = patterns - mean[:, None, None]
    # Ten times as fast as `torch.std_mean`.
    length = torch.linalg.vector_norm(centred.flatten(1), dim=1)
    return mean, centred, length / math.sqrt(centred[0].numel())


def _binned(patterns: np.ndarray, axis: int) -> np.ndarray:
    """Means of neighbours along one axis, as many as leave at most 64; the last may have fewer."""
    size = patterns.shape[axis]
    width = -(-size // SIDE)
    shape = list(patterns.shape)
    shape[axis] = -(-size // width)
    total, ahead = np.zeros(shape, np.float32), (slice(None),) * axis
    for first in range(width):
        part = patterns[(*ahead, slice(first, None, width))]
        total[(*ahead, slice(part.shape[axis]))] += part
    total[(*ahead, slice(size // width))] /= width
    if size % width:
        total[(*ahead, -1)] /= size % width
    return total


def _lowest(patterns: np.ndarray) -> float:
    """Value of patterns (n, h, w) that counts as 0; pixels that are masked or dead do not matter."""
    some = patterns[:: max(1, len(patterns) // _LOWEST_FROM)]
    varying = some.max(axis=0) > some.min(axis=0)
    return float(np.percentile(some[:, varying], _LOWEST)) if varying.any() else 0.0


def _spread(features: np.ndarray) -> float:
    """Root mean square length of features (n, d); 1 if they are all 0."""
    return float(np.sqrt((features.astype(np.float64) ** 2).sum(axis=1).mean())) or 1.0


def _batches(items: np.ndarray) -> list[np.ndarray]:
    """Items in batches that fit into the cache."""
    return [items[i : i + _AT_A_TIME] for i in range(0, len(items), _AT_A_TIME)]
