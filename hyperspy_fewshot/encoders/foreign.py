"""Encoders of the user's: torch modules, files of torch, plain functions."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from .base import Encoder, to_tensor


@dataclass(frozen=True, eq=False)
class TorchEncoder(Encoder):
    """A torch module as encoder.

    Items are normalised, given a channel axis (repeated when the module's
    first convolution wants more than one channel), and resampled when
    `input_size` is set. Outputs with more than two axes are averaged over all
    but the first two.

    Parameters
    ----------
    module
        The module; a copy in evaluation mode is used, the user's own is left
        as it is. None when the encoder comes from a file.
    path
        TorchScript (.pt) or exported program (.pt2), loaded once per process.
    input_size
        Side to which images are resampled [px]; None leaves them as they are.
    digest
        SHA-256 of the weights or of the file.
    """

    module: torch.nn.Module | None = None
    path: str | None = None
    input_size: int | None = None
    digest: str = ""

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"module", "path"}

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        module = _build(_Source(self.digest, self), device)
        items = to_tensor(batch, device)
        items = ((items - self.offset) / self.scale)[:, None]
        if items.ndim == 4 and self.input_size:
            size = (self.input_size, self.input_size)
            items = torch.nn.functional.interpolate(
                items, size=size, mode="bilinear", antialias=True
            )
        items = items.expand(-1, _channels(module), *items.shape[2:])
        with torch.inference_mode():
            output = module(items)
        if not isinstance(output, torch.Tensor):
            raise TypeError(
                f"The encoder {self.name!r} returned {type(output).__name__}; "
                "a tensor of shape (n, d) is needed."
            )
        return output.flatten(2).mean(-1).cpu().numpy() if output.ndim > 2 else output.cpu().numpy()


@dataclass(frozen=True, eq=False)
class CallableEncoder(Encoder):
    """A function on NumPy batches as encoder; it gets the items as they are.

    Parameters
    ----------
    function
        Maps items (n, h, w) or (n, channels) to embeddings (n, d).
    """

    function: Callable[[np.ndarray], np.ndarray] = field(default=np.asarray)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        return np.asarray(self.function(batch))


def from_module(module: torch.nn.Module, name: str | None = None, **options: Any) -> TorchEncoder:
    """Describe a module; its weights decide the digest."""
    digest = hashlib.sha256(repr(module).encode())
    for key, tensor in module.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return TorchEncoder(
        name=name or type(module).__name__, module=module, digest=digest.hexdigest(), **options
    )


def from_file(path: str | Path, *, trusted: bool, **options: Any) -> TorchEncoder:
    """Describe a TorchScript or exported file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind, or not `trusted`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no encoder file {str(path)!r}.")
    if path.suffix not in (".pt", ".pt2"):
        raise ValueError(
            f"{path.name!r} is neither TorchScript (.pt) nor an exported program (.pt2). Weights "
            "alone need their module: get_encoder(module, weights='weights.safetensors')."
        )
    if not trusted:
        raise ValueError(
            f"{path.name!r} can run code of whoever wrote it. If you trust it, pass "
            f"encoder=hyperspy_fewshot.get_encoder({path.name!r}, trusted=True)."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return TorchEncoder(name=path.name, path=str(path.resolve()), digest=digest, **options)


def from_timm(name: str, **options: Any) -> TorchEncoder:
    """Describe a model of the optional package timm, by its name there.

    Raises
    ------
    ImportError
        If timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f"The encoder 'timm:{name}' needs the package timm: pip install timm"
        ) from error
    module = timm.create_model(name, pretrained=True, num_classes=0, in_chans=1)
    return from_module(module, name=f"timm:{name}", **options)


def load_weights(module: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """Return a copy of a module with weights from a file, without pickle."""
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    module = copy.deepcopy(module)
    module.load_state_dict(state)
    return module


@dataclass(frozen=True)
class _Source:
    """What a built module depends on, for the cache."""

    digest: str
    encoder: TorchEncoder = field(compare=False)


@lru_cache(maxsize=8)
def _build(source: _Source, device: str) -> torch.nn.Module:
    """The module ready to run, once per process and device."""
    path = source.encoder.path
    if path is None:
        return copy.deepcopy(source.encoder.module).eval().to(device)
    if path.endswith(".pt2"):
        return torch.export.load(path).module().to(device)
    return torch.jit.load(path, map_location=device).eval()


def _channels(module: torch.nn.Module) -> int:
    """Channels that the first convolution wants; 1 where there is none."""
    for weight in module.parameters():
        if weight.ndim >= 3:
            return int(weight.shape[1])
    return 1
