"""An audit from the draw to the numbers, with the result, in files, and over several results."""

import json

import hyperspy.api as hs
import numpy as np
import pytest

from hyperspy_fewshot import Audit, FewShotResult, data

CHIPS = {"chip_size": 24, "stride": 6, "show_progressbar": False}


@pytest.fixture(scope="module")
def specimen():
    return data.heterostructure((192, 216))


@pytest.fixture(scope="module")
def made(specimen):
    return specimen.signal.fewshot_classify(specimen.support(3, margin=12), **CHIPS)


@pytest.fixture
def result(made):
    """The result without an audit."""
    made._audit = None
    return made


def judge(audit, specimen, places=None):
    """Judge places by the truth at their centre; what is on a boundary cannot be told."""
    for i in range(len(audit)) if places is None else places:
        x, y = audit.position(i)
        k = specimen.truth[y, x]
        audit[i] = specimen.class_names[k] if k >= 0 else None


def test_places_are_those_of_the_design(result):
    audit = result.audit(40)
    assert len(audit) == 40
    labels, grid = result.labels.data, result.domain.grid
    assert len(set(audit.design.places)) == 40
    shots = {
        grid.cell_at(place)
        for _, _, found in result.support.locate(result.domain)
        for shot in found
        for place in shot.locations
    }
    for i, (stratum, cell) in enumerate(audit.design.places):
        index = np.unravel_index(cell, labels.shape)
        assert (labels[index] if labels[index] >= 0 else 3) == stratum
        assert tuple(map(int, index)) not in shots
        x, y = audit.position(i)
        assert grid.cell_at((y, x)) == tuple(map(int, index))
    assert sum(audit.design.sizes) == labels.size - len(shots)
    areas = sum(audit.design.areas) + sum(audit.design.known.values())
    assert areas == 192 * 216
    drawn = np.bincount([h for h, _ in audit.design.places], minlength=4)
    shares = np.array(audit.design.sizes) / sum(audit.design.sizes)
    assert (abs(drawn - 40 * shares) < 4).all()


def test_it_gives_the_truth_of_the_specimen(result, specimen):
    audit = result.audit(60)
    judge(audit, specimen)
    found = audit.statistics
    for k, name in enumerate(specimen.class_names):
        row = found.rows[name]
        known = specimen.truth[specimen.truth >= 0]
        assert row["fraction_low"] < (known == k).mean() < row["fraction_high"]
    assert found.accuracy[0] > 0.9
    assert found.n_judged == 60
    assert found.places_to_halve == 180
    text = str(found)
    assert "60 places judged" in text and "180 more places would halve the intervals" in text
    assert "producer" in found._repr_html_()
    assert list(found.to_dataframe().index) == [*specimen.class_names, "rejected"]
    assert sum(found.fractions.values()) <= 1


def test_judgements(result):
    audit = result.audit(20)
    assert str(audit.statistics) == "No place is judged yet."
    assert audit.remaining == list(range(20))
    audit[3] = "Ge"
    audit[4] = None
    audit[5] = "rejected"
    assert (audit[3], audit[4], audit[5]) == ("Ge", None, "rejected")
    assert audit.remaining == [0, 1, 2, *range(6, 20)]
    assert repr(audit) == "<Audit, 3 of 20 places judged>"
    del audit[4]
    with pytest.raises(KeyError, match="Place 4 is not judged yet"):
        audit[4]
    with pytest.raises(ValueError, match=r"'Si' is none of .*'rejected' means none of the classes"):
        audit[0] = "Si"
    with pytest.raises(IndexError, match="There are 20 places, 0 to 19; got 20"):
        audit[20] = "Ge"
    with pytest.raises(TypeError, match="Places are numbered; got 'a'"):
        audit["a"] = "Ge"


def test_it_is_resumed_and_extended(result, specimen):
    audit = result.audit(20)
    judge(audit, specimen)
    places, judged = audit.design.places, dict(audit.judged)
    assert result.audit() is audit
    assert len(result.audit(10)) == 50
    more = result.audit(70)
    assert more is audit and len(audit) == 70
    assert audit.design.places[:20] == places
    assert audit.judged == judged
    assert len(set(audit.design.places)) == 70
    with pytest.raises(ValueError, match="has the seed 0 and 20 judgements"):
        result.audit(20, seed=1)


def test_the_seed_decides(result):
    first = result.audit(20, seed=1).design.places
    assert result.audit(20, seed=2).design.places != first
    assert result.audit(20, seed=1).design.places == first


def test_an_update_is_evaluated_with_the_same_weights(result, specimen):
    audit = result.audit(50)
    judge(audit, specimen)
    better = result.update({"Ge": [(30, 180)]})
    again = better.audit()
    assert again is not audit
    assert again.judged == audit.judged
    for name in specimen.class_names:
        for column in ("fraction", "fraction_low", "fraction_high"):
            assert again.statistics.rows[name][column] == audit.statistics.rows[name][column]
    again[0] = None
    assert audit[0] != again[0] or audit[0] is None


def test_promoted_places_keep_their_label(result, specimen):
    audit = result.audit(50)
    judge(audit, specimen)
    told = [i for i in range(50) if audit[i] is not None]
    # The map calls it SrTiO3: promotion must not make the audit look better.
    wrong = told[0]
    audit[wrong] = "Ge" if audit._label(wrong) != "Ge" else "SrTiO3"
    before = audit.statistics
    better = audit.promote(wrong)
    assert better.support.shots[audit[wrong]] == result.support.shots[audit[wrong]] + 1
    assert better.audit()._label(wrong) == audit._label(wrong)
    assert better.audit()[wrong] == audit[wrong]
    after = better.audit().statistics
    assert after.rows["Ge"]["fraction"] == before.rows["Ge"]["fraction"]
    with pytest.raises(ValueError, match="cannot be told"):
        audit[wrong] = None
        audit.promote(wrong)


@pytest.mark.parametrize("suffix", [".hspy", ".zspy"])
def test_it_is_saved_with_the_result(result, specimen, suffix, tmp_path):
    audit = result.audit(30)
    judge(audit, specimen, range(25))
    result.save(tmp_path / f"result{suffix}")
    loaded = FewShotResult.load(tmp_path / f"result{suffix}")
    again = loaded.audit(30)
    assert again.design == audit.design
    assert again.judged == audit.judged
    assert str(again.statistics) == str(audit.statistics)
    assert again.remaining == list(range(25, 30))
    with pytest.raises(ValueError, match=r"Set result.signal = s"):
        again.plot(0)
    loaded.signal = specimen.signal
    again.plot(0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [1, 2]),
        ("sizes", [10**9, 0, 0, 0]),
        ("areas", [float("inf"), 1, 1, 1]),
        ("reserve", [[0], [0], [0], [10**9]]),
        ("places", [[0, 10**9]]),
        ("places", [[9, 0]]),
        ("judged", [[99, "Ge"]]),
        ("judged", [[0, 3]]),
        ("promoted", [[0, "nothing"]]),
        ("strata", [1, 2, 3, 4]),
        ("shapes", "abc"),
        ("known", 3),
    ],
)
def test_what_is_damaged_is_refused(result, key, value):
    plain = json.loads(result.audit(20).to_json()) | {key: value}
    with pytest.raises(ValueError, match="the audit is damaged"):
        Audit.from_json(json.dumps(plain))


def test_several_results_of_one_recipe(result, specimen):
    other = data.heterostructure((180, 216), seed=3)
    second = other.signal.fewshot_classify(result, show_progressbar=False)
    audit = Audit.draw([result, second], 60)
    counts = [0, 0]
    for i in range(60):
        owner, cell = audit._where(i)
        own = specimen if owner is result else other
        counts[owner is second] += 1
        x, y = audit.position(i)
        assert owner.domain.grid.cell_at((y, x)) == cell
        k = own.truth[y, x]
        audit[i] = own.class_names[k] if k >= 0 else None
    assert min(counts) > 15
    truth = np.concatenate([specimen.truth.ravel(), other.truth.ravel()])
    truth = truth[truth >= 0]
    for k, name in enumerate(specimen.class_names):
        row = audit.statistics.rows[name]
        assert row["fraction_low"] < (truth == k).mean() < row["fraction_high"]
    with pytest.raises(ValueError, match="several results cannot promote"):
        audit.promote(0)
    different = result.update(remove={"Ge": [0, 1, 2]})
    with pytest.raises(ValueError, match="results with the same classes"):
        Audit.draw([result, different])


def test_a_lazy_scan_with_frames_and_a_mask():
    rng = np.random.default_rng(0)
    kinds = (np.arange(12) > 5).astype(int)
    spectra = np.array([[9.0, 1, 1, 5], [1, 9, 5, 1]])[kinds]
    cube = rng.poisson(20 * np.broadcast_to(spectra, (3, 10, 12, 4)))
    signal = hs.signals.Signal1D(cube).as_lazy()
    mask = np.zeros((12, 10, 3), bool)
    mask[:, :2] = True
    support = {"a": [(0, 5, 0), (2, 6, 1)], "b": [(9, 5, 0), (10, 6, 2)]}
    found = signal.fewshot_classify(
        support, context=1, navigation_mask=mask, show_progressbar=False
    )
    audit = found.audit(40)
    assert sum(audit.design.sizes) == 3 * 8 * 12 - 4
    for i in range(40):
        x, y, frame = audit.position(i)
        assert y >= 2 and 0 <= frame < 3
        audit[i] = "ab"[kinds[x]]
    assert audit.statistics.rows["a"]["fraction"] == pytest.approx(0.5, abs=0.03)
    axes = audit.plot(0)
    assert len(axes) == 2


def test_nothing_to_audit():
    signal = hs.signals.Signal1D(np.random.default_rng(0).random((2, 2, 6)))
    support = {"a": [(0, 0), (1, 0)], "b": [(0, 1), (1, 1)]}
    found = signal.fewshot_classify(support, context=1, reject=False, show_progressbar=False)
    with pytest.raises(ValueError, match="nothing to audit"):
        found.audit()


def test_the_picture_does_not_show_the_label(result):
    axes = result.audit(10).plot(2)
    assert axes[0].get_title() == "place 2 of 10"
    assert all(axis.get_legend() is None for axis in axes)
    # The images are grey: labels would be coloured.
    assert {image.get_cmap().name for axis in axes for image in axis.images} == {"gray"}
    x, y = (float(line.get_xdata()[0]) for line in axes[0].lines), None
    column, row = result.audit(10).position(2)
    scale = result.signal.axes_manager[0].scale
    assert next(x) == pytest.approx(column * scale, abs=scale)
    assert y is None and row >= 0
