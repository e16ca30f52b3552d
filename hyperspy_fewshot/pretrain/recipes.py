"""What the bundled encoders are trained on, and the training as one call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from ..encoders.filters import SpectrumNetwork
from ..encoders.network import StemNetwork
from .images import CropCorpus, SceneCorpus, TextureCorpus
from .patterns import PatternCorpus
from .spectra import BandCorpus, EdgeCorpus, XRayCorpus
from .training import Branch, Plan, Training


class Recipe(NamedTuple):
    """How an encoder comes about.

    Parameters
    ----------
    encoder
        Its name, also that of the file of weights.
    network
        Class of its network, built without arguments.
    branches
        Makes what it is trained on from the user's own images, if any.
    plan
        What its episodes are like; length and seed are the user's.
    """

    encoder: str
    network: Callable[[], nn.Module]
    branches: Callable[[Sequence[np.ndarray]], list[Branch]]
    plan: Plan = Plan()


def _image_branches(images: Sequence[np.ndarray]) -> list[Branch]:
    branches = [
        Branch("textures", TextureCorpus(), "chips", 0.5),
        Branch("scenes", SceneCorpus(), "chips", 0.3),
        Branch("patterns", PatternCorpus(), "patterns", 0.2),
    ]
    return [*branches, Branch("crops", CropCorpus(images), "chips", 0.3)] if images else branches


def _spectrum_branches(images: Sequence[np.ndarray]) -> list[Branch]:
    if images:
        raise ValueError("The encoder 'spectrum' is trained on spectra; leave the images out.")
    return [
        Branch("x-ray lines", XRayCorpus(), "forward", 0.5),
        Branch("edges", EdgeCorpus(), "forward", 0.35),
        Branch("bands", BandCorpus(), "forward", 0.15),
    ]


RECIPES = {
    "image": Recipe("stem", StemNetwork, _image_branches),
    # The filters follow from all items together, which hence are of one specimen.
    "spectrum": Recipe(
        "spectrum",
        SpectrumNetwork,
        _spectrum_branches,
        Plan(specimens=1, classes=6, shots=3, queries=12),
    ),
}


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
        A key of `RECIPES`: ``"image"`` or ``"spectrum"``.
    out
        Folder for checkpoint.pt, log.csv and the weights.
    minutes
        Time to fill, unless `steps` says how many optimiser steps.
    device
        As torch names it. On one device equal seed and steps give equal
        weights.
    seed
        Decides the weights at the start and all that is drawn.
    workers
        Processes that draw examples beside the training.
    images
        Folder of unlabelled images of the user's, in any format that HyperSpy
        reads: crops of them are classes, too.
    resume
        Continue from the checkpoint in `out`.

    Returns
    -------
    pathlib.Path
        The weights, for ``get_encoder("stem", weights=...)`` or that of
        ``"spectrum"``.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint to resume from, or no image in the folder.
    ValueError
        If the checkpoint belongs to another plan, or the images are too small
        or not what the encoder is for.
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
        If it holds none.
    """
    import hyperspy.api as hs

    images: list[np.ndarray] = []
    for path in sorted(Path(folder).iterdir()):
        try:
            loaded = hs.load(path)
        except Exception:
            # Readers raise errors of any kind at what they cannot read.
            continue
        for signal in loaded if isinstance(loaded, list) else [loaded]:
            if signal.axes_manager.signal_dimension == 2 and signal.data.dtype.kind in "uif":
                images += list(signal.data.reshape(-1, *signal.data.shape[-2:]))
    if not images:
        raise FileNotFoundError(f"There is no image that HyperSpy reads in {str(folder)!r}.")
    return images
