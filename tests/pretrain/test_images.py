"""The corpora of images."""

import numpy as np
import pytest

from hyperspy_fewshot.pretrain.corpus import Corpus
from hyperspy_fewshot.pretrain.images import CropCorpus, SceneCorpus, TextureCorpus, degrade
from hyperspy_fewshot.pretrain.textures import Flat

CORPORA = {
    "textures": TextureCorpus,
    "scenes": SceneCorpus,
    "crops": CropCorpus,
}


@pytest.fixture
def make(scenery):
    """Function that builds a corpus from its name and arguments."""
    return lambda name, *args, **options: CORPORA[name](
        *([[scenery()]] if name == "crops" else []), *args, **options
    )


@pytest.mark.parametrize("name", CORPORA)
def test_specimens_follow_from_their_seed(name, make):
    corpus = make(name, 38)
    assert isinstance(corpus, Corpus)
    for seed in range(4):
        first, again, other = (
            corpus.specimen(np.random.default_rng(s), 4, 3) for s in (seed, seed, seed + 50)
        )
        assert first.shape == (4, 3, 38, 38) and first.dtype == np.float32
        assert np.isfinite(first).all() and np.isfinite(other).all()
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", CORPORA)
def test_classes_draw_members(name, make):
    rng = np.random.default_rng(0)
    makers = make(name, 30).classes(rng, 5)
    assert len(makers) == 5
    for draw in makers:
        members = draw(rng, 3)
        assert members.shape == (3, 30, 30)
        assert np.isfinite(members).all()


def blurred(items):
    """Means of cells of 5 x 5 px."""
    side = items.shape[-1] // 5
    return items.reshape(*items.shape[:-2], side, 5, side, 5).mean((-3, -1)).reshape(len(items), -1)


def of_texture(items):
    """Mean, and log power in rings of frequency."""
    power = abs(np.fft.fft2(items - items.mean((1, 2), keepdims=True))) ** 2
    frequency = np.fft.fftfreq(items.shape[-1])
    ring = np.minimum(np.hypot(frequency, frequency[:, None]) * 24, 11).astype(int).ravel()
    rings = [power.reshape(len(items), -1)[:, ring == r].mean(1) for r in range(12)]
    return np.column_stack([10 * items.mean((1, 2)), *np.log(np.array(rings) + 1e-2)])


def at_centre(items):
    """Mean and standard deviation of the centre."""
    middle = items[:, 16:24, 16:24]
    return np.column_stack([middle.mean((1, 2)), middle.std((1, 2))])


@pytest.mark.parametrize(
    "name, options, statistic, least",
    [
        ("textures", {"noise": (0.01, 0.02), "related": 0.0}, of_texture, 0.8),
        ("crops", {"noise": (0.01, 0.02)}, blurred, 0.8),
        ("scenes", {"noise": (0.01, 0.02)}, at_centre, 0.45),
    ],
)
def test_members_of_a_class_are_similar(name, options, statistic, least, make):
    right, corpus = [], make(name, 40, **options)
    for seed in range(12):
        items = corpus.specimen(np.random.default_rng(seed), 3, 6)
        values = statistic(items.reshape(-1, 40, 40)).reshape(3, 6, -1)
        means = values[:, :3].mean(1)
        distances = ((values[:, 3:, None] - means) ** 2).sum(-1)
        right.append((distances.argmin(-1) == np.arange(3)[:, None]).mean())
    assert np.mean(right) > least


def test_degraded_classes_remain_distinct():
    rng = np.random.default_rng(0)
    dark, bright = (Flat(level).render(rng, 40, 16) for level in (0.1, 0.9))
    images = degrade(np.concatenate([dark, bright]), rng, (0.05, 0.05))
    assert images.shape == (80, 16, 16) and images.std() > 0.05
    levels = images.mean((1, 2))
    assert levels[:40].max() < levels[40:].min()


def test_crops_need_large_images(scenery):
    with pytest.raises(ValueError, match="No image has at least 128 x 128 px"):
        CropCorpus([scenery(shape=(100, 300)), np.ones((10, 10))])
    # A constant image and an image with a pixel that is not finite.
    image = scenery()
    image[3, 5] = np.nan
    corpus = CropCorpus([np.full((150, 160), 7), image, np.ones((10, 10))])
    assert len(corpus.images) == 2
    for seed in range(4):
        assert np.isfinite(corpus.specimen(np.random.default_rng(seed), 2, 2)).all()
