"""The recipe: what is learnt of a data set without labels."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from hyperspy_fewshot.encoders import Encoder
from hyperspy_fewshot.grids.protocol import Grid
from hyperspy_fewshot.grids.slices import Slices, around

# The data as they are, see `Recipe.scaling`.
UNSCALED = (0.0, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Part:
    """An encoder and the grid of the items that it encodes.

    Parameters
    ----------
    encoder
        The fitted encoder; None where a foreign one could not be saved.
    grid
        Where its items lie.
    size
        Length of its embeddings; 0 before it is known.
    scale
        What its embeddings are multiplied by.
    origin
        Digest of the encoder before it was fitted.
    groups
        Feature groups of the encoder, which outlast a foreign one that is not saved.
    """

    encoder: Encoder | None
    grid: Grid
    size: int = 0
    scale: float = 1.0
    origin: str = ""
    groups: tuple[int, ...] | None = None

    @property
    def dense(self) -> bool:
        """Whether chips are embedded inside the image rather than cut out of it."""
        return self.grid.kind == "image" and self.encoder.dense


@dataclass(frozen=True, eq=False)
class Recipe:
    """How the queries of a data set, and of others like it, are embedded.

    Parameters
    ----------
    parts
        Their embeddings are concatenated. All grids have the same cells.
    centre
        Mean embedding of the sample of the data set, shape (d,).
    signal_axis
        First value, scale and units of the signal axis, which data that reuse
        the recipe must share; of images scale and units only.
    scatter
        Least cosine, seen from the centre, and largest distance between
        embeddings of one class; -1 and 0 if they are not known.
    levels
        1st percentile, median and 99th percentile of the image that it was
        learnt on; empty for spectra and patterns.
    scaling
        (a, b, c): pixels x of the data set at hand are encoded as b (x - a) + c.
        It brings an image to the grey levels that the recipe was learnt on.
    """

    parts: tuple[Part, ...]
    centre: np.ndarray = field(repr=False)
    signal_axis: tuple[Any, ...]
    scatter: tuple[float, float] = (-1.0, 0.0)
    levels: tuple[float, ...] = ()
    scaling: tuple[float, float, float] = UNSCALED

    @property
    def grid(self) -> Grid:
        """The grid whose cells are the queries."""
        return self.parts[0].grid

    @property
    def size(self) -> int:
        """Length d of an embedding."""
        return sum(part.size for part in self.parts)

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """Lengths of the groups of numbers that an embedding joins."""
        groups: tuple[int, ...] = ()
        for part in self.parts:
            own = part.encoder.feature_groups if part.encoder else part.groups
            groups += own or (part.size,)
        return groups

    @property
    def side(self) -> int:
        """Side of the largest square of data that informs a label."""
        return max(part.grid.side for part in self.parts)

    @property
    def complete(self) -> bool:
        """Whether all encoders are there; foreign ones are not saved."""
        return all(part.encoder is not None for part in self.parts)

    @property
    def sha256(self) -> str:
        """Digest of everything that decides the embeddings of a data set with given grey levels."""
        digest = hashlib.sha256(replace(self, scaling=UNSCALED).description.encode())
        for part in self.parts:
            digest.update(part.encoder.sha256.encode() if part.encoder else b"")
        digest.update(np.ascontiguousarray(self.centre))
        return digest.hexdigest()

    @property
    def description(self) -> str:
        """What was chosen, as text; unlike the digest it does not depend on rounding."""
        shown: list[Any] = [self.signal_axis]
        for part in self.parts:
            settings = {
                name: hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
                if isinstance(value, np.ndarray)
                else value
                for name, value in part.grid.settings().items()
            }
            shown.append((part.origin, part.size, part.scale, settings))
        if self.scaling != UNSCALED:
            shown.append([f"{number:.9g}" for number in self.scaling])
        return repr(shown)

    @property
    def contrast(self) -> float:
        """Range of the grey levels of the images at hand; 1 where it is not known."""
        if not self.levels:
            return 1.0
        return (self.levels[-1] - self.levels[0]) / self.scaling[1] or 1.0

    def scaled(self, data: np.ndarray) -> np.ndarray:
        """Bring data to the grey levels that the recipe was learnt on, float32."""
        if self.scaling == UNSCALED:
            return data
        subtracted, factor, added = self.scaling
        # Large numbers that hardly differ would be equal as float32.
        wide = data.astype(np.result_type(data.dtype, np.float32))
        wide -= subtracted
        wide *= factor
        wide += added
        return wide.astype(np.float32, copy=False)

    def window(self, block: Slices) -> Slices:
        """Data that a block of cells needs."""
        return around([part.grid.window(block) for part in self.parts])

    def window_at(self, location: tuple[int, ...]) -> Slices:
        """Data that an example at a location needs."""
        return around([part.grid.window_at(location) for part in self.parts])

    def on(self, grid: Grid) -> Self:
        """Return the recipe for another data set with such a grid."""
        where = (grid.nav_shape, grid.signal_shape, grid.stride)
        parts = (replace(part, grid=part.grid.for_data(*where)) for part in self.parts)
        return replace(self, parts=tuple(parts))
