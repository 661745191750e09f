"""The pack's matching of patches (ov_film/matching.py) in torch, for the same frames in training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .warping import warp

BLOCK, REACH, PATCH = 8, 10, 7  # pixels
FARNESS, POOR, BETTER, MISSED, FARTHER, MOST_CONTRAST = 2e-5, 0.05, 0.7, 1, 1, 2


@torch.no_grad()
def trusted_matches(images: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """Find where what is seen in one frame is seen in the other, and whether that is to be trusted more than the flow.

    Args:
        images: a level's images (2B,3,h,w) in [0,1], first frames before last ones.
        flows: that level's (2B,2,h,w), x and y in pixels; forward before backward.

    Returns:
        The matches (2B,2,h,w), as flows, and whether each is trusted (2B,1,h,w).
    """
    count, _, height, width = images.shape
    images, flows = images.float(), flows.float()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y]).to(flows)
    images = alike(images)
    patches, brief = around(images, PATCH), brief_patches(images)
    other = torch.roll(patches, count // 2, 0)

    asked, offered = indices(height, width)
    weight = FARNESS**0.5
    wanted = torch.cat([brief, (places + flows) * weight], 1).flatten(2)[:, :, asked]
    compared = torch.roll(brief, count // 2, 0)
    given = torch.cat([compared, (places * weight).expand(count, -1, -1, -1)], 1).flatten(2)[:, :, offered]
    costs = given.square().sum(1)[:, :, None] - 2 * torch.einsum("bcnq,bcnt->bnqt", wanted, given)
    best = costs.argmin(3)
    found = torch.from_numpy(offered).to(best.device).expand(count, -1, -1).gather(2, best)
    target = torch.empty(count, height * width, dtype=torch.long, device=best.device)
    target[:, asked.reshape(-1)] = found.flatten(1)

    def read(values: Tensor) -> Tensor:
        """Read (2B,c,h,w) at the targets."""
        channels = values.shape[1]
        at = target[:, None].expand(-1, channels, -1)
        return values.flatten(2).gather(2, at).view(count, channels, height, width)

    matches = read(places.expand(count, -1, -1, -1)) - places
    by_flow = (patches - warp(other, flows)).square().sum(1, keepdim=True)
    by_match = (patches - read(other)).square().sum(1, keepdim=True)
    missed = (matches + read(torch.roll(matches, count // 2, 0))).abs().amax(1, keepdim=True)
    farther = (matches - flows).abs().amax(1, keepdim=True)
    fits = (by_flow > POOR**2) & (by_match < BETTER**2 * by_flow)
    return matches, fits & (missed <= MISSED) & (farther > FARTHER)


def alike(images: Tensor) -> Tensor:
    """Give the two frames of each pair, B apart in (2B,3,h,w), one mean colour and one contrast."""
    centred = images - images.mean((2, 3), keepdim=True)
    contrast = (centred.square().mean((1, 2, 3), keepdim=True) + 1e-6).sqrt()
    both = (contrast + torch.roll(contrast, len(images) // 2, 0)) / 2
    return centred * (both / contrast).clamp(1 / MOST_CONTRAST, MOST_CONTRAST)


def around(images: Tensor, size: int, step: int = 1) -> Tensor:
    """The size x size values around each pixel (B,c,h,w), scaled so that squares sum up to their mean."""
    count, channels, height, width = images.shape
    padded = F.pad(images, [size // 2 * step] * 4, mode="replicate")
    patches = F.unfold(padded, size, dilation=step).view(count, -1, height, width)
    return patches / (channels * size**2) ** 0.5


def brief_patches(images: Tensor) -> Tensor:
    """What stands for patches of (B,3,h,w) in the search: all of their lightness, and nine means of both hues."""
    red, green, blue = images.split(1, 1)
    hues = torch.cat([(red - blue) / 2**0.5, (red - 2 * green + blue) / 6**0.5], 1)
    means = F.avg_pool2d(hues, 3, 1, 1, count_include_pad=False)
    light = around((red + green + blue) / 3**0.5, PATCH) / 3**0.5
    return torch.cat([light, around(means, 3, 3) * (2 / 3) ** 0.5], 1)


def indices(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Row-major indices of the pixels of each block (n,64), and of those that they are compared with (n,m)."""

    def of(before: int, after: int) -> np.ndarray:
        rows, columns = (
            np.clip(np.arange(before, after) + np.arange(0, side, BLOCK)[:, None], 0, side - 1)
            for side in (height, width)
        )
        both = rows[:, None, :, None] * width + columns[:, None, :]
        return both.reshape(len(rows) * len(columns), -1)

    return of(0, BLOCK), of(-REACH, BLOCK + REACH)
