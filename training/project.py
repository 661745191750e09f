"""Make fusion and flow predictors read projections of the features, fitted to what they made of all of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import TRAINING
from .film_torch import Film, FilmConfig, Predictor, fill, film_tensors, named_layers

FRAMES = 16  # of all training clips together, to learn on how features go together


class Former(Film):
    """A film_lite that encodes all levels, fuses all features, and predicts flows from all of them."""

    def __init__(self) -> None:
        super().__init__(FilmConfig(image_levels=0, projections=()))
        c = self.config
        self.predictors = torch.nn.ModuleList(
            Predictor(2 * c.feature_channels(c.flow_level + index), width) for index, width in enumerate(c.flow_filters)
        )


def frames(data: Path) -> Iterator[Tensor]:
    """Yield frames (1,3,H,W) in [0,1] of the training clips, sides multiples of 64."""
    for clip in TRAINING:
        array = np.load(data / f"{clip.name}.npy", mmap_mode="r")
        usable = np.concatenate([np.arange(*part) for part in clip.ranges])
        count = max(1, round(FRAMES * clip.weight))
        for number in usable[np.linspace(0, len(usable) - 1, count + 2)[1:-1].astype(int)]:
            frame = torch.from_numpy(np.array(array[number]))
            height, width = (side // 64 * 64 for side in frame.shape[:2])
            yield frame[:height, :width].permute(2, 0, 1)[None] / 255


@torch.no_grad()
def second_moments(film: Film, data: Path) -> list[Tensor]:
    """Return each level's mean products of features, (C,C)."""
    sums = [torch.zeros(())] * film.config.levels
    for frame in frames(data):
        flat = [level[0].flatten(1).double() for level in film.encode(frame)[1]]
        sums = [total + level @ level.T / level.shape[1] for total, level in zip(sums, flat, strict=True)]
    return sums


def factors(kernel: Tensor, moments: Tensor, read: int, kept: int) -> tuple[Tensor, Tensor]:
    """Return (read,kept) and (kept,outputs), which make of the first features about what a kernel makes of all.

    The error is least in the mean of squares over all that has the second moments (C,C): the best linear guess from
    the features that are read, and of its singular values, by how much they are there, the largest.
    """
    seen = moments[:read, :read] + 1e-9 * moments.trace() * torch.eye(read)
    guess = torch.linalg.solve(seen, moments[:read] @ kernel)
    values, vectors = torch.linalg.eigh(seen)
    root = values.sqrt()
    left, singular, right = torch.linalg.svd(root[:, None] * (vectors.T @ guess), full_matrices=False)
    projection = vectors @ (left[:, :kept] / root[:, None])
    size = singular[:kept].sqrt()
    return projection * size, size[:, None] * right[:kept]


@torch.no_grad()
def project(kernel: Tensor, starts: tuple[int, int], moments: Tensor, projection: torch.nn.Conv2d) -> Tensor:
    """Set a projection, and return the kernel (O,I,h,w) that reads both frames' projections for their features."""
    outputs, _, *size = kernel.shape
    whole, (kept, read) = len(moments), projection.weight.shape[:2]
    ends = [kernel[:, start : start + whole] for start in starts]
    flat = torch.cat([end.permute(1, 0, 2, 3).reshape(whole, -1) for end in ends], 1).double()
    projecting, made = factors(flat, moments, read, kept)
    projection.weight.copy_(projecting.T[:, :, None, None])
    first, last = (part.reshape(kept, outputs, *size).permute(1, 0, 2, 3).float() for part in made.chunk(2, 1))
    between, after = kernel[:, starts[0] + whole : starts[1]], kernel[:, starts[1] + whole :]
    return torch.cat([kernel[:, : starts[0]], first, between, last, after], 1)


def main() -> None:
    """Take a film_lite that reads all features to one that reads projections of those that it still encodes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("former", type=Path, help=".npz of the film_lite that reads all features")
    parser.add_argument("output", type=Path, help=".npz to write")
    args = parser.parse_args()
    former, film = Former(), Film()
    with np.load(args.former) as tensors:
        fill(former, tensors)
        fill(film, tensors)
    moments, layers, old = second_moments(former, args.data), dict(named_layers(film)), dict(named_layers(former))
    coarsest, c = film.config.fusion_levels - 1, film.config
    for level, projection in enumerate(film.projections, start=c.image_levels):
        name = f"fusion/conv2d_{3 * min(level, coarsest - 1) + (level < coarsest)}"
        starts = (3, 6 + former.config.feature_channels(level))
        made = project(old[name].weight, starts, moments[level], projection)
        layers[name].load_state_dict({"weight": made, "bias": old[name].bias})
    for index, (predictor, whole) in enumerate(zip(film.predictors, former.predictors, strict=True)):
        levels = [level for level in range(c.flow_level, c.levels) if c.predictor(level) == index]
        together = torch.stack([moments[level] for level in levels]).sum(0)
        first, *others = whole.layers()
        made = project(first.weight, (0, len(together)), together, predictor.project)
        torch.nn.init.zeros_(predictor.project.bias)
        for layer, weight, former_layer in zip(
            predictor.predictor.layers(), (made, *(other.weight for other in others)), (first, *others), strict=True
        ):
            layer.load_state_dict({"weight": weight, "bias": former_layer.bias})
    np.savez(args.output, **film_tensors(film))


if __name__ == "__main__":
    main()
