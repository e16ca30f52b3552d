"""A domain knows on which axes positions are given, and where labels lie."""

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot.grids.chips import ChipGrid


def names(axes):
    return [axis.name for axis in axes]


@pytest.fixture
def series():
    signal = hs.signals.Signal2D(np.zeros((2, 3, 40, 57)))
    for axis, name in zip(signal.axes_manager._axes, ["t", "z", "y", "x"], strict=True):
        axis.name = name
    return signal


def test_axes_of_a_stack_of_images(series, tools):
    domain = tools.image_domain(series, 16, 7)
    assert domain.is_image
    assert names(domain.axes) == ["z", "t", "x", "y"]
    assert names(domain.map_axes) == ["x", "y"]
    assert names(domain.frame_axes) == ["z", "t"]
    assert domain.to_array_order((2, 1, 50, 30)) == (1, 2, 30, 50)
    assert domain.on_map((2, 1, 50, 30)) == ((2, 1), (50, 30))
    rows, columns = domain.cells_of_map()
    assert rows.tolist() == [3, 10, 17, 24, 31, 38]
    assert len(columns) == 9


def test_axes_of_a_series_of_scans(tools):
    signal = hs.signals.Signal1D(np.zeros((2, 5, 7, 4)))
    for axis, name in zip(signal.axes_manager._axes, ["t", "y", "x", "E"], strict=True):
        axis.name = name
    domain = tools.scan_domain(signal)
    assert not domain.is_image
    assert names(domain.axes) == ["x", "y", "t"]
    assert names(domain.map_axes) == ["x", "y"]
    assert names(domain.frame_axes) == ["t"]
    assert names(domain.signal_axes) == ["E"]
    assert domain.to_array_order((6, 4, 1)) == (1, 4, 6)
    assert domain.on_map((6, 4, 1)) == ((1,), (6, 4))
    assert [len(cells) for cells in domain.cells_of_map()] == [5, 7]


def test_a_line_scan(tools):
    domain = tools.scan_domain(hs.signals.Signal1D(np.zeros((7, 4))))
    assert len(domain.axes) == len(domain.map_axes) == 1
    assert domain.frame_axes == ()
    (cells,) = domain.cells_of_map()
    assert cells.tolist() == list(range(7))


def test_a_domain_does_not_follow_changes_of_the_signal(image, tools):
    domain = tools.image_domain(image)
    image.axes_manager[0].scale = 77.0
    assert domain.signal_axes[0].scale == 0.5
    other = domain.on(ChipGrid((), (41, 53), 16, 7))
    assert other.grid.chip_size == 16
    assert other.signal_axes[0].scale == 0.5
