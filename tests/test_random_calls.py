"""Random calls are right, or raise one of the documented errors with a message of the package.

The calls are drawn from a fixed seed. A call is right if its label map has the promised shape and
values, masked and non-finite data are masked, probabilities are consistent with the labels, the
signal is unchanged, and a lazy call in other chunks gives the same.
"""

import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import dask.array as da
import hyperspy.api as hs
import numpy as np
from hyperspy.exceptions import SignalDimensionError
from hyperspy.signals import LazySignal1D, LazySignal2D, Signal1D, Signal2D
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hyperspy_fewshot

PACKAGE = Path(hyperspy_fewshot.__file__).parent
DTYPES = ["bool", "u1", "i2", "u4", "i8", "f2", "f4", "f8", ">f4", ">u2"]
ENCODERS = {
    "image": ["pca", "pca", "pca", "fourier", "fourier", None],
    "pattern": ["pca", "pca", "fourier", None],
    "spectrum": ["pca", None],
}
SCORES_APART = 1e-3


@dataclass
class Call:
    """A signal, in memory and lazy, a support set, and settings."""

    kind: str
    data: np.ndarray
    dimension: int
    chunks: tuple
    axes: list = field(repr=False)
    support: dict
    settings: dict

    def signal(self, lazy=False):
        data = da.from_array(self.data, chunks=self.chunks) if lazy else self.data.copy()
        axes = [dict(axis) for axis in self.axes]
        classes = {1: (Signal1D, LazySignal1D), 2: (Signal2D, LazySignal2D)}
        return classes[self.dimension][lazy](data, axes=axes)


@st.composite
def calls(draw):
    """Draw a small call of any kind; most are right, some are wrong in one of many ways."""
    kind = draw(st.sampled_from(["image", "stack", "pattern", "spectrum"]))
    sides = st.integers(1, 9)
    if kind == "image":
        nav, signal = (), (draw(st.integers(4, 36)), draw(st.integers(4, 36)))
    elif kind == "stack":
        nav, signal = (
            (draw(st.integers(1, 3)),),
            (draw(st.integers(4, 24)), draw(st.integers(4, 24))),
        )
    else:
        nav = tuple(draw(st.lists(sides, min_size=1, max_size=3)))
        longest = 40 if kind == "spectrum" else 20
        n = 1 if kind == "spectrum" else 2
        signal = tuple(draw(st.lists(st.integers(2, longest), min_size=n, max_size=n)))
    shape = (*nav, *signal)
    axes = [draw(axis(size, i < len(nav))) for i, size in enumerate(shape)]
    data = draw(values(shape, len(nav), kind))
    chunks = tuple(draw(st.integers(1, size)) if draw(st.booleans()) else size for size in shape)
    places = (
        axes[: len(nav)][::-1]
        if kind in ("pattern", "spectrum")
        else [*axes[: len(nav)][::-1], *axes[len(nav) :][::-1]]
    )
    examples = st.lists(example(kind, places, signal), min_size=1, max_size=4)
    count = draw(seldom(1, 2, 2, 3))
    support = {name: draw(examples) for name in ("matrix", "$x_1^2$", "_phase")[:count]}
    return Call(kind, data, len(signal), chunks, axes, support, draw(options(kind, nav, signal)))


def seldom(rare, *usual):
    """One of some usual values, or now and then a rare one."""
    return st.sampled_from([*usual * (20 // len(usual)), rare])


@st.composite
def axis(draw, size, navigate):
    """Draw an axis as a dictionary."""
    common = {"name": "", "units": draw(st.sampled_from(["nm", "", "eV"])), "navigate": navigate}
    if draw(st.integers(0, 9)) == 0:
        steps = draw(st.lists(st.floats(0.1, 2.0), min_size=size, max_size=size))
        return {**common, "axis": np.cumsum(steps), "_type": "DataAxis"}
    scale = draw(st.sampled_from([1.0, 0.5, -0.2, 1e-9, 3e6]))
    return {
        **common,
        "size": size,
        "scale": scale,
        "offset": draw(st.sampled_from([0.0, -3.5, 1e3])),
    }


@st.composite
def values(draw, shape, n_nav, kind):
    """Draw data with two classes, sometimes with bad or masked values."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    data = rng.poisson(draw(st.sampled_from([0.1, 5.0, 90.0])), shape).astype(float)
    half = shape[-1] // 2 if n_nav == 0 or kind == "stack" else shape[n_nav - 1] // 2
    where = (
        (..., slice(half, None))
        if n_nav == 0 or kind == "stack"
        else (*(slice(None),) * (n_nav - 1), slice(half, None))
    )
    data[where] *= draw(st.sampled_from([1, 2, 5]))
    data = data.astype(draw(st.sampled_from(DTYPES)))
    flaw = draw(st.sampled_from(["none", "none", "none", "nan", "inf", "masked", "constant"]))
    bad = rng.random(shape) < 1 / max(20, data.size / 3)
    if flaw in ("nan", "inf") and data.dtype.kind == "f":
        data[bad] = np.nan if flaw == "nan" else np.inf
    elif flaw == "masked":
        data = np.ma.masked_array(data, bad)
    elif flaw == "constant":
        data[:] = 1
    return data


@st.composite
def example(draw, kind, axes, signal):
    """Draw an example: a position, an ROI or ready data, now and then outside."""
    form = draw(st.sampled_from(["index"] * 6 + ["value"] * 3 + ["roi"] * 3 + ["ready"]))
    if form == "ready":
        shape = (8, 8) if kind in ("image", "stack") else signal
        return np.random.default_rng(draw(st.integers(0, 9))).normal(size=(1, *shape))
    outside = draw(seldom(True, False))
    index = [
        draw(st.integers(-n - 1, n) if outside else st.integers(0, n - 1))
        for n in map(size_of, axes)
    ]
    if form == "index":
        return tuple(index) if len(index) > 1 or draw(st.booleans()) else index[0]
    coordinates = [
        float(values_of(a)[i]) if 0 <= i < size_of(a) else 1e9
        for a, i in zip(axes, index, strict=True)
    ]
    if form == "value":
        return tuple(coordinates)
    frame, coordinates = (
        (index[:-2], coordinates[-2:]) if kind in ("image", "stack") else ((), coordinates)
    )
    roi = draw(rois(coordinates, axes[-2:] if kind in ("image", "stack") else axes))
    return (tuple(frame), roi) if frame else roi


@st.composite
def rois(draw, centre, axes):
    """Draw an ROI around a place."""
    reach = [abs(extent_of(a)) * draw(st.floats(0.0, 0.6)) + 1e-3 for a in axes]
    low = [c - r for c, r in zip(centre, reach, strict=True)]
    high = [c + r for c, r in zip(centre, reach, strict=True)]
    roi = hs.roi
    if len(centre) == 1:
        return draw(st.sampled_from([roi.SpanROI(low[0], high[0]), roi.Point1DROI(centre[0])]))
    radius = draw(seldom(1e300, reach[0]))
    (left, top), (right, bottom) = low[:2], high[:2]
    return draw(
        st.sampled_from(
            [
                roi.RectangularROI(left, top, right, bottom),
                roi.CircleROI(*centre[:2], radius),
                roi.CircleROI(*centre[:2], reach[0], reach[0] / 2),
                roi.PolygonROI([(left, top), (right, top), (right, bottom)]),
                roi.Point2DROI(*centre[:2]),
            ]
        )
    )


@st.composite
def options(draw, kind, nav, signal):
    """Draw settings."""
    modality = "image" if kind == "stack" else kind
    chosen = {
        "encoder": draw(st.sampled_from(ENCODERS[modality])),
        "reject": draw(seldom(2.0, True, True, False, 0.05)),
    }
    if modality == "image":
        chosen["chip_size"] = draw(seldom(41, 8, 8, 4, 5, 1))
        chosen["stride"] = draw(seldom(99, None, 3, 4, 9))
        if kind == "image" and draw(st.booleans()):
            chosen["chip_size"] = None
        maskable = signal
    else:
        chosen["context"] = draw(seldom(0, None, None, 1, 3, 5))
        maskable = nav
        if draw(st.integers(0, 4)) == 0:
            chosen["signal_mask"] = np.random.default_rng(0).random(signal[::-1]) < 0.3
    if draw(st.integers(0, 3)) == 0:
        chosen["navigation_mask"] = np.random.default_rng(1).random(maskable[::-1]) < 0.3
    return {name: value for name, value in chosen.items() if value is not None}


def size_of(axis):
    return axis["size"] if "size" in axis else len(axis["axis"])


def values_of(axis):
    if "axis" in axis:
        return axis["axis"]
    return axis["offset"] + axis["scale"] * np.arange(axis["size"])


def extent_of(axis):
    return float(values_of(axis)[-1] - values_of(axis)[0])


def outcome(call, lazy):
    """Return the result of a call, or the error that it raised."""
    signal = call.signal(lazy)
    try:
        result = signal.fewshot_classify(call.support, **call.settings).compute()
    except (TypeError, ValueError, SignalDimensionError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        assert raised_in.is_relative_to(PACKAGE), f"a raw error from {raised_in}: {error!r}"
        return error
    if not lazy:
        assert np.array_equal(signal.data, call.data, equal_nan=call.data.dtype.kind == "f")
    return result


@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(calls())
def test_a_call_is_right_or_refused(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        eager, lazy = outcome(call, False), outcome(call, True)
    if isinstance(eager, Exception):
        assert (type(lazy), str(lazy)) == (type(eager), str(eager))
        return
    assert not isinstance(lazy, Exception), f"only the lazy call raised {lazy!r}"
    check_right(call, eager)
    check_same(eager, lazy)


def check_right(call, result):
    """Compare a result with what the documentation promises."""
    labels, probabilities = result.labels.data, result.probabilities.data
    confidence, k = result.confidence.data, len(call.support)
    assert type(result.labels).__name__.startswith("LabelMap") and labels.dtype == np.int16
    assert probabilities.shape == (k, *labels.shape) and confidence.shape == labels.shape
    assert labels.min() >= -2 and labels.max() < k
    masked = labels == -2
    assert np.isnan(probabilities).all(axis=0)[masked].all()
    np.testing.assert_allclose(probabilities[:, ~masked].sum(axis=0), 1, atol=1e-5)
    named = labels >= 0
    own = np.take_along_axis(probabilities, labels[np.newaxis].clip(0), axis=0)[0]
    assert np.array_equal(own[named], confidence[named]) and np.isnan(confidence[~named]).all()
    if call.kind in ("pattern", "spectrum"):
        assert np.array_equal(masked, expected_mask(call))
    if not masked.all():
        rows = result.statistics.to_dict()
        shares = [row["fraction"] for name, row in rows.items() if name != "masked"]
        np.testing.assert_allclose(sum(shares), 1, atol=1e-9)


def expected_mask(call):
    """Positions that the user leaves out, or whose data are not finite or masked."""
    data, nav = call.data, call.data.ndim - call.dimension
    bad = ~np.isfinite(np.ma.getdata(data).astype(float)) | np.ma.getmaskarray(data)
    mask = call.settings.get("signal_mask")
    if mask is not None:
        bad &= ~mask.T
    left_out = bad.any(axis=tuple(range(nav, data.ndim)))
    given = call.settings.get("navigation_mask")
    return left_out if given is None else left_out | given.T


def check_same(eager, lazy):
    """Compare labels wherever the two best classes are clearly apart."""
    ordered = np.sort(np.nan_to_num(eager.probabilities.data), axis=0)
    clear = ordered[-1] - ordered[-2] > SCORES_APART
    masked = eager.labels.data == -2
    assert np.array_equal(masked, lazy.labels.data == -2)
    np.testing.assert_allclose(
        lazy.probabilities.data, eager.probabilities.data, atol=2e-3, equal_nan=True
    )
    same = eager.labels.data == lazy.labels.data
    assert same[clear & ~masked].all()
