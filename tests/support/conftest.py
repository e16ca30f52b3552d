"""Signals with calibrated axes, ROIs and domains that several test modules of this room use."""

from types import SimpleNamespace

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import SupportSet
from hyperspy_fewshot.grids.chips import ChipGrid
from hyperspy_fewshot.grids.positions import PositionGrid
from hyperspy_fewshot.support.domain import Domain

roi = hs.roi
# Scales and offsets that differ in x and y, one of them negative.
X, Y = {"name": "x", "scale": 0.5, "offset": -3.0}, {"name": "y", "scale": 2.0, "offset": 10.0}
ROIS = {
    "rectangle": roi.RectangularROI(-1.0, 30.0, 9.0, 60.0),
    "circle": roi.CircleROI(6.0, 50.0, 9.0),
    "ring": roi.CircleROI(6.0, 50.0, 12.0, 6.0),
    "polygon": roi.PolygonROI([(-2.3, 21.0), (12.4, 33.0), (7.2, 77.7), (0.3, 60.1)]),
    "small circle": roi.CircleROI(3.2, 41.2, 0.01),
    "small rectangle": roi.RectangularROI(3.1, 41.1, 3.2, 41.2),
    "point": roi.Point2DROI(3.1, 41.1),
    "over the edge": roi.RectangularROI(-30.0, 0.0, 1.0, 28.0),
}


def calibrated(signal, axes):
    for axis, values in zip(axes, (X, Y), strict=True):
        for key, value in values.items():
            setattr(axis, key, value)
    return signal


def shapes(signal):
    axes = signal.axes_manager
    return tuple(axes.navigation_shape[::-1]), tuple(axes.signal_shape[::-1])


def image_domain(signal, chip_size=8, stride=3):
    return Domain.of(ChipGrid(*shapes(signal), chip_size, stride), signal)


def scan_domain(signal, **options):
    return Domain.of(PositionGrid(*shapes(signal), **options), signal)


def locations(example, domain):
    """Set of indices at which one example is found."""
    ((_, _, (shot,)),) = SupportSet({"a": example}).locate(domain)
    return {tuple(map(int, place)) for place in shot.locations}


def every_kind():
    """A support set with an example of each kind."""
    labels = np.zeros((41, 53), int)
    labels[3:9, 4:20], labels[9, 5], labels[30:35, 30:34] = 1, 1, 1
    (scribble,) = SupportSet.from_label_map(labels, ["x"]).examples.values()
    line = hs.signals.Signal1D(np.arange(12.0).reshape(3, 4))
    line.axes_manager[-1].units, line.axes_manager[-1].offset = "eV", 5.0
    return SupportSet(
        {
            "rois": [*ROIS.values(), roi.SpanROI(1.0, 2.0), roi.Point1DROI(3.0)],
            "positions": [(1, 2), (1.5, 2.0), (np.int64(3), np.float32(0.5)), 7, 2.5, (1, 2, 3)],
            "frames / of stacks": [(0, roi.Point2DROI(1.0, 2.0)), ((1, 2.5), ROIS["polygon"])],
            "scribbles": scribble,
            "arrays of positions": [np.array([(1, 2), (3, 4), (5, 6)]), np.array([(0.5, 30.0)])],
            "ready": [
                np.arange(16, dtype="uint8").reshape(4, 4),
                line,
                hs.signals.Signal2D(np.eye(3)),
            ],
        }
    )


@pytest.fixture(scope="session")
def tools():
    """What test modules cannot import from here."""
    return SimpleNamespace(
        ROIS=ROIS,
        calibrated=calibrated,
        image_domain=image_domain,
        scan_domain=scan_domain,
        locations=locations,
        every_kind=every_kind,
    )


@pytest.fixture
def image():
    signal = hs.signals.Signal2D(np.random.default_rng(0).random((41, 53)))
    return calibrated(signal, signal.axes_manager.signal_axes)


@pytest.fixture
def scan():
    signal = hs.signals.Signal1D(np.random.default_rng(0).random((41, 53, 4)))
    return calibrated(signal, signal.axes_manager.navigation_axes)


@pytest.fixture
def stack():
    signal = hs.signals.Signal2D(np.zeros((4, 3, 41, 53)))
    return calibrated(signal, signal.axes_manager.signal_axes)
