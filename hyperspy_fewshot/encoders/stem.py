"""`"stem"`: the bundled, trained encoder of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.base import Encoder, check_orientations
from hyperspy_fewshot.encoders.components import principal_components
from hyperspy_fewshot.encoders.fourier import COMPONENTS, FLOOR, LEAST_SPREAD
from hyperspy_fewshot.encoders.local import LocalEncoder
from hyperspy_fewshot.encoders.network import EMBEDDING, WINDOWS
from hyperspy_fewshot.encoders.resampling import (
    CHIP,
    HOP,
    REACH,
    ResampledField,
    anchors,
    finite_pixels,
    not_finite,
    resample,
)
from hyperspy_fewshot.encoders.weights import TrainedEncoder, bundled_weights, file_digest, spreads
from hyperspy_fewshot.grids.field import Field

# Power spectra from which the components are learnt, about.
_MOST_SPECTRA = 1024
# Rows and columns of chips in a field from which the texture is learnt, about.
_MOST_ROWS = 32
# Chips embedded at a time, to bound the memory.
_AT_A_TIME = 8192
# Standard deviations of the feature groups (learnt, power spectrum, moments, texture) over the data
# set. Chosen on labelled micrographs: equal ones give moments too much weight where structure differs.
_SHARES = (1.0, 0.7, 0.3, 0.9)
# Components of the texture, and the index of its window in `WINDOWS`.
_TEXTURES, _INNER = 48, 1
# Smallest side of a chip that is embedded beside one of twice the side [px]. Smaller ones would have
# to be magnified, which costs more than the largest chips.
_LEAST_HALF = CHIP
# Side of the chips of the local encoder [px], of even and odd chip sizes: all have the same centre.
_LOCAL_SIDES = (8, 9)
# Spreads of the parts: chips of twice the side of others, which know less of where something ends,
# and local features, in two groups. Chosen on labelled micrographs.
_TWICE_SPREAD, _LOCAL_SPREAD = 0.6, math.sqrt(2)


@dataclass(frozen=True, eq=False, repr=False)
class StemEncoder(TrainedEncoder):
    """Trained, dense encoder of images.

    The image is resampled so that a chip has 64 x 64 px, and a convolutional network runs over it
    once, so overlapping chips are nearly free. A chip is described by the mean and the spread of
    the features inside its window, and also by its log power spectrum and its moments, so that
    orientation, spacing and Z-contrast do not depend on training, and by principal components of
    the features in its middle, the texture. Only the part of a chip inside the image counts.
    :meth:`fit` sets `power`, the mean power of a chip at a frequency, and the means (p,) and
    components (p, d) of the log power spectrum, `mean` and `components`, and of the texture,
    `inner_mean` and `inner_components`.

    An image is embedded in several parts: chips of the given side, chips of half that side, if this
    is at least 64 px, and the surroundings of a few pixels, see :class:`LocalEncoder`. In a crystal
    lattice the surroundings, and the texture unless it is `textured`, are left out: they depend on
    where in the unit cell a place lies.
    """

    power: float = 1.0
    mean: np.ndarray | None = None
    components: np.ndarray | None = None
    inner_mean: np.ndarray | None = None
    inner_components: np.ndarray | None = None
    textured: bool = True

    # It is seen from the components of the texture.
    _not_hashed: ClassVar[frozenset[str]] = TrainedEncoder._not_hashed | {"textured"}
    dense: ClassVar[bool] = True

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Return the encoder with weights from a file; None: the bundled weights."""
        bundled = file_digest(bundled_weights("stem"))
        digest = bundled if path is None else file_digest(path)
        if digest == bundled:
            return cls("stem", ("image",), digest=digest)
        encoder = cls("stem", ("image",), path=str(path.resolve()), digest=digest)
        # Weights that do not fit are refused now rather than in a computation.
        encoder.network("cpu")
        return encoder

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """Lengths of the learnt features, the power spectrum, the moments and the texture."""
        texture = (self.inner_components.shape[1],) if self.textured else ()
        return (EMBEDDING, self.components.shape[1], 3, *texture)

    def parts(self, chip_size: int, lattice: bool) -> tuple[tuple[Encoder, int, float], ...]:
        """Return the encoders of large chips, of half as large ones, and of single places."""
        half = chip_size // 2
        # Halves of odd chips have other centres than the chips.
        half += (chip_size - half) % 2
        chips = replace(self, textured=not lattice)
        halves = ((chips, half, 1.0),) if half >= _LEAST_HALF else ()
        side = min(chip_size, _LOCAL_SIDES[chip_size % 2])
        local = ((LocalEncoder("local", ("image",)), side, _LOCAL_SPREAD),)
        whole = (chips, chip_size, _TWICE_SPREAD if halves else 1.0)
        return (whole, *halves, *(() if lattice else local))

    def margin(self, chip_size: int) -> int:
        """Return how many pixels around a chip :meth:`encode_field` needs."""
        step = chip_size / CHIP
        return math.ceil(REACH * step + max(step, 1.0)) + 1

    def fit(self, sample: Sequence[Field], *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn from fields of images; see :meth:`Encoder.fit`."""
        check_orientations(self, kind)
        pixels = np.concatenate([finite_pixels(field) for field in sample])
        fitted = super().fit(pixels[:, np.newaxis].astype(np.float32), kind=kind)
        power = _sampled_power([resample(f, fitted.offset, fitted.scale, "cpu") for f in sample])
        fitted = replace(fitted, power=float(power.mean()) or 1.0)
        mean, components = principal_components(np.log(power + FLOOR * fitted.power), COMPONENTS)
        fitted = replace(fitted, mean=mean, components=components)
        # Some chips of every eighth field show the texture and how much the feature groups vary.
        some = [_thinned(field) for field in sample[:: max(1, len(sample) // 8)]]
        if self.textured:
            images = [resample(f, fitted.offset, fitted.scale, "cpu") for f in some]
            inner = torch.cat([fitted._learnt(image, "cpu")[2] for image in images]).numpy()
            spread = np.maximum(inner.std(axis=0), LEAST_SPREAD)
            mean, components = principal_components(inner / spread, _TEXTURES)
            components = components / spread[:, np.newaxis]
            fitted = replace(fitted, inner_mean=mean * spread, inner_components=components)
        parts = [fitted._parts(field, "cpu") for field in some]
        found = spreads([torch.cat(group) for group in zip(*parts, strict=True)])
        pairs = zip(_SHARES[: len(found)], found, strict=True)
        scales = tuple(share / s if s > LEAST_SPREAD else 0.0 for share, s in pairs)
        return replace(fitted, part_scales=scales)

    def encode_field(self, field: Field, device: str = "cpu") -> np.ndarray:
        """Embed all chips of a field, shape (r, c, d); NaN where a chip is not finite."""
        step = field.chip_size / CHIP
        (rows, down), (columns, across) = (
            anchors(first, step) for first in (field.rows, field.columns)
        )
        known = self.joined(self._parts(replace(field, rows=rows, columns=columns), device))
        known = known.reshape(len(rows), len(columns), -1)
        result = np.einsum("cw,rwd->rcd", across, np.tensordot(down, known, axes=1), optimize=True)
        result[not_finite(field).reshape(result.shape[:2])] = np.nan
        return result

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed single chips (n, h, w), reflected at their edges, as (n, d)."""
        margin = self.margin(batch.shape[1])
        fields = (Field.of_chip(chip, margin) for chip in batch)
        return np.concatenate([self.encode_field(field, device)[0] for field in fields])

    def _parts(self, field: Field, device: str) -> list[torch.Tensor]:
        """Feature groups before scaling, tensors (r * c, d)."""
        image = resample(field, self.offset, self.scale, device)
        learnt, moments, inner = self._learnt(image, device)
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
        groups = [learnt, spectrum, moments]
        if self.textured:
            mean, components = (
                torch.as_tensor(array, device=device)
                for array in (self.inner_mean, self.inner_components)
            )
            groups.append((inner - mean) @ components)
        return groups

    def _learnt(self, image: ResampledField, device: str) -> tuple[torch.Tensor, ...]:
        """Embed chips with the network, (r * c, d); also their moments, and features of the middle.

        The moments (r * c, 3) are the mean, the mean of the centre, and the logarithm of the standard
        deviation. The features (r * c, p) are means and standard deviations inside the half window.
        """
        network = self.network(device)
        with torch.inference_mode():
            cells = network.cells(image.pixels[None])[0]
            half = len(cells) // 2
            # Along the columns all chips at once, along the rows some at a time.
            # The squares of the last window are not needed.
            along = [
                (cells[:half] if part == WINDOWS[-1] else cells) @ image.boxes(1, part).T
                for part in WINDOWS
            ]
            step = max(1, _AT_A_TIME // len(image.chips[1]))
            boxes = zip(*(image.boxes(0, part).split(step) for part in WINDOWS), strict=True)
            found = []
            for some in boxes:
                pooled = [(b @ part).flatten(1).T for b, part in zip(some, along, strict=True)]
                means, squares = zip(*((p[:, :half], p[:, half:]) for p in pooled), strict=True)
                learnt = network.embed_pooled(torch.cat([*means, squares[0]], dim=1))
                spread = (squares[0][:, 0] - means[0][:, 0] ** 2).clamp(min=0).sqrt()
                moments = [means[0][:, 0], means[-1][:, 0], torch.log(spread + 1e-2)]
                inner = (squares[_INNER] - means[_INNER] ** 2).clamp(min=0).sqrt()
                inner = torch.cat([means[_INNER], inner], dim=1)
                found.append((learnt, torch.stack(moments, dim=1), inner))
            return tuple(torch.cat(group) for group in zip(*found, strict=True))


def _thinned(field: Field) -> Field:
    """Leave out chips of a field so that about 32 rows and columns remain."""
    rows, columns = (
        along[:: max(1, len(along) // _MOST_ROWS)] for along in (field.rows, field.columns)
    )
    return replace(field, rows=rows, columns=columns)


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
