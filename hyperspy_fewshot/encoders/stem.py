"""`"stem"`: the bundled, trained encoder of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.base import Encoder, check_orientations
from hyperspy_fewshot.encoders.components import principal_components
from hyperspy_fewshot.encoders.fourier import COMPONENTS, FLOOR, LEAST_SPREAD
from hyperspy_fewshot.encoders.network import EMBEDDING, WINDOWS
from hyperspy_fewshot.encoders.pattern import StemPatternEncoder
from hyperspy_fewshot.encoders.resampling import (
    CHIP,
    HOP,
    REACH,
    ResampledField,
    not_finite,
    resample,
)
from hyperspy_fewshot.encoders.weights import TrainedEncoder, bundled_weights, file_digest, spreads
from hyperspy_fewshot.grids.chips import Field

# Power spectra from which the components are learnt, about.
_MOST_SPECTRA = 1024
# Chips embedded at a time, to bound the memory.
_AT_A_TIME = 8192
# Standard deviations of the feature groups (learnt, power spectrum, moments) over the data set.
# Chosen on labelled micrographs: equal ones give moments too much weight where structure differs.
_SHARES = (1.0, 0.7, 0.3)


@dataclass(frozen=True, eq=False, repr=False)
class StemEncoder(TrainedEncoder):
    """Trained, dense encoder of images.

    The image is resampled so that a chip has 64 x 64 px, and a convolutional network runs over it
    once, so overlapping chips are nearly free. A chip is described by the mean and the spread of
    the features inside its window, and also by its log power spectrum and its moments, so that
    orientation, spacing and Z-contrast do not depend on training. Only the part of a chip inside
    the image counts. For patterns, :meth:`fit` returns a :class:`StemPatternEncoder`; otherwise it
    sets `power`, the mean power of a chip at a frequency, and the `mean` (p,) and `components`
    (p, d) of the log power spectrum.
    """

    power: float = 1.0
    mean: np.ndarray | None = None
    components: np.ndarray | None = None

    dense: ClassVar[bool] = True

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Return the encoder with weights from a file; None: the bundled weights."""
        bundled = file_digest(bundled_weights("stem"))
        digest = bundled if path is None else file_digest(path)
        if digest == bundled:
            return cls("stem", ("image", "pattern"), digest=digest)
        encoder = cls("stem", ("image", "pattern"), path=str(path.resolve()), digest=digest)
        # Weights that do not fit are refused now rather than in a computation.
        encoder.network("cpu")
        return encoder

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """Lengths of the learnt features, the power spectrum and the moments."""
        return (EMBEDDING, self.components.shape[1], 3)

    def margin(self, chip_size: int) -> int:
        """Return how many pixels around a chip :meth:`encode_field` needs."""
        step = chip_size / CHIP
        return math.ceil(REACH * step + max(step, 1.0)) + 1

    def fit(
        self, sample: Sequence[Field] | np.ndarray, *, kind: str, sum_normalise: bool = False
    ) -> Encoder:
        """Learn from fields of images, or from patterns (n, h, w); see :meth:`Encoder.fit`."""
        if kind == "pattern":
            given = {field.name: getattr(self, field.name) for field in fields(TrainedEncoder)}
            return StemPatternEncoder(**given).fit(sample, kind=kind)
        check_orientations(self, kind)
        pixels = np.concatenate([_finite_pixels(field) for field in sample])
        fitted = super().fit(pixels[:, np.newaxis].astype(np.float32), kind=kind)
        power = _sampled_power([resample(f, fitted.offset, fitted.scale, "cpu") for f in sample])
        fitted = replace(fitted, power=float(power.mean()) or 1.0)
        mean, components = principal_components(np.log(power + FLOOR * fitted.power), COMPONENTS)
        fitted = replace(fitted, mean=mean, components=components)
        # Every eighth field shows how much the feature groups vary.
        parts = [fitted._parts(field, "cpu") for field in sample[:: max(1, len(sample) // 8)]]
        found = spreads([torch.cat(group) for group in zip(*parts, strict=True)])
        pairs = zip(_SHARES, found, strict=True)
        scales = tuple(share / s if s > LEAST_SPREAD else 0.0 for share, s in pairs)
        return replace(fitted, part_scales=scales)

    def encode_field(self, field: Field, device: str = "cpu") -> np.ndarray:
        """Embed all chips of a field, shape (r, c, d); NaN where a chip is not finite."""
        result = self.joined(self._parts(field, device))
        result[not_finite(field)] = np.nan
        return result.reshape(len(field.rows), len(field.columns), -1)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed single chips (n, h, w), reflected at their edges, as (n, d)."""
        margin = self.margin(batch.shape[1])
        fields = (Field.of_chip(chip, margin) for chip in batch)
        return np.concatenate([self.encode_field(field, device)[0] for field in fields])

    def _parts(self, field: Field, device: str) -> list[torch.Tensor]:
        """Feature groups before scaling, tensors (r * c, d)."""
        image = resample(field, self.offset, self.scale, device)
        learnt, moments = self._learnt(image, device)
        mean, components = (
            torch.as_tensor(array, device=device) for array in (self.mean, self.components)
        )
        spectra = [
            (torch.log(_power(image, row) + FLOOR * self.power) - mean) @ components
            for row in image.windows(0)
        ]
        # Interpolated between the windows (r', c', d) at the chips.
        along = torch.einsum("rw,wcd->rcd", image.between(0), torch.stack(spectra))
        spectrum = torch.einsum("cw,rwd->rcd", image.between(1), along).flatten(0, 1)
        return [learnt, spectrum, moments]

    def _learnt(self, image: ResampledField, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed chips with the network, shape (r * c, d), and return their moments (r * c, 3).

        Those are the mean, the mean of the centre, and the logarithm of the standard deviation.
        """
        network = self.network(device)
        with torch.inference_mode():
            cells = network.cells(image.pixels[None])[0]
            half = len(cells) // 2
            # Along the columns all chips at once, along the rows some at a time.
            along = [
                (cells if part == 1 else cells[:half]) @ image.boxes(1, part).T for part in WINDOWS
            ]
            step = max(1, _AT_A_TIME // len(image.chips[1]))
            boxes = zip(*(image.boxes(0, part).split(step) for part in WINDOWS), strict=True)
            embeddings, moments = [], []
            for some in boxes:
                pooled = [(b @ part).flatten(1).T for b, part in zip(some, along, strict=True)]
                whole, squares = pooled[0][:, :half], pooled[0][:, half:]
                features = torch.cat([whole, *pooled[1:], squares], dim=1)
                embeddings.append(network.embed_pooled(features))
                mean, centre = whole[:, 0], pooled[-1][:, 0]
                spread = (squares[:, 0] - mean**2).clamp(min=0).sqrt()
                moments.append(torch.stack([mean, centre, torch.log(spread + 1e-2)], dim=1))
            return torch.cat(embeddings), torch.cat(moments)


def _finite_pixels(field: Field) -> np.ndarray:
    """Finite pixels of the chips of a field, without the margin."""
    top, left = field.rows[0] - field.origin[0], field.columns[0] - field.origin[1]
    height = field.rows[-1] - field.rows[0] + field.chip_size
    width = field.columns[-1] - field.columns[0] + field.chip_size
    pixels = field.pixels[top : top + height, left : left + width]
    return pixels[np.isfinite(pixels)]


def _power(image: ResampledField, row: int) -> torch.Tensor:
    """Power spectra of the windows that start in one row, shape (windows, p)."""
    top, columns = row - image.start[0], image.windows(1)
    first = (columns[0] - image.start[1]) // HOP
    stripe = image.pixels[top : top + CHIP].unfold(1, CHIP, HOP)
    windows = stripe[:, first : first + len(columns)].transpose(0, 1)
    hann = torch.hann_window(CHIP + 2, periodic=False, device=windows.device)[1:-1]
    hann = hann[:, None] * hann / hann.pow(2).mean()
    windows = (windows - windows.mean((1, 2), keepdim=True)) * hann
    return (torch.fft.rfft2(windows, norm="ortho").abs() ** 2).flatten(1)


def _sampled_power(images: Sequence[ResampledField]) -> np.ndarray:
    """Power spectra of the windows in a subset of the rows of a sample."""
    rows = [(image, row) for image in images for row in image.windows(0)]
    step = max(1, len(rows) * len(images[0].windows(1)) // _MOST_SPECTRA)
    return torch.cat([_power(image, row) for image, row in rows[::step]]).numpy()
