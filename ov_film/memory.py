"""What a run will need in memory, whether that is there, and how large a frame is worked on whole."""

import math
from pathlib import Path

import psutil

from .configuration import FilmConfiguration
from .errors import FilmError
from .network import encoding_channels, level_of
from .tiles import Tile, window_size

# Fitted to the peak of runs on a CPU. The layers' results at a time: so many encodings in f32, and so many bytes a
# pixel whatever the channels, fewer where fine levels predict no flow; what compiled models hold whatever the
# resolution: bytes, and weights of 4 bytes.
_LAYERS = {"f32": (3.6, 1040, 320), "bf16": (1.6, 790, 380), "f16": (1.6, 790, 380)}
_FIXED_BYTES, _FIXED_WEIGHTS = 128 << 20, 3.7
_WINOGRAD_WEIGHTS = {"f32": 4.6, "bf16": 3.6, "f16": 3.6}  # of 4 bytes: what use_winograd adds
_MOST_WHOLE = 4_000_000_000  # bytes for a pair, those kernels aside; a frame that needs more is worked on in windows
_WINDOW_BYTES = {"f32": 3_200_000_000, "bf16": 2_000_000_000, "f16": 2_000_000_000}  # for the layers, two encodings
_REFINING_BYTES = 240  # a pixel of a frame, where its flows are refined
_SEARCHED_BYTES = 16  # a pixel of a frame, where flows are found in the frames alone: two of them
_BROUGHT_BYTES = 56  # a pixel of a window: both frames as these flows bring them, as fusion takes and blends them
_CANVAS_BYTES = 16  # a pixel of a frame in windows: what its windows are put together in
_GROUP = Path("/sys/fs/cgroup")  # of version 2, as containers see their own
_USUAL_MOTION = 37  # pixels: what windows are laid out for before the motion is known


def window_for(configuration: FilmConfiguration, resolution: tuple[int, int], precision: str, tile: Tile,
               winograd: bool = False) -> tuple[int, int]:
    """Return the height and width of the windows to work on a padded frame in; the frame's own where that is whole.

    The choice rests on nothing but these, so that results do not depend on how much memory happens to be free.
    """
    multiple = configuration.window_multiple
    if tile == "off":
        return resolution
    if tile != "auto":
        side = -(-tile // multiple) * multiple
        return min(side, resolution[0]), min(side, resolution[1])
    if memory_needed(configuration, resolution, resolution, precision, 1) <= _MOST_WHOLE:
        return resolution
    some = 1 << 20
    pixel_bytes = (_layers_bytes(configuration, some, some, precision)
                   + 2 * _encoding_bytes(configuration, some, precision)) / some
    margin = configuration.reach // 2 + _USUAL_MOTION
    room = _WINDOW_BYTES[precision] - (_winograd_bytes(configuration, precision) if winograd else 0)
    return window_size(*resolution, int(room / pixel_bytes), margin, multiple)


def memory_needed(configuration: FilmConfiguration, resolution: tuple[int, int], window: tuple[int, int],
                  precision: str, times: int, winograd: bool = False) -> int:
    """Return about how many bytes a run takes at its peak, the frames that go in and come out not counted."""
    pixels, window_pixels = resolution[0] * resolution[1], window[0] * window[1]
    return (_FIXED_BYTES + round(_FIXED_WEIGHTS * 4 * configuration.parameters())
            + (_winograd_bytes(configuration, precision) if winograd else 0)
            + _layers_bytes(configuration, pixels, window_pixels, precision)
            + encodings_bytes(configuration, resolution, window, precision, times))


def encodings_bytes(configuration: FilmConfiguration, resolution: tuple[int, int], window: tuple[int, int],
                    precision: str, times: int) -> int:
    """Return how many bytes the encodings take that a recursion holds, and in windows the frame that is made of them.

    In windows only the levels from the stitched one on are held and the padded frames; those below are of one window
    of a pair.
    """
    pixels, window_pixels = resolution[0] * resolution[1], window[0] * window[1]
    if window == resolution:
        return (times + 1) * (_encoding_bytes(configuration, pixels, precision) + 12 * pixels)
    level = configuration.stitched_level
    return ((times + 1) * (_encoding_bytes(configuration, pixels, precision, first=level) + 12 * pixels)
            + 2 * _encoding_bytes(configuration, window_pixels, precision, end=level) + _CANVAS_BYTES * pixels)


def _encoding_bytes(configuration: FilmConfiguration, pixels: int, precision: str, first: int = 0,
                    end: int | None = None) -> int:
    """Return the bytes of one encoding of so many pixels, from a first level on to before an end."""
    total = 0
    for name, channels in encoding_channels(configuration).items():
        level = level_of(name)
        if first <= level and (end is None or level < end):
            value_bytes = 4 if name.startswith("image") or precision == "f32" else 2
            total += channels * (pixels >> 2 * level) * value_bytes
    return total


def _layers_bytes(configuration: FilmConfiguration, pixels: int, window_pixels: int, precision: str) -> int:
    """Return the bytes of the layers' results: of all levels or, in windows, of the coarse ones or a window's.

    Until it first runs, a compiled model holds what it reads. So beside the coarse levels' results there are two
    encodings of a window for the fine flow, and two for fusion.
    """
    encodings, with_flow, without_flow = _LAYERS[precision]
    levels = configuration.fine_levels
    refining = _REFINING_BYTES * pixels if configuration.matches else 0
    searched, brought = (_SEARCHED_BYTES, _BROUGHT_BYTES) if configuration.searches else (0, 0)
    coarse = (round(encodings * _encoding_bytes(configuration, pixels, "f32", first=levels)) + refining
              + searched * pixels)
    fine = (round(encodings * _encoding_bytes(configuration, window_pixels, "f32", end=levels))
            + ((without_flow if configuration.matches else with_flow) + brought) * window_pixels)
    if pixels == window_pixels:
        return coarse + fine
    return max(coarse + 4 * _encoding_bytes(configuration, window_pixels, precision, end=levels), fine)


def _winograd_bytes(configuration: FilmConfiguration, precision: str) -> int:
    return round(_WINOGRAD_WEIGHTS[precision] * 4 * configuration.parameters())


def check_memory(needed: int, what: str) -> None:
    """Raise FilmError where fewer bytes are free than needed for what."""
    free = free_memory()
    if needed > free:
        raise FilmError(f"{what} needs about {needed / 1e9:.1f} GB of memory where {free / 1e9:.1f} GB are free: use "
                        "smaller or fewer frames, a lower precision, a smaller tile or the smaller model film_lite, or "
                        "close programs.")


def free_memory() -> float:
    """Return how many bytes are free: to the machine, or to the control group where a container limits that."""
    return min(float(psutil.virtual_memory().available), _free_in_group())


def _free_in_group() -> float:
    """Return the bytes left to the control group, as containers limit it; psutil knows the machine's memory only."""
    try:
        limit, used = (int((_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())["inactive_file"]
    except (OSError, ValueError, KeyError):  # no such system, no such group, or "max": no limit
        return math.inf
    return limit - used + int(cached)
