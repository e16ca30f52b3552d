"""`"spectrum"`: components of smoothed, of unchanged and of sum-normalised spectra."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.ndimage import gaussian_filter1d

from hyperspy_fewshot.encoders.components import eigenpairs, poisson_weights
from hyperspy_fewshot.encoders.pca import LinearEncoder, totals

# Standard deviation of the Gaussian [channels]. Peaks are wider than a channel, noise is not. On
# simulated maps 2 was as good as a trained filter for every channel, and better than 1.
_WIDTH = 2.0
# Spectra have few constituents above the noise; as for ``"pca"``.
_COMPONENTS = 8
# A smoothed component of variance v is divided by v**_POWER, so that faint differences count.
_POWER = 0.25
# Standard deviation of the Gaussian that smooths the roughness of spectra [channels]: wider than
# peaks, narrower than the variation of a background.
_ROUGHNESS_WIDTH = 16.0
# Spectra from which the components are learnt, for speed: more of them gave the same accuracy.
_LEARNT_FROM = 4096


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumEncoder(LinearEncoder):
    """Three descriptions of a spectrum side by side, without training and without labels.

    The first consists of the principal components of spectra that are smoothed along energy with a
    Gaussian; each is weighted by the share of its variance that exceeds that of the first component
    left out, which is noise. For EDS the spectra are sum-normalised before. The others are the
    components of ``"pca"``, of spectra as they are and of sum-normalised spectra, since thickness
    may or may not belong to a class. `lengths` are the numbers of components of each, set by `fit`.
    """

    lengths: tuple[int, ...] = ()

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """Number of components of smoothed, unchanged and sum-normalised spectra."""
        return self.lengths

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn means and components; see :meth:`Encoder.fit`."""
        if len(sample) > _LEARNT_FROM:
            sample = np.random.default_rng(0).choice(sample, _LEARNT_FROM, replace=False)
        items = self.binned(sample).numpy()
        total, signs, least = totals(items)
        spectra, profiles = _Scaled.of(items), _Scaled.of(items / total)
        smoothed = profiles if sum_normalise else spectra
        groups = [smoothed.smoothed_components(), spectra.components(), profiles.components()]
        means = (smoothed.mean, spectra.mean, profiles.mean)
        lengths = tuple(group.shape[1] for group in groups)
        return replace(
            self,
            components=np.concatenate(groups, axis=1),
            centre=np.concatenate([m @ group for m, group in zip(means, groups, strict=True)]),
            divided=np.repeat([sum_normalise, False, True], lengths),
            signs=signs,
            least=least,
            lengths=lengths,
        )


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Mean (p,) and Poisson weights (p,) of spectra, and the covariance (p, p) of weighted ones.

    All groups follow from the covariance; computing it takes most of the time of a fit.
    """

    mean: np.ndarray
    weights: np.ndarray
    covariance: np.ndarray
    rank: int

    @classmethod
    def of(cls, items: np.ndarray) -> Self:
        """Scale items (n, p)."""
        mean = items.mean(axis=0)
        weights = poisson_weights(_noise_level(items, mean))
        scaled = (items - mean) * weights
        return cls(mean, weights, scaled.T @ scaled / len(items), max(1, len(items) - 1))

    def components(self) -> np.ndarray:
        """Return the principal components, shape (p, d)."""
        return self._equalised(eigenpairs(self.covariance, min(_COMPONENTS, self.rank))[1])

    def smoothed_components(self) -> np.ndarray:
        """Return components that smooth a spectrum along energy and project it, shape (p, d)."""
        smoothed = gaussian_filter1d(self.covariance, _WIDTH, axis=0)
        smoothed = gaussian_filter1d(smoothed, _WIDTH, axis=1)
        variance, vectors = eigenpairs(smoothed, min(_COMPONENTS + 1, self.rank))
        noise = variance[_COMPONENTS] if len(variance) > _COMPONENTS else 0.0
        variance, vectors = np.maximum(variance[:_COMPONENTS], 1e-30), vectors[:, :_COMPONENTS]
        gain = (1 - noise / variance) * (variance / variance[0]) ** -_POWER
        # Smoothing with reflected ends is symmetric: smoothed components apply to raw spectra.
        return self._equalised(gaussian_filter1d(vectors * gain, _WIDTH, axis=0))

    def _equalised(self, vectors: np.ndarray) -> np.ndarray:
        """Scale components so that the embeddings of the sample have a total variance of 1."""
        variance = float(np.sum(vectors * (self.covariance @ vectors)))
        scaled = self.weights[:, np.newaxis] * vectors / (np.sqrt(max(variance, 0.0)) or 1.0)
        return scaled.astype(np.float32)


def _noise_level(items: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Variance of the noise of spectra (n, p) up to a factor, shape (p,).

    For counts it is the mean. After background subtraction, when the mean is negative somewhere, it
    is estimated from the roughness of the spectra.
    """
    if len(mean) < 3 or not (mean < 0).any():
        return mean
    rough = (np.diff(items - mean, n=2, axis=1) ** 2).mean(axis=0)
    return gaussian_filter1d(np.pad(rough, 1, mode="edge"), _ROUGHNESS_WIDTH)
