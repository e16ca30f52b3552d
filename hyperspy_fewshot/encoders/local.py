"""`"local"`: what an image looks like within a few pixels of a place, at several scales."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.base import Encoder, check_orientations
from hyperspy_fewshot.encoders.fourier import LEAST_SPREAD
from hyperspy_fewshot.encoders.resampling import (
    finite_pixels,
    normalised,
    not_finite,
    resampling_weights,
)
from hyperspy_fewshot.grids.field import Field

# Sides of the pixels of the scales, in pixels of the image.
_STEPS = (1, 2, 4, 8)
#: Number of scales.
N_SCALES = len(_STEPS)
# Standard deviations of the Gaussians of the derivatives and of the deviation, and radius of the
# guided filter, in pixels of a scale; the halo is what all of them need around a place.
_SIGMA, _WIDE_SIGMA, _RADIUS, _HALO = 1.0, 2.0, 2, 8
# Features of a place at one scale, as `_features` orders them, and how many of them derivatives and
# deviation are; the others are the smoothed intensities.
_N_FEATURES, _N_TEXTURE = 6, 5
# Variances, in units of the squared range of grey levels, that the guided filter takes for flat: this
# one, and so many times that of the noise.
_FLAT, _TIMES_NOISE = 0.005, 3.0


@dataclass(frozen=True, eq=False, repr=False)
class LocalEncoder(Encoder):
    """Encoder of the surroundings of the centre of a chip, without training.

    At 1, 2, 4 and 8 px it computes the intensity, the length of its gradient, the eigenvalues of its
    Hessian matrix and its standard deviation with Gaussian weights, and the intensity after a guided
    filter, which keeps edges [1]_. All are invariant to rotation. :meth:`fit` sets `spread`, the
    standard deviations of the features (p,), and `noise`, the variance of the noise at each scale.

    References
    ----------
    .. [1] K. He, J. Sun, X. Tang, IEEE Trans. Pattern Anal. Mach. Intell. 35, 1397 (2013).
    """

    spread: np.ndarray | None = None
    noise: tuple[float, ...] = (0.0,) * N_SCALES

    dense: ClassVar[bool] = True
    feature_groups: ClassVar[tuple[int, ...]] = (
        _N_TEXTURE * N_SCALES,
        (_N_FEATURES - _N_TEXTURE) * N_SCALES,
    )

    def margin(self, chip_size: int) -> int:
        """Return how many pixels around a chip :meth:`encode_field` needs."""
        return max(0, (_HALO + 2) * _STEPS[-1] + 1 - chip_size // 2)

    def fit(self, sample: Sequence[Field], *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn from fields of images; see :meth:`Encoder.fit`."""
        check_orientations(self, kind)
        pixels = np.concatenate([finite_pixels(field) for field in sample])
        fitted = super().fit(pixels[:, np.newaxis].astype(np.float32), kind=kind)
        some = sample[:: max(1, len(sample) // 16)]
        noise = [
            float(np.median([_noise(fitted._scale(field, step, "cpu")[0]) for field in some]))
            for step in _STEPS
        ]
        fitted = replace(fitted, noise=tuple(noise))
        features = np.concatenate(
            [fitted._features(field, "cpu").numpy() for field in some], axis=1
        )
        return replace(fitted, spread=np.maximum(features.std(axis=1), LEAST_SPREAD))

    def encode_field(self, field: Field, device: str = "cpu") -> np.ndarray:
        """Embed all chips of a field, shape (r, c, d); NaN where a chip is not finite."""
        lengths = np.repeat(self.feature_groups, self.feature_groups)
        factors = (1 / self.spread / np.sqrt(lengths)).astype(np.float32)
        features = self._features(field, device).cpu().numpy().T * factors
        features[not_finite(field)] = np.nan
        return features.reshape(len(field.rows), len(field.columns), -1)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed single chips (n, h, w), reflected at their edges, as (n, d)."""
        margin = self.margin(batch.shape[1])
        fields = (Field.of_chip(chip, margin) for chip in batch)
        return np.concatenate([self.encode_field(field, device)[0] for field in fields])

    def _scale(
        self, field: Field, step: int, device: str
    ) -> tuple[torch.Tensor, tuple[np.ndarray, np.ndarray]]:
        """Image (h, w) with pixels of side `step`, and where the centres of the chips lie in it."""
        matrices, places = [], []
        for axis, first in enumerate((field.rows, field.columns)):
            centres = (first + field.chip_size / 2) / step - 0.5
            start = math.floor(centres.min()) - _HALO
            end = math.floor(centres.max()) + _HALO + 2
            weights = resampling_weights(
                start, end, step, field.origin[axis], field.pixels.shape[axis]
            )
            matrices.append(torch.as_tensor(weights, device=device))
            places.append(centres - start)
        rows, columns = matrices
        pixels = normalised(field.pixels, self.offset, self.scale, device)
        return rows @ pixels @ columns.T, tuple(places)

    def _features(self, field: Field, device: str) -> torch.Tensor:
        """Features before scaling, shape (p, r * c)."""
        texture, smooth = [], []
        for step, noise in zip(_STEPS, self.noise, strict=True):
            image, places = self._scale(field, step, device)
            found = _derivatives(image, places)
            slope, level = _guided(image, places, _FLAT + _TIMES_NOISE * noise)
            texture.append(found)
            # Intensity of the finest scale, as the filter of this one sees it.
            smooth.append(slope * texture[0][0] + level)
        return torch.cat([*texture, torch.stack(smooth)]).flatten(1)


def _derivatives(image: torch.Tensor, places: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
    """Intensity, gradient, eigenvalues of the Hessian, and deviation at places (5, r, c)."""
    kernels = [_gaussian(_SIGMA, order) for order in range(3)]
    rows, columns = (
        [_matrix(kernel, along, size).to(image) for kernel in kernels]
        for along, size in zip(places, image.shape, strict=True)
    )
    down = [matrix @ image for matrix in rows]

    def at(order: int, across: int) -> torch.Tensor:
        return down[order] @ columns[across].T

    smooth, gradient = at(0, 0), torch.hypot(at(1, 0), at(0, 1))
    middle, apart = (at(2, 0) + at(0, 2)) / 2, torch.hypot((at(2, 0) - at(0, 2)) / 2, at(1, 1))
    wide = _gaussian(_WIDE_SIGMA, 0)
    variance = _filtered(image**2, wide, places) - _filtered(image, wide, places) ** 2
    return torch.stack(
        [smooth, gradient, middle + apart, middle - apart, variance.clamp(min=0).sqrt()]
    )


def _guided(
    image: torch.Tensor, places: tuple[np.ndarray, np.ndarray], flat: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and level (r, c) by which a guided filter of an image by itself maps it at places."""
    mean = _box(image)
    variance = (_box(image**2) - mean**2).clamp(min=0)
    slope = variance / (variance + flat)
    kernel = torch.full((2 * _RADIUS + 1,), 1 / (2 * _RADIUS + 1))
    return _filtered(slope, kernel, places), _filtered(mean * (1 - slope), kernel, places)


def _box(image: torch.Tensor) -> torch.Tensor:
    """Mean of an image (h, w) over squares; pixels beyond its edges count as 0."""
    side = 2 * _RADIUS + 1
    pool = torch.nn.functional.avg_pool2d
    down = pool(image[None, None], (side, 1), 1, (_RADIUS, 0))
    return pool(down, (1, side), 1, (0, _RADIUS))[0, 0]


def _filtered(
    image: torch.Tensor, kernel: torch.Tensor, places: tuple[np.ndarray, np.ndarray]
) -> torch.Tensor:
    """Correlate an image (h, w) with a kernel along both axes, at all rows and columns (r, c)."""
    rows, columns = (
        _matrix(kernel, along, size).to(image)
        for along, size in zip(places, image.shape, strict=True)
    )
    return rows @ image @ columns.T


def _matrix(kernel: torch.Tensor, places: np.ndarray, size: int) -> torch.Tensor:
    """Weights (n, size) of pixels in a correlation, linearly interpolated at places (n,)."""
    low = np.floor(places).astype(int)
    part = torch.as_tensor((places - low).astype(np.float32))[:, None]
    weights = torch.zeros(len(places), size)
    radius = len(kernel) // 2
    for shift, share in ((0, 1 - part), (1, part)):
        index = torch.as_tensor(low[:, None] + np.arange(shift - radius, shift + radius + 1))
        weights.scatter_add_(1, index, share * kernel)
    return weights


def _gaussian(sigma: float, order: int) -> torch.Tensor:
    """Kernel of a derivative of a Gaussian, in units of its standard deviation."""
    x = torch.arange(-round(3 * sigma), round(3 * sigma) + 1) / sigma
    kernel = torch.exp(-(x**2) / 2)
    kernel /= kernel.sum()
    if order == 1:
        kernel = kernel * x
    elif order == 2:
        kernel = kernel * (x**2 - 1)
        kernel -= kernel.mean()
    return kernel


def _noise(image: torch.Tensor) -> float:
    """Variance of the noise of an image, from the differences of diagonal neighbours."""
    inner = image[_HALO:-_HALO, _HALO:-_HALO].numpy()
    cross = inner[1:, 1:] + inner[:-1, :-1] - inner[1:, :-1] - inner[:-1, 1:]
    # The median of the magnitude of a normal distribution is 0.6745 standard deviations.
    return float((np.median(abs(cross)) / 2 / 0.6745) ** 2)
