"""Label maps are HyperSpy signals that know their classes."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hyperspy_fewshot import signals
from hyperspy_fewshot.output import label_maps


class TestLabelMap:
    def label_map(self, data, names=("a", "b", "c"), lazy=False):
        axes = [
            {"name": n, "size": s, "scale": 0.5, "offset": 2.0, "navigate": i < len(data.shape) - 2}
            for i, (n, s) in enumerate(zip("tyx"[-data.ndim :], data.shape, strict=True))
        ]
        data = da.from_array(data, chunks=3) if lazy else data
        metadata = {"FewShot": {"class_names": list(names)}}
        return label_maps.build(data.astype(np.int16), axes, True, metadata)

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
        line = label_maps.build(
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

    def test_plot_of_a_line_names_the_classes(self, scenes):
        result = scenes.made("line scan")
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

    def test_can_navigate_the_signal(self, scenes):
        result = scenes.made("spectra")
        result.signal.plot(navigator=result.labels)
        np.testing.assert_array_equal(
            result.signal._plot.navigator_plot.ax.images[0].get_array(), result.labels.data
        )
