"""Flows of whole frames, found in the frames themselves from a coarse flow on."""

from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .frames import Frame
from .matching import matched_size

Flow = NDArray[np.float32]

# Where a search yields (see `searched`), chosen by PSNR over 14 sets of clips: 0.03 dB, 0.4 where much goes far.
_YIELDING_SMALLER = 4  # times: the size at which that is told
_FAR_APART = 32  # pixels between flows, from which on they count as entirely different
_AROUND = (13, 13)  # pixels of the small frames: what differences are means of
_EQUAL = np.float32(0.01)  # of differences in [0,1]: what is no matter
_YIELDING = 0.5  # of the logarithm of both differences' ratio, times how much the flows differ

Image = TypeVar("Image", NDArray[np.uint8], NDArray[np.float32])


def refined(first: Frame, last: Frame, forward: Flow, backward: Flow) -> tuple[Flow, Flow]:
    """Return both flows between two frames, so that what they bring to the midpoint lies on each other.

    What is left between the two frames that the flows bring there is found by dense inverse search (Kroeger et al.,
    "Fast Optical Flow using Dense Inverse Search", ECCV 2016; OpenCV's, down to half the frames' size), from the first
    to the last and back; variational refinement (Brox et al., ECCV 2004; OpenCV's) goes on from the mean at the frames'
    own size, in a fifth of the time that a search takes there. Each flow takes its half.

    Args:
        first, last: (H,W,3) float32 in [0,1], of 12 pixels or more a side.
        forward, backward: (H,W,2) float32, x and y in pixels: from the first frame to the last, and back.
    """
    fine: Any = cv2.VariationalRefinement.create()
    fine.setFixedPointIterations(2)
    fine.setAlpha(10)  # of smoothness: half of OpenCV's own
    before, after = _halfway(first, backward), _halfway(last, forward)
    there, back = _search(before, after)
    rest = (there - back) * np.float32(0.5)
    rest = fine.calc(before, after, rest)
    return forward + rest, backward - rest


def searched(first: Frame, last: Frame, forward: Flow, backward: Flow) -> tuple[Flow, Flow]:
    """Return both flows (H,W,2) between two frames, found in these alone by the same search.

    Such a search loses what goes far, and shows it where it isn't: where other flows differ from those that it finds,
    and bring both frames much nearer to each other at the midpoint, these others are returned.

    Args:
        first, last: as `refined` takes them.
        forward, backward: other flows, (H,W,2).
    """
    found = _search(_grey(first), _grey(last))
    others = forward, backward
    smaller = _YIELDING_SMALLER
    small = [resized(frame, first.shape[0] // smaller, first.shape[1] // smaller) for frame in (first, last)]
    middles = slice(smaller // 2, None, smaller)
    pairs = [[flow[middles, middles] / np.float32(smaller) for flow in flows] for flows in (found, others)]
    apart = [np.linalg.norm(one - other, axis=2) for one, other in zip(*pairs, strict=True)]
    differs = cv2.blur(np.minimum(*apart), (5, 5)) * np.float32(smaller / _FAR_APART)
    left, wanted = (cv2.blur(np.abs(moved(small[0], back, 0.5) - moved(small[1], there, 0.5)).mean(axis=2), _AROUND)
                    for there, back in pairs)
    yields = np.log((left + _EQUAL) / (wanted + _EQUAL)) * differs.clip(0, 1) > _YIELDING
    if not yields.any():
        return found
    whole = cv2.resize(yields.astype(np.uint8), first.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    for flow, other in zip(found, others, strict=True):
        cv2.copyTo(other, whole, flow)
    return found


def moved(image: Image, flow: Flow, share: float, top: int = 0, left: int = 0, sharp: bool = False) -> Image:
    """Return what an image (H,W) or (H,W,c) has at each pixel's place plus a share of its flow (h,w,2).

    The flow may be that of a window, whose upper left corner lies at top and left. Bilinear, or if sharp bicubic, which
    keeps fine detail and may leave the image's range a little; beyond the border, what is on it. OpenCV knows places
    to 1/32 pixel.
    """
    height, width = flow.shape[:2]
    x = flow[..., 0] * np.float32(share) + np.arange(left, left + width, dtype=np.float32)
    y = flow[..., 1] * np.float32(share) + np.arange(top, top + height, dtype=np.float32)[:, np.newaxis]
    kernel = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
    return cast(Image, cv2.remap(image, x, y, kernel, borderMode=cv2.BORDER_REPLICATE))


def enlarged(flow: Flow, height: int, width: int) -> Flow:
    """Return a flow (h,w,2) at another size, in pixels of that; bilinear."""
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return cast(Flow, cv2.resize(flow * scale, (width, height), interpolation=cv2.INTER_LINEAR))


def shrunk(frame: Frame) -> Frame:
    """Return a frame (H,W,3) as small as it is matched (see matching.py), as means."""
    return resized(frame, *matched_size(*frame.shape[:2]))


def resized(field: Flow, height: int, width: int) -> Flow:
    """Return a field (h,w,c) at a smaller size, as means."""
    return cast(Flow, cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA))


def halved(flow: Flow) -> Flow:
    """Return a flow (H,W,2) at half the size, (H/2,W/2,2), in pixels of that."""
    return resized(flow, flow.shape[0] // 2, flow.shape[1] // 2) * np.float32(0.5)


def _search(first: NDArray[np.uint8], last: NDArray[np.uint8]) -> tuple[Flow, Flow]:
    """Return both flows between two grey frames, by dense inverse search down to half their size."""
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(1)
    search.setVariationalRefinementIterations(1)  # 5 take longer and gain nothing there
    return search.calc(first, last, None), search.calc(last, first, None)


def _grey(frame: Frame) -> NDArray[np.uint8]:
    return (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _halfway(frame: Frame, flow: Flow) -> NDArray[np.uint8]:
    """Return the grey midpoint (H,W) that reads a frame half-way along a flow."""
    return moved(_grey(frame), flow, 0.5)
