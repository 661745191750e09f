"""Flow predictors in torch: the released network's, and those at the midpoint's pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .warping import warp

REACH = 5  # pixels of a level, of the coarsest flow predictor's comparisons
FAINT = 0.02  # deviation, in [0,1], below which what is around a pixel fades


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


def agreed(flows: Tensor) -> Tensor:
    """Flows (2B,2,H,W), forward before backward, made each other's opposite where they nearly are.

    Errors of the two are independent and their mean has less; where they differ, something is covered.
    """
    half = (flows + swap(flows)) / 2
    return flows - half * torch.exp(-half.square().sum(1, keepdim=True))


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


def described(images: Tensor) -> Tensor:
    """What images (B,3,H,W) show around each pixel, whatever the light: less the mean of 5x5, by their deviation."""

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 5, 1, 2, count_include_pad=False)

    centred = images - mean(images)
    return centred / (mean(centred.square()).mean(1, keepdim=True).sqrt() + FAINT)


def compared(brought: Tensor) -> Tensor:
    """How alike both frames' descriptions (2B,3,h,w) are in 3x3, opposite ways from each pixel: (2B,121,h,w).

    One for each flow of up to REACH whole pixels, row by row, of which the other frame takes the larger half; 0 beyond
    the frame.
    """
    margin = (REACH + 1) // 2
    own, other = (F.pad(part, (margin,) * 4) for part in (brought, swap(brought)))
    height, width = brought.shape[2:]

    def moved(padded: Tensor, y: int, x: int) -> Tensor:
        return padded[:, :, margin + y : margin + y + height, margin + x : margin + x + width]

    reach = range(-REACH, REACH + 1)
    pairs = ((moved(own, -(y // 2), -(x // 2)), moved(other, y - y // 2, x - x // 2)) for y in reach for x in reach)
    return F.avg_pool2d(torch.stack([(one * two).mean(1) for one, two in pairs], 1), 3, 1, 1)


class MidpointPredictor(nn.Module):
    """The same at the midpoint's pixels: from both frames' features, projected and brought there."""

    def __init__(self, features: int, width: int, convolutions: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(features, width // 2, 1)
        self.predictor = Predictor(2 * (width // 2), width, convolutions)

    def forward(self, features: Tensor, flow: Tensor) -> Tensor:
        """Features (2B,C,h,w), first frames before last ones, and flows (2B,2,h,w), forward first -> flows."""
        brought = warp(self.project(features), swap(flow) / 2)
        return agreed(flow + self.predictor(torch.cat([brought, swap(brought)], 1)).float())

    def layers(self) -> list[nn.Conv2d]:
        """The convolutions, in order."""
        return [self.project, *self.predictor.layers()]


class MatchingPredictor(nn.Module):
    """The same from images two levels finer, whose pixels are compared with those around them in the other frame."""

    def __init__(self, width: int, convolutions: int, strided: int) -> None:
        super().__init__()
        inputs = 6 + (2 * REACH + 1) ** 2
        self.strided = nn.Sequential(convolution(inputs, strided, stride=2), convolution(strided, width, stride=2))
        self.predictor = Predictor(width, width, convolutions)

    def forward(self, images: Tensor, flow: Tensor) -> Tensor:
        """Images (2B,3,4h,4w), first frames before last ones, and flows (2B,2,h,w), forward first -> flows."""
        with torch.no_grad():
            images = images.float()
            halfway = swap(doubled(doubled(flow))) / 2
            brought, descriptions = warp(torch.cat([images - 0.5, described(images)], 1), halfway).split(3, 1)
            seen = torch.cat([brought, swap(brought), compared(descriptions)], 1)
        return agreed(flow + self.predictor(self.strided(seen)).float())

    def layers(self) -> list[nn.Conv2d]:
        """The convolutions, in order."""
        return [*(layer[0] for layer in self.strided), *self.predictor.layers()]
