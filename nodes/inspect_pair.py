"""Inspect Pair."""

import logging
from typing import Any

import numpy as np
import torch

from ..ov_film.figures import comparison, inspection
from ..ov_film.memory import check_memory
from ..ov_film.model import FilmModel
from ..ov_film.words import counted
from . import host
from .images import checked_pairs, planes


class InspectPair:
    """Draw what the network saw between two frames."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Draws what the network sees in two images, to find out why a new frame is bad: the motion both "
                   "ways, both images moved half way, and where they contradict each other.")
    RETURN_TYPES = ("IMAGE", "IMAGE")
    RETURN_NAMES = ("sheet", "comparison")
    OUTPUT_TOOLTIPS = ("A sheet for each pair: the frames, what was moved, the motion as colours, a legend.",
                       "For each pair the first frame, the new one and the last, and how they differ.")
    FUNCTION = "inspect"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {
            "model": ("FILM_OPENVINO_MODEL", {"tooltip": "The network to look into, from Load FILM OpenVINO."}),
            "first": ("IMAGE", {"tooltip": "The frame before the gap. A single image is used for every pair of a "
                                           "batch. Alpha is left out."}),
            "last": ("IMAGE", {"tooltip": "The frame after the gap, of the same size. A single image is used for every "
                                          "pair of a batch."})}}

    def inspect(self, model: FilmModel, first: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        firsts, lasts = checked_pairs(first, last)
        sheets, comparisons = [], []
        show = host.progress(len(firsts))
        try:
            for pair in zip(firsts, lasts, strict=True):
                before, after = (planes(frame)[0] for frame in pair)
                details = model.inspect(before, after)
                sheets.append(_image(inspection(before, after, details)))
                comparisons.append(_image(comparison(before, details.midpoint, after)))
                if len(sheets) == 1:
                    pair_bytes = sheets[0].nbytes + comparisons[0].nbytes
                    check_memory(2 * len(firsts) * pair_bytes,  # twice, to join them
                                 f"Drawing {counted(len(firsts), 'pair')}")
                show(len(sheets), details.midpoint)
        finally:
            model.release_memory()
        logging.info("FILM OpenVINO: %s, %s.", model.report(), counted(len(sheets), "pair"))
        return torch.stack(sheets), torch.stack(comparisons)


def _image(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32) / 255)
