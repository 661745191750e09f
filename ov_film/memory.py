"""What a run will need in memory, whether that is there, and how large a frame is worked on whole."""

import psutil

from .configuration import FilmConfiguration
from .errors import FilmError
from .network import encoding_channels, level_of
from .tiles import Tile, window_size

# Fitted to the peak of runs on a CPU: the layers' results at a time, in encodings of 4 bytes a value, and what a
# compiled network holds whatever the resolution, in bytes and in weights of 4 bytes.
_LAYERS = {"f32": 4.0, "bf16": 3.2, "f16": 3.2}
_FIXED_BYTES, _FIXED_WEIGHTS = 128 << 20, 3
_WINDOW_BYTES = 3 << 29  # of layers' results, in a frame that is not worked on whole
_WHOLE_BYTES = 2 << 30  # of layers' results, in one that is
_USUAL_MOTION = 41  # pixels; with the network's reach this is what windows overlap by before the motion is known


def window_for(configuration: FilmConfiguration, resolution: tuple[int, int], precision: str,
               tile: Tile) -> tuple[int, int]:
    """Return the height and width of the windows to work on a padded frame in; the frame's own where that is whole."""
    multiple = configuration.window_multiple
    if tile == "off":
        return resolution
    if tile != "auto":
        side = -(-tile // multiple) * multiple
        return min(side, resolution[0]), min(side, resolution[1])
    pixel = _layers_bytes(configuration, (64 * multiple, multiple), precision) / (64 * multiple * multiple)
    if resolution[0] * resolution[1] * pixel <= _WHOLE_BYTES:
        return resolution
    margin = configuration.reach + _USUAL_MOTION
    return window_size(*resolution, int(_WINDOW_BYTES / pixel), margin, multiple)


def memory_needed(configuration: FilmConfiguration, resolution: tuple[int, int], window: tuple[int, int],
                  precision: str, times: int, compiled: bool) -> int:
    """Return about how many bytes a run takes at its peak; if compiled, beside what the network holds by now."""
    encodings = (times + 1) * encoding_bytes(configuration, *resolution, precision)
    if compiled:
        return encodings
    return (encodings + _FIXED_BYTES + _FIXED_WEIGHTS * 4 * configuration.parameters()
            + _layers_bytes(configuration, window, precision))


def encoding_bytes(configuration: FilmConfiguration, height: int, width: int, precision: str) -> int:
    """Return the bytes of one encoding of a padded frame; its images are f32, the rest is in the precision."""
    total = 0
    for name, channels in encoding_channels(configuration).items():
        value_bytes = 4 if name.startswith("image") or precision == "f32" else 2
        total += channels * (height >> level_of(name)) * (width >> level_of(name)) * value_bytes
    return total


def _layers_bytes(configuration: FilmConfiguration, window: tuple[int, int], precision: str) -> int:
    return round(_LAYERS[precision] * encoding_bytes(configuration, *window, "f32"))


def check_memory(needed: int, what: str) -> None:
    """Raise FilmError where fewer bytes are free than needed for what."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise FilmError(f"{what} needs about {needed / 1e9:.1f} GB of memory where {free / 1e9:.1f} GB are free: use "
                        "smaller or fewer frames, a lower precision or the smaller model film_lite, or close programs.")
