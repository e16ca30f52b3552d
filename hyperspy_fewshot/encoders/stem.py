"""`"stem"`: the bundled, trained encoder of images and patterns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from ..chips import Field
from .base import Encoder, project_onto_components
from .lattice import CHIP, HOP, REACH, Image, not_finite, resample
from .network import EMBEDDING, WINDOWS, StemNetwork
from .pattern import StemPatternEncoder
from .weights import described, trained, weights_at

# What is added to the power before the logarithm, in units of the mean power:
# the noise of a periodogram below it does not count.
_FLOOR = 3.0
_COMPONENTS = 64
# Power spectra of the sample, at most, from which components are learnt.
_MOST_SPECTRA = 1024
# Chips embedded at a time, so that memory stays bounded.
_AT_A_TIME = 8192
# How much the parts of an embedding (learnt, power spectrum, moments) vary over
# the data set: moments hold as much as the rest only where nothing else differs.
_SHARES = (1.0, 0.7, 0.3)
# Least spread of a part that tells chips apart; what is smaller is rounding.
_LEAST_SPREAD = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class StemEncoder(Encoder):
    """Trained encoder of images; dense, so that overlapping chips cost nothing.

    The image is resampled so that a chip measures 64 px, and a convolutional
    network runs over it once. A chip is what the network makes of mean and
    spread of its features inside the chip's window. Beside it stand the log
    power spectrum and the moments of the chip: orientation, spacing and
    Z-contrast must not depend on training. What a chip reaches beyond the
    image takes no part. Patterns have an encoder of their own, which
    :meth:`fit` returns for them.

    Parameters
    ----------
    path
        File of weights, .safetensors; "" for those of the package.
    digest
        SHA-256 of that file.
    power
        Mean power of a chip at a frequency; set by :meth:`fit`.
    mean, components
        Of the log power spectrum, shapes (p,) and (p, d); set by :meth:`fit`.
    part_scales
        What the parts of an embedding are multiplied by; set by :meth:`fit`.
    """

    path: str = ""
    digest: str = ""
    power: float = 1.0
    mean: np.ndarray | None = None
    components: np.ndarray | None = None
    part_scales: tuple[float, ...] = ()

    dense: ClassVar[bool] = True
    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"path"}

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Take the weights from a file; None: those of the package."""
        encoder = cls("stem", ("image", "pattern"), **described("stem", path))
        if encoder.path:
            # A file of other weights is refused here rather than in a computation.
            encoder._network("cpu")
        return encoder

    @property
    def blocks(self) -> tuple[int, ...]:
        """Lengths of the parts of an embedding: learnt, power spectrum, moments."""
        return (EMBEDDING, self.components.shape[1], 3)

    def margin(self, chip_size: int) -> int:
        """Pixels around a chip that :meth:`encode_field` needs."""
        step = chip_size / CHIP
        return math.ceil(REACH * step + max(step, 1.0)) + 1

    def fit(
        self, sample: Sequence[Field] | np.ndarray, *, kind: str, sum_normalise: bool = False
    ) -> Encoder:
        """Learn normalisation, components and scales without labels.

        Parameters
        ----------
        sample
            Pieces of images; of patterns an array (n, h, w).
        kind, sum_normalise
            As in :meth:`Encoder.fit`.
        """
        if kind == "pattern":
            pattern = StemPatternEncoder(self.name, self.kinds, path=self.path, digest=self.digest)
            return pattern.fit(sample, kind=kind)
        pixels = np.concatenate([_finite_pixels(field) for field in sample])
        fitted = super().fit(pixels[:, np.newaxis].astype(np.float32), kind=kind)
        power = _sampled_power([resample(f, fitted.offset, fitted.scale, "cpu") for f in sample])
        fitted = replace(fitted, power=float(power.mean()) or 1.0)
        mean, components = project_onto_components(
            np.log(power + _FLOOR * fitted.power), _COMPONENTS, 0.0
        )
        fitted = replace(fitted, mean=mean, components=components)
        # A quarter of the sample shows how much the parts vary.
        parts = zip(
            *[fitted._parts(field, "cpu") for field in sample[:: max(1, len(sample) // 8)]],
            strict=True,
        )
        spreads = [float(torch.cat(part).var(0, correction=0).sum().sqrt()) for part in parts]
        pairs = zip(_SHARES, spreads, strict=True)
        scales = tuple(share / s if s > _LEAST_SPREAD else 0.0 for share, s in pairs)
        return replace(fitted, part_scales=scales)

    def encode_field(self, field: Field, device: str = "cpu") -> np.ndarray:
        """Embed all chips of a field, shape (r, c, d); NaN where a chip is not finite."""
        parts = self._parts(field, device)
        scaled = [part * scale for part, scale in zip(parts, self.part_scales, strict=True)]
        result = torch.cat(scaled, dim=1).cpu().numpy()
        result[not_finite(field)] = np.nan
        return result.reshape(len(field.rows), len(field.columns), -1)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed chips without surroundings (n, h, w), reflected at their edges, as (n, d)."""
        margin = self.margin(batch.shape[1])
        fields = (Field.of_chip(chip, margin) for chip in batch)
        return np.concatenate([self.encode_field(field, device)[0] for field in fields])

    def _parts(self, field: Field, device: str) -> list[torch.Tensor]:
        """What an embedding is made of: tensors (r * c, d)."""
        image = resample(field, self.offset, self.scale, device)
        learnt, moments = self._learnt(image, device)
        mean, components = (
            torch.as_tensor(array, device=device) for array in (self.mean, self.components)
        )
        rows, columns = (image.windows(axis) for axis in (0, 1))
        spectra = [
            (torch.log(_power(image, row, columns) + _FLOOR * self.power) - mean) @ components
            for row in rows
        ]
        return [learnt, _between(image, torch.stack(spectra)), moments]

    def _network(self, device: str) -> StemNetwork:
        return trained(StemNetwork, weights_at(self.name, self.path), self.digest, device)

    def _learnt(self, image: Image, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed chips by the network, shape (r * c, d), beside their moments (r * c, 3).

        The moments are the mean of the chip and of its centre, and the
        logarithm of its standard deviation.
        """
        net = self._network(device)
        with torch.inference_mode():
            cells = net.cells(image.pixels[None])[0]
            half = len(cells) // 2
            narrowed = [
                (
                    image.boxes(0, part),
                    (cells if part == 1 else cells[:half]) @ image.boxes(1, part).T,
                )
                for part in WINDOWS
            ]
            rows, columns = (len(places) for places in image.chips)
            step = max(1, _AT_A_TIME // columns)
            embeddings, moments = [], []
            for start in range(0, rows, step):
                pooled = [(box[start : start + step] @ part).flatten(1).T for box, part in narrowed]
                whole, squares = pooled[0][:, :half], pooled[0][:, half:]
                embeddings.append(net.embed_pooled(torch.cat([whole, *pooled[1:], squares], dim=1)))
                moments.append(_moments(whole[:, 0], squares[:, 0], pooled[-1][:, 0]))
            return torch.cat(embeddings), torch.cat(moments)


def _finite_pixels(field: Field) -> np.ndarray:
    """Finite pixels of the chips of a field, without what surrounds them."""
    inner = tuple(
        slice(places[0] - start, places[-1] + field.chip_size - start)
        for places, start in zip((field.rows, field.columns), field.origin, strict=True)
    )
    pixels = field.pixels[inner]
    return pixels[np.isfinite(pixels)]


def _moments(mean: torch.Tensor, square: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    spread = (square - mean**2).clamp(min=0).sqrt()
    return torch.stack([mean, centre, torch.log(spread + 1e-2)], dim=1)


def _power(image: Image, row: int, columns: np.ndarray) -> torch.Tensor:
    """Power spectra of windows of one row of the lattice, shape (windows, p)."""
    top = row - image.start[0]
    first = (columns[0] - image.start[1]) // HOP
    stripe = image.pixels[top : top + CHIP].unfold(1, CHIP, HOP)
    windows = stripe[:, first : first + len(columns)].transpose(0, 1)
    hann = torch.hann_window(CHIP + 2, periodic=False, device=windows.device)[1:-1]
    hann = hann[:, None] * hann / hann.pow(2).mean()
    windows = (windows - windows.mean((1, 2), keepdim=True)) * hann
    return (torch.fft.rfft2(windows, norm="ortho").abs() ** 2).flatten(1)


def _sampled_power(images: Sequence[Image]) -> np.ndarray:
    """Power spectra of windows of a sample, of some rows only."""
    rows = [(image, row) for image in images for row in image.windows(0)]
    step = max(1, len(rows) * len(images[0].windows(1)) // _MOST_SPECTRA)
    return torch.cat([_power(image, row, image.windows(1)) for image, row in rows[::step]]).numpy()


def _between(image: Image, spectra: torch.Tensor) -> torch.Tensor:
    """Interpolate what windows (r', c', d) show at the chips, shape (r * c, d)."""
    along = torch.einsum("rw,wcd->rcd", image.between(0), spectra)
    return torch.einsum("cw,rwd->rcd", image.between(1), along).flatten(0, 1)
