"""Save WebM."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..ov_film.errors import FilmError
from ..ov_film.frame_rate import frame_rate
from ..ov_film.frames import Frame
from ..ov_film.video import write_webm
from . import host
from .images import Frames, frames_of


class SaveWebM:
    """Write a batch as a WebM into the output folder."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Saves images as a WebM clip in the output folder, with the workflow in it, and plays it on the "
                   "node. Colours are converted and tagged as BT.709. Alpha is left out.")
    RETURN_TYPES = ()
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The frames of the clip, in order."}),
                "filename_prefix": ("STRING", {
                    "default": "film/interpolated",
                    "tooltip": "Name of the file in the output folder, a number follows. May hold a subfolder and "
                               "%year%, %month%, %day%, %width%, %height%."}),
                "fps": ("FLOAT", {
                    "default": 30.0, "min": 0.01, "max": 1000.0, "step": 0.01,
                    "tooltip": "Frames a second. 23.976, 29.97 and 59.94 are taken as the exact NTSC rates."}),
                "crf": ("INT", {
                    "default": 20, "min": 0, "max": 63,
                    "tooltip": "Quality: lower is better and larger. 15 to 25 look clean, 35 is small."}),
                "codec": (["vp9", "av1"], {
                    "default": "vp9",
                    "tooltip": "vp9 plays everywhere. av1 is smaller, has 10 bits and needs a newer player."})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    @classmethod
    def VALIDATE_INPUTS(cls, filename_prefix: str) -> bool | str:
        try:
            host.check_prefix(filename_prefix)
        except FilmError as error:
            return str(error)
        return True

    def save(self, images: torch.Tensor, filename_prefix: str, fps: float, crf: int, codec: str,
             prompt: Any = None, extra_pnginfo: dict[str, Any] | None = None) -> dict[str, Any]:
        frames = frames_of(images, "The batch of images")
        file = host.output_file(filename_prefix, frames.shape[2], frames.shape[1], ".webm")
        metadata = {"prompt": prompt, **(extra_pnginfo or {})} if host.metadata_wanted() else {}
        texts = {name: json.dumps(value) for name, value in metadata.items() if value is not None}
        write_webm(file.path, _shown(frames), frame_rate(fps), crf=crf, codec=codec, metadata=texts)
        saved = {"filename": file.name, "subfolder": file.subfolder, "type": "output"}
        return {"ui": {"images": [saved], "animated": (True,)}}


def _shown(frames: Frames) -> Iterator[Frame]:
    """Yield each frame as RGB while the page shows how far the file is."""
    show = host.progress(len(frames))
    for number, frame in enumerate(frames, start=1):
        yield np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame[..., :3]
        show(number, None)
