"""Compare the recursive and the direct method with true frames: what lies between frames 0 and 4, or 8, of clips."""

import argparse
import itertools
from pathlib import Path
from statistics import mean

import av
import cv2
import numpy as np

from ov_film import FilmModel
from ov_film.frames import Frame
from ov_film.model import METHODS

_WIDEST, _GROUPS, _STEP = 640, 12, 20  # pixels; groups of frames in a clip, and frames from one to the next


def main() -> None:
    """Print for each clip, time and method the PSNR in dB, and by how many levels of 255 the mean brightness is off.

    That the latter changes from a frame to the next, and is 0 in the source frames, would be seen as flicker.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--gap", type=int, choices=(2, 4, 8), default=4, help="frames (default: %(default)s)")
    options = parser.parse_args()
    gap: int = options.gap
    model = FilmModel.load("film_lite", "CPU")
    print("| clip | time | " + " | ".join(METHODS) + " |\n|---|---|---|---|")
    for clip in options.clips:
        scores: dict[tuple[float, str], list[tuple[float, float]]] = {}
        for group in _groups(clip, gap):
            for step in range(1, gap):
                for method in METHODS:
                    made = model.interpolate(group[0], group[gap], step / gap, method)
                    error = float(np.mean((made - group[step]) ** 2))
                    brightness = abs(float(np.mean(made - group[step]))) * 255
                    found = (-10 * np.log10(max(error, 1e-10)), brightness)
                    scores.setdefault((step / gap, method), []).append(found)
        for step in range(1, gap):
            columns = (zip(*scores[step / gap, method], strict=True) for method in METHODS)
            figures = " | ".join(" / ".join(f"{mean(column):.2f}" for column in pair) for pair in columns)
            print(f"| {clip.name} | {step / gap} | {figures} |", flush=True)


def _groups(clip: Path, gap: int) -> list[list[Frame]]:
    """Return groups of one frame more than the gap, scaled down to at most 640 pixels across."""
    groups = []
    with av.open(clip) as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        while len(groups) < _GROUPS and len(group := list(itertools.islice(frames, gap + 1))) == gap + 1:
            scale = min(1, _WIDEST / group[0].shape[1])
            groups.append([cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                           .astype(np.float32) / 255 for frame in group])
            next(itertools.islice(frames, _STEP, _STEP), None)
    return groups


if __name__ == "__main__":
    main()
