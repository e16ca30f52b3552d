"""Negative examples, from the support set to the label map."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fewshot as hf

# Class of every position: two classes, and a third kind of spectra that belongs to neither.
KINDS = np.zeros((12, 15), int)
KINDS[:, 8:] = 1
KINDS[3:6, 6:10] = 2
KINDS[9, 3] = 2
SUPPORT = {"a": [(1, 1), (2, 8), (5, 11)], "b": [(12, 2), (13, 9), (10, 10)]}
NEGATIVES = [(7, 4), (8, 4)]


def scan(lazy=False, seed=0):
    """Spectra (15, 12|30) of Poisson counts."""
    channels = np.arange(30)
    # The third kind resembles the first one.
    peaks = np.array([[8, 8], [20, 20], [8, 8.5]])
    spectra = np.exp(-((channels - peaks[..., np.newaxis]) ** 2) / 8).sum(axis=1)
    data = np.random.default_rng(seed).poisson(400 * spectra[KINDS] + 3)
    signal = hs.signals.Signal1D(data)
    if lazy:
        signal = signal.as_lazy()
        signal.data = da.from_array(data, chunks=(5, 4, 30))
    return signal


def classified(support, lazy=False, **settings):
    settings = {"context": 1, "encoder": "pca", **settings}
    return scan(lazy).fewshot_classify(support, **settings).compute()


@pytest.fixture(scope="module")
def result():
    return classified({**SUPPORT, "rejected": NEGATIVES})


def test_what_is_nearest_to_them_is_rejected(result):
    embeddings = result.embedding_map.embeddings.data
    judged = result.classifier.judge(embeddings)[..., -2]
    np.testing.assert_array_equal(judged == -3, KINDS == 2)
    np.testing.assert_array_equal(result.labels.data, np.where(KINDS == 2, -1, KINDS))
    assert result.class_names == ("a", "b")
    assert set(result.statistics.fractions) == {"a", "b"}
    assert result.statistics.to_dict()["rejected"]["count"] == (KINDS == 2).sum()
    assert np.isnan(result.confidence.data[KINDS == 2]).all()


def test_lazy_data_give_the_same(result):
    lazy = classified({**SUPPORT, "rejected": NEGATIVES}, lazy=True)
    np.testing.assert_array_equal(lazy.labels.data, result.labels.data)


def test_they_are_added_and_removed_one_by_one():
    first = classified(SUPPORT)
    second = first.update({"rejected": NEGATIVES})
    assert second.support.negatives == NEGATIVES
    assert second.support.shots == {"a": 3, "b": 3}
    np.testing.assert_array_equal(second.labels.data, np.where(KINDS == 2, -1, KINDS))
    third = second.update(remove={"rejected": 0})
    assert third.support.negatives == NEGATIVES[1:]
    last = third.update(remove={"rejected": [0]})
    assert last.support.negatives == []
    np.testing.assert_array_equal(last.labels.data, first.labels.data)
    np.testing.assert_array_equal(last.probabilities.data, first.probabilities.data)


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_they_survive_a_file_and_are_used_on_other_data(result, suffix, tmp_path):
    result.save(tmp_path / f"result{suffix}")
    loaded = hf.FewShotResult.load(tmp_path / f"result{suffix}")
    assert loaded.support.negatives == NEGATIVES
    assert "1 negative" not in repr(loaded.support)
    assert "2 negative examples" in repr(loaded.support)
    other = scan(seed=1).fewshot_classify(loaded)
    np.testing.assert_array_equal(other.labels.data, np.where(KINDS == 2, -1, KINDS))


def test_without_rejection_they_are_refused(result):
    with pytest.raises(ValueError, match=r"reject=False contradicts the 2 negative examples"):
        classified({**SUPPORT, "rejected": NEGATIVES}, reject=False)
    with pytest.raises(ValueError, match=r"leave reject out, or remove them"):
        result.update(reject=False)
    assert result.update(remove={"rejected": [0, 1]}, reject=False).classifier.rejects is False


def test_they_are_not_counted_among_the_classes():
    with pytest.raises(ValueError, match=r"at least two classes, got \['a'\]"):
        classified({"a": [(1, 1)], "rejected": NEGATIVES})


def test_one_outside_the_data():
    with pytest.raises(ValueError, match="class 'rejected': index 90 lies outside"):
        classified({**SUPPORT, "rejected": (90, 1)})


def test_they_are_drawn_in_the_colour_of_what_is_rejected(result):
    ax = result.plot()
    colours = hf.output.pictures.label_colours(2).colors
    drawn = [patch.get_edgecolor()[:3] for patch in ax.patches[1::2]]
    for colour, count in zip(colours[1:], (2, 3, 3), strict=True):
        same = [np.allclose(found, hs_colour(colour)) for found in drawn]
        assert sum(same) == count


def hs_colour(colour):
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def test_of_an_image():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :128]
    image = np.where(columns < 64, np.sin(rows), np.sin(rows / 2)) + 0.2 * rng.normal(
        size=(96, 128)
    )
    dirt = np.hypot(rows - 48, columns - 60) < 17
    image[dirt] = np.sin(columns / 1.5)[dirt]
    support = {"a": [(16, 20), (30, 80)], "b": [(100, 20), (110, 80)], "rejected": [(60, 48)]}
    signal = hs.signals.Signal2D(image)
    plain = {name: examples for name, examples in support.items() if name != "rejected"}
    # Chips of about two periods of the coarser lattice.
    settings = {"chip_size": 16, "stride": 4}
    before = signal.fewshot_classify(plain, **settings).labels_at_pixels().data
    after = signal.fewshot_classify(support, **settings).labels_at_pixels().data
    inside = np.hypot(rows - 48, columns - 60) < 9
    assert (after[inside] == -1).all()
    assert (after[~dirt] == -1).mean() < 0.1
    assert (after == -1).sum() > (before == -1).sum()
