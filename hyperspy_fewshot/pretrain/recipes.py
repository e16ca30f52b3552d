"""The corpora and settings of the bundled encoders, and their training in one call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from hyperspy_fewshot.encoders.network import StemNetwork
from hyperspy_fewshot.pretrain.images import CropCorpus, SceneCorpus, TextureCorpus
from hyperspy_fewshot.pretrain.training import Branch, Plan, Training


class Recipe(NamedTuple):
    """How an encoder is trained.

    Parameters
    ----------
    encoder
        Name of the encoder and of the file of weights.
    network
        Class of its network, called without arguments.
    branches
        Function of the user's own images, if any; returns the branches of the training.
    plan
        Size of the episodes; number of steps and seed are set by the user.
    """

    encoder: str
    network: Callable[[], nn.Module]
    branches: Callable[[Sequence[np.ndarray]], list[Branch]]
    plan: Plan = Plan()


def _image_branches(images: Sequence[np.ndarray]) -> list[Branch]:
    branches = [
        Branch("textures", TextureCorpus(), "chips", 0.5),
        Branch("scenes", SceneCorpus(), "chips", 0.3),
    ]
    return [*branches, Branch("crops", CropCorpus(images), "chips", 0.3)] if images else branches


RECIPES = {"image": Recipe("stem", StemNetwork, _image_branches)}


def train(
    kind: str,
    out: Path,
    *,
    minutes: float = 60.0,
    steps: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    workers: int = 1,
    images: Path | None = None,
    resume: bool = False,
    show_progressbar: bool = True,
) -> Path:
    """Train an encoder's network on synthetic classes.

    Parameters
    ----------
    kind
        A key of `RECIPES`.
    out
        Folder for checkpoint.pt, log.csv and the weights.
    minutes
        Training time, unless `steps` is given.
    steps
        Number of optimiser steps.
    device
        Device in torch notation. On one device, equal seeds and steps give equal weights.
    seed
        Seed of the initial weights and of all examples.
    workers
        Number of processes that draw examples.
    images
        Folder of the user's own unlabelled images, in any format that HyperSpy reads. Crops of them
        are additional classes.
    resume
        Continue from the checkpoint in `out`.
    show_progressbar
        Whether to show the progress.

    Returns
    -------
    pathlib.Path
        The weights, for ``get_encoder("stem", weights=...)``.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint to resume from, or no image in the folder.
    ValueError
        If the checkpoint belongs to another plan, or all images are too small.
    """
    recipe = RECIPES[kind]
    own = [] if images is None else read_images(images)
    torch.manual_seed(seed)
    plan = replace(recipe.plan, steps=steps, minutes=minutes, seed=seed)
    training = Training(
        recipe.network(), recipe.branches(own), plan, out, device=device, workers=workers
    )
    if resume:
        training.resume()
    training.run(show_progressbar=show_progressbar)
    path = training.folder / f"{recipe.encoder}.safetensors"
    state = training.network.state_dict()
    save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, path)
    return path


def read_images(folder: Path) -> list[np.ndarray]:
    """Read all images of a folder, and all frames of its stacks.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    import hyperspy.api as hs

    images: list[np.ndarray] = []
    for path in sorted(Path(folder).iterdir()):
        try:
            loaded = hs.load(path)
        except Exception:
            # Readers raise errors of any class for files that they cannot read.
            continue
        for signal in loaded if isinstance(loaded, list) else [loaded]:
            if signal.axes_manager.signal_dimension == 2 and signal.data.dtype.kind in "uif":
                images += list(signal.data.reshape(-1, *signal.data.shape[-2:]))
    if not images:
        raise FileNotFoundError(f"There is no image that HyperSpy reads in {str(folder)!r}.")
    return images
