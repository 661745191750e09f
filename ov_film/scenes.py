"""Scene cuts and duplicates, told by small pictures of frames."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .frames import Frame, to_8_bits

Thumbnail = NDArray[np.uint8]
"""(h,w,3) BGR, 128 pixels wide."""

# Measured: benchmarks/RESULTS.md, "Scene cuts and duplicates".
_LEAST_CHANGE = 0.06
_LEAST_RATIO = 2.0
_MOST_DIFFERENCE = 5.0  # levels of 255
_BLOCK = 4
THUMBNAIL_WIDTH = 128  # pixels
_ROWS = 32, 256  # of a thumbnail: OpenCV's flow crashes where it has fewer


def thumbnail(frame: Frame) -> Thumbnail:
    """Return a frame (H,W,3) small."""
    size = THUMBNAIL_WIDTH, thumbnail_rows(*frame.shape[:2])
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(to_8_bits(np.asarray(small, np.float32))[..., ::-1])


def thumbnail_rows(height: int, width: int) -> int:
    """Return the height of the thumbnail of a frame of some size: in proportion, but for very wide and tall ones."""
    return int(np.clip(round(THUMBNAIL_WIDTH * height / width), *_ROWS))


def change(first: Thumbnail, second: Thumbnail) -> float:
    """Return how much of the second picture no motion of the first explains, from 0 to 1: a mean of differences."""
    flow_finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (first, second)]
    flow = flow_finder.calc(grey[0], grey[1], np.zeros((*first.shape[:2], 2), np.float32))
    rows, columns = np.mgrid[:first.shape[0], :first.shape[1]].astype(np.float32)
    moved = cv2.remap(second, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_REPLICATE)
    return float(cv2.absdiff(moved, first).mean() / 255)


def is_cut(before: float, here: float, after: float) -> bool:
    """Return whether the scene changes where the picture changes by `here`, with the changes before and after it.

    A cut stands out from its neighbours; flashes and wild motion come with others of their kind.
    """
    return here > _LEAST_CHANGE and here > _LEAST_RATIO * max(before, after)


def is_duplicate(first: Thumbnail, second: Thumbnail) -> bool:
    """Return whether two frames show the same everywhere, but for what a codec did to them."""
    return difference(first, second) < _MOST_DIFFERENCE


def difference(first: Thumbnail, second: Thumbnail) -> float:
    """Return the largest mean difference of any block, in levels of 255."""
    return float(cv2.blur(cv2.absdiff(first, second).mean(axis=2, dtype=np.float32), (_BLOCK, _BLOCK)).max())
