"""Training of an encoder's network on episodes drawn from corpora."""

import csv
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hyperspy_fewshot.pretrain.corpus import Corpus

# Offset of the seeds of validation episodes: training never reaches it.
_VALIDATION = 2**31
# Steps over which the learning rate rises at the beginning.
_WARM_UP = 50
# Steps after which the duration of a step is known.
_TIMED = 30
_HEADER = ("step", "seconds", "loss", "branch", "accuracy")


@dataclass(frozen=True)
class Branch:
    """A corpus and the method of the network that embeds its items.

    Parameters
    ----------
    name
        Name in the log.
    corpus
        Source of the specimens.
    method
        Name of a method of the network that maps (n, *item_shape) to (n, d).
    share
        Share of the training steps.
    """

    name: str
    corpus: Corpus
    method: str
    share: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Settings of a training.

    Parameters
    ----------
    steps
        Number of optimiser steps; None: as many as fit into `minutes`, decided after the first
        steps and kept in the checkpoint.
    minutes
        Training time if `steps` is None.
    specimens, classes
        Number of specimens of an episode, and of classes of each specimen.
    shots, queries
        Number of support and query members of each class.
    learning_rate
        Learning rate of AdamW; constant after a warm-up, then falling to 0 over the last third.
    seed
        Seed of all episodes.
    """

    steps: int | None = None
    minutes: float = 60.0
    specimens: int = 10
    classes: int = 4
    shots: int = 3
    queries: int = 3
    learning_rate: float = 2e-3
    seed: int = 0


class _Episodes(Dataset):
    """Episodes by number; episode i is the same whenever it is drawn."""

    def __init__(self, branches: Sequence[Branch], plan: Plan, offset: int = 0):
        self.branches, self.plan, self.offset = list(branches), plan, offset
        shares = np.array([branch.share for branch in branches])
        self.edges = np.cumsum(shares / shares.sum())

    def __len__(self) -> int:
        return _VALIDATION

    def branch_of(self, number: int) -> int:
        """Index of the branch of an episode, spread evenly over the steps."""
        place = (number * 0.6180339887) % 1.0
        return min(int(np.searchsorted(self.edges, place, side="right")), len(self.edges) - 1)

    def __getitem__(self, number: int) -> tuple[int, torch.Tensor]:
        plan, which = self.plan, self.branch_of(number)
        rng = np.random.default_rng((plan.seed, self.offset + number))
        corpus, members = self.branches[which].corpus, plan.shots + plan.queries
        items = [corpus.specimen(rng, plan.classes, members) for _ in range(plan.specimens)]
        return which, torch.from_numpy(np.stack(items))


def episode_loss(
    embeddings: torch.Tensor, shots: int, gain: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of the queries of an episode, classified by their cosine to prototypes.

    The embeddings of each specimen are centred on their mean and compared with the prototypes of
    its classes. The classes of all specimens together are a second, easier task of half the weight.

    Parameters
    ----------
    embeddings
        Shape (specimens, classes, members, d).
    shots
        Number of support members of each class.
    gain
        Factor of the cosines in the softmax.

    Returns
    -------
    loss, accuracy : torch.Tensor
        The loss, and the share of queries that are classified correctly within their specimen.
    """
    inner, truth = _cosines(embeddings, shots)
    loss = nn.functional.cross_entropy(gain * inner.flatten(0, 1), truth.flatten())
    right = (inner.argmax(-1) == truth).float().mean()
    s, c, m, d = embeddings.shape
    outer, truth = _cosines(embeddings.reshape(1, s * c, m, d), shots)
    return loss + 0.5 * nn.functional.cross_entropy(gain * outer[0], truth[0]), right


def _cosines(embeddings: torch.Tensor, shots: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines of queries to prototypes (s, q, c), and the true classes (s, q)."""
    s, c, m, _ = embeddings.shape
    centred = embeddings - embeddings.mean((1, 2), keepdim=True)
    centred = nn.functional.normalize(centred, dim=-1)
    prototypes = nn.functional.normalize(centred[:, :, :shots].mean(2), dim=-1)
    queries = centred[:, :, shots:].flatten(1, 2)
    truth = torch.arange(c, device=embeddings.device).repeat_interleave(m - shots).expand(s, -1)
    return queries @ prototypes.transpose(1, 2), truth


class Training:
    """Training of a network, with checkpoints in a folder from which it can be resumed.

    Parameters
    ----------
    network
        The network.
    branches
        The corpora, and the methods of the network that embed their items.
    plan
        The settings.
    folder
        Folder for checkpoint.pt and log.csv.
    device
        Device in torch notation.
    workers
        Number of processes that draw episodes.
    """

    def __init__(
        self,
        network: nn.Module,
        branches: Sequence[Branch],
        plan: Plan,
        folder: Path,
        device: str = "cpu",
        workers: int = 1,
    ):
        self.network = network.to(device, memory_format=torch.channels_last)
        self.branches, self.plan, self.device, self.workers = branches, plan, device, workers
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.gain = nn.Parameter(torch.tensor(np.log(10.0), dtype=torch.float32, device=device))
        self.optimiser = torch.optim.AdamW(
            [*self.network.parameters(), self.gain], lr=plan.learning_rate, weight_decay=0.02
        )
        self.step, self.steps, self.seconds = 0, plan.steps, 0.0

    def run(self, every: int = 100, show_progressbar: bool = True) -> None:
        """Train to the end, with a checkpoint and a validation after `every` steps."""
        if self.step == self.steps:
            return
        start, begun = self.step, time.perf_counter() - self.seconds
        bar = tqdm(total=self.steps, initial=start, disable=not show_progressbar, unit="step")
        with bar:
            for which, items in self._episodes(start):
                loss = self._train_step(self.branches[which], items)
                self.step += 1
                self.seconds = time.perf_counter() - begun
                if self.steps is None and self.step - start == _TIMED:
                    pace = (self.seconds) / self.step
                    self.steps = max(self.step + 1, round(60 * self.plan.minutes / pace))
                    bar.total = self.steps
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if self.step % every == 0 or self.step == self.steps:
                    self._validate(loss)
                    self.save()
                if self.step == self.steps:
                    break

    def _episodes(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        loader = DataLoader(
            _Episodes(self.branches, self.plan),
            batch_size=None,
            sampler=range(start, _VALIDATION),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_one_thread,
        )
        return iter(loader)

    def _train_step(self, branch: Branch, items: torch.Tensor) -> float:
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * self._pace()
        loss, _ = self._judge(branch, items)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def _pace(self) -> float:
        """Factor of the learning rate at this step."""
        left = 1.0 if self.steps is None else 3 * (1 - self.step / self.steps)
        return min(1.0, (self.step + 1) / _WARM_UP, left)

    def _judge(self, branch: Branch, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        items = items.to(self.device, non_blocking=True)
        embeddings = getattr(self.network, branch.method)(items.flatten(0, 2))
        return episode_loss(
            embeddings.reshape(*items.shape[:3], -1), self.plan.shots, self.gain.exp()
        )

    @torch.inference_mode()
    def validate(self, episodes: int = 3) -> dict[str, float]:
        """Return the accuracy on specimens that training never draws, by branch."""
        self.network.eval()
        found = {}
        for branch in self.branches:
            drawn = _Episodes([branch], self.plan, _VALIDATION)
            right = [self._judge(branch, drawn[i][1])[1] for i in range(episodes)]
            found[branch.name] = float(torch.stack(right).mean())
        return found

    def _validate(self, loss: float) -> None:
        log = self.folder / "log.csv"
        fresh = not log.exists()
        with log.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(_HEADER)
            for name, accuracy in self.validate().items():
                writer.writerow(
                    (self.step, round(self.seconds, 1), round(loss, 4), name, round(accuracy, 4))
                )

    def save(self) -> None:
        """Write the checkpoint; the previous one is replaced when the new one is complete."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "gain": self.gain.detach(),
            "progress": {"step": self.step, "steps": self.steps, "seconds": self.seconds},
            "plan": asdict(self.plan),
        }
        partial = self.folder / "checkpoint.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "checkpoint.pt")

    def resume(self) -> None:
        """Continue from the checkpoint in the folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it was written with another plan.
        """
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            raise FileNotFoundError(f"There is no checkpoint.pt in {str(self.folder)!r} to resume.")
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["plan"] != asdict(self.plan):
            raise ValueError(
                f"The checkpoint was written with {state['plan']}, not {asdict(self.plan)}; "
                "resume with the same options."
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        with torch.no_grad():
            self.gain.copy_(state["gain"])
        for name, value in state["progress"].items():
            setattr(self, name, value)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
