"""Save WebM."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..ov_film.encoding import QUALITIES, crf_of
from ..ov_film.errors import FilmError
from ..ov_film.files import written_whole
from ..ov_film.frame_rate import frame_rate
from ..ov_film.frames import Frame, to_8_bits
from ..ov_film.video import write_webm
from . import host
from .audio import audio_of
from .file_name import with_tokens_replaced
from .images import Frames, frames_of
from .progress import FrameProgress

_BY_CRF, _LOSSLESS = "by crf", "lossless"
_QUALITIES = (_BY_CRF, _LOSSLESS, *QUALITIES)


class SaveWebM:
    """Write a batch as a WebM into the output folder."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Saves images as a WebM clip in the output folder, with sound and with the workflow in it, and "
                   "plays it on the node. Colours are converted and tagged as BT.709.")
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
                               "%year%, %month%, %day%, %hour%, %minute%, %second%, %width%, %height%, "
                               "%date:yyyy-MM-dd% and a node's value, such as %FilmOpenVINOLoader.model%."}),
                "fps": ("FLOAT", {
                    "default": 30.0, "min": 0.01, "max": 1000.0, "step": 0.01,
                    "tooltip": "Frames a second. 23.976, 29.97 and 59.94 are taken as the exact NTSC rates."}),
                "crf": ("INT", {
                    "default": 20, "min": 0, "max": 63,
                    "tooltip": "Counts where quality is by crf: lower is better and larger. 15 to 25 look clean, 35 is "
                               "small."}),
                "codec": (["vp9", "av1"], {
                    "default": "vp9",
                    "tooltip": "vp9 plays everywhere. av1 is smaller, has 10 bits and needs a newer player."})},
            "optional": {
                "audio": ("AUDIO", {
                    "tooltip": "Sound from the first frame on, as Opus. It is cut off where the clip ends; where it "
                               "ends earlier, silence follows."}),
                "quality": (list(_QUALITIES), {
                    "default": _BY_CRF,
                    "tooltip": "Instead of crf: lossless keeps the 8 bits of every colour (vp9, without alpha, many "
                               f"times larger), then crf {_crfs('vp9')} with vp9, {_crfs('av1')} with av1."}),
                "exact_fps": ("STRING", {
                    "default": "",
                    "tooltip": "Frames a second as a fraction, such as 24000/1001. Empty: fps counts."}),
                "alpha": ("BOOLEAN", {
                    "default": True,
                    "tooltip": "Keep the alpha of RGBA images (vp9). Off: it is left out."}),
                "pingpong": ("BOOLEAN", {
                    "default": False,
                    "tooltip": "After the last frame go back to the first: the clip loops without a jump."}),
                "loop_count": ("INT", {
                    "default": 0, "min": 0, "max": 100,
                    "tooltip": "How often the file plays the frames again after the first time. The audio isn't "
                               "repeated."}),
                "save_output": ("BOOLEAN", {
                    "default": True,
                    "tooltip": "Off: the clip goes to the temp folder, to be looked at until ComfyUI ends."}),
                "save_first_frame": ("BOOLEAN", {
                    "default": False,
                    "tooltip": "Save the first frame as a PNG of the same name, with the workflow in it."})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    @classmethod
    def VALIDATE_INPUTS(cls, filename_prefix: str | None, exact_fps: str | None = "") -> bool | str:
        # None is the value of another node, which hasn't run.
        try:
            if filename_prefix is not None:
                host.check_prefix(filename_prefix)
            if exact_fps:
                frame_rate(exact_fps, "exact_fps")  # ComfyUI shows the error for both inputs
        except FilmError as error:
            return str(error)
        return True

    def save(self, images: torch.Tensor, filename_prefix: str, fps: float, crf: int, codec: Any, audio: Any = None,
             quality: Any = _BY_CRF, exact_fps: str = "", alpha: bool = True, pingpong: bool = False,
             loop_count: int = 0, save_output: bool = True, save_first_frame: bool = False,
             prompt: Any = None, extra_pnginfo: dict[str, Any] | None = None) -> dict[str, Any]:
        if quality not in _QUALITIES:
            raise FilmError(f"Quality is {quality!r}: choose one of {', '.join(_QUALITIES)}.")
        frames = frames_of(images, "The batch of images")
        if not (alpha and frames.shape[3] == 4):
            frames = frames[..., :3]
        order = _order(len(frames), pingpong, loop_count)
        pnginfo = extra_pnginfo or {}
        prefix = with_tokens_replaced(filename_prefix, prompt, pnginfo.get("workflow"))
        file = host.output_file(prefix, frames.shape[2], frames.shape[1], ".webm", "output" if save_output else "temp")
        metadata = {"prompt": prompt, **pnginfo} if host.metadata_wanted() else {}
        texts = {name: json.dumps(value) for name, value in metadata.items() if value is not None}
        write_webm(
            file.path, _shown(frames, order), frame_rate(exact_fps or fps), codec=codec,
            crf=crf if quality in (_BY_CRF, _LOSSLESS) else crf_of(quality, codec), lossless=quality == _LOSSLESS,
            alpha=frames.shape[3] == 4, audio=None if audio is None else audio_of(audio), metadata=texts)
        if save_first_frame:
            _write_png(file.path.with_suffix(".png"), _coloured(frames[0]), texts)
        saved = {"filename": file.name, "subfolder": file.subfolder, "type": file.kind}
        return {"ui": {"images": [saved], "animated": (True,)}}


def _crfs(codec: Any) -> str:
    return ", ".join(str(crf_of(quality, codec)) for quality in QUALITIES)


def _order(count: int, pingpong: bool, loop_count: int) -> list[int]:
    """Return the numbers of the frames in the order in which they are played."""
    once = [*range(count), *(range(count - 2, 0, -1) if pingpong else ())]
    return once * (loop_count + 1)


def _shown(frames: Frames, order: list[int]) -> Iterator[Frame]:
    """Yield the frames in an order while the page shows how far the file is."""
    show = FrameProgress(len(order))
    for done, number in enumerate(order, start=1):
        yield _coloured(frames[number])
        show(done, None)


def _coloured(frame: Frame) -> Frame:
    """Return a frame (H,W,1, 3 or 4) as RGB or RGBA."""
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame


def _write_png(path: Path, frame: Frame, texts: Mapping[str, str]) -> None:
    """Write a frame as PNG with texts that ComfyUI's page finds."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    with written_whole(path) as temporary:
        Image.fromarray(to_8_bits(frame)).save(temporary, pnginfo=info)
