"""Let a film_lite blend what a search in the frames alone finds."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .film_torch import Film, film_tensors, load_film

SHARE = -0.2  # of the logits of what the search brings, beside those of the rest: about 0.45 of the frame is its own


@torch.no_grad()
def searching(film: Film) -> Film:
    """Return a film that searches too: it makes a mean of the former's frame and of what the search brings."""
    new = Film(replace(film.config, searches=True))
    former = film.state_dict()
    for name, value in new.state_dict().items():
        if not name.startswith("head"):
            value.copy_(former[name])
    for value, kept in zip((new.head.weight, new.head.bias), (film.head.weight, film.head.bias), strict=True):
        value.copy_(torch.cat([kept, kept[3:]]))
    new.head.bias[len(film.head.bias) :] += SHARE
    return new


def main() -> None:
    """Add what a search finds to what a film_lite blends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("film", type=Path, help=".npz of named tensors, without a search")
    parser.add_argument("output", type=Path, help="the .npz to write")
    args = parser.parse_args()
    np.savez(args.output, **film_tensors(searching(load_film(args.film))))


if __name__ == "__main__":
    main()
