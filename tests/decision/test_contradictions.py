"""Shots that the others contradict."""

import numpy as np
import pytest

from hyperspy_fewshot.decision.contradictions import left_out_shots
from hyperspy_fewshot.decision.ridge import fit_ridge


def support(seed=0, shots=5, d=12, distance=3.0, n_classes=3):
    rng = np.random.default_rng(seed)
    centres = distance * rng.normal(size=(n_classes, d)) / np.sqrt(d)
    classes = np.repeat(np.arange(n_classes), shots)
    return centres[classes] + rng.normal(size=(len(classes), d)) / np.sqrt(d), classes


def bias_of(vectors, classes):
    return fit_ridge(vectors, np.arange(len(classes)), classes).bias


def test_margins_are_those_of_classifiers_without_the_shot():
    vectors, classes = support()
    bias = bias_of(vectors, classes)
    found = left_out_shots(vectors, classes, None, bias)
    expected = fit_ridge(vectors, np.arange(15), classes, bias).left_out.scores
    for i, k in enumerate(classes):
        others = np.delete(expected[i], k)
        assert found.margins[i] == pytest.approx(expected[i, k] - others.max())
        assert found.best[i] == expected[i].argmax()
    assert not found.wrong.any()


@pytest.mark.parametrize("seed", range(8))
def test_a_shot_of_another_class_is_found(seed):
    vectors, classes = support(seed)
    wrong = classes.copy()
    wrong[7] = 2
    found = left_out_shots(vectors, wrong, None, bias_of(vectors, wrong))
    assert np.flatnonzero(found.wrong).tolist() == [7]
    assert found.best[7] == 1


def test_several_wrong_shots_are_found_one_after_the_other():
    vectors, classes = support(1, shots=6)
    wrong = classes.copy()
    wrong[[0, 8, 13]] = 1, 2, 0
    found = left_out_shots(vectors, wrong, None, bias_of(vectors, wrong))
    assert set(np.flatnonzero(found.wrong)) == {0, 8, 13}


def test_few_right_shots_are_called_wrong():
    alarms = []
    for seed in range(60):
        vectors, classes = support(seed, distance=1.5)
        alarms.append(left_out_shots(vectors, classes, None, bias_of(vectors, classes)).wrong.any())
    assert np.mean(alarms) <= 0.1


def test_the_only_shot_of_a_class_is_not_judged():
    vectors, classes = support(shots=3)
    kept = np.r_[:4, 6:9]
    found = left_out_shots(vectors[kept], classes[kept], None, bias_of(vectors, classes))
    assert found.best[3] == -1
    assert np.isnan(found.margins[3])
    assert not found.wrong[3]
    assert np.isfinite(np.delete(found.margins, 3)).all()


def test_one_shot_of_each_class():
    vectors, classes = support(shots=1)
    found = left_out_shots(vectors, classes, None, 1.0)
    assert (found.best == -1).all()
    assert not found.wrong.any()


def test_of_two_shots_none_is_called_wrong():
    vectors, classes = support(2, shots=4)
    wrong = np.append(classes, [3, 3])
    vectors = np.vstack([vectors, vectors[0] + 0.01, vectors[5] + 0.01])
    found = left_out_shots(vectors, wrong, None, bias_of(vectors, wrong))
    assert not found.wrong[-2:].any()
    assert (found.margins[-2:] < 0).all()
