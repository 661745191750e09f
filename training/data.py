"""Clips and photos by file name, and their conversion to arrays; DATA.md has packages and licences."""

from __future__ import annotations

import argparse
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Triplet = npt.NDArray[np.uint8]  # (3,H,W,3)
Range = tuple[int, int]  # frames, the end not included

WIDEST = 640  # pixels; wider clips are shrunk to it
SHORT_SIDE = 720  # of photos, pixels
PHOTO_FOLDERS = ("backgrounds", "wallpapers")  # in the Debian packages
CUT, STILL, UNEVEN = 35.0, 0.4, 2.5  # mean change in levels of 255; ratio of the two changes


@dataclass(frozen=True)
class Clip:
    """A clip and the frames of it that serve."""

    name: str
    file: str  # its name in the unpacked package
    ranges: tuple[Range, ...]
    weight: float = 0  # share among the training clips
    strides: tuple[int, ...] = ()  # validation: frames from an end to the middle


MOVIE = "bbb.mp4"
TRAINING = (
    Clip("movie", MOVIE, ((250, 2154), (2494, 8024), (8532, 10409), (10999, 11800)), weight=0.5),
    Clip("city", "cityCC0.mpg", ((0, 190),), weight=0.2),
    Clip("box", "box.mp4.gz", ((0, 455),), weight=0.12),
    Clip("cup", "cup.mp4.gz", ((0, 217),), weight=0.12),
    Clip("tree", "tree.avi", ((0, 68),), weight=0.06),
)
VALIDATION = (
    Clip("movie", MOVIE, ((2154, 2494),), strides=(1,)),
    Clip("movie", MOVIE, ((8024, 8532),), strides=(2,)),
    Clip("movie", MOVIE, ((10409, 10999),), strides=(4,)),
    Clip("face", "WolfgangLanger_Pexels.mp4", ((0, 472),), strides=(2, 6)),
    Clip("street", "bikes.mp4", ((0, 250),), strides=(1, 3)),
    Clip("car", "carphone_pristine.mp4", ((0, 120),), strides=(3,)),
    Clip("people", "vtest.avi", ((0, 795),), strides=(1,)),
    Clip("bird", "cockatoo.mp4", ((0, 280),), strides=(1, 3)),
    Clip("doll", "tour.mp4", ((0, 270),), strides=(1, 3)),
    Clip("dog", "VID_20191220_170832.mp4", ((0, 41),), strides=(3,)),
)


def is_usable(triplet: Triplet) -> bool:
    """Tell whether a triplet (3,H,W,3) moves and holds neither a cut nor a change of pace."""
    small = triplet[:, ::8, ::8].astype(np.int16)
    changes = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    least, most = changes.min(), changes.max()
    return bool(least >= STILL and most <= CUT and most <= UNEVEN * least)


def convert_clip(path: Path, output: Path) -> None:
    """Decode a clip (may be gzipped) to an .npy of (N,H,W,3) uint8 RGB, at most WIDEST wide."""
    source = io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else str(path)
    with av.open(source) as container:
        stream = container.streams.video[0]
        most = sum(packet.size > 0 for packet in container.demux(stream))  # some may hold no frame
        container.seek(0)
        width = min(WIDEST, stream.width) // 2 * 2
        height = round(stream.height * width / stream.width) // 2 * 2
        part = output.with_suffix(".part")
        frames = np.lib.format.open_memmap(part, "w+", np.uint8, (most, height, width, 3))
        count = 0
        for frame in container.decode(stream):
            small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
            frames[count] = small.to_ndarray()
            count += 1
    if count < most:
        np.save(output, frames[:count])
        part.unlink()
    else:
        frames.flush()
        part.replace(output)


def convert_photos(packages: Path, output: Path) -> None:
    """Gather the wallpapers as PNG with SHORT_SIDE, in the order of their paths."""
    output.mkdir(exist_ok=True)
    paths = sorted(
        path
        for path in packages.rglob("*")
        if path.suffix in (".jpg", ".png", ".webp") and any(f in path.parts for f in PHOTO_FOLDERS)
    )
    for number, path in enumerate(paths):
        image = cv2.imread(str(path))
        if image is None or path.is_symlink() or min(image.shape[:2]) < SHORT_SIDE:
            continue
        k = SHORT_SIDE / min(image.shape[:2])
        small = cv2.resize(image, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(output / f"{number:03}.png"), small)


def load_photos(folder: Path) -> list[npt.NDArray[np.uint8]]:
    """Load the photos, and of every training clip 60 frames, as (H,W,3) RGB."""
    photos = [cv2.imread(str(path))[..., ::-1].copy() for path in sorted((folder / "photos").glob("*.png"))]
    for clip in TRAINING:
        frames = np.load(folder / f"{clip.name}.npy", mmap_mode="r")
        if frames.shape[1] < 256:
            continue
        numbers = np.concatenate([np.arange(*r) for r in clip.ranges])
        photos += [np.array(frames[k]) for k in numbers[:: max(1, len(numbers) // 60)]]
    return photos


def main() -> None:
    """Convert the unpacked packages' clips and photos to arrays."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("packages", type=Path, help="folder with the unpacked packages, see DATA.md")
    parser.add_argument("data", type=Path, help="folder to fill")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)
    for clip in {clip.name: clip for clip in (*TRAINING, *VALIDATION)}.values():
        output = args.data / f"{clip.name}.npy"
        if not output.exists():
            convert_clip(next(args.packages.rglob(clip.file)), output)
        print(clip.name, *np.load(output, mmap_mode="r").shape)
    convert_photos(args.packages, args.data / "photos")


if __name__ == "__main__":
    main()
