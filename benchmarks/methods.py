"""Compare the recursive and the direct method with true frames: what lies between frames 0 and 4 of clips."""

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

_GAP, _WIDEST, _GROUPS, _STEP = 4, 640, 12, 20  # frames; pixels; groups of frames in a clip, and from one to the next


def main() -> None:
    """Print the PSNR of each clip, time and method."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    options = parser.parse_args()
    model = FilmModel.load("film_lite", "CPU")
    print("| clip | time | " + " | ".join(METHODS) + " |\n|---|---|---|---|")
    for clip in options.clips:
        scores: dict[tuple[float, str], list[float]] = {}
        for group in _groups(clip):
            for step in range(1, _GAP):
                for method in METHODS:
                    made = model.interpolate(group[0], group[_GAP], step / _GAP, method)
                    error = float(np.mean((made - group[step]) ** 2))
                    scores.setdefault((step / _GAP, method), []).append(-10 * np.log10(max(error, 1e-10)))
        for step in range(1, _GAP):
            figures = " | ".join(f"{mean(scores[step / _GAP, method]):.2f}" for method in METHODS)
            print(f"| {clip.name} | {step / _GAP} | {figures} |", flush=True)


def _groups(clip: Path) -> list[list[Frame]]:
    """Return groups of five frames of a clip, scaled down to at most 640 pixels across."""
    groups = []
    with av.open(clip) as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        while len(groups) < _GROUPS and len(group := list(itertools.islice(frames, _GAP + 1))) == _GAP + 1:
            scale = min(1, _WIDEST / group[0].shape[1])
            groups.append([cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                           .astype(np.float32) / 255 for frame in group])
            next(itertools.islice(frames, _STEP, _STEP), None)
    return groups


if __name__ == "__main__":
    main()
