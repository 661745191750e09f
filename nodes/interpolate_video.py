"""Interpolate Video."""

import logging
from typing import Any

from ..ov_film.encoding import QUALITIES, Quality
from ..ov_film.errors import FilmError
from ..ov_film.frame_rate import frame_rate, parse_multiplier
from ..ov_film.frames import Frame
from ..ov_film.interpolate_video import (
    AUTO_CODECS,
    AUTO_METHODS,
    AutoCodec,
    AutoMethod,
    OnFrame,
    fingerprint,
    interpolate_video,
)
from ..ov_film.model import FilmModel
from ..ov_film.parts import ABANDONED_DAYS, remove_abandoned
from ..ov_film.remux import AUDIO_CHOICES, AudioChoice
from ..ov_film.retiming import CUTS, MOST_MULTIPLIER, Cuts, Retiming, parse_ranges
from ..ov_film.words import counted
from . import host
from .progress import FrameProgress


class InterpolateVideo:
    """Make a video smoother, or slow motion of it, from file to file."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Makes a video smoother, or slow motion of it, frame by frame from file to file: memory doesn't "
                   "grow with its length. Sound, subtitles, colours and times are kept. A run that was stopped goes "
                   "on where it stopped when it is queued again.")
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "report")
    OUTPUT_TOOLTIPS = ("The new video, for Save Video and others.",
                       "What was done: frames, scene cuts, and what was lost or changed.")
    FUNCTION = "interpolate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("FILM_OPENVINO_MODEL", {"tooltip": "The network to use, from Load FILM OpenVINO."}),
                "video": ("VIDEO", {"tooltip": "The video, from Load Video for instance."}),
                "multiplier": ("FLOAT", {
                    "default": 2.0, "min": 1.0, "max": float(MOST_MULTIPLIER), "step": 0.5,
                    "tooltip": "So many times the frames: 2 doubles the frame rate. Counts where fps is empty."}),
                "fps": ("STRING", {
                    "default": "",
                    "tooltip": "Instead of the multiplier: the frames a second to come to, such as 60, 59.94 or "
                               "60000/1001."}),
                "slow_motion": ("BOOLEAN", {
                    "default": False,
                    "tooltip": "On: the frame rate stays and the video lasts longer. Off: it lasts as long and is "
                               "smoother."})},
            "optional": {
                "method": (list(AUTO_METHODS), {
                    "default": "auto",
                    "tooltip": "recursive makes midpoints of midpoints, as the network was trained. direct reaches any "
                               "time and is faster. auto takes recursive for 2, 4 and 8 times, else direct."}),
                "cuts": (list(CUTS), {
                    "default": "repeat",
                    "tooltip": "Where the scene changes, repeat the nearer frame or blend both, so that no ghosts "
                               "appear. ignore interpolates there too."}),
                "drop_duplicates": ("BOOLEAN", {
                    "default": False,
                    "tooltip": "Replace frames that repeat the one before, up to three in a row: animation on twos "
                               "becomes smooth."}),
                "skip": ("STRING", {
                    "default": "",
                    "tooltip": "Frames after which nothing is interpolated, counted from 0, such as 0-9, 25, 100-."}),
                "only": ("STRING", {
                    "default": "",
                    "tooltip": "Frames after which alone something is interpolated, such as 0-9, 25, 100-. Empty: "
                               "all."}),
                "loop": ("BOOLEAN", {
                    "default": False,
                    "tooltip": "After the last frame, move back into the first: the video loops without a jump."}),
                "audio": (list(AUDIO_CHOICES), {
                    "default": "keep",
                    "tooltip": "keep copies the sound; slow motion slows it down at its pitch. drop leaves it out."}),
                "codec": (list(AUTO_CODECS), {
                    "default": "auto",
                    "tooltip": "auto: h264, which plays everywhere, and h265 for more than 8 bits. The file is an "
                               "MP4."}),
                "quality": (list(QUALITIES), {
                    "default": "high",
                    "tooltip": "How much of the picture the file keeps; better is larger."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, fps: str | None = "", skip: str | None = "", only: str | None = "") -> bool | str:
        # None is the value of another node, which hasn't run. ComfyUI shows an error for each of these inputs, so it
        # has to name the one.
        try:
            if fps and fps.strip():
                frame_rate(fps.strip(), "fps")
            for name, ranges in (("skip", skip), ("only", only)):
                parse_ranges(ranges or "", name)
        except FilmError as error:
            return str(error)
        return True

    def interpolate(self, model: FilmModel, video: Any, multiplier: float, fps: str, slow_motion: bool,
                    method: AutoMethod = "auto", cuts: Cuts = "repeat", drop_duplicates: bool = False, skip: str = "",
                    only: str = "", loop: bool = False, audio: AudioChoice = "keep", codec: AutoCodec = "auto",
                    quality: Quality = "high") -> tuple[Any, str]:
        rate = frame_rate(fps.strip()) if fps.strip() else None
        retiming = Retiming(None if rate else parse_multiplier(multiplier), rate, slow_motion, cuts, drop_duplicates,
                            parse_ranges(skip, "skip"), parse_ranges(only, "only"), loop)
        source = host.video_source(video)
        output = host.output_file("film/video", 0, 0, ".mp4", "temp")
        parts = host.parts_folder(fingerprint(source))
        if removed := remove_abandoned(parts.parent, keep=parts):
            logging.info("FILM OpenVINO: removed the parts of %s that no run went on with for %d days.",
                         counted(removed, "video"), ABANDONED_DAYS)
        report = interpolate_video(
            source, output.path, model, retiming, method=method, codec=codec, quality=quality, audio=audio,
            parts_folder=parts, on_frame=_shown())
        logging.info("FILM OpenVINO: %s: %s", model.report(), report)
        return host.video_from(output.path), str(report)


def _shown() -> OnFrame:
    """Return a function that shows progress, from the first frame on that this run makes."""
    progress: FrameProgress | None = None

    def shown(done: int, total: int, frame: Frame) -> None:
        nonlocal progress
        progress = progress or FrameProgress(total)
        progress(done, frame)

    return shown
