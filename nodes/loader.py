"""Load FILM OpenVINO."""

import functools
import logging
from pathlib import Path
from typing import Any

from ..ov_film.devices import INT8, PRECISIONS, find_devices
from ..ov_film.doctor import page
from ..ov_film.environment import find_facts
from ..ov_film.errors import FilmError
from ..ov_film.library import FULL_MODEL, INT8_SUFFIX, MANIFEST, default_model, find_models, installed_model, int8_model
from ..ov_film.model import FilmModel
from . import host

TILES = ["auto", "off", "512", "768", "1024", "1536"]
_PACK = Path(__file__).absolute().parent.parent
_HOW_TO_GET_FILM = (f"For the full film model, run python install.py in {_PACK} with ComfyUI's Python, "
                    "and reload the page.")


class Loader:
    """Load a converted FILM onto a device."""

    CATEGORY = "FILM OpenVINO"
    DESCRIPTION = ("Loads a FILM network for the interpolation nodes and keeps it loaded between runs. film is "
                   "Google's full network; film_lite comes with the pack: smaller, many times faster, less exact.")
    RETURN_TYPES = ("FILM_OPENVINO_MODEL", "STRING")
    RETURN_NAMES = ("model", "report")
    OUTPUT_TOOLTIPS = ("Connect it to Interpolate Pair, Recursive Interpolate, Interpolate Video, Inspect Pair or Make "
                       "INT8 Model.",
                       "What runs, what is installed, why a device is missing and what to do next. Connect it to "
                       "Preview Any to read it.")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        found = find_models(host.models_folders())
        models = [name for name in found if not name.endswith(INT8_SUFFIX)]
        precisions = [*PRECISIONS, *([INT8] if len(models) < len(found) else [])]
        return {"required": {
            "model": (models, {
                "default": default_model(models),
                "tooltip": "film is Google's full network, offered once python install.py, typed in the pack's folder "
                           "with ComfyUI's Python, has fetched it. film_lite comes with the pack: many times faster, "
                           "less exact, blurred where things move far."}),
            "device": (["AUTO", *(device.name for device in _devices())], {
                "default": "AUTO",
                "tooltip": "Where the network runs. AUTO lets OpenVINO choose. The report says what it chose, and why "
                           "a GPU or NPU is missing."}),
            "precision": (precisions, {
                "default": "auto",
                "tooltip": "auto is the fastest that the device does natively. f32 is exact and slower; bf16 and f16 "
                           "come close to it. int8 is the fastest on CPUs with VNNI; it is offered once Make "
                           "INT8 Model has made it."})},
            "optional": {
                "tile": (TILES, {
                    "default": "auto",
                    "tooltip": "Large frames are worked on in overlapping windows, which saves memory and takes more "
                               "time: auto does so where a pair would take more than 4 GB, off never, a number always, "
                               "with windows of so many pixels."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        try:
            installed_model(model, host.models_folders())
        except FilmError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, model: str, device: str, precision: str, tile: str = "auto") -> str:
        return _stamp(installed_model(model, host.models_folders()), precision)

    def load(self, model: str, device: str, precision: str, tile: str = "auto") -> tuple[FilmModel, str]:
        folder = installed_model(model, host.models_folders())
        loaded = _loaded(folder, device, precision, tile, _stamp(folder, precision))
        logging.info("FILM OpenVINO: %s.", loaded.report())
        return loaded, f"{loaded.report()}\n\n{page(find_facts(), host.models_folders())}"


@functools.cache
def _devices() -> list[Any]:
    """OpenVINO's devices, asked once: the page asks for INPUT_TYPES at every load."""
    return find_devices()


@functools.lru_cache(maxsize=2)
def _loaded(folder: Path, device: str, precision: str, tile: str, stamp: str) -> FilmModel:
    """Return the model, loaded once however often a workflow runs; a new stamp means that it was converted anew."""
    if FULL_MODEL not in find_models(host.models_folders()):
        logging.info("FILM OpenVINO: %s", _HOW_TO_GET_FILM)
    return FilmModel.load(folder, device, precision, host.models_folders(), int(tile) if tile.isdecimal() else tile)


def _stamp(folder: Path, precision: str) -> str:
    loaded = int8_model(folder, host.models_folders()) if precision == INT8 else folder
    return str((loaded / MANIFEST).stat().st_mtime_ns)
