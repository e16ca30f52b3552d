"""Examples are added and removed without embedding anything else again."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import FewShotResult, SupportSet, embed
from hyperspy_fewshot.embedding.source import DataSource
from hyperspy_fewshot.results import embedding_map, shots

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

KINDS = ("image", "stack", "patterns", "spectra", "line scan")
# One more example of the first class, and the examples of a third one.
MORE = {
    "image": (20, 20),
    "stack": (1, 20, 20),
    "patterns": (3, 3),
    "spectra": (3, 3),
    "line scan": 1,
}
THIRD = {
    "image": [(26, 10), (25, 30)],
    "stack": [(0, 26, 10), (2, 25, 30)],
    "patterns": [(4, 2), (4, 5)],
    "spectra": [(4, 2), (4, 5)],
    "line scan": [3, 5],
}

# First calls, by what they were given.
FRESH = {}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=[False, True], ids=["eager", "lazy"])
def before(request, kind, scenes):
    """A result on eager or lazy data, which tests leave as it is."""
    if not request.param:
        return scenes.made(kind)
    make, support, settings = scenes.kinds[kind]
    return scenes.lazily(make()).fewshot_classify(support, **settings)


def assert_equal_to_a_first_call(result, kind, support, scenes, **options):
    """Compare with a classification of the same data that starts anew."""
    key = (kind, SupportSet(support).digest(), *options.items())
    if key not in FRESH:
        make, _, settings = scenes.kinds[kind]
        FRESH[key] = make().fewshot_classify(support, **settings, **options)
    fresh = FRESH[key]
    result.compute()
    np.testing.assert_array_equal(result.labels.data, fresh.labels.data)
    np.testing.assert_allclose(result.probabilities.data, fresh.probabilities.data, atol=1e-4)
    assert result.class_names == fresh.class_names
    assert result.support.describe() == fresh.support.describe()


class TestUpdate:
    def test_one_more_example(self, before, kind, scenes):
        first = before.class_names[0]
        support = dict(scenes.kinds[kind][1])
        support[first] = [*support[first], MORE[kind]]
        result = before.update({first: MORE[kind]})
        assert_equal_to_a_first_call(result, kind, support, scenes)

    def test_an_example_less(self, before, kind, scenes):
        last = before.class_names[-1]
        support = dict(scenes.kinds[kind][1])
        support[last] = support[last][1:]
        result = before.update(remove={last: 0})
        assert_equal_to_a_first_call(result, kind, support, scenes)

    def test_an_example_replaced(self, before, kind, scenes):
        first = before.class_names[0]
        support = dict(scenes.kinds[kind][1])
        support[first] = [support[first][0], MORE[kind]]
        result = before.update({first: MORE[kind]}, remove={first: [-1]})
        assert_equal_to_a_first_call(result, kind, support, scenes)

    def test_a_new_class_and_its_removal(self, before, kind, scenes):
        support = scenes.kinds[kind][1]
        result = before.update({"edge": THIRD[kind]})
        assert_equal_to_a_first_call(result, kind, {**support, "edge": THIRD[kind]}, scenes)
        result = result.update(remove={"edge": [0, 1]})
        assert_equal_to_a_first_call(result, kind, support, scenes)

    @pytest.mark.parametrize("reject", [False, 0.45])
    def test_rejection_switched(self, before, kind, reject, scenes):
        support = scenes.kinds[kind][1]
        result = before.update(reject=reject)
        assert_equal_to_a_first_call(result, kind, support, scenes, reject=reject)
        assert result.update().classifier.reject == reject
        assert_equal_to_a_first_call(result.update(reject=True), kind, support, scenes)

    def test_leaves_the_result_and_its_embeddings_alone(self, before, kind):
        names, described = before.class_names, before.support.describe()
        labels = before.compute().labels.data.copy()
        result = before.update({"edge": THIRD[kind]})
        assert result is not before
        assert result.embedding_map is before.embedding_map
        assert (before.class_names, before.support.describe()) == (names, described)
        np.testing.assert_array_equal(before.labels.data, labels)

    def test_is_lazy_as_long_as_the_result_is(self, scenes):
        make, support, settings = scenes.kinds["spectra"]
        lazy = scenes.lazily(make()).fewshot_classify(support, **settings)
        assert lazy.update({"a": (3, 3)}).labels._lazy
        assert not lazy.compute().update({"a": (3, 3)}).labels._lazy

    @pytest.mark.parametrize(
        "example",
        [
            hs.roi.RectangularROI(4.0, -1.0, 7.0, 4.0),
            np.arange(30.0)[np.newaxis] + [[1.0], [40.0]],
            hs.signals.Signal1D(np.arange(30.0)),
        ],
        ids=["ROI", "array", "signal"],
    )
    def test_every_form_of_an_example(self, example, scenes):
        support = dict(scenes.scan_support)
        support["a"] = [*support["a"], example]
        result = scenes.made("spectra").update({"a": [example]})
        assert_equal_to_a_first_call(result, "spectra", support, scenes)

    def test_an_roi_that_was_moved_meanwhile_stays_where_it_was(self, scenes):
        roi = hs.roi.CircleROI(7.0, 4.0, 2.0)
        support = {"a": [(0, 0), roi], "b": [(6, 1), (5, 4)]}
        _, _, settings = scenes.kinds["spectra"]
        first = scenes.spectra().fewshot_classify(support, **settings)
        expected = first.labels.data.copy()
        roi.cx = 12.0
        np.testing.assert_array_equal(first.update().labels.data, expected)
        moved = first.update({"a": roi}, remove={"a": 1})
        assert_equal_to_a_first_call(moved, "spectra", support, scenes)


class TestWhatIsRead:
    """Of lazy data only the places of new examples, and these once."""

    @pytest.fixture
    def counted(self, scenes, in_pieces):
        def classify(kind, **settings):
            make, support, _ = scenes.kinds[kind]
            signal = make()
            sides = (5,) * signal.axes_manager.navigation_dimension
            if kind in ("image", "stack"):
                sides = (1,) * signal.axes_manager.navigation_dimension + (10, 10)
            chunks = (*sides, *signal.data.shape[len(sides) :])
            lazy, counts = scenes.counting(signal, chunks)
            encoder = scenes.CountingEncoder()
            result = lazy.fewshot_classify(support, encoder=encoder, **settings)
            return result, counts, encoder

        return classify

    @pytest.mark.parametrize(
        ("kind", "settings", "chunks", "n_items"),
        [
            # A chip of 8 px around (20, 20) begins at 16.
            ("image", {"chip_size": 8, "stride": 3}, {(1, 1), (1, 2), (2, 1), (2, 2)}, 1),
            (
                "stack",
                {"chip_size": 8, "stride": 4},
                {(1, i, j) for i in (1, 2) for j in (1, 2)},
                1,
            ),
            ("patterns", {"context": 1}, {(0, 0, 0, 0)}, 1),
            # Pooled and by itself.
            ("spectra", {"context": 3}, {(0, 0, 0)}, 2),
            ("line scan", {"context": 1}, {(0, 0)}, 1),
        ],
    )
    def test_of_a_new_example(self, kind, settings, chunks, n_items, counted):
        result, counts, encoder = counted(kind, **settings)
        result.compute()
        counts.clear()
        encoder.count = 0
        first = result.class_names[0]
        result = result.update({first: MORE[kind]})
        assert dict(counts) == dict.fromkeys(chunks, 1)
        assert encoder.count == n_items
        result.update(remove={first: 0}).update({first: MORE[kind]}).update(reject=False)
        assert dict(counts) == dict.fromkeys(chunks, 1)
        assert encoder.count == n_items

    def test_before_it_is_computed(self, counted):
        result, counts, encoder = counted("image", chip_size=8, stride=3)
        total = result.labels.data.size
        assert encoder.count < total / 2
        before = encoder.count
        result = result.update({"dark": (20, 20)})
        assert encoder.count == before + 1
        counts.clear()
        result.compute()
        assert encoder.count == before + 1 + total
        assert set(counts.values()) == {1}

    def test_of_results_that_were_built_before_the_map_was_computed(self, counted):
        first, counts, encoder = counted("spectra", context=3)
        second = first.update({"a": (3, 3)})
        first.compute()
        encoder.count = 0
        counts.clear()
        second.compute()
        assert encoder.count == 0
        assert not counts
        expected = first.update({"a": (3, 3)})
        np.testing.assert_array_equal(second.labels.data, expected.labels.data)

    def test_labels_and_embeddings_come_from_one_pass(self, counted):
        result, counts, encoder = counted("spectra", context=3)
        encoder.count = 0
        counts.clear()
        result.compute()
        assert not result.embedding_map.embeddings._lazy
        # 42 spectra, pooled and by themselves.
        assert encoder.count == 2 * 42
        assert dict(counts) == {(i, j, 0): 1 for i in range(2) for j in range(2)}


class TestTooLarge:
    """Embeddings over the limit are not kept in memory."""

    @pytest.fixture
    def result(self, scenes, monkeypatch):
        monkeypatch.setattr(embedding_map, "_MOST_KEPT", 100)
        make, support, settings = scenes.kinds["spectra"]
        return scenes.lazily(make()).fewshot_classify(support, **settings).compute()

    def test_they_are_not_kept(self, result):
        assert not result.labels._lazy
        assert result.embedding_map.embeddings._lazy

    def test_update_warns_and_is_right(self, result, scenes):
        with pytest.warns(UserWarning, match="one more pass over the data"):
            updated = result.update({"a": (3, 3)})
        support = {**scenes.scan_support, "a": [*scenes.scan_support["a"], (3, 3)]}
        assert_equal_to_a_first_call(updated, "spectra", support, scenes)

    def test_below_the_limit_there_is_no_warning(self, scenes):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scenes.made("spectra").update({"a": (3, 3)})


class TestErrors:
    def test_of_a_loaded_result(self, scenes, tmp_path):
        scenes.made("spectra").save(tmp_path / "result.hspy")
        loaded = FewShotResult.load(tmp_path / "result.hspy")
        with pytest.raises(ValueError, match=r"Save result.embedding_map, and use EmbeddingMap"):
            loaded.update({"a": (3, 3)})

    def test_of_a_classifier_from_other_data(self, scenes):
        again = scenes.spectra(seed=1).fewshot_classify(scenes.made("spectra"))
        with pytest.raises(ValueError, match="update the result that it came from"):
            again.update({"a": (3, 3)})

    @pytest.mark.parametrize(
        ("remove", "error", "match"),
        [
            ({"c": 0}, KeyError, "There is no class 'c'; classes are"),
            ({"a": 2}, IndexError, "Class 'a' has 2 examples, none with index 2"),
            ({"a": [0, 1]}, ValueError, r"at least two classes, got \['b'\]"),
        ],
    )
    def test_what_cannot_be_removed(self, remove, error, match, scenes):
        with pytest.raises(error, match=match):
            scenes.made("spectra").update(remove=remove)

    @pytest.mark.parametrize(
        ("examples", "error", "match"),
        [
            ({"a": (7, 0)}, ValueError, "class 'a': index 7 lies outside"),
            ({"a": "centre"}, TypeError, "class 'a' is str 'centre'"),
            ({"masked": (1, 1)}, ValueError, "A class cannot be called 'masked'"),
            ({"c": []}, ValueError, "Class 'c' has no examples"),
        ],
    )
    def test_examples_that_are_wrong(self, examples, error, match, scenes):
        with pytest.raises(error, match=match):
            scenes.made("spectra").update(examples)

    @pytest.mark.parametrize("reject", [0.0, 1.5])
    def test_a_level_out_of_range(self, reject, scenes):
        with pytest.raises(ValueError, match=f"reject={reject} must be True, False, or a level"):
            scenes.made("spectra").update(reject=reject)

    def test_an_example_on_nan(self, scenes):
        signal = scenes.spectra()
        signal.data[5, 6] = np.nan
        with pytest.warns(UserWarning, match="1 of 42 queries hold NaN"):
            result = signal.fewshot_classify(scenes.scan_support, encoder="pca", context=1)
        with pytest.raises(
            ValueError, match="example of class 'b' lies on NaN, infinite or masked data"
        ):
            result.update({"b": (6, 5)})
        # The example that failed is not taken for known.
        with pytest.raises(
            ValueError, match="example of class 'b' lies on NaN, infinite or masked data"
        ):
            result.update({"b": (6, 5)})


def test_mixed_forms_share_one_map(scenes):
    """Ready chips, positions and ROIs of one call keep the embeddings that belong to them."""
    signal = scenes.image()
    settings = scenes.image_settings
    chips = np.stack([signal.data[2:10, 2:10], signal.data[20:28, 4:12]])
    support = {
        "dark": [(8, 8), chips, hs.roi.RectangularROI(0.0, 12.0, 4.0, 14.0)],
        "bright": [signal.isig[40:48, 4:12], (45, 30)],
    }
    at_once = signal.fewshot_classify(support, **settings)
    one_by_one = embed(signal, **settings).classify(
        {"dark": support["dark"][0], "bright": support["bright"][0]}
    )
    for name, examples in support.items():
        for example in examples[1:]:
            one_by_one = one_by_one.update({name: example})
    np.testing.assert_array_equal(one_by_one.labels.data, at_once.labels.data)


class TestMemory:
    """Many examples are read a few at a time."""

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_batches_change_nothing(self, kind, lazy, scenes, monkeypatch):
        make, support, settings = scenes.kinds[kind]
        signal = scenes.lazily(make()) if lazy else make()
        embedded = signal.fewshot_embed(**settings)
        axes = embedded.domain.axes
        rng = np.random.default_rng(0)
        many = [tuple(int(rng.integers(axis.size)) for axis in axes) for _ in range(12)]
        support = {**support, "many": many + many[3:5]}
        expected = embedded.classify(support).compute()
        embedded.known.clear()
        reads = []
        read = DataSource.read

        def noting(source, windows, *given):
            parts = read(source, windows, *given)
            reads.append(sum(part.size for part in parts))
            return parts

        monkeypatch.setattr(DataSource, "read", noting)
        item = signal.data[(0,) * len(axes)].size if kind not in ("image", "stack") else 1
        context = settings.get("context", 8) ** min(2, len(axes))
        monkeypatch.setattr(shots, "_BATCH_BYTES", 3 * 8 * item * context)
        found = embedded.classify(support).compute()
        assert len(reads) > 2 and max(reads) <= 3 * item * context
        np.testing.assert_array_equal(found.labels.data, expected.labels.data)
        np.testing.assert_allclose(found.probabilities.data, expected.probabilities.data, atol=1e-5)

    def test_an_example_given_many_times_is_read_once(self, scenes, in_pieces):
        encoder = scenes.CountingEncoder()
        embedded = scenes.spectra().fewshot_embed(encoder=encoder, context=1)
        before = encoder.count
        result = embedded.classify({"a": [(0, 0)] * 300, "b": [(6, 1)] * 300})
        assert encoder.count - before == 2
        assert np.isnan(result.classifier.leave_one_out)
