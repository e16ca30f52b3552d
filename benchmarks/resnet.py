"""ResNet-101, the encoder that the published method runs over every chip, for its cost."""

import torch
from torch import nn

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 23, 2), (512, 3, 2))
_EXPANSION = 4


class Bottleneck(nn.Module):
    """Three convolutions around a shortcut; batch norm is folded into their biases."""

    def __init__(self, inside: int, width: int, stride: int):
        super().__init__()
        outside = _EXPANSION * width
        self.body = nn.Sequential(
            nn.Conv2d(inside, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outside, 1),
        )
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, inside, h, w) to (n, outside, h / stride, w / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet101() -> nn.Module:
    """The network up to its 2048 features, random weights, as fast as torch runs it on a CPU."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, blocks, stride in _STAGES:
        for number in range(blocks):
            layers.append(Bottleneck(inside, width, 1 if number else stride))
            inside = _EXPANSION * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)
