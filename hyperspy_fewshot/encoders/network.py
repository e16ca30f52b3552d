"""The network of the bundled image encoder."""

import torch
from torch import nn

from hyperspy_fewshot.encoders.resampling import CELL, CHIP

#: Length of the embedding of a chip.
EMBEDDING = 128

_WIDTHS = (24, 48, 96)
#: Number of the features that are pooled: those of all stages and the input.
FEATURES = 1 + sum(_WIDTHS)
# Sides of the windows at the centre of a chip over which features are averaged, relative to the chip:
# where a chip is mixed, its centre decides.
WINDOWS = (1.0, 0.5, 0.25)
# Added to the variance of a feature, whose square root would have no gradient at 0.
_VARIANCE_FLOOR = 1e-4


class StemNetwork(nn.Module):
    """A small residual network whose features are pooled over any window.

    It has three stages at 1/2, 1/4 and 1/8 of the resolution and a receptive field of 57 px. A chip
    is described by the mean and the standard deviation of the input and of all stages inside its
    window, and by their means inside smaller windows at its centre.
    """

    def __init__(self):
        super().__init__()
        first, second, third = _WIDTHS
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_conv(1, first, 5, stride=2), _Block(first)),
                nn.Sequential(_conv(first, second, 3, stride=2), _Block(second)),
                nn.Sequential(_conv(second, third, 3, stride=2), _Block(third, side=1)),
            ]
        )
        features = FEATURES * (1 + len(WINDOWS))
        self.chip_head = _Head(features)

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """Return means and mean squares of all features of images (n, h, w) in cells of 8 x 8 px.

        The sides are multiples of 8. The result has shape (n, 2 c, h / 8, w / 8), means first.
        """
        x, means, squares = images[:, None], [], []
        for stage, cell in zip((nn.Identity(), *self.stages), (8, 4, 2, 1), strict=True):
            x = stage(x)
            means.append(nn.functional.avg_pool2d(x, cell))
            squares.append(nn.functional.avg_pool2d(x**2, cell))
        return torch.cat(means + squares, dim=1)

    def embed_pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """Embed chips from their pooled features, L2-normalised, shape (n, EMBEDDING).

        `pooled` has shape (n, c * (1 + len(WINDOWS))): means inside the windows, beginning with the
        whole chip, then mean squares inside the whole chip.
        """
        width = pooled.shape[1] // (1 + len(WINDOWS))
        mean, square = pooled[:, :width], pooled[:, -width:]
        spread = torch.sqrt((square - mean**2).clamp(min=0) + _VARIANCE_FLOOR)
        return self.chip_head(torch.cat([pooled[:, :-width], spread], dim=1))

    def chips(self, images: torch.Tensor) -> torch.Tensor:
        """Embed the chips at the centres of fields (n, side, side), side a multiple of 16."""
        cells = self.cells(images)
        means, squares = cells.chunk(2, dim=1)

        def pooled(features: torch.Tensor, window: float) -> torch.Tensor:
            half, middle = round(window * CHIP / CELL / 2), cells.shape[2] // 2
            inner = slice(middle - half, middle + half)
            return features[:, :, inner, inner].mean((2, 3))

        parts = [pooled(means, window) for window in WINDOWS]
        return self.embed_pooled(torch.cat([*parts, pooled(squares, 1.0)], dim=1))


class _Head(nn.Module):
    """From features to an embedding: the sum of a linear and a nonlinear layer."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.linear = nn.Linear(features, EMBEDDING)
        self.bent = nn.Sequential(nn.Linear(features, 192), nn.ReLU(), nn.Linear(192, EMBEDDING))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = self.norm(features)
        return nn.functional.normalize(self.linear(features) + self.bent(features), dim=1)


class _Block(nn.Module):
    """A residual block of two convolutions, the second with kernels of a given side."""

    def __init__(self, width: int, side: int = 3):
        super().__init__()
        self.first = _conv(width, width, 3)
        self.second = _conv(width, width, side, last=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(x + self.second(self.first(x)), inplace=True)


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, last: bool = False) -> nn.Module:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    activation = [] if last else [nn.ReLU(inplace=True)]
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), *activation)
