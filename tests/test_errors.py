"""A wrong call raises at once, before any data are read, and says what would be right."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from hyperspy.exceptions import SignalDimensionError

from hyperspy_fewshot import FewShotResult, SupportSet, checks, classify, embed, get_encoder
from hyperspy_fewshot.encoders.weights import bundled_weights

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

roi = hs.roi


def unread(*shape, dtype=float):
    """A lazy array that fails when any of it is read."""

    def fail(block):
        raise AssertionError("data were read")

    source = da.zeros(shape, chunks=tuple(max(1, size // 2) for size in shape), dtype=dtype)
    return source.map_blocks(fail, dtype=dtype, meta=np.empty((0,) * len(shape), dtype))


def lazy(kind, *shape, **options):
    signal = getattr(hs.signals, kind)(np.zeros((1,) * len(shape), **options)).as_lazy()
    signal.data = unread(*shape, **options)
    signal.get_dimensions_from_data()
    return signal


def image():
    signal = lazy("Signal2D", 60, 80)
    for axis, name in zip(signal.axes_manager.signal_axes, "xy", strict=True):
        axis.name, axis.units, axis.scale = name, "nm", 0.5
    return signal


def spectra():
    return lazy("Signal1D", 6, 7, 30)


def line():
    return lazy("Signal1D", 9, 30)


def patterns():
    return lazy("Signal2D", 6, 7, 10, 11)


def stack():
    return lazy("Signal2D", 3, 40, 50)


IMAGE = {"a": [(10, 10), (12, 30)], "b": [(60, 10), (65, 30)]}
SCAN = {"a": [(0, 0), (1, 1)], "b": [(5, 5), (6, 4)]}


@pytest.mark.parametrize("call", [lambda s: s.fewshot_classify(IMAGE), lambda s: s.fewshot_embed()])
def test_these_data_cannot_be_read(call):
    with pytest.raises(AssertionError, match="data were read"):
        call(image())


class TestSignal:
    @pytest.mark.parametrize("call", [lambda s: classify(s, SCAN), embed])
    def test_a_list_of_signals_of_which_one_is_to_be_chosen(self, call):
        signals = [lazy("Signal1D", 4, 5, 9), lazy("Signal2D", 8, 9)]
        with pytest.raises(TypeError, match="list of 2 signals, .* s = signals.0.:\n") as caught:
            call(signals)
        listed = [f"signals[{i}]: {signal!r}" for i, signal in enumerate(signals)]
        assert [line.strip() for line in str(caught.value).splitlines()[1:]] == listed
        with pytest.raises(TypeError, match=r"tuple of 12 signals(?s:.*)signals.9.(?s:.*)\.\.\.$"):
            call((signals[0],) * 12)

    @pytest.mark.parametrize(
        ("signal", "error", "match"),
        [
            (np.zeros((9, 9)), TypeError, r"HyperSpy signal is needed, got ndarray; wrap an image"),
            ([1, 2], TypeError, "HyperSpy signal is needed, got list"),
            (lazy("BaseSignal", 4, 5, 6), SignalDimensionError, "signal dimension is 3; spectra"),
            (lazy("BaseSignal", 4, 5).T, SignalDimensionError, "signal dimension is 0; spectra"),
            (lazy("Signal1D", 30), ValueError, "A single spectrum has no navigation positions"),
            (
                lazy("ComplexSignal2D", 9, 9, dtype=complex),
                TypeError,
                r"Complex data cannot .* s.amplitude, s.phase or s.real",
            ),
            (lazy("Signal2D", 0, 9, 9), ValueError, "signal is empty"),
        ],
        ids=["array", "list", "3-D", "0-D", "single", "complex", "empty"],
    )
    def test_that_cannot_be_classified(self, signal, error, match):
        with pytest.raises(error, match=match):
            classify(signal, IMAGE)
        with pytest.raises(error, match=match):
            embed(signal)

    def test_rgb(self):
        signal = hs.signals.Signal1D(np.zeros((9, 9, 3), np.uint8))
        signal.change_dtype("rgb8")
        with pytest.raises(TypeError, match=r"RGB .* s.change_dtype\('uint8'\)"):
            signal.fewshot_classify(IMAGE)
        # What the message says works.
        signal.change_dtype("uint8")
        grey = signal.mean(-1).as_signal2D((0, 1))
        result = grey.fewshot_classify({"a": (1, 1), "b": (7, 7)}, encoder="pca")
        assert result.labels.data.ndim == 2

    def test_ragged(self):
        ragged = np.empty(2, dtype=object)
        ragged[:] = [np.ones(3), np.ones(4)]
        with pytest.raises(TypeError, match="Ragged signals cannot be classified"):
            hs.signals.BaseSignal(ragged, ragged=True).fewshot_classify(IMAGE)

    @pytest.mark.parametrize("make", [image, spectra, patterns, line, stack])
    @pytest.mark.parametrize("changes", [{"scale": 0}, {"scale": np.nan}, {"offset": np.inf}])
    def test_axes_on_which_coordinates_mean_nothing(self, make, changes):
        n_axes = len(make().axes_manager._axes)
        for number in range(n_axes):
            signal = make()
            for name, value in changes.items():
                setattr(signal.axes_manager[number], name, value)
            message = rf"must be finite, and the scale not 0.* s.axes_manager\[{number}\].scale = 1"
            with pytest.raises(ValueError, match=message):
                signal.fewshot_classify(IMAGE)
            with pytest.raises(ValueError, match=message):
                signal.fewshot_embed()
            signal.axes_manager[number].scale = 1
            signal.axes_manager[number].offset = 0
            checks.check_signal(signal)

    def test_what_the_message_on_the_dimension_says_works(self):
        signal = hs.signals.BaseSignal(np.random.default_rng(0).random((6, 7, 30)))
        with pytest.raises(SignalDimensionError, match=r"s.transpose\(signal_axes=1\)"):
            signal.fewshot_classify(SCAN)
        result = signal.transpose(signal_axes=1).fewshot_classify(SCAN)
        assert result.labels.data.shape == (6, 7)


class TestSupport:
    @pytest.mark.parametrize(
        ("support", "error", "match"),
        [
            (None, TypeError, "support is NoneType; a dict of class name to examples is needed"),
            ([(1, 2)], TypeError, "support is list; a dict of class name"),
            ({}, ValueError, r"needs at least two classes, got \[\]"),
            (
                {"a": (1, 2)},
                ValueError,
                r"at least two classes, got \['a'\]. Add another class",
            ),
            ({"a": (1, 2), "b": []}, ValueError, "Class 'b' has no examples; give at least one"),
            ({1: (1, 2), 2: (3, 4)}, TypeError, "Class names are strings, got 1"),
            ({"masked": (1, 2)}, ValueError, "A class cannot be called 'masked'"),
            ({"rejected": (1, 2)}, ValueError, r"needs at least two classes, got \[\]"),
            ({"a": "centre"}, TypeError, "class 'a' is str 'centre'; accepted are a HyperSpy ROI"),
            ({"a": None}, TypeError, "class 'a' is NoneType None; accepted are"),
            ({"a": [[1, 2]]}, TypeError, r"class 'a' is list \[1, 2\]; accepted are"),
            ({"a": ((1, 2), (3, 4))}, TypeError, "Several examples are given as a list"),
            ({"a": ()}, TypeError, r"class 'a' is tuple \(\); accepted are"),
            ({"a": (True, 2)}, TypeError, r"class 'a' is tuple \(True, 2\); accepted are"),
            ({"a": roi.Line2DROI(1, 2, 3, 4, 1)}, TypeError, "class 'a' is Line2DROI .*accepted"),
            (
                {"a": roi.RectangularROI()},
                ValueError,
                r"class 'a' is a RectangularROI that has no position yet: .*roi.add_widget\(s\)",
            ),
            ({"a": (0, roi.PolygonROI())}, ValueError, "PolygonROI that has no position yet"),
        ],
    )
    def test_of_a_wrong_form(self, support, error, match):
        with pytest.raises(error, match=match):
            image().fewshot_classify(support)

    @pytest.mark.parametrize(
        ("example", "match"),
        [
            ((100, 2), r"index 100 lies outside axis 'x', which has 80 points \(ints are pixel"),
            ((2, -61), "index -61 lies outside axis 'y', which has 60 points"),
            ((100.0, 2.0), "100 nm lies outside axis 'x', which goes from 0 to 39.5 nm"),
            ((np.nan, 2.0), "nan nm lies outside axis 'x'"),
            (
                (2,),
                r"position \(2,\) should have one value for each of the 2 axes \(axis 'x', axis",
            ),
            (7, r"position \(7,\) should have one value for each of the 2 axes"),
            ((0, 2, 3), r"position \(0, 2, 3\) should have one value for each of the 2 axes"),
            (roi.Point2DROI(50.0, 2.0), "50 nm lies outside axis 'x'"),
            (
                roi.RectangularROI(100.0, 100.0, 120.0, 120.0),
                r"RectangularROI\(left=100, .*\) lies outside the data \(axis 'x': 0 to 39.5, axis",
            ),
            (roi.CircleROI(-9.0, 4.0, 3.0), "CircleROI.* lies outside the data"),
            (roi.PolygonROI([(50, 1), (60, 1), (55, 9)]), "PolygonROI.* lies outside the data"),
            (roi.SpanROI(1.0, 2.0), "SpanROI has one dimension; an image needs two"),
            (roi.Point1DROI(1.0), "Point1DROI has one dimension; an image needs two"),
            ((0, roi.CircleROI(9.0, 4.0, 3.0)), r"navigation index \(0,\) .* \(none\)"),
        ],
    )
    def test_outside_an_image(self, example, match):
        with pytest.raises(ValueError, match=f"Example of class 'b': {match}"):
            image().fewshot_classify({"a": (1, 2), "b": [(3, 4), example]})

    @pytest.mark.parametrize(
        ("example", "match"),
        [
            ((7, 2), "index 7 lies outside axis 0, which has 7 points"),
            ((1.0, 6.0), "6 lies outside axis 1, which goes from 0 to 5"),
            (roi.Point2DROI(50.0, 2.0), "Point2DROI.* lies outside the data"),
            (roi.RectangularROI(10.0, 10.0, 12.0, 12.0), "RectangularROI.* lies outside the data"),
            (roi.CircleROI(-9.0, 4.0, 3.0), "CircleROI.* lies outside the data"),
            (roi.PolygonROI([(50, 1), (60, 1), (55, 9)]), "PolygonROI.* lies outside the data"),
            (roi.SpanROI(10.0, 20.0), "SpanROI.* lies outside the data"),
            ((0, roi.SpanROI(1.0, 2.0)), r"\(navigation index, ROI\) is for stacks of images"),
            (np.zeros((3, 29)), r"of shape \(3, 29\) do not match the spectra of the data"),
            (hs.signals.Signal2D(np.zeros((3, 30))), "has 2 signal dimensions, spectra have 1"),
            (np.full(30, np.inf), "ready examples must be finite"),
        ],
    )
    def test_outside_a_scan(self, example, match):
        with pytest.raises(ValueError, match=f"Example of class 'b': .*{match}"):
            spectra().fewshot_classify({"a": (1, 2), "b": [(3, 4), example]})

    @pytest.mark.parametrize(
        "example",
        [
            roi.RectangularROI(1, 2, 3, 4),
            roi.CircleROI(1, 2, 3),
            roi.Point2DROI(1, 2),
            roi.PolygonROI([(0, 0), (2, 0), (1, 5)]),
        ],
    )
    def test_two_dimensions_on_a_line_scan(self, example):
        match = f"{type(example).__name__} has two dimensions, the navigation space has one; use"
        with pytest.raises(ValueError, match=match):
            line().fewshot_classify({"a": 1, "b": example})

    @pytest.mark.parametrize(
        ("example", "match"),
        [
            (roi.CircleROI(9, 4, 3), r"ROI on a stack needs its frame: .* \(0, CircleROI"),
            ((3, roi.CircleROI(9, 4, 3)), "index 3 lies outside axis 0, which has 3 points"),
            (((0, 1), roi.CircleROI(9, 4, 3)), r"navigation index \(0, 1\) should have one value"),
            ((4, 5), r"position \(4, 5\) should have one value for each of the 3 axes"),
            ((3, 4, 5), "index 3 lies outside axis 0"),
        ],
    )
    def test_on_a_stack(self, example, match):
        with pytest.raises(ValueError, match=f"Example of class 'b': .*{match}"):
            stack().fewshot_classify({"a": (0, 1, 2), "b": example}, chip_size=8)

    def test_positions_in_frames_of_a_stack_want_a_chip_size(self):
        with pytest.raises(ValueError, match="Give chip_size to classify the chips of every frame"):
            stack().fewshot_classify({"a": (0, 1, 2), "b": (1, 30, 20)})

    @pytest.mark.parametrize(
        "example",
        [(100, 100), (1, 100, 100), roi.RectangularROI(1, 2, 3, 4), (0, roi.CircleROI(9, 9, 3))],
    )
    def test_places_in_frames_of_a_stack_want_a_chip_size(self, example):
        with pytest.raises(ValueError, match="Give chip_size to classify the chips of every frame"):
            stack().fewshot_classify({"a": 1, "b": example})

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("signal", [image(), spectra(), patterns()])
    @pytest.mark.parametrize("value", [1e300, np.inf, np.nan])
    def test_far_out(self, signal, value):
        for example in (
            roi.CircleROI(3.0, 3.0, value),
            roi.CircleROI(value, 3.0, 2.0),
            roi.RectangularROI(0.0, 0.0, abs(value), 3.0),
            roi.PolygonROI([(0, 0), (value, 0), (0, 5)]),
            roi.Point2DROI(value, 3.0),
        ):
            with pytest.raises(ValueError, match="'b', .* coordinates that are not finite or exc"):
                signal.fewshot_classify({"a": (1, 1), "b": example})
        for place in ((value, 3.0), (3, -value)):
            with pytest.raises(ValueError, match="'b': .* lies outside axis"):
                signal.fewshot_classify({"a": (1, 1), "b": place})

    def test_of_another_kind(self):
        ready = {"a": np.zeros((2, 30)), "b": np.ones((3, 30))}
        with pytest.raises(ValueError, match="do not match the chips of the data"):
            image().fewshot_classify(ready, chip_size=8)
        with pytest.raises(
            ValueError, match=r"the patterns of the data, which have shape \(10, 11"
        ):
            patterns().fewshot_classify(ready)

    def test_remove_what_is_not_there(self):
        with pytest.raises(KeyError, match="There is no class 'x'; classes are .*'a', 'b'"):
            SupportSet(IMAGE).remove("x")
        with pytest.raises(IndexError, match="Class 'a' has 2 examples, none with index 9"):
            SupportSet(IMAGE).remove("a", 9)


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"chip_size": 61}, ValueError, "chip_size=61 px is larger than the image, 80 x 60 px"),
            ({"chip_size": 0}, ValueError, "chip_size=0 must be at least 1"),
            ({"chip_size": 16.0}, TypeError, "chip_size=16.0 must be an integer"),
            ({"chip_size": True}, TypeError, "chip_size=True must be an integer"),
            ({"chip_size": 8, "stride": 61}, ValueError, "stride=61 px is larger than the image"),
            ({"stride": -1}, ValueError, "stride=-1 must be at least 1"),
            ({"context": 3}, ValueError, "context is for spectra and patterns"),
            ({"reject": 0.0}, ValueError, "reject=0.0 must be True, False, or a level between"),
            ({"reject": 1.5}, ValueError, "reject=1.5 must be True, False"),
            ({"reject": np.nan}, ValueError, "reject=nan must be True, False"),
            ({"reject": "yes"}, TypeError, "reject='yes' must be True, False"),
            ({"reject": None}, TypeError, "reject=None must be True, False"),
            (
                {"signal_mask": np.zeros((80, 60), bool)},
                ValueError,
                "signal_mask is for spectra and",
            ),
            (
                {"navigation_mask": np.ones((80, 60), bool)},
                ValueError,
                "leaves nothing to classify",
            ),
            (
                {"navigation_mask": np.zeros((60, 80), bool)},
                ValueError,
                r"navigation_mask has shape \(60, 80\), \(80, 60\) is needed .* order of arrays: "
                r"pass hs.signals.BaseSignal\(mask\)",
            ),
            (
                {"navigation_mask": hs.signals.BaseSignal(np.zeros((80, 60)))},
                ValueError,
                r"a signal with data of shape \(80, 60\); the data to mask have \(60, 80\)",
            ),
            ({"navigation_mask": "x > 3"}, TypeError, "navigation_mask must hold True or False"),
            ({"device": "gpu7"}, ValueError, "device='gpu7' cannot be used here"),
            ({"encoder": "resnet"}, ValueError, "There is no encoder 'resnet'. Bundled: 'stem'"),
            ({"encoder": 3}, TypeError, "encoder is int; a name, an Encoder"),
            ({"encoder": "no/such.pt"}, FileNotFoundError, "There is no encoder file 'no/such.pt'"),
        ],
    )
    def test_of_images(self, options, error, match):
        with pytest.raises(error, match=match):
            image().fewshot_classify(IMAGE, **options)
        if "reject" not in options:
            with pytest.raises(error, match=match):
                image().fewshot_embed(**options)

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"chip_size": 4}, ValueError, "chip_size is for images; .* the spectrum at every"),
            ({"stride": 4}, ValueError, "stride is for images; .* the spectrum at every"),
            ({"context": 2}, ValueError, "context=2 must be odd: it is centred on a position"),
            ({"context": 0}, ValueError, "context=0 must be at least 1"),
            ({"context": 3.0}, TypeError, "context=3.0 must be an integer"),
            (
                {"context": 9},
                ValueError,
                "context=9 is wider than the scan, which has 7 positions along its longer side",
            ),
            ({"context": 100_001}, ValueError, "context=100001 is wider than the scan"),
            (
                {"signal_mask": np.zeros(29, bool)},
                ValueError,
                r"signal_mask has shape \(29,\), \(30,",
            ),
            (
                {"signal_mask": np.ones(30, bool)},
                ValueError,
                "signal_mask leaves nothing: it is True",
            ),
            ({"navigation_mask": np.ones((7, 6))}, ValueError, "navigation_mask leaves nothing"),
            ({"navigation_mask": True}, ValueError, r"navigation_mask has shape \(\), \(7, 6\) is"),
            (
                {"encoder": "fourier"},
                ValueError,
                "'fourier' is for image and pattern data, these are",
            ),
        ],
    )
    def test_of_scans(self, options, error, match):
        with pytest.raises(error, match=match):
            spectra().fewshot_classify(SCAN, **options)
        with pytest.raises(error, match=match):
            spectra().fewshot_embed(**options)

    def test_stride_of_patterns(self):
        with pytest.raises(ValueError, match="stride is for images; .* the pattern at every"):
            patterns().fewshot_classify(SCAN, stride=2)

    @pytest.mark.parametrize("weights", [None, bundled_weights("stem")])
    def test_the_encoder_of_images_for_patterns(self, weights):
        encoder = get_encoder("stem", weights=weights)
        message = (
            "The encoder 'stem' is for image data, these are pattern data; leave encoder out for "
            "'pattern'."
        )
        with pytest.raises(ValueError, match=f"^{message}$"):
            patterns().fewshot_classify(SCAN, encoder=encoder)


class TestResult:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        values = np.random.default_rng(0).random((30, 40))
        signal = hs.signals.Signal2D(values)
        support = {"a": [(5, 5), (9, 20)], "b": [(30, 5), (33, 20)]}
        return signal.fewshot_classify(support, encoder="pca")

    def test_mask(self, result):
        with pytest.raises(ValueError, match="no class 'c'; classes are .'a', 'b'."):
            result.mask("c")

    def test_class_signals(self, result):
        with pytest.raises(ValueError, match=r"for spectra and patterns; use mask\(name\)"):
            result.class_signals()
        with pytest.raises(ValueError, match="method='median' must be 'mean' or 'sum'"):
            result.class_signals("median")

    def test_frame(self, result):
        with pytest.raises(ValueError, match=r"navigation index \(3,\) should have one value"):
            result.plot(frame=3)

    @pytest.mark.parametrize("name", ["labels.tif", "labels", "labels.hspy.gz"])
    def test_suffix(self, result, name, tmp_path):
        with pytest.raises(ValueError, match=f"'{name}' must end in .hspy or .zspy"):
            result.save(tmp_path / name)

    def test_files(self, result, tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no file .*nothing.hspy"):
            FewShotResult.load(tmp_path / "nothing.hspy")
        result.labels.save(tmp_path / "map.hspy")
        with pytest.raises(ValueError, match="'map.hspy' holds no few-shot result"):
            FewShotResult.load(tmp_path / "map.hspy")

    def test_class_signals_of_a_loaded_result(self, result, tmp_path):
        result.save(tmp_path / "result.hspy")
        with pytest.raises(ValueError, match="A loaded result does not hold the signal"):
            FewShotResult.load(tmp_path / "result.hspy").class_signals()


class TestNotFinite:
    """NaN and infinite data are masked and counted, never classified."""

    @pytest.mark.parametrize("lazily", [False, True])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("context", [1, 3, None])
    def test_positions(self, bad, context, lazily):
        values = np.random.default_rng(0).poisson(20.0, (6, 7, 30)).astype(float)
        values[:, 4:, 20:24] += 80
        values[1, 2, 4], values[5, 6] = bad, bad
        signal = hs.signals.Signal1D(values)
        if lazily:
            signal = signal.as_lazy()
            signal.data = signal.data.rechunk((4, 3, 30))
        support = {"a": [(0, 0), (1, 5)], "b": [(6, 1), (5, 4)]}
        result = signal.fewshot_classify(support, context=context, reject=False, lazy_output=True)
        with pytest.warns(UserWarning, match="2 of 42 queries hold NaN, infinite or masked data"):
            result.compute()
        truth = np.broadcast_to((np.arange(7) >= 4).astype(int), (6, 7)).copy()
        truth[1, 2] = truth[5, 6] = -2
        np.testing.assert_array_equal(result.labels.data, truth)
        assert result.statistics.rows["masked"]["count"] == 2

    @pytest.mark.parametrize("lazily", [False, True])
    def test_chips(self, lazily):
        values = np.random.default_rng(0).normal(10, 1, (41, 53))
        values[:, 26:] += 20
        values[20, 40] = np.nan
        signal = hs.signals.Signal2D(values)
        signal = signal.as_lazy() if lazily else signal
        support = {"dark": [(8, 8), (12, 30)], "bright": [(45, 6), (45, 34)]}
        result = signal.fewshot_classify(
            support, chip_size=8, stride=4, encoder="pca", lazy_output=True
        )
        with pytest.warns(UserWarning, match="4 of 154 queries hold NaN"):
            result.compute()
        # Chips begin at -2, 2, 6, ... px and are 8 px long: two rows, two columns hold the pixel.
        assert np.argwhere(result.labels.data == -2).tolist() == [[4, 9], [4, 10], [5, 9], [5, 10]]

    def test_masked_by_the_user_is_not_counted_in_the_warning(self, recwarn):
        values = np.random.default_rng(0).poisson(20.0, (6, 7, 30)).astype(float)
        values[5, 6] = np.nan
        mask = np.zeros((6, 7), bool)
        mask[5, 6] = mask[0, 6] = True
        support = {"a": [(0, 0), (1, 5)], "b": [(6, 1), (5, 4)]}
        result = hs.signals.Signal1D(values).fewshot_classify(support, navigation_mask=mask.T)
        assert not [w for w in recwarn if "NaN" in str(w.message)]
        assert result.statistics.rows["masked"]["count"] == 2

    def test_an_example_on_them(self):
        values = np.random.default_rng(0).poisson(20.0, (6, 7, 30)).astype(float)
        values[5, 6] = np.nan
        with pytest.raises(
            ValueError, match="example of class 'b' lies on NaN, infinite or masked data"
        ):
            hs.signals.Signal1D(values).fewshot_classify({"a": (0, 0), "b": [(6, 1), (6, 5)]})

    def test_nothing_else(self):
        signal = hs.signals.Signal1D(np.full((6, 7, 30), np.nan))
        with pytest.raises(ValueError, match="all data are masked or not finite"):
            signal.fewshot_classify(SCAN)


class TestUnreadable:
    """A chunk that cannot be read is named, and what is lazy stays so."""

    @pytest.fixture
    def damaged(self, scenes, in_pieces):
        """A signal of which one chunk fails as long as the list holds something."""
        signal, failing = scenes.spectra((20, 7)), []

        def read(block, block_info=None):
            if failing and block_info and block_info[0]["chunk-location"] == (3, 1, 0):
                raise OSError("checksum does not match")
            return block

        lazy = signal.as_lazy()
        data = da.from_array(signal.data, chunks=(5, 4, 30))
        lazy.data = data.map_blocks(read, dtype=float, meta=np.empty((0, 0, 0)))
        return lazy, failing

    support = {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}

    def test_by_a_result(self, damaged):
        lazy, failing = damaged
        result = lazy.fewshot_classify(self.support, encoder="pca", context=1)
        failing.append(True)
        with pytest.raises(OSError, match="checksum") as caught:
            result.compute()
        assert "Chunk (3, 1, 0) of the data cannot be read" in caught.value.__notes__[0]
        assert result.labels._lazy and result.embedding_map.embeddings._lazy
        failing.clear()
        assert result.compute().labels.data.shape == (20, 7)

    def test_by_an_embedding_map(self, damaged, tmp_path):
        lazy, failing = damaged
        embedded = lazy.fewshot_embed(encoder="pca", context=1)
        failing.append(True)
        for stop in (embedded.compute, lambda: embedded.save(tmp_path / "map.zspy")):
            with pytest.raises(OSError, match="checksum") as caught:
                stop()
            notes = "\n".join(caught.value.__notes__)
            assert "Chunk (3, 1, 0) of the data cannot be read" in notes
            assert embedded.embeddings._lazy
        failing.clear()
        embedded.save(tmp_path / "map.zspy")
        assert embedded.embeddings.data.shape[:2] == (20, 7)

    def test_by_an_example(self, damaged):
        lazy, failing = damaged
        embedded = lazy.fewshot_embed(encoder="pca", context=1)
        failing.append(True)
        with pytest.raises(OSError, match="checksum") as caught:
            embedded.classify({"a": (0, 0), "b": (6, 19)})
        assert "Chunk (3, 1, 0) of the data cannot be read" in caught.value.__notes__[0]
