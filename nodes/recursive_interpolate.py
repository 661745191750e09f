"""Recursive Interpolate."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..ov_film.frames import Frame
from ..ov_film.memory import check_memory
from ..ov_film.model import METHODS, FilmModel, Method
from . import host
from .images import Frames, check_alike, counted, frames_of, joined, planes


class RecursiveInterpolate:
    """Make the frames between all neighbours of a batch."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Makes a batch smooth: between each two images it makes the midpoint, then the midpoints of the "
                   "halves, and so on. The images themselves come out unchanged, in place.")
    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("images", "multiplier")
    OUTPUT_TOOLTIPS = ("The images with the new ones between them.",
                       "How many times more frames a second keep the speed: 2, 4, 8, … for 1, 2, 3, … times.")
    FUNCTION = "interpolate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("FILM_OPENVINO_MODEL", {"tooltip": "The network to use, from Load FILM OpenVINO."}),
                "images": ("IMAGE", {"tooltip": "The images in order. One alone comes back as it is."}),
                "times_to_interpolate": ("INT", {
                    "default": 1, "min": 0, "max": 8,
                    "tooltip": "How often to halve each gap: 1 puts one new frame into it, 2 three, 3 seven. Each step "
                               "doubles the time and the memory."})},
            "optional": {
                "last": ("IMAGE", {"tooltip": "Goes behind the images: so two single images make a pair without a "
                                              "batch node."}),
                "method": (list(METHODS), {
                    "default": "recursive",
                    "tooltip": "recursive makes midpoints of midpoints, as the network was trained. direct finds the "
                               "motion of each gap once, which takes less time from 2 times on."})}}

    def interpolate(self, model: FilmModel, images: torch.Tensor, times_to_interpolate: int,
                    last: torch.Tensor | None = None, method: Method = "recursive") -> tuple[torch.Tensor, int]:
        frames = frames_of(images, "The batch of images")
        if last is not None:
            appended = frames_of(last, "The last image")
            check_alike(frames, appended, "The batch of images", "the last image")
            frames = np.concatenate([frames, appended])
        multiplier = 1 << times_to_interpolate
        count, shape = (len(frames) - 1) * multiplier + 1, frames.shape[1:]
        if count == len(frames):
            return torch.from_numpy(frames), multiplier
        depth = times_to_interpolate if method == "recursive" else 1
        check_memory(model.memory_needed(*shape[:2], depth) + count * frames[0].nbytes,
                     f"Making {count} frames of {shape[1]}x{shape[0]}")
        result = torch.empty((count, *shape))
        show = host.progress(count - len(frames))
        done = 0
        sequences = [model.interpolate_sequence(_plane(frames, index), times_to_interpolate, method)
                     for index in range(len(planes(frames[0])))]
        try:
            for index, parts in enumerate(zip(*sequences, strict=True)):
                if index % multiplier == 0:
                    result[index] = torch.from_numpy(frames[index // multiplier])
                    continue
                frame = joined(parts, shape[2])
                result[index] = torch.from_numpy(frame)
                done += 1
                show(done, frame)
        finally:
            model.release_memory()
        logging.info("FILM OpenVINO: %s, %s.", model.report(), counted(done, "new frame"))
        return result, multiplier


def _plane(frames: Frames, index: int) -> Iterator[Frame]:
    """Yield one of the RGB planes of each frame as it is needed, so that no second clip lies in memory."""
    return (planes(frame)[index] for frame in frames)
