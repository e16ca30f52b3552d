"""The side of chips follows from the lattice that an image shows, where it is known."""

from functools import cache

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from scipy import ndimage

from hyperspy_fewshot.grids.chip_size import (
    default_side,
    default_stride,
    lattice_period,
    limited,
    sample_windows,
)

SHAPE = (260, 340)
POSITIONS = {"a": [(60, 50), (200, 90)], "b": [(300, 210), (90, 200)]}


def lattice(period, shape=SHAPE, degrees=0.0, across=0.8, counts=30.0, seed=0):
    """Counts of an oblong lattice, its longer period `period` px at an angle to the rows."""
    rows, columns = np.indices(shape)
    angle = np.deg2rad(degrees)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    beside = rows * np.cos(angle) - columns * np.sin(angle)
    waves = 2 * np.cos(2 * np.pi * along / period) + np.cos(2 * np.pi * beside / (across * period))
    atoms = np.exp(waves)
    return np.random.default_rng(seed).poisson(atoms * counts / atoms.mean()).astype(np.uint16)


def cut(image):
    return [image[window] for window in sample_windows(image.shape)]


def moments(chips):
    return np.column_stack([chips.mean((1, 2)), chips.std((1, 2))])


def chip_size(image, support=POSITIONS, **options):
    signal = image if isinstance(image, hs.signals.BaseSignal) else hs.signals.Signal2D(image)
    result = signal.fewshot_classify(support, encoder=moments, lazy_output=True, **options)
    return result.classifier.recipe.grid.chip_size


@cache
def textures():
    rng = np.random.default_rng(0)
    grain = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    step = np.arange(SHAPE[1]) > 150
    return {
        "counts": rng.poisson(3.0, SHAPE),
        "grain": grain,
        "grain and noise": grain / grain.std() + rng.normal(size=SHAPE),
        "particles": rng.poisson(5.0 + 20 * (grain > grain.std())),
        "displaced lines": rng.normal(size=(SHAPE[0], 1)) + rng.normal(size=SHAPE),
        "step": rng.poisson(np.broadcast_to(5.0 + 20 * step, SHAPE)),
        "flat": np.full(SHAPE, 7.3),
        "not a number": np.full(SHAPE, np.nan),
    }


class TestWindows:
    @pytest.mark.parametrize("shape", [(3042, 3044), SHAPE, (70, 2000), (9, 5), (1, 3), (1, 1)])
    def test_lie_inside_the_image_apart_from_each_other(self, shape):
        seen = np.zeros(shape, int)
        windows = sample_windows(shape)
        for window in windows:
            assert {s.stop - s.start for s in window} == {max(1, min(256, min(shape) // 2))}
            assert all(0 <= s.start and s.stop <= n for s, n in zip(window, shape, strict=True))
            seen[window] += 1
        assert seen.max() == 1
        assert 1 <= len(windows) <= 16

    def test_reach_the_edges(self):
        rows, columns = zip(*sample_windows(SHAPE), strict=True)
        assert min(s.start for s in rows) == min(s.start for s in columns) == 0
        assert (max(s.stop for s in rows), max(s.stop for s in columns)) == SHAPE


class TestPeriod:
    @pytest.mark.parametrize("degrees", [0, 17, 45, 90])
    @pytest.mark.parametrize("period", [4.5, 27.0])
    def test_is_found_at_any_angle(self, period, degrees):
        found = lattice_period(cut(lattice(period, degrees=degrees)))
        assert found == pytest.approx(period, rel=0.04)

    @pytest.mark.parametrize("counts", [3000.0, 30.0, 1.0, 0.1])
    def test_does_not_depend_on_the_dose(self, counts):
        found = lattice_period(cut(lattice(12.0, degrees=20, counts=counts)))
        assert found == pytest.approx(12.0, rel=0.02)

    def test_is_not_that_of_sharp_atoms(self):
        sharp = lattice(16.0, degrees=8).astype(float) ** 2
        assert lattice_period(cut(sharp)) == pytest.approx(16.0, rel=0.02)

    def test_is_found_in_a_part_of_the_image(self):
        image = np.random.default_rng(1).poisson(30.0, SHAPE)
        image[:200, :180] = lattice(12.0, (200, 180))
        assert lattice_period(cut(image)) == pytest.approx(12.0, rel=0.05)

    def test_is_found_under_a_gradient_and_displaced_lines(self):
        rng = np.random.default_rng(2)
        image = lattice(12.0, degrees=30) * np.linspace(0.3, 3, SHAPE[1])
        image = np.stack([np.roll(line, rng.integers(-2, 3)) for line in image])
        assert lattice_period(cut(image)) == pytest.approx(12.0, rel=0.05)

    def test_is_found_between_pixels_that_are_not_finite(self):
        image = lattice(12.0).astype(np.float32)
        image[:140, :150] = np.nan
        image[200:210, 30:60] = np.inf
        assert lattice_period(cut(image)) == pytest.approx(12.0, rel=0.05)

    @pytest.mark.parametrize("name", textures())
    def test_is_none_without_lattice(self, name):
        image = textures()[name]
        before = image.copy()
        assert lattice_period(cut(image)) is None
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 5), (9, 18), (20, 20)])
    def test_is_none_in_noise_of_any_shape(self, shape):
        assert lattice_period(cut(np.random.default_rng(0).normal(size=shape))) is None


class TestSide:
    def test_is_five_periods(self):
        assert default_side(lattice_period(cut(lattice(12.0))), SHAPE, True) == pytest.approx(
            60, abs=2
        )

    def test_is_at_least_56_pixels(self):
        assert default_side(5.0, SHAPE, False) == default_side(5.0, SHAPE, True) == 56

    @pytest.mark.parametrize("period", [12.0, 5.0, None])
    @pytest.mark.parametrize("dense", [True, False])
    def test_is_at_most_a_quarter_of_the_image(self, period, dense):
        assert default_side(period, (120, 340), dense) == 30

    def test_without_lattice_depends_on_the_encoder(self):
        assert default_side(None, (900, 700), False) == 64
        assert default_side(None, (900, 700), True) == 128

    @pytest.mark.parametrize(("least", "side"), [(68, 17), (40, 16), (16, 16), (10, 10), (1, 1)])
    def test_is_16_pixels_or_the_image_when_this_is_small(self, least, side):
        assert default_side(None, (least, 500), False) == side
        assert limited(1e300, (least, 500)) == side
        assert limited(2.0, (least, 500)) == min(16, least)


@pytest.mark.parametrize(
    ("chip", "nav", "shape", "stride"),
    [
        (128, (), (512, 640), 4),
        (13, (), (512, 640), 3),
        (3, (), (512, 640), 1),
        (128, (), (2048, 2048), 4),
        (128, (), (2048, 2049), 8),
        (128, (50,), (700, 800), 16),
        (40, (500,), (700, 800), 8),
    ],
)
def test_stride_of_a_dense_encoder(chip, nav, shape, stride):
    assert default_stride(chip, nav, shape, True) == stride
    assert default_stride(chip, nav, shape, False) == max(1, chip // 4)


class TestClassify:
    def test_measures_and_records_the_side(self):
        signal = hs.signals.Signal2D(lattice(12.0))
        result = signal.fewshot_classify(POSITIONS, encoder=moments, lazy_output=True)
        side = default_side(lattice_period(cut(signal.data)), SHAPE, False)
        assert side != 64
        assert result.classifier.recipe.grid.chip_size == side
        assert result.classifier.recipe.grid.stride == side // 4
        assert result.labels.metadata.FewShot.chip_size == side

    @pytest.mark.parametrize("chunks", [(260, 340), (97, 53), (260, 9)])
    def test_lazy_is_eager(self, chunks):
        image = lattice(12.0, degrees=20, counts=1.0)
        lazy = hs.signals.Signal2D(image).as_lazy()
        lazy.data = da.from_array(image, chunks=chunks)
        assert chip_size(lazy) == chip_size(image)

    def test_reads_the_windows_and_the_sample_only(self):
        image, read = lattice(12.0, shape=(1700, 1800)), []

        def reading(block, block_info=None):
            read.append(tuple(block_info[0]["chunk-location"]))
            return block

        lazy = hs.signals.Signal2D(image).as_lazy()
        data = da.from_array(image, chunks=(200, 200))
        lazy.data = data.map_blocks(reading, dtype=image.dtype, meta=image[:0, :0])
        windows = sample_windows(image.shape)
        chip_size(lazy, stride=200)
        held = {
            (row, column)
            for y, x in windows
            for row in range(y.start // 200, -(-y.stop // 200))
            for column in range(x.start // 200, -(-x.stop // 200))
        }
        first = set(read[: len(held)])
        assert first == held
        assert len(held) < 9 * 9

    def test_area_rois_come_first(self):
        support = {"a": hs.roi.RectangularROI(10, 10, 41, 41), "b": (300, 200)}
        with pytest.warns(UserWarning, match="With one example"):
            assert chip_size(lattice(12.0), support) == 31

    def test_small_area_rois_do_not_make_millions_of_chips(self):
        support = {"a": hs.roi.RectangularROI(10, 10, 13, 13), "b": (300, 200)}
        with pytest.warns(UserWarning, match="With one example"):
            assert chip_size(lattice(12.0), support) == 16

    def test_a_size_that_is_given_may_be_smaller(self):
        image = lattice(12.0)[:40, :50]
        ready = {"a": [image[:5, :5], image[9:14, :5]], "b": [image[20:25, :5], image[30:35, :5]]}
        assert chip_size(image, ready) == 5
        near = {"a": [(5, 5), (30, 9)], "b": [(40, 30), (9, 30)]}
        assert chip_size(image, near, chip_size=6) == 6

    def test_ready_chips_come_first(self):
        image = lattice(12.0)
        support = {
            "a": np.stack([image[:26, :26], image[30:56, 40:66]]),
            "b": np.stack([image[180:206, :26], image[220:246, 40:66]]),
        }
        assert chip_size(image, support) == 26

    def test_what_is_masked_does_not_count(self):
        image = np.random.default_rng(1).poisson(30.0, SHAPE)
        image[:, 170:] = lattice(12.0)[:, 170:]
        mask = np.zeros(SHAPE, bool)
        mask[:, 170:] = True
        support = {"a": [(60, 50), (100, 90)], "b": [(150, 210), (90, 200)]}
        assert chip_size(image, support) != 64
        assert chip_size(image, support, navigation_mask=mask.T) == 64

    @pytest.mark.parametrize(
        ("support", "options", "message"),
        [
            ({"a": (600, 20), "b": (20, 20)}, {}, "Example of class 'a'"),
            (POSITIONS, {"stride": 400}, "stride=400 px is larger"),
            (POSITIONS, {"navigation_mask": np.ones(SHAPE[::-1], bool)}, "leaves nothing"),
        ],
    )
    def test_wrong_calls_read_nothing(self, support, options, message):
        def fail(block):
            raise AssertionError("data were read")

        lazy = hs.signals.Signal2D(np.zeros(SHAPE)).as_lazy()
        lazy.data = lazy.data.map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
        with pytest.raises(ValueError, match=message):
            chip_size(lazy, support, **options)


@pytest.mark.parametrize("frames", [(), (3,), (2, 3)])
def test_a_lattice_is_recorded_in_the_recipe(frames):
    textured = np.random.default_rng(0).normal(size=(*frames, *SHAPE)).astype(np.float32)
    for image, found in (
        (np.broadcast_to(lattice(12.0), (*frames, *SHAPE)), True),
        (textured, False),
    ):
        signal = hs.signals.Signal2D(np.ascontiguousarray(image))
        recipe = signal.fewshot_embed(chip_size=40, stride=40, lazy_output=True).recipe
        assert recipe.grid.lattice is found
        assert [part.encoder.name for part in recipe.parts] == ["stem", "local"][: 2 - found]
        assert recipe.parts[0].encoder.textured is not found
