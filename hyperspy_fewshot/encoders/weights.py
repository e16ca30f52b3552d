"""Trained networks: built once per process and device, from weights without pickle."""

import hashlib
import threading
from functools import lru_cache
from pathlib import Path
from platform import node

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Blocks are encoded by several threads; one of them builds the network.
_LOCK = threading.Lock()


def bundled_weights(name: str) -> Path:
    """Where the weights of a bundled encoder lie."""
    return Path(__file__).parent / "trained" / f"{name}.safetensors"


def weights_at(name: str, path: str) -> Path:
    """Where the weights of an encoder lie; an empty path means those of the package."""
    return Path(path) if path else bundled_weights(name)


def described(name: str, path: Path | None) -> dict[str, str]:
    """Path and digest of weights, as an encoder keeps them.

    Those of the package have no path, so that an encoder works on other
    machines, too.
    """
    bundled = bundled_weights(name)
    digest = digest_of(path or bundled)
    own = path is not None and digest != digest_of(bundled)
    return {"path": str(path.resolve()) if own else "", "digest": digest}


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trained(kind: type[nn.Module], path: Path, digest: str, device: str) -> nn.Module:
    """Return a network with its trained weights, ready to run.

    Parameters
    ----------
    kind
        Class of the network, built without arguments.
    path
        Weights, .safetensors.
    digest
        SHA-256 that the file must have.
    device
        As torch names it.

    Raises
    ------
    FileNotFoundError
        If the file is not there, as may be on another machine.
    ValueError
        If the file has another digest or other weights than the network.
    """
    with _LOCK:
        return _built(kind, path, digest, device)


@lru_cache
def _built(kind: type[nn.Module], path: Path, digest: str, device: str) -> nn.Module:
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no weights at '{path}' on {node()}. Every dask worker reads them itself: "
            "keep them on a disk that all of them see."
        )
    if digest_of(path) != digest:
        raise ValueError(f"The weights in {path.name!r} have changed; get the encoder again.")
    net = kind()
    try:
        net.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{path.name!r} does not hold weights of {kind.__name__}: {error}"
        ) from error
    net = fold(net.eval().requires_grad_(False))
    return net.to(device, memory_format=torch.channels_last)


def fold(net: nn.Module) -> nn.Module:
    """Fold every batch norm that follows a convolution into it, in place."""
    for part in net.modules():
        if isinstance(part, nn.Sequential) and len(part) > 1:
            first, second = part[0], part[1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                part[0], part[1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return net
