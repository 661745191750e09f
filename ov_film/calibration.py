"""Pairs of frames to calibrate an int8 version on, and to judge it by."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from .errors import FilmError
from .frames import Frame, check_same_size, read_frame
from .scenes import Thumbnail, change, is_cut, is_duplicate, thumbnail

_LARGEST = (384, 640)  # pixels: the most that is kept of a frame, height and width, or 4K pairs would fill the memory
_MOST_PAIRS = 32
_CLIP_FRAMES = 1000  # the start of a clip that is read for pairs
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

Pair = tuple[Frame, Frame]


def pairs_of(frames: Sequence[Frame]) -> list[Pair]:
    """Return pairs of neighbouring frames, at most 32, spread over a sequence; of large frames a part.

    Frames that repeat the one before are left out: in animation drawn on twos, no pair would move. So are pairs over a
    scene cut.

    Args:
        frames: (H,W,3) float32 in [0,1], in order.
    """
    return _spread(_neighbours(iter(frames)))


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs of neighbouring frames, at most 32, spread over a folder of images or the start of a clip.

    Of large frames a part is kept, from another place for each pair. Frames that repeat the one before are left out,
    and pairs over a scene cut.

    Raises:
        FilmError: there is no such file or folder, or something in it can't be read.
    """
    if path.is_dir():
        images = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)
        return _spread(_neighbours(map(read_frame, images)))
    return _spread(_neighbours(_clip_frames(path)))


def checksum(pairs: Sequence[Pair]) -> str:
    """Return the SHA-256 of pairs of frames."""
    digest = hashlib.sha256()
    for frame in itertools.chain.from_iterable(pairs):
        digest.update(f"{frame.shape}".encode() + np.ascontiguousarray(frame).tobytes())
    return digest.hexdigest()


def cut(pair: Pair, index: int) -> Pair:
    """Return at most so much of a pair as is looked at, from a place that differs from pair to pair."""
    first, last = pair
    check_same_size(first, last, "The first frame of a pair", "the last")
    height, width = (min(side, most) for side, most in zip(first.shape[:2], _LARGEST, strict=True))
    down, right = np.random.default_rng(index).random(2)
    top, left = round(down * (first.shape[0] - height)), round(right * (first.shape[1] - width))
    return (first[top:top + height, left:left + width].copy(), last[top:top + height, left:left + width].copy())


def _clip_frames(path: Path) -> Iterator[Frame]:
    try:
        with av.open(path) as container:
            for frame in itertools.islice(container.decode(video=0), _CLIP_FRAMES):
                yield frame.to_ndarray(format="rgb24").astype(np.float32) / np.float32(255)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise FilmError(f"Clip {path} can't be read ({error}): give a video or a folder of images.") from error


def _neighbours(frames: Iterator[Frame]) -> Iterator[Pair]:
    """Yield pairs that share nothing and lie in one scene; of three frames, two that share the middle one."""
    steps = _steps(_changing(frames))
    start = list(itertools.islice(steps, 3))
    chosen = iter(start) if len(start) == 2 else itertools.islice(itertools.chain(start, steps), 0, None, 2)
    return (pair for pair in chosen if pair)


def _steps(frames: Iterator[tuple[Frame, Thumbnail]]) -> Iterator[Pair | None]:
    """Yield each frame with the next one; nothing, where a cut lies between: no motion leads over it.

    Whether there is one, the steps before and after it tell; so the first and the last are none.
    """
    before, here, waiting = math.inf, math.inf, None
    for (first, small), (last, other) in itertools.pairwise(frames):
        after = change(small, other) if small.shape == other.shape else 0.0
        if waiting:
            yield None if is_cut(before, here, after) else waiting
        before, here, waiting = here, after, (first, last)
    if waiting:
        yield waiting


def _changing(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Thumbnail]]:
    kept = None
    for frame in frames:
        small = thumbnail(frame)
        if kept is None or kept.shape != small.shape or not is_duplicate(kept, small):
            yield frame, small
            kept = small


def _spread(pairs: Iterable[Pair]) -> list[Pair]:
    """Return up to so many pairs at equal distances, of a number that is not known before the last."""
    kept: list[Pair] = []
    step = 1
    for index, pair in enumerate(pairs):
        if index % step == 0:
            kept.append(cut(pair, index))
        if len(kept) > _MOST_PAIRS:
            kept, step = kept[::2], 2 * step
    return kept
