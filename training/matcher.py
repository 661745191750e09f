"""The matching of two small frames (ov_film/matching.py) in torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov_film.matching import (
    COARSE_DESCRIPTORS,
    CONVOLUTIONS,
    FINE_DESCRIPTORS,
    FLOW_SCALE,
    LED_LESS,
    MATCHED_0,
    REACH_X,
    REACH_Y,
    REFINING_REACH,
    UNSEEN,
)

from .warping import warp

SHARPNESSES = 24.0, 10.0  # to begin with
SHARPENING = 30  # how much faster they are learned: of their logarithms


class Matched(NamedTuple):
    """What two small frames are matched to."""

    alike: Tensor  # logits (B,flows,h/4,w/4) of the descriptors alone
    logits: Tensor  # of all
    flows: tuple[Tensor, Tensor, Tensor]  # (B,4,h/4,w/4), propagated, and refined (B,4,h/2,w/2): forward, backward


def layer(name: str, stride: int = 1) -> nn.Conv2d:
    """A convolution of the matching."""
    size, inputs, outputs = CONVOLUTIONS[name]
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def activate(net: Tensor) -> Tensor:
    """LeakyReLU."""
    return F.leaky_relu(net, 0.2)


def places(reach_x: int, reach_y: int) -> list[tuple[int, int]]:
    """Flows (y,x) of up to so many whole pixels, row by row."""
    return [(y, x) for y in range(-reach_y, reach_y + 1) for x in range(-reach_x, reach_x + 1)]


def products(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Scalar products of descriptors (B,c,h,w) that each flow pairs at each of the midpoint's pixels.

    Returns (B,flows,h,w), 0 where a flow leads out of a frame, and where none does, (flows,h,w).
    """
    height, width = first.shape[2:]
    rows = torch.arange(height, device=first.device)[:, None]
    columns = torch.arange(width, device=first.device)
    y, x = torch.tensor(places(REACH_X, REACH_Y), device=first.device).T[..., None, None]
    indices, inside = [], torch.ones((), dtype=torch.bool, device=first.device)
    for down, right in ((-(y // 2), -(x // 2)), (y - y // 2, x - x // 2)):
        row, column = rows + down, columns + right
        inside = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        indices.append(row * width + column)
    index = (indices[0] * height * width + indices[1]).masked_fill(~inside, 0)
    pairs = torch.bmm(first.flatten(2).transpose(1, 2), last.flatten(2)).flatten(1)
    return pairs.index_select(1, index.flatten()).unflatten(1, index.shape) * inside, inside


def compared(first: Tensor, last: Tensor) -> Tensor:
    """How alike descriptors (B,c,h,w) are, opposite ways from each pixel: (B,25,h,w); 0 beyond the frame."""
    margin = (REFINING_REACH + 1) // 2
    height, width = first.shape[2:]
    padded = [F.pad(part, (margin,) * 4) for part in (first, last)]

    def moved(part: Tensor, y: int, x: int) -> Tensor:
        return part[:, :, margin + y : margin + y + height, margin + x : margin + x + width]

    pairs = ((moved(padded[0], -(y // 2), -(x // 2)), moved(padded[1], y - y // 2, x - x // 2))
             for y, x in places(REFINING_REACH, REFINING_REACH))
    return torch.stack([(one * two).sum(1) for one, two in pairs], 1)


class Matcher(nn.Module):
    """Two small frames in, the flows between them at the midpoint's pixels out."""

    def __init__(self) -> None:
        super().__init__()
        for name in CONVOLUTIONS:
            part, _, number = name.removeprefix("match/").partition("_")
            conv = layer(name, 2 if name in ("match/encode_0", "match/deepen_0") else 1)
            nn.init.kaiming_normal_(conv.weight, 0.2)
            nn.init.zeros_(conv.bias)
            if part in ("deepen", "weigh", "refine") and number != "0" and int(number) % 2 == 0:
                nn.init.zeros_(conv.weight)  # blocks begin as identities
            if part in ("logits", "residual", "source", "lead"):
                nn.init.normal_(conv.weight, 0, 1e-3)
            if part in ("query", "key"):
                nn.init.normal_(conv.weight, 0, 0.02)
            self.add_module(name.removeprefix("match/"), conv)
        self.propagation = nn.Parameter(torch.tensor([0.1, 1.0, 1.0]))
        self.sharpening = nn.Parameter(torch.tensor(SHARPNESSES).log() / SHARPENING)
        flows = torch.tensor(places(REACH_X, REACH_Y)).flip(1).float()
        self.register_buffer("grid", flows.T.contiguous(), persistent=False)  # (2,flows), x and y

    @property
    def sharpness(self) -> Tensor:
        """What products are multiplied by as logits, and what their means around a pixel are."""
        return (self.sharpening * SHARPENING).exp()

    def step(self, name: str, net: Tensor) -> Tensor:
        """Convolve."""
        found: Tensor = self.get_submodule(name)(net)
        return found

    def blocks(self, name: str, net: Tensor) -> Tensor:
        """Two convolutions each, added to what they read."""
        for number in range(1, len([key for key in CONVOLUTIONS if key.startswith(f"match/{name}_")]), 2):
            inner = activate(self.step(f"{name}_{number}", net))
            net = activate(net + self.step(f"{name}_{number + 1}", inner))
        return net

    def describe(self, small: Tensor) -> tuple[Tensor, Tensor]:
        """Small frames (B,3,h,w) in [0,1] -> matched_1, matched_2; descriptors first, of length 1."""
        net = (small - MATCHED_0[0]) * MATCHED_0[1]
        for number in range(3):
            net = activate(self.step(f"encode_{number}", net))
        deep = self.blocks("deepen", activate(self.step("deepen_0", net)))
        found = []
        with torch.autocast(small.device.type, enabled=False):
            for name, features, count in (("describe_1", net, FINE_DESCRIPTORS),
                                          ("describe_2", deep, COARSE_DESCRIPTORS)):
                both = self.step(name, features.float())
                found.append(torch.cat([F.normalize(both[:, :count], dim=1), both[:, count:]], 1))
        return found[0], found[1]

    def forward(self, first: Tensor, last: Tensor) -> Matched:
        """Small frames (B,3,h,w) in [0,1], sides multiples of 4."""
        fine, coarse = self.describe(torch.cat([first, last]))
        with torch.autocast(first.device.type, enabled=False):
            single, inside = products(*coarse[:, :COARSE_DESCRIPTORS].chunk(2))
            around = F.avg_pool2d(F.avg_pool2d(single, 3, 1, 1), 3, 1, 1)
        alike = self.sharpness[0] * single + self.sharpness[1] * around
        context = coarse[:, COARSE_DESCRIPTORS:].chunk(2)
        net = torch.cat([activate(self.step("gather", torch.cat([single, around], 1))), *context], 1)
        net = self.blocks("weigh", activate(self.step("weigh_0", net)))
        logits = self.step("logits", net).float() + alike
        alike, logits = (values.masked_fill(~inside, UNSEEN) for values in (alike, logits))
        best = self.best(logits)
        led = self.led(net, logits, best)
        best, weighed = torch.cat([best, -best], 1), torch.cat([led, -led], 1)
        handed = F.interpolate(self.step("hand", net), scale_factor=2, mode="nearest")
        flow = F.interpolate(weighed.detach(), scale_factor=2, mode="bilinear", align_corners=False) * 2
        ends = warp(fine, torch.cat([flow[:, 2:], flow[:, :2]]) / 2).chunk(2)
        near = compared(*(end[:, :FINE_DESCRIPTORS] for end in ends))
        seen = torch.cat([near, *(end[:, FINE_DESCRIPTORS:] for end in ends), flow * FLOW_SCALE, handed], 1)
        net = self.blocks("refine", activate(self.step("refine_0", seen)))
        return Matched(alike, logits, (best, weighed, flow + self.step("residual", net).float()))

    def led(self, net: Tensor, logits: Tensor, flow: Tensor) -> Tensor:
        """A flow (B,2,h,w) where each pixel is led by those that it belongs to, the more the less it is sure."""
        height, width = flow.shape[2:]
        far, given, taken = self.propagation
        with torch.autocast(flow.device.type, enabled=False):
            net = net.float()
            sure = logits.amax(1, keepdim=True) - logits.logsumexp(1, keepdim=True)
            source, led = self.step("source", net) + given * sure, self.step("lead", net) - taken * sure
            query, key = self.step("query", net).flatten(2), self.step("key", net).flatten(2)
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            place = torch.stack([columns, rows]).flatten(1).float().to(flow.device)
            distance = (place[:, :, None] - place[:, None]).square().sum(0)
            weights = (query.transpose(1, 2) @ key + source.flatten(2) - far * distance).softmax(2)
            others = (weights @ flow.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (height, width))
            return flow + torch.sigmoid(led - LED_LESS) * (others - flow)

    def best(self, logits: Tensor) -> Tensor:
        """The flow (B,2,h,w) of the highest logit, as a mean with those that lie around it."""
        centre = self.grid[:, logits.argmax(1)].transpose(0, 1)
        near = (self.grid[None, :, :, None, None] - centre[:, :, None]).abs().amax(1) < 1.5
        shares = logits.masked_fill(~near, -1e4).softmax(1)
        with torch.autocast(logits.device.type, enabled=False):
            return torch.einsum("bfhw,cf->bchw", shares, self.grid)
