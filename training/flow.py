"""Train the flow predictors alone, on large crops and without fusion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .film_torch import Film
from .samples import Stage
from .train import FLOW_POWER, Plan, Run, options, synthetic, train
from .warping import warp

BEGINS, RATE = 0.9, 0.6  # where synthetic motion begins, and the share of the rate: see Plan
CROPS = (Stage(0.0, 384, 2),)


class FlowRun(Run):
    """A run of the flow predictors; encoder and fusion stay as they are."""

    def __init__(self, model: Film, device: torch.device) -> None:
        super().__init__(model, device)
        model.requires_grad_(False)
        model.predictors.requires_grad_(True)

    def train_step(
        self, frames: Tensor, truth: Tensor, progress: float, rate: float, alone: bool
    ) -> tuple[float, float]:
        """Update once, as Run does; the image's error is that of both moved frames at the finest level."""
        first, target, last = (f.contiguous(memory_format=torch.channels_last) for f in frames.unbind(1))
        truth = torch.cat([truth[:, 0], truth[:, 1]])
        finest = self.model.config.flow_level
        with torch.autocast(frames.device.type, torch.bfloat16):
            with torch.no_grad():
                images, features = self.model.encode(torch.cat([first, last]))
            flows = self.model.estimate_flows(images, features, finest)
        loss = target.new_zeros(())
        for level, flow in enumerate(flows, start=finest):
            wanted = F.avg_pool2d(truth, 1 << level) / (1 << level)
            loss = loss + 0.03 * ((synthetic(flow) - wanted).abs() + 0.01).pow(FLOW_POWER).mean()
        for level in (finest - 1, finest):  # where no true flow is known
            scale = 1 << finest - level
            flow = F.interpolate(flows[0], scale_factor=scale, mode="bilinear", align_corners=False) * scale
            forward, backward = flow.chunk(2)
            moved = warp(images[level].float(), torch.cat([backward / 2, forward / 2]))
            error = (moved - F.avg_pool2d(target, 1 << level).repeat(2, 1, 1, 1)).abs().mean(1)
            loss = loss + 0.05 * (error + 0.003).sqrt().mean()  # what is covered can't be met, and counts less
        self.update(loss, rate)
        with torch.no_grad():
            wanted = F.avg_pool2d(truth, 1 << finest) / (1 << finest)
            return float(error.mean()), float((synthetic(flows[0]) - wanted).norm(dim=1).mean())


def main() -> None:
    """Train film_lite's flow predictors; the same command goes on where a stopped run was."""
    args = options(main.__doc__).parse_args()
    plan = Plan(args.steps, args.seed, begins=BEGINS, rate=RATE, stages=CROPS)
    train(args.data, args.run, args.start, plan, FlowRun)


if __name__ == "__main__":
    main()
