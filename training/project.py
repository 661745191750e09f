"""Make fusion read a few projections of the features, fitted to what it made of all of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import TRAINING
from .film_torch import Film, FilmConfig, fill, film_tensors, named_layers

FRAMES = 16  # of all training clips together, to learn on how features go together
FORMER = FilmConfig(image_levels=0, projections=())  # encodes all levels and fuses all features


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
    """Return each fusion level's mean products of features, (C,C)."""
    sums = [torch.zeros(())] * film.config.fusion_levels
    for frame in frames(data):
        _, features = film.encode(frame)
        flat = [level[0].flatten(1).double() for level in features[: film.config.fusion_levels]]
        sums = [total + level @ level.T / level.shape[1] for total, level in zip(sums, flat, strict=True)]
    return sums


def factors(kernel: Tensor, moments: Tensor, read: int, kept: int) -> tuple[Tensor, Tensor]:
    """Return (read,kept) and (kept,outputs), which make of the first features about what a kernel makes of all.

    The error is least in the mean of squares over all that has the second moments (C,C): the best linear guess from
    the features that are read, and of its singular values, by how much they are there, the largest.
    """
    guess = torch.linalg.solve(moments[:read, :read] + 1e-9 * moments.trace() * torch.eye(read), moments[:read] @ kernel)
    values, vectors = torch.linalg.eigh(moments[:read, :read])
    root = values.clamp_min(float(values.max()) * 1e-9).sqrt()
    left, singular, right = torch.linalg.svd(root[:, None] * (vectors.T @ guess), full_matrices=False)
    projection = vectors @ (left[:, :kept] / root[:, None])
    size = singular[:kept].sqrt()
    return projection * size, size[:, None] * right[:kept]


def main() -> None:
    """Take a film_lite that fuses all features to one that fuses projections of those that it still encodes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("former", type=Path, help=".npz of the film_lite that fuses all features")
    parser.add_argument("output", type=Path, help=".npz to write")
    args = parser.parse_args()
    former, film = Film(FORMER), Film()
    with np.load(args.former) as tensors:
        fill(former, tensors)
        fill(film, tensors)
    moments, layers = second_moments(former, args.data), dict(named_layers(film))
    coarsest = film.config.fusion_levels - 1
    with torch.no_grad():
        for level, projection in enumerate(film.projections, start=film.config.image_levels):
            name = f"fusion/conv2d_{3 * min(level, coarsest - 1) + (level < coarsest)}"
            kernel, whole = dict(named_layers(former))[name].weight, former.config.feature_channels(level)
            outputs, _, *size = kernel.shape
            ends = [kernel[:, start : start + whole] for start in (3, 6 + whole)]
            flat = torch.cat([end.permute(1, 0, 2, 3).reshape(whole, -1) for end in ends], 1).double()
            read, kept = projection.weight.shape[1], projection.weight.shape[0]
            project, made = factors(flat, moments[level], read, kept)
            projection.weight.copy_(project.T[:, :, None, None])
            first, last = (part.reshape(kept, outputs, *size).permute(1, 0, 2, 3) for part in made.chunk(2, 1))
            image = [kernel[:, start : start + 3] for start in (0, 3 + whole)]
            layers[name].weight.copy_(
                torch.cat([image[0], first, image[1], last, kernel[:, 6 + 2 * whole :]], 1).float()
            )
            layers[name].bias.copy_(dict(named_layers(former))[name].bias)
    np.savez(args.output, **film_tensors(film))


if __name__ == "__main__":
    main()
