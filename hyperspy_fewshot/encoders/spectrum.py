"""`"spectrum"`: components of spectra that a trained network has filtered along energy."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool1d, pad, softplus

from .base import Encoder, divide_by_sum, project_onto_components, to_tensor
from .pca import PCAEncoder
from .threads import one_thread
from .weights import described, trained, weights_at

#: Spectra of more channels are binned.
MOST_CHANNELS = 2048

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


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumEncoder(Encoder):
    """Trained encoder of spectra that knows the data set, not the labels.

    As for ``"pca"``, values are divided by the square root of their mean over
    the data set. A network is shown, for every channel and scale, the mean
    and how much of the variance exceeds noise, and answers how much each
    counts: peaks are matched by filters of their width, and what holds noise
    alone is left out. Of what is filtered, the principal components above
    noise are kept [1]_, each weighted by the share of it that is signal.
    Beside them stand the components of ``"pca"``, of spectra as they are and
    of spectra divided by their sums, since thickness may or may not belong to
    a class. All of this is linear, and nearly as fast as ``"pca"``.

    Parameters
    ----------
    sum_normalise
        Whether what is filtered are items divided by their sum; set by
        :meth:`fit`.
    mean, components
        Of what is filtered, shapes (p,) and (p, d), set by :meth:`fit`; d is at
        most 8.
    raw_mean, raw_components, shape_mean, shape_components
        The same, unfiltered, of items and of items divided by their sums.
    path
        File of weights, .safetensors, "" for those of the package; only
        :meth:`fit` reads it.
    digest
        SHA-256 of that file.

    References
    ----------
    .. [1] M. Gavish, D. L. Donoho, IEEE Trans. Inf. Theory 63, 2137 (2017).
    """

    sum_normalise: bool = False
    mean: np.ndarray | None = None
    components: np.ndarray | None = None
    raw_mean: np.ndarray | None = None
    raw_components: np.ndarray | None = None
    shape_mean: np.ndarray | None = None
    shape_components: np.ndarray | None = None
    path: str = ""
    digest: str = ""

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"path"}

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Take the weights from a file; None: those of the package."""
        return cls("spectrum", ("spectrum",), **described("spectrum", path))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Lengths of the parts of an embedding: filtered, of spectra as they are, of their shapes."""
        parts = (self.components, self.raw_components, self.shape_components)
        return tuple(part.shape[1] for part in parts)

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn filters and components; see :meth:`Encoder.fit`."""
        raw = _binned(sample, "cpu")
        shape = divide_by_sum(raw)
        mean, components = self._filtered(shape if sum_normalise else raw)
        plain = [PCAEncoder("pca").fit(x.numpy(), kind="spectrum") for x in (raw, shape)]
        return replace(
            self,
            sum_normalise=sum_normalise,
            mean=mean,
            components=_equalised(shape if sum_normalise else raw, components),
            raw_mean=plain[0].mean,
            raw_components=_equalised(raw, plain[0].components),
            shape_mean=plain[1].mean,
            shape_components=_equalised(shape, plain[1].components),
        )

    def _filtered(self, items: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Mean of items (n, p), and the components (p, d) of what the network filters."""
        with one_thread(), torch.no_grad():
            scale = float(items.abs().sum(1).mean()) or 1.0
            scaled = _Scaled.of(items / scale)
            path = weights_at("spectrum", self.path)
            network = trained(SpectrumNetwork, path, self.digest, "cpu")
            components = _components_above_noise(scaled, network.filters(scaled))
        components = scaled.weights.numpy()[:, np.newaxis] * components / scale
        return scaled.mean.numpy() * scale, components

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, channels) as (n, d).

        Raises
        ------
        ValueError
            If the encoder is not fitted.
        """
        if self.components is None:
            raise ValueError(
                "The 'spectrum' encoder has to be fitted first: "
                "encoder.fit(sample, kind='spectrum')"
            )
        raw = _binned(batch, device)
        shape = divide_by_sum(raw)
        parts = (
            (shape if self.sum_normalise else raw, self.mean, self.components),
            (raw, self.raw_mean, self.raw_components),
            (shape, self.shape_mean, self.shape_components),
        )
        embedded = [
            (items - torch.as_tensor(mean, device=device))
            @ torch.as_tensor(components, device=device)
            for items, mean, components in parts
        ]
        return torch.cat(embedded, dim=1).cpu().numpy()


def _binned(batch: np.ndarray, device: str) -> torch.Tensor:
    """Items of at most so many channels: a tensor (n, p)."""
    items = to_tensor(batch, device)
    side = -(-items.shape[1] // MOST_CHANNELS)
    return avg_pool1d(items[:, None], side, ceil_mode=True)[:, 0] if side > 1 else items


def _equalised(items: torch.Tensor, components: np.ndarray) -> np.ndarray:
    """Components scaled so that the embeddings of a sample have a total variance of 1."""
    variance = float((items @ torch.as_tensor(components)).var(0, correction=0).sum())
    return components / np.float32(np.sqrt(variance) or 1.0)


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

    def filters(self, scaled: "_Scaled") -> torch.Tensor:
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
        scaled = _Scaled.of(items)
        filters = self.filters(scaled)
        filtered, n = scaled.spectra @ filters, len(items)
        first, second = scaled.traces(filters)
        gram = filtered @ filtered.T / n
        level = _SHRINKAGE * (first / n + second / first)
        return torch.linalg.solve(gram + level * torch.eye(n, device=gram.device), gram) @ filtered


@dataclass(frozen=True)
class _Scaled:
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
    def of(cls, items: torch.Tensor) -> "_Scaled":
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


def _components_above_noise(scaled: _Scaled, filters: torch.Tensor) -> np.ndarray:
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
