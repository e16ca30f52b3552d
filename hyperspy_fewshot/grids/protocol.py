"""What the rest of the package may ask of a grid."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np

from hyperspy_fewshot.grids.slices import Slices


class FirstStep(Protocol):
    """The linear operations on items that a grid applies before it pools neighbours."""

    def reduce(self, items: np.ndarray) -> np.ndarray:
        """Apply the encoder's linear first step to items (n, ...)."""

    def project(self, items: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Multiply flattened items (n, p) by a matrix (p, k)."""


class Grid(Protocol):
    """Where the queries of a data set lie, and which data each of them needs.

    A cell of the grid is one query and gets one label. A location is an
    index into the data, in array order: a pixel ``(*nav, y, x)`` of an image
    or stack, a navigation position otherwise. A window is a tuple of slices
    into the data, a block a tuple of slices into the grid.

    Attributes
    ----------
    kind
        ``"image"``, ``"pattern"`` or ``"spectrum"``: what an item is.
    nav_shape, signal_shape
        Shapes of the navigation and signal space of the data, array order.
    shape
        Shape of the label map.
    item_shape
        Shape of what is encoded: a chip, a pattern or a spectrum.
    stride
        Distance between neighbouring cells [px or positions].
    side
        Side of the square of data around a location that informs its label.
    context
        Side of the square of positions that are pooled; 1 pools nothing.
    mixes
        Whether queries may hold several classes, as chips across a boundary do
        and the shots do not show.
    reach
        Cells, along each axis of a map, up to which a query covers others.
    refined_over
        Cells, along each axis, over which labels are refined by the guide
        image; 0 without one.
    boundary
        Cells by which boundaries on a map may be shifted.
    overlap
        Number of neighbouring labels that rest on the same data.
    n_guides
        Length of what :meth:`guide` returns for a cell.
    n_whole
        Number of signal axes that are read whole.
    sample_size
        Most cells in the sample of a data set.
    is_slow
        Whether items take so long to embed that a quarter of the sample has
        to show the mean of all.
    """

    kind: str
    nav_shape: tuple[int, ...]
    signal_shape: tuple[int, ...]
    shape: tuple[int, ...]
    item_shape: tuple[int, ...]
    stride: int
    side: int
    context: int
    mixes: bool
    reach: int
    refined_over: int
    boundary: float
    overlap: float
    n_guides: int
    n_whole: int
    sample_size: int
    is_slow: bool

    def for_data(
        self, nav_shape: tuple[int, ...], signal_shape: tuple[int, ...], stride: int | None
    ) -> Self:
        """Return the same grid over another data set; chips keep their stride if it is None."""

    def without_smoothing(self) -> Self:
        """Return the same grid with the plain mean over the context."""

    def sample_side(self, whole: bool) -> int:
        """Side in cells of the tiles of the sample; `whole`: they cover the grid."""

    def block_shape(self, dtype: np.dtype, chunks: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """Cells along each axis of the blocks in which data with such chunks are embedded."""

    def cell_areas(self) -> np.ndarray:
        """Pixels or positions that each cell of a map covers."""

    def centres(self, axis: int) -> np.ndarray:
        """Centres of the cells [px or positions] along the rows (0) or columns (1) axis."""

    def locations(self, axis: int) -> np.ndarray:
        """Indices into the data of the cells along the rows (0) or columns (1) axis."""

    def cell_at(self, location: Sequence[int]) -> tuple[int, ...]:
        """Cell that a location lies in."""

    def cell_mask(self, mask: np.ndarray) -> np.ndarray:
        """Mask of the cells from a mask of all locations."""

    def prepare(self, data: np.ndarray) -> np.ndarray:
        """Apply the signal mask to data (..., *signal)."""

    def window(self, block: Slices) -> Slices:
        """Data that a block of cells needs."""

    def window_at(self, location: tuple[int, ...]) -> Slices:
        """Data that an example at a location needs."""

    def batches(
        self, data: np.ndarray, block: Slices, mask: np.ndarray | None, size: int, step: FirstStep
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield flat indices (n,) and reduced items (n, ...) of the unmasked cells of a block.

        `data` are those of :meth:`window`, `mask` covers the whole grid, `size`
        is the most items at a time, and `step` is applied before pooling.
        """

    def item_at(
        self, data: np.ndarray, location: tuple[int, ...], mask: np.ndarray | None, step: FirstStep
    ) -> np.ndarray:
        """Return the reduced item of an example, shape (1, ...)."""

    def guide(self, data: np.ndarray, block: Slices) -> np.ndarray:
        """Values of the guide image for a block, shape (cells, n_guides)."""

    def settings(self) -> dict[str, Any]:
        """What decides the embeddings beside the encoder, by the name of the argument."""
