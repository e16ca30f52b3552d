"""Results are quantifiable and repeatable."""

import json
from dataclasses import dataclass

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from hyperspy_fewshot import Encoder, FewShotResult, SupportSet, data, get_encoder
from hyperspy_fewshot.encoders.weights import bundled_weights
from hyperspy_fewshot.output.class_signals import class_signals

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")


@pytest.fixture(params=["image", "spectra", "stack", "line scan"])
def made(request, scenes):
    """A result of each kind, which tests leave as it is."""
    return scenes.made(request.param)


def test_label_images_have_the_pixels_of_the_data(made):
    image, whole = made.to_label_image(), made.labels_at_pixels()
    assert image.data.dtype == np.uint8
    np.testing.assert_array_equal(image.data, np.maximum(whole.data + 1, 0))
    for axis, expected in zip(image.axes_manager._axes, whole.axes_manager._axes, strict=True):
        assert axis.get_axis_dictionary() == expected.get_axis_dictionary()
    support = SupportSet.from_label_map(image)
    assert support.class_names == made.class_names
    assert {index for index, _, _ in support.locate(made.domain)} == {0, 1}


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


def timed(signal_type="EDS_TEM", **times):
    """Ten equal spectra with two X-ray lines, a microscope, and acquisition times of one position."""
    energy = 0.02 * np.arange(500) + 0.5
    lines = (np.exp(-((energy - centre) ** 2) / 0.01) for centre in (6.404, 9.442))
    signal = hs.signals.Signal1D(np.broadcast_to(np.round(40.0 * sum(lines)), (2, 5, 500)).copy())
    axis = signal.axes_manager.signal_axes[0]
    axis.scale, axis.offset, axis.units, axis.name = 0.02, 0.5, "keV", "Energy"
    signal.set_signal_type(signal_type)
    where = "SEM" if signal_type == "EDS_SEM" else "TEM"
    detector = "EELS" if signal_type == "EELS" else "EDS"
    node = {"Detector": {detector: times}, "beam_current": 0.5, "beam_energy": 200.0}
    signal.metadata.add_dictionary({"Acquisition_instrument": {where: node}})
    signal.metadata.General.title = "Ten"
    return signal


def classes_of(signal, labels, method, names=("a", "b")):
    """Signals of the classes of a label map that is given."""
    return class_signals(signal, np.asarray(labels), names, method)


# Eight positions of class "a", one of class "b", one rejected; ten positions of class "a".
LABELS = [[0, 0, 0, 1, 0], [0, -1, 0, 0, 0]]
EVERYWHERE = np.zeros((2, 5), int)


class TestClassSignals:
    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize("method", ["mean", "sum"])
    @pytest.mark.parametrize("kind", ["spectra", "patterns"])
    def test_equals_numpy(self, scenes, kind, method, lazy):
        signal = getattr(scenes, kind)()
        if lazy:
            signal = signal.as_lazy()
            signal.data = signal.data.rechunk((4, 3, *signal.data.shape[2:]))
        result = signal.fewshot_classify(scenes.scan_support)
        found = result.class_signals(method)
        assert list(found) == ["a", "b"]
        data = np.asarray(signal.data)
        for k, one in enumerate(found.values()):
            expected = getattr(data[result.labels.data == k], method)(axis=0)
            np.testing.assert_allclose(one.data, expected)
            assert not one._lazy
            assert one.axes_manager.navigation_dimension == 0
            assert one.axes_manager.signal_shape == signal.axes_manager.signal_shape

    def test_keeps_type_axes_and_metadata(self):
        signal = timed(live_time=2.0)
        signal.original_metadata.set_item("vendor.secret", 42)
        for name, one in classes_of(signal, LABELS, "sum").items():
            assert type(one) is type(signal)
            axis = one.axes_manager.signal_axes[0]
            assert (axis.scale, axis.offset, axis.units, axis.name) == (0.02, 0.5, "keV", "Energy")
            assert one.metadata.Acquisition_instrument.TEM.beam_current == 0.5
            assert one.original_metadata.vendor.secret == 42
            assert one.metadata.General.title == f"Sum of {name} in Ten"
        assert signal.metadata.Acquisition_instrument.TEM.Detector.EDS.live_time == 2.0
        assert signal.metadata.General.title == "Ten"

    @pytest.mark.parametrize("lazy", [False, True])
    def test_non_uniform_axes_are_kept(self, lazy):
        values = np.linspace(1, 3, 30) ** 2
        function = {"expression": "1240 / x", "x": {"size": 30, "scale": 2.0, "offset": 300.0}}
        for axis in ({"axis": values}, function):
            axes = [
                {"size": 2},
                {"size": 5},
                {**axis, "name": "E", "units": "eV", "navigate": False},
            ]
            signal = hs.signals.Signal1D(np.ones((2, 5, 30)), axes=axes)
            found = classes_of(signal.as_lazy() if lazy else signal, LABELS, "sum")["a"]
            old, new = signal.axes_manager.signal_axes[0], found.axes_manager.signal_axes[0]
            assert type(new) is type(old) and (new.name, new.units) == ("E", "eV")
            np.testing.assert_array_equal(new.axis, old.axis)

    @pytest.mark.parametrize("signal_type", ["EDS_TEM", "EDS_SEM"])
    def test_times_of_eds_are_those_of_exspy(self, signal_type):
        signal = timed(signal_type, live_time=2.0, real_time=3.0)
        where = f"Acquisition_instrument.{signal_type[4:]}.Detector.EDS"
        for method in ("sum", "mean"):
            expected = getattr(signal, method)(axis=signal.axes_manager.navigation_axes)
            found = classes_of(signal, EVERYWHERE, method, ["a"])["a"]
            np.testing.assert_allclose(found.data, expected.data)
            assert found.metadata.get_item(where).live_time == (
                expected.metadata.get_item(where).live_time
            )
        # eXSpy's sum() leaves the real time of one position, its rebin() does not.
        rebinned = signal.rebin(scale=(5, 2, 1))
        summed = classes_of(signal, EVERYWHERE, "sum", ["a"])["a"].metadata.get_item(where)
        assert summed.real_time == rebinned.metadata.get_item(where).real_time == 30.0
        mean = classes_of(signal, EVERYWHERE, "mean", ["a"])["a"].metadata.get_item(where)
        assert (mean.live_time, mean.real_time) == (2.0, 3.0)

    def test_times_of_eels_are_those_of_exspy(self):
        signal = timed("EELS", exposure=0.5, dwell_time=0.75, frame_number=4)
        where = "Acquisition_instrument.TEM.Detector.EELS"
        # eXSpy's sum() leaves the times of one position, its rebin() does not.
        expected = signal.rebin(scale=(5, 2, 1)).metadata.get_item(where)
        found = classes_of(signal, EVERYWHERE, "sum", ["a"])["a"].metadata.get_item(where)
        assert found.as_dictionary() == expected.as_dictionary()
        found = classes_of(signal, LABELS, "mean")["a"].metadata.get_item(where)
        assert (found.exposure, found.dwell_time) == (0.5, 0.75)

    def test_times_of_cameras_and_of_luminescence(self):
        signal = hs.signals.Signal1D(np.ones((2, 5, 30)))
        signal.metadata.set_item("Acquisition_instrument.TEM.Detector.Camera.exposure", 0.25)
        signal.metadata.set_item("Acquisition_instrument.Detector.integration_time", 2.0)
        signal.metadata.set_item("Acquisition_instrument.Detector.exposure_per_frame", 0.5)
        signal.metadata.set_item("Acquisition_instrument.CL.dwell_time", "unknown")
        found = classes_of(signal, LABELS, "sum")["a"].metadata.Acquisition_instrument
        assert found.TEM.Detector.Camera.exposure == 8 * 0.25
        assert found.Detector.integration_time == 8 * 2.0
        assert found.Detector.exposure_per_frame == 0.5
        assert found.CL.dwell_time == "unknown"

    @pytest.mark.parametrize("method", ["mean", "sum"])
    def test_zeta_factors_give_the_composition_and_thickness_of_a_position(self, method):
        signal = timed(live_time=2.0, real_time=3.0)
        signal.set_elements(["Fe", "Pt"])
        signal.metadata.Sample.xray_lines = ["Fe_Ka", "Pt_La"]

        def quantified(spectrum):
            lines = spectrum.get_lines_intensity()
            composition, thickness = spectrum.quantification(lines, "zeta", factors=[400.0, 900.0])
            return [float(one.data.item()) for one in (*composition, thickness)]

        expected = quantified(signal.inav[0, 0])
        assert expected[-1] > 0 and 0 < expected[0] < 100
        for one in classes_of(signal, LABELS, method).values():
            np.testing.assert_allclose(quantified(one), expected)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_a_class_without_a_position_holds_zeros(self, lazy):
        signal = timed(live_time=2.0)
        signal = signal.as_lazy() if lazy else signal
        for method, time in (("mean", 2.0), ("sum", 0.0)):
            with pytest.warns(UserWarning, match="No position has the class 'b'; its mean and sum"):
                found = classes_of(signal, EVERYWHERE, method)["b"]
            assert (found.data == 0).all()
            assert found.metadata.Acquisition_instrument.TEM.Detector.EDS.live_time == time

    @pytest.mark.parametrize("lazy", [False, True])
    def test_values_that_are_masked_do_not_count(self, lazy):
        signal = timed()
        values = np.random.default_rng(0).poisson(9.0, signal.data.shape).astype(np.uint16)
        mask = np.zeros(values.shape, bool)
        mask[..., 7] = mask[0, 0, 9] = True
        signal.data = np.ma.masked_array(values, mask)
        inside = signal.data[np.equal(LABELS, 0)].astype(float)
        if lazy:
            signal.data = da.from_array(signal.data, chunks=(1, 2, 300), asarray=False)
            signal = signal.as_lazy()
        for method in ("mean", "sum"):
            found = classes_of(signal, LABELS, method)["a"].data
            expected = getattr(inside, method)(axis=0)
            np.testing.assert_array_equal(np.ma.getmaskarray(found), expected.mask)
            np.testing.assert_allclose(np.ma.filled(found, -1.0), expected.filled(-1.0))

    def test_lazy_data_are_read_once(self, scenes):
        signal, counts = scenes.counting(timed(), (1, 2, 500))
        classes_of(signal, LABELS, "mean")
        assert set(counts.values()) == {1} and len(counts) == 6

    def test_a_variance_of_every_position_is_left_out(self):
        signal = timed()
        signal.estimate_poissonian_noise_variance()
        assert not classes_of(signal, LABELS, "sum")["a"].metadata.has_item(
            "Signal.Noise_properties.variance"
        )

    @pytest.mark.parametrize("lazy", [False, True])
    def test_exspy_quantifies_the_classes(self, lazy):
        specimen = data.eds_spectrum_image((18, 36), counts=200.0)
        signal = specimen.signal.as_lazy() if lazy else specimen.signal
        result = signal.fewshot_classify(specimen.support(3), context=1)
        ratio, counts = {}, {}
        for name, spectrum in result.class_signals("sum").items():
            assert type(spectrum).__name__ == "EDSTEMSpectrum"
            assert spectrum.metadata.Sample.elements == ["C", "Cu", "Fe", "O", "Pt"]
            iron, platinum = spectrum.get_lines_intensity(["Fe_Ka", "Pt_La"])
            counts[name], ratio[name] = iron.data.item(), (platinum.data / iron.data).item()
        assert ratio["FePt"] > 5 * ratio["iron oxide"]
        assert counts["FePt"] > 2 * counts["carbon film"]


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
        assert (result.labels_at_pixels().data == -2).sum() == 41 * 5
        whole = result.labels.data.repeat(5, axis=0).repeat(5, axis=1)[:41, :53]
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
        cells = result.labels.data.repeat(4, axis=1).repeat(4, axis=2)[:, :41, :53]
        for i, frame in enumerate(cells):
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


class TestReuse:
    """What is used again with an encoder that differs by more than its name."""

    def test_other_weights_of_the_same_encoder_are_refused(self, scenes, tmp_path):
        state = load_file(bundled_weights("stem"))
        path = tmp_path / "mine.safetensors"
        save_file({name: values * 1.001 for name, values in state.items()}, path)
        mine, signal = get_encoder("stem", weights=path), scenes.image()
        result = signal.fewshot_classify(scenes.image_support, chip_size=8, stride=8)
        message = r"encoder='stem' is another one than the recipe was learnt with \('stem'\)"
        for support in (result, result.classifier):
            with pytest.raises(ValueError, match=message):
                signal.fewshot_classify(support, encoder=mine)
        recipe = result.classifier.recipe
        with pytest.raises(ValueError, match=message):
            signal.fewshot_embed(recipe=recipe, encoder=mine)
        assert signal.fewshot_embed(recipe=recipe, encoder="stem").recipe.sha256 == recipe.sha256

    def test_a_class_of_the_user_is_not_taken_for_a_bundled_one(self, scenes, tmp_path):
        @dataclass(frozen=True, eq=False)
        class PCAEncoder(Encoder):
            name: str = "pca"
            kinds: tuple[str, ...] = ("spectrum",)

            def encode(self, batch, device="cpu"):
                return batch[:, 5:25:3].astype(np.float32)

        signal = scenes.spectra()
        result = signal.fewshot_classify(scenes.scan_support, encoder=PCAEncoder(), context=1)
        with pytest.raises(ValueError, match="encoder='pca' is another one than the recipe"):
            signal.fewshot_classify(result, encoder="pca")
        result.save(tmp_path / "labels.hspy")
        loaded = FewShotResult.load(tmp_path / "labels.hspy")
        assert not loaded.classifier.recipe.complete
        with pytest.raises(ValueError, match="The encoder is missing"):
            signal.fewshot_classify(loaded)


class TestMostlyRejected:
    """Two kinds of spectra have examples, the third one covers most of the scan."""

    @staticmethod
    def scan(share):
        kinds = np.zeros((20, 20), int)
        kinds[:, 2:4] = 1
        kinds[:, 20 - int(20 * share) :] = 2
        spectra = np.array([[9.0, 1, 1, 1, 5], [1, 9, 1, 1, 5], [1, 1, 9, 9, 5]])[kinds]
        return hs.signals.Signal1D(np.random.default_rng(0).poisson(100 * spectra))

    SUPPORT = {"a": [(0, 2), (1, 9), (0, 15)], "b": [(2, 3), (3, 8), (2, 16)]}

    @pytest.mark.parametrize("lazy", [False, True])
    def test_it_is_said(self, lazy):
        signal = self.scan(0.8).as_lazy() if lazy else self.scan(0.8)
        with pytest.warns(
            UserWarning, match=r"320 of 400 queries resemble no class .* reject=False"
        ):
            signal.fewshot_classify(self.SUPPORT, context=1, show_progressbar=False).compute()

    def test_less_is_not(self, recwarn):
        found = self.scan(0.4).fewshot_classify(self.SUPPORT, context=1, show_progressbar=False)
        assert 160 <= (found.labels.data == -1).sum() < 200
        assert not [w for w in recwarn if "resemble no class" in str(w.message)]
