"""The released network's flow predictors in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolve to the same size or a part of it, then LeakyReLU 0.2."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, 0.2)  # torch's own beginning fades in a deep predictor
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.LeakyReLU(0.2, inplace=True))


def doubled(flow: Tensor) -> Tensor:
    """Flow (B,2,h,w) at twice the size, in pixels of that."""
    return F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False) * 2


def swap(tensor: Tensor) -> Tensor:
    """Exchange the halves of the batch: first frames for last ones, forward flows for backward ones."""
    return torch.roll(tensor, tensor.shape[0] // 2, 0)


class Predictor(nn.Sequential):
    """The released network's flow predictor: from own features and the other frame's to a residual flow."""

    def __init__(self, inputs: int, width: int, convolutions: int) -> None:
        super().__init__(
            *(convolution(width if index else inputs, width) for index in range(convolutions)),
            convolution(width, width // 2, 1),
            nn.Sequential(nn.Conv2d(width // 2, 2, 1)),
        )
        nn.init.normal_(self[-1][0].weight, 0, 1e-3)  # begin with almost no motion
        nn.init.zeros_(self[-1][0].bias)

    def layers(self) -> list[nn.Conv2d]:
        """The convolutions, in order."""
        return [layer[0] for layer in self]

