"""Load FILM OpenVINO."""

import functools
import logging
from pathlib import Path
from typing import Any

from ..ov_film.devices import PRECISIONS, find_devices
from ..ov_film.errors import FilmError
from ..ov_film.library import FULL_MODEL, MANIFEST, default_model, find_models, installed_model
from ..ov_film.model import FilmModel
from . import host

_PACK = Path(__file__).absolute().parent.parent
_HOW_TO_GET_FILM = (f"For the full film model, run python install.py in {_PACK} with ComfyUI's Python, "
                    "and reload the page.")


class Loader:
    """Load a converted FILM onto a device."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Loads a FILM network for the interpolation nodes and keeps it loaded between runs. film is "
                   "Google's full network; film_lite comes with the pack: smaller, many times faster, less exact.")
    RETURN_TYPES = ("FILM_OPENVINO_MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("Connect it to Interpolate Pair or Recursive Interpolate.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        models = find_models(host.models_folders())
        missing = "" if FULL_MODEL in models else " " + _HOW_TO_GET_FILM
        return {"required": {
            "model": (list(models), {
                "default": default_model(models),
                "tooltip": f"film is Google's full network; film_lite is many times faster and less exact.{missing}"}),
            "device": (["AUTO", *(device.name for device in _devices())], {
                "default": "AUTO",
                "tooltip": "Where the network runs. AUTO lets OpenVINO choose; the log says what it chose."}),
            "precision": (list(PRECISIONS), {
                "default": "auto",
                "tooltip": "auto is the fastest that the device does natively. f32 is exact and slower; bf16 and f16 "
                           "come close to it."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        try:
            installed_model(model, host.models_folders())
        except FilmError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, model: str, device: str, precision: str) -> str:
        return _stamp(installed_model(model, host.models_folders()))

    def load(self, model: str, device: str, precision: str) -> tuple[FilmModel]:
        folder = installed_model(model, host.models_folders())
        loaded = _loaded(folder, device, precision, _stamp(folder))
        logging.info("FILM OpenVINO: %s.", loaded.report())
        return (loaded,)


@functools.cache
def _devices() -> list[Any]:
    """OpenVINO's devices, asked once: the page asks for INPUT_TYPES at every load."""
    return find_devices()


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, device: str, precision: str, stamp: str) -> FilmModel:
    """Return the model, loaded once however often a workflow runs; a new stamp means that it was converted anew."""
    if FULL_MODEL not in find_models(host.models_folders()):
        logging.info("FILM OpenVINO: %s", _HOW_TO_GET_FILM)
    return FilmModel.load(folder, device, precision)


def _stamp(folder: Path) -> str:
    return str((folder / MANIFEST).stat().st_mtime_ns)
