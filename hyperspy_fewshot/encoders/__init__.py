"""Encoders: what turns a chip, a pattern or a spectrum into an embedding.

:class:`Encoder` is the contract, :func:`get_encoder` the only way in: it takes
a bundled name, a module, a file or a function, and returns an `Encoder`.
"""

from .base import KINDS, Encoder
from .registry import default_encoder, get_encoder, list_encoders

__all__ = ["KINDS", "Encoder", "default_encoder", "get_encoder", "list_encoders"]
