"""Masked arrays, single positions, long patterns, and data that change before they are computed."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import FewShotResult
from hyperspy_fewshot.signals import LabelMap, LabelMap1D

pytestmark = [
    pytest.mark.filterwarnings("ignore:With one example a class:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*NestedDirectoryStore:FutureWarning"),
]


def lying(block):
    """Masked values of a block that stands for plain data."""
    return np.ma.masked_equal(block, 77)


def forms(data, chunks):
    """Data in which 77 is masked, as every kind of array that a signal may hold."""
    masked = np.ma.masked_equal(data, 77)
    plain = da.from_array(data, chunks=chunks)
    yield "eager", masked
    yield "lazy", da.from_array(masked, chunks=chunks)
    yield "masked lazily", da.ma.masked_equal(plain, 77)
    yield (
        "lying",
        plain.map_blocks(lying, dtype=data.dtype, meta=np.empty((0,) * data.ndim, data.dtype)),
    )


def as_signal(kind, data):
    if isinstance(data, da.Array):
        kind = f"Lazy{kind}"
    return getattr(hs.signals, kind)(data)


class TestMaskedArrays:
    """Masked entries are treated as data that are not finite."""

    # Kind of signal, shape and type of the data, chunks, the entry that is masked, and settings.
    CASES = {
        "image": (
            "Signal2D",
            (40, 60),
            "uint8",
            (17, 25),
            (20, 29),
            {"chip_size": 12, "stride": 5},
        ),
        "image by pca": (
            "Signal2D",
            (40, 60),
            "int64",
            (17, 25),
            (20, 29),
            {"chip_size": 9, "stride": 4, "encoder": "pca"},
        ),
        "stack": (
            "Signal2D",
            (2, 40, 60),
            "uint16",
            (1, 40, 31),
            (1, 20, 29),
            {"chip_size": 12, "stride": 5, "encoder": "pca"},
        ),
        "patterns": (
            "Signal2D",
            (5, 6, 9, 8),
            "float32",
            (2, 3, 9, 5),
            (2, 2, 4, 4),
            {"context": 1},
        ),
        "pooled patterns": (
            "Signal2D",
            (5, 6, 9, 8),
            "uint8",
            (2, 3, 9, 5),
            (2, 2, 4, 4),
            {"context": 3, "encoder": "pca"},
        ),
        "spectra": ("Signal1D", (5, 6, 20), "int32", (2, 4, 11), (2, 2, 9), {}),
        "line": ("Signal1D", (9, 20), ">u2", (4, 20), (4, 9), {"context": 1}),
    }
    # Examples that hold no masked entry, by the number of navigation axes; of images for a stack.
    SUPPORTS = {
        0: {"a": [(8, 8), (9, 30)], "b": [(50, 8), (52, 30)]},
        1: {"a": [0, 1], "b": [8, 7]},
        2: {"a": [(0, 0), (1, 3)], "b": [(5, 0), (4, 3)]},
        "stack": {"a": [(0, 8, 8), (0, 9, 30)], "b": [(0, 50, 8), (0, 52, 30)]},
    }

    @pytest.mark.parametrize("case", CASES)
    def test_are_masked_in_the_result(self, case):
        kind, shape, dtype, chunks, place, options = self.CASES[case]
        nav = len(shape) - int(kind[-2])
        support = self.SUPPORTS["stack" if case == "stack" else nav]
        data = np.random.default_rng(0).poisson(9, shape)
        # The classes differ in the right half of the image, or of the scan.
        right = (..., slice(30, None)) if "chip_size" in options else (slice(None),) * (nav - 1)
        right = right if "chip_size" in options else (*right, slice(shape[nav - 1] // 2, None))
        data[right] += 30
        data = np.minimum(data, 76).astype(dtype)
        data[place] = 77
        unfinished = data.astype(float)
        unfinished[place] = np.nan
        with pytest.warns(UserWarning, match="queries hold NaN, infinite or masked data"):
            expected = as_signal(kind, unfinished).fewshot_classify(support, **options)
        n_masked = int((expected.labels.data == -2).sum())
        assert n_masked >= 1
        for name, form in forms(data, chunks):
            with pytest.warns(UserWarning, match=f"{n_masked} of .* hold NaN, infinite or masked"):
                result = as_signal(kind, form).fewshot_classify(support, **options).compute()
            np.testing.assert_array_equal(result.labels.data, expected.labels.data, err_msg=name)
            np.testing.assert_allclose(
                result.probabilities.data, expected.probabilities.data, atol=1e-4
            )
            assert str(result.statistics) and result.plot() is not None
            if "chip_size" not in options:
                assert np.isfinite(result.class_signals()["a"].data).all()

    def test_entries_that_are_not_masked_change_nothing(self, scenes):
        signal = scenes.spectra()
        expected = signal.fewshot_classify(scenes.scan_support, context=1)
        signal.data = np.ma.array(signal.data)
        found = signal.fewshot_classify(scenes.scan_support, context=1)
        np.testing.assert_array_equal(found.probabilities.data, expected.probabilities.data)

    def test_an_image_is_drawn_without_its_masked_pixels(self, scenes):
        signal = scenes.image()
        signal.data = np.ma.masked_less(np.where(signal.data > 30.5, -1e9, signal.data), 0)
        with pytest.warns(UserWarning, match="masked data"):
            result = signal.fewshot_classify(
                {"a": (3, 3), "b": (5, 30)}, chip_size=3, stride=3, encoder="pca"
            )
        image = result.plot().images[0]
        assert image.norm.vmin > 0 and np.isnan(image.get_array().filled(np.nan)).any()

    def test_ready_examples_with_masked_entries_are_refused(self, scenes):
        signal = scenes.spectra()
        spectra = np.ma.array(signal.data[:2, 0])
        good = {"a": spectra, "b": signal.data[:2, 6]}
        assert signal.fewshot_classify(good, context=1).labels.data.max() == 1
        spectra[0, 3] = np.ma.masked
        for ready in (
            spectra,
            hs.signals.Signal1D(spectra),
            hs.signals.Signal1D(spectra).as_lazy(),
        ):
            with pytest.raises(
                ValueError, match="'a': ready examples must be finite, .* or masked"
            ):
                signal.fewshot_classify({**good, "a": ready}, context=1)

    def test_an_example_on_masked_data_is_refused(self, scenes):
        signal = scenes.spectra()
        signal.data = np.ma.array(signal.data)
        signal.data[0, 0, 5] = np.ma.masked
        with pytest.raises(ValueError, match="of class 'a' lies on NaN, infinite or masked data"):
            signal.fewshot_classify(scenes.scan_support, context=1)


class TestChangingData:
    """A lazy result of data in memory does not follow them."""

    @pytest.mark.parametrize("kind", ["image", "spectra"])
    def test_a_result_is_that_of_the_call(self, kind, scenes, in_pieces):
        make, support, settings = scenes.kinds[kind]
        expected = make().fewshot_classify(support, **settings)
        signal = make()
        result = signal.fewshot_classify(support, **settings, lazy_output=True)
        embedded = signal.fewshot_embed(**settings, lazy_output=True)
        signal.data[:] = signal.data[::-1, ::-1].copy()
        np.testing.assert_array_equal(result.compute().labels.data, expected.labels.data)
        np.testing.assert_allclose(
            embedded.compute().embeddings.data, expected.embedding_map.embeddings.data, rtol=1e-4
        )

    def test_other_results_copy_nothing(self, scenes):
        signal = scenes.spectra()
        result = signal.fewshot_classify(scenes.scan_support, context=1)
        assert result.embedding_map.source.data is signal.data
        lazy = scenes.lazily(signal)
        result = lazy.fewshot_classify(scenes.scan_support, context=1, lazy_output=True)
        assert result.embedding_map.source.data is lazy.data


class TestSinglePositions:
    READY = {"a": 0.0, "b": 9.0}

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize(
        ("shape", "kind", "of_line"),
        [
            ((1, 20), "Signal1D", True),
            ((1, 1, 20), "Signal1D", False),
            ((1, 1, 1, 20), "Signal1D", False),
            ((1, 6, 7), "Signal2D", True),
            ((1, 1, 6, 7), "Signal2D", False),
        ],
    )
    def test_make_a_label_map(self, shape, kind, of_line, lazy, tmp_path):
        signal = getattr(hs.signals, kind)(np.random.default_rng(0).normal(9, 1, shape))
        item = shape[-2:] if kind == "Signal2D" else shape[-1:]
        rng = np.random.default_rng(1)
        ready = {name: rng.normal(mean, 1, (3, *item)) for name, mean in self.READY.items()}
        signal = signal.as_lazy() if lazy else signal
        result = signal.fewshot_classify(ready, context=1, encoder="pca", reject=False)
        result.compute()
        assert type(result.labels) is (LabelMap1D if of_line else LabelMap)
        assert result.labels.data.tolist() == np.full(shape[: -len(item)], 1).tolist()
        assert result.statistics.rows["b"]["count"] == 1
        result.plot()
        result.labels.plot()
        result.save(tmp_path / "one.zspy")
        loaded = FewShotResult.load(tmp_path / "one.zspy")
        assert type(loaded.labels) is type(result.labels)
        assert loaded.statistics.to_dict().keys() == {"a", "b", "rejected", "masked"}

    @pytest.mark.parametrize("shape", [(1,), (2,), (1, 1), (1, 2), (2, 2), (3, 1)])
    def test_the_context_that_is_chosen_fits_short_scans(self, shape):
        signal = hs.signals.Signal1D(np.random.default_rng(0).poisson(9, (*shape, 20)))
        ready = {"a": np.zeros((2, 20)), "b": np.ones((2, 20))}
        for context in (None, 1):
            result = signal.fewshot_classify(ready, context=context)
            assert result.labels.data.shape == shape
        with pytest.raises(ValueError, match=f"wider than the scan, which has {max(shape)} pos"):
            signal.fewshot_classify(ready, context=max(shape) + 1 + max(shape) % 2)


@pytest.mark.parametrize(
    ("shape", "encoder"),
    [((16, 256), "pattern"), ((3, 100), "pca"), ((1, 500), "pca"), ((36, 1), "pca")]
    + [((1, 500), "fourier"), ((36, 1), "fourier"), ((36, 1), "pattern")],
)
def test_patterns_of_any_aspect_ratio(shape, encoder):
    data = np.random.default_rng(0).poisson(5, (6, 7, *shape)).astype(np.uint16)
    data[:, 4:, ..., : -(-shape[-1] // 2)] += 20
    data[:, 4:, : -(-shape[0] // 2)] += 20
    support = {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}
    expected = np.broadcast_to(np.arange(7) >= 4, (6, 7))
    for context in (3,) if encoder == "pattern" else (None, 1):
        options = {"encoder": encoder, "context": context, "reject": False}
        eager = hs.signals.Signal2D(data).fewshot_classify(support, **options)
        assert (eager.labels.data == expected).mean() > 0.9
        lazy = hs.signals.Signal2D(data).as_lazy()
        lazy.data = lazy.data.rechunk((2, 3, -1, -(-shape[1] // 2)))
        lazy = lazy.fewshot_classify(support, **options).compute()
        np.testing.assert_array_equal(lazy.labels.data, eager.labels.data)


class TestManyChips:
    SUPPORT = {"a": (10, 10), "b": (60, 60)}

    def unread(self, *shape):
        def fail(block):
            raise AssertionError("data were read")

        source = da.zeros(shape, chunks=500)
        source = source.map_blocks(fail, dtype=float, meta=np.empty((0,) * len(shape)))
        return (
            hs.signals.Signal2D(np.zeros((1,) * len(shape)))
            .as_lazy()
            ._deepcopy_with_new_data(source)
        )

    @pytest.mark.parametrize("call", ["fewshot_classify", "fewshot_embed"])
    def test_are_announced_before_they_are_computed(self, call):
        support = [self.SUPPORT] if call == "fewshot_classify" else []
        signal = hs.signals.LazySignal2D(self.unread(1500, 1400).data)
        message = r"2100000 chips will be computed .chip_size=4, stride=1.* larger stride"
        with pytest.raises(AssertionError, match="data were read"):
            with pytest.warns(UserWarning, match=message) as caught:
                getattr(signal, call)(*support, chip_size=4, stride=1)
        assert any(str(w.message).startswith("2100000") and w.filename == __file__ for w in caught)

    def test_of_all_frames_of_a_stack(self):
        signal = hs.signals.LazySignal2D(self.unread(10, 500, 500).data)
        support = {"a": (0, 10, 10), "b": (0, 60, 60)}
        with pytest.raises(AssertionError, match="data were read"):
            with pytest.warns(UserWarning, match="2500000 chips"):
                signal.fewshot_classify(support, chip_size=4, stride=1)

    def test_fewer_are_not(self, recwarn):
        signal = hs.signals.LazySignal2D(self.unread(1500, 1400).data)
        with pytest.raises(AssertionError, match="data were read"):
            signal.fewshot_classify(self.SUPPORT, chip_size=4, stride=2)
        assert not [w for w in recwarn if "chips will be computed" in str(w.message)]


class TestUnits:
    @pytest.mark.parametrize("units", ["", " "])
    def test_axes_without_units_are_counted_in_pixels(self, units, scenes):
        signal = scenes.spectra()
        for axis in signal.axes_manager.navigation_axes:
            axis.units = units
        result = signal.fewshot_classify(scenes.scan_support, context=1)
        assert result.statistics.units == "px²" and "area [px²]" in str(result.statistics)
        assert result.statistics.rows["a"]["area"] == result.statistics.rows["a"]["count"]
        assert result.plot().get_xlabel() == "x [px]"
