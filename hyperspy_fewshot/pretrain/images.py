"""Corpora of images: textures, scenes of two phases, crops of real images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hyperspy_fewshot.pretrain.corpus import Corpus, Maker
from hyperspy_fewshot.pretrain.textures import Flat, RandomField, Texture, draw_texture

#: Side of a chip for the encoder, and of the field around it that is rendered [px].
CHIP = 64
FIELD = 80


class ImageCorpus(Corpus):
    """Base of the image corpora: adds the effects of a microscope to clean images.

    Parameters
    ----------
    side
        Side of the items [px].
    noise
        Smallest and largest standard deviation of the noise, relative to the full scale; drawn
        log-uniformly for each specimen.
    """

    def __init__(self, side: int = FIELD, noise: tuple[float, float] = (0.01, 0.35)):
        self.side = side
        self.noise = noise

    def specimen(self, rng: np.random.Generator, n: int, members: int) -> np.ndarray:
        """Draw a specimen with noise and distortions, normalised like a data set."""
        images = super().specimen(rng, n, members)
        images = degrade(images.reshape(-1, self.side, self.side), rng, self.noise)
        low, middle, high = np.percentile(images[:, ::3, ::3], (1, 50, 99))
        scale = max(high - low, 1e-3) * np.exp(rng.normal(0, 0.2))
        images = (images - middle) / scale + rng.normal(0, 0.1)
        return images.reshape(n, members, self.side, self.side).astype(np.float32)


class TextureCorpus(ImageCorpus):
    """Specimens whose classes are textures, most of them close relatives.

    Parameters
    ----------
    side, noise
        See :class:`ImageCorpus`.
    related
        Fraction of the classes that differ from another class of the specimen in one property only:
        orientation, motif, spacing, contrast or intensity.
    """

    def __init__(self, *args, related: float = 0.65, **kwargs):
        super().__init__(*args, **kwargs)
        self.related = related

    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw the textures of one specimen."""
        textures: list[Texture] = []
        for _ in range(n):
            if textures and rng.random() < self.related:
                textures.append(textures[rng.integers(len(textures))].vary(rng))
            else:
                textures.append(draw_texture(rng))
        return [self._maker(texture) for texture in textures]

    def _maker(self, texture: Texture) -> Maker:
        return lambda rng, m: texture.render(rng, m, self.side)


class SceneCorpus(ImageCorpus):
    """Specimens of two phases and their interface; the centre of a chip decides its class.

    Examples are precipitates, grains, pores, membranes and edges of particles. The surroundings are
    the same for all classes. Classes after the third are additional textures.
    """

    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw both phases, their morphology, and additional textures."""
        scene = Scene.draw(rng)
        makers = [_at_centre(scene, part, self.side) for part in rng.permutation(3)[: min(n, 3)]]
        return makers + TextureCorpus(self.side, self.noise).classes(rng, n - len(makers))


@dataclass(frozen=True)
class Scene:
    """Two phases, separated by a threshold of a random field with standard deviation 1."""

    inside: Texture
    outside: Texture
    field: RandomField
    threshold: float
    width: float
    rim: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Scene":
        """Draw the parameters of a scene."""
        inside, outside = (
            Flat.draw(rng) if rng.random() < 0.45 else draw_texture(rng) for _ in range(2)
        )
        if rng.random() < 0.3:
            inside = outside.vary(rng)
        field = RandomField(
            0.0, 1.0, rng.choice(("ring", "low")), np.exp(rng.uniform(np.log(12), np.log(70))),
            1.0, rng.choice((1.0, rng.uniform(1, 2.5))), rng.uniform(0, np.pi), "plain",
        )  # fmt: skip
        # Half of the interfaces have a contrast of their own, such as membranes.
        rim = rng.choice((0.0, rng.uniform(-0.5, 0.5)))
        return cls(inside, outside, field, rng.uniform(-0.8, 0.8), rng.uniform(0.08, 0.3), rim)

    def render(self, rng: np.random.Generator, m: int, side: int, part: int) -> np.ndarray:
        """Draw m scenes with a part (inside, outside, interface) at their centres."""
        height = self.field.render(rng, m, 3 * side) - self.threshold
        half, result = side // 2, np.empty((m, side, side), np.float32)
        for image, field in zip(result, height, strict=True):
            inner = field[half:-half, half:-half]
            near = abs(inner) < self.width
            wanted = (near, ~near & (inner > 0), ~near & (inner < 0))[(part + 1) % 3]
            places = np.flatnonzero(wanted)
            if not len(places):
                places = [int(inner.argmax() if part == 0 else abs(inner).argmin())]
            row, column = np.unravel_index(rng.choice(places), inner.shape)
            image[:] = field[row : row + side, column : column + side]
        share = 0.5 + 0.5 * np.tanh(2 * result / self.width)
        phases = self.inside.render(rng, m, side), self.outside.render(rng, m, side)
        rim = self.rim * np.exp(-((result / self.width) ** 2))
        return share * phases[0] + (1 - share) * phases[1] + rim


def _at_centre(scene: Scene, part: int, side: int) -> Maker:
    return lambda rng, m: scene.render(rng, m, side, part).astype(np.float32)


class CropCorpus(ImageCorpus):
    """Crops of unlabelled real images: each position is a class.

    Members are crops at the same position with a small shift, rotation and scaling, and with
    different noise and gain.

    Parameters
    ----------
    images
        Arrays of shape (rows, columns), each at least 1.5 times as large as an item.
    side, noise
        See :class:`ImageCorpus`.
    """

    def __init__(self, images: Sequence[np.ndarray], *args, **kwargs):
        super().__init__(*args, **kwargs)
        least = int(1.5 * self.side) + 8
        self.images = [_full_scale(image) for image in images if min(image.shape) >= least]
        if not self.images:
            raise ValueError(f"No image has at least {least} x {least} px.")

    def classes(self, rng: np.random.Generator, n: int) -> list[Maker]:
        """Draw positions in one image."""
        image = self.images[rng.integers(len(self.images))]
        reach = int(0.75 * self.side) + 4
        return [self._maker(image, rng.integers(reach, np.array(image.shape) - reach + 1))
                for _ in range(n)]  # fmt: skip

    def _maker(self, image: np.ndarray, centre: np.ndarray) -> Maker:
        def draw(rng: np.random.Generator, m: int) -> np.ndarray:
            angles, zooms = np.deg2rad(rng.normal(0, 2, m)), np.exp(rng.normal(0, 0.015, m))
            crops = []
            for angle, zoom in zip(angles, zooms, strict=True):
                c, s = np.cos(angle) * zoom, np.sin(angle) * zoom
                matrix = np.array([[c, -s], [s, c]])
                offset = centre + rng.uniform(-3, 3, 2) - matrix @ np.full(2, self.side / 2)
                crops.append(
                    ndimage.affine_transform(image, matrix, offset, (self.side,) * 2, order=1)
                )
            return np.stack(crops)

        return draw


def _full_scale(image: np.ndarray) -> np.ndarray:
    image = np.nan_to_num(np.asarray(image, np.float32))
    low, high = np.percentile(image, (1, 99))
    return (image - low) / max(high - low, 1e-6)


def degrade(images: np.ndarray, rng: np.random.Generator, noise: tuple[float, float]) -> np.ndarray:
    """Add effects that do not depend on the class: gain, background, contamination, noise.

    Parameters
    ----------
    images
        Shape (m, side, side), relative to the full scale.
    rng
        The only source of randomness.
    noise
        Smallest and largest standard deviation.
    """
    m, side = images.shape[0], images.shape[1]
    gain = np.exp(rng.normal(0, 0.06, (m, 1, 1)))
    images = images * gain + rng.normal(0, 0.02, (m, 1, 1))
    axis = np.linspace(-1, 1, side)
    slopes = rng.normal(0, 0.03, (2, m, 1, 1))
    images = images + slopes[0] * axis[:, None] + slopes[1] * axis[None, :]
    if rng.random() < 0.3:
        images = images + _contamination(rng, m, side)
    if rng.random() < 0.3:
        images = ndimage.gaussian_filter1d(images, rng.uniform(0.3, 1.2), axis=1)
        images = ndimage.gaussian_filter1d(images, rng.uniform(0.3, 1.2), axis=2)
    level = np.exp(rng.uniform(*np.log(noise)) + rng.normal(0, 0.3, (m, 1, 1)))
    grain = rng.standard_normal((m, side, side), np.float32)
    if rng.random() < 0.4:
        sigma = rng.uniform(0.4, 2.0)
        grain = ndimage.gaussian_filter(grain, (0, sigma, sigma)) * (3.5 * sigma)
    if rng.random() < 0.4:
        grain = grain * np.sqrt(np.clip(images, 0.02, 2) * 2)
    if rng.random() < 0.15:
        grain = grain + 0.6 * rng.standard_normal((m, side, 1))
    return images + level * grain


def _contamination(rng: np.random.Generator, m: int, side: int) -> np.ndarray:
    """Faint smooth clouds on half of the members."""
    clouds = RandomField(0.0, 0.08, "low", 60.0, 1.0, 1.0, 0.0, "plain").render(rng, m, side)
    return clouds * (rng.random((m, 1, 1)) < 0.5)
