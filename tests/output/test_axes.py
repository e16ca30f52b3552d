"""Outputs have the axes of what was classified."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from hyperspy_fewshot import signals

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")


class TestCalibration:
    @pytest.mark.parametrize(("stride", "size"), [(1, 5), (3, 8), (4, 8), (4, 5)])
    def test_axes_of_an_image(self, scenes, stride, size):
        labels = (
            scenes.image()
            .fewshot_classify(scenes.image_support, chip_size=size, stride=stride, encoder="pca")
            .labels
        )
        x, y = labels.axes_manager.signal_axes
        assert (x.size, y.size) == (-(-53 // stride), -(-41 // stride))
        assert (x.name, y.name, x.units, y.units) == ("x", "y", "nm", "nm")
        np.testing.assert_allclose((x.scale, y.scale), (0.5 * stride, 0.2 * stride))
        np.testing.assert_allclose(x.offset, -3 + 0.5 * (stride - 1) / 2)
        np.testing.assert_allclose(y.offset, 10 + 0.2 * (stride - 1) / 2)

    def test_axes_of_a_stack(self, scenes):
        signal = scenes.image((2, 3))
        for axis, name, scale in zip(
            signal.axes_manager.navigation_axes, "tz", (7, 9), strict=True
        ):
            axis.name, axis.scale, axis.units = name, scale, "s"
        support = {
            "dark": [(0, 0, 8, 8), (2, 1, 12, 30)],
            "bright": [(1, 1, 45, 10), (0, 1, 40, 30)],
        }
        labels = signal.fewshot_classify(support, chip_size=8, stride=5, encoder="pca").labels
        axes = [(a.name, a.size, a.scale, a.units) for a in labels.axes_manager.navigation_axes]
        assert axes == [("t", 3, 7, "s"), ("z", 2, 9, "s")]
        assert labels.axes_manager.signal_shape == (11, 9)

    @pytest.mark.parametrize("name", ["spectra", "line scan"])
    def test_axes_of_a_scan_are_its_own(self, scenes, name):
        result = scenes.made(name)
        theirs = [a.get_axis_dictionary() for a in result.signal.axes_manager.navigation_axes]
        ours = [a.get_axis_dictionary() for a in result.labels.axes_manager.signal_axes]
        for one in (*theirs, *ours):
            del one["navigate"]
        assert ours == theirs

    def test_non_uniform_axis(self, scenes):
        signal = scenes.image()
        axis = signal.axes_manager[0]
        axis.convert_to_non_uniform_axis()
        axis.axis = np.arange(53.0) ** 2
        result = signal.fewshot_classify(scenes.image_support, chip_size=8, stride=3, encoder="pca")
        x, y = result.labels.axes_manager.signal_axes
        np.testing.assert_array_equal(x.axis, np.append(np.arange(1, 52, 3), 52.0) ** 2)
        np.testing.assert_allclose(y.scale, 0.6)
        np.testing.assert_array_equal(
            result.labels_at_pixels().axes_manager[0].axis, np.arange(53.0) ** 2
        )

    @pytest.mark.parametrize(("stride", "size"), [(1, 8), (3, 8), (4, 7), (7, 12)])
    def test_labels_at_pixels(self, scenes, stride, size):
        result = scenes.image().fewshot_classify(
            scenes.image_support, chip_size=size, stride=stride, encoder="pca"
        )
        whole = result.labels_at_pixels()
        rows, columns = np.arange(41) // stride, np.arange(53) // stride
        cells = result.labels.data[rows[:, np.newaxis], columns]
        # Pixels differ from their cells on boundaries alone.
        same = maximum_filter(cells, 2 * stride + 1) == minimum_filter(cells, 2 * stride + 1)
        np.testing.assert_array_equal(whole.data[same], cells[same])
        assert isinstance(whole, signals.LabelMap)
        assert whole.class_names == ("dark", "bright")
        for ours, theirs in zip(
            whole.axes_manager._axes, result.signal.axes_manager._axes, strict=True
        ):
            assert ours.get_axis_dictionary() == theirs.get_axis_dictionary()

    def test_labels_at_pixels_of_a_stack(self, scenes):
        result = scenes.made("stack")
        whole = result.labels_at_pixels()
        assert whole.axes_manager.shape == (3, 53, 41)
        for frame in range(3):
            single = result.signal.inav[frame].fewshot_classify(result)
            np.testing.assert_array_equal(whole.data[frame], single.labels_at_pixels().data)

    def test_labels_at_pixels_of_a_scan_are_the_labels(self, scenes):
        result = scenes.made("spectra")
        np.testing.assert_array_equal(result.labels_at_pixels().data, result.labels.data)
