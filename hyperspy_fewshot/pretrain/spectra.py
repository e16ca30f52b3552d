"""Corpora of spectra: X-ray lines, core-loss edges, broad peaks of luminescence."""

from abc import abstractmethod

import numpy as np
from scipy import ndimage

from .corpus import Corpus, Maker

#: Channels of a spectrum for training; an encoder takes any number.
CHANNELS = 384


class SpectrumCorpus(Corpus):
    """Base of the corpora of spectra: constituents, mixed in phases, counted.

    A specimen has a handful of constituents and a background; a class mixes
    some of them, and most classes are like another one but for one
    constituent. Members of a class differ in thickness, composition, slope of
    the background and energy drift, by amounts drawn for the specimen.

    Parameters
    ----------
    channels
        Channels of a spectrum.
    counts
        Least and greatest mean number of counts of a spectrum; drawn
        log-uniformly for a specimen. Encoders see pooled spectra: these are
        counts of a position times positions of the context.
    by_shape
        Whether every spectrum is divided by its own sum (EDS), or all by
        their mean sum.
    related
        Share of the classes that differ from another one of the specimen in
        one constituent only.
    """

    by_shape = False

    def __init__(
        self,
        channels: int = CHANNELS,
        counts: tuple[float, float] = (30.0, 3e4),
        related: float = 0.5,
    ):
        self.channels = channels
        self.counts = counts
        self.related = related

    @abstractmethod
    def constituents(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw background and constituents of a specimen.

        Returns
        -------
        background : numpy.ndarray
            Expected background, shape (channels,), of sum 1.
        constituents : numpy.ndarray
            Expected spectra, shape (k, channels); their sums say how strong
            each is beside the background.
        """

    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw the phases of one specimen; members are expected counts, of mean 1."""
        background, pool = self.constituents(rng)
        amounts: list[np.ndarray] = []
        for _ in range(n):
            if amounts and rng.random() < self.related:
                mixed = amounts[rng.integers(len(amounts))].copy()
                mixed[rng.integers(len(pool))] = rng.gamma(1.0) * rng.integers(2)
            else:
                mixed = rng.gamma(1.0, size=len(pool)) * (rng.random(len(pool)) < 0.5)
            amounts.append(mixed)
        densities = np.exp(rng.normal(0, rng.choice([0.05, 0.3]), n))
        spread = _Spread.draw(rng)
        return [
            _Phase(background, pool, mixed, density, spread)
            for mixed, density in zip(amounts, densities, strict=True)
        ]

    def specimen(self, rng: np.random.Generator, n: int, members: int) -> np.ndarray:
        """Draw a specimen as counts, divided by their sums."""
        expected = super().specimen(rng, n, members)
        level = np.exp(rng.uniform(*np.log(self.counts)))
        spectra = rng.poisson(expected * (level / expected.sum(axis=-1).mean())).astype(np.float32)
        sums = spectra.sum(axis=-1, keepdims=True)
        return spectra / (np.maximum(sums, 1) if self.by_shape else max(sums.mean(), 1e-3))


class XRayCorpus(SpectrumCorpus):
    """Specimens by EDS: families of lines on bremsstrahlung."""

    by_shape = True

    #: Energy and strength of the lines of a family beside the first one.
    families = (
        ((1.0, 1.0), (1.08, 0.13)),
        ((1.0, 1.0), (1.05, 0.55), (1.09, 0.2), (1.2, 0.1), (0.9, 0.05)),
        ((1.0, 1.0),),
    )

    def constituents(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw background and constituents of a specimen."""
        dispersion = rng.choice([0.005, 0.01, 0.02]) * CHANNELS / self.channels * rng.choice([1, 2])
        energy = rng.choice([-0.2, 0.0, 0.1]) + dispersion * np.arange(self.channels)
        resolution = rng.uniform(0.11, 0.15)
        clipped = np.maximum(energy, 0.05)
        absorbed = np.exp(-((rng.uniform(0.3, 0.7) / clipped) ** 2))
        background = np.maximum(rng.uniform(1.0, 3.0) * energy[-1] / clipped - 1, 0) * absorbed
        pool = []
        for _ in range(rng.integers(5, 13)):
            first = np.exp(rng.uniform(np.log(0.25), np.log(energy[-1])))
            spectrum = np.zeros(self.channels)
            for ratio, strength in self.families[rng.integers(len(self.families))]:
                centre = ratio * first
                # Fano noise beside that of the electronics.
                width = np.sqrt(max(resolution**2 + 2.5e-3 * (centre - 5.9), 1.6e-3)) / 2.355
                spectrum += strength * np.exp(-((energy - centre) ** 2) / (2 * width**2)) / width
            pool.append(spectrum * dispersion * np.exp(rng.normal(-1.5, 1.0)))
        return background / background.sum(), np.stack(pool)


class EdgeCorpus(SpectrumCorpus):
    """Specimens by EELS: edges, with fine structure, on a power law."""

    def constituents(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw background and constituents of a specimen.

        A constituent may be another one in a different state: shifted by a
        few channels, with another fine structure.
        """
        channel = np.arange(self.channels)
        start = rng.uniform(0.3, 3.0) * self.channels
        width = np.exp(rng.uniform(np.log(1.0), np.log(8.0)))
        background = (1 + channel / start) ** -rng.uniform(2, 4.5)
        strength = np.exp(rng.uniform(np.log(0.02), np.log(0.5)))
        pool: list[np.ndarray] = []
        onset = 0.0
        for _ in range(rng.integers(4, 10)):
            if pool and rng.random() < 0.3:
                onset += rng.normal(0, 1.5) * width
            else:
                onset = rng.uniform(-0.1, 0.95) * self.channels
            pool.append(
                self._edge(channel - onset, (start + channel) / (start + onset), width, rng)
            )
        pool = [edge * strength * np.exp(rng.normal(0, 0.7)) for edge in pool]
        return background / background.sum(), np.stack(pool)

    def _edge(
        self, past: np.ndarray, relative: np.ndarray, width: float, rng: np.random.Generator
    ) -> np.ndarray:
        """One edge of sum about 1; `past` [channels] and `relative` are energies from the onset."""
        edge = (past > 0) * np.maximum(relative, 1.0) ** -rng.uniform(2, 4)
        edge *= 1 - rng.uniform(0, 1) * np.exp(-np.maximum(past, 0) / (rng.uniform(2, 20) * width))
        for _ in range(rng.integers(0, 5)):
            # White lines, sharp and close to the onset, or broad features behind it.
            place = rng.uniform(1, 3) * width if rng.random() < 0.5 else rng.uniform(2, 30) * width
            spread = width * rng.uniform(0.5, 2.0) * (1 + place / (20 * width))
            edge += rng.gamma(1.0) * np.exp(-((past - place) ** 2) / (2 * spread**2))
        edge = ndimage.gaussian_filter1d(edge, width, mode="nearest")
        return edge / max(edge.sum(), 1.0)


class BandCorpus(SpectrumCorpus):
    """Specimens by cathodoluminescence or low-loss EELS: few broad bands."""

    def constituents(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw background and constituents of a specimen."""
        place = np.arange(self.channels) / self.channels
        background = 1 + rng.uniform(0, 3) * np.exp(-place / rng.uniform(0.02, 0.5))
        pool = []
        for _ in range(rng.integers(3, 8)):
            centre = rng.uniform(0.05, 0.95)
            widths = np.exp(rng.uniform(np.log(0.01), np.log(0.12))) * np.exp(rng.normal(0, 0.3, 2))
            side = np.where(place < centre, *widths)
            band = np.exp(-((place - centre) ** 2) / (2 * side**2))
            pool.append(band / band.sum() * np.exp(rng.normal(-0.5, 1.0)))
        return background / background.sum(), np.stack(pool)


class _Spread:
    """How much the members of a class differ, the same for all classes of a specimen."""

    def __init__(self, thickness: float, composition: float, slope: float, drift: float):
        self.thickness = thickness
        self.composition = composition
        self.slope = slope
        self.drift = drift

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Spread":
        """Draw the standard deviations; drift is in channels, the others are relative."""
        limits = np.array([[0.02, 0.4], [0.02, 0.3], [0.01, 0.3], [0.05, 1.0]])
        return cls(*np.exp(rng.uniform(*np.log(limits).T)))


class _Phase:
    """Draws members of one phase: expected spectra whose sums are thicknesses."""

    def __init__(self, background, pool, amounts, density: float, spread: _Spread):
        self.background = background
        self.pool = pool
        self.amounts = amounts
        self.density = density
        self.spread = spread

    def __call__(self, rng: np.random.Generator, m: int) -> np.ndarray:
        channels = np.arange(len(self.background))
        amounts = self.amounts * np.exp(
            rng.normal(0, self.spread.composition, (m, len(self.amounts)))
        )
        slopes = rng.normal(0, self.spread.slope, (m, 1)) * (channels / len(channels) - 0.5)
        spectra = self.background * np.exp(slopes) + amounts @ self.pool
        drifts = rng.normal(0, self.spread.drift, m)
        moved = [
            np.interp(channels + drift, channels, spectrum)
            for drift, spectrum in zip(drifts, spectra, strict=True)
        ]
        thickness = self.density * np.exp(rng.normal(0, self.spread.thickness, (m, 1)))
        return (np.stack(moved) * thickness).astype(np.float32)
