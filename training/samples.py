"""Training triplets (first, middle, last): real ones from clips, synthetic ones of photos under motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .data import TRAINING, is_usable, load_photos

Image = npt.NDArray[np.uint8]  # (H,W,3)
Triplet = npt.NDArray[np.uint8]  # (3,H,W,3)
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]  # (3,3), homogeneous

TIMES = (-0.5, 0.0, 0.5)
STRIDES = (0, 1, 1, 2, 2, 3, 4, 5, 6, 8)  # frames from an end of a real triplet to its middle; 0 repeats one

@dataclass(frozen=True)
class Stage:
    """How batches look from a share of the run onwards."""

    begins: float  # share of the steps, 0 to 1
    size: int  # side of the square crops
    each: int  # real triplets in a batch; as many synthetic ones


STAGES = (Stage(0.0, 128, 4), Stage(0.5, 192, 2), Stage(0.8, 256, 1))


@dataclass(frozen=True)
class Motion:
    """What a layer does from time -0.5 to 0.5."""

    angle: float = 0  # radians
    scale: float = 1  # factor
    shear: float = 0
    x: float = 0  # pixels
    y: float = 0

    def matrix(self, time: float, centre: Floats, place: Floats, zoom: float = 1.0) -> Matrix:
        """Map the layer's own pixels to the frame's at a time; centre (x, y) lands on place, moved."""
        k = self.scale**time * zoom
        c, s = np.cos(self.angle * time) * k, np.sin(self.angle * time) * k
        linear = np.array([[c, -s], [s, c]]) @ np.array([[1, self.shear * time], [0, 1]])
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = place + np.array([self.x, self.y]) * time - linear @ centre
        return matrix


def mirrored(frames: Triplet, rng: np.random.Generator) -> Triplet:
    """Mirror, transpose and reverse in time square frames (n,h,w,3), each at random."""
    left, up, turn, back = rng.random(4) < 0.5
    if left:
        frames = frames[:, :, ::-1]
    if up:
        frames = frames[:, ::-1]
    if turn:
        frames = frames.transpose(0, 2, 1, 3)
    return frames[::-1] if back else frames


def draw_shape(rng: np.random.Generator, size: int) -> Floats:
    """Draw an object's outline, (size,size) in [0,1]: a polygon, an ellipse, thin bars or a spoked wheel."""
    mask = np.zeros((size, size), np.float32)
    middle = (size // 2, size // 2)
    radius = rng.uniform(0.08, 0.35) * size
    kind = rng.choice(["polygon", "ellipse", "bars", "wheel"], p=[0.4, 0.25, 0.2, 0.15])
    thickness = int(rng.integers(1, max(3, size // 20)))
    if kind == "polygon":
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
        radii = radius * rng.uniform(0.4, 1.3, len(angles))
        points = size / 2 + np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
        cv2.fillPoly(mask, [points.astype(np.int32)], (1.0,))
    elif kind == "ellipse":
        axes = (radius * rng.uniform(0.4, 1.2, 2)).astype(int) + 1
        cv2.ellipse(mask, middle, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, (1.0,), -1)
    elif kind == "bars":
        angle, gap = rng.uniform(0, np.pi), rng.uniform(0.06, 0.2) * size
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        for k in range(int(rng.integers(1, 5))):
            ends = [size / 2 + across * gap * k + along * reach * radius * 2 for reach in (-1, 1)]
            cv2.line(mask, *(tuple(end.astype(int).tolist()) for end in ends), (1.0,), thickness)
    else:
        cv2.circle(mask, middle, int(radius), (1.0,), thickness)
        for angle in np.arange(int(rng.integers(2, 7))) * np.pi / 3:
            end = (int(size / 2 + radius * np.cos(angle)), int(size / 2 + radius * np.sin(angle)))
            cv2.line(mask, middle, end, (1.0,), max(1, thickness // 2))
    return cv2.GaussianBlur(mask, (3, 3), 0)


class Samples(Dataset[Tensor]):
    """One item is one whole batch; it depends on nothing but the data, the seed and the step's number."""

    def __init__(self, folder: Path, steps: int, seed: int = 0, begin: float = 0) -> None:
        self.steps, self.seed, self.begin = steps, seed, begin
        largest = max(stage.size for stage in STAGES)
        self.photos = [photo for photo in load_photos(folder) if min(photo.shape[:2]) >= largest]
        self.clips = [np.load(folder / f"{clip.name}.npy", mmap_mode="r") for clip in TRAINING]
        weights = np.array([c.weight for c in TRAINING])
        self.weights = weights / weights.sum()
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Steps of the whole run."""
        return self.steps

    def __getitem__(self, step: int) -> Tensor:
        """Step -> frames (2n,3,3,S,S) in [0,1], n real triplets first."""
        cv2.setNumThreads(0)
        self.rng = np.random.default_rng((self.seed, step))
        progress = self.begin + (1 - self.begin) * step / self.steps  # a run may begin on the way
        stage = [stage for stage in STAGES if stage.begins <= progress][-1]
        triplets = [mirrored(self._real(stage.size, progress), self.rng) for _ in range(stage.each)]
        triplets += [self._synthetic(stage.size, progress) for _ in range(stage.each)]
        return torch.from_numpy(np.stack(triplets).transpose(0, 1, 4, 2, 3).astype(np.float32) / 255)

    def _real(self, size: int, progress: float) -> Triplet:
        """Cut a crop out of a clip; of up to four places the one that changes most."""
        rng = self.rng
        for _ in range(20):
            triplet, stride = self._chosen()
            height, width = triplet.shape[1:3]
            side = min(int(size * rng.uniform(1, 1.6)), height, width)
            crops = []
            for _ in range(int(rng.integers(1, 5))):
                y, x = (int(rng.integers(0, long - side + 1)) for long in (height, width))
                crop = triplet[:, y : y + side, x : x + side]
                change = np.abs(crop[0, ::4, ::4].astype(np.int16) - crop[2, ::4, ::4]).mean()
                crops.append((change, y, x))
            change, y, x = max(crops)
            if change >= 0.5 or not stride:
                crop = triplet[:, y : y + side, x : x + side]
                return np.stack([cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in crop])
        return self._synthetic(size, progress)

    def _chosen(self) -> tuple[Triplet, int]:
        """Choose a usable triplet, and the stride that it has."""
        rng = self.rng
        while True:
            index = rng.choice(len(self.clips), p=self.weights)
            clip, ranges = self.clips[index], TRAINING[index].ranges
            lengths = np.array([end - begin for begin, end in ranges], float)
            begin, end = ranges[rng.choice(len(ranges), p=lengths / lengths.sum())]
            stride = int(rng.choice(STRIDES))
            middle = int(rng.integers(begin + stride, end - stride))
            triplet = clip[[middle - stride, middle, middle + stride]]
            if not stride or is_usable(triplet):
                return triplet, stride

    def _motion(self, reach: float) -> Motion:
        """Choose a motion: mostly small, now and then beyond reach pixels."""
        rng = self.rng
        direction = rng.uniform(0, 2 * np.pi)
        length = abs(rng.normal(0, reach * rng.choice([0.02, 0.1, 0.3, 0.6, 1.0])))
        spread = rng.choice([0.05, 0.3, 1.0, 2.0])
        return Motion(
            angle=np.deg2rad(rng.normal(0, 4 * spread)),
            scale=float(np.exp(rng.normal(0, 0.05 * spread))),
            shear=rng.normal(0, 0.02 * spread),
            x=length * np.cos(direction),
            y=length * np.sin(direction),
        )

    def _crop_of_photo(self, size: int) -> Image:
        photo = self.photos[self.rng.integers(len(self.photos))]
        y, x = (self.rng.integers(0, side - size + 1) for side in photo.shape[:2])
        return photo[y : y + size, x : x + size]

    def _synthetic(self, size: int, progress: float) -> Triplet:
        """Move a photo and up to five cut-outs over it, farther as training goes on."""
        rng = self.rng
        reach = size * (0.15 + 0.15 * progress)
        photo = self.photos[rng.integers(len(self.photos))]
        height, width = photo.shape[:2]
        camera = Motion() if rng.random() < 0.2 else self._motion(reach)
        zoom = rng.uniform(0.5, 1.3)
        margin = min(size * 0.7, height / 2 - 1, width / 2 - 1)
        centre = np.array([rng.uniform(margin, side - margin) for side in (width, height)], np.float32)
        middle = np.full(2, size / 2, np.float32)
        maps = [camera.matrix(time, centre, middle, zoom) for time in TIMES]
        frames = [self._move(photo, m, size).astype(np.float32) for m in maps]
        for _ in range(0 if rng.random() < 0.3 else int(rng.integers(1, 6))):
            texture, shape = self._crop_of_photo(size), draw_shape(rng, size)
            if rng.random() < 0.25:  # plain things: poles, clothes, letters
                texture = cv2.GaussianBlur(texture, (0, 0), size / 8)
            own = self._motion(reach)
            own = Motion(own.angle, own.scale, own.shear, own.x + camera.x, own.y + camera.y)
            place = rng.uniform(0.1 * size, 0.9 * size, 2).astype(np.float32)
            for frame, m in zip(frames, (own.matrix(time, middle, place) for time in TIMES), strict=True):
                alpha = cv2.warpAffine(shape, m[:2], (size, size))[..., None]
                frame += (self._move(texture, m, size) - frame) * alpha
        return self._as_filmed(frames)

    @staticmethod
    def _move(image: Image, matrix: Matrix, size: int) -> Image:
        return cv2.warpAffine(image, matrix[:2], (size, size), borderMode=cv2.BORDER_REFLECT)

    def _as_filmed(self, frames: list[Floats]) -> Triplet:
        """Change the light in time on all three frames; add noise and JPEG traces to the outer two."""
        rng = self.rng
        blur, light, noisy, packed = rng.random(4) < (0.15, 0.3, 0.2, 0.2)
        if blur:
            sigma = rng.uniform(0.5, 1.5)
            frames = [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]
        if light:
            gain, offset = rng.normal(0, 0.06), rng.normal(0, 6)
            frames = [frame * (1 + gain * t) + offset * t for frame, t in zip(frames, TIMES, strict=True)]
        if noisy:
            sigma = rng.uniform(0.5, 6)
            for k in (0, 2):
                frames[k] = frames[k] + rng.standard_normal(frames[k].shape, np.float32) * sigma
        triplet = np.stack(frames).clip(0, 255).round().astype(np.uint8)
        if packed:
            quality = int(rng.integers(40, 96))
            for k in (0, 2):
                _, packet = cv2.imencode(".jpg", triplet[k], [cv2.IMWRITE_JPEG_QUALITY, quality])
                triplet[k] = cv2.imdecode(packet, cv2.IMREAD_COLOR)
        return triplet
