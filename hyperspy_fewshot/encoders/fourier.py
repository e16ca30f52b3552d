"""`"fourier"`: the log power spectrum of a chip with its mean and standard deviation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from hyperspy_fewshot.encoders.base import Encoder, to_tensor
from hyperspy_fewshot.encoders.components import principal_components

#: Added to the power before the logarithm, in units of the mean power: suppresses the noise of weak
#: frequencies, whose logarithm scatters most.
FLOOR = 3.0
#: Components that are kept at most; more of them hold noise.
COMPONENTS = 64
# Standard deviation of the moments over the data set, relative to that of the power spectrum:
# enough for Z-contrast, not enough to outweigh the crystal lattice. Chosen on labelled micrographs.
_MOMENT_WEIGHT = 0.3
#: A smaller standard deviation over the data set consists of rounding errors.
LEAST_SPREAD = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class FourierEncoder(Encoder):
    """Encoder of crystal lattices and textures that needs no training.

    The mean is subtracted, a Hann window is applied, and the logarithm of the power at up to
    `max_frequency` cycles per item is taken. The phase, and with it the position of the crystal
    lattice inside the chip, is discarded. The mean intensity and the logarithm of the standard
    deviation are appended. :meth:`fit` keeps the leading principal components, since the noise of a
    single periodogram is as large as its value.
    It sets `power`, the mean power of an item at a frequency in units of the squared `scale`, and
    the `mean` (p,) and `components` (p, d) of the features.
    """

    max_frequency: int = 32
    power: float = 1.0
    mean: np.ndarray | None = None
    components: np.ndarray | None = None

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn the normalisation and the components; see :meth:`Encoder.fit`."""
        fitted = super().fit(sample, kind=kind)
        # By Parseval's theorem the mean power is the mean variance.
        power = float(np.var(sample, axis=(1, 2), dtype=np.float64).mean()) / fitted.scale**2
        fitted = replace(fitted, power=power or 1.0)
        size = self.batch_of(sample.shape[1:])
        batches = (sample[i : i + size] for i in range(0, len(sample), size))
        features = np.concatenate([fitted._features(b, "cpu").numpy() for b in batches])
        spread = features.std(axis=0)
        spectrum = float(np.sqrt((spread[:-2] ** 2).sum()))
        spectrum = spectrum if spectrum > LEAST_SPREAD else 1.0
        moments = np.maximum(spread[-2:], LEAST_SPREAD)
        weights = np.ones(features.shape[1], np.float32)
        weights[-2:] = _MOMENT_WEIGHT * spectrum / moments / np.sqrt(2)
        mean, components = principal_components(features * weights, COMPONENTS)
        return replace(fitted, mean=mean / weights, components=components * weights[:, np.newaxis])

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) as (n, d)."""
        features = self._features(batch, device)
        if self.mean is not None:
            mean = torch.as_tensor(self.mean, device=device)
            features = (features - mean) @ torch.as_tensor(self.components, device=device)
        return features.cpu().numpy()

    def _features(self, batch: np.ndarray, device: str) -> torch.Tensor:
        """Log power and moments of items (n, h, w), shape (n, p)."""
        items = (to_tensor(batch, device) - self.offset) / self.scale
        mean = items.mean((1, 2), keepdim=True)
        spread = items.std((1, 2), correction=0)
        window = _hann(items.shape[1:], device)
        power = torch.fft.rfft2((items - mean) * window, norm="ortho").abs() ** 2
        rows = min(self.max_frequency, (power.shape[1] - 1) // 2)
        columns = min(self.max_frequency, power.shape[2] - 1)
        # Rows also run over negative frequencies; columns are one half.
        power = torch.cat([power[:, : rows + 1], power[:, power.shape[1] - rows :]], dim=1)
        spectrum = torch.log(power[:, :, : columns + 1] + FLOOR * self.power).flatten(1)
        moments = torch.stack([mean[:, 0, 0], torch.log(spread + 1e-3)], dim=1)
        return torch.cat([spectrum, moments], dim=1)


def _hann(shape: Sequence[int], device: str) -> torch.Tensor:
    """Hann window of unit power, shape (h, w)."""
    # The zeros at both ends are cut off, so that items of 1 px have a weight, too.
    y, x = (torch.hann_window(n + 2, periodic=False, device=device)[1:-1] for n in shape)
    window = y[:, None] * x[None, :]
    return window / window.pow(2).mean().sqrt()
