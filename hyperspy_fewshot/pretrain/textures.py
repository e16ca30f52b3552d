"""Synthetic textures of micrographs, without noise.

The parameters of a texture define a class. Its members differ in position, and slightly in
direction and scale. Values lie around the `level` of the texture, mostly between 0 and 1.
"""

# ruff: noqa: D102 (the methods are documented once, in `Texture`)

from dataclasses import dataclass, replace
from typing import Self

import numpy as np


class Texture:
    """A class of image content; subclasses are frozen dataclasses with `level` and `contrast`."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Draw the parameters of a class."""
        raise NotImplementedError

    def vary(self, rng: np.random.Generator) -> Self:
        """Return a class that differs in one property only."""
        raise NotImplementedError

    def render(self, rng: np.random.Generator, m: int, side: int) -> np.ndarray:
        """Draw m members, float32 of shape (m, side, side)."""
        raise NotImplementedError


def level_and_contrast(rng: np.random.Generator) -> dict[str, float]:
    """Draw the mean intensity and the contrast of a class, both relative to the full scale."""
    return {"level": rng.uniform(0.1, 0.9), "contrast": np.exp(rng.uniform(np.log(0.04), -1.0))}


def other_level(texture: Texture, rng: np.random.Generator) -> Texture:
    """Return the same texture, brighter or darker."""
    step = rng.uniform(0.08, 0.4) * rng.choice((-1, 1))
    return replace(texture, level=texture.level + step)


def other_contrast(texture: Texture, rng: np.random.Generator) -> Texture:
    """Return the same texture with lower or higher contrast."""
    return replace(
        texture, contrast=texture.contrast * rng.uniform(1.6, 3.0) ** rng.choice((-1, 1))
    )


def standardise(images: np.ndarray) -> np.ndarray:
    """Scale every image to mean 0 and standard deviation 1."""
    images = images - images.mean((-2, -1), keepdims=True)
    return images / np.maximum(images.std((-2, -1), keepdims=True), 1e-6)


def _poses(rng: np.random.Generator, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw small rotations [rad] and scales of m members, shape (m,)."""
    return np.deg2rad(rng.normal(0, 1.5, m)), np.exp(rng.normal(0, 0.012, m))


@dataclass(frozen=True)
class Flat(Texture):
    """Vacuum, a hole, a uniform layer."""

    level: float
    contrast: float = 0.0

    @classmethod
    def draw(cls, rng):
        return cls(rng.uniform(0, 1))

    def vary(self, rng):
        return other_level(self, rng)

    def render(self, rng, m, side):
        return np.full((m, side, side), self.level, np.float32)


@dataclass(frozen=True)
class Lattice(Texture):
    """Atomic columns on a two-dimensional crystal lattice, summed in reciprocal space.

    `vectors` is the matrix whose columns are the lattice vectors [px]; atoms have fractional
    positions, weights and the same width [px].
    """

    level: float
    contrast: float
    vectors: np.ndarray
    positions: np.ndarray
    weights: np.ndarray
    width: float

    @classmethod
    def draw(cls, rng):
        period = np.exp(rng.uniform(np.log(4.5), np.log(26)))
        ratio = rng.choice((1.0, 1.0, rng.uniform(1, 1.8)))
        angle = np.deg2rad(rng.choice((90, 60, rng.uniform(55, 100)), p=(0.45, 0.3, 0.25)))
        turn = rng.uniform(0, 2 * np.pi)
        vectors = period * np.array(
            [
                [np.cos(turn), ratio * np.cos(turn + angle)],
                [np.sin(turn), ratio * np.sin(turn + angle)],
            ]
        )
        positions, weights = cls._motif(rng)
        width = max(0.9, period * rng.uniform(0.1, 0.28))
        return cls(vectors=vectors, positions=positions, weights=weights, width=width,
                   **level_and_contrast(rng))  # fmt: skip

    @staticmethod
    def _motif(rng):
        atoms = rng.integers(1, 5)
        positions = rng.uniform(0, 1, (atoms, 2))
        if atoms == 2 and rng.random() < 0.5:
            positions = np.array([[0.0, 0.0], [0.5, 0.5]])
        return positions, np.exp(rng.uniform(np.log(0.25), 0, atoms))

    def vary(self, rng):
        how = rng.integers(6)
        if how <= 1:
            turn = np.deg2rad(rng.uniform(8, 40)) * rng.choice((-1, 1))
            c, s = np.cos(turn), np.sin(turn)
            return replace(self, vectors=np.array([[c, -s], [s, c]]) @ self.vectors)
        if how == 2:
            positions, weights = self._motif(rng)
            return replace(self, positions=positions, weights=weights)
        if how == 3:
            return replace(
                self, vectors=self.vectors * rng.uniform(1.1, 1.4) ** rng.choice((-1, 1))
            )
        return (other_level if how == 4 else other_contrast)(self, rng)

    def _waves(self) -> tuple[np.ndarray, np.ndarray]:
        """Wave vectors [cycles per px], shape (n, 2), and complex amplitudes (n,)."""
        h, k = (part.ravel() for part in np.mgrid[-7:8, 0:8])
        half = (k > 0) | (h > 0)
        index = np.stack([h[half], k[half]], axis=1)
        waves = index @ np.linalg.inv(self.vectors)
        square = (waves**2).sum(1)
        damping = np.exp(-2 * np.pi**2 * self.width**2 * square)
        kept = (square < 0.25) & (damping > 1e-3)
        phases = np.exp(-2j * np.pi * index[kept] @ self.positions.T)
        return waves[kept], damping[kept] * (phases @ self.weights)

    def render(self, rng, m, side):
        waves, amplitudes = self._waves()
        if not len(waves):
            return Flat(self.level).render(rng, m, side)
        turns, scales = _poses(rng, m)
        c, s = np.cos(turns) / scales, np.sin(turns) / scales
        turned = np.stack([waves @ np.array([[a, -b], [b, a]]) for a, b in zip(c, s, strict=True)])
        shifts = rng.uniform(0, 60, (m, 1, 2))
        place = 2j * np.pi * (np.arange(side) - side / 2)
        phase = np.exp(2j * np.pi * (turned * shifts).sum(-1)) * amplitudes
        along_x = np.exp(turned[:, :, :1] * place).astype(np.complex64)
        along_y = np.exp(turned[:, :, 1:] * place).astype(np.complex64)
        image = (np.swapaxes(along_y * phase[:, :, None].astype(np.complex64), 1, 2) @ along_x).real
        scale = np.sqrt((abs(amplitudes) ** 2).sum() / 2)
        return (self.level + self.contrast * image / scale).astype(np.float32)


@dataclass(frozen=True)
class RandomField(Texture):
    """A Gaussian random field whose power spectrum is a power law, a ring or a low pass."""

    level: float
    contrast: float
    kind: str
    size: float
    exponent: float
    stretch: float
    angle: float
    shape: str

    @classmethod
    def draw(cls, rng):
        return cls(
            kind=rng.choice(("power", "ring", "low")),
            size=np.exp(rng.uniform(np.log(2.0), np.log(30))),
            exponent=rng.uniform(0.6, 2.2),
            stretch=rng.choice((1.0, rng.uniform(1, 4))),
            angle=rng.uniform(0, np.pi),
            shape=rng.choice(("plain", "plain", "threshold", "rectified", "bumps")),
            **level_and_contrast(rng),
        )

    def vary(self, rng):
        how = rng.integers(5)
        if how == 0:
            return replace(self, size=self.size * rng.uniform(1.4, 2.2) ** rng.choice((-1, 1)))
        if how == 1:
            return replace(self, shape=rng.choice(("plain", "threshold", "rectified", "bumps")))
        if how == 2:
            stretch = max(self.stretch, rng.uniform(1.8, 3.5))
            return replace(self, stretch=stretch, angle=self.angle + rng.uniform(0.4, np.pi - 0.4))
        return (other_level if how == 3 else other_contrast)(self, rng)

    def amplitude(self, side: int) -> np.ndarray:
        """Amplitude of every wave of an image, shape (side, side // 2 + 1)."""
        fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
        c, s = np.cos(self.angle), np.sin(self.angle)
        radius = np.hypot(c * fx + s * fy, self.stretch * (c * fy - s * fx)) * self.size
        if self.kind == "power":
            return (radius + 0.1) ** -self.exponent
        if self.kind == "ring":
            return np.exp(-(((radius - 1) / 0.22) ** 2))
        return np.exp(-((1.5 * radius) ** 2))

    def render(self, rng, m, side):
        wide = side + 16
        noise = rng.standard_normal((m, wide, wide), np.float32)
        field = np.fft.irfft2(np.fft.rfft2(noise) * self.amplitude(wide), s=(wide, wide))
        field = field / max(field.std(), 1e-9)
        if self.shape == "threshold":
            field = np.tanh(4 * (field - 0.3))
        elif self.shape == "rectified":
            field = abs(field)
        elif self.shape == "bumps":
            field = np.exp(np.minimum(1.2 * field, 3))
        field = (field - field.mean()) / max(field.std(), 1e-9)
        return (self.level + self.contrast * field[:, :side, :side]).astype(np.float32)


@dataclass(frozen=True)
class Particles(Texture):
    """Discs or ellipses, solid or hollow, bright or dark."""

    level: float
    contrast: float
    density: float
    radius: float
    spread: float
    hollow: bool
    stretch: float
    angle: float
    sharpness: float

    @classmethod
    def draw(cls, rng):
        return cls(
            density=np.exp(rng.uniform(np.log(0.05), np.log(0.6))),
            radius=np.exp(rng.uniform(np.log(2.0), np.log(16))),
            spread=rng.uniform(0.02, 0.4),
            hollow=rng.random() < 0.3,
            stretch=rng.choice((1.0, rng.uniform(1, 2.5))),
            angle=rng.uniform(0, np.pi),
            sharpness=rng.uniform(0.5, 2.0),
            level=rng.uniform(0.1, 0.7),
            contrast=rng.choice((-1, 1, 1)) * np.exp(rng.uniform(np.log(0.05), -0.7)),
        )

    def vary(self, rng):
        how = rng.integers(5)
        if how == 0:
            return replace(self, density=self.density * rng.uniform(1.8, 3) ** rng.choice((-1, 1)))
        if how == 1:
            return replace(self, radius=self.radius * rng.uniform(1.35, 2) ** rng.choice((-1, 1)))
        if how == 2:
            return replace(self, hollow=not self.hollow)
        return (other_level if how == 3 else other_contrast)(self, rng)

    def render(self, rng, m, side):
        mean = self.density * side**2 / (np.pi * self.radius**2)
        counts = np.minimum(rng.poisson(mean, m) + (mean < 1), 40)
        axis = np.arange(side, dtype=np.float32)
        result = np.zeros((m, side, side), np.float32)
        c, s = np.cos(self.angle), np.sin(self.angle)
        for image, count in zip(result, counts, strict=True):
            for y, x, radius in zip(
                *rng.uniform(0, side, (2, count)),
                self.radius * np.exp(rng.normal(0, self.spread, count)),
                strict=True,
            ):
                reach = radius * self.stretch + 4
                rows = slice(max(0, int(y - reach)), int(y + reach) + 1)
                columns = slice(max(0, int(x - reach)), int(x + reach) + 1)
                dy, dx = axis[rows, None] - y, axis[None, columns] - x
                r = np.hypot((c * dx + s * dy) / self.stretch, c * dy - s * dx)
                inside = 1 / (1 + np.exp(np.clip((r - radius) * self.sharpness * 2, -30, 30)))
                if self.hollow:
                    inside *= 1 - 0.8 / (1 + np.exp(np.clip((r - 0.6 * radius) * 2, -30, 30)))
                np.maximum(image[rows, columns], inside, out=image[rows, columns])
        return (self.level + self.contrast * 1.5 * result).astype(np.float32)


@dataclass(frozen=True)
class Fringes(Texture):
    """Lines: lattice fringes, stacking faults, layers, scratches."""

    level: float
    contrast: float
    period: float
    angle: float
    duty: float
    jitter: float

    @classmethod
    def draw(cls, rng):
        return cls(
            period=np.exp(rng.uniform(np.log(3.5), np.log(30))),
            angle=rng.uniform(0, np.pi),
            duty=rng.uniform(0.15, 0.85),
            jitter=rng.choice((0.0, rng.uniform(0, 0.6))),
            **level_and_contrast(rng),
        )

    def vary(self, rng):
        how = rng.integers(5)
        if how == 0:
            return replace(self, angle=self.angle + rng.uniform(0.2, np.pi - 0.2))
        if how == 1:
            return replace(self, period=self.period * rng.uniform(1.2, 1.6) ** rng.choice((-1, 1)))
        if how == 2:
            return replace(self, duty=1 - self.duty, jitter=0.6 - self.jitter)
        return (other_level if how == 3 else other_contrast)(self, rng)

    def render(self, rng, m, side):
        turns, scales = _poses(rng, m)
        y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
        a = (self.angle + turns)[:, None, None]
        along = (np.cos(a) * x + np.sin(a) * y) / (self.period * scales[:, None, None])
        along += rng.uniform(0, 50, (m, 1, 1))
        if self.jitter:
            wander = rng.normal(0, self.jitter, (m, 256))
            near = along.astype(int) % 255
            rest = along - np.floor(along)
            rows = np.arange(m)[:, None, None]
            along = along + (1 - rest) * wander[rows, near] + rest * wander[rows, near + 1]
        wave = np.tanh(3 * (np.cos(2 * np.pi * along) - np.cos(np.pi * self.duty)))
        return (self.level + self.contrast * wave).astype(np.float32)


#: The families of textures, and their probabilities.
FAMILIES: tuple[tuple[type[Texture], float], ...] = (
    (Lattice, 0.42),
    (RandomField, 0.28),
    (Particles, 0.12),
    (Fringes, 0.1),
    (Flat, 0.08),
)


def draw_texture(rng: np.random.Generator) -> Texture:
    """Draw a texture of any family."""
    families, shares = zip(*FAMILIES, strict=True)
    return families[rng.choice(len(families), p=shares)].draw(rng)
