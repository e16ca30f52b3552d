"""Encoders: they map a chip, a pattern or a spectrum to an embedding.

:class:`Encoder` is the base class. :func:`get_encoder` makes one from a bundled name, a module, a
file or a function.
"""

from hyperspy_fewshot.encoders.base import KINDS, Encoder
from hyperspy_fewshot.encoders.registry import default_encoder, get_encoder, list_encoders

__all__ = ["KINDS", "Encoder", "default_encoder", "get_encoder", "list_encoders"]
