"""A run of training: its schedule, averaged weights and checkpoints, whatever is trained of a film_lite."""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.data import DataLoader, Dataset

from .film_torch import Film, fill

SAVE_EVERY = 100  # steps
LOG_EVERY = 50


@dataclass(frozen=True)
class Plan:
    """What a run does, beside what it learns from."""

    steps: int
    seed: int
    rate: float  # after the warm-up; a cosine to a fiftieth of it
    warm_up: int = 50  # steps
    average: float = 0.995  # share that the averaged weights keep a step

    def rate_at(self, step: int) -> float:
        """Rate of a step."""
        return self.rate * min(1.0, (step + 1) / self.warm_up) * (0.51 + 0.49 * math.cos(math.pi * step / self.steps))


def mixed_precision(device: torch.device) -> torch.autocast:
    """Compute in bf16 where that is no slower: on a GPU, and on processors with AVX-512."""
    fast = device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


class Run:
    """Everything that a checkpoint holds."""

    def __init__(self, model: Film, trained: Iterable[Parameter], plan: Plan, device: torch.device) -> None:
        self.model = model.to(device, memory_format=torch.channels_last).requires_grad_(False)
        self.plan, self.device = plan, device
        self.trained = [parameter.requires_grad_(True) for parameter in trained]
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.trained, plan.rate, weight_decay=1e-4)
        self.step = 0

    def loss(self, batch: Any) -> tuple[Tensor, tuple[float, ...]]:
        """What is to fall for a batch, and figures for the log."""
        raise NotImplementedError

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
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step = state["average"], state["step"]

    def update(self, batch: Any) -> tuple[float, ...]:
        """Take a step; returns figures for the log."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss, figures = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        keep = min(self.plan.average, (self.step + 1) / (self.step + 11))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)
        self.step += 1
        return figures


def started(path: Path | None) -> Film:
    """A film_lite, with what fits of the named tensors in an .npz."""
    model = Film()
    if path:
        with np.load(path) as tensors:
            fill(model, tensors)
    return model


def chosen_device() -> torch.device:
    """A GPU where torch knows one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(run: Run, batches: Dataset[Any], folder: Path, workers: int = 1) -> None:
    """Train up to the plan's end, from the folder's checkpoint if it has one; log to log.csv there."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
    loader = DataLoader(batches, batch_size=None, sampler=range(run.step, run.plan.steps), num_workers=workers,
                        prefetch_factor=4 if workers else None)
    began, seen = time.monotonic(), []
    with (folder / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for batch in loader:
            seen.append(run.update(batch))
            if run.step % LOG_EVERY == 0:
                means = (f"{sum(column) / len(column):.5f}" for column in zip(*seen, strict=True))
                log.writerow([run.step, f"{time.monotonic() - began:.0f}", *means])
                file.flush()
                seen.clear()
            if run.step % SAVE_EVERY == 0 or run.step == run.plan.steps:
                run.save(checkpoint)


def options(description: str | None) -> argparse.ArgumentParser:
    """What every way of training asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("run", type=Path, help="folder for checkpoint.pt and log.csv")
    parser.add_argument(
        "--start", type=Path, help=".npz of named tensors to begin with, where they fit (default: from scratch)"
    )
    parser.add_argument("--steps", type=int, default=8000, help="length of the whole run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    return parser
