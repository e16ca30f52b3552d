"""The network of the bundled spectrum encoder, and the filters that it chooses."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad, softplus

from .base import project_onto_components

# Standard deviations of the Gaussians between which the scales lie [channels].
_WIDTHS = (1, 2, 4, 8, 16, 32)
_COMPONENTS = 8
# A component of signal variance v is divided by v**_POWER, so that faint
# differences count; as few as above noise are kept, hence it does no harm.
_POWER = 0.25
# Spectra from which the signal at every channel and scale is judged.
_JUDGED = 512
# Share of the largest eigenvalue of pure noise that counts as noise in training.
_SHRINKAGE = 0.4


class SpectrumNetwork(nn.Module):
    """How much each scale counts at each channel, judged from the data set.

    Input are the spectra of one data set; they decide the filters with which
    they are filtered.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        scales = len(_WIDTHS) + 1
        self.body = nn.Sequential(
            nn.Conv1d(scales + 2, width, 9, padding="same"),
            nn.GELU(),
            nn.Conv1d(width, width, 9, padding="same", dilation=4),
            nn.GELU(),
            nn.Conv1d(width, width, 9, padding="same", dilation=8),
            nn.GELU(),
            nn.Conv1d(width, scales, 1),
        )
        # Before training all scales count the same.
        nn.init.zeros_(self.body[-1].weight)
        nn.init.constant_(self.body[-1].bias, float(np.log(np.e - 1)))

    def filters(self, scaled: "Scaled") -> torch.Tensor:
        """Filters of a data set as a matrix.

        Parameters
        ----------
        scaled
            Its spectra, n of p channels.

        Returns
        -------
        torch.Tensor
            Shape (p, p): ``scaled.spectra @ filters`` is filtered.
        """
        judged = scaled.spectra[:: max(1, len(scaled.spectra) // _JUDGED)]
        mean = scaled.mean.abs()
        scales = _scales(len(mean)).to(mean)
        noise = (scaled.noise[:, None] * scales.square()).sum(1).clamp(min=1e-20)
        ratio = (judged @ scales).square().mean(1) / noise - 1
        ratio = torch.log(ratio.clamp(min=0.01, max=1e6))
        level = torch.log(mean / mean.mean().clamp(min=1e-20) + 0.03)
        strongest = ratio.amax(0).mean().expand(1, len(mean))
        seen = torch.cat([level[None], strongest / 4, ratio / 3])
        return (softplus(self.body(seen[None])[0])[:, None] * scales).sum(0)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Filter the spectra (n, p) of one data set, and shrink them towards what they share.

        The shrinkage is a soft choice of components, through which gradients
        are stable.
        """
        scaled = Scaled.of(items)
        filters = self.filters(scaled)
        filtered, n = scaled.spectra @ filters, len(items)
        first, second = scaled.traces(filters)
        gram = filtered @ filtered.T / n
        level = _SHRINKAGE * (first / n + second / first)
        return torch.linalg.solve(gram + level * torch.eye(n, device=gram.device), gram) @ filtered


@dataclass(frozen=True)
class Scaled:
    """Spectra of a data set, scaled so that noise is about the same in all channels.

    Parameters
    ----------
    spectra
        Centred and scaled, shape (n, p).
    mean, weights
        What was subtracted, and what was multiplied with, shapes (p,).
    noise
        Variance of the noise of the scaled spectra, shape (p,).
    """

    spectra: torch.Tensor
    mean: torch.Tensor
    weights: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def of(cls, items: torch.Tensor) -> "Scaled":
        """Scale spectra (n, p)."""
        mean = items.mean(0)
        level = mean.abs()
        if len(mean) > 2 and (mean < 0).any():
            # Something was subtracted, and the mean says nothing of the noise.
            noise = torch.diff(items - mean, n=2, dim=1).square().mean(0)
            level = pad(noise, (1, 1)) @ _gaussian(len(mean), 16).to(noise)
        weights = 1 / torch.sqrt(level + (0.01 * level.mean() or 1.0))
        spectra, share = (items - mean) * weights, level * weights**2
        noise = torch.full_like(share, 1e-20) + 1e-4 * spectra.square().mean()
        if (share[1:-1] > 0.5).any():
            # Second differences along energy hold noise alone in most channels;
            # channels almost empty have less of it.
            rough = torch.diff(spectra, n=2, dim=1).square().mean(0)[share[1:-1] > 0.5]
            noise = noise + share * rough.median() / 6
        return cls(spectra, mean, weights, noise)

    def traces(self, filters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Traces of the covariance of filtered noise, and of its square."""
        covariance = filters.T @ (self.noise[:, None] * filters)
        return covariance.trace(), covariance.square().sum()

    def independent(self) -> float:
        """As how many independent spectra the pooled ones count.

        Noise of different channels correlates by chance, with a mean square of
        one over their number.
        """
        # Every third difference shares no channel with the others.
        rough = torch.diff(self.spectra, n=2, dim=1)
        rough = rough[:, self.noise[1:-1] > self.noise.max() / 2][:, ::3][:, :512]
        if rough.shape[1] < 8:
            return float(len(rough))
        rough = rough / rough.square().sum(0).sqrt().clamp(min=1e-20)
        pairs = torch.triu_indices(rough.shape[1], rough.shape[1], 1)
        square = (rough.T @ rough)[pairs[0], pairs[1]].square().median()
        # Median and mean of the square of a normal variable are as 0.455 to 1.
        return float(min(0.455 / max(float(square), 1e-9), len(rough)))


def _gaussian(channels: int, width: float) -> torch.Tensor:
    """Matrix (channels, channels) with which spectra are smoothed: ``spectra @ matrix``."""
    distance = torch.arange(1.0 - channels, channels)
    kernel = torch.exp(-(distance**2) / (2 * width**2)).unfold(0, channels, 1).flip(0)
    return kernel / kernel.sum(0)


def _scales(channels: int) -> torch.Tensor:
    """Matrices that divide spectra into scales, finest first; they add up to the identity.

    Shape (scales, channels, channels).
    """
    smoothers = [torch.eye(channels), *(_gaussian(channels, width) for width in _WIDTHS)]
    finer = [fine - coarse for fine, coarse in zip(smoothers[:-1], smoothers[1:], strict=True)]
    return torch.stack([*finer, smoothers[-1]])


def components_above_noise(scaled: Scaled, filters: torch.Tensor) -> np.ndarray:
    """Principal components of filtered spectra, shape (p, d), weighted by their signal."""
    filtered = scaled.spectra @ filters
    _, vectors = project_onto_components(filtered.numpy(), _COMPONENTS, 0.0)
    vectors = torch.as_tensor(vectors)
    components = filters @ vectors
    first, second = map(float, scaled.traces(filters))
    # Coloured noise acts as white noise of this variance in so many channels.
    level, channels = second / max(first, 1e-30), first**2 / max(second, 1e-30)
    variance = (filtered @ vectors).square().mean(0).numpy()
    signal = _signal_variance(variance, level, channels / scaled.independent())
    noise = (scaled.noise[:, None] * components.square()).sum(0).numpy()
    if not (signal > 0).any():
        # A data set without any signal still needs an embedding.
        return components.numpy()[:, :1]
    kept = signal > 0
    gain = (signal / (signal + noise))[kept] ** 2 * signal[kept] ** -_POWER
    return components.numpy()[:, kept] * gain.astype(np.float32)


def _signal_variance(variance: np.ndarray, noise: float, ratio: float) -> np.ndarray:
    """Variance of the signal along sample components, 0 for those of noise.

    Parameters
    ----------
    variance
        Of the sample along each component, shape (d,).
    noise
        Variance of white noise in each of the channels.
    ratio
        Channels divided by the number of independent spectra.
    """
    excess = variance - noise * (1 + ratio)
    root = np.sqrt(np.maximum(excess**2 - 4 * ratio * noise**2, 0))
    found = (excess > 0) & (excess**2 > 4 * ratio * noise**2)
    signal = np.where(found, (excess + root) / 2, 1.0)
    # The component of a sample is turned away from that of the signal.
    cosine = (1 - ratio * (noise / signal) ** 2) / (1 + ratio * noise / signal)
    return np.where(found, signal * np.maximum(cosine, 0), 0.0)
