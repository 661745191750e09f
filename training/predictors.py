"""Flow predictors in torch: the released network's, and those at the midpoint's pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov_film.configuration import REACH

from .warping import warp


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


def compared(brought: Tensor) -> Tensor:
    """How alike both frames' descriptions (2B,C,h,w) are in 3x3, opposite ways from each pixel: (2B,81,h,w) in [-1,1].

    One for each flow of up to REACH whole pixels, row by row, of which the last frame takes the larger half; 0 beyond
    the frame. For the flows from the last frame to the first the order is the reverse.
    """
    margin = (REACH + 1) // 2
    first, last = (F.pad(part, (margin,) * 4) for part in brought.chunk(2))
    height, width = brought.shape[2:]

    def moved(padded: Tensor, y: int, x: int) -> Tensor:
        return padded[:, :, margin + y : margin + y + height, margin + x : margin + x + width]

    reach = range(-REACH, REACH + 1)
    pairs = ((moved(first, -(y // 2), -(x // 2)), moved(last, y - y // 2, x - x // 2)) for y in reach for x in reach)
    alike = F.avg_pool2d(torch.stack([(one * two).sum(1) for one, two in pairs], 1), 3, 1, 1)
    return torch.cat([alike, alike.flip(1)])


class MidpointPredictor(nn.Module):
    """The same at the midpoint's pixels: from both frames' features, projected and brought there, and compared."""

    def __init__(self, features: int, width: int, convolutions: int, descriptors: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(features, width // 2, 1)
        inputs = 2 * (width // 2)
        self.describe = None
        if descriptors:
            self.describe = nn.Conv2d(features, descriptors, 1).requires_grad_(False)
            inputs += (2 * REACH + 1) ** 2
        self.predictor = Predictor(inputs, width, convolutions)

    def forward(self, features: Tensor, flow: Tensor) -> Tensor:
        """Features (2B,C,h,w), first frames before last ones, and flows (2B,2,h,w), forward first -> flows."""
        halfway = swap(flow) / 2
        brought = warp(self.project(features), halfway)
        seen = [brought, swap(brought)]
        if self.describe:
            with torch.no_grad():
                seen.append(compared(warp(F.normalize(self.describe(features).float(), dim=1), halfway)))
        return agreed(flow + self.predictor(torch.cat(seen, 1)).float())

    def layers(self) -> list[nn.Conv2d]:
        """The convolutions, in order."""
        return [self.project, *self.predictor.layers()]
