"""True-like flows of real clips, over any stride: dense inverse search from frame to frame, chained.

A search between frames that lie far apart loses what moves far; from one frame to the next it hardly does, and training
knows the frames between. All is at a quarter of the size, which serves flows of an eighth and less.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from .data import TRAINING

Frames = npt.NDArray[np.uint8]  # (N,H,W,3)
Floats = npt.NDArray[np.float32]
Steps = npt.NDArray[np.float16]  # (N-1,2,h,w,2): from each frame to the next, and back; x and y in pixels

SMALLER = 4  # how many times
STRAYS = 0.25, 0.05  # pixels, and share of the flow, that a chain and the way back may differ by


def track(frames: Frames, small: Frames, steps: Steps) -> None:
    """Fill in the small frames and the flows between neighbours, which are searched at half the size."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = small.shape[1:3]
    before = None
    for number, frame in enumerate(frames):
        small[number] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        half = cv2.resize(frame, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY)
        if before is not None:
            for way, pair in enumerate(((before, grey), (grey, before))):
                flow = search.calc(*pair, None)
                steps[number - 1, way] = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / 2
        before = grey


def read(field: Floats, flow: Floats) -> Floats:
    """Read a field (h,w,2) at each pixel plus flow (h,w,2); far from all that is known beyond the frame."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderValue=(1e3, 1e3))


def chained(steps: Steps, start: int, end: int) -> Floats:
    """Follow a frame's pixels to another frame: (h,w,2); NaN where the way back leads elsewhere."""
    there, back = ([steps[number, way].astype(np.float32) for number in range(min(start, end), max(start, end))]
                   for way in ((0, 1) if start < end else (1, 0)))
    if start < end:
        back.reverse()
    else:
        there.reverse()
    flow, returned = np.zeros_like(there[0]), np.zeros_like(there[0])
    for step in there:
        flow = flow + read(step, flow)
    for step in back:
        returned = returned + read(step, returned)
    least, share = STRAYS
    astray = np.linalg.norm(flow + read(returned, flow), axis=2) > least + share * np.linalg.norm(flow, axis=2)
    flow[astray] = np.nan
    return flow


def main() -> None:
    """Track the training clips: clip.small.npy and clip.steps.npy beside their arrays."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that data.py filled")
    args = parser.parse_args()
    for clip in TRAINING:
        frames = np.load(args.data / f"{clip.name}.npy", mmap_mode="r")
        count, height, width = len(frames), frames.shape[1] // SMALLER, frames.shape[2] // SMALLER
        output = args.data / f"{clip.name}.steps.npy"
        if output.exists():
            continue
        small = np.zeros((count, height, width, 3), np.uint8)
        steps = np.zeros((count - 1, 2, height, width, 2), np.float16)
        track(frames, small, steps)
        np.save(args.data / f"{clip.name}.small.npy", small)
        np.save(output, steps)
        print(clip.name, *small.shape)


if __name__ == "__main__":
    main()
