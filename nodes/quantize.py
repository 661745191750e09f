"""Make INT8 Model."""

import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..ov_film.calibration import checksum, pairs_of
from ..ov_film.errors import FilmError
from ..ov_film.library import INT8_SUFFIX, MANIFEST, checked_manifest, find_models, int8_folder, int8_model
from ..ov_film.model import FilmModel
from ..ov_film.quantize import check_nncf, described, quantize
from . import host
from .images import Frames, frames_of

_PROGRESS_STEPS = 100


class Quantize:
    """Make the int8 version of a model, calibrated on frames like those to interpolate."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Makes a model's int8 version, calibrated on your own frames: the fastest on processors with VNNI, "
                   "at a small loss that is measured and shown. It is made once and kept, and Load FILM OpenVINO "
                   "loads it with precision int8 from then on. It needs one more package, nncf.")
    RETURN_TYPES = ("FILM_OPENVINO_MODEL", "STRING")
    RETURN_NAMES = ("model", "report")
    OUTPUT_TOOLTIPS = ("The int8 version, on the device of the model that came in. Connect it to Recursive Interpolate "
                       "or another node that takes a model.",
                       "How near it is to the exact model, what it was made of and where it lies. Connect it to "
                       "Preview Any to read it.")
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("FILM_OPENVINO_MODEL", {
                    "tooltip": "The model to make the int8 version of, from Load FILM OpenVINO, of any precision but "
                               "int8."}),
                "frames": ("IMAGE", {
                    "tooltip": "Three or more frames in order, like those to interpolate; the very ones are best. A "
                               "third of them is held back, to measure how good it became. Alpha is left out."})},
            "optional": {
                "replace": ("BOOLEAN", {
                    "default": True,
                    "tooltip": "Where the model has an int8 version made of other frames: on, it is replaced by one "
                               "made of these; off, it is used as it is, which saves the time."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, replace: bool | None = True) -> bool | str:
        folders = host.models_folders()
        if any(found.name.endswith(INT8_SUFFIX) and found.parent in folders for found in find_models(folders).values()):
            return True  # it may be the one that is wanted
        try:
            check_nncf()
        except FilmError as error:
            return str(error)
        return True

    def make(self, model: FilmModel, frames: torch.Tensor, replace: bool = True) -> tuple[FilmModel, str]:
        pairs = pairs_of(_rgb(frames_of(frames, "The batch of frames")))
        figures = _figures(model.folder)
        same = figures.get("frames") == checksum(pairs)
        if same or (figures and not replace):
            what = "made earlier of these frames" if same else "made of other frames; turn on replace to make it anew"
        else:
            output = int8_folder(model.folder)
            replaced = figures and output.is_dir()  # film_lite's own lies elsewhere, and stays
            what = "made of these frames, in place of one of other frames" if replaced else "made of these frames"
            show = host.progress(_PROGRESS_STEPS)
            figures = quantize(model.folder, pairs, output,
                               lambda share: show(round(share * _PROGRESS_STEPS), None)).int8
        folder = int8_model(model.folder, host.models_folders())
        made = _loaded(model, str((folder / MANIFEST).stat().st_mtime_ns))
        host.show_text(described(figures))
        logging.info("FILM OpenVINO: %s, %s; %s.", folder.name, what, described(figures))
        return made, f"{made.report()}\n{described(figures)}\n{folder}, {what}"


@functools.lru_cache(maxsize=1)
def _loaded(model: FilmModel, stamp: str) -> FilmModel:
    """Return the int8 version, loaded once however often a workflow runs; a new stamp means that it was made anew."""
    return model.int8_version(host.models_folders())


def _figures(folder: Path) -> dict[str, Any]:
    """Return the figures of the int8 version that a model has; none where it can't be used."""
    try:
        return dict(checked_manifest(int8_model(folder, host.models_folders())).int8)
    except FilmError:
        return {}


def _rgb(frames: Frames) -> Frames:
    """Return frames (B,H,W,C) as the network sees them, (B,H,W,3)."""
    return frames[..., :3] if frames.shape[3] > 1 else np.broadcast_to(frames, (*frames.shape[:3], 3))
