"""Interpolate Pair."""

import logging
from typing import Any

import torch

from ..ov_film.memory import check_memory
from ..ov_film.model import METHODS, FilmModel, Method
from ..ov_film.words import counted
from .images import checked_pairs, joined, planes
from .progress import FrameProgress


class InterpolatePair:
    """Make the frame between two frames."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Makes the frame between two images, for batches frame by frame. The network knows the midpoint; "
                   "other times are approached by halving, to within 1/128 of the gap, or reached at once (method).")
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    OUTPUT_TOOLTIPS = ("The new frames, one for each pair.",)
    FUNCTION = "interpolate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {
            "model": ("FILM_OPENVINO_MODEL", {"tooltip": "The network to use, from Load FILM OpenVINO."}),
            "first": ("IMAGE", {"tooltip": "The frame at time 0. A single image is used for every pair of a batch."}),
            "last": ("IMAGE", {"tooltip": "The frame at time 1, of the same size. A single image is used for every "
                                          "pair of a batch."}),
            "time": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01,
                               "tooltip": "When the new frame is: 0 is the first, 1 the last. 0.5 is fastest and best; "
                                          "others take up to six runs of the network, one with the "
                                        "method direct."})},
            "optional": {
                "method": (list(METHODS), {
                    "default": "recursive",
                    "tooltip": "How times other than 0.5 are reached: recursive by halving, as the network was "
                               "trained; direct by scaling the motion to the very time, in one run of the network."})}}

    def interpolate(self, model: FilmModel, first: torch.Tensor, last: torch.Tensor,
                    time: float, method: Method = "recursive") -> tuple[torch.Tensor]:
        firsts, lasts = checked_pairs(first, last)
        count, shape = len(firsts), firsts.shape[1:]
        check_memory(model.memory_needed(*shape[:2], times=2) + count * firsts[0].nbytes,
                     f"Interpolating {counted(count, 'pair')} of {shape[1]}x{shape[0]}")
        result = torch.empty((count, *shape))
        show = FrameProgress(count)
        try:
            for index in range(count):
                pair = planes(firsts[index]), planes(lasts[index])
                frame = joined([model.interpolate(a, b, time, method) for a, b in zip(*pair, strict=True)], shape[2])
                result[index] = torch.from_numpy(frame)
                show(index + 1, frame)
        finally:
            model.release_memory()
        logging.info("FILM OpenVINO: %s, %s.", model.report(), counted(count, "new frame"))
        return (result,)
