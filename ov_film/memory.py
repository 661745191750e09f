"""What a run will need in memory, and whether that is there."""

import psutil

from .configuration import FilmConfiguration
from .errors import FilmError
from .network import encoding_channels

# Fitted to the peak of runs on a CPU: the layers' results at a time, in encodings of 4 bytes a value, and what a
# compiled network holds whatever the resolution, in bytes and in weights of 4 bytes.
_LAYERS = {4: 4.0, 2: 3.2}
_FIXED_BYTES, _FIXED_WEIGHTS = 128 << 20, 3


def encoding_bytes(configuration: FilmConfiguration, height: int, width: int, value_bytes: int) -> int:
    """Return the bytes of one encoding of a padded frame; its images have 4 bytes a value, the rest `value_bytes`."""
    total = 0
    for name, channels in encoding_channels(configuration).items():
        level = int(name.rsplit("_", 1)[1])
        total += channels * (height >> level) * (width >> level) * (4 if name.startswith("image") else value_bytes)
    return total


def network_bytes(configuration: FilmConfiguration, height: int, width: int, value_bytes: int) -> int:
    """Return about how many bytes a compiled network takes at its peak, beside the encodings."""
    layers = _LAYERS[value_bytes] * encoding_bytes(configuration, height, width, 4)
    return _FIXED_BYTES + _FIXED_WEIGHTS * 4 * configuration.parameters() + round(layers)


def check_memory(needed: int, what: str) -> None:
    """Raise FilmError where fewer bytes are free than needed for what."""
    free = psutil.virtual_memory().available
    if needed > free:
        raise FilmError(f"{what} needs about {needed / 1e9:.1f} GB of memory where {free / 1e9:.1f} GB are free: use "
                        "smaller or fewer frames, a lower precision or the smaller model film_lite, or close programs.")
