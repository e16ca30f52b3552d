"""Chips lie where the documentation says, whatever part of the image is in hand."""

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fewshot.chips import ChipGrid

NAV, IMAGE = (2,), (40, 57)
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
    """Chips of a block by flat index, cut out of nothing but its region."""
    region = data[grid.region(block)].copy()
    batches = list(grid.batches(region, block, mask, size))
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


def test_region_stays_inside_the_data():
    grid = ChipGrid((3,), (40, 57), 16, 5)
    inner = grid.region((slice(1, 3), slice(2, 4), slice(3, 4)))
    assert inner == (slice(1, 3), slice(4, 25), slice(9, 25))
    corner = grid.region((slice(0, 1), slice(7, 8), slice(11, 12)))
    # The last pixel of the last chip, 64, is pixel 48 reflected at 56.
    assert corner == (slice(0, 1), slice(29, 40), slice(48, 57))


@pytest.mark.parametrize("size, stride", SIZES)
def test_centres_and_areas_of_the_cells(size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride)
    for axis, side in enumerate(IMAGE):
        expected = [(stride - 1) / 2 + i * stride for i in range(-(-side // stride))]
        np.testing.assert_allclose(grid.centres(axis), expected)
        owner = np.arange(side) // stride
        np.testing.assert_array_equal(grid.cell_sizes(axis), np.bincount(owner))
    assert grid.cell_areas().shape == grid.shape[1:]
    assert grid.cell_areas().sum() == np.prod(IMAGE)
    assert grid.overlap == max(1, (size / stride) ** 2)


def test_centre_of_a_chip_is_the_centre_of_its_cell():
    rows, columns = np.indices((60, 60))
    for size, stride in [(13, 3), (13, 5), (16, 4), (8, 16), (13, 4), (16, 5)]:
        grid = ChipGrid((), (60, 60), size, stride)
        inside = (slice(8, 9), slice(7, 8)) if stride < 8 else (slice(2, 3), slice(1, 2))
        ((_, rows_of_chip),) = grid.batches(rows[grid.region(inside)], inside, None, 1)
        ((_, columns_of_chip),) = grid.batches(columns[grid.region(inside)], inside, None, 1)
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
        chip = grid.item_at(stack[grid.region_at(location)], location)
        np.testing.assert_array_equal(chip, expected[cell])


@pytest.mark.parametrize("size", [1, 2, 15, 16, 40])
def test_item_at_any_pixel_of_the_edge(stack, size):
    grid = ChipGrid(NAV, IMAGE, size, 4)
    for y, x in [(0, 0), (0, 56), (39, 0), (39, 56), (1, 20), (20, 55)]:
        region = stack[grid.region_at((1, y, x))]
        chip = grid.item_at(region, (1, y, x), mask=np.ones(grid.shape, bool))
        top, left = y - size // 2 + 39, x - size // 2 + 56
        expected = extended(stack)[1, top : top + size, left : left + size]
        np.testing.assert_array_equal(chip, expected)
        assert chip[size // 2, size // 2] == stack[1, y, x]


@pytest.mark.parametrize("sizes", [(1, 3, 4), (2, 100, 2)])
@pytest.mark.parametrize("size, stride", SIZES)
def test_fields_hold_the_chips_and_what_surrounds_them(stack, size, stride, sizes):
    margin = 9
    grid = ChipGrid(NAV, IMAGE, size, stride, margin)
    bare = replace(grid, margin=0)
    for block in list(blocks_of(grid.shape, sizes))[:: max(1, grid.shape[2] // 4)]:
        fields = list(grid.fields(stack[grid.region(block)].copy(), block))
        assert len(fields) == block[0].stop - block[0].start
        centres = [bare.centre_pixels(axis)[block[1 + axis]] for axis in (0, 1)]
        for field, frame in zip(fields, stack[block[0]], strict=True):
            assert (field.chip_size, field.image_shape) == (size, IMAGE)
            # The chip of a cell whose centre lies outside is the one around the last pixel.
            np.testing.assert_array_equal(field.rows, centres[0] - size // 2)
            np.testing.assert_array_equal(field.columns, centres[1] - size // 2)
            first = [places[0] - margin for places in (field.rows, field.columns)]
            last = [places[-1] + size + margin for places in (field.rows, field.columns)]
            assert field.origin == tuple(first)
            wide = np.pad(frame, 80, mode="reflect")
            around = tuple(slice(a + 80, b + 80) for a, b in zip(first, last, strict=True))
            np.testing.assert_array_equal(field.pixels, wide[around])


@pytest.mark.parametrize("size, stride", SIZES)
def test_the_field_at_a_pixel_is_that_of_the_grid(stack, size, stride):
    grid = ChipGrid(NAV, IMAGE, size, stride, 9)
    rows, columns = (grid.centre_pixels(axis) for axis in (0, 1))
    for row, column in [(0, 0), (len(rows) // 2, len(columns) - 1), (len(rows) - 1, 0)]:
        block = (slice(1, 2), slice(row, row + 1), slice(column, column + 1))
        (expected,) = grid.fields(stack[grid.region(block)], block)
        place = (1, int(rows[row]), int(columns[column]))
        field = grid.field_at(stack[grid.region_at(place)], place)
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
