"""Encoders provided by the user: torch modules, torch files and functions."""

import copy
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hyperspy_fewshot.encoders.base import Encoder, to_tensor
from hyperspy_fewshot.encoders.resampling import resized
from hyperspy_fewshot.encoders.weights import BUILD_LOCK, file_digest


@dataclass(frozen=True, eq=False, repr=False)
class TorchEncoder(Encoder):
    """A torch module as encoder, given as such or as a TorchScript or exported file.

    Items are normalised, get a channel axis, and images are resampled to a side of `input_size`
    pixels if it is set. Channels are repeated if the first convolution of the module needs more
    than one; without a convolution spectra get no channel axis. Outputs with more than two axes are
    averaged over all but the first two. `digest` is the SHA-256 of the module or of the file.
    """

    module: torch.nn.Module | None = None
    path: str | None = None
    input_size: int | None = None
    digest: str = ""

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"module", "path"}

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) or (n, channels) as (n, d)."""
        module = self._built(device)
        with torch.inference_mode():
            items = self._prepare(to_tensor(batch, device), _channels(module))
            try:
                output = module(items)
            except AssertionError as error:
                raise ValueError(
                    f"The encoder {self.name!r} does not take a batch of shape "
                    f"{tuple(items.shape)} ({error}). A module is exported for any batch with "
                    "dynamic_shapes=({0: torch.export.Dim('n')},)."
                ) from error
        if not isinstance(output, torch.Tensor):
            raise TypeError(
                f"The encoder {self.name!r} returned {type(output).__name__}; "
                "a tensor of shape (n, d) is needed."
            )
        return (output.flatten(2).mean(-1) if output.ndim > 2 else output).float().cpu().numpy()

    def _prepare(self, items: torch.Tensor, channels: int | None) -> torch.Tensor:
        """Normalise items, add channels, and resample them, shape (n, c, ...)."""
        items = (items - self.offset) / self.scale
        if items.ndim == 2 and channels is None:
            return items
        if items.ndim == 3 and self.input_size:
            items = resized(items, self.input_size)
        items = items[:, None]
        return items.expand(-1, channels or 1, *items.shape[2:])

    def _built(self, device: str) -> torch.nn.Module:
        """Return the module, ready to run on a device."""
        if self.path is None and torch.device(device).type == "cpu":
            return self.module
        with BUILD_LOCK:
            if self.path is None:
                return _moved(self.module, device)
            return _loaded(self.path, self.digest, device)


@dataclass(frozen=True, eq=False, repr=False)
class CallableEncoder(Encoder):
    """A function that maps items (n, h, w) or (n, channels), as they are, to embeddings (n, d)."""

    function: Callable[[np.ndarray], np.ndarray] = field(default=np.asarray)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Return the result of the function; `device` is ignored."""
        return np.asarray(self.function(batch))


def from_module(module: torch.nn.Module, name: str | None = None, **options: Any) -> TorchEncoder:
    """Make an encoder from a copy of a module; training the original does not change it."""
    module = copy.deepcopy(module).eval()
    return TorchEncoder(
        name=name or type(module).__name__, module=module, digest=_digest(module), **options
    )


def _digest(module: torch.nn.Module) -> str:
    """SHA-256 of the classes, plain attributes and weights of a module."""
    digest = hashlib.sha256()
    common = vars(torch.nn.Module())
    simple = bool | int | float | str | tuple | None
    for name, part in module.named_modules():
        own = [(k, v) for k, v in vars(part).items() if k not in common and isinstance(v, simple)]
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        digest.update(f"{name} {kind} {sorted(own)}".encode())
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            tensor = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def from_file(path: str | Path, *, trusted: bool, **options: Any) -> TorchEncoder:
    """Make an encoder from a TorchScript or exported file, which is read at the first use."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no encoder file {str(path)!r}.")
    if path.suffix not in (".pt", ".pt2"):
        raise ValueError(
            f"{path.name!r} is neither TorchScript (.pt) nor an exported program (.pt2). A "
            "file of weights needs its module: get_encoder(module, weights='weights.safetensors')."
        )
    if not trusted:
        raise ValueError(
            f"{path.name!r} can run code. If you trust its source, pass "
            f"encoder=hyperspy_fewshot.get_encoder({path.name!r}, trusted=True)."
        )
    return TorchEncoder(
        name=path.name, path=str(path.resolve()), digest=file_digest(path), **options
    )


def from_timm(name: str, **options: Any) -> TorchEncoder:
    """Make an encoder from a model of the optional package timm."""
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
    path, module = Path(path), copy.deepcopy(module)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights {str(path)!r}.")
    try:
        is_safe = path.suffix == ".safetensors"
        state = load_file(path) if is_safe else torch.load(path, "cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path.name!r} holds more than weights, which could run code, or is damaged. Save "
            "module.state_dict() only, preferably as .safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path.name!r} holds no weights that can be read: {error}") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path.name!r} holds {type(state).__name__}; a state dict is needed.")
    module.load_state_dict(state)
    return module


@lru_cache(maxsize=8)
def _moved(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """Copy of a module on a device, made once per process."""
    return copy.deepcopy(module).to(device)


@lru_cache(maxsize=8)
def _loaded(path: str, digest: str, device: str) -> torch.nn.Module:
    """Module of a file on a device, loaded once per process."""
    content, is_exported = Path(path).read_bytes(), path.endswith(".pt2")
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path!r} has changed since it was chosen as encoder; choose it again.")
    try:
        if is_exported:
            return torch.export.load(io.BytesIO(content)).module().to(device)
        return torch.jit.load(io.BytesIO(content), map_location=device).eval()
    except (RuntimeError, BadZipFile, EOFError, KeyError, ValueError) as error:
        kind = "an exported program" if is_exported else "TorchScript"
        raise ValueError(
            f"{path!r} is not {kind}. A file of weights needs its module: "
            "get_encoder(module, weights=...)."
        ) from error


def _channels(module: torch.nn.Module) -> int | None:
    """Number of input channels of the first convolution; None without a convolution."""
    for part in module.modules():
        if isinstance(getattr(part, "in_channels", None), int):
            return part.in_channels
    # Traced and exported modules keep only the weights of a convolution.
    for name, weight in module.named_parameters():
        if name.endswith("weight") and weight.ndim >= 3:
            return int(weight.shape[1])
    return None
