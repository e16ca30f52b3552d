"""A corpus of diffraction patterns: positions of spots, discs and bands define the class."""

from dataclasses import dataclass, replace

import numpy as np

from hyperspy_fewshot.pretrain.corpus import Corpus, Maker

#: Side of a pattern for the encoder [px].
PATTERN = 64


class PatternCorpus(Corpus):
    """Patterns of one instrument: spots, discs, rings or Kikuchi bands.

    Classes are orientations and phases. Members differ in dose, thickness, background and a small
    shift of the whole pattern. All patterns of a specimen have the same direct beam, noise and
    intensity scale, linear or logarithmic.

    Parameters
    ----------
    side
        Side of the patterns [px].
    """

    def __init__(self, side: int = PATTERN):
        self.side = side

    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw the orientations and phases of one specimen."""
        family = (Spots, Bands)[rng.random() < 0.4]
        first = family.draw(rng)
        crystals = [first]
        while len(crystals) < n:
            related = rng.random() < 0.7
            crystals.append(crystals[rng.integers(len(crystals))].vary(rng) if related
                            else family.draw(rng, first))  # fmt: skip
        return [self._maker(crystal) for crystal in crystals]

    def _maker(self, crystal: "Spots | Bands") -> Maker:
        return lambda rng, m: crystal.render(rng, m, self.side)

    def specimen(self, rng: np.random.Generator, n: int, members: int) -> np.ndarray:
        """Draw a specimen with counting noise, normalised like a data set."""
        clean = super().specimen(rng, n, members)
        dose = np.exp(
            rng.uniform(np.log(2.0), np.log(300)) + rng.normal(0, 0.1, (n, members, 1, 1))
        )
        counts = rng.poisson(np.clip(clean, 0, None) * dose)
        images = np.log1p(counts) if rng.random() < 0.5 else counts / dose
        images = images + rng.normal(0, 0.02, images.shape)
        low, middle, high = np.percentile(images[..., ::3, ::3], (1, 50, 99))
        return ((images - middle) / max(high - low, 1e-3)).astype(np.float32)


@dataclass(frozen=True)
class Spots:
    """A direct beam and a reciprocal lattice of spots or discs, with rings of the support film.

    Lengths are relative to the side of the pattern.
    """

    vectors: np.ndarray
    radius: float
    sharp: bool
    excitation: np.ndarray
    ring: float
    film: float

    @classmethod
    def draw(cls, rng: np.random.Generator, like: "Spots | None" = None) -> "Spots":
        """Draw a crystal; properties of the instrument are taken from `like`."""
        length, angle = rng.uniform(0.09, 0.3), np.deg2rad(rng.choice((90, 60, 75)))
        turn, ratio = rng.uniform(0, 2 * np.pi), rng.choice((1.0, rng.uniform(1, 1.6)))
        vectors = length * np.array(
            [
                [np.cos(turn), np.sin(turn)],
                [ratio * np.cos(turn + angle), ratio * np.sin(turn + angle)],
            ]
        )
        radius = rng.uniform(0.012, 0.05) if like is None else like.radius
        sharp = bool(rng.random() < 0.6) if like is None else like.sharp
        film = rng.uniform(0, 0.3) if like is None else like.film
        return cls(vectors, radius, sharp, cls._excitation(rng), rng.uniform(0.15, 0.35), film)

    @staticmethod
    def _excitation(rng: np.random.Generator) -> np.ndarray:
        return np.exp(rng.normal(-0.8, 0.9, (9, 9)))

    def vary(self, rng: np.random.Generator) -> "Spots":
        """Return the crystal rotated, tilted, or with another spacing."""
        how = rng.integers(3)
        if how == 0:
            a = np.deg2rad(rng.uniform(5, 30)) * rng.choice((-1, 1))
            c, s = np.cos(a), np.sin(a)
            return replace(self, vectors=self.vectors @ np.array([[c, s], [-s, c]]))
        if how == 1:
            return replace(self, excitation=self._excitation(rng))
        return replace(self, vectors=self.vectors * rng.uniform(1.08, 1.3) ** rng.choice((-1, 1)))

    def render(self, rng: np.random.Generator, m: int, side: int) -> np.ndarray:
        """Draw m members, shape (m, side, side)."""
        y, x = (np.mgrid[:side, :side] + 0.5).astype(np.float32) / side - 0.5
        result = np.empty((m, side, side), np.float32)
        for image in result:
            dy, dx = rng.normal(0, 0.008, 2)
            a = np.deg2rad(rng.normal(0, 0.7))
            vectors = self.vectors @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
            index = np.stack(np.meshgrid(range(-4, 5), range(-4, 5), indexing="ij"), -1).reshape(
                -1, 2
            )
            places = index @ vectors + (dy, dx)
            strength = self.excitation.ravel() * np.exp(rng.normal(0, 0.25, 81))
            strength[40] = 4.0
            near = (abs(places) < 0.5 + self.radius).all(1)
            image[:] = self.film * np.exp(-(((np.hypot(y - dy, x - dx) - self.ring) / 0.02) ** 2))
            image += 0.3 * np.exp(-np.hypot(y - dy, x - dx) / 0.12)
            for (py, px), height in zip(places[near], strength[near], strict=True):
                self._add(image, y - py, x - px, height, side)
        return result

    def _add(self, image, dy, dx, height, side) -> None:
        rows = np.flatnonzero(abs(dy[:, 0]) < 3 * self.radius + 2 / side)
        columns = np.flatnonzero(abs(dx[0]) < 3 * self.radius + 2 / side)
        if not len(rows) or not len(columns):
            return
        cut = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        r = np.hypot(dy[cut], dx[cut])
        if self.sharp:
            image[cut] += height / (1 + np.exp(np.clip((r - self.radius) * side * 2, -30, 30)))
        else:
            image[cut] += height * np.exp(-((r / self.radius) ** 2))


@dataclass(frozen=True)
class Bands:
    """Kikuchi bands of one orientation: straight bands with edges, and a background."""

    angles: np.ndarray
    offsets: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    centre: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, like: "Bands | None" = None) -> "Bands":
        """Draw an orientation; `like` gives the background."""
        n = rng.integers(5, 11)
        centre = rng.normal(0, 0.1, 2) if like is None else like.centre
        return cls(rng.uniform(0, np.pi, n), rng.normal(0, 0.25, n), rng.uniform(0.03, 0.12, n),
                   np.exp(rng.normal(-1.2, 0.5, n)), centre)  # fmt: skip

    def vary(self, rng: np.random.Generator) -> "Bands":
        """Return the crystal with a small tilt and rotation."""
        turn = rng.normal(0, 0.12)
        return replace(
            self,
            angles=self.angles + turn,
            offsets=self.offsets + rng.normal(0, 0.08, len(self.offsets)),
        )

    def render(self, rng: np.random.Generator, m: int, side: int) -> np.ndarray:
        """Draw m members, shape (m, side, side)."""
        y, x = (np.mgrid[:side, :side] + 0.5).astype(np.float32) / side - 0.5
        result = np.empty((m, side, side), np.float32)
        for image in result:
            dy, dx = self.centre + rng.normal(0, 0.01, 2)
            image[:] = 1.0 - 1.2 * ((y - dy) ** 2 + (x - dx) ** 2)
            for a, offset, width, height in zip(
                self.angles + rng.normal(0, 0.008), self.offsets + rng.normal(0, 0.004, len(self.offsets)),
                self.widths, self.heights, strict=True,
            ):  # fmt: skip
                r = abs(np.cos(a) * x + np.sin(a) * y - offset)
                image += height / (1 + np.exp(np.clip((r - width) * 90, -30, 30)))
                image -= 0.5 * height * np.exp(-(((r - width - 0.02) / 0.015) ** 2))
        return result
