"""Encoders of the user's: torch modules, files of torch, plain functions."""

import copy
import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors.torch import load_file

from .base import Encoder, to_tensor

# Blocks are encoded by several threads; one of them builds the module.
_BUILD_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False, repr=False)
class TorchEncoder(Encoder):
    """A torch module as encoder.

    Items are normalised, given a channel axis (repeated when the module's
    first convolution wants more than one channel; spectra get none when there
    is no convolution), and resampled when `input_size` is set. Outputs with
    more than two axes are averaged over all but the first two.

    Parameters
    ----------
    module
        The module, in evaluation mode; None when the encoder comes from a
        file.
    path
        TorchScript (.pt) or exported program (.pt2), loaded once per process.
    input_size
        Side to which images are resampled [px]; None leaves them as they are.
    digest
        SHA-256 of the module or of the file.
    """

    module: torch.nn.Module | None = None
    path: str | None = None
    input_size: int | None = None
    digest: str = ""

    _not_hashed: ClassVar[frozenset[str]] = Encoder._not_hashed | {"module", "path"}

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed items (n, h, w) or (n, channels) as (n, d).

        Raises
        ------
        TypeError
            If the module does not return a tensor.
        ValueError
            If the file cannot be used, or was exported for another batch.
        """
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
        """Normalise, give channels, resample: a tensor (n, c, ...)."""
        items = (items - self.offset) / self.scale
        if items.ndim == 2 and channels is None:
            return items
        items = items[:, None]
        if items.ndim == 4 and self.input_size:
            size = (self.input_size, self.input_size)
            items = torch.nn.functional.interpolate(
                items, size=size, mode="bilinear", antialias=True
            )
        return items.expand(-1, channels or 1, *items.shape[2:])

    def _built(self, device: str) -> torch.nn.Module:
        """The module ready to run on a device."""
        if self.path is None and torch.device(device).type == "cpu":
            return self.module
        with _BUILD_LOCK:
            if self.path is None:
                return _moved(self.module, device)
            return _loaded(self.path, self.digest, device)


@dataclass(frozen=True, eq=False, repr=False)
class CallableEncoder(Encoder):
    """A function on NumPy batches as encoder; it gets the items as they are.

    Parameters
    ----------
    function
        Maps items (n, h, w) or (n, channels) to embeddings (n, d).
    """

    function: Callable[[np.ndarray], np.ndarray] = field(default=np.asarray)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Return what the function makes of a batch, wherever it computes."""
        return np.asarray(self.function(batch))


def from_module(module: torch.nn.Module, name: str | None = None, **options: Any) -> TorchEncoder:
    """Describe a module: a copy, so that the user may train his own on."""
    module = copy.deepcopy(module).eval()
    return TorchEncoder(
        name=name or type(module).__name__, module=module, digest=_digest(module), **options
    )


def _digest(module: torch.nn.Module) -> str:
    """SHA-256 of the classes, plain attributes and weights of a module."""
    digest = hashlib.sha256()
    common = vars(torch.nn.Module())
    for name, part in module.named_modules():
        plain = {
            key: value
            for key, value in vars(part).items()
            if key not in common and isinstance(value, bool | int | float | str | tuple | None)
        }
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        digest.update(f"{name} {kind} {sorted(plain.items())}".encode())
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            tensor = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


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
    """Return a copy of a module with weights from a file, without pickle.

    Raises
    ------
    ValueError
        If the file holds more than weights.
    RuntimeError
        If the weights are not those of the module.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise ValueError(
                f"{path.name!r} holds more than weights, which could run code. Save "
                "module.state_dict() alone, best as .safetensors."
            ) from error
    module = copy.deepcopy(module)
    module.load_state_dict(state)
    return module


@lru_cache(maxsize=8)
def _moved(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """A copy of a module on a device, made once per process."""
    return copy.deepcopy(module).to(device)


@lru_cache(maxsize=8)
def _loaded(path: str, digest: str, device: str) -> torch.nn.Module:
    """The module of a file on a device, loaded once per process."""
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path!r} has changed since it was chosen as encoder; choose it again.")
    try:
        if path.endswith(".pt2"):
            return torch.export.load(io.BytesIO(content)).module().to(device)
        return torch.jit.load(io.BytesIO(content), map_location=device).eval()
    except (RuntimeError, BadZipFile) as error:
        kind = "an exported program" if path.endswith(".pt2") else "TorchScript"
        raise ValueError(
            f"{path!r} is not {kind}. Weights alone need their module: "
            "get_encoder(module, weights=...)."
        ) from error


def _channels(module: torch.nn.Module) -> int | None:
    """Channels that the first convolution wants; None where there is none."""
    for part in module.modules():
        if isinstance(getattr(part, "in_channels", None), int):
            return part.in_channels
    # Traced and exported modules keep the weights of a convolution alone.
    for name, weight in module.named_parameters():
        if name.endswith("weight") and weight.ndim >= 3:
            return int(weight.shape[1])
    return None
