"""Train film_lite: half of each batch real, half synthetic with a loss on the true flow."""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from .film_torch import Film, FilmConfig, FilmOutput, fill
from .samples import STAGES, Samples

LEARNING_RATE = 5e-4  # after the warm-up; cosine to a fiftieth of it
TUNING, TUNING_BEGINS = 0.3, 0.5  # share of that rate, and where in a run's stages it begins
WARM_UP = 50  # steps
AVERAGE = 0.995  # share that the averaged weights keep a step
SAVE_EVERY = 100  # steps
LOG_EVERY = 50
KNOWN = 0.3  # share of a coarse pixel whose flow has to be known
FLOW_POWER = 0.4  # below 1, so that parts of a pixel weigh much, and what can't be known (leaves the frame) less


def mixed_precision(device: torch.device) -> torch.autocast:
    """Compute in bf16 where that is no slower: on a GPU, and on processors with AVX-512."""
    fast = device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def charbonnier(difference: Tensor) -> Tensor:
    """Smooth mean absolute value."""
    return torch.sqrt(difference * difference + 1e-6).mean()


def laplacian_loss(image: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Compare (B,3,H,W) band by band, so that edges count as much as areas."""
    total = image.new_zeros(())
    for _ in range(levels):
        difference = image - target
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
        total = total + charbonnier(difference - F.interpolate(image - target, scale_factor=2))
    return total


def warp_loss(output: FilmOutput, target: Tensor) -> Tensor:
    """Both frames, moved to the midpoint, against the target (B,3,H,W) at every fusion level."""
    total = target.new_zeros(())
    for first, last in output.warped:
        total = total + charbonnier(first.float() - target) + charbonnier(last.float() - target)
        target = F.avg_pool2d(target, 2)
    return total


def wanted_flows(truth: Tensor, levels: range) -> list[Tensor]:
    """Flows (2B,2,S,S) of some levels, in each level's pixels: means of what is known; NaN where that is little."""
    known = truth.isfinite().float()
    flows = []
    for level in levels:
        size = 1 << level
        share = F.avg_pool2d(known, size)
        mean = F.avg_pool2d(torch.nan_to_num(truth), size) / share.clamp_min(KNOWN) / size
        flows.append(mean.masked_fill(share < KNOWN, torch.nan))
    return flows


def flow_loss(flows: list[Tensor], wanted: list[Tensor], power: float) -> Tensor:
    """Flows against those that are wanted, level by level; robust, and where none is known, nothing."""
    total = flows[0].new_zeros(())
    for flow, known in zip(flows, wanted, strict=True):
        total = total + (torch.nan_to_num((flow - known).abs()) + 0.01).pow(power).mean()
    return total


def synthetic(flow: Tensor) -> Tensor:
    """Pick the flows of the last half of the batch, both directions: (2n,2,h,w)."""
    return torch.cat([part.chunk(2)[1] for part in flow.chunk(2)])


class Run:
    """Everything that a checkpoint holds."""

    def __init__(self, model: Film, device: torch.device) -> None:
        self.model = model.to(device, memory_format=torch.channels_last)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, weight_decay=1e-4)
        self.step = 0

    def save(self, path: Path) -> None:
        """Write the checkpoint; a cut-off write leaves the former one."""
        state = {
            "config": asdict(self.model.config),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        device = next(self.model.parameters()).device
        state = torch.load(path, weights_only=True, map_location=device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step = state["average"], state["step"]

    def train_step(
        self, frames: Tensor, truth: Tensor, progress: float, rate: float, alone: bool
    ) -> tuple[float, float]:
        """Update once on frames (2n,3,3,S,S) and flows (2n,2,2,S,S), all of the network or the fusion alone.

        Returns the mean error of the image in [0,1] and of the synthetic triplets' flow in pixels.
        """
        first, target, last = (f.contiguous(memory_format=torch.channels_last) for f in frames.unbind(1))
        truth = torch.cat([truth[:, 0], truth[:, 1]])
        with mixed_precision(frames.device):
            with torch.set_grad_enabled(not alone):
                images, features = self.model.encode(torch.cat([first, last]))
                flows = self.model.estimate_flows(images, features)
            output = self.model.fuse(images, features, flows)
        image = output.image.float()
        levels = range(self.model.config.flow_level, self.model.config.levels)
        loss = (
            charbonnier(image - target)
            + laplacian_loss(image, target)
            + (0.1 * (1 - progress) + 0.02) * warp_loss(output, target)
            + 0.03 * flow_loss(output.flows[levels[0] :], wanted_flows(truth, levels), FLOW_POWER)
        )
        self.update(loss, rate)
        with torch.no_grad():
            off = synthetic(output.flows[0]) - synthetic(truth)
            return float((image - target).abs().mean()), float(off.norm(dim=1).mean())

    def update(self, loss: Tensor, rate: float) -> None:
        """Take a step against a loss's gradient, at a learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        keep = min(AVERAGE, (self.step + 1) / (self.step + 11))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)


def learning_rate(step: int, steps: int) -> float:
    """Rate of a step: a cosine to a fiftieth after a warm-up."""
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.51 + 0.49 * math.cos(math.pi * step / steps))


@dataclass(frozen=True)
class Plan:
    """What a run does, beside what it learns from."""

    steps: int
    seed: int
    alone: int = 0  # first steps, which train the fusion alone
    rate: float = 1  # share of LEARNING_RATE
    config: FilmConfig = field(default_factory=FilmConfig)


def train(
    samples: Samples, folder: Path, start: Path | None, plan: Plan, kind: type[Run] = Run, workers: int = 1
) -> None:
    """Train up to a number of steps, from the folder's checkpoint if it has one; log to log.csv there."""
    torch.manual_seed(plan.seed)
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Film(plan.config)
    if start:
        with np.load(start) as tensors:
            fill(model, tensors)
    run = kind(model, device)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
    batches = DataLoader(
        samples,
        batch_size=None,
        sampler=range(run.step, plan.steps),
        num_workers=workers,
        prefetch_factor=4,
    )
    began, errors = time.monotonic(), []
    with (folder / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for frames, truth in batches:
            rate = learning_rate(run.step, plan.steps) * plan.rate
            batch = (frames.to(device), truth.to(device))
            errors.append(run.train_step(*batch, samples.progress(run.step), rate, run.step < plan.alone))
            run.step += 1
            if run.step % LOG_EVERY == 0:
                image, flow = (sum(column) / len(column) for column in zip(*errors, strict=True))
                log.writerow([run.step, f"{time.monotonic() - began:.0f}", f"{image:.5f}", f"{flow:.3f}"])
                file.flush()
                errors.clear()
            if run.step % SAVE_EVERY == 0 or run.step == plan.steps:
                run.save(checkpoint)


def main() -> None:
    """Train film_lite; the same command goes on where a stopped run was."""
    parser = options(main.__doc__)
    parser.add_argument(
        "--alone", type=int, default=0, help="first steps, which train the fusion alone (default: %(default)s)"
    )
    parser.add_argument(
        "--tuning", action="store_true", help="go on with what was trained: at a lower rate, as a run's second half"
    )
    args = parser.parse_args()
    begins, rate = (TUNING_BEGINS, TUNING) if args.tuning else (0, 1)
    samples = Samples(args.data, args.steps, args.seed, begins, STAGES)
    train(samples, args.run, args.start, Plan(args.steps, args.seed, args.alone, rate))


def options(description: str | None) -> argparse.ArgumentParser:
    """What every way of training asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("run", type=Path, help="folder for checkpoint.pt and log.csv")
    parser.add_argument(
        "--start", type=Path, help=".npz of named tensors to begin with, where they fit (default: from scratch)"
    )
    parser.add_argument("--steps", type=int, default=20000, help="length of the whole run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
