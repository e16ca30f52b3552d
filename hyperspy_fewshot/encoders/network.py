"""The network of the bundled image encoder."""

import torch
from torch import nn

from .lattice import CELL, CHIP

#: Numbers of the embedding of a chip and of a pattern.
EMBEDDING = 128

_WIDTHS = (24, 48, 96)
# Sides of the central windows whose mean is taken beside that of the chip, in
# parts of the chip: what lies at the centre decides where a chip is mixed.
WINDOWS = (1.0, 0.5, 0.25)
# Least spread of a feature, against division by zero in the gradient.
_LEAST = 1e-4


class StemNetwork(nn.Module):
    """A small residual network, dense: features of cells, pooled over any window.

    Three stages at 1/2, 1/4 and 1/8 of the resolution, receptive field 57 px.
    A chip is described by mean and standard deviation of the input and of all
    stages inside its window, and by their means inside smaller central ones.
    """

    def __init__(self):
        super().__init__()
        first, second, third = _WIDTHS
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_conv(1, first, 5, stride=2), _Block(first)),
                nn.Sequential(_conv(first, second, 3, stride=2), _Block(second)),
                nn.Sequential(_conv(second, third, 3, stride=2), _Block(third, kernels=(3, 1))),
            ]
        )
        features = (1 + sum(_WIDTHS)) * (1 + len(WINDOWS))
        self.chip_head = _Head(features)
        self.squeeze = nn.Conv2d(third + second, 24, 1)
        self.pattern_head = _Head(24 * (CHIP // CELL) ** 2 + (CHIP // CELL) ** 2)

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """Means and mean squares of all features inside cells of 8 x 8 px.

        Parameters
        ----------
        images
            Shape (n, h, w), h and w multiples of 8.

        Returns
        -------
        torch.Tensor
            Shape (n, 2 c, h / 8, w / 8); the first half are the means.
        """
        x = images[:, None]
        means, squares = [], []
        for stage, cell in zip((None, *self.stages), (8, 4, 2, 1), strict=True):
            x = x if stage is None else stage(x)
            means.append(x if cell == 1 else nn.functional.avg_pool2d(x, cell))
            squares.append(x**2 if cell == 1 else nn.functional.avg_pool2d(x**2, cell))
        return torch.cat(means + squares, dim=1)

    def embed_pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """Embed chips from their pooled features.

        Parameters
        ----------
        pooled
            Shape (n, c * (1 + len(WINDOWS))): means inside the windows, the
            whole chip first, then the mean squares inside the whole chip.

        Returns
        -------
        torch.Tensor
            Shape (n, EMBEDDING), unit length.
        """
        width = pooled.shape[1] // (1 + len(WINDOWS))
        mean, square = pooled[:, :width], pooled[:, -width:]
        spread = torch.sqrt((square - mean**2).clamp(min=0) + _LEAST)
        return self.chip_head(torch.cat([pooled[:, :-width], spread], dim=1))

    def chips(self, images: torch.Tensor) -> torch.Tensor:
        """Embed the central chips of fields (n, side, side), side a multiple of 16."""
        cells = self.cells(images)
        c, side = cells.shape[1] // 2, cells.shape[2]
        pooled = []
        for window in WINDOWS:
            half = round(window * CHIP / CELL / 2)
            inner = slice(side // 2 - half, side // 2 + half)
            pooled.append(
                cells[:, : c if half < CHIP // CELL // 2 else 2 * c, inner, inner].mean((2, 3))
            )
        pooled = [pooled[0][:, :c], *pooled[1:], pooled[0][:, c:]]
        return self.embed_pooled(torch.cat(pooled, dim=1))

    def patterns(self, images: torch.Tensor) -> torch.Tensor:
        """Embed patterns (n, 64, 64), where positions count."""
        x, kept = images[:, None], []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number:
                kept.append(nn.functional.avg_pool2d(x, 2) if number == 1 else x)
        coarse = nn.functional.avg_pool2d(images[:, None], CELL)
        squeezed = self.squeeze(torch.cat(kept, dim=1))
        return self.pattern_head(torch.cat([squeezed, coarse], dim=1).flatten(1))


class _Head(nn.Module):
    """Features to an embedding: standardised, a linear and a bent part."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.linear = nn.Linear(features, EMBEDDING)
        self.bent = nn.Sequential(nn.Linear(features, 192), nn.ReLU(), nn.Linear(192, EMBEDDING))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = self.norm(features)
        return nn.functional.normalize(self.linear(features) + self.bent(features), dim=1)


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int, kernels: tuple[int, int] = (3, 3)):
        super().__init__()
        self.first = _conv(width, width, kernels[0])
        self.second = _conv(width, width, kernels[1], last=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(x + self.second(self.first(x)))


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, last: bool = False) -> nn.Module:
    layers = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers) if last else nn.Sequential(*layers, nn.ReLU())
