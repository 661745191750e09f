"""Train a coarsest flow predictor that compares images, an eighth of the frames' size and less, and nothing else.

An attempt at what film_lite lacks (README.md): it is not part of it yet, and the engine doesn't know it.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .film_torch import Film, FilmConfig
from .samples import Floats, Samples, Stage, Triplet, mirrored
from .tracks import Frames, Steps, flows_through
from .train import KNOWN, Plan, Run, flow_loss, options, synthetic, train, wanted_flows

CONFIG = FilmConfig(flow_filters=(64, 128, 96), flow_convolutions=(3, 3, 5), matching_filters=64)
EACH = 4  # real pairs in a batch; as many synthetic ones
HEIGHT, WIDTH = 48, 64  # of an image, an eighth of the frames' size
STRIDES = (0, 1, 2, 3, 4, 5, 6, 8)  # frames from an end of a real pair to its middle
PHOTOS_SMALLER = 3
POWERS = 1.0, 0.5  # of the error of a flow, at a run's beginning and end: small errors weigh more and more
RATE = 1.6  # times the usual one
LEVEL = 3  # of the images


class SmallPairs(Samples):
    """Batches of first and last frames at an eighth of the size, and the flows there, at the midpoint's pixels."""

    def __init__(self, folder: Path, steps: int, seed: int = 0) -> None:
        super().__init__(folder, steps, seed, stages=(Stage(0.0, 2 * WIDTH, EACH),))
        k = 1 / PHOTOS_SMALLER
        photos = [cv2.resize(photo, None, fx=k, fy=k, interpolation=cv2.INTER_AREA) for photo in self.photos]
        self.photos = [photo for photo in photos if min(photo.shape[:2]) > 2 * WIDTH]

    @staticmethod
    def load(folder: Path, name: str) -> tuple[Frames, Steps]:
        """A clip's small frames, and the flows from each to the next."""
        small, steps = (np.load(folder / f"{name}.{kind}.npy", mmap_mode="r") for kind in ("small", "steps"))
        return small, steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Step -> frames (2n,2,3,h,w) in [0,1], n real pairs first, and flows as Samples has them, (2n,2,2,h,w)."""
        cv2.setNumThreads(0)
        self.rng = np.random.default_rng((self.seed, step))
        pairs = [self._tracked() for _ in range(EACH)]
        for _ in range(EACH):
            triplet, flows = self._synthetic(2 * WIDTH, min(1.0, 2 * self.progress(step)))
            pairs.append((triplet[::2, : 2 * HEIGHT], flows[:, :, : 2 * HEIGHT]))
        frames, all_flows = zip(*(mirrored(*pair, False, self.rng) for pair in pairs), strict=True)
        small = F.avg_pool2d(torch.from_numpy(np.concatenate(frames)).permute(0, 3, 1, 2).float() / 255, 2)
        flow = wanted_flows(torch.from_numpy(np.concatenate(all_flows)), range(1, 2))[0]
        return small.unflatten(0, (-1, 2)), flow.unflatten(0, (-1, 2))

    def _tracked(self) -> tuple[Triplet, Floats]:
        """Cut a pair out of a clip: frames (2,2h,2w,3) and flows (2,2,2h,2w)."""
        rng = self.rng
        while True:
            triplet, steps, middle, stride = self._chosen(STRIDES)
            height, width = triplet.shape[1:3]
            scale = min(height / HEIGHT, width / WIDTH) * (rng.uniform(0.55, 1) if rng.random() < 0.7 else 1)
            high, wide = int(HEIGHT * scale), int(WIDTH * scale)
            y, x = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
            part = (slice(y, y + high), slice(x, x + wide))
            size = (2 * WIDTH, 2 * HEIGHT)
            flows = flows_through(steps, middle, stride, part, size)
            if np.isfinite(flows).mean() > KNOWN:
                return np.stack([cv2.resize(f[part], size, interpolation=cv2.INTER_AREA) for f in triplet[::2]]), flows


class CoarseRun(Run):
    """A run of the coarsest predictor, at the levels that share it."""

    def __init__(self, model: Film, device: torch.device) -> None:
        super().__init__(model, device)
        model.requires_grad_(False)
        model.predictors[-1].requires_grad_(True)

    def train_step(
        self, frames: Tensor, truth: Tensor, progress: float, rate: float, alone: bool
    ) -> tuple[float, float]:
        """Update once; the errors are those of real and of synthetic pairs at the finest of its levels, in pixels."""
        config = self.model.config
        images = [torch.cat([frames[:, 0], frames[:, 1]])]
        for _ in range(LEVEL, config.levels - 1):
            images.append(F.avg_pool2d(images[-1], 2))
        finest = config.flow_level + len(config.flow_filters) - 1
        flows = self.model.estimate_flows([images[0]] * LEVEL + images, [], finest)
        wanted = wanted_flows(torch.cat([truth[:, 0], truth[:, 1]]), range(finest - LEVEL, config.levels - LEVEL))
        begin, end = POWERS
        loss = flow_loss(flows, wanted, begin + (end - begin) * progress)
        self.update(loss, rate)
        with torch.no_grad():
            off = (flows[0] - wanted[0]).norm(dim=1)
            real = torch.cat([part.chunk(2)[0] for part in off.chunk(2)])
            return float(real.nanmean()), float(synthetic(off[:, None]).nanmean())


def main() -> None:
    """Train film_lite's coarsest flow predictor; the same command goes on where a stopped run was."""
    args = options(main.__doc__).parse_args()
    samples = SmallPairs(args.data, args.steps, args.seed)
    train(samples, args.run, args.start, Plan(args.steps, args.seed, rate=RATE, config=CONFIG), CoarseRun)


if __name__ == "__main__":
    main()
