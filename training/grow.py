"""Deepen a film_lite's flow predictors, and let its fusion read what a search finds, where it doesn't yet."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .film_torch import Film, FilmConfig, film_tensors, load_film

SEARCHED = -0.85  # of the logits of what the search brings, beside those of the rest: a share of three tenths


def deepen(layers: list[nn.Conv2d], former: list[nn.Conv2d]) -> None:
    """Take over a flow predictor; what it has more, before the last two layers, passes on about what it reads."""
    kept = len(former) - 2
    for layer, source in zip([*layers[:kept], *layers[-2:]], former, strict=True):
        layer.load_state_dict(source.state_dict())
    for layer in layers[kept:-2]:
        nn.init.normal_(layer.weight, 0, 0.01)
        layer.weight[:, :, 1, 1] += torch.eye(len(layer.weight))


@torch.no_grad()
def grown(film: Film, config: FilmConfig) -> Film:
    """Return a film that is deeper, or searches too; it makes about what a mean of the former one and a search does."""
    new = Film(config)
    former = film.state_dict()
    for name, value in new.state_dict().items():
        if not name.startswith(("predictors", "head")):
            kept = former[name]
            value.zero_()[tuple(map(slice, kept.shape))] = kept
    for wanted, predictor in zip(new.predictors, film.predictors, strict=True):
        deepen(wanted.layers(), predictor.layers())
        if wanted.describe:
            wanted.describe.load_state_dict(predictor.describe.state_dict())
    outputs = len(film.head.weight)
    for value, source in zip((new.head.weight, new.head.bias), (film.head.weight, film.head.bias), strict=True):
        value[:outputs] = source
        value[outputs:] = source[3 : 3 + len(value) - outputs]
    new.head.bias[outputs:] += SEARCHED
    return new


def main() -> None:
    """Make a film_lite of a former size one of the present size."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("film", type=Path, help=".npz of named tensors")
    parser.add_argument("output", type=Path, help="the .npz to write")
    args = parser.parse_args()
    torch.manual_seed(0)
    np.savez(args.output, **film_tensors(grown(load_film(args.film), FilmConfig())))


if __name__ == "__main__":
    main()
