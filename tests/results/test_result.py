"""Results are quantifiable and repeatable."""

import json

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet, data

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")


@pytest.fixture(params=["image", "spectra", "stack", "line scan"])
def made(request, scenes):
    """A result of each kind, which tests leave as it is."""
    return scenes.made(request.param)


class TestMask:
    @pytest.mark.parametrize("name", ["dark", "bright", "rejected", "masked"])
    def test_of_an_image(self, scenes, name):
        mask = np.zeros((41, 53), bool)
        mask[:10] = True
        signal = scenes.image()
        signal.data[20:25] = 200.0
        result = signal.fewshot_classify(
            scenes.image_support, chip_size=4, stride=2, encoder="pca", navigation_mask=mask.T
        )
        value = {"dark": 0, "bright": 1, "rejected": -1, "masked": -2}[name]
        expected = result.labels_at_pixels().data == value
        assert expected.any()
        found = result.mask(name)
        assert found.data.dtype == bool
        np.testing.assert_array_equal(found.data, expected)
        np.testing.assert_array_equal(signal.data[found.data], signal.data[expected])
        assert found.metadata.General.title == f"{name} of Few-shot labels of Two halves"

    def test_can_mask_the_next_classification(self, scenes):
        signal = scenes.image()
        first = signal.fewshot_classify(
            scenes.image_support, chip_size=8, stride=3, encoder="pca", reject=False
        )
        support = {"a": [(45, 10), (40, 30)], "b": [(30, 10), (30, 30)]}
        result = signal.fewshot_classify(
            support, chip_size=8, stride=3, encoder="pca", navigation_mask=first.mask("dark")
        )
        np.testing.assert_array_equal(result.labels.data == -2, first.labels.data == 0)

    def test_is_a_navigation_mask_for_decomposition(self, scenes):
        signal = scenes.spectra()
        result = signal.fewshot_classify(scenes.scan_support, reject=False)
        mask = result.mask("b")
        assert mask.axes_manager.navigation_shape == signal.axes_manager.navigation_shape
        signal.decomposition(navigation_mask=~mask, print_info=False)
        loadings = signal.get_decomposition_loadings().data[0]
        np.testing.assert_array_equal(np.isnan(loadings), result.labels.data != 1)

    def test_indexes_a_scan(self, scenes):
        result = scenes.made("spectra")
        selected = result.signal.data[result.mask("a").data]
        assert selected.shape == ((result.labels.data == 0).sum(), 30)

    def test_computes_a_lazy_result(self, scenes):
        assert (
            scenes.spectra().as_lazy().fewshot_classify(scenes.scan_support).mask("a").data.sum()
            > 10
        )


class TestClassSignals:
    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("method", ["mean", "sum"])
    @pytest.mark.parametrize("kind", ["spectra", "patterns"])
    def test_equals_numpy(self, scenes, kind, method, lazy):
        signal = scenes.spectra()
        if kind == "patterns":
            signal = hs.signals.Signal2D(signal.data.reshape(6, 7, 5, 6))
        if lazy:
            signal = signal.as_lazy()
            signal.data = signal.data.rechunk((4, 3, *signal.data.shape[2:]))
        result = signal.fewshot_classify(scenes.scan_support)
        found = result.class_signals(method)
        data = np.asarray(signal.data)
        for k in (0, 1):
            expected = getattr(data[result.labels.data == k], method)(axis=0)
            np.testing.assert_allclose(found.inav[k].data, expected)
        assert not found._lazy
        assert found.axes_manager.navigation_shape == (2,)
        assert found.axes_manager[0].name == "Class index"
        assert found.axes_manager.signal_shape == signal.axes_manager.signal_shape

    def test_a_class_without_a_position_holds_zeros(self, scenes):
        result = scenes.spectra().fewshot_classify(scenes.scan_support)
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
    def test_counts_fractions_and_areas(self, scenes):
        signal = scenes.image()
        mask = np.zeros((41, 53), bool)
        mask[:, :7] = True
        result = signal.fewshot_classify(
            scenes.image_support,
            chip_size=8,
            stride=5,
            encoder="pca",
            reject=False,
            navigation_mask=mask.T,
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
    def test_units(self, scenes, units, scales, expected, area):
        signal = hs.signals.Signal2D(scenes.image().data)
        for axis, unit, scale in zip(signal.axes_manager.signal_axes, units, scales, strict=True):
            axis.scale = scale
            if unit:
                axis.units = unit
        result = signal.fewshot_classify(
            scenes.image_support, chip_size=8, stride=4, encoder="pca", reject=False
        )
        assert result.statistics.units == expected
        total = sum(row["area"] for row in result.statistics.rows.values())
        np.testing.assert_allclose(total, 41 * 53 * area)

    def test_are_in_the_metadata_of_the_labels(self, made):
        rows = made.statistics.rows
        node = made.labels.metadata.FewShot.statistics.as_dictionary()
        assert list(node["name"]) == list(rows)
        for key in ("count", "fraction", "area", "regions", "confidence"):
            np.testing.assert_array_equal(node[key], [row[key] for row in rows.values()])

    def test_fractions_of_every_frame(self, scenes):
        result = scenes.made("stack")
        found = result.fractions_signal
        assert found.axes_manager.navigation_shape == (3,)
        assert found.axes_manager.signal_shape == (2,)
        for i, frame in enumerate(result.labels_at_pixels().data):
            expected = [(frame == k).sum() / (frame != -2).sum() for k in (0, 1)]
            np.testing.assert_allclose(found.data[i], expected)
        with pytest.raises(ValueError, match="one map only; its fractions are result.fractions"):
            assert scenes.made("image").fractions_signal

    def test_table(self, made):
        assert made.compute() is made
        lines, html = repr(made).splitlines(), made._repr_html_()
        assert lines[0].startswith("<FewShotResult, 2 classes, ")
        assert [line.split()[0] for line in lines[3:5]] == list(made.class_names)
        for name in made.class_names:
            assert f"<td>{name}</td>" in html

    def test_a_lazy_result_says_that_it_is_not_computed(self, scenes):
        result = scenes.spectra().as_lazy().fewshot_classify(scenes.scan_support)
        assert repr(result) == "<FewShotResult, 2 classes, 6 x 7 labels, not computed>"
        assert "not computed" in result._repr_html_()
        assert result.labels._lazy


class TestMetadata:
    def test_what_is_copied(self, scenes):
        labels = scenes.made("image").labels
        assert labels.metadata.General.title == "Few-shot labels of Two halves"
        assert labels.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
        assert labels.metadata.Sample.description == "halves"
        assert labels.original_metadata.vendor.secret == 42
        probabilities = scenes.made("image").probabilities
        assert probabilities.metadata.General.title == "Few-shot probabilities of Two halves"

    def test_a_signal_without_title(self, scenes):
        signal = scenes.spectra()
        signal.metadata.General.title = ""
        result = signal.fewshot_classify(scenes.scan_support)
        assert result.labels.metadata.General.title == "Few-shot labels of Signal1D"

    def test_what_is_recorded(self, scenes):
        node = scenes.made("image").labels.metadata.FewShot
        assert node.class_names == ["dark", "bright"]
        assert (node.chip_size, node.stride, node.kind, node.encoder) == (8, 3, "image", "pca")
        assert node.reject == "default"
        assert len(node.thresholds) == 2
        assert set(json.loads(node.versions)) == {"hyperspy_fewshot", "hyperspy", "torch", "numpy"}

    @pytest.mark.parametrize("name", ["image", "spectra", "stack", "line scan"])
    def test_is_enough_to_repeat_the_result(self, scenes, name, tmp_path):
        result = scenes.made(name)
        result.save(tmp_path / "result.hspy")
        node = hs.load(tmp_path / "result.hspy").metadata.FewShot
        support = SupportSet.from_json(node.support, {})
        options = {
            key: int(node[key]) for key in ("chip_size", "stride", "context") if node.has_item(key)
        }
        again = result.signal.fewshot_classify(support, encoder=node.encoder, **options)
        np.testing.assert_array_equal(again.labels.data, result.labels.data)
        assert again.labels.metadata.FewShot.encoder_sha256 == node.encoder_sha256

    def test_a_level_is_recorded(self, scenes):
        support = {"a": [(0, 0), (2, 5), (1, 3)], "b": [(6, 1), (5, 4), (6, 5)]}
        result = scenes.spectra().fewshot_classify(support, context=1, reject=0.3)
        assert float(result.labels.metadata.FewShot.reject) == 0.3
