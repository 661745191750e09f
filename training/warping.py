"""Backward warping in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Read image (B,C,H,W) at each pixel plus flow (B,2,H,W; x, y in pixels), clamped to the border."""
    height, width = flow.shape[2:]
    x = (torch.arange(width, device=flow.device) + 0.5) * 2 / width - 1
    y = (torch.arange(height, device=flow.device) + 0.5) * 2 / height - 1
    flow = flow.float()
    grid = torch.stack([x + flow[:, 0] * 2 / width, y[:, None] + flow[:, 1] * 2 / height], -1)
    sampled = F.grid_sample(image.float(), grid, padding_mode="border", align_corners=False)
    layout = torch.contiguous_format if image.is_contiguous() else torch.channels_last  # as the convolutions around it
    return sampled.to(image.dtype).contiguous(memory_format=layout)
