"""What ComfyUI sees: one node a file. Saved workflows hold the ids, so they never change."""

from .inspect_pair import InspectPair
from .interpolate_pair import InterpolatePair
from .interpolate_video import InterpolateVideo
from .loader import Loader
from .quantize import Quantize
from .recursive_interpolate import RecursiveInterpolate
from .save_webm import SaveWebM

NODE_CLASS_MAPPINGS = {
    "FilmOpenVINOLoader": Loader,
    "FilmOpenVINOInterpolatePair": InterpolatePair,
    "FilmOpenVINORecursiveInterpolate": RecursiveInterpolate,
    "FilmOpenVINOSaveWebM": SaveWebM,
    "FilmOpenVINOInspect": InspectPair,
    "FilmOpenVINOInterpolateVideo": InterpolateVideo,
    "FilmOpenVINOQuantize": Quantize,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "FilmOpenVINOLoader": "Load FILM OpenVINO",
    "FilmOpenVINOInterpolatePair": "Interpolate Pair",
    "FilmOpenVINORecursiveInterpolate": "Recursive Interpolate",
    "FilmOpenVINOSaveWebM": "Save WebM",
    "FilmOpenVINOInspect": "Inspect Pair",
    "FilmOpenVINOInterpolateVideo": "Interpolate Video",
    "FilmOpenVINOQuantize": "Make INT8 Model",
}
