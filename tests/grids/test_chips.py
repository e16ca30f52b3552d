"""Chips lie where the documentation says, whatever part of the image was read."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hyperspy_fewshot.grids.chips import ChipGrid

NAV, IMAGE = (2,), (40, 57)
# Nothing is done to the chips.
AS_IS = SimpleNamespace(reduce=np.asarray)
# Odd and even; chips that overlap, touch, leave gaps, or nearly fill the image.
SIZES = [(16, 5), (16, 1), (13, 7), (13, 3), (16, 16), (5, 5), (4, 7), (3, 12), (39, 5), (40, 40)]


@pytest.fixture(scope="module")
def stack():
    return np.random.default_rng(0).integers(0, 60_000, (*NAV, *IMAGE)).astype(np.uint16)


def extended(stack):
    """Frames with all that reflection can add to them."""
    return np.pad(stack, [(0, 0)] + [(n - 1, n - 1) for n in stack.shape[1:]], mode="reflect")


def naive_chips(stack, size, stride):
    """All chips (nav, rows, columns, size, size), one after the other."""
    above, left = (n - 1 for n in stack.shape[1:])
    starts = [
        [int(np.floor(i * stride + (stride - size) / 2)) for i in range(-(-side // stride))]
        for side in stack.shape[1:]
    ]
    frames = extended(stack)
    chips = [
        frames[n, y + above : y + above + size, x + left : x + left + size]
        for n in range(len(stack))
        for y in starts[0]
        for x in starts[1]
    ]
    return np.reshape(chips, (len(stack), len(starts[0]), len(starts[1]), size, size))


def cut(grid, data, block, mask=None, size=7):
    """Chips of a block by flat index, cut out of nothing but its window."""
    window = data[grid.window(block)].copy()
    batches = list(grid.batches(window, block, mask, size, AS_IS))
    assert all(len(index) == len(chips) <= size for index, chips in batches)
    index = np.concatenate([index for index, _ in batches] or [np.empty(0, int)])
    chips = np.concatenate([chips for _, chips in batches] or [np.empty((0, *grid.item_shape))])
    return index, chips


def blocks_of(shape, sizes):
    """All blocks of a grid, cut at multiples of the sizes."""
    for corner in np.ndindex(*(-(-n // s) for n, s in zip(shape, sizes, strict=True))):
        yield tuple(
            slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(corner, sizes, shape, strict=True)
        )


@pytest.mark.parametrize("size, stride", SIZES)
def test_chips_equal_a_loop_over_the_padded_image(stack, size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride)
    expected = naive_chips(stack, size, stride)
    assert grid.shape == expected.shape[:3]
    index, chips = cut(grid, stack, tuple(slice(0, n) for n in grid.shape))
    np.testing.assert_array_equal(index, np.arange(np.prod(grid.shape)))
    np.testing.assert_array_equal(chips, expected.reshape(-1, size, size))
    assert chips.dtype == stack.dtype


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 2), (1, 4, 100)])
@pytest.mark.parametrize("size, stride", SIZES)
def test_every_partition_into_blocks_gives_the_same_chips(stack, size, stride, sizes):
    grid = ChipGrid(NAV, IMAGE, size, stride)
    expected = naive_chips(stack, size, stride)
    blocks = list(blocks_of(grid.shape, sizes))
    for block in blocks[:: max(1, len(blocks) // 150)] + blocks[-1:]:
        _, chips = cut(grid, stack, block)
        np.testing.assert_array_equal(chips, expected[block].reshape(-1, size, size))


def test_windows_stay_inside_the_data():
    grid = ChipGrid((3,), (40, 57), 16, 5)
    inner = grid.window((slice(1, 3), slice(2, 4), slice(3, 4)))
    assert inner == (slice(1, 3), slice(4, 25), slice(9, 25))
    corner = grid.window((slice(0, 1), slice(7, 8), slice(11, 12)))
    # The last pixel of the last chip, 64, is pixel 48 reflected at 56.
    assert corner == (slice(0, 1), slice(29, 40), slice(48, 57))


@pytest.mark.parametrize("size, stride", SIZES)
def test_centres_and_areas_of_the_cells(size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride)
    for axis, side in enumerate(IMAGE):
        expected = [(stride - 1) / 2 + i * stride for i in range(-(-side // stride))]
        np.testing.assert_allclose(grid.centres(axis), expected)
    sizes = [np.bincount(np.arange(side) // stride) for side in IMAGE]
    np.testing.assert_array_equal(grid.cell_areas(), np.outer(*sizes))
    assert grid.overlap == max(1, (size / stride) ** 2)
    assert grid.boundary * stride == pytest.approx(max(stride / 2, size / 16))


def test_centre_of_a_chip_is_the_centre_of_its_cell():
    rows, columns = np.indices((60, 60))
    for size, stride in [(13, 3), (13, 5), (16, 4), (8, 16), (13, 4), (16, 5)]:
        grid = ChipGrid((), (60, 60), size, stride)
        inside = (slice(8, 9), slice(7, 8)) if stride < 8 else (slice(2, 3), slice(1, 2))
        _, rows_of_chip = cut(grid, rows, inside)
        _, columns_of_chip = cut(grid, columns, inside)
        # Chips of odd size on an even stride, or the reverse, lie half a pixel early.
        early = 0.5 * ((size - stride) % 2)
        cell = [grid.centres(axis)[s.start] for axis, s in enumerate(inside)]
        assert rows_of_chip.mean() == cell[0] - early
        assert columns_of_chip.mean() == cell[1] - early


@pytest.mark.parametrize("size, stride", [(16, 5), (13, 7), (13, 3), (16, 4), (40, 5)])
def test_item_at_equals_the_chip_of_the_grid(stack, size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride)
    expected = naive_chips(stack, size, stride)
    offset = (stride - size) // 2 + size // 2
    for cell in [(0, 0, 0), (1, 3, 2), (0, grid.shape[1] - 1, 1), (1, 2, grid.shape[2] - 1)]:
        location = (cell[0], *(stride * i + offset for i in cell[1:]))
        window = stack[grid.window_at(location)]
        (chip,) = grid.item_at(window, location, None, AS_IS)
        np.testing.assert_array_equal(chip, expected[cell])


@pytest.mark.parametrize("size", [1, 2, 15, 16, 40])
def test_item_at_any_pixel_of_the_edge(stack, size):
    grid = ChipGrid(NAV, IMAGE, size, 4)
    for y, x in [(0, 0), (0, 56), (39, 0), (39, 56), (1, 20), (20, 55)]:
        window = stack[grid.window_at((1, y, x))]
        # A masked cell is still a place where an example may lie.
        (chip,) = grid.item_at(window, (1, y, x), np.ones(grid.shape, bool), AS_IS)
        top, left = y - size // 2 + 39, x - size // 2 + 56
        expected = extended(stack)[1, top : top + size, left : left + size]
        np.testing.assert_array_equal(chip, expected)
        assert chip[size // 2, size // 2] == stack[1, y, x]


@pytest.mark.parametrize("sizes, margin", [((1, 3, 4), 9), ((2, 100, 2), 70)])
@pytest.mark.parametrize("size, stride", SIZES)
def test_fields_hold_the_chips_and_what_surrounds_them(stack, size, stride, sizes, margin):
    grid = ChipGrid(NAV, IMAGE, size, stride, margin)
    bare = replace(grid, margin=0)
    for block in list(blocks_of(grid.shape, sizes))[:: max(1, grid.shape[2] // 4)]:
        fields = list(grid.fields(stack[grid.window(block)].copy(), block))
        assert len(fields) == block[0].stop - block[0].start
        centres = [bare.locations(axis)[block[1 + axis]] for axis in (0, 1)]
        for field, frame in zip(fields, stack[block[0]], strict=True):
            assert (field.chip_size, field.image_shape) == (size, IMAGE)
            # The chip of a cell whose centre lies outside is the one around the last pixel.
            np.testing.assert_array_equal(field.rows, centres[0] - size // 2)
            np.testing.assert_array_equal(field.columns, centres[1] - size // 2)
            first = [places[0] - margin for places in (field.rows, field.columns)]
            last = [places[-1] + size + margin for places in (field.rows, field.columns)]
            assert field.origin == tuple(first)
            wide = np.pad(frame, 150, mode="reflect")
            around = tuple(slice(a + 150, b + 150) for a, b in zip(first, last, strict=True))
            np.testing.assert_array_equal(field.pixels, wide[around])


@pytest.mark.parametrize("size, stride", SIZES)
def test_the_field_at_a_pixel_is_that_of_the_grid(stack, size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride, 9)
    rows, columns = (grid.locations(axis) for axis in (0, 1))
    for row, column in [(0, 0), (len(rows) // 2, len(columns) - 1), (len(rows) - 1, 0)]:
        block = (slice(1, 2), slice(row, row + 1), slice(column, column + 1))
        (expected,) = grid.fields(stack[grid.window(block)], block)
        place = (1, int(rows[row]), int(columns[column]))
        field = grid.field_at(stack[grid.window_at(place)], place)
        assert field.origin == expected.origin
        np.testing.assert_array_equal(
            [field.rows, field.columns], [expected.rows, expected.columns]
        )
        np.testing.assert_array_equal(field.pixels, expected.pixels)


def test_images_of_a_few_pixels():
    image = np.arange(6.0).reshape(2, 3)
    grid = ChipGrid((), (2, 3), 2, 1)
    _, chips = cut(grid, image, (slice(0, 2), slice(0, 3)))
    np.testing.assert_array_equal(chips, naive_chips(image[None], 2, 1).reshape(-1, 2, 2))
    single = ChipGrid((), (1, 3), 1, 1)
    _, chips = cut(single, image[:1], (slice(0, 1), slice(0, 3)))
    np.testing.assert_array_equal(chips.ravel(), [0, 1, 2])
    # A row of one pixel has nothing to reflect but itself.
    ahead = ChipGrid((), (1, 5), 1, 3)
    _, chips = cut(ahead, np.arange(5.0)[None], (slice(0, 1), slice(0, 2)))
    np.testing.assert_array_equal(chips.ravel(), [1, 4])


def test_masked_cells_are_left_out(stack):
    grid = ChipGrid(NAV, IMAGE, 16, 5)
    expected = naive_chips(stack, 16, 5)
    mask = np.random.default_rng(1).random(grid.shape) < 0.4
    block = (slice(1, 2), slice(2, 7), slice(0, 9))
    index, chips = cut(grid, stack, block, mask)
    np.testing.assert_array_equal(index, np.flatnonzero(~mask[block]))
    np.testing.assert_array_equal(chips, expected[block][~mask[block]])
    index, chips = cut(grid, stack, block, np.ones(grid.shape, bool))
    assert index.size == chips.size == 0


@pytest.mark.parametrize("margin", [0, 9])
@pytest.mark.parametrize("size, stride", SIZES)
def test_the_guide_is_the_mean_of_the_middle_of_each_chip(stack, size, stride, margin):
    grid = ChipGrid(NAV, IMAGE, size, stride, margin)
    side = min(size, stride)
    inner = slice((size - side) // 2, (size - side) // 2 + side)
    expected = naive_chips(stack, size, stride)[..., inner, inner].mean(axis=(-2, -1))
    # With a margin, the chip of a cell whose centre lies outside is another one.
    inside = [np.arange(n) * stride + (stride - size) // 2 + size // 2 for n in grid.shape[1:]]
    rows, columns = (np.flatnonzero(at < n) for at, n in zip(inside, IMAGE, strict=True))
    for block in list(blocks_of(grid.shape, (1, 5, 6)))[:: max(1, grid.shape[2] // 4)]:
        found = grid.guide(stack[grid.window(block)], block)
        assert found.dtype == np.float32
        found = found.reshape(tuple(s.stop - s.start for s in block))
        kept = np.zeros(grid.shape, bool)
        kept[:, rows[:, np.newaxis], columns] = True
        kept = kept[block] if margin else np.ones_like(kept[block])
        np.testing.assert_allclose(found[kept], expected[block][kept], rtol=1e-6)


@pytest.mark.parametrize("size, stride", SIZES)
def test_locations_are_the_centres_of_the_chips(size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride)
    for axis, side in enumerate(IMAGE):
        starts = np.arange(0, side, stride) + (stride - size) // 2
        np.testing.assert_array_equal(
            grid.locations(axis), np.minimum(starts + size // 2, side - 1)
        )


def test_every_pixel_lies_in_one_cell():
    grid = ChipGrid((2, 3), IMAGE, 16, 7)
    count = np.zeros(grid.shape, int)
    for place in np.ndindex(1, 2, *IMAGE):
        count[grid.cell_at(place)] += 1
    np.testing.assert_array_equal(count[0, :2], np.broadcast_to(grid.cell_areas(), (2, 6, 9)))
    assert count[1].sum() == count[0, 2].sum() == 0


@pytest.mark.parametrize(
    "stride, pixel, cell",
    [
        (7, (1, 3, 3), (1, 0, 0)),
        (7, (0, 38, 56), (0, 5, 8)),
        (7, (1, 17, 24), (1, 2, 3)),
        # The centre of this cell lies below the image.
        (13, (0, 39, 6), (0, 3, 0)),
    ],
)
def test_a_cell_is_masked_with_the_pixel_at_its_centre(stride, pixel, cell):
    mask = np.zeros((*NAV, *IMAGE), bool)
    mask[pixel] = True
    masked = ChipGrid(NAV, IMAGE, 16, stride).cell_mask(mask)
    np.testing.assert_array_equal(np.argwhere(masked), [cell])


@pytest.mark.parametrize("margin, sides", [(0, (1, 1, 204, 204)), (9, (1, 1, 51, 51))])
def test_blocks_hold_a_few_chips_of_one_frame(margin, sides):
    grid = ChipGrid((2, 3), (3000, 4000), 16, 5, margin)
    chunks = ((2,), (1, 2), (1500, 1500), (1000,) * 4)
    assert grid.block_shape(np.dtype("u2"), chunks) == sides


def test_the_same_chips_on_other_data():
    grid = ChipGrid((), (40, 57), 16, 5, 9)
    other = grid.for_data((3,), (80, 90), None)
    assert (other.shape, other.chip_size, other.margin) == ((3, 16, 18), 16, 9)
    assert grid.for_data((), (80, 90), 8).shape == (10, 12)
    assert grid.settings() == other.settings() == {"chip_size": 16}
