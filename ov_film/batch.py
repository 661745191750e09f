"""Where in a batch of images nothing is to be interpolated."""

from collections.abc import Iterable
from itertools import pairwise, starmap

import cv2
import numpy as np

from .frames import Frame, to_8_bits
from .retiming import Retiming
from .scenes import Thumbnail, change, is_cut

_THUMBNAIL_WIDTH = 128


def uninterpolated(frames: Iterable[Frame], count: int, retiming: Retiming) -> set[int]:
    """Return the numbers, from 0, of those of `count` frames (H,W,3) after which nothing is to be interpolated.

    Those are scene cuts, unless they are to be ignored, and what `skip` and `only` say.
    """
    forbidden = {number for number in range(count) if not retiming.allows(number)}
    if retiming.cuts == "ignore":
        return forbidden
    changes = [0.0, *starmap(change, pairwise(map(_thumbnail, frames))), 0.0]
    return forbidden | {number for number in range(count - 1) if is_cut(*changes[number:number + 3])}


def _thumbnail(frame: Frame) -> Thumbnail:
    height, width = frame.shape[:2]
    rows = max(8, round(_THUMBNAIL_WIDTH * height / width))
    small = np.asarray(cv2.resize(frame, (_THUMBNAIL_WIDTH, rows), interpolation=cv2.INTER_AREA), np.float32)
    return np.ascontiguousarray(to_8_bits(small)[..., ::-1])
