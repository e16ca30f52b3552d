"""Embeddings are computed once, kept, and classified as often as wanted."""

from dataclasses import replace

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import EmbeddingMap, FewShotResult, embed

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

KINDS = ("image", "stack", "patterns", "spectra", "line scan")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def embedded(kind, scenes):
    """An embedding map of each kind, which tests leave as it is."""
    make, _, settings = scenes.kinds[kind]
    return embed(make(), **settings)


class TestEmbed:
    def test_there_is_an_embedding_for_every_label(self, embedded, kind, scenes):
        labels = scenes.made(kind).labels
        embeddings = embedded.embeddings
        assert isinstance(embedded, EmbeddingMap)
        assert not embeddings._lazy
        assert embeddings.data.dtype == np.float32
        assert embeddings.data.shape == (*labels.data.shape, embedded.recipe.size)
        assert embeddings.axes_manager.signal_dimension == 1
        ours = [axis.get_axis_dictionary() for axis in embeddings.axes_manager._axes[:-1]]
        theirs = [axis.get_axis_dictionary() for axis in labels.axes_manager._axes]
        assert [{**axis, "navigate": True} for axis in theirs] == ours

    def test_it_is_the_first_stage_of_classify(self, embedded, kind, scenes):
        theirs = scenes.made(kind).embedding_map
        np.testing.assert_array_equal(embedded.embeddings.data, theirs.embeddings.data)
        assert embedded.recipe.sha256 == theirs.recipe.sha256

    def test_lazy_data_stay_lazy_and_give_the_same(self, kind, scenes, in_pieces):
        make, support, settings = scenes.kinds[kind]
        eager = embed(make(), **settings)
        lazy = embed(scenes.lazily(make()), **settings)
        assert lazy.embeddings._lazy
        assert lazy.embeddings.data.npartitions > 1
        assert lazy.classify(support).labels._lazy
        assert "not computed" in repr(lazy)
        assert lazy.compute() is lazy
        assert not lazy.embeddings._lazy
        np.testing.assert_allclose(lazy.embeddings.data, eager.embeddings.data, atol=1e-4)
        np.testing.assert_array_equal(
            lazy.classify(support).labels.data, eager.classify(support).labels.data
        )

    @pytest.mark.parametrize("lazy_output", [False, True])
    def test_lazy_output(self, lazy_output, scenes):
        signal = scenes.spectra() if lazy_output else scenes.spectra().as_lazy()
        assert embed(signal, encoder="pca", lazy_output=lazy_output).embeddings._lazy is lazy_output

    def test_the_method_is_the_function(self, scenes):
        signal = scenes.spectra()
        one, other = signal.fewshot_embed(encoder="pca"), embed(signal, encoder="pca")
        np.testing.assert_array_equal(one.embeddings.data, other.embeddings.data)

    def test_the_sample_is_kept_and_its_mean_is_the_centre(self, embedded):
        assert embedded.sample.shape[1] == embedded.recipe.size
        np.testing.assert_allclose(embedded.sample.mean(axis=0), embedded.recipe.centre, atol=1e-5)

    def test_the_guide_of_an_image_is_its_mean_in_each_cell(self, scenes):
        signal = scenes.image()
        guide = embed(signal, chip_size=9, stride=3, encoder="pca").guide
        assert guide.data.shape == (14, 18)
        whole = signal.data[:39, :51].reshape(13, 3, 17, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(guide.data[:13, :17], whole, rtol=1e-5)

    def test_scans_have_no_guide(self, scenes):
        assert scenes.made("spectra").embedding_map.guide is None

    def test_masked_queries_are_nan(self, scenes):
        mask = np.arange(42).reshape(6, 7) % 5 == 1
        found = embed(scenes.spectra(), encoder="pca", context=1, navigation_mask=mask.T)
        np.testing.assert_array_equal(np.isnan(found.embeddings.data).any(axis=-1), mask)
        np.testing.assert_array_equal(np.isnan(found.embeddings.data).all(axis=-1), mask)

    def test_says_what_it_is(self, scenes):
        shown = repr(scenes.made("spectra").embedding_map)
        assert shown.startswith("<EmbeddingMap, 6 x 7 embeddings of length ")
        assert "'pca'" in shown
        node = scenes.made("image").embedding_map.embeddings.metadata.FewShot
        assert (node.encoder, node.chip_size, node.stride, node.kind) == ("pca", 8, 3, "image")

    def test_the_signal_is_not_changed(self, scenes):
        signal = scenes.spectra()
        before = signal.deepcopy()
        embed(signal, encoder="pca").classify(scenes.scan_support)
        np.testing.assert_array_equal(signal.data, before.data)
        assert signal.metadata.as_dictionary() == before.metadata.as_dictionary()

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"stride": 2}, "stride is for images"),
            ({"context": 2}, "context=2 must be odd"),
            ({"encoder": "resnet"}, "There is no encoder 'resnet'"),
        ],
    )
    def test_wrong_arguments(self, options, match, scenes):
        with pytest.raises(ValueError, match=match):
            embed(scenes.spectra(), **options)


class TestRecipe:
    """What was learnt on one data set embeds another one."""

    def test_of_other_data(self, embedded, kind, scenes):
        make, _, _ = scenes.kinds[kind]
        signal = make()
        signal.data = signal.data + 3
        other = embed(signal, recipe=embedded.recipe)
        assert other.recipe.sha256 == embedded.recipe.sha256
        signal.data = signal.data - 3
        same = embed(signal, recipe=embedded.recipe)
        np.testing.assert_allclose(
            same.embeddings.data, embedded.embeddings.data, rtol=1e-4, atol=1e-4
        )

    def test_of_a_stack_from_an_image(self, scenes):
        recipe = scenes.made("image").classifier.recipe
        other = embed(scenes.image((2,)), recipe=recipe, stride=5)
        assert other.embeddings.data.shape == (2, 9, 11, recipe.size)

    def test_its_classifier_can_be_used_on_the_new_map(self, scenes):
        first = scenes.made("spectra")
        signal = scenes.spectra(seed=1)
        result = embed(signal, recipe=first.classifier.recipe).classify(first)
        expected = signal.fewshot_classify(first)
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        assert result.transferred

    def test_another_kind_of_data(self, scenes):
        recipe = scenes.made("spectra").classifier.recipe
        with pytest.raises(ValueError, match="learnt on spectrum data, these are image data"):
            embed(scenes.image(), recipe=recipe)

    @pytest.mark.parametrize("recipe", ["pca", 3])
    def test_what_is_no_recipe(self, recipe, scenes):
        with pytest.raises(ValueError, match="encoder is missing"):
            embed(scenes.spectra(), recipe=recipe)

    def test_settings_that_contradict_it(self, scenes):
        recipe = scenes.made("spectra").classifier.recipe
        with pytest.raises(ValueError, match=r"context=5 contradicts .* \(3\)"):
            embed(scenes.spectra(), recipe=recipe, context=5)
        with pytest.raises(ValueError, match="encoder='spectrum' is another one than"):
            embed(scenes.spectra(), recipe=recipe, encoder="spectrum")


class TestClassify:
    def test_gives_the_result_of_the_call_in_one(self, embedded, kind, scenes):
        result, expected = embedded.classify(scenes.kinds[kind][1]), scenes.made(kind)
        assert isinstance(result, FewShotResult)
        assert result.embedding_map is embedded
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        np.testing.assert_allclose(
            result.probabilities.data, expected.probabilities.data, rtol=1e-4, atol=1e-6
        )
        assert str(result.statistics) == str(expected.statistics)

    @pytest.mark.parametrize("reject", [False, 0.3])
    def test_reject(self, reject, scenes):
        make, _, settings = scenes.kinds["spectra"]
        support = {"a": [(0, 0), (2, 5), (1, 3)], "b": [(6, 1), (5, 4), (6, 5)]}
        result = embed(make(), **settings).classify(support, reject)
        expected = make().fewshot_classify(support, reject=reject, **settings)
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        np.testing.assert_array_equal(result.classifier.thresholds, expected.classifier.thresholds)

    def test_reads_new_examples_only(self, scenes):
        encoder = scenes.CountingEncoder()
        found = embed(scenes.spectra(), encoder=encoder, context=1)
        encoder.count = 0
        found.classify(scenes.scan_support)
        assert encoder.count == 4
        found.classify({"c": (3, 3), "a": [(0, 0), (5, 4)]}, reject=False)
        assert encoder.count == 5

    def test_a_lazy_map_is_computed_for_all_its_results_at_once(self, scenes, in_pieces):
        lazy, counts = scenes.counting(scenes.spectra(), (2, 3, 30))
        found = embed(lazy, encoder="pca", context=1).compute()
        first = found.classify(scenes.scan_support)
        counts.clear()
        second = found.classify({**scenes.scan_support, "a": [(0, 0)]})
        assert not first.labels._lazy and not second.labels._lazy
        assert not counts

    def test_a_result_is_used_again(self, scenes):
        first = scenes.made("spectra")
        for learnt in (first, first.classifier):
            again = first.embedding_map.classify(learnt)
            np.testing.assert_array_equal(again.labels.data, first.labels.data)

    def test_of_another_recipe(self, scenes):
        other = scenes.spectra().fewshot_classify(scenes.scan_support, encoder="pca", context=1)
        with pytest.raises(ValueError, match="made with another recipe than this embedding map"):
            scenes.made("spectra").embedding_map.classify(other)

    def test_a_level_that_contradicts_a_result(self, scenes):
        first = scenes.made("spectra")
        with pytest.raises(ValueError, match=r"reject=False contradicts .* \(True\)"):
            first.embedding_map.classify(first, reject=False)

    @pytest.mark.parametrize(
        ("support", "error", "match"),
        [
            (None, TypeError, "support is NoneType"),
            ({"a": (1, 2)}, ValueError, "at least two classes"),
            ({"a": (1, 2), "b": (9, 1)}, ValueError, "class 'b': index 9 lies outside"),
        ],
    )
    def test_wrong_support(self, support, error, match, scenes):
        with pytest.raises(error, match=match):
            scenes.made("spectra").embedding_map.classify(support)


class TestParts:
    """A recipe of several parts joins the embeddings of its parts."""

    def joined(self, maps):
        recipes = [found.recipe for found in maps]
        return replace(
            recipes[0],
            parts=sum((recipe.parts for recipe in recipes), ()),
            centre=np.concatenate([recipe.centre for recipe in recipes]),
        )

    @pytest.fixture(scope="class")
    @classmethod
    def maps(cls, scenes):
        signal = scenes.image()
        return [embed(signal, chip_size=side, stride=4, encoder="pca") for side in (8, 13)]

    @pytest.mark.parametrize("lazy", [False, True])
    def test_two_chip_sizes(self, maps, lazy, scenes):
        signal = scenes.lazily(scenes.image()) if lazy else scenes.image()
        recipe = self.joined(maps)
        found = embed(signal, recipe=recipe)
        assert found.embeddings._lazy is lazy
        expected = np.concatenate([one.embeddings.data for one in maps], axis=-1)
        np.testing.assert_allclose(found.compute().embeddings.data, expected, atol=1e-4)
        assert recipe.feature_groups == tuple(one.recipe.size for one in maps)

    def test_it_is_classified_updated_and_used_again(self, maps, scenes):
        found = embed(scenes.image(), recipe=self.joined(maps))
        result = found.classify(scenes.image_support)
        far = np.abs(4 * np.arange(14) + 1.5 - 25.5) > 8
        expected = np.where(np.arange(14) * 4 < 26, 0, 1)[far]
        np.testing.assert_array_equal(result.labels.data[:, far], np.tile(expected, (11, 1)))
        updated = result.update({"dark": (20, 20)})
        support = {**scenes.image_support, "dark": [*scenes.image_support["dark"], (20, 20)]}
        fresh = embed(scenes.image(), recipe=found.recipe).classify(support)
        np.testing.assert_array_equal(updated.labels.data, fresh.labels.data)
        again = scenes.image(seed=1).fewshot_classify(result)
        np.testing.assert_array_equal(again.labels.data[:, far], np.tile(expected, (11, 1)))

    def test_it_survives_a_file(self, maps, scenes, tmp_path):
        found = embed(scenes.image(), recipe=self.joined(maps))
        found.save(tmp_path / "map.zspy")
        loaded = EmbeddingMap.load(tmp_path / "map.zspy", signal=scenes.image())
        assert loaded.recipe.sha256 == found.recipe.sha256
        np.testing.assert_array_equal(
            loaded.classify(scenes.image_support).labels.data,
            found.classify(scenes.image_support).labels.data,
        )

    def test_a_dense_encoder_beside_one_of_chips(self, scenes):
        signal = scenes.image()
        maps = [
            embed(signal, chip_size=16, stride=9, encoder=encoder) for encoder in ("stem", "pca")
        ]
        found = embed(signal, recipe=self.joined(maps))
        expected = np.concatenate([one.embeddings.data for one in maps], axis=-1)
        np.testing.assert_allclose(found.embeddings.data, expected, atol=1e-3)
        result = found.classify(scenes.image_support, reject=False)
        assert set(np.unique(result.labels.data)) == {0, 1}


class TestSameEncoder:
    """An encoder that is given once more is compared by its digest, not by its name."""

    class Mean:
        def __init__(self, factor):
            self.factor = factor
            self.__name__ = "mean"

        def __call__(self, items):
            flat = items.reshape(len(items), -1)
            return self.factor * np.stack([flat.mean(1), flat.std(1)], axis=1)

    def test_an_equal_one_is_accepted(self, scenes):
        first = scenes.spectra().fewshot_classify(
            scenes.scan_support, encoder=self.Mean(1.0), context=1
        )
        again = scenes.spectra().fewshot_classify(first, encoder=self.Mean(1.0))
        np.testing.assert_array_equal(again.labels.data, first.labels.data)

    def test_another_one_of_the_same_name_is_refused(self, scenes):
        first = scenes.spectra().fewshot_classify(
            scenes.scan_support, encoder=self.Mean(1.0), context=1
        )
        with pytest.raises(ValueError, match="encoder='mean' is another one than the recipe"):
            scenes.spectra().fewshot_classify(first, encoder=self.Mean(2.0))

    def test_a_bundled_one_by_name_or_fitted(self, scenes):
        first = scenes.made("spectra")
        for encoder in ("pca", first.classifier.recipe.parts[0].encoder):
            again = scenes.spectra().fewshot_classify(first, encoder=encoder)
            np.testing.assert_array_equal(again.labels.data, first.labels.data)


class TestSaved:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory, kind, scenes):
        """A folder with a saved map, and with what was classified before it was saved."""
        folder = tmp_path_factory.mktemp("maps")
        make, support, settings = scenes.kinds[kind]
        found = embed(make(), **settings)
        found.classify(support)
        found.save(folder / "map.zspy")
        return folder

    @pytest.mark.parametrize("lazy", [False, True])
    def test_with_its_signal(self, folder, lazy, kind, scenes):
        make, support, settings = scenes.kinds[kind]
        signal = scenes.lazily(make()) if lazy else make()
        loaded = EmbeddingMap.load(folder / "map.zspy", signal=signal, lazy=lazy)
        assert loaded.embeddings._lazy is lazy
        assert loaded.signal is signal
        expected = scenes.made(kind)
        result = loaded.classify(support).compute()
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        assert str(result.statistics) == str(expected.statistics)
        first = expected.class_names[0]
        place = {"image": (9, 9), "stack": (0, 9, 9), "line scan": 1}.get(kind, (1, 1))
        fresh = make().fewshot_classify({**support, first: [*support[first], place]}, **settings)
        np.testing.assert_array_equal(result.update({first: place}).labels.data, fresh.labels.data)

    def test_without_its_signal_known_examples_are_remembered(self, folder, kind, scenes, recwarn):
        loaded = EmbeddingMap.load(folder / "map.zspy")
        result = loaded.classify(scenes.kinds[kind][1])
        np.testing.assert_array_equal(result.labels.data, scenes.made(kind).labels.data)
        assert not [w for w in recwarn if "nearest cell" in str(w.message)]
        for ours, theirs in zip(
            result.labels.axes_manager._axes,
            scenes.made(kind).labels.axes_manager._axes,
            strict=True,
        ):
            assert ours.get_axis_dictionary() == theirs.get_axis_dictionary()

    def test_what_it_holds_besides(self, folder, kind, scenes):
        loaded, expected = EmbeddingMap.load(folder / "map.zspy"), scenes.made(kind).embedding_map
        np.testing.assert_array_equal(loaded.embeddings.data, expected.embeddings.data)
        np.testing.assert_array_equal(loaded.sample, expected.sample)
        assert loaded.recipe.sha256 == expected.recipe.sha256
        assert (loaded.guide is None) == (expected.guide is None)
        if loaded.guide is not None:
            np.testing.assert_array_equal(loaded.guide.data, expected.guide.data)

    def test_other_data_are_refused(self, folder, kind, scenes):
        make, _, _ = scenes.kinds[kind]
        signal = make()
        signal.data = signal.data[..., ::-1] + 1
        with pytest.raises(ValueError, match="'map.zspy' is the embedding map of other data"):
            EmbeddingMap.load(folder / "map.zspy", signal=signal)

    def test_hyperspy_reads_the_embeddings(self, folder, kind, scenes):
        embeddings = hs.load(folder / "map.zspy")
        expected = scenes.made(kind).embedding_map.embeddings
        np.testing.assert_array_equal(embeddings.data, expected.data)


class TestWithoutSignal:
    @pytest.fixture
    def path(self, scenes, tmp_path):
        embed(scenes.image(), **scenes.image_settings).save(tmp_path / "map.zspy")
        return tmp_path / "map.zspy"

    def test_the_nearest_cell_stands_for_a_position(self, path, scenes):
        loaded = EmbeddingMap.load(path)
        with pytest.warns(UserWarning, match=r"nearest cell stands .* signal=s\) to read them"):
            result = loaded.classify({"dark": [(8, 8)], "bright": [(45, 10)]})
        cells = loaded.embeddings.data[[8 // 3, 10 // 3], [8 // 3, 45 // 3]] - loaded.recipe.centre
        cells /= np.linalg.norm(cells, axis=1, keepdims=True)
        np.testing.assert_allclose(result.classifier.prototypes, cells, atol=1e-5)

    def test_of_a_scan_it_is_the_position_itself(self, scenes, tmp_path, recwarn):
        settings = {"encoder": "pca", "context": 1}
        embed(scenes.spectra(), **settings).save(tmp_path / "map.zspy")
        result = EmbeddingMap.load(tmp_path / "map.zspy").classify(scenes.scan_support)
        expected = scenes.spectra().fewshot_classify(scenes.scan_support, **settings)
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)
        assert not [w for w in recwarn if "nearest cell" in str(w.message)]

    def test_ready_examples_are_embedded(self, path, scenes):
        signal = scenes.image()
        support = {"dark": signal.data[2:10, 2:10], "bright": signal.data[20:28, 40:48]}
        result = EmbeddingMap.load(path).classify(support)
        expected = signal.fewshot_classify(support, **scenes.image_settings)
        np.testing.assert_array_equal(result.labels.data, expected.labels.data)

    def test_the_picture_is_the_guide_image(self, path, scenes):
        with pytest.warns(UserWarning, match="nearest cell"):
            result = EmbeddingMap.load(path).classify(scenes.image_support)
        picture = result.plot().images[0].get_array()
        np.testing.assert_array_equal(picture, result.embedding_map.guide.data)

    def test_class_signals_need_it(self, scenes, tmp_path):
        scenes.made("spectra").embedding_map.save(tmp_path / "map.zspy")
        result = EmbeddingMap.load(tmp_path / "map.zspy").classify(scenes.scan_support)
        with pytest.raises(ValueError, match="does not hold the signal"):
            result.class_signals()


class TestForeignEncoder:
    @pytest.fixture
    def path(self, scenes, tmp_path):
        found = embed(scenes.spectra(), encoder=scenes.CountingEncoder(), context=1)
        found.classify(scenes.scan_support)
        found.save(tmp_path / "map.zspy")
        return tmp_path / "map.zspy"

    def expected(self, support, scenes):
        encoder = scenes.CountingEncoder()
        return scenes.spectra().fewshot_classify(support, encoder=encoder, context=1)

    def test_is_not_in_the_file(self, path):
        assert EmbeddingMap.load(path).recipe.parts[0].encoder is None

    def test_known_examples_and_cells_do_not_need_it(self, path, scenes):
        loaded = EmbeddingMap.load(path)
        support = {**scenes.scan_support, "a": [(0, 0), (3, 3)]}
        np.testing.assert_array_equal(
            loaded.classify(support).labels.data, self.expected(support, scenes).labels.data
        )

    def test_new_examples_need_it(self, path, scenes):
        loaded = EmbeddingMap.load(path, signal=scenes.spectra())
        result = loaded.classify(scenes.scan_support)
        with pytest.raises(ValueError, match="encoder of this embedding map is missing"):
            result.update({"a": (3, 3)})

    def test_other_data_need_it(self, path, scenes):
        recipe = EmbeddingMap.load(path).recipe
        with pytest.raises(ValueError, match="encoder is missing .foreign encoders are not saved"):
            embed(scenes.spectra(), recipe=recipe)
