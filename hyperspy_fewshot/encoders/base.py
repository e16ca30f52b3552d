"""The contract of an encoder, and what every encoder shares."""

import hashlib
import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from dask.base import tokenize
from scipy.sparse.linalg import LinearOperator, eigsh

from .threads import one_thread

KINDS = ("image", "pattern", "spectrum")

# Items of a batch, as float32: large ones take several times as much to encode.
_BATCH_BYTES = 64 * 2**20
# Columns of a matrix of scalar products that are multiplied at a time.
_PANEL = 256
# Share of its variance that a component has in items it was not learnt from: of
# noise far less, of signal nearly all.
_REPRODUCED = 0.5


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen description of a map from items to embeddings.

    An item is a chip or a pattern (h, w), or a spectrum (channels,). To write
    an encoder, subclass this and define :meth:`encode`; override :meth:`fit`
    when something has to be learnt from the data set without labels.

    Parameters
    ----------
    name
        How the encoder is called in metadata and messages.
    kinds
        The kinds of item that it accepts, out of ``"image"`` (chips),
        ``"pattern"`` and ``"spectrum"``.
    offset, scale
        Robust normalisation of the data set, ``(item - offset) / scale``.
        Set by :meth:`fit`, the same for all items, so that mean intensity
        (Z-contrast) is kept.
    dihedral
        Whether the 8 rotations and mirror images of a support example are
        examples of the same class for this encoder.
    batch_size
        Most items encoded at a time; fewer when they are large, and halved
        when memory runs out.

    Notes
    -----
    Two encoders are equal when they give equal embeddings, that is when name
    and :attr:`sha256` agree. An encoder pickles, and costs little to ship.
    """

    name: str
    kinds: tuple[str, ...] = KINDS
    offset: float = 0.0
    scale: float = 1.0
    dihedral: bool = False
    batch_size: int = 256

    #: Lengths of the parts that an embedding joins: each is weighted by how
    #: well it tells the shots apart. None: one part.
    blocks: ClassVar[tuple[int, ...] | None] = None
    #: Whether chips are embedded by `encode_field` in the image, uncut, and
    #: `fit` gets such fields of an image in place of items.
    dense: ClassVar[bool] = False
    #: What the digest leaves out: it does not change the embeddings.
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
            Whether only the shape of a spectrum counts and not its sum (EDS,
            where the sum follows the thickness).

        Returns
        -------
        Encoder
            A fitted copy; this one is not changed. The default sets `offset`
            to the median and `scale` to the 1-99 % range of the sample.
        """
        low, middle, high = np.percentile(_thin(sample), (1, 50, 99))
        scale = float(high - low) or float(np.abs(sample).max()) or 1.0
        return replace(self, offset=float(middle), scale=scale)

    def encode(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed a batch of items.

        Parameters
        ----------
        batch
            Items of shape (n, h, w) or (n, channels).
        device
            Where to compute, as torch names it.

        Returns
        -------
        numpy.ndarray
            Embeddings of shape (n, d).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define encode(batch, device)")

    def reduce(self, batch: np.ndarray, device: str = "cpu") -> np.ndarray:
        """First step of :meth:`encode`, linear: fewer numbers of every item.

        A linear step and the mean over neighbouring positions may change
        places, and a mean over fewer numbers costs less.

        Parameters
        ----------
        batch, device
            As for :meth:`encode`.

        Returns
        -------
        numpy.ndarray
            Shape (n, ...), what :meth:`encode_reduced` takes. The default
            leaves items as they are.
        """
        return batch

    def encode_reduced(self, reduced: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Embed what :meth:`reduce` gives: the rest of :meth:`encode`."""
        return self.encode(reduced, device)

    def batch_of(self, item_shape: tuple[int, ...]) -> int:
        """Items of a shape that are encoded at a time."""
        return max(1, min(self.batch_size, _BATCH_BYTES // (4 * math.prod(item_shape))))

    @cached_property
    def sha256(self) -> str:
        """Digest of everything that decides the embeddings."""
        digest = hashlib.sha256(self.name.encode())
        for name, value in sorted(self.state().items()):
            if name not in self._not_hashed:
                digest.update(name.encode())
                digest.update(_as_bytes(value))
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """Return the fields by name: enough to build the encoder again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, sha256 {self.sha256[:8]}>"


def to_tensor(batch: np.ndarray, device: str) -> torch.Tensor:
    """Upload items as they are and convert to float32 on the device."""
    if batch.dtype.kind not in "uif" or not batch.dtype.isnative or batch.dtype.itemsize > 4:
        batch = batch.astype(np.float32)
    batch = np.ascontiguousarray(batch)
    # Torch warns of arrays that it could not write to.
    items = torch.as_tensor(batch if batch.flags.writeable else batch.copy())
    if torch.device(device).type == "cuda":
        # From pinned memory the copy does not wait for what the device computes.
        items = items.pin_memory()
    return items.to(device, non_blocking=True).float()


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, bool | int | float | str | tuple | None):
        return repr(value).encode()
    # The repr of a function holds its address, which differs in every process.
    return tokenize(value).encode()


def _thin(sample: np.ndarray, at_most: int = 1_000_000) -> np.ndarray:
    """Every n-th value, so that percentiles stay cheap."""
    step = max(1, sample.size // at_most)
    # A step that shares a factor with an item would see some pixels only, for
    # instance one column of every period of a lattice.
    while math.gcd(step, math.prod(sample.shape[1:])) > 1:
        step += 1
    return sample.reshape(-1)[::step]


def project_onto_components(
    features: np.ndarray, n_components: int, power: float, reproduced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of features, each scaled by its variance.

    Parameters
    ----------
    features
        Sample of shape (n, p).
    n_components
        At most so many components are kept; never more than the sample and
        its rank can carry.
    power
        A component of variance v is divided by ``v ** power``: 0 keeps the
        variances, 0.5 whitens. 0.25 lets faint but reproducible differences
        count without lifting the noise as high as the signal.
    reproduced
        Whether components of noise are left out: of fewer items than numbers
        they describe the very items that they were learnt from.

    Returns
    -------
    mean : numpy.ndarray
        Shape (p,).
    components : numpy.ndarray
        Shape (p, d); an embedding is ``(features - mean) @ components``.
    """
    mean = features.mean(axis=0)
    centred = (features - mean).astype(np.float32, copy=False)
    variance, vectors = _principal(centred, n_components)
    kept = variance > 1e-7 * max(variance[0], 1e-30)
    if reproduced:
        kept[_count_reproduced(centred, n_components) :] = False
    if not kept.any():
        # A sample without any variance still needs an embedding.
        p = centred.shape[1]
        return mean.astype(np.float32), np.full((p, 1), 1 / p, np.float32)
    scaled = vectors[:, kept] * variance[kept] ** -power
    return mean.astype(np.float32), scaled.astype(np.float32)


def _principal(centred: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Variance (d,), falling, of centred items (n, p) along unit vectors (p, d)."""
    n, p = centred.shape
    with one_thread():
        gram = _gram(torch.as_tensor(centred if p <= n else centred.T)) / n
        variance, vectors = _leading_eigenpairs(gram, min(n_components, max(n - 1, 1), p))
    if p > n:
        vectors = centred.T @ vectors.astype(np.float32)
        vectors /= np.sqrt(n * np.maximum(variance, 1e-30))
    return variance, vectors


def _count_reproduced(centred: np.ndarray, n_components: int) -> int:
    """How many components of one half of the items the other half has, too; 1 at least."""
    variance, vectors = _principal(centred[::2], n_components)
    others = ((centred[1::2] @ vectors.astype(np.float32)) ** 2).mean(axis=0)
    return max(1, int((others > _REPRODUCED * variance).sum()))


def _gram(columns: torch.Tensor) -> np.ndarray:
    """Scalar products of all columns, float64."""
    size = columns.shape[1]
    gram = torch.empty(size, size)
    for start in range(0, size, _PANEL):
        stop = min(start + _PANEL, size)
        # What lies below the diagonal lies above it, too.
        panel = columns[:, start:stop].T @ columns[:, start:]
        gram[start:stop, start:] = panel
        gram[start:, start:stop] = panel.T
    return gram.double().numpy()


def _leading_eigenpairs(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest k eigenvalues, falling, and their vectors as columns."""
    tensor, size = torch.as_tensor(matrix), len(matrix)
    # Torch multiplies, because one can keep it to one thread.
    if size <= 1024 or k > size // 4:
        values, vectors = (part.numpy()[..., -k:] for part in torch.linalg.eigh(tensor))
    else:
        product = LinearOperator(
            matrix.shape, lambda v: (tensor @ torch.as_tensor(v).reshape(-1)).numpy(), dtype=float
        )
        values, vectors = eigsh(product, k=k, v0=np.ones(size))
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order]
