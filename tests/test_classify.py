"""What is classified follows from the signal, and how it was made, stored or chunked does not matter."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest
import torch

from hyperspy_fewshot import FewShotResult, classify, data, get_encoder

# Uneven chunks for every axis of the arrays below, by size.
CHUNKS = {
    3: (2, 1),
    4: (1, 3),
    6: (4, 2),
    7: (3, 4),
    9: (5, 4),
    10: (3, 7),
    11: (6, 5),
    30: (11, 19),
}


def spectra(nav_shape, channels=30, counts=200.0, seed=0, dtype=float):
    """Spectra with a peak at channel 8, or, in the last half of the last axis, at channel 20."""
    truth = np.zeros(nav_shape, int)
    truth[..., (nav_shape[-1] + 1) // 2 :] = 1
    channel = np.arange(channels)
    shapes = np.exp(-((channel - np.array([[8], [20]])) ** 2) / 8.0)
    values = np.random.default_rng(seed).poisson(5 + counts * shapes[truth] / shapes.sum(1).mean())
    return hs.signals.Signal1D(values.astype(dtype)), truth


def patterns(nav_shape, shape=(10, 11), seed=0, dtype=float):
    """Patterns with a spot at (3, 3), or, in the last half of the last axis, at (6, 7)."""
    truth = np.zeros(nav_shape, int)
    truth[..., (nav_shape[-1] + 1) // 2 :] = 1
    y, x = np.indices(shape)
    spots = [np.exp(-((y - r) ** 2 + (x - c) ** 2) / 3.0) for r, c in ((3, 3), (6, 7))]
    values = np.random.default_rng(seed).poisson(2 + 60 * np.stack(spots)[truth])
    return hs.signals.Signal2D(values.astype(dtype)), truth


def fringes(nav_shape=(), shape=(70, 90), seed=0, dtype=float):
    """Images of vertical fringes, with horizontal ones from column 45 on."""
    y, x = np.indices(shape)
    truth = np.broadcast_to((x >= 45).astype(int), (*nav_shape, *shape))
    lattice = np.where(x < 45, np.cos(2 * np.pi * x / 5), np.cos(2 * np.pi * y / 5))
    rng = np.random.default_rng(seed)
    values = rng.poisson(np.broadcast_to(30 * (1.2 + lattice), (*nav_shape, *shape)))
    return hs.signals.Signal2D(values.astype(dtype)), truth


# The cheapest bundled encoder that tells the directions of fringes apart.
CHIPS = {"chip_size": 16, "encoder": "fourier"}
IMAGE_SUPPORT = {"vertical": [(12, 12), (20, 50)], "horizontal": [(75, 15), (70, 55)]}
CASES = {
    "image": (fringes, (), IMAGE_SUPPORT, CHIPS),
    "patterns": (patterns, (6, 7), {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}, {}),
    "patterns along a line": (patterns, (9,), {"a": [0, 3], "b": [(8,), (6,)]}, {"context": 1}),
    "stack": (
        fringes,
        (3,),
        {"vertical": [(0, 12, 12), (2, 20, 50)], "horizontal": [(1, 75, 15), (0, 70, 55)]},
        {**CHIPS, "stride": 6},
    ),
    "stack of two axes": (
        fringes,
        (3, 4),
        {
            "vertical": [(3, 0, 12, 12), (1, 2, 20, 50)],
            "horizontal": [(0, 1, 75, 15), (1, 0, 70, 55)],
        },
        {**CHIPS, "stride": 10},
    ),
    "spectra": (spectra, (6, 7), {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}, {}),
    "line scan": (spectra, (9,), {"a": [0, 3], "b": [(8,), (6,)]}, {"context": 1}),
    "three navigation axes": (
        spectra,
        (4, 6, 7),
        {"a": [(0, 0, 0), (2, 5, 3)], "b": [(6, 1, 2), (5, 4, 1)]},
        {},
    ),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """Signal, its truth, how to classify it, and the result."""
    make, nav_shape, support, options = CASES[request.param]
    signal, truth = make(nav_shape)
    options = {"support": support, "reject": False, **options}
    return signal, truth, options, signal.fewshot_classify(**options)


def lazily(signal):
    """The same signal, lazy, in uneven chunks."""
    chunks = tuple(CHUNKS.get(size, (size // 3, size - size // 3)) for size in signal.data.shape)
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk(chunks)
    return lazy


def assert_labels_are_true(result, truth):
    labels = result.labels_at_pixels().data
    assert labels.shape == truth.shape
    if result.classifier.recipe.grid.kind == "image":
        # A chip on the boundary has its centre up to half a stride from it.
        far = np.abs(np.arange(truth.shape[-1]) - 44.5) > 12
        labels, truth = labels[..., far], truth[..., far]
    np.testing.assert_array_equal(labels, truth)


class TestTable:
    def test_labels_are_the_truth(self, case):
        _, truth, options, result = case
        assert_labels_are_true(result, truth)
        assert result.class_names == tuple(options["support"])
        assert result.labels.data.dtype == np.int16
        assert not result.labels._lazy

    def test_lazy_equals_eager(self, case):
        signal, _, options, eager = case
        lazy = lazily(signal).fewshot_classify(**options)
        assert lazy.labels._lazy
        np.testing.assert_array_equal(lazy.compute().labels.data, eager.labels.data)
        for name in ("probabilities", "confidence"):
            one, other = getattr(lazy, name).data, getattr(eager, name).data
            np.testing.assert_allclose(one, other, atol=1e-4)

    def test_shapes_of_all_outputs(self, case):
        signal, _, _, result = case
        shape = result.labels.data.shape
        if result.classifier.recipe.grid.kind == "image":
            stride = result.classifier.recipe.grid.stride
            cells = tuple(-(-size // stride) for size in signal.data.shape[-2:])
            assert shape == (*signal.data.shape[:-2], *cells)
        else:
            assert shape == signal.axes_manager._navigation_shape_in_array
        assert result.probabilities.data.shape == (2, *shape)
        assert result.confidence.data.shape == shape
        assert result.embedding_map.embeddings.data.shape[:-1] == shape
        np.testing.assert_allclose(result.probabilities.data.sum(axis=0), 1, rtol=1e-5)
        best = np.take_along_axis(result.probabilities.data, result.labels.data[np.newaxis], 0)[0]
        np.testing.assert_array_equal(result.confidence.data, best)

    def test_maps_have_at_most_two_signal_axes_and_the_rest_navigates(self, case):
        labels = case[-1].labels
        shown = min(2, labels.data.ndim)
        assert labels.axes_manager.signal_dimension == shown
        assert labels.axes_manager.navigation_dimension == labels.data.ndim - shown
        assert labels.metadata.Signal.signal_type == "LabelMap"

    def test_input_is_unchanged(self, case):
        signal, _, options, _ = case
        signal = signal.deepcopy()
        signal.metadata.set_item("Sample.elements", ["Fe", "Pt"])
        signal.original_metadata.set_item("deep.down", 3)
        lazy, before = lazily(signal), signal.deepcopy()
        chunks = lazy.data.chunks
        for one in (signal, lazy):
            one.fewshot_classify(**options).compute()
            assert one.metadata.as_dictionary() == before.metadata.as_dictionary()
            assert one.original_metadata.as_dictionary() == before.original_metadata.as_dictionary()
            assert [a.get_axis_dictionary() for a in one.axes_manager._axes] == [
                a.get_axis_dictionary() for a in before.axes_manager._axes
            ]
        np.testing.assert_array_equal(signal.data, before.data)
        assert lazy._lazy
        assert lazy.data.chunks == chunks


class TestSpecimens:
    """The larger synthetic specimens, as a user would classify them."""

    @pytest.mark.parametrize(
        ("make", "margin", "options", "least"),
        [
            (lambda: data.heterostructure((208, 240)), 16, {"chip_size": 32}, 0.95),
            (
                lambda: data.image_stack(3, (160, 176)),
                12,
                {"chip_size": 32, "encoder": "fourier"},
                0.90,
            ),
            (lambda: data.diffraction_scan((14, 18), (32, 38)), 1, {}, 0.95),
            (lambda: data.eds_spectrum_image((36, 40)), 1, {"context": 1}, 0.95),
        ],
        ids=["heterostructure", "stack", "diffraction", "EDS"],
    )
    def test_accuracy_with_five_shots(self, make, margin, options, least):
        specimen = make()
        support = specimen.support(5, margin=margin)
        result = specimen.signal.fewshot_classify(support, reject=False, **options)
        assert specimen.accuracy(result.labels_at_pixels().data) >= least
        assert result.classifier.leave_one_out >= 0.8


def test_a_small_scan_whose_first_quarter_is_masked():
    rng = np.random.default_rng(0)
    data = rng.poisson(3, (6, 8, 20, 22)).astype(np.uint16)
    data[:, 4:, 5:9] += 20
    mask = np.zeros((6, 8), bool)
    mask[:3, :4] = True
    signal = hs.signals.Signal2D(data)
    support = {"a": [(0, 4), (3, 5)], "b": [(5, 0), (7, 4)]}
    result = signal.fewshot_classify(support, context=1, navigation_mask=mask.T, reject=False)
    expected = np.where(mask, -2, np.arange(8) // 4)
    np.testing.assert_array_equal(result.labels.data, expected)


class TestMethod:
    support = {"a": [(0, 0), (1, 5)], "b": [(6, 1), (5, 4)]}

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("signal_type", ["", "EELS", "EDS_TEM", "EDS_SEM"])
    def test_every_signal_type(self, signal_type, lazy):
        signal, truth = spectra((6, 7))
        signal.set_signal_type(signal_type)
        if lazy:
            signal = signal.as_lazy()
        result = signal.fewshot_classify(self.support, reject=False)
        np.testing.assert_array_equal(result.compute().labels.data, truth)
        assert bool(result.classifier.recipe.parts[0].encoder.divided[0]) is signal_type.startswith(
            "EDS"
        )
        if signal_type:
            assert type(signal).__module__.startswith("exspy")

    @pytest.mark.parametrize(
        ("derive", "cut"),
        [
            (lambda s: s.as_lazy(), ()),
            (lambda s: s.as_lazy().as_lazy(), ()),
            (lambda s: s.deepcopy(), ()),
            (lambda s: s.isig[3:-2], ()),
            (lambda s: s.inav[:, ::-1], np.s_[::-1]),
            (lambda s: s.as_lazy().inav[1:], np.s_[:, 1:]),
        ],
        ids=["lazy", "lazy twice", "deepcopy", "isig", "inav", "lazy inav"],
    )
    def test_derived_signals(self, derive, cut):
        signal, truth = spectra((6, 7))
        support = {"a": [(0, 0), (1, 5)], "b": [(-1, 1), (4, 4)]}
        result = derive(signal).fewshot_classify(support, reject=False, context=1)
        np.testing.assert_array_equal(result.compute().labels.data, truth[cut])

    def test_transposed_signals(self):
        signal, truth = spectra((6, 7))
        transposed = signal.transpose(signal_axes=[2], navigation_axes=[1, 0])
        support = {name: [p[::-1] for p in places] for name, places in self.support.items()}
        result = transposed.fewshot_classify(support, reject=False, context=1)
        np.testing.assert_array_equal(result.labels.data, truth.T)

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_loaded_signals(self, suffix, lazy, tmp_path):
        signal, truth = spectra((6, 7))
        signal.set_signal_type("EELS")
        signal.save(tmp_path / f"map{suffix}", chunks=(4, 3, 30))
        loaded = hs.load(tmp_path / f"map{suffix}", lazy=lazy)
        result = loaded.fewshot_classify(self.support, reject=False)
        np.testing.assert_array_equal(result.compute().labels.data, truth)

    def test_function_is_the_method(self):
        signal, _ = spectra((6, 7))
        one = classify(signal, self.support)
        other = signal.fewshot_classify(support=self.support)
        np.testing.assert_array_equal(one.probabilities.data, other.probabilities.data)

    @pytest.mark.parametrize(
        "dtype", ["u1", "u2", "u4", "i1", "i2", "i8", "f2", "f4", "f8", ">u2", ">f4", ">f8", "u8"]
    )
    @pytest.mark.parametrize("change", [lambda s: s, lazily], ids=["eager", "lazy"])
    def test_dtypes(self, dtype, change):
        signal, truth = spectra((6, 7), dtype=dtype)
        result = change(signal).fewshot_classify(self.support, reject=False, context=3)
        np.testing.assert_array_equal(result.compute().labels.data, truth)
        assert signal.data.dtype == np.dtype(dtype)

    @pytest.mark.parametrize("dtype", ["u1", ">u2", "i8", "f8"])
    def test_dtypes_of_patterns(self, dtype):
        signal, truth = patterns((6, 7), dtype=dtype)
        result = lazily(signal).fewshot_classify(self.support, reject=False)
        np.testing.assert_array_equal(result.compute().labels.data, truth)

    @pytest.mark.parametrize("dtype", ["u1", "u2", ">i4", ">f8"])
    def test_dtypes_of_images(self, dtype):
        signal, truth = fringes(dtype=dtype)
        result = signal.fewshot_classify(IMAGE_SUPPORT, **CHIPS, reject=False)
        assert_labels_are_true(result, truth)

    def test_boolean_images(self):
        signal, truth = fringes()
        signal.data = signal.data > 30
        result = signal.fewshot_classify(IMAGE_SUPPORT, **CHIPS, reject=False)
        assert_labels_are_true(result, truth)


class TestLaziness:
    @pytest.fixture
    def lazy_image(self, scenes):
        signal, _ = fringes(shape=(150, 170))
        return scenes.counting(signal, (60, 50))

    def test_encoder_sees_support_and_sample_before_compute_and_every_query_once_after(
        self, lazy_image, scenes
    ):
        lazy, _ = lazy_image
        encoder = scenes.CountingEncoder()
        result = lazy.fewshot_classify(IMAGE_SUPPORT, chip_size=16, stride=2, encoder=encoder)
        queries = result.labels.data.size
        assert queries == 75 * 85
        before = encoder.count
        # Four support chips, and the sample of at most 2048 chips.
        assert 4 + 1024 < before <= 4 + 2048
        result.compute()
        assert encoder.count == before + queries
        result.compute()
        assert sum(result.fractions.values()) <= 1
        assert encoder.count == before + queries

    def test_one_pass_reads_every_chunk_once(self, lazy_image):
        lazy, counts = lazy_image
        result = lazy.fewshot_classify(IMAGE_SUPPORT, **CHIPS, stride=2)
        counts.clear()
        result.compute()
        assert counts == {(i, j): 1 for i in range(3) for j in range(4)}

    def test_only_chunks_of_support_and_sample_are_read_before_compute(self, scenes):
        rng = np.random.default_rng(0)
        signal = hs.signals.Signal1D(rng.poisson(5.0, (300, 310, 6)))
        lazy, counts = scenes.counting(signal, (10, 10, 6))
        support = {"a": [(0, 0), (20, 20)], "b": [(300, 5), (200, 290)]}
        result = lazy.fewshot_classify(support, context=1)
        assert len(counts) < 30 * 31 / 2
        # Chunks of the sample are read once, and those of the four examples once more.
        again = {chunk for chunk, count in counts.items() if count > 1}
        assert again <= {(0, 0, 0), (2, 2, 0), (0, 30, 0), (29, 20, 0)}
        assert max(counts.values()) <= 2
        counts.clear()
        result.compute()
        assert len(counts) == 30 * 31 and set(counts.values()) == {1}

    @pytest.mark.parametrize("lazy_input", [False, True])
    @pytest.mark.parametrize("lazy_output", [None, False, True])
    def test_lazy_output(self, lazy_input, lazy_output):
        signal, truth = spectra((6, 7))
        signal = lazily(signal) if lazy_input else signal
        result = signal.fewshot_classify(TestMethod.support, lazy_output=lazy_output, reject=False)
        expected = lazy_input if lazy_output is None else lazy_output
        for name in ("labels", "probabilities", "confidence"):
            assert getattr(result, name)._lazy is expected
        assert result.embedding_map.embeddings._lazy is expected
        labels = result.labels
        assert result.compute() is result
        assert result.labels is labels
        np.testing.assert_array_equal(result.labels.data, truth)

    def test_parts_may_be_computed_by_hand_first(self):
        signal, truth = spectra((6, 7))
        result = lazily(signal).fewshot_classify(TestMethod.support, reject=False)
        result.labels.compute()
        assert result.statistics.rows["a"]["count"] == (truth == 0).sum()
        assert not result.confidence._lazy

    @pytest.mark.parametrize("show", [True, False])
    def test_progress_bar(self, show, capfd, monkeypatch):
        signal, _ = spectra((6, 7))
        monkeypatch.setattr(hs.preferences.General, "show_progressbar", show)
        lazily(signal).fewshot_classify(TestMethod.support).compute()
        assert ("Classifying" in capfd.readouterr().err) is show
        lazily(signal).fewshot_classify(TestMethod.support, show_progressbar=not show)
        assert ("Reading examples" in capfd.readouterr().err) is not show


class TestNavigationMask:
    mask = np.arange(42).reshape(6, 7) % 5 == 1

    @pytest.mark.parametrize(("make", "lazy"), [(spectra, False), (patterns, True)])
    @pytest.mark.parametrize(
        "given",
        [
            lambda mask: mask.T,
            lambda mask: mask.T.astype(int),
            lambda mask: hs.signals.BaseSignal(mask),
            lambda mask: hs.signals.BaseSignal(mask).T,
            lambda mask: hs.signals.Signal2D(mask).as_lazy(),
        ],
        ids=["array", "integers", "signal", "navigation signal", "lazy signal"],
    )
    def test_positions(self, make, lazy, given):
        signal, truth = make((6, 7))
        signal = lazily(signal) if lazy else signal
        result = signal.fewshot_classify(
            TestMethod.support, navigation_mask=given(self.mask), reject=False, context=1
        ).compute()
        np.testing.assert_array_equal(result.labels.data, np.where(self.mask, -2, truth))
        assert result.statistics.rows["masked"]["count"] == self.mask.sum()
        assert np.isnan(result.confidence.data[self.mask]).all()
        assert np.isnan(result.probabilities.data[:, self.mask]).all()

    def test_masked_neighbours_take_no_part(self):
        signal, truth = spectra((6, 7))
        mask = np.zeros((6, 7), bool)
        mask[2:4] = True
        signal.data[2:4] = 1e6
        support = {"a": [(0, 0), (1, 5)], "b": [(6, 0), (5, 5)]}
        result = signal.fewshot_classify(support, navigation_mask=mask.T, context=3, reject=False)
        np.testing.assert_array_equal(result.labels.data, np.where(mask, -2, truth))

    def test_masked_neighbours_of_support_take_no_part(self):
        signal, _ = spectra((6, 7))
        mask = np.zeros((6, 7), bool)
        mask[1::2] = True
        support = {"a": [(0, 0), (1, 4)], "b": [(6, 0), (5, 4)]}
        options = {"navigation_mask": mask.T, "context": 3}
        expected = signal.fewshot_classify(support, **options)
        signal.data[mask] *= 1000
        result = signal.fewshot_classify(support, **options)
        np.testing.assert_allclose(
            result.classifier.prototypes, expected.classifier.prototypes, atol=1e-5
        )

    @pytest.mark.parametrize("as_signal", [False, True])
    def test_image(self, as_signal):
        signal, _ = fringes()
        mask = np.zeros((70, 90), bool)
        mask[:20, 30:60] = True
        given = hs.signals.Signal2D(mask) if as_signal else mask.T
        result = signal.fewshot_classify(
            IMAGE_SUPPORT, **CHIPS, stride=5, navigation_mask=given, reject=False
        )
        # The centre of a cell of 5 px is a pixel.
        np.testing.assert_array_equal(result.labels.data == -2, mask[2::5, 2::5])

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (lambda frames, pixels: frames, lambda frames, pixels: frames[:, None, None] & True),
            (lambda frames, pixels: pixels.T, lambda frames, pixels: pixels[None]),
            (
                lambda frames, pixels: (frames[:, None, None] | pixels).transpose(0, 2, 1),
                lambda frames, pixels: frames[:, None, None] | pixels,
            ),
            (
                lambda frames, pixels: hs.signals.Signal2D(frames[:, None, None] | pixels),
                lambda frames, pixels: frames[:, None, None] | pixels,
            ),
        ],
        ids=["frames", "pixels", "both", "signal"],
    )
    def test_stack(self, given, expected):
        signal, _ = fringes((3,))
        frames, pixels = np.array([False, True, False]), np.zeros((70, 90), bool)
        pixels[50:, :40] = True
        support = {"vertical": [(0, 12, 12), (2, 20, 30)], "horizontal": [(0, 75, 15), (2, 70, 55)]}
        result = signal.fewshot_classify(
            support, **CHIPS, stride=5, navigation_mask=given(frames, pixels)
        )
        masked = np.broadcast_to(expected(frames, pixels), (3, 70, 90))[:, 2::5, 2::5]
        np.testing.assert_array_equal(result.labels.data == -2, masked)


class TestSignalMask:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_channels(self, lazy):
        signal, truth = spectra((6, 7))
        signal.data[:, ::2, 25:] = 1e5
        mask = np.arange(30) >= 25
        signal = lazily(signal) if lazy else signal
        for given in (mask, hs.signals.BaseSignal(mask)):
            result = signal.fewshot_classify(
                TestMethod.support, signal_mask=given, reject=False, context=1
            )
            np.testing.assert_array_equal(result.compute().labels.data, truth)
            assert result.classifier.recipe.grid.item_shape == (25,)

    def test_pixels_of_patterns_in_hyperspy_order(self):
        signal, truth = patterns((6, 7))
        signal.data[:, ::2, :3, 8:] = 1e5
        mask = np.zeros((10, 11), bool)
        mask[:3, 8:] = True
        for given in (mask.T, hs.signals.Signal2D(mask)):
            result = signal.fewshot_classify(
                TestMethod.support, signal_mask=given, reject=False, context=1
            )
            np.testing.assert_array_equal(result.labels.data, truth)

    def test_ready_spectra_are_masked_too(self):
        signal, truth = spectra((6, 7))
        support = {"a": signal.data[0, :2], "b": signal.inav[5:, 2]}
        result = signal.fewshot_classify(support, signal_mask=np.arange(30) < 4, reject=False)
        np.testing.assert_array_equal(result.labels.data, truth)


class TestContext:
    def test_is_recorded(self):
        signal, _ = spectra((6, 7))
        for context in (1, 3):
            result = signal.fewshot_classify(TestMethod.support, context=context)
            assert result.classifier.recipe.grid.context == context
            assert result.labels.metadata.FewShot.context == context

    def test_is_chosen_wide_at_low_counts_and_narrow_at_high_ones(self):
        chosen = []
        for counts in (10.0, 1e5):
            signal, _ = spectra((24, 28), counts=counts)
            result = signal.fewshot_classify({"a": [(2, 2), (6, 20)], "b": [(25, 3), (20, 18)]})
            chosen.append(result.classifier.recipe.grid.context)
        assert chosen[0] >= 5
        assert chosen[1] == 1

    def test_pooling_helps_at_low_counts(self):
        signal, truth = spectra((24, 28), counts=6.0, seed=3)
        support = {"a": [(2, 2), (6, 20)], "b": [(25, 3), (20, 18)]}
        accuracy = {
            context: (
                signal.fewshot_classify(support, context=context, reject=False).labels.data == truth
            ).mean()
            for context in (1, 5)
        }
        assert accuracy[5] > accuracy[1] + 0.05
        assert accuracy[5] > 0.95

    def test_images_have_none(self):
        result = fringes()[0].fewshot_classify(IMAGE_SUPPORT, **CHIPS)
        assert result.classifier.recipe.grid.context == 1
        assert "context" not in result.labels.metadata.FewShot

    def test_only_the_last_two_axes_are_pooled(self):
        signal, truth = spectra((4, 6, 7))
        signal.data[1] = signal.data[1, :, ::-1]
        truth[1] = truth[1, :, ::-1]
        support = {"a": [(0, 0, 0), (6, 5, 1)], "b": [(6, 1, 2), (0, 4, 1)]}
        result = signal.fewshot_classify(support, context=3, reject=False)
        edge = np.isin(np.arange(7), (2, 3, 4))
        np.testing.assert_array_equal(result.labels.data[..., ~edge], truth[..., ~edge])


class TestReject:
    def odd_one_out(self):
        """Spectra of which the first three rows have a peak that is in no example."""
        signal, truth = spectra((9, 10), counts=2000.0)
        signal.data[:3] = np.roll(signal.data[:3], 5, axis=-1)
        return signal, truth

    support = {"a": [(0, 4), (2, 8), (4, 6)], "b": [(9, 4), (7, 8), (6, 6)]}

    def test_what_resembles_no_class_is_rejected(self):
        signal, truth = self.odd_one_out()
        result = signal.fewshot_classify(self.support, context=1)
        labels = result.labels.data
        assert (labels[:3] == -1).mean() > 0.9
        assert (labels[3:] == truth[3:]).mean() > 0.9
        assert np.isnan(result.confidence.data[labels == -1]).all()
        assert np.isfinite(result.probabilities.data).all()
        assert result.statistics.rows["rejected"]["count"] == (labels == -1).sum()

    @pytest.mark.parametrize("off", [False, np.False_])
    def test_false_gives_every_query_a_class(self, off):
        signal, _ = self.odd_one_out()
        result = signal.fewshot_classify(self.support, context=1, reject=off)
        assert set(np.unique(result.labels.data)) == {0, 1}
        assert result.labels.metadata.FewShot.reject == "False"

    def test_a_higher_level_rejects_more(self):
        signal, _ = spectra((9, 10), counts=60.0)
        rejected = [
            (signal.fewshot_classify(self.support, context=1, reject=level).labels.data == -1).sum()
            for level in (0.15, 0.4)
        ]
        assert rejected[0] < rejected[1]

    def test_a_level_that_few_shots_cannot_support_warns(self):
        signal, _ = spectra((9, 10))
        with pytest.warns(
            UserWarning, match="6 examples are too few for a significance level below 0.14"
        ):
            signal.fewshot_classify(self.support, context=1, reject=0.01)


class TestShots:
    def test_one_shot_a_class_warns_once(self):
        signal, truth = spectra((6, 7))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = signal.fewshot_classify({"a": (0, 0), "b": (6, 1)})
        assert result.statistics.rows["a"]["count"] > 0
        messages = [str(w.message) for w in caught if "one example a class" in str(w.message)]
        assert len(messages) == 1
        assert np.isnan(result.classifier.leave_one_out)
        kept = result.labels.data >= 0
        np.testing.assert_array_equal(result.labels.data[kept], truth[kept])

    def test_unequal_numbers_do_not_outvote(self):
        signal, truth = spectra((6, 7))
        support = {"a": [(x, y) for x in range(3) for y in range(6)], "b": [(6, 1)]}
        result = signal.fewshot_classify(support, reject=False, context=1)
        np.testing.assert_array_equal(result.labels.data, truth)
        assert len(result.support) == 19

    def test_any_string_is_a_class_name(self, tmp_path):
        names = ["a/b.c", "Größe", "<b>bold</b>", "", "$x_1$", "_hidden", "a.b", "very " * 9]
        values = np.repeat(np.eye(8)[:, np.newaxis] * 50 + 5, 6, axis=1)
        signal = hs.signals.Signal1D(np.random.default_rng(0).poisson(values).astype(float))
        support = {name: [(0, i), (3, i)] for i, name in enumerate(names)}
        result = signal.fewshot_classify(support, reject=False, context=1)
        np.testing.assert_array_equal(result.labels.data, np.repeat(np.arange(8)[:, None], 6, 1))
        assert list(result.fractions) == names
        assert "<b>bold" not in result.statistics._repr_html_()
        legend = result.plot().get_legend()
        assert [text.get_text() for text in legend.get_texts()] == names
        legend.figure.canvas.draw()
        for suffix in ("hspy", "zspy"):
            result.save(tmp_path / f"names.{suffix}")
            assert FewShotResult.load(tmp_path / f"names.{suffix}").class_names == tuple(names)
            assert hs.load(tmp_path / f"names.{suffix}").class_names == tuple(names)


@pytest.fixture(scope="module")
def first():
    """A result on an image, to be used again."""
    return fringes()[0].fewshot_classify(IMAGE_SUPPORT, **CHIPS)


class TestUseAgain:
    @pytest.mark.parametrize("kind", ["image", "spectra", "patterns", "stack", "line scan"])
    def test_same_data_give_the_same_labels(self, kind):
        make, nav_shape, support, options = CASES[kind]
        signal, _ = make(nav_shape)
        first = signal.fewshot_classify(support, **options)
        for learnt in (first, first.classifier):
            again = signal.fewshot_classify(learnt)
            np.testing.assert_array_equal(again.labels.data, first.labels.data)
            np.testing.assert_allclose(
                again.probabilities.data, first.probabilities.data, atol=1e-6
            )
        lazy = lazily(signal).fewshot_classify(first)
        np.testing.assert_array_equal(lazy.compute().labels.data, first.labels.data)

    def test_other_data_of_the_same_kind(self):
        first = fringes()[0].fewshot_classify(IMAGE_SUPPORT, **CHIPS, reject=False)
        signal, truth = fringes(shape=(61, 83), seed=5)
        assert_labels_are_true(signal.fewshot_classify(first, stride=3), truth)

    def test_an_image_classifier_tiles_a_stack(self):
        first = fringes()[0].fewshot_classify(IMAGE_SUPPORT, **CHIPS, reject=False)
        signal, truth = fringes((3,), seed=5)
        assert_labels_are_true(signal.fewshot_classify(first), truth)

    def test_nothing_of_the_new_data_is_learnt(self):
        signal, _ = spectra((6, 7))
        first = signal.fewshot_classify(TestMethod.support, context=1)
        one_row = signal.inav[:, 2:3].fewshot_classify(first)
        np.testing.assert_allclose(
            one_row.probabilities.data[:, 0], first.probabilities.data[:, 2], atol=1e-6
        )

    def test_says_that_the_support_lies_elsewhere(self, tmp_path):
        signal, _ = spectra((6, 7))
        first = signal.fewshot_classify(TestMethod.support)
        again = signal.fewshot_classify(first)
        assert not first.labels.metadata.FewShot.transferred
        assert again.labels.metadata.FewShot.transferred
        assert len(first.plot().patches) == 8
        assert len(again.plot().patches) == 0

    def test_learnt_with_a_signal_mask(self):
        signal, truth = spectra((6, 7))
        mask = np.arange(30) > 25
        first = signal.fewshot_classify(TestMethod.support, signal_mask=mask, reject=False)
        again = signal.fewshot_classify(first)
        np.testing.assert_array_equal(again.labels.data, truth)
        signal.fewshot_classify(first, signal_mask=mask)
        with pytest.raises(ValueError, match="signal_mask=another one contradicts"):
            signal.fewshot_classify(first, signal_mask=~mask)

    @pytest.mark.parametrize(
        ("argument", "match"),
        [
            ({"chip_size": 12}, r"chip_size=12 contradicts .* \(16\)"),
            ({"reject": False}, r"reject=False contradicts .* \(True\)"),
            ({"reject": 0.3}, r"reject=0.3 contradicts .* \(True\)"),
            ({"encoder": "pca"}, r"encoder='pca' is another one than .* \('fourier'\)"),
        ],
    )
    def test_contradictions(self, first, argument, match):
        with pytest.raises(ValueError, match=match):
            first.signal.fewshot_classify(first, **argument)

    def test_arguments_that_agree(self, first):
        same = {"chip_size": 16, "reject": True, "encoder": "fourier", "context": 1}
        again = first.signal.fewshot_classify(first, **same)
        np.testing.assert_array_equal(again.labels.data, first.labels.data)

    def test_contradicting_context(self):
        signal, _ = spectra((6, 7))
        first = signal.fewshot_classify(TestMethod.support, context=3)
        with pytest.raises(ValueError, match=r"context=1 contradicts .* \(3\)"):
            signal.fewshot_classify(first, context=1)

    def test_another_kind(self, first):
        signal, image = spectra((6, 7))[0], first.signal
        with pytest.raises(ValueError, match="learnt on image data, these are spectrum data"):
            signal.fewshot_classify(first)
        first = signal.fewshot_classify(TestMethod.support)
        with pytest.raises(ValueError, match="learnt on spectrum data, these are image data"):
            image.fewshot_classify(first)
        with pytest.raises(ValueError, match="learnt on spectrum data, these are pattern data"):
            patterns((6, 7))[0].fewshot_classify(first)

    @pytest.mark.parametrize(
        ("attribute", "value"), [("offset", 3.0), ("scale", 1.04), ("units", "keV")]
    )
    def test_another_axis(self, attribute, value):
        signal, _ = spectra((6, 7))
        first = signal.fewshot_classify(TestMethod.support)
        other = signal.deepcopy()
        setattr(other.axes_manager.signal_axes[0], attribute, value)
        with pytest.raises(ValueError, match="learnt on an axis from 0 in steps of 1"):
            other.fewshot_classify(first)
        with pytest.raises(ValueError, match=r"spectrum data of shape \(30,\), these have \(28,\)"):
            signal.isig[2:].fewshot_classify(first)

    def test_another_magnification_warns(self, first):
        signal, _ = fringes()
        for axis in signal.axes_manager.signal_axes:
            axis.scale = 0.5
        with pytest.warns(UserWarning, match="learnt at 1 .* per pixel, these data have 0.5"):
            signal.fewshot_classify(first)

    def test_after_a_file(self, tmp_path):
        for kind in ("image", "spectra", "patterns"):
            make, nav_shape, support, options = CASES[kind]
            signal, _ = make(nav_shape)
            first = signal.fewshot_classify(support, **options)
            first.save(tmp_path / f"{kind}.hspy")
            again = signal.fewshot_classify(FewShotResult.load(tmp_path / f"{kind}.hspy"))
            np.testing.assert_array_equal(again.labels.data, first.labels.data)

    def test_a_foreign_encoder_is_not_in_the_file(self, tmp_path, scenes):
        signal, _ = fringes()
        encoder = scenes.CountingEncoder()
        first = signal.fewshot_classify(IMAGE_SUPPORT, chip_size=16, encoder=encoder)
        signal.fewshot_classify(first)
        first.save(tmp_path / "foreign.hspy")
        loaded = FewShotResult.load(tmp_path / "foreign.hspy")
        with pytest.raises(ValueError, match="foreign encoders are not saved"):
            signal.fewshot_classify(loaded)
        again = signal.fewshot_classify(loaded.support, chip_size=16, encoder=encoder)
        np.testing.assert_array_equal(again.labels.data, first.labels.data)


class TestEncoders:
    @pytest.mark.parametrize("encoder", ["pca", get_encoder("pca")])
    def test_bundled_by_name_or_object(self, encoder):
        signal, truth = fringes()
        result = signal.fewshot_classify(IMAGE_SUPPORT, chip_size=16, encoder=encoder)
        assert result.labels.metadata.FewShot.encoder == "pca"
        assert len(result.labels.metadata.FewShot.encoder_sha256) == 64

    def test_defaults_by_kind(self):
        chosen = {}
        for kind in ("image", "patterns", "spectra"):
            make, nav_shape, support, _ = CASES[kind]
            chip_size = 16 if kind == "image" else None
            result = make(nav_shape)[0].fewshot_classify(support, chip_size=chip_size)
            chosen[kind] = result.classifier.recipe.parts[0].encoder.name
        assert chosen == {"image": "stem", "patterns": "pattern", "spectra": "spectrum"}

    def test_what_the_spectrum_encoder_learnt_is_saved(self, tmp_path):
        make, nav_shape, support, options = CASES["spectra"]
        signal, _ = make(nav_shape)
        first = signal.fewshot_classify(support, encoder="spectrum", **options)
        first.save(tmp_path / "result.hspy")
        again = signal.fewshot_classify(FewShotResult.load(tmp_path / "result.hspy"))
        np.testing.assert_array_equal(again.labels.data, first.labels.data)
        np.testing.assert_allclose(
            again.probabilities.data, first.probabilities.data, rtol=1e-4, atol=1e-6
        )


class TestChipSize:
    def test_is_the_median_side_of_the_area_rois(self):
        signal, _ = fringes(shape=(210, 230))
        for axis in signal.axes_manager.signal_axes:
            axis.scale = 0.5
        support = {
            "a": [
                hs.roi.RectangularROI(0.0, 0.0, 10.0, 10.0),
                hs.roi.RectangularROI(0, 20, 10, 42.5),
            ],
            "b": [hs.roi.CircleROI(80.0, 30.0, 12.0), (200, 200)],
        }
        result = signal.fewshot_classify(support, encoder="fourier")
        # 20, 30 and 42.5 px.
        assert result.classifier.recipe.grid.chip_size == 30
        assert result.classifier.recipe.grid.stride == 7

    def test_is_at_most_a_quarter_of_the_image(self):
        signal, _ = fringes()
        result = signal.fewshot_classify(IMAGE_SUPPORT, encoder="fourier")
        assert result.classifier.recipe.grid.chip_size == 70 // 4

    def test_is_that_of_ready_chips(self):
        signal, _ = fringes()
        support = {
            "a": np.stack([signal.data[:18, :18], signal.data[20:38, :18]]),
            "b": [signal.isig[60:78, 20:38], signal.isig[60:78, 40:58]],
        }
        result = signal.fewshot_classify(support, encoder="fourier")
        assert result.classifier.recipe.grid.chip_size == 18


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("encoder", ["fourier", "pca"])
def test_a_gpu_gives_the_labels_of_the_cpu(encoder):
    specimen = data.heterostructure()
    options = {"chip_size": 64, "encoder": encoder, "reject": False}
    cpu, gpu = (
        classify(specimen.signal, specimen.support(5, margin=32), device=device, **options)
        for device in ("cpu", "cuda")
    )
    scores = np.sort(cpu.classifier.scores(cpu.embedding_map.embeddings.data.compute()), axis=-1)
    clear = scores[..., -1] - scores[..., -2] > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(gpu.labels.data[clear], cpu.labels.data[clear])
