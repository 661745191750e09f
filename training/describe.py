"""Let a film_lite's shared flow predictor compare descriptors of both frames; it predicts about what it did before."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .film_torch import Film, FilmConfig, film_tensors, load_film
from .flow import BEGINS, CROPS
from .samples import Samples

BATCHES = 12  # to learn from how features go together
LEAST = 1e-5  # of a variance: what hardly varies is not blown up


def principal_components(features: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return weight (kept,C) and bias (kept,) that make of features (N,C) so many, of variance 1 and uncorrelated."""
    mean = features.mean(0)
    variances, vectors = torch.linalg.eigh(torch.cov((features - mean).T))
    weight = (vectors[:, -kept:] / (variances[-kept:] + LEAST).sqrt()).T
    return weight, -weight @ mean


@torch.no_grad()
def describing(film: Film, samples: Samples, descriptors: int = FilmConfig.descriptors) -> Film:
    """Return a film whose shared predictor has descriptors, and more convolutions that pass on what they read."""
    new = Film(replace(film.config, descriptors=descriptors,
                       flow_convolutions=(*film.config.flow_convolutions[:-1], FilmConfig.flow_convolutions[-1])))
    old, wanted = film.predictors[-1], new.predictors[-1]
    shared = f"predictors.{len(new.predictors) - 1}."
    new.load_state_dict({k: v for k, v in film.state_dict().items() if not k.startswith(shared)}, strict=False)
    wanted.project.load_state_dict(old.project.state_dict())
    former, layers = old.predictor.layers(), wanted.predictor.layers()
    steps = film.config.flow_convolutions[-1]
    for place, layer in [*enumerate(former[:steps]), *zip((-2, -1), former[-2:], strict=True)]:
        target = layers[place].weight
        target.zero_()[:, : layer.weight.shape[1]] = layer.weight
        layers[place].bias.copy_(layer.bias)
    for layer in layers[steps:-2]:
        torch.nn.init.normal_(layer.weight, 0, 0.01)
        layer.weight[:, :, 1, 1] += torch.eye(len(layer.weight))
    level = film.config.flow_level + len(film.config.flow_filters) - 1
    features = []
    for step in range(BATCHES):
        frames, _ = samples[step]
        features.append(film.encode(torch.cat([frames[:, 0], frames[:, 2]]))[1][level].transpose(0, 1).flatten(1).T)
    weight, bias = principal_components(torch.cat(features), descriptors)
    wanted.describe.weight.copy_(weight[:, :, None, None])
    wanted.describe.bias.copy_(bias)
    return new


def main() -> None:
    """Add descriptors to a film_lite."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("film", type=Path, help=".npz of named tensors without descriptors")
    parser.add_argument("output", type=Path, help="the .npz to write")
    args = parser.parse_args()
    torch.manual_seed(0)
    samples = Samples(args.data, BATCHES, 0, BEGINS, CROPS)
    np.savez(args.output, **film_tensors(describing(load_film(args.film), samples)))


if __name__ == "__main__":
    main()
