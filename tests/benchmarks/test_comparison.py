"""The default encoder is compared with the best of the others, draw by draw."""

import comparison
import numpy as np
import pytest
from scipy import stats


def test_interval_is_that_of_a_paired_t_test():
    one, two = np.random.default_rng(0).normal([0.80, 0.82], 0.03, (20, 2)).T
    found = comparison.paired_interval(one - two)
    expected = stats.ttest_rel(one, two).confidence_interval(0.95)
    np.testing.assert_allclose(found, [(one - two).mean(), expected.low, expected.high])
    assert np.isnan(comparison.paired_interval(np.array([0.1]))[1:]).all()


def test_interval_holds_the_true_mean_nineteen_times_in_twenty():
    draws = np.random.default_rng(1).normal(0.02, 0.05, (2000, 10))
    intervals = [comparison.paired_interval(values) for values in draws]
    assert np.mean([low <= 0.02 <= high for _, low, high in intervals]) == pytest.approx(
        0.95, abs=0.02
    )


def figures(**means):
    """Figures of 8 draws at 1 and 5 shots: the draws differ by up to 20 points, as a pair by 2."""
    shared = np.linspace(0, 0.2, 8)[:, np.newaxis]
    own = 0.01 * np.array([1, -1, 1, -1, 1, -1, 1, -1])[:, np.newaxis]
    found = {name: np.array(mean) + shared for name, mean in means.items()}
    return {**found, "stem": found["stem"] + own}


def test_the_default_is_behind_if_the_interval_lies_beyond_the_margin():
    task = figures(stem=[0.5, 0.7], pca=[0.55, 0.7], fourier=[0.4, 0.65], **{"mine.pt2": [1, 1]})
    # The half-width is 0.9 points: 2.3645 * 1.069 / sqrt(8).
    assert comparison.behind(task, "stem", 0, 0.03) == "-5.0 [-5.9, -4.1] pca"
    assert comparison.behind(task, "stem", 0, 0.042) is None
    assert comparison.behind(task, "stem", 1, 0.0) is None
    assert comparison.behind({n: f[:1] for n, f in task.items()}, "stem", 0, 0.03) is None


def test_table_has_means_counts_and_names():
    trials = {
        ("image", "nasa_superalloy/a"): figures(
            stem=[0.5, 0.7], pca=[0.6, 0.6], fourier=[0.2, 0.2], intensity=[0.3, 0.3]
        ),
        ("image", "set/b"): figures(
            stem=[0.7, 0.5], pca=[0.2, 0.2], fourier=[0.2, 0.515], intensity=[0.3, 0.3]
        ),
        ("spectrum", "set/c"): {
            name: np.full((8, 2), 0.5) for name in ("spectrum", "pca", "sqrt spectrum")
        },
        # Without the default encoder there is nothing to compare.
        ("pattern", "set/d"): {"pca": np.ones((8, 2))},
    }
    head, *lines = comparison.rows(trials, [1, 5])
    assert all(len(line) == len(head) for line in lines)
    assert [line[:2] for line in lines] == [
        ["1", "2 images"], ["1", "1 superalloys"], ["1", "1 spectra"],
        ["5", "2 images"], ["5", "1 superalloys"], ["5", "1 spectra"],
    ]  # fmt: skip
    assert lines[0][2:] == [
        "stem",
        "0.700",
        "fourier 0.300, pca 0.500, intensity 0.400",
        "1 by more than 3 points: nasa_superalloy/a -10.0 [-10.9, -9.1] pca",
    ]
    assert lines[2][2:] == [
        "spectrum", "0.500", "pca 0.500, sqrt spectrum 0.500", "0 by more than 3 points",
    ]  # fmt: skip
    # 1.5 points less with a half-width of 0.9 do not lie wholly beyond 1 point.
    assert lines[3][-1] == "0 by more than 1 point"
    assert len(list(comparison.rows(trials, [2, 10]))) == 1
