"""The base class of all encoders."""

import hashlib
import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from dask.base import tokenize

KINDS = ("image", "pattern", "spectrum")

# Largest batch as float32 [bytes]: a network needs several times as much for its features.
_BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen description of a map from items to embeddings.

    An item is a chip or a pattern (h, w), or a spectrum (channels,). To write an encoder, subclass
    this and define :meth:`encode`, and :meth:`fit` if it learns from the data set.

    Parameters
    ----------
    name
        Name in metadata and messages.
    kinds
        Kinds of item that the encoder accepts: any of ``"image"`` (chips), ``"pattern"`` and
        ``"spectrum"``.
    offset, scale
        Normalisation of the data set, ``(item - offset) / scale``; set by :meth:`fit`. It is the
        same for all items, so that mean intensity (Z-contrast) is kept.
    dihedral
        Whether to augment each support example with its 8 rotations and mirror images.
    batch_size
        Maximum number of items encoded at a time. Fewer are taken if they are large, and the number
        is halved when memory runs out.

    Notes
    -----
    Encoders are equal if they have the same class and :attr:`sha256`, and so the same embeddings.
    """

    name: str
    kinds: tuple[str, ...] = KINDS
    offset: float = 0.0
    scale: float = 1.0
    dihedral: bool = False
    batch_size: int = 256

    #: Lengths of the groups of numbers that an embedding joins. The classifier weights each group
    #: by how well it separates the shots. None: one group.
    feature_groups: ClassVar[tuple[int, ...] | None] = None
    #: Whether the encoder embeds chips inside the image with an `encode_field` method. Then `fit`
    #: gets a list of fields instead of items.
    dense: ClassVar[bool] = False
    #: Fields that do not change the embeddings.
    _not_hashed: ClassVar[frozenset[str]] = frozenset({"kinds", "batch_size"})

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn from a sample of the data set, without labels.

        Parameters
        ----------
        sample
            Items of shape (n, h, w) or (n, channels), float32, finite.
        kind
            One of ``"image"``, ``"pattern"``, ``"spectrum"``.
        sum_normalise
            Whether the sum of a spectrum says nothing about its class (EDS, where it follows the
            thickness).

        Returns
        -------
        Encoder
            A fitted copy. By default `offset` is the median of the sample and `scale` the range
            from its 1st to its 99th percentile.
        """
        low, middle, high = np.percentile(_subsampled(sample), (1, 50, 99))
        scale = float(high - low) or float(np.abs(sample).max()) or 1.0
        return replace(self, offset=float(middle), scale=scale)

    def parts(self, chip_size: int, lattice: bool) -> tuple[tuple["Encoder", int, float], ...]:
        """Return what embeds the chips of an image, the largest first.

        Parameters
        ----------
        chip_size
            Side of the largest chips [px].
        lattice
            Whether a crystal lattice was found in the image.

        Returns
        -------
        tuple
            Encoders, chip sizes [px], and the root mean square distances from the centre to which
            their embeddings are scaled before they are joined. By default the encoder alone.
        """
        return ((self, chip_size, 1.0),)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed a batch of items.

        Parameters
        ----------
        batch
            Items of shape (n, h, w) or (n, channels), of any dtype of the data.
        device
            Device to compute on, in torch notation.

        Returns
        -------
        numpy.ndarray
            Embeddings of shape (n, d).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define encode(batch, device)")

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Apply the linear first step of :meth:`encode`, which makes items smaller.

        Averaging neighbouring positions is faster after it, and gives the same. By default the
        items are returned as they are.
        """
        return batch

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed the output of :meth:`reduce`: the rest of :meth:`encode`."""
        return self.encode(reduced, device)

    def batch_of(self, item_shape: tuple[int, ...]) -> int:
        """Return how many items of a shape are encoded at a time."""
        return max(1, min(self.batch_size, _BATCH_BYTES // (4 * math.prod(item_shape))))

    @cached_property
    def sha256(self) -> str:
        """Digest of the class and of all fields that determine the embeddings."""
        digest = hashlib.sha256(f"{type(self).__module__}.{type(self).__qualname__}".encode())
        for name, value in sorted(self.state().items()):
            if name not in self._not_hashed:
                digest.update(name.encode())
                digest.update(_as_bytes(value))
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """Return the fields by name; they are enough to build the encoder again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, sha256 {self.sha256[:8]}>"


def check_orientations(encoder: Encoder, kind: str) -> None:
    """Refuse to augment the chips of a dense encoder, which lie inside the image: ValueError."""
    if kind == "image" and encoder.dense and encoder.dihedral:
        raise ValueError(
            f"The {encoder.name!r} encoder embeds chips inside the image, where rotated and mirrored "
            "copies are not available; leave dihedral at False for images."
        )


def to_tensor(batch: np.ndarray, device: str) -> torch.Tensor:
    """Copy items to the device and convert them to float32 there."""
    if batch.dtype.kind not in "uif" or not batch.dtype.isnative or batch.dtype.itemsize > 4:
        batch = batch.astype(np.float32)
    batch = np.ascontiguousarray(batch)
    # Torch warns about read-only arrays.
    items = torch.as_tensor(batch if batch.flags.writeable else batch.copy())
    if torch.device(device).type == "cuda":
        # A copy from pinned memory runs beside the computation.
        items = items.pin_memory()
    return items.to(device, non_blocking=True).float()


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, bool | int | float | str | tuple | None):
        return repr(value).encode()
    # The repr of a function contains its address, which differs between processes.
    return tokenize(value).encode()


def _subsampled(sample: np.ndarray, at_most: int = 1_000_000) -> np.ndarray:
    """Every n-th value, about `at_most` of them: percentiles of more are slow."""
    step = max(1, sample.size // at_most)
    # A step with a factor in common with the size of an item would see some of its pixels only,
    # for instance one column of every period of a crystal lattice.
    while math.gcd(step, math.prod(sample.shape[1:])) > 1:
        step += 1
    return sample.reshape(-1)[::step]
