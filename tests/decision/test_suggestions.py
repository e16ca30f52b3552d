"""Suggested queries: the greedy maximum against a naive search."""

import numpy as np

from hyperspy_fewshot.decision.suggestions import typical_queries


def naive(candidates, examples, forbidden, weights, n):
    """Try every candidate at every step."""

    def cosine(a, b):
        return max(0.0, a @ b / np.linalg.norm(a) / np.linalg.norm(b)) ** 2

    chosen = []
    for _ in range(n):
        values = []
        for i in range(len(candidates)):
            known = [*examples, *(candidates[j] for j in chosen), candidates[i]]
            value = sum(
                w * max(cosine(x, y) for y in known)
                for x, w in zip(candidates, weights, strict=True)
            )
            values.append(-1 if forbidden[i] or i in chosen else value)
        chosen.append(int(np.argmax(values)))
    return chosen


def test_each_choice_explains_most_of_the_rest():
    rng = np.random.default_rng(0)
    candidates, examples = rng.normal(size=(30, 4)), rng.normal(size=(3, 4))
    forbidden, weights = rng.random(30) < 0.3, rng.random(30)
    found = typical_queries(candidates, examples, forbidden, weights, 4)
    assert found == naive(candidates, examples, forbidden, weights, 4)


def test_what_no_example_explains_comes_first():
    rng = np.random.default_rng(1)
    kinds = np.repeat(np.arange(3), [60, 30, 10])
    candidates = np.eye(3, 8)[kinds] + 0.05 * rng.normal(size=(100, 8))
    found = typical_queries(candidates, candidates[:2], np.zeros(100, bool), np.ones(100), 2)
    assert kinds[found].tolist() == [1, 2]


def test_no_more_than_there_are():
    candidates = np.random.default_rng(0).normal(size=(5, 3))
    forbidden = np.array([True, False, True, False, True])
    found = typical_queries(candidates, candidates[:1], forbidden, np.ones(5), 9)
    assert sorted(found) == [1, 3]
