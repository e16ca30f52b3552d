"""`"spectrum"`: components of spectra that a trained network has filtered along energy."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from .base import to_tensor
from .filters import Scaled, SpectrumNetwork, components_above_noise
from .linear import LinearEncoder, binned, totals
from .pca import leading_components
from .threads import one_thread
from .weights import described, trained, weights_at


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumEncoder(LinearEncoder):
    """Trained encoder of spectra that knows the data set, not the labels.

    As for ``"pca"``, values are divided by the square root of their mean over
    the data set. A network is shown, for every channel and scale, the mean
    and how much of the variance exceeds noise, and answers how much each
    counts: peaks are matched by filters of their width, and what holds noise
    alone is left out. Of what is filtered, the principal components above
    noise are kept [1]_, each weighted by the share of it that is signal.
    Beside them stand the components of ``"pca"``, of spectra as they are and
    of spectra divided by their totals, since thickness may or may not belong
    to a class.

    Parameters
    ----------
    lengths
        Numbers of filtered components, at most 8, of components of spectra as
        they are, and of their shapes; set by :meth:`fit`.
    path
        File of weights, .safetensors, "" for those of the package; only
        :meth:`fit` reads it.
    digest
        SHA-256 of that file.

    References
    ----------
    .. [1] M. Gavish, D. L. Donoho, IEEE Trans. Inf. Theory 63, 2137 (2017).
    """

    lengths: tuple[int, ...] = ()
    path: str = ""
    digest: str = ""

    _not_hashed: ClassVar[frozenset[str]] = LinearEncoder._not_hashed | {"path"}

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Take the weights from a file; None: those of the package."""
        return cls("spectrum", ("spectrum",), **described("spectrum", path))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Lengths of the parts of an embedding: filtered, of spectra as they are, of their shapes."""
        return self.lengths

    def fit(self, sample: np.ndarray, *, kind: str, sum_normalise: bool = False) -> Self:
        """Learn filters and components; see :meth:`Encoder.fit`."""
        raw = binned(to_tensor(sample, "cpu"), self.longest)
        total, signs, least = totals(raw)
        shape = raw / total
        filtered = shape if sum_normalise else raw
        parts = [
            (filtered, *self._filtered(filtered)),
            (raw, *leading_components(raw.numpy(), "spectrum")),
            (shape, *leading_components(shape.numpy(), "spectrum")),
        ]
        columns = [_equalised(items, components) for items, _, components in parts]
        lengths = tuple(part.shape[1] for part in columns)
        pairs = zip(parts, columns, strict=True)
        return replace(
            self,
            components=np.concatenate(columns, axis=1),
            centre=np.concatenate([mean @ part for (_, mean, _), part in pairs]),
            divided=np.repeat([sum_normalise, False, True], lengths),
            signs=signs,
            least=least,
            lengths=lengths,
        )

    def _filtered(self, items: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Mean of items (n, p), and the components (p, d) of what the network filters."""
        with one_thread(), torch.no_grad():
            scale = float(items.abs().sum(1).mean()) or 1.0
            scaled = Scaled.of(items / scale)
            path = weights_at("spectrum", self.path)
            network = trained(SpectrumNetwork, path, self.digest, "cpu")
            components = components_above_noise(scaled, network.filters(scaled))
        components = scaled.weights.numpy()[:, np.newaxis] * components / scale
        return scaled.mean.numpy() * scale, components


def _equalised(items: torch.Tensor, components: np.ndarray) -> np.ndarray:
    """Components scaled so that the embeddings of a sample have a total variance of 1."""
    variance = float((items @ torch.as_tensor(components)).var(0, correction=0).sum())
    return components / np.float32(np.sqrt(variance) or 1.0)
