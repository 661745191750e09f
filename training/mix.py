"""Weighted means of the tensors of several training runs, for each part of the network its own."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

PARTS = {"encoder": "feat_net", "flow": "predict_flow", "fusion": "fusion"}  # and what its tensors' names begin with


def mix(runs: list[Path], weights: dict[str, list[float]], output: Path) -> None:
    """Write the mean of named tensors, with a weight of each run for each part."""
    tensors = [dict(np.load(run)) for run in runs]
    mixed = {}
    for name in tensors[0]:
        part = next(part for part, start in PARTS.items() if name.startswith(start))
        values = [one[name].astype(np.float32) for one in tensors]
        mixed[name] = np.average(values, axis=0, weights=weights[part]).astype(np.float32)
    np.savez(output, **mixed)


def main() -> None:
    """Mix the tensors of runs that began alike."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("output", type=Path, help="the .npz to write")
    parser.add_argument("runs", type=Path, nargs="+", help=".npz of named tensors")
    for part in PARTS:
        parser.add_argument(
            f"--{part}", type=float, nargs="+", help="weight of each run there (default: all the same)"
        )
    args = parser.parse_args()
    weights = {part: getattr(args, part) or [1.0] * len(args.runs) for part in PARTS}
    if any(len(some) != len(args.runs) for some in weights.values()):
        parser.error(f"give {len(args.runs)} weights, one for each run")
    mix(args.runs, weights, args.output)


if __name__ == "__main__":
    main()
