"""Pairs of small frames with the flows between them, which the matching learns from: real and synthetic ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .data import CUT, STILL, TRAINING, UNEVEN, Clip, load_photos
from .samples import TIMES, Matrix, Motion, draw_shape
from .tracks import Frames, Steps, chained

Image = npt.NDArray[np.uint8]  # (h,w,3)
Floats = npt.NDArray[np.float32]
Sample = tuple[Floats, Floats, Floats]  # first and last frame (HEIGHT,WIDTH,3) in [0,255]; flows (2,2,HEIGHT,WIDTH)

WIDTH, HEIGHT = 160, 96  # pixels: of frames of 640x384
REAL, SYNTHETIC = 3, 3  # pairs in a batch
STRIDES = (1, 2, 3, 4, 4, 6, 6, 8, 10)  # frames from an end of a real pair to the middle between
FAST = 0.6  # share of real pairs that are the fastest of five
REACH = 20, 45  # pixels: the widest spread of synthetic shifts, in the beginning and from the middle of a run on
SCALES = 0.5, 0.25  # of photos
KNOWN = 0.3  # share of a real pair whose flow has to be known


def true_flow(start: Matrix, end: Matrix) -> Floats:
    """Where each pixel of the frame at start has gone at end: (2,HEIGHT,WIDTH), x and y in pixels."""
    delta = (end @ np.linalg.inv(start) - np.eye(3)).astype(np.float32)
    x, y = np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32)[:, None]
    return np.stack([delta[row, 0] * x + delta[row, 1] * y + delta[row, 2] for row in (0, 1)])


def mirrored(sample: Sample, rng: np.random.Generator) -> Sample:
    """Mirror and reverse in time, and give other colours, each at random."""
    first, last, flows = sample
    if rng.random() < 0.5:
        first, last, flows = first[:, ::-1], last[:, ::-1], flows[..., ::-1] * np.float32([[[-1]], [[1]]])
    if rng.random() < 0.3:
        first, last, flows = first[::-1], last[::-1], flows[..., ::-1, :] * np.float32([[[1]], [[-1]]])
    if rng.random() < 0.5:
        first, last, flows = last, first, flows[::-1]
    if rng.random() < 0.5:
        channels, gain = rng.permutation(3), rng.uniform(0.6, 1.3)
        first, last = first[..., channels] * gain, last[..., channels] * gain
    return first, last, flows


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """One item is one whole batch; it depends on nothing but the data, the seed and the step's number."""

    def __init__(self, folder: Path, steps: int, seed: int = 0) -> None:
        self.steps, self.seed = steps, seed
        self.photos = [[cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for scale in SCALES]
                       for photo in load_photos(folder)]
        self.clips = [(clip, np.load(folder / f"{clip.name}.small.npy", mmap_mode="r"),
                       np.load(folder / f"{clip.name}.steps.npy", mmap_mode="r")) for clip in TRAINING]
        weights = np.array([clip.weight for clip in TRAINING])
        self.weights = weights / weights.sum()
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Steps of the whole run."""
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Step -> frames (n,2,3,HEIGHT,WIDTH) in [0,1], real ones first, and flows at the midpoint's pixels.

        Flows are (n,4,HEIGHT,WIDTH), x and y of first to last, then of the reverse; NaN where they are not to be
        trusted.
        """
        cv2.setNumThreads(0)
        self.rng = np.random.default_rng((self.seed, step))
        reach = REACH[0] + (REACH[1] - REACH[0]) * min(1.0, 2 * step / self.steps)
        samples = [self._real(reach) for _ in range(REAL)] + [self._synthetic(reach) for _ in range(SYNTHETIC)]
        firsts, lasts, flows = zip(*(mirrored(sample, self.rng) for sample in samples), strict=True)
        frames = np.stack([firsts, lasts], 1).clip(0, 255).transpose(0, 1, 4, 2, 3).astype(np.float32) / 255
        return torch.from_numpy(frames), torch.from_numpy(np.stack(flows).reshape(-1, 4, HEIGHT, WIDTH))

    def _real(self, reach: float) -> Sample:
        """Two frames of a clip, and what is tracked from the middle between them to either."""
        rng = self.rng
        for _ in range(30):
            clip, small, steps = self.clips[rng.choice(len(self.clips), p=self.weights)]
            middle, stride = self._chosen(clip, steps)
            numbers = (middle - stride, middle, middle + stride)
            changes = np.abs(np.diff(small[list(numbers)].astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
            if changes.min() < STILL or changes.max() > min(CUT, UNEVEN * changes.min()):
                continue
            flows = np.stack([2 * chained(steps, middle, end) for end in numbers[::-2]])
            if np.isfinite(flows).mean() < KNOWN:
                continue
            return self._cropped(small, numbers, flows)
        return self._synthetic(reach)

    def _chosen(self, clip: Clip, steps: Steps) -> tuple[int, int]:
        """Choose a middle frame and a stride; of five, mostly the one around which most moves."""
        rng = self.rng
        stride = int(rng.choice(STRIDES))
        ranges = [(begin, end) for begin, end in clip.ranges if end - begin > 2 * stride]
        lengths = np.array([end - begin for begin, end in ranges], float)
        begin, end = ranges[rng.choice(len(ranges), p=lengths / lengths.sum())]
        middles = rng.integers(begin + stride, end - stride, 5)
        if rng.random() >= FAST:
            return int(middles[0]), stride
        skip = max(1, stride // 2)
        motion = [np.abs(steps[middle - stride : middle + stride : skip, 0, ::6, ::6].astype(np.float32)).mean()
                  for middle in middles]
        return int(middles[int(np.argmax(motion))]), stride

    def _cropped(self, small: Frames, numbers: tuple[int, int, int], flows: Floats) -> Sample:
        """A part of the frames at both ends, or all, at the size that is learned from."""
        rng = self.rng
        height, width = small.shape[1:3]
        scale = rng.uniform(0.55, 1)
        high, wide = int(height * scale), int(width * scale)
        top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
        part = slice(top, top + high), slice(left, left + wide)
        first, last = (cv2.resize(small[number][part], (WIDTH, HEIGHT)).astype(np.float32) for number in numbers[::2])
        there = np.stack([cv2.resize(flow[part], (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST).transpose(2, 0, 1)
                          for flow in flows]) * np.float32([[[WIDTH / wide]], [[HEIGHT / high]]])
        if rng.random() < 0.3:
            last = last * np.float32(1 + rng.normal(0, 0.06)) + np.float32(rng.normal(0, 6))
        return first, last, there

    def _motion(self, reach: float) -> Motion:
        rng = self.rng
        direction = rng.uniform(0, 2 * np.pi)
        length = abs(rng.normal(0, reach * rng.choice([0.05, 0.2, 0.5, 1.0])))
        spread = rng.choice([0.05, 0.3, 1.0, 2.0])
        return Motion(
            angle=np.deg2rad(rng.normal(0, 5 * spread)),
            scale=float(np.exp(rng.normal(0, 0.09 * spread))),
            shear=rng.normal(0, 0.02 * spread),
            x=length * np.cos(direction),
            y=length * np.sin(direction) * 0.7,
        )

    def _photo(self) -> Image:
        return self.photos[self.rng.integers(len(self.photos))][self.rng.integers(len(SCALES))]

    def _synthetic(self, reach: float) -> Sample:
        """Move a photo and up to seven cut-outs over it."""
        rng = self.rng
        photo = self._photo()
        height, width = photo.shape[:2]
        camera = Motion() if rng.random() < 0.2 else self._motion(reach)
        zoom = rng.uniform(0.5, 1.2)
        centre = np.float32([rng.uniform(margin, side - margin) for margin, side in (
            (min(seen * 0.5 / zoom, side / 2 - 1), side) for seen, side in ((WIDTH, width), (HEIGHT, height)))])
        maps = [camera.matrix(time, centre, np.float32([WIDTH / 2, HEIGHT / 2]), zoom) for time in TIMES]
        frames = [self._moved(photo, matrix).astype(np.float32) for matrix in maps[::2]]
        flows = np.stack([2 * true_flow(maps[1], end) for end in maps[::-2]])
        own: Motion | None = None
        for _ in range(0 if rng.random() < 0.15 else int(rng.integers(1, 8))):
            size = int(rng.integers(24, 128))
            texture, shape = self._texture(size), draw_shape(rng, size)
            if own is None or rng.random() >= 0.3:  # some move together
                own = self._motion(reach * rng.choice([0.3, 1.0, 1.5]))
            along = rng.random() < 0.8
            motion = Motion(own.angle, own.scale, own.shear, own.x + camera.x * along, own.y + camera.y * along)
            place = np.float32([rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)])
            maps = [motion.matrix(time, np.float32([size / 2] * 2), place) for time in TIMES]
            masks = [cv2.warpAffine(shape, matrix[:2], (WIDTH, HEIGHT)) for matrix in maps]
            for frame, matrix, mask in zip(frames, maps[::2], masks[::2], strict=True):
                frame += (self._moved(texture, matrix) - frame) * mask[..., None]
            for flow, end in zip(flows, maps[::-2], strict=True):
                flow[:] = np.where(masks[1] > 0.5, 2 * true_flow(maps[1], end), flow)
        return (*self._as_filmed(frames), flows)

    def _texture(self, size: int) -> Image:
        """A part of a photo, now and then blurred or in other colours."""
        rng = self.rng
        photo = self._photo()
        side = min(int(size * rng.uniform(0.6, 1.6)), *photo.shape[:2])
        y, x = (int(rng.integers(0, long - side + 1)) for long in photo.shape[:2])
        texture = cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.2:
            texture = cv2.GaussianBlur(texture, (0, 0), size / 8)
        if rng.random() < 0.3:
            gain, offset = rng.uniform(0.4, 1.5), rng.uniform(-40, 40, 3)
            texture = (texture * gain + offset).clip(0, 255).astype(np.uint8)
        return texture

    @staticmethod
    def _moved(image: Image, matrix: Matrix) -> Image:
        return cv2.warpAffine(image, matrix[:2], (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)

    def _as_filmed(self, frames: list[Floats]) -> tuple[Floats, Floats]:
        """Blur, change the light in time, add noise; each now and then."""
        rng = self.rng
        blurred, lit, noisy = rng.random(3) < (0.15, 0.4, 0.3)
        if blurred:
            sigma = rng.uniform(0.4, 1.0)
            frames = [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]
        if lit:
            gain, offset = rng.normal(0, 0.08), rng.normal(0, 8)
            frames = [frame * (1 + gain * t) + offset * t for frame, t in zip(frames, TIMES[::2], strict=True)]
        if noisy:
            sigma = rng.uniform(0.5, 5)
            frames = [frame + rng.standard_normal(frame.shape, np.float32) * sigma for frame in frames]
        return frames[0], frames[1]
