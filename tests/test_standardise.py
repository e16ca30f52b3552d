"""A classifier that was learnt on one image works on images with other grey levels."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import EmbeddingMap
from hyperspy_fewshot.embedding.blocks import embed_all

SETTINGS = {"chip_size": 8, "stride": 3, "encoder": "pca"}
FIRES = "Grey levels here go from .* standardise=False does not do it"


@pytest.fixture
def learnt(scenes):
    return of_counts(scenes, 0).fewshot_classify(scenes.image_support, **SETTINGS)


def of_counts(scenes, seed, nav_shape=(), shape=(41, 53)):
    """An image of whole numbers, so that it can be stored as any type."""
    signal = scenes.image(nav_shape, shape, seed=seed)
    signal.data = np.clip(np.round(4 * signal.data), 0, 255).astype(np.uint8)
    return signal


def brighter(signal, dtype=np.uint16):
    other = signal.deepcopy()
    other.data = (3 * signal.data.astype(int) + 1000).astype(dtype)
    return other


def mapped(signal, recipe):
    """The same image on the scale that a recipe was learnt on, by hand."""
    other = signal.deepcopy()
    low, middle, high = np.percentile(signal.data, (1, 50, 99))
    learnt_low, learnt_middle, learnt_high = recipe.levels
    factor = (learnt_high - learnt_low) / (high - low)
    other.data = ((signal.data - middle) * factor + learnt_middle).astype(np.float32)
    return other


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("standardise", [None, True])
def test_other_grey_levels_give_the_same_labels(scenes, learnt, dtype, standardise):
    same = of_counts(scenes, 1)
    other = brighter(same, dtype)
    expected = same.fewshot_classify(learnt, standardise=True)
    lazy = other.as_lazy()
    lazy.data = lazy.data.rechunk((17, 23))
    for signal in (other, lazy):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = signal.fewshot_classify(learnt, standardise=standardise).compute()
        assert [str(w.message)[:21] for w in caught if "Grey" in str(w.message)] == [
            "Grey levels here go f"
        ] * (standardise is None)
        np.testing.assert_array_equal(found.labels.data, expected.labels.data)
        np.testing.assert_allclose(found.probabilities.data, expected.probabilities.data, atol=1e-4)
    assert set(np.unique(expected.labels.data)) >= {0, 1}


def test_embeddings_are_those_of_the_image_mapped_by_hand(scenes, learnt):
    recipe, other = learnt.embedding_map.recipe, brighter(of_counts(scenes, 1))
    expected = mapped(other, recipe).fewshot_embed(recipe=recipe, standardise=False)
    found = other.fewshot_embed(recipe=recipe, standardise=True)
    np.testing.assert_allclose(found.embeddings.data, expected.embeddings.data, atol=1e-4)
    # The small image is embedded with its sample, a large one block by block.
    blocks = embed_all(found.recipe, found.source).compute()
    np.testing.assert_allclose(blocks[..., :-1], found.embeddings.data, atol=1e-4)
    # What the user sees stays in the units of the image.
    plain = other.fewshot_embed(recipe=recipe, standardise=False)
    np.testing.assert_array_equal(found.guide.data, plain.guide.data)
    np.testing.assert_allclose(blocks[..., -1], plain.guide.data)
    assert np.abs(plain.embeddings.data - expected.embeddings.data).max() > 1


def test_examples_are_on_the_same_scale(scenes, learnt, tmp_path):
    recipe, other = learnt.embedding_map.recipe, brighter(of_counts(scenes, 1))
    by_hand = mapped(other, recipe)
    expected = by_hand.fewshot_embed(recipe=recipe).classify(
        {"dark": [(8, 8), by_hand.data[4:12, 4:12]], "bright": [(45, 10), (40, 30)]}
    )
    support = {"dark": [(8, 8), other.data[4:12, 4:12]], "bright": [(45, 10), (40, 30)]}
    embedding_map = other.fewshot_embed(recipe=recipe, standardise=True)
    embedding_map.save(tmp_path / "map.zspy")
    loaded = EmbeddingMap.load(tmp_path / "map.zspy", signal=other)
    assert loaded.recipe.scaling == embedding_map.recipe.scaling
    for one in (embedding_map, loaded):
        found = one.classify(support)
        np.testing.assert_allclose(found.probabilities.data, expected.probabilities.data, atol=1e-4)
    # The result of the first image fits the map.
    np.testing.assert_array_equal(
        loaded.classify(learnt).labels.data,
        other.fewshot_classify(learnt, standardise=True).labels.data,
    )


def test_a_third_image_is_brought_to_the_first(scenes, learnt):
    second = brighter(of_counts(scenes, 1)).fewshot_classify(learnt, standardise=True)
    third = of_counts(scenes, 2)
    again = third.fewshot_classify(second, standardise=False)
    expected = third.fewshot_classify(learnt, standardise=False)
    np.testing.assert_array_equal(again.labels.data, expected.labels.data)


def test_images_of_one_session_are_left_alone(scenes, learnt):
    same = of_counts(scenes, 1)
    for signal in (same, same.isig[20:]):  # the second has little of the dark half
        with warnings.catch_warnings():
            warnings.filterwarnings("error", FIRES)
            found = signal.fewshot_classify(learnt)
        expected = signal.fewshot_classify(learnt, standardise=False)
        np.testing.assert_array_equal(found.labels.data, expected.labels.data)
        assert not found.labels.metadata.has_item("FewShot.standardised")


def test_the_metadata_say_what_was_done(scenes, learnt):
    other = brighter(of_counts(scenes, 1))
    with pytest.warns(UserWarning, match=FIRES) as caught:
        found = other.fewshot_classify(learnt)
    assert any(w.filename == __file__ for w in caught if "Grey levels" in str(w.message))
    low, middle, high = np.percentile(other.data, (1, 50, 99))
    learnt_low, learnt_middle, learnt_high = learnt.classifier.recipe.levels
    node = found.labels.metadata.FewShot.standardised
    assert node.median == middle
    assert node.factor == pytest.approx((learnt_high - learnt_low) / (high - low))
    assert node.learnt_median == learnt_middle
    assert not learnt.labels.metadata.has_item("FewShot.standardised")


def test_masked_pixels_have_no_say(scenes, learnt):
    other = brighter(of_counts(scenes, 1))
    expected = other.fewshot_embed(recipe=learnt.embedding_map.recipe, standardise=True)
    other.data[:12] = 60_000
    mask = np.zeros((41, 53), bool)
    mask[:12] = True
    found = other.fewshot_embed(
        recipe=learnt.embedding_map.recipe, standardise=True, navigation_mask=mask.T
    )
    assert found.recipe.scaling == pytest.approx(expected.recipe.scaling, rel=0.1)


def test_frames_of_a_stack(scenes):
    options = {"chip_size": 8, "stride": 4, "encoder": "pca"}
    result = of_counts(scenes, 0, (3,)).fewshot_classify(scenes.stack_support, **options)
    same = of_counts(scenes, 1, (2,))
    expected = same.fewshot_classify(result, standardise=True)
    found = brighter(same).fewshot_classify(result, standardise=True)
    np.testing.assert_array_equal(found.labels.data, expected.labels.data)


def test_what_cannot_be_standardised(scenes, learnt):
    image, spectra = scenes.image(), scenes.spectra()
    with pytest.raises(ValueError, match="give the result of that one as support, or its recipe"):
        image.fewshot_classify(scenes.image_support, standardise=True)
    with pytest.raises(ValueError, match="give the result of that one as support, or its recipe"):
        image.fewshot_embed(standardise=True)
    result = scenes.made("spectra")
    with pytest.raises(ValueError, match="standardise=True is for images, these are spectrum data"):
        spectra.fewshot_classify(result, standardise=True)
    for wrong in (1, "yes"):
        with pytest.raises(TypeError, match=f"standardise={wrong!r} must be True, False or None"):
            image.fewshot_classify(learnt, standardise=wrong)
    for allowed in (None, False):
        spectra.fewshot_classify(result, standardise=allowed)


def test_blocks_of_a_large_image_are_mapped_alike(scenes, in_pieces):
    same = of_counts(scenes, 0)
    recipe = same.fewshot_embed(**SETTINGS).recipe
    other = scenes.lazily(brighter(of_counts(scenes, 1)))
    found = other.fewshot_embed(recipe=recipe, standardise=True)
    median, factor, learnt_median = found.recipe.scaling
    other.data = (other.data - median) * factor + learnt_median
    expected = other.fewshot_embed(recipe=recipe, standardise=False).compute()
    assert found.embeddings.data.npartitions > 1
    np.testing.assert_allclose(found.compute().embeddings.data, expected.embeddings.data, atol=1e-4)


@pytest.mark.parametrize("pair", ["two sessions", "one series"])
def test_real_images(shared_data, pair):
    def load(name):
        return hs.signals.Signal2D(np.load(shared_data / "nasa_superalloy" / name / "image.npy"))

    recipe = load("spot1_0d_0").fewshot_embed(chip_size=16, encoder="pca").recipe
    other = {"two sessions": "difftest_45kx_SE_15kV-etched_0", "one series": "spot2_0d_4"}[pair]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load(other).fewshot_embed(recipe=recipe)
    fired = [w for w in caught if "Grey levels here" in str(w.message)]
    assert len(fired) == (pair == "two sessions") == (found.recipe.scaling[1] != 1)
