"""`"fourier"`: the log power spectrum of a chip with its mean and spread."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from .base import Encoder, project_onto_components, to_tensor

# Weight of mean and spread beside the power spectrum, as a share of its spread
# over the data set: enough for Z-contrast, too little to outvote the lattice.
_MOMENT_WEIGHT = 0.3
# Least spread of a feature that tells chips apart; what is smaller is rounding.
_LEAST_SPREAD = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class FourierEncoder(Encoder):
    """Training-free encoder of lattices and textures.

    The mean is subtracted, a Hann window applied, and the logarithm of the
    power at up to `max_frequency` cycles per item taken; phase, and with it
    the position of the lattice inside the chip, is discarded. Mean intensity
    and logarithm of the standard deviation follow. :meth:`fit` keeps the
    leading principal components, since the noise of a single periodogram is
    as large as its value.

    Parameters
    ----------
    max_frequency
        Highest spatial frequency [cycles per item].
    n_components
        Most components kept by :meth:`fit`.
    floor
        What is added to the power before the logarithm, in units of `power`:
        the noise of a periodogram below it does not count.
    power
        Mean power of an item at a frequency, in units of the squared `scale`;
        set by :meth:`fit`.
    mean, components
        Shapes (p,) and (p, d), set by :meth:`fit`.
    """

    max_frequency: int = 32
    n_components: int = 64
    floor: float = 3.0
    power: float = 1.0
    mean: np.ndarray | None = None
    components: np.ndarray | None = None

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn normalisation and components; see :meth:`Encoder.fit`."""
        fitted = super().fit(sample, kind=kind)
        # By Parseval's theorem the mean power is the mean variance.
        power = float(np.var(sample, axis=(1, 2), dtype=np.float64).mean()) / fitted.scale**2
        fitted = replace(fitted, power=power or 1.0)
        size = self.batch_of(sample.shape[1:])
        batches = (sample[i : i + size] for i in range(0, len(sample), size))
        features = np.concatenate([fitted._features(b, "cpu").numpy() for b in batches])
        spread = features.std(axis=0)
        spectrum = float(np.sqrt((spread[:-2] ** 2).sum()))
        spectrum = spectrum if spectrum > _LEAST_SPREAD else 1.0
        weights = np.ones(features.shape[1], np.float32)
        weights[-2:] = (
            _MOMENT_WEIGHT * spectrum / np.maximum(spread[-2:], _LEAST_SPREAD) / np.sqrt(2)
        )
        mean, components = project_onto_components(features * weights, self.n_components, 0.0)
        return replace(fitted, mean=mean / weights, components=components * weights[:, np.newaxis])

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) as (n, d)."""
        features = self._features(batch, device)
        if self.mean is not None:
            mean = torch.as_tensor(self.mean, device=device)
            features = (features - mean) @ torch.as_tensor(self.components, device=device)
        return features.cpu().numpy()

    def _features(self, batch: np.ndarray, device: str):
        """Log power and moments of items (n, h, w): a tensor (n, p)."""
        items = to_tensor(batch, device)
        items = (items - self.offset) / self.scale
        mean = items.mean((1, 2), keepdim=True)
        spread = items.std((1, 2), correction=0)
        window = _hann(items.shape[1:], device)
        power = torch.fft.rfft2((items - mean) * window, norm="ortho").abs() ** 2
        rows = min(self.max_frequency, (power.shape[1] - 1) // 2)
        columns = min(self.max_frequency, power.shape[2] - 1)
        # Rows run over negative frequencies too; the columns are one half.
        power = torch.cat([power[:, : rows + 1], power[:, power.shape[1] - rows :]], dim=1)
        spectrum = torch.log(power[:, :, : columns + 1] + self.floor * self.power).flatten(1)
        moments = torch.stack([mean[:, 0, 0], torch.log(spread + 1e-3)], dim=1)
        return torch.cat([spectrum, moments], dim=1)


def _hann(shape, device: str):
    """Hann window of unit power, shape (h, w)."""
    # Two samples more than needed, so that even 1 px items keep a weight.
    y, x = (torch.hann_window(n + 2, periodic=False, device=device)[1:-1] for n in shape)
    window = y[:, None] * x[None, :]
    return window / window.pow(2).mean().sqrt()
