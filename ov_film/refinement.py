"""Flows of whole frames, found in the frames themselves from a coarse flow on."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .frames import Frame

Flow = NDArray[np.float32]


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
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(1)
    search.setVariationalRefinementIterations(2)  # 5 take longer and gain nothing there
    fine: Any = cv2.VariationalRefinement.create()
    fine.setFixedPointIterations(2)
    fine.setAlpha(10)  # of smoothness: half of OpenCV's own
    before, after = _halfway(first, backward), _halfway(last, forward)
    rest = (search.calc(before, after, None) - search.calc(after, before, None)) * np.float32(0.5)
    rest = fine.calc(before, after, rest)
    return forward + rest, backward - rest


def halved(flow: Flow) -> Flow:
    """Return a flow (H,W,2) at half the size, (H/2,W/2,2), in pixels of that."""
    height, width = flow.shape[:2]
    small: Flow = cv2.resize(flow, (width // 2, height // 2), interpolation=cv2.INTER_AREA) * np.float32(0.5)
    return small


def _halfway(frame: Frame, flow: Flow) -> NDArray[np.uint8]:
    """Return the grey midpoint (H,W) that reads a frame half-way along a flow; OpenCV knows places to 1/32 pixel."""
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    height, width = grey.shape
    x = flow[..., 0] * np.float32(0.5) + np.arange(width, dtype=np.float32)
    y = flow[..., 1] * np.float32(0.5) + np.arange(height, dtype=np.float32)[:, np.newaxis]
    moved = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved.astype(np.uint8, copy=False)
