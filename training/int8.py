"""Make film_lite's int8 version, calibrated on pairs of the training clips' frames."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ov_film.quantize import described, quantize

# Of each clip first frames, none before a cut, and how far the last frames lie from them. Every third pair judges.
PAIRS = {"movie": ((600, 3000, 5200, 7400, 9400), 4), "city": ((10, 45, 80, 125, 150), 2)}


def main() -> None:
    """Quantize a converted film_lite."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("model", type=Path, help="the converted model's folder")
    parser.add_argument("output", type=Path, help="the folder to make")
    args = parser.parse_args()
    pairs = []
    for name, (numbers, distance) in PAIRS.items():
        clip = np.load(args.data / f"{name}.npy", mmap_mode="r")
        for number in numbers:
            first, last = clip[[number, number + distance]].astype(np.float32) / 255
            pairs.append((first, last))
    figures = quantize(args.model, pairs, args.output).int8
    print(described(figures or {}))


if __name__ == "__main__":
    main()
