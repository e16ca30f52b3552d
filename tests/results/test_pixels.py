"""Labels of the pixels of an image."""

import hyperspy.api as hs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_fewshot import FewShotResult
from hyperspy_fewshot.results import pixels

SETTINGS = {"chip_size": 16, "stride": 4, "show_progressbar": False}


@pytest.fixture(scope="module")
def truth():
    rows, columns = np.indices((118, 137))
    return (np.hypot(rows - 50, columns - 70) < 31).astype(int)


@pytest.fixture(scope="module")
def signal(truth):
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    return hs.signals.Signal2D((100 + 80 * truth + noise).astype(np.float32))


@pytest.fixture(scope="module")
def result(signal):
    support = {"film": [(10, 10), (120, 100)], "particle": [(70, 50), (60, 60)]}
    return signal.fewshot_classify(support, reject=False, **SETTINGS)


def test_boundaries_are_known_to_a_pixel(result, truth):
    cells = result.labels.data.repeat(4, 0).repeat(4, 1)[: truth.shape[0], : truth.shape[1]]
    found = result.labels_at_pixels().data
    assert (found != truth).mean() < 0.003 < (cells != truth).mean()


def test_equals_a_naive_loop(result, signal):
    probabilities = np.moveaxis(result.probabilities.data, 0, -1).astype(float)
    levels = result.embedding_map.recipe.contrast
    guide = result.embedding_map.guide.data.astype(float) / levels
    grey = gaussian_filter(signal.data, 1, mode="nearest") / levels
    lines = np.empty((2, *probabilities.shape))
    for row, column in np.ndindex(guide.shape):
        here = tuple(slice(max(0, i - 1), i + 2) for i in (row, column))
        x, y = guide[here].ravel(), probabilities[here].reshape(-1, 2)
        slope = ((x - x.mean()) @ (y - y.mean(0)) / len(x)) / (x.var() + 1e-3)
        lines[:, row, column] = slope, y.mean(0) - slope * x.mean()
    slopes, level = (
        np.array(
            [
                [
                    one[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].mean((0, 1))
                    for c in range(guide.shape[1])
                ]
                for r in range(guide.shape[0])
            ]
        )
        for one in lines
    )
    found = result.labels_at_pixels().data
    rng = np.random.default_rng(1)
    for row, column in rng.integers(4, 110, (60, 2)):
        at = [(i - 1.5) / 4 for i in (row, column)]
        low = [int(i) for i in at]
        total = 0
        for i, j in np.ndindex(2, 2):
            share = abs(1 - i - (at[0] - low[0])) * abs(1 - j - (at[1] - low[1]))
            cell = low[0] + i, low[1] + j
            total = total + share * (slopes[cell] * grey[row, column] + level[cell])
        if abs(total[0] - total[1]) > 1e-3:
            assert found[row, column] == total.argmax()


def test_strips_do_not_show(result, monkeypatch):
    whole = result.labels_at_pixels().data
    monkeypatch.setattr(pixels, "_ROWS", 17)
    np.testing.assert_array_equal(result.labels_at_pixels().data, whole)


def test_lazy_equals_eager(signal, result):
    lazy = signal.as_lazy()
    lazy.data = lazy.data.rechunk((50, 41))
    found = lazy.fewshot_classify(result.support, reject=False, **SETTINGS)
    np.testing.assert_array_equal(found.labels_at_pixels().data, result.labels_at_pixels().data)


def test_what_is_rejected_or_masked_is_so_with_its_cell(signal, result):
    mask = np.zeros((137, 118), bool)
    mask[30:60, 70:90] = True
    support = {**result.support.examples, "rejected": [(70, 40)]}
    found = signal.fewshot_classify(support, navigation_mask=mask, **SETTINGS)
    cells = found.labels.data.repeat(4, 0).repeat(4, 1)[:118, :137]
    at_pixels = found.labels_at_pixels().data
    assert {-2, -1} <= set(np.unique(cells).tolist())
    np.testing.assert_array_equal(np.minimum(at_pixels, 0), np.minimum(cells, 0))


def test_a_loaded_result_interpolates(result, truth, tmp_path):
    result.save(tmp_path / "result.hspy")
    found = FewShotResult.load(tmp_path / "result.hspy").labels_at_pixels().data
    cells = result.labels.data.repeat(4, 0).repeat(4, 1)[: truth.shape[0], : truth.shape[1]]
    assert (found != truth).mean() < (cells != truth).mean()


def test_the_mask_of_a_class_follows_the_pixels(result):
    found = result.mask("particle").data
    np.testing.assert_array_equal(found, result.labels_at_pixels().data == 1)
