"""Encoders with a trained network, which is built once per process and device."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from platform import node
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hyperspy_fewshot.encoders.base import Encoder
from hyperspy_fewshot.encoders.network import StemNetwork
from hyperspy_fewshot.encoders.threads import Lock

#: Several threads encode blocks; one of them builds the network.
BUILD_LOCK = Lock()


@dataclass(frozen=True, eq=False, repr=False)
class TrainedEncoder(Encoder):
    """Base of the encoders that run the trained network.

    `path` is the file of its weights ("" for the bundled ones, so that the encoder works on other
    machines, too) and `digest` the SHA-256 of that file. `part_scales` are the factors of the
    feature groups, set by `fit`.
    """

    path: str = ""
    digest: str = ""
    part_scales: tuple[float, ...] = ()

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"path"}

    def network(self, device: str) -> StemNetwork:
        """Return the network, ready to run on a device."""
        with BUILD_LOCK:
            path = Path(self.path) if self.path else bundled_weights("stem")
            return _built(path, self.digest, device)

    def joined(self, parts: list[torch.Tensor]) -> np.ndarray:
        """Scale and join feature groups, tensors (n, d)."""
        scaled = [part * scale for part, scale in zip(parts, self.part_scales, strict=True)]
        return torch.cat(scaled, dim=1).cpu().numpy()


def bundled_weights(name: str) -> Path:
    """Return the path of the weights of a bundled encoder."""
    return Path(__file__).parent / "trained" / f"{name}.safetensors"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spreads(parts: list[torch.Tensor]) -> list[float]:
    """Return the standard deviations of feature groups (n, d), all features together."""
    return [float(part.var(0, correction=0).sum().sqrt()) for part in parts]


@lru_cache
def _built(path: Path, digest: str, device: str) -> StemNetwork:
    # Other than that of a Path, it accepts any name.
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"There are no weights at '{path}' on {node()}. Every dask worker reads them itself: "
            "keep them on a disk that all workers can read."
        )
    if file_digest(path) != digest:
        raise ValueError(f"The weights in {path.name!r} have changed; get the encoder again.")
    network = StemNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path.name!r} does not hold weights of StemNetwork: {error}") from error
    network = network.eval().requires_grad_(False)
    for part in network.modules():
        if isinstance(part, nn.Sequential) and isinstance(part[0], nn.Conv2d):
            part[0], part[1] = fuse_conv_bn_eval(part[0], part[1]), nn.Identity()
    return network.to(device, memory_format=torch.channels_last)
