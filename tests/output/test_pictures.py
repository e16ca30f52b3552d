"""Results are drawn over the image, with a legend and the support set."""

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Annulus, Circle, Polygon, Rectangle

from hyperspy_fewshot import FewShotResult, SupportSet

roi = hs.roi

pytestmark = pytest.mark.filterwarnings("ignore:With one example a class:UserWarning")


class TestPlot:
    def test_draws_the_map_over_the_image_with_legend_and_support(self, scenes):
        result = scenes.made("image")
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

    def test_outlines_of_chips_are_what_was_cut(self, scenes):
        patches = scenes.made("image").plot().patches
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
    def test_every_kind_of_example_is_drawn_where_it_lies(self, scenes, region, kind):
        support = {"dark": [region], "bright": [(45, 10), (40, 30)]}
        result = scenes.image().fewshot_classify(support, chip_size=8, stride=3, encoder="pca")
        ax = result.plot()
        assert isinstance(ax.patches[0], kind)
        box = ax.patches[0].get_window_extent().transformed(ax.transData.inverted())
        assert box.x0 < 2.0 < box.x1
        assert min(box.y0, box.y1) < 13.0 < max(box.y0, box.y1)

    def test_scribbles_are_dotted(self, scenes):
        labels = np.zeros((41, 53), int)
        labels[5:9, 2:15], labels[5:30, 40:45] = 1, 2
        support = SupportSet.from_label_map(labels, ["dark", "bright"])
        ax = scenes.image().fewshot_classify(support, chip_size=8, stride=3, encoder="pca").plot()
        x, y = ax.lines[0].get_data()
        np.testing.assert_allclose(np.unique(x), -3 + 0.5 * np.arange(2, 15))
        np.testing.assert_allclose(np.unique(y), 10 + 0.2 * np.arange(5, 9))

    def test_arrays_of_positions_are_drawn_one_by_one(self, scenes):
        places = np.array([(8, 8), (12, 30), (20, 15)])
        support = {"dark": places, "bright": [(45, 10), (40, 30)]}
        options = {"chip_size": 8, "stride": 3, "encoder": "pca"}
        drawn = scenes.image().fewshot_classify(support, **options).plot().patches
        support["dark"] = list(map(tuple, places.tolist()))
        expected = scenes.image().fewshot_classify(support, **options).plot().patches
        assert [p.get_xy() for p in drawn] == [p.get_xy() for p in expected]
        assert len(drawn) == 2 * 5

    def test_ready_examples_lie_nowhere(self, scenes):
        signal = scenes.spectra()
        support = {"a": signal.data[0, :2], "b": signal.inav[5:, 2]}
        assert not signal.fewshot_classify(support).plot().patches

    def test_line_scan(self, scenes):
        support = {"a": [0, (2.5,)], "b": [roi.SpanROI(6.0, 12.0), roi.Point1DROI(9.0)]}
        signal = scenes.spectra((7,))
        signal.axes_manager[0].offset = 0.0
        ax = signal.fewshot_classify(support, context=1).plot()
        starts = [patch.get_x() for patch in ax.patches[::2]]
        assert starts == pytest.approx([-0.75, 2.25, 6.0, 8.25])
        assert len(ax.get_yticks()) == 0
        assert ax.get_xlabel() == "x [nm]"

    def test_line_rois_on_a_map_span_it(self, scenes):
        support = {"a": roi.SpanROI(4.0, 7.0), "b": [(6, 1), (5, 4)]}
        first = scenes.spectra().fewshot_classify(support).plot().patches[0]
        assert first.get_xy() == pytest.approx((4.0, -2.25))
        assert (first.get_width(), first.get_height()) == pytest.approx((3.0, 15.0))

    @pytest.mark.parametrize(
        ("frame", "count"), [(None, 2), (0, 2), (1, 1), (-2, 1), (2, 0), (1.0, 1)]
    )
    def test_frames_of_a_stack(self, scenes, frame, count):
        support = {
            "dark": [(0, 8, 8), (0.5, 12, 30)],
            "bright": [(0, roi.CircleROI(19.0, 14.0, 1.0))],
        }
        signal = scenes.image((3,))
        signal.axes_manager[0].scale = 0.5 if frame != 1.0 or isinstance(frame, int) else 1.0
        if isinstance(frame, float):
            support["dark"][1] = (1.0, 12, 30)
        result = signal.fewshot_classify(support, chip_size=8, stride=4, encoder="pca")
        ax = result.plot(frame=frame)
        assert len(ax.patches) == 2 * count
        index = {None: 0, -2: 1}.get(frame, int(frame or 0))
        np.testing.assert_array_equal(ax.images[1].get_array(), result.labels.data[index])
        np.testing.assert_array_equal(ax.images[0].get_array(), signal.data[index])

    def test_three_navigation_axes(self, scenes):
        signal = scenes.spectra((2, 6, 7))
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

    def test_no_pass_over_lazy_data_for_the_picture(self, scenes):
        result = scenes.spectra().as_lazy().fewshot_classify(scenes.scan_support).compute()
        assert len(result.plot().images) == 1

    def test_a_legend_of_many_classes_is_not_higher_than_the_picture(self):
        signal = hs.signals.Signal1D(np.random.default_rng(0).random((40, 50, 9)))
        support = {f"class {i}": [(i, i), (i + 2, i)] for i in range(30)}
        figure = signal.fewshot_classify(support, context=1).plot().figure
        figure.canvas.draw()
        box = figure.axes[0].get_legend().get_window_extent()
        assert box.height < figure.bbox.height
        assert box.x1 <= figure.bbox.x1

    def test_another_image_and_axes(self, scenes):
        result = scenes.made("spectra")
        _, ax = plt.subplots()
        picture = hs.signals.Signal2D(np.arange(6.0 * 7).reshape(6, 7))
        assert result.plot(ax, image=picture, alpha=0.3) is ax
        np.testing.assert_array_equal(ax.images[0].get_array(), picture.data)
        assert ax.images[1].get_alpha() == 0.3

    def test_axes_of_other_units_or_extreme_shape_are_not_to_scale(self, scenes):
        signal = scenes.image()
        assert scenes.made("image").plot().get_aspect() == 1
        signal.axes_manager[0].scale = 50.0
        result = signal.fewshot_classify(scenes.image_support, chip_size=8, stride=4, encoder="pca")
        assert result.plot().get_aspect() == "auto"

    def test_a_loaded_result(self, scenes, tmp_path):
        for name in ("image", "stack", "spectra"):
            made = scenes.made(name)
            made.save(tmp_path / f"{name}.hspy")
            loaded = FewShotResult.load(tmp_path / f"{name}.hspy")
            one, other = made.plot(), loaded.plot()
            assert len(other.images) == 1
            assert other.get_xlim() == one.get_xlim()
            boxes = [[p.get_extents().bounds for p in ax.patches] for ax in (one, other)]
            assert len(boxes[0]) > 0
            assert [p.get_xy() for p in one.patches] == [p.get_xy() for p in other.patches]
