import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hyperspy_fewshot.pretrain.corpus import Corpus
from hyperspy_fewshot.pretrain.training import Branch, Plan, Training, _Episodes, episode_loss


class Rows(Corpus):
    """Classes differ in the bright row, with noise."""

    def __init__(self, base=0.0):
        self.base = base

    def classes(self, rng, n):
        return [self._maker(row) for row in rng.permutation(4)[:n]]

    def _maker(self, row):
        def draw(rng, m):
            items = self.base + 0.2 * rng.normal(size=(m, 4, 4))
            items[:, row] += 1
            return items.astype(np.float32)

        return draw


def naive_loss(embeddings, shots, gain):
    """Cross entropy of the cosines to the prototypes, query by query, and the share right."""

    def unit(vector):
        return vector / np.linalg.norm(vector)

    def judge(classes):
        centre = np.mean([member for members in classes for member in members], axis=0)
        prototypes = [unit(sum(unit(m - centre) for m in members[:shots])) for members in classes]
        losses, hits = [], []
        for truth, members in enumerate(classes):
            for query in members[shots:]:
                cosines = np.array([unit(query - centre) @ p for p in prototypes])
                losses.append(np.log(np.exp(gain * cosines).sum()) - gain * cosines[truth])
                hits.append(cosines.argmax() == truth)
        return losses, hits

    inside = [judge(specimen) for specimen in embeddings]
    together, _ = judge([members for specimen in embeddings for members in specimen])
    loss = np.mean([losses for losses, _ in inside]) + 0.5 * np.mean(together)
    return loss, np.mean([hits for _, hits in inside])


@pytest.mark.parametrize("shape, shots", [((2, 3, 5, 7), 2), ((1, 2, 2, 4), 1), ((3, 4, 6, 5), 5)])
def test_loss_equals_a_naive_loop(shape, shots):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=shape) + rng.normal(size=(*shape[:2], 1, shape[3]))
    found = episode_loss(torch.as_tensor(embeddings), shots, torch.tensor(3.7))
    np.testing.assert_allclose([float(f) for f in found], naive_loss(embeddings, shots, 3.7))


def test_steps_are_shared_between_branches():
    branches = [
        Branch(name, Rows(), "embed", share) for name, share in zip("abc", (5, 3, 2), strict=True)
    ]
    episodes = _Episodes(branches, Plan())
    for start in (0, 700):
        drawn = np.bincount([episodes.branch_of(start + i) for i in range(100)], minlength=3)
        np.testing.assert_allclose(drawn, [50, 30, 20], atol=2)


def test_episodes_follow_from_their_number():
    plan = Plan(specimens=2, classes=3, shots=1, queries=4, seed=5)
    episodes = _Episodes([Branch("rows", Rows(), "embed")], plan)
    which, items = episodes[7]
    assert which == 0 and items.shape == (2, 3, 5, 4, 4)
    assert torch.equal(episodes[7][1], items)
    assert not torch.equal(episodes[8][1], items)
    other = _Episodes(episodes.branches, replace(plan, seed=6))
    assert not torch.equal(other[7][1], items)


class TinyNetwork(nn.Module):
    """A few weights, and running means, which are part of a checkpoint."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.linear = nn.Linear(16, 5)

    def embed(self, items):
        return self.linear(self.norm(items.flatten(1)))


TINY = Plan(steps=8, specimens=2, classes=3, shots=1, queries=2)


BRANCHES = [Branch("low", Rows(), "embed", 2), Branch("high", Rows(10.0), "embed", 1)]


def training(folder, plan=TINY, kind=Training, workers=0, start=0):
    """A training with initial weights from a seed."""
    torch.manual_seed(start)
    return kind(TinyNetwork(), BRANCHES, plan, folder, workers=workers)


def run(folder, **options):
    made = training(folder, **options)
    made.run(every=3, show_progressbar=False)
    return made


def weights(made):
    return {name: tensor.clone() for name, tensor in made.network.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Interrupted(Training):
    """A training that is interrupted after five steps."""

    def _train_step(self, branch, items):
        if self.step == 5:
            raise KeyboardInterrupt
        return super()._train_step(branch, items)


def test_resumed_trainings_equal_uninterrupted_ones(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "interrupted", kind=Interrupted)
    # The checkpoint replaces the initial weights.
    resumed = training(tmp_path / "interrupted", start=99)
    resumed.resume()
    assert (resumed.step, resumed.steps) == (3, 8)
    resumed.run(every=3, show_progressbar=False)
    assert resumed.step == 8 and same(weights(resumed), weights(whole))
    assert torch.equal(resumed.gain, whole.gain)
    first, second = (
        [{**row, "seconds": ""} for row in log(tmp_path / name)]
        for name in ("whole", "interrupted")
    )
    assert first == second


def test_finished_trainings_do_not_change(tmp_path):
    whole = run(tmp_path)
    again = training(tmp_path, start=99)
    again.resume()
    again.run(show_progressbar=False)
    assert again.step == 8 and same(weights(again), weights(whole))


def test_equal_seeds_give_equal_weights(tmp_path):
    first = weights(run(tmp_path / "first"))
    assert same(first, weights(run(tmp_path / "again", workers=1)))
    assert not same(first, weights(run(tmp_path / "other", plan=replace(TINY, seed=1))))
    assert not same(first, weights(training(tmp_path / "untrained")))


def test_log_has_a_line_for_every_branch(tmp_path):
    run(tmp_path)
    rows = log(tmp_path)
    assert list(rows[0]) == ["step", "seconds", "loss", "branch", "accuracy"]
    assert [(row["step"], row["branch"]) for row in rows] == [
        (step, branch) for step in "368" for branch in ("low", "high")
    ]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["loss"]) > 0 for row in rows)
    assert float(rows[-1]["seconds"]) >= float(rows[0]["seconds"])


def test_training_lowers_the_loss(tmp_path):
    plan = replace(TINY, steps=60, learning_rate=0.02)
    made, unseen = training(tmp_path, plan), _Episodes(BRANCHES, plan, 1000)

    @torch.no_grad()
    def mean_loss():
        made.network.train()
        drawn = [unseen[i] for i in range(10)]
        return np.mean([float(made._judge(BRANCHES[b], items)[0]) for b, items in drawn])

    before = mean_loss()
    made.run(show_progressbar=False)
    assert mean_loss() < 0.85 * before
    assert set(made.validate()) == {"low", "high"} and min(made.validate().values()) > 0.8


def test_the_number_of_steps_follows_from_the_time(tmp_path):
    made = run(tmp_path, plan=replace(TINY, steps=None, minutes=0.0))
    # The duration of a step is measured over thirty steps.
    assert made.step == made.steps == 31
    resumed = training(tmp_path, plan=replace(TINY, steps=None, minutes=0.0))
    resumed.resume()
    assert resumed.steps == 31


def test_checkpoints_of_another_plan_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no checkpoint.pt in"):
        training(tmp_path).resume()
    run(tmp_path)
    with pytest.raises(ValueError, match="written with .*'steps': 8.*; resume with the same opt"):
        training(tmp_path, plan=replace(TINY, steps=9)).resume()
