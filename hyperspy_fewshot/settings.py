"""How data were prepared for a classifier: enough to prepare others alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .encoders import Encoder
from .smoothing import Smoothing


@dataclass(frozen=True, eq=False)
class Settings:
    """What a classifier expects of its data.

    Parameters
    ----------
    kind
        ``"image"``, ``"pattern"`` or ``"spectrum"``.
    encoder
        The fitted encoder; None after loading a foreign one, which is not
        saved.
    embedding_size
        Length of an embedding.
    item_shape
        Shape of what is encoded.
    chip_size, stride
        Of images [px]; None for spectra and patterns.
    context
        Of spectra and patterns; None for images.
    smoothing
        Of spectra and patterns with a context; None otherwise.
    reject
        As it was asked for.
    signal_mask
        Channels or pixels left out, array order; None: none.
    signal_axis
        ``(offset, scale, units)`` of spectra, ``("", scale, units)`` of the x
        axis otherwise.
    """

    kind: str
    encoder: Encoder | None
    embedding_size: int
    item_shape: tuple[int, ...]
    chip_size: int | None
    stride: int | None
    context: int | None
    smoothing: Smoothing | None
    reject: bool | float
    signal_mask: np.ndarray | None
    signal_axis: tuple[Any, float, str]

    def check(self, **arguments: Any) -> None:
        """Refuse arguments that contradict what was learnt.

        Raises
        ------
        ValueError
            If an argument differs from the setting of its name.
        """
        for name, value in arguments.items():
            learnt = getattr(self, name)
            same = np.array_equal(value, learnt) if name == "signal_mask" else value == learnt
            if not same:
                shown = "another one" if name == "signal_mask" else repr(value)
                raise ValueError(
                    f"{name}={shown} contradicts what the classifier learnt with "
                    f"({learnt!r}). Leave {name} out, or classify from a support set."
                )
