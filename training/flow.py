"""Train the flow predictors alone, on large crops and without fusion."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .film_torch import Film
from .samples import Samples, Stage
from .train import Plan, Run, flow_loss, mixed_precision, options, synthetic, train, wanted_flows
from .warping import warp

BEGINS, RATE = 0.5, 0.6  # where synthetic motion begins, and the share of the rate: see Plan
CROPS = (Stage(0.0, 384, 2),)
KEPT, REPLAYED = 400, 3  # encoded batches that are kept, and how many of them are learned from beside a new one
POWERS = 0.7, 0.5  # of the error of a flow, at a run's beginning and end: small errors weigh more and more


class EncodedBatch(NamedTuple):
    """What flows are predicted from and compared with, at the levels where they are and the one that is finer."""

    images: list[Tensor]  # (2B,3,h,w), first frames before last ones, at the finer level too
    features: list[Tensor]  # (2B,C,h,w), of none at the finer level
    targets: list[Tensor]  # (B,3,h,w), the middle frames
    truth: list[Tensor]  # (2B,2,h,w), as flows in FilmOutput; of none at the finer level


class FlowRun(Run):
    """A run of the flow predictors; encoder and fusion stay as they are.

    The encoder takes longer than the predictors: so each encoded batch serves a few times.
    """

    def __init__(self, model: Film, device: torch.device) -> None:
        super().__init__(model, device)
        model.requires_grad_(False)
        for predictor in model.predictors:
            for layer in predictor.layers():  # all but its descriptors
                layer.requires_grad_(True)
        self.kept: list[EncodedBatch] = []
        self.choices = random.Random(0)

    def train_step(
        self, frames: Tensor, truth: Tensor, progress: float, rate: float, alone: bool
    ) -> tuple[float, float]:
        """Update by a new batch and by some kept ones; the image's error is that of both moved frames."""
        new = self.encoded(frames, truth)
        place = self.choices.randrange(KEPT)
        replayed = self.choices.sample(self.kept, min(REPLAYED, len(self.kept)))
        if len(self.kept) < KEPT:
            self.kept.append(new)
        else:
            self.kept[place] = new
        for batch in replayed:
            self.learn(batch, rate, progress)
        return self.learn(new, rate, progress)

    @torch.no_grad()
    def encoded(self, frames: Tensor, truth: Tensor) -> EncodedBatch:
        """Encode frames (2n,3,3,S,S) and flows (2n,2,2,S,S)."""
        finest = self.model.config.flow_level
        levels = range(finest, self.model.config.levels)
        first, target, last = (f.contiguous(memory_format=torch.channels_last) for f in frames.unbind(1))
        with mixed_precision(frames.device):
            images, features = self.model.encode(torch.cat([first, last]))
        truth = torch.cat([truth[:, 0], truth[:, 1]])
        return EncodedBatch(
            images[finest - 1 :],
            [features[level].half() for level in levels],
            [F.avg_pool2d(target, 1 << level) for level in (finest - 1, finest)],
            wanted_flows(truth, levels),
        )

    def learn(self, batch: EncodedBatch, rate: float, progress: float) -> tuple[float, float]:
        """Update once."""
        begin, end = POWERS
        power = begin + (end - begin) * (progress - BEGINS) / (1 - BEGINS)
        finest = self.model.config.flow_level
        features = [features.float() for features in batch.features]
        with mixed_precision(features[0].device):
            flows = self.model.estimate_flows(
                batch.images[:1] * (finest - 1) + batch.images, features[:1] * finest + features, finest
            )
        loss = 0.1 * flow_loss(flows, batch.truth, power)
        for image, target, scale in zip(batch.images[:2], batch.targets, (2, 1), strict=True):  # where no flow is known
            flow = F.interpolate(flows[0], scale_factor=scale, mode="bilinear", align_corners=False) * scale
            forward, backward = flow.chunk(2)
            moved = warp(image.float(), torch.cat([backward / 2, forward / 2]))
            error = (moved - target.repeat(2, 1, 1, 1)).abs().mean(1)
            loss = loss + 0.05 * (error + 0.003).sqrt().mean()  # what is covered can't be met, and counts less
        self.update(loss, rate)
        with torch.no_grad():
            off = (synthetic(flows[0]) - synthetic(batch.truth[0])).norm(dim=1)
            return float(error.mean()), float(off.mean())


def main() -> None:
    """Train film_lite's flow predictors; the same command goes on where a stopped run was."""
    args = options(main.__doc__).parse_args()
    samples = Samples(args.data, args.steps, args.seed, BEGINS, CROPS)
    train(samples, args.run, args.start, Plan(args.steps, args.seed, rate=RATE), FlowRun)


if __name__ == "__main__":
    main()
