"""Scene cuts and duplicates: how many of known ones are found, and how many of those found are true."""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ov_film.clip import open_clip
from ov_film.scenes import change, difference, is_cut, is_duplicate

Levels = NDArray[np.uint8]

HEIGHT, WIDTH = 360, 640
RATE = Fraction(24)
LENGTHS = (5, 12, 20, 31)


class Shot(NamedTuple):
    """Frames (H,W,3) of one shot, and the clip that they are of."""

    clip: str
    frames: list[Levels]


def main() -> None:
    """Join shots of different clips, encode them, and compare what is found with what was made."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("clips", nargs="+", metavar="FILE@SECONDS[,SECONDS...]",
                        help="a clip, and where shots begin in it that go on for 31 frames without a cut")
    parser.add_argument("--crf", nargs="+", type=int, default=[18, 28])
    parser.add_argument("--joins", type=int, default=120)
    options = parser.parse_args()
    shots = [shot for text in options.clips for shot in read_shots(text)]
    print("| what | crf | made | found | precision | recall | values: made, others |")
    print("|---|---|---|---|---|---|---|")
    for crf in options.crf:
        _print("cuts", crf, *cuts(shots, crf, options.joins))
        for held in (2, 3):
            _print(f"duplicates, each frame {held} times", crf, *duplicates(shots, crf, held))


def read_shots(text: str) -> Iterator[Shot]:
    """Yield the shots of a clip."""
    name, _, starts = text.rpartition("@")
    for start in starts.split(","):
        frames = []
        with av.open(name) as container:
            container.seek(round(float(start) * av.time_base))
            for picture in container.decode(video=0):
                if picture.time >= float(start):
                    frames.append(picture.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT))
                if len(frames) == max(LENGTHS):
                    break
        yield Shot(name, frames)


def cuts(shots: Sequence[Shot], crf: int, joins: int) -> tuple[list[bool], list[bool], list[float]]:
    """Return for each frame after another whether there is a cut, whether it was found, and how much changes."""
    random = np.random.default_rng(0)
    frames: list[Levels] = []
    made: list[bool] = []
    before = ""
    for number in range(joins):
        others = [shot for shot in shots if shot.clip != before]
        shot = others[random.integers(len(others))]
        length = LENGTHS[number % len(LENGTHS)]
        made += [bool(frames), *[False] * (length - 1)]
        frames += shot.frames[:length]
        before = shot.clip
    thumbnails = _encoded(frames, crf)
    changes = [change(*pair) for pair in pairwise(thumbnails)]
    found = [is_cut(*neighbours) for neighbours in zip([0.0, *changes], changes, [*changes[1:], 0.0], strict=False)]
    return made[1:], found, changes


def duplicates(shots: Sequence[Shot], crf: int, held: int) -> tuple[list[bool], list[bool], list[float]]:
    """Return for each frame after another of its shot whether it repeats it, whether that was found, the difference."""
    made, found, values = [], [], []
    for shot in shots:
        # Frames that already stand still in the clip are left out.
        moving = [shot.frames[0]]
        for frame in shot.frames[1:]:
            if cv2.absdiff(_small(frame), _small(moving[-1])).max() > 20:
                moving.append(frame)
        thumbnails = _encoded([frame for frame in moving for _ in range(held)], crf)
        for number, pair in enumerate(pairwise(thumbnails), start=1):
            made.append(number % held > 0)
            found.append(is_duplicate(*pair))
            values.append(difference(*pair))
    return made, found, values


def _small(frame: Levels) -> Levels:
    return np.asarray(cv2.resize(frame, (128, 72), interpolation=cv2.INTER_AREA), np.uint8)


def _encoded(frames: Sequence[Levels], crf: int) -> list[Levels]:
    """Return the small pictures of frames as they come out of x264."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options={"crf": str(crf)})
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return [frame.thumbnail() for frame in open_clip(path).frames()]


def _print(what: str, crf: int, made: Sequence[bool], found: Sequence[bool], values: Sequence[float]) -> None:
    true = sum(one and other for one, other in zip(made, found, strict=True))
    spread = [" ".join(f"{value:.3g}" for value in np.percentile(
        [value for value, is_made in zip(values, made, strict=True) if is_made == kind] or [0], (1, 5, 50, 95, 99)))
        for kind in (True, False)]
    print(f"| {what} | {crf} | {sum(made)} | {sum(found)} | {true / max(1, sum(found)):.3f} | "
          f"{true / sum(made):.3f} | {spread[0]}; {spread[1]} |", flush=True)


if __name__ == "__main__":
    main()
