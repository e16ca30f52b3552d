"""Results are calibrated, quantifiable, repeatable, and survive files and plots."""

import json

import dask.array as da
import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Annulus, Circle, Polygon, Rectangle

from hyperspy_fewshot import FewShotResult, SupportSet, data, signals

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")

roi = hs.roi


def image(nav_shape=(), shape=(41, 53), seed=0):
    """Dark left, bright right half (from column 26 on)."""
    values = np.random.default_rng(seed).normal(10, 1, (*nav_shape, *shape))
    values[..., 26:] += 20
    signal = hs.signals.Signal2D(values)
    for axis, name, scale, offset in zip(
        signal.axes_manager.signal_axes, "xy", (0.5, 0.2), (-3.0, 10.0), strict=True
    ):
        axis.name, axis.units, axis.scale, axis.offset = name, "nm", scale, offset
    signal.metadata.General.title = "Two halves"
    signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    signal.metadata.set_item("Sample.description", "halves")
    signal.original_metadata.set_item("vendor.secret", 42)
    return signal


def spectra(nav_shape=(6, 7), seed=0):
    """A peak at channel 8 on the left, at channel 20 from column 4 on."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(20.0, (*nav_shape, 30)).astype(float)
    values[..., :4, 7:10] += 100
    values[..., 4:, 19:22] += 100
    signal = hs.signals.Signal1D(values)
    signal.metadata.General.title = "Two phases"
    for axis, scale, offset in zip(
        signal.axes_manager.navigation_axes[:2], (1.5, 2.5), (4.0, -1.0), strict=False
    ):
        axis.units, axis.scale, axis.offset = "nm", scale, offset
    return signal


IMAGE_SUPPORT = {"dark": [(8, 8), (12, 30)], "bright": [(45, 10), (40, 30)]}
SPECTRA_SUPPORT = {"a": [(0, 0), (2, 5)], "b": [(6, 1), (5, 4)]}
MADE = {
    "image": lambda: image().fewshot_classify(IMAGE_SUPPORT, chip_size=8, stride=3),
    "spectra": lambda: spectra().fewshot_classify(SPECTRA_SUPPORT),
    "stack": lambda: image((3,)).fewshot_classify(
        {
            name: [(i, *place) for i, place in enumerate(places)]
            for name, places in IMAGE_SUPPORT.items()
        },
        chip_size=8,
        stride=4,
    ),
    "line scan": lambda: spectra((7,)).fewshot_classify({"a": [0, 2], "b": [4, 6]}, context=1),
    "lazy": lambda: spectra().as_lazy().fewshot_classify(SPECTRA_SUPPORT),
}


@pytest.fixture(params=MADE, scope="module")
def made(request):
    """A result of each kind, which tests leave as it is."""
    return MADE[request.param]()


class TestCalibration:
    @pytest.mark.parametrize(("stride", "size"), [(1, 5), (3, 8), (4, 8), (4, 5)])
    def test_axes_of_an_image(self, stride, size):
        labels = image().fewshot_classify(IMAGE_SUPPORT, chip_size=size, stride=stride).labels
        x, y = labels.axes_manager.signal_axes
        assert (x.size, y.size) == (-(-53 // stride), -(-41 // stride))
        assert (x.name, y.name, x.units, y.units) == ("x", "y", "nm", "nm")
        np.testing.assert_allclose((x.scale, y.scale), (0.5 * stride, 0.2 * stride))
        np.testing.assert_allclose(x.offset, -3 + 0.5 * (stride - 1) / 2)
        np.testing.assert_allclose(y.offset, 10 + 0.2 * (stride - 1) / 2)

    def test_axes_of_a_stack(self):
        signal = image((2, 3))
        for axis, name, scale in zip(
            signal.axes_manager.navigation_axes, "tz", (7, 9), strict=True
        ):
            axis.name, axis.scale, axis.units = name, scale, "s"
        support = {
            "dark": [(0, 0, 8, 8), (2, 1, 12, 30)],
            "bright": [(1, 1, 45, 10), (0, 1, 40, 30)],
        }
        labels = signal.fewshot_classify(support, chip_size=8, stride=5).labels
        axes = [(a.name, a.size, a.scale, a.units) for a in labels.axes_manager.navigation_axes]
        assert axes == [("t", 3, 7, "s"), ("z", 2, 9, "s")]
        assert labels.axes_manager.signal_shape == (11, 9)

    @pytest.mark.parametrize("name", ["spectra", "line scan"])
    def test_axes_of_a_scan_are_its_own(self, name):
        result = MADE[name]()
        theirs = [a.get_axis_dictionary() for a in result.signal.axes_manager.navigation_axes]
        ours = [a.get_axis_dictionary() for a in result.labels.axes_manager.signal_axes]
        for one in (*theirs, *ours):
            del one["navigate"]
        assert ours == theirs

    def test_non_uniform_axis(self):
        signal = image()
        axis = signal.axes_manager[0]
        axis.convert_to_non_uniform_axis()
        axis.axis = np.arange(53.0) ** 2
        result = signal.fewshot_classify(IMAGE_SUPPORT, chip_size=8, stride=3)
        x, y = result.labels.axes_manager.signal_axes
        np.testing.assert_array_equal(x.axis, np.append(np.arange(1, 52, 3), 52.0) ** 2)
        np.testing.assert_allclose(y.scale, 0.6)
        np.testing.assert_array_equal(
            result.labels_at_pixels().axes_manager[0].axis, np.arange(53.0) ** 2
        )

    @pytest.mark.parametrize(("stride", "size"), [(1, 8), (3, 8), (4, 7), (7, 12)])
    def test_labels_at_pixels(self, stride, size):
        result = image().fewshot_classify(IMAGE_SUPPORT, chip_size=size, stride=stride)
        whole = result.labels_at_pixels()
        cells = result.labels.data
        naive = [
            [cells[row // stride, column // stride] for column in range(53)] for row in range(41)
        ]
        np.testing.assert_array_equal(whole.data, naive)
        assert isinstance(whole, signals.LabelMap)
        assert whole.class_names == ("dark", "bright")
        for ours, theirs in zip(
            whole.axes_manager._axes, result.signal.axes_manager._axes, strict=True
        ):
            assert ours.get_axis_dictionary() == theirs.get_axis_dictionary()

    def test_labels_at_pixels_of_a_stack(self):
        result = MADE["stack"]()
        whole = result.labels_at_pixels()
        assert whole.axes_manager.shape == (3, 53, 41)
        rows, columns = np.arange(41) // 4, np.arange(53) // 4
        np.testing.assert_array_equal(whole.data, result.labels.data[:, rows[:, None], columns])

    def test_labels_at_pixels_of_a_scan_are_the_labels(self):
        result = MADE["spectra"]()
        np.testing.assert_array_equal(result.labels_at_pixels().data, result.labels.data)


class TestMask:
    @pytest.mark.parametrize("name", ["dark", "bright", "rejected", "masked"])
    def test_of_an_image(self, name):
        mask = np.zeros((41, 53), bool)
        mask[:10] = True
        signal = image()
        signal.data[20:25] = 200.0
        result = signal.fewshot_classify(
            IMAGE_SUPPORT, chip_size=4, stride=2, navigation_mask=mask.T
        )
        value = {"dark": 0, "bright": 1, "rejected": -1, "masked": -2}[name]
        expected = result.labels_at_pixels().data == value
        assert expected.any()
        found = result.mask(name)
        assert found.data.dtype == bool
        np.testing.assert_array_equal(found.data, expected)
        np.testing.assert_array_equal(signal.data[found.data], signal.data[expected])
        assert found.metadata.General.title == f"{name} of Few-shot labels of Two halves"

    def test_can_mask_the_next_classification(self):
        signal = image()
        first = signal.fewshot_classify(IMAGE_SUPPORT, chip_size=8, stride=3, reject=False)
        support = {"a": [(45, 10), (40, 30)], "b": [(30, 10), (30, 30)]}
        result = signal.fewshot_classify(
            support, chip_size=8, stride=3, navigation_mask=first.mask("dark")
        )
        np.testing.assert_array_equal(result.labels.data == -2, first.labels.data == 0)

    def test_is_a_navigation_mask_for_decomposition(self):
        signal = spectra()
        result = signal.fewshot_classify(SPECTRA_SUPPORT, reject=False)
        mask = result.mask("b")
        assert mask.axes_manager.navigation_shape == signal.axes_manager.navigation_shape
        signal.decomposition(navigation_mask=~mask, print_info=False)
        loadings = signal.get_decomposition_loadings().data[0]
        np.testing.assert_array_equal(np.isnan(loadings), result.labels.data != 1)

    def test_indexes_a_scan(self):
        result = MADE["spectra"]()
        selected = result.signal.data[result.mask("a").data]
        assert selected.shape == ((result.labels.data == 0).sum(), 30)

    def test_computes_a_lazy_result(self):
        assert MADE["lazy"]().mask("a").data.sum() > 10


class TestClassSignals:
    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("method", ["mean", "sum"])
    @pytest.mark.parametrize("kind", ["spectra", "patterns"])
    def test_equals_numpy(self, kind, method, lazy):
        signal = spectra()
        if kind == "patterns":
            signal = hs.signals.Signal2D(signal.data.reshape(6, 7, 5, 6))
        if lazy:
            signal = signal.as_lazy()
            signal.data = signal.data.rechunk((4, 3, *signal.data.shape[2:]))
        result = signal.fewshot_classify(SPECTRA_SUPPORT)
        found = result.class_signals(method)
        data = np.asarray(signal.data)
        for k in (0, 1):
            expected = getattr(data[result.labels.data == k], method)(axis=0)
            np.testing.assert_allclose(found.inav[k].data, expected)
        assert not found._lazy
        assert found.axes_manager.navigation_shape == (2,)
        assert found.axes_manager[0].name == "Class index"
        assert found.axes_manager.signal_shape == signal.axes_manager.signal_shape

    def test_a_class_without_a_position_holds_zeros(self):
        result = MADE["spectra"]()
        result.labels.data[result.labels.data == 1] = 0
        for method in ("mean", "sum"):
            assert (result.class_signals(method).inav[1].data == 0).all()

    @pytest.mark.parametrize("lazy", [False, True])
    def test_exspy_quantifies_the_classes(self, lazy):
        specimen = data.eds_spectrum_image((18, 36), counts=200.0)
        signal = specimen.signal.as_lazy() if lazy else specimen.signal
        result = signal.fewshot_classify(specimen.support(3), context=1)
        classes = result.class_signals("sum")
        assert type(classes).__name__ == "EDSTEMSpectrum"
        assert classes.metadata.Sample.elements == ["C", "Cu", "Fe", "O", "Pt"]
        energy = classes.axes_manager.signal_axes[0]
        original = specimen.signal.axes_manager.signal_axes[0]
        assert (energy.scale, energy.offset, energy.units) == (
            original.scale, original.offset, original.units,
        )  # fmt: skip
        iron, platinum = classes.get_lines_intensity(["Fe_Ka", "Pt_La"])
        ratio = platinum.data.ravel() / iron.data.ravel()
        film, fept, oxide = (result.class_names.index(n) for n in specimen.class_names)
        assert iron.data.shape[0] == 3
        assert ratio[fept] > 5 * ratio[oxide]
        assert iron.data.ravel()[fept] > 2 * iron.data.ravel()[film]


class TestStatistics:
    def test_counts_fractions_and_areas(self):
        signal = image()
        mask = np.zeros((41, 53), bool)
        mask[:, :7] = True
        result = signal.fewshot_classify(
            IMAGE_SUPPORT, chip_size=8, stride=5, reject=False, navigation_mask=mask.T
        )
        whole = result.labels_at_pixels().data
        assert (whole == -2).sum() == 41 * 5
        rows = result.statistics.rows
        for value, name in ((0, "dark"), (1, "bright"), (-2, "masked")):
            assert rows[name]["count"] == (result.labels.data == value).sum()
            np.testing.assert_allclose(rows[name]["area"], (whole == value).sum() * 0.5 * 0.2)
        kept = whole[whole != -2]
        assert result.fractions == {
            "dark": pytest.approx((kept == 0).mean()),
            "bright": pytest.approx((kept == 1).mean()),
        }
        assert result.statistics.units == "nm²"

    @pytest.mark.parametrize(
        ("units", "scales", "expected", "area"),
        [
            (("nm", "nm"), (0.5, 0.2), "nm²", 0.1),
            (("nm", "µm"), (0.5, 0.2), "nm·µm", 0.1),
            ((None, None), (1, 1), "px²", 1.0),
        ],
    )
    def test_units(self, units, scales, expected, area):
        signal = hs.signals.Signal2D(image().data)
        for axis, unit, scale in zip(signal.axes_manager.signal_axes, units, scales, strict=True):
            axis.scale = scale
            if unit:
                axis.units = unit
        result = signal.fewshot_classify(IMAGE_SUPPORT, chip_size=8, stride=4, reject=False)
        assert result.statistics.units == expected
        total = sum(row["area"] for row in result.statistics.rows.values())
        np.testing.assert_allclose(total, 41 * 53 * area)

    def test_are_in_the_metadata_of_the_labels(self, made):
        rows = made.statistics.rows
        node = made.labels.metadata.FewShot.statistics.as_dictionary()
        assert list(node["name"]) == list(rows)
        for key in ("count", "fraction", "area", "regions", "confidence"):
            np.testing.assert_array_equal(node[key], [row[key] for row in rows.values()])

    def test_fractions_of_every_frame(self):
        result = MADE["stack"]()
        found = result.fractions_signal
        assert found.axes_manager.navigation_shape == (3,)
        assert found.axes_manager.signal_shape == (2,)
        for i, frame in enumerate(result.labels_at_pixels().data):
            expected = [(frame == k).sum() / (frame != -2).sum() for k in (0, 1)]
            np.testing.assert_allclose(found.data[i], expected)
        with pytest.raises(ValueError, match="one map only; its fractions are result.fractions"):
            assert MADE["image"]().fractions_signal

    def test_table(self, made):
        assert made.compute() is made
        text, html = repr(made), made._repr_html_()
        for name in made.class_names:
            assert f"\n{name} " in text
            assert f"<td>{name}</td>" in html
        assert text.startswith("<FewShotResult, 2 classes, ")

    def test_a_lazy_result_says_that_it_is_not_computed(self):
        result = MADE["lazy"]()
        assert repr(result) == "<FewShotResult, 2 classes, 6 x 7 labels, not computed>"
        assert "not computed" in result._repr_html_()
        assert result.labels._lazy


class TestMetadata:
    def test_what_is_copied(self):
        labels = MADE["image"]().labels
        assert labels.metadata.General.title == "Few-shot labels of Two halves"
        assert labels.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
        assert labels.metadata.Sample.description == "halves"
        assert labels.original_metadata.vendor.secret == 42
        probabilities = MADE["image"]().probabilities
        assert probabilities.metadata.General.title == "Few-shot probabilities of Two halves"

    def test_a_signal_without_title(self):
        signal = spectra()
        signal.metadata.General.title = ""
        result = signal.fewshot_classify(SPECTRA_SUPPORT)
        assert result.labels.metadata.General.title == "Few-shot labels of Signal1D"

    def test_what_is_recorded(self):
        node = MADE["image"]().labels.metadata.FewShot
        assert node.class_names == ["dark", "bright"]
        assert (node.chip_size, node.stride, node.kind, node.encoder) == (8, 3, "image", "stem")
        assert node.reject == "default"
        assert len(node.thresholds) == 2
        assert set(json.loads(node.versions)) == {"hyperspy_fewshot", "hyperspy", "torch", "numpy"}

    @pytest.mark.parametrize("name", ["image", "spectra", "stack", "line scan"])
    def test_is_enough_to_repeat_the_result(self, name, tmp_path):
        result = MADE[name]()
        result.save(tmp_path / "result.hspy")
        node = hs.load(tmp_path / "result.hspy").metadata.FewShot
        support = SupportSet.from_json(json.loads(node.support), {})
        options = {
            key: int(node[key]) for key in ("chip_size", "stride", "context") if node.has_item(key)
        }
        again = result.signal.fewshot_classify(support, encoder=node.encoder, **options)
        np.testing.assert_array_equal(again.labels.data, result.labels.data)
        assert again.labels.metadata.FewShot.encoder_sha256 == node.encoder_sha256

    def test_a_level_is_recorded(self):
        support = {"a": [(0, 0), (2, 5), (1, 3)], "b": [(6, 1), (5, 4), (6, 5)]}
        result = spectra().fewshot_classify(support, context=1, reject=0.3)
        assert float(result.labels.metadata.FewShot.reject) == 0.3


class TestFiles:
    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    def test_round_trip(self, made, suffix, tmp_path):
        path = tmp_path / f"a result [1]{suffix}"
        made.save(path)
        loaded = FewShotResult.load(str(path))
        np.testing.assert_array_equal(loaded.labels.data, made.labels.data)
        for name in ("probabilities", "confidence"):
            np.testing.assert_array_equal(getattr(loaded, name).data, getattr(made, name).data)
            assert (
                getattr(loaded, name).axes_manager.shape == getattr(made, name).axes_manager.shape
            )
        assert type(loaded.labels) is type(made.labels)
        assert loaded.class_names == made.class_names
        assert str(loaded.statistics) == str(made.statistics)
        assert loaded.support.describe() == made.support.describe()
        assert loaded.labels.metadata.General.title == made.labels.metadata.General.title
        np.testing.assert_array_equal(loaded.labels_at_pixels().data, made.labels_at_pixels().data)
        assert (loaded.embeddings, loaded.signal) == (None, None)
        if made.labels.axes_manager.navigation_dimension:
            np.testing.assert_array_equal(loaded.fractions_signal.data, made.fractions_signal.data)

    def test_a_loaded_result_can_be_saved_again(self, tmp_path):
        made = MADE["image"]()
        made.save(tmp_path / "one.hspy")
        FewShotResult.load(tmp_path / "one.hspy").save(tmp_path / "two.zspy")
        twice = FewShotResult.load(tmp_path / "two.zspy")
        again = image().fewshot_classify(twice)
        np.testing.assert_array_equal(again.labels.data, made.labels.data)

    def test_ready_examples_are_saved_with_their_data(self, tmp_path):
        signal = spectra()
        support = {"a": [signal.data[0, 0], (2, 5)], "b": signal.inav[5:, 2]}
        made = signal.fewshot_classify(support)
        made.save(tmp_path / "ready.hspy")
        loaded = FewShotResult.load(tmp_path / "ready.hspy")
        again = signal.fewshot_classify(loaded.support)
        np.testing.assert_array_equal(again.labels.data, made.labels.data)

    def test_non_uniform_axes_and_numpy_arguments(self, tmp_path):
        signal = image()
        signal.axes_manager[0].convert_to_non_uniform_axis()
        support = {"dark": [(8, 8), (12, 30), (6, 20)], "bright": [(45, 10), (40, 30), (46, 22)]}
        made = signal.fewshot_classify(
            support, chip_size=np.int64(8), stride=np.uint8(3), reject=np.float32(0.3)
        )
        made.save(tmp_path / "odd.hspy")
        loaded = FewShotResult.load(tmp_path / "odd.hspy")
        np.testing.assert_array_equal(
            loaded.labels_at_pixels().axes_manager[0].axis, signal.axes_manager[0].axis
        )
        assert loaded.classifier.setup.stride == 3

    @pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_hyperspy_loads_the_label_map(self, made, suffix, lazy, tmp_path):
        made.save(tmp_path / f"result{suffix}")
        labels = hs.load(tmp_path / f"result{suffix}", lazy=lazy)
        one = made.labels.axes_manager.signal_dimension == 1
        names = {
            (False, False): "LabelMap", (False, True): "LazyLabelMap",
            (True, False): "LabelMap1D", (True, True): "LazyLabelMap1D",
        }  # fmt: skip
        assert type(labels).__name__ == names[one, lazy]
        assert labels.class_names == made.class_names
        np.testing.assert_array_equal(np.asarray(labels.data), made.labels.data)
        for ours, theirs in zip(
            labels.axes_manager._axes, made.labels.axes_manager._axes, strict=True
        ):
            assert ours.get_axis_dictionary() == theirs.get_axis_dictionary()

    def test_overwrite(self, tmp_path):
        made = MADE["spectra"]()
        made.save(tmp_path / "result.hspy")
        made.labels.data[:] = 1
        made.save(tmp_path / "result.hspy", overwrite=True)
        assert (FewShotResult.load(tmp_path / "result.hspy").labels.data == 1).all()


class TestLabelMap:
    def label_map(self, data, names=("a", "b", "c"), lazy=False):
        axes = [
            {"name": n, "size": s, "scale": 0.5, "offset": 2.0, "navigate": i < len(data.shape) - 2}
            for i, (n, s) in enumerate(zip("tyx"[-data.ndim :], data.shape, strict=True))
        ]
        data = da.from_array(data, chunks=3) if lazy else data
        metadata = {"FewShot": {"class_names": list(names)}}
        return signals.build(data.astype(np.int16), axes, True, metadata)

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("scale", [(2, 3), (1, 2), (5, 4), (7, 1)])
    def test_rebin_takes_the_majority(self, scale, lazy):
        data = np.random.default_rng(1).integers(-2, 3, (9, 14))
        rebinned = self.label_map(data, lazy=lazy).rebin(scale=scale)
        x, y = scale
        expected = np.empty((9 // y, 14 // x), int)
        for i, j in np.ndindex(expected.shape):
            values, counts = np.unique(
                data[i * y : (i + 1) * y, j * x : (j + 1) * x], return_counts=True
            )
            expected[i, j] = values[counts.argmax()]
        assert rebinned._lazy is lazy
        assert isinstance(rebinned, signals.LabelMap)
        assert rebinned.data.dtype == np.int16
        np.testing.assert_array_equal(np.asarray(rebinned.data), expected)
        sizes, scales, offsets = zip(
            *((a.size, a.scale, a.offset) for a in rebinned.axes_manager.signal_axes), strict=True
        )
        assert sizes == expected.shape[::-1]
        assert scales == (0.5 * x, 0.5 * y)
        assert offsets == (2 + 0.25 * (x - 1), 2 + 0.25 * (y - 1))

    def test_rebin_calibrates_as_hyperspy_does(self):
        labels = self.label_map(np.zeros((8, 12), int))
        plain = hs.signals.Signal2D(labels.data, axes=labels.axes_manager.as_dictionary().values())
        ours, theirs = labels.rebin(new_shape=(4, 2)), plain.rebin(new_shape=(4, 2))
        for one, other in zip(ours.axes_manager._axes, theirs.axes_manager._axes, strict=True):
            assert one.get_axis_dictionary() == other.get_axis_dictionary()

    def test_rebin_of_a_stack_and_of_a_line(self):
        stack = self.label_map(np.arange(2 * 4 * 6).reshape(2, 4, 6) % 3)
        assert stack.rebin(scale=(1, 3, 2)).data.shape == (2, 2, 2)
        line = signals.build(
            np.array([0, 0, 1, -1, -1, 2, 2], np.int16), [{"size": 7, "navigate": False}], True, {}
        )
        assert line.rebin(scale=(3,)).data.tolist() == [0, -1]
        assert isinstance(line.rebin(scale=(3,)), signals.LabelMap1D)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"scale": (1.5, 1)}, "A label cannot be split: cells per bin are .1.0, 1.5."),
            ({"scale": (0.5, 1)}, "A label cannot be split"),
            ({"new_shape": (4, 9)}, "A label cannot be split"),
            ({"scale": (2, 2), "crop": False}, "no crop=False, dtype or out"),
            ({"scale": (2, 2), "dtype": "same"}, "no crop=False, dtype or out"),
        ],
    )
    def test_rebin_errors(self, options, match):
        with pytest.raises(ValueError, match=match):
            self.label_map(np.zeros((9, 14), int)).rebin(**options)

    def test_class_survives_what_signals_go_through(self):
        labels = self.label_map(np.zeros((9, 14), int))
        assert type(labels.deepcopy()) is signals.LabelMap
        assert type(labels.isig[2:5, 1:]) is signals.LabelMap
        assert type(labels.as_lazy()) is signals.LazyLabelMap
        assert type(labels.as_lazy().compute() or labels) is signals.LabelMap
        assert labels.isig[2:5].class_names == ("a", "b", "c")

    def test_plot_has_one_colour_a_class_and_a_legend(self):
        labels = self.label_map(np.arange(15).reshape(3, 5) % 5 - 2)
        labels.plot()
        ax = labels._plot.signal_plot.ax
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names == ["a", "b", "c", "rejected", "masked"]
        shown = ax.images[0]
        colours = [to_rgb(shown.cmap(shown.norm(value))) for value in (0, 1, 2, -1, -2)]
        assert len(set(colours)) == 5
        patches = ax.get_legend().get_patches()
        assert [to_rgb(patch.get_facecolor()) for patch in patches] == colours
        ax.figure.canvas.draw()
        assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1

    def test_plot_of_a_line_names_the_classes(self):
        result = MADE["line scan"]()
        result.labels.plot()
        ax = result.labels._plot.signal_plot.ax
        ticks = [text.get_text() for text in ax.get_yticklabels()]
        assert ticks == ["masked", "rejected", "a", "b"]

    def test_plot_of_a_stack_and_of_a_comparison(self):
        labels = self.label_map(np.arange(2 * 4 * 6).reshape(2, 4, 6) % 3)
        labels.plot()
        assert labels._plot.navigator_plot is not None
        rejected = labels.inav[0] == 1
        rejected.plot()
        assert rejected._plot.signal_plot.ax.get_legend() is None

    def test_can_navigate_the_signal(self):
        result = MADE["spectra"]()
        result.signal.plot(navigator=result.labels)
        np.testing.assert_array_equal(
            result.signal._plot.navigator_plot.ax.images[0].get_array(), result.labels.data
        )


class TestPlot:
    def test_draws_the_map_over_the_image_with_legend_and_support(self):
        result = MADE["image"]()
        ax = result.plot()
        picture, labels = ax.images
        np.testing.assert_array_equal(picture.get_array(), result.signal.data)
        np.testing.assert_array_equal(labels.get_array(), result.labels.data)
        np.testing.assert_allclose(picture.get_extent(), (-3.25, 23.25, 18.1, 9.9))
        # 18 x 14 cells of 3 px reach beyond 53 x 41 px.
        np.testing.assert_allclose(labels.get_extent(), (-3.25, 23.75, 18.3, 9.9))
        assert ax.get_xlim() == pytest.approx((-3.25, 23.25))
        assert ax.get_ylim() == pytest.approx((18.1, 9.9))
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert names[:2] == ["dark", "bright"]
        assert ax.get_title() == "Few-shot labels of Two halves"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("x [nm]", "y [nm]")

    def test_outlines_of_chips_are_what_was_cut(self):
        patches = MADE["image"]().plot().patches
        assert len(patches) == 2 * 4
        # The chip of 8 px on pixel (8, 8) begins at the border of pixel 4.
        first = patches[0]
        assert first.get_xy() == pytest.approx((-3 + 0.5 * 3.5, 10 + 0.2 * 3.5))
        assert (first.get_width(), first.get_height()) == pytest.approx((4.0, 1.6))

    @pytest.mark.parametrize(
        ("region", "kind"),
        [
            (roi.RectangularROI(0.0, 12.0, 4.0, 14.0), Rectangle),
            (roi.CircleROI(2.0, 13.0, 1.5), Circle),
            (roi.CircleROI(2.0, 13.0, 2.5, 0.5), Annulus),
            (roi.PolygonROI([(0.0, 12.0), (5.0, 12.0), (3.0, 15.0)]), Polygon),
            (roi.Point2DROI(2.0, 13.0), Rectangle),
            ((10, 15), Rectangle),
            ((-43, -26), Rectangle),
            ((2.0, 13.0), Rectangle),
        ],
    )
    def test_every_kind_of_example_is_drawn_where_it_lies(self, region, kind):
        support = {"dark": [region], "bright": [(45, 10), (40, 30)]}
        result = image().fewshot_classify(support, chip_size=8, stride=3)
        ax = result.plot()
        assert isinstance(ax.patches[0], kind)
        box = ax.patches[0].get_window_extent().transformed(ax.transData.inverted())
        assert box.x0 < 2.0 < box.x1
        assert min(box.y0, box.y1) < 13.0 < max(box.y0, box.y1)

    def test_scribbles_are_dotted(self):
        labels = np.zeros((41, 53), int)
        labels[5:9, 2:15], labels[5:30, 40:45] = 1, 2
        support = SupportSet.from_label_map(labels, ["dark", "bright"])
        ax = image().fewshot_classify(support, chip_size=8, stride=3).plot()
        x, y = ax.lines[0].get_data()
        np.testing.assert_allclose(np.unique(x), -3 + 0.5 * np.arange(2, 15))
        np.testing.assert_allclose(np.unique(y), 10 + 0.2 * np.arange(5, 9))

    def test_ready_examples_lie_nowhere(self):
        signal = spectra()
        support = {"a": signal.data[0, :2], "b": signal.inav[5:, 2]}
        assert not signal.fewshot_classify(support).plot().patches

    def test_line_scan(self):
        support = {"a": [0, (2.5,)], "b": [roi.SpanROI(6.0, 12.0), roi.Point1DROI(9.0)]}
        signal = spectra((7,))
        signal.axes_manager[0].offset = 0.0
        ax = signal.fewshot_classify(support, context=1).plot()
        starts = [patch.get_x() for patch in ax.patches[::2]]
        assert starts == pytest.approx([-0.75, 2.25, 6.0, 8.25])
        assert len(ax.get_yticks()) == 0
        assert ax.get_xlabel() == "x [nm]"

    def test_line_rois_on_a_map_span_it(self):
        support = {"a": roi.SpanROI(4.0, 7.0), "b": [(6, 1), (5, 4)]}
        first = spectra().fewshot_classify(support).plot().patches[0]
        assert first.get_xy() == pytest.approx((4.0, -2.25))
        assert (first.get_width(), first.get_height()) == pytest.approx((3.0, 15.0))

    @pytest.mark.parametrize(
        ("frame", "count"), [(None, 2), (0, 2), (1, 1), (-2, 1), (2, 0), (1.0, 1)]
    )
    def test_frames_of_a_stack(self, frame, count):
        support = {
            "dark": [(0, 8, 8), (0.5, 12, 30)],
            "bright": [(0, roi.CircleROI(19.0, 14.0, 1.0))],
        }
        signal = image((3,))
        signal.axes_manager[0].scale = 0.5 if frame != 1.0 or isinstance(frame, int) else 1.0
        if isinstance(frame, float):
            support["dark"][1] = (1.0, 12, 30)
        result = signal.fewshot_classify(support, chip_size=8, stride=4)
        ax = result.plot(frame=frame)
        assert len(ax.patches) == 2 * count
        index = {None: 0, -2: 1}.get(frame, int(frame or 0))
        np.testing.assert_array_equal(ax.images[1].get_array(), result.labels.data[index])
        np.testing.assert_array_equal(ax.images[0].get_array(), signal.data[index])

    def test_three_navigation_axes(self):
        signal = spectra((2, 6, 7))
        support = {"a": [(0, 0, 0), (2, 5, 1)], "b": [(6, 1, 1), (5, 4, 1)]}
        result = signal.fewshot_classify(support, context=1)
        assert len(result.plot(frame=0).patches) == 2 * 1
        ax = result.plot(frame=1)
        assert len(ax.patches) == 2 * 3
        np.testing.assert_array_equal(ax.images[0].get_array(), signal.data[1].sum(-1))
        place = ax.patches[0]
        assert place.get_x() + place.get_width() / 2 == pytest.approx(4 + 1.5 * 2)
        with pytest.raises(ValueError, match="index 2 lies outside axis"):
            result.plot(frame=2)

    def test_no_pass_over_lazy_data_for_the_picture(self):
        result = MADE["lazy"]().compute()
        assert len(result.plot().images) == 1

    def test_a_legend_of_many_classes_is_not_higher_than_the_picture(self):
        signal = hs.signals.Signal1D(np.random.default_rng(0).random((40, 50, 9)))
        support = {f"class {i}": [(i, i), (i + 2, i)] for i in range(30)}
        figure = signal.fewshot_classify(support, context=1).plot().figure
        figure.canvas.draw()
        box = figure.axes[0].get_legend().get_window_extent()
        assert box.height < figure.bbox.height
        assert box.x1 <= figure.bbox.x1

    def test_another_image_and_axes(self):
        result = MADE["spectra"]()
        _, ax = plt.subplots()
        picture = hs.signals.Signal2D(np.arange(6.0 * 7).reshape(6, 7))
        assert result.plot(ax, image=picture, alpha=0.3) is ax
        np.testing.assert_array_equal(ax.images[0].get_array(), picture.data)
        assert ax.images[1].get_alpha() == 0.3

    def test_axes_of_other_units_or_extreme_shape_are_not_to_scale(self):
        signal = image()
        assert MADE["image"]().plot().get_aspect() == 1
        signal.axes_manager[0].scale = 50.0
        result = signal.fewshot_classify(IMAGE_SUPPORT, chip_size=8, stride=4)
        assert result.plot().get_aspect() == "auto"

    def test_a_loaded_result(self, tmp_path):
        for name in ("image", "stack", "spectra"):
            made = MADE[name]()
            made.save(tmp_path / f"{name}.hspy")
            loaded = FewShotResult.load(tmp_path / f"{name}.hspy")
            one, other = made.plot(), loaded.plot()
            assert len(other.images) == 1
            assert other.get_xlim() == one.get_xlim()
            boxes = [[p.get_extents().bounds for p in ax.patches] for ax in (one, other)]
            assert len(boxes[0]) > 0
            assert [p.get_xy() for p in one.patches] == [p.get_xy() for p in other.patches]
