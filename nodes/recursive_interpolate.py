"""Recursive Interpolate."""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..ov_film.batch import uninterpolated
from ..ov_film.errors import FilmError
from ..ov_film.frames import Frame
from ..ov_film.memory import check_memory
from ..ov_film.model import METHODS, TIME_STEPS, FilmModel, Method, depth, factor_of
from ..ov_film.retiming import CUTS, Cuts, Retiming, parse_ranges
from ..ov_film.words import counted
from .images import Frames, check_alike, frames_of, joined, planes
from .progress import FrameProgress


class RecursiveInterpolate:
    """Make the frames between all neighbours of a batch."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Makes a batch smooth: between each two images it makes the midpoint, then the midpoints of the "
                   "halves, and so on. The images themselves come out unchanged, in place.")
    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("images", "multiplier")
    OUTPUT_TOOLTIPS = ("The images with the new ones between them.",
                       "How many times more frames a second keep the speed: 2, 4, 8, … for 1, 2, 3, … times, or the "
                       "multiplier.")
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
                               "motion of each gap once, which takes less time from 2 times on."}),
                "cuts": (list(CUTS), {
                    "default": "ignore",
                    "tooltip": "Where the scene changes, repeat the nearer image or blend both, so that no ghosts "
                               "appear. ignore interpolates there too."}),
                "skip": ("STRING", {
                    "default": "",
                    "tooltip": "Images after which nothing is interpolated, counted from 0, such as 0-9, 25, 100-."}),
                "only": ("STRING", {
                    "default": "",
                    "tooltip": "Images after which alone something is interpolated, such as 0-9, 25, 100-. Empty: "
                               "all."}),
                "loop": ("BOOLEAN", {
                    "default": False,
                    "tooltip": "After the last image, move back towards the first: the clip loops without a jump."}),
                "multiplier": ("INT", {
                    "default": 0, "min": 0, "max": TIME_STEPS,
                    "tooltip": "How many times the frames, where that is not 2, 4 or 8: 3 puts two new frames into "
                               "each gap, 5 four. Best with the method direct. 0 leaves it to "
                               "times_to_interpolate."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, skip: str | None = "", only: str | None = "") -> bool | str:
        try:
            for name, ranges in (("skip", skip), ("only", only)):
                parse_ranges(ranges or "", name)  # None is the value of another node, which hasn't run
        except FilmError as error:
            return str(error)
        return True

    def interpolate(self, model: FilmModel, images: torch.Tensor, times_to_interpolate: int,
                    last: torch.Tensor | None = None, method: Method = "recursive", cuts: Cuts = "ignore",
                    skip: str = "", only: str = "", loop: bool = False,
                    multiplier: int = 0) -> tuple[torch.Tensor, int]:
        frames = frames_of(images, "The batch of images")
        if last is not None:
            appended = frames_of(last, "The last image")
            check_alike(frames, appended, "The batch of images", "the last image")
            frames = np.concatenate([frames, appended])
        factor = factor_of(times_to_interpolate, multiplier)
        looped = loop and len(frames) > 1
        gaps, shape = len(frames) - 1 + looped, frames.shape[1:]
        count = gaps * factor + (not looped)
        if count == len(frames):
            return torch.from_numpy(frames), factor
        retiming = Retiming(cuts=cuts, skip=parse_ranges(skip, "skip"), only=parse_ranges(only, "only"))
        bridged = uninterpolated((planes(frame)[0] for frame in frames), len(frames), retiming)
        halvings = depth(factor) if method == "recursive" else 1
        check_memory(model.memory_needed(*shape[:2], halvings) + count * frames[0].nbytes,
                     f"Making {count} frames of {shape[1]}x{shape[0]}")
        result = torch.empty((count, *shape))
        show = FrameProgress(count - len(frames))
        done = 0
        order = [*range(len(frames)), *([0] if looped else [])]
        sequences = [model.interpolate_sequence(_plane(frames, order, index), times_to_interpolate, method, bridged,
                                                blend=cuts == "blend", multiplier=multiplier)
                     for index in range(len(planes(frames[0])))]
        try:
            for index, parts in enumerate(islice(zip(*sequences, strict=True), count)):
                if index % factor == 0:
                    result[index] = torch.from_numpy(frames[index // factor])
                    continue
                frame = joined(parts, shape[2])
                result[index] = torch.from_numpy(frame)
                done += 1
                show(done, frame)
        finally:
            model.release_memory()
        logging.info("FILM OpenVINO: %s, %s.", model.report(), counted(done, "new frame"))
        return result, factor


def _plane(frames: Frames, order: list[int], index: int) -> Iterator[Frame]:
    """Yield one of the RGB planes of each frame as it is needed, so that no second clip lies in memory."""
    return (planes(frames[number])[index] for number in order)
