"""From the `encoder` argument of a user to an :class:`Encoder`."""

from pathlib import Path
from typing import Any

import torch

from hyperspy_fewshot.encoders import foreign
from hyperspy_fewshot.encoders.base import Encoder
from hyperspy_fewshot.encoders.fourier import FourierEncoder
from hyperspy_fewshot.encoders.pattern import PatternEncoder
from hyperspy_fewshot.encoders.pca import PCAEncoder
from hyperspy_fewshot.encoders.spectrum import SpectrumEncoder
from hyperspy_fewshot.encoders.stem import StemEncoder
from hyperspy_fewshot.encoders.threads import usable_threads

_BUNDLED = {
    "stem": StemEncoder.load(),
    "pattern": PatternEncoder("pattern", kinds=("pattern",)),
    "spectrum": SpectrumEncoder("spectrum", kinds=("spectrum",)),
    "fourier": FourierEncoder("fourier", kinds=("image", "pattern")),
    "pca": PCAEncoder("pca"),
}
# The encoders that ``encoder=None`` stands for.
_DEFAULTS = {"image": "stem", "pattern": "pattern", "spectrum": "spectrum"}


def list_encoders(kind: str | None = None) -> list[str]:
    """Return the names of the bundled encoders.

    Parameters
    ----------
    kind
        Only those for ``"image"``, ``"pattern"`` or ``"spectrum"``; None: all.
    """
    return [name for name, encoder in _BUNDLED.items() if kind is None or kind in encoder.kinds]


def default_encoder(kind: str) -> Encoder:
    """Return the bundled encoder that ``encoder=None`` stands for."""
    return _BUNDLED[_DEFAULTS[kind]]


@usable_threads()
def get_encoder(
    encoder: Any,
    *,
    weights: str | Path | None = None,
    input_size: int | None = None,
    trusted: bool = False,
) -> Encoder:
    """Make an encoder from a name, a module, a file or a function.

    Parameters
    ----------
    encoder
        A bundled name (see :func:`list_encoders`), ``"timm:<name>"``, an :class:`Encoder`, a
        :class:`torch.nn.Module`, the path of a TorchScript (.pt) or exported (.pt2) file, or a
        function that maps NumPy batches (n, h, w) or (n, channels) to embeddings (n, d).
    weights
        State dict for a module, .safetensors or written by ``torch.save``; for ``"stem"`` a file
        written by ``python -m hyperspy_fewshot.pretrain``. Read without pickle.
    input_size
        Side to which the input images of a module or a file are resampled [px]; None: not
        resampled.
    trusted
        Must be True for a TorchScript or exported file, since both can run code.

    Returns
    -------
    Encoder

    Raises
    ------
    ValueError
        If the name is unknown, a file is not `trusted`, or an option does not apply to the encoder.
    TypeError
        If `encoder` is none of the above.
    ImportError
        If ``"timm:<name>"`` is asked for and timm is not installed.
    """
    options = {} if input_size is None else {"input_size": input_size}
    if isinstance(encoder, str) and encoder == "stem" and weights is not None:
        _refuse(encoder, input_size=input_size)
        return StemEncoder.load(Path(weights))
    if isinstance(encoder, str):
        encoder = _BUNDLED.get(encoder, encoder)
    if isinstance(encoder, Encoder):
        _refuse(encoder, weights=weights, input_size=input_size)
        return encoder
    if isinstance(encoder, type):
        raise TypeError(f"encoder is the class {encoder.__name__}; pass {encoder.__name__}(...).")
    if isinstance(encoder, torch.nn.Module):
        module = encoder if weights is None else foreign.load_weights(encoder, weights)
        return foreign.from_module(module, **options)
    _refuse(encoder, weights=weights)
    if isinstance(encoder, str) and encoder.startswith("timm:"):
        return foreign.from_timm(encoder.removeprefix("timm:"), **options)
    if isinstance(encoder, Path) or (isinstance(encoder, str) and Path(encoder).suffix):
        return foreign.from_file(encoder, trusted=trusted, **options)
    if isinstance(encoder, str):
        raise ValueError(
            f"There is no encoder {encoder!r}. Bundled: {', '.join(map(repr, _BUNDLED))}; others "
            "are 'timm:<name>', a .pt or .pt2 file, a torch module or a function."
        )
    if callable(encoder):
        _refuse(encoder, input_size=input_size)
        name = getattr(encoder, "__name__", type(encoder).__name__)
        return foreign.CallableEncoder(name, function=encoder)
    raise TypeError(
        f"encoder is {type(encoder).__name__}; a name, an Encoder, a torch module, a path or a "
        "function on NumPy batches is needed."
    )


def _refuse(encoder: Any, **options: Any) -> None:
    """Refuse options that would be ignored."""
    accepted = {"weights": "torch modules and 'stem'", "input_size": "torch modules and files"}
    for option, value in options.items():
        if value is not None:
            name = encoder.name if isinstance(encoder, Encoder) else encoder
            raise ValueError(
                f"{option}={str(value)!r} is for {accepted[option]}; encoder={name!r} takes none."
            )
