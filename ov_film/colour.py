"""RGB as Y'CbCr and back, by the matrix and the range that a video is tagged with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import FilmError
from .frames import OVERSHOOT, Frame

Plane = NDArray[np.uint8] | NDArray[np.uint16]

# Weights of red and blue in luma, by the matrix's number in ITU-T H.273; green has what is left to 1.
_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
            9: (0.2627, 0.0593)}


class Colour(NamedTuple):
    """What a video's numbers mean: as numbered in ITU-T H.273, BT.709 unless said otherwise.

    FFmpeg's numbers for primaries, transfer and matrix are the same; its color_range is 1 for limited, 2 for full.
    """

    primaries: int = 1
    transfer: int = 1
    matrix: int = 1
    full_range: bool = False


BT709 = Colour()

# The number of RGB as it is.
IDENTITY = 0


def has_matrix(colour: Colour) -> bool:
    """Return whether RGB can be converted by the colour's matrix."""
    return colour.matrix in _WEIGHTS


def check_colour(colour: Colour) -> None:
    """Raise FilmError where RGB can't be converted by the colour's matrix."""
    if not has_matrix(colour):
        raise FilmError(f"Colour matrix is {colour.matrix}: choose one of {', '.join(map(str, _WEIGHTS))} (numbers of "
                        "ITU-T H.273; 1 is BT.709, 6 is BT.601, 9 is BT.2020).")


def to_ycbcr(rgb: Frame, colour: Colour, bits: int) -> tuple[Plane, Plane, Plane]:
    """Return Y' (H,W), Cb and Cr (H/2,W/2) in so many bits, uint8 for 8 and uint16 for more, rounded.

    The frame's sides are even, its values in [0,1]; what is a little outside is kept as far as the levels go. The
    chroma of 2x2 pixels is their mean, so it lies in their middle, where FFmpeg's scaler and browsers look for it.
    """
    luma = _luma(colour)
    black, luma_span, chroma_span = _spans(colour, bits)
    y = _combined(rgb, luma * luma_span, black, bits)
    # Of 2x2 pixels the upper and the lower are added first; then the left and the right lie in one row.
    pairs = (rgb[::2] + rgb[1::2]).reshape(rgb.shape[0] // 2, rgb.shape[1] // 2, 6)
    cb, cr = (_combined(pairs, np.tile((np.eye(3)[channel] - luma) / (2 - 2 * luma[channel]) * chroma_span / 4, 2),
                        128 * 2 ** (bits - 8), bits) for channel in (2, 0))
    return y, cb, cr


def to_rgb(y: Plane, cb: Plane, cr: Plane, colour: Colour, bits: int) -> Frame:
    """Return Y' (H,W), Cb and Cr as RGB (H,W,3), in [0,1] but for what is brighter than white or the like.

    Where chroma is coarser than luma, its pixels are repeated: `to_ycbcr`, which takes the mean, then returns the same.
    """
    luma = _luma(colour)
    black, luma_span, chroma_span = _spans(colour, bits)
    height, width = y.shape
    rgb = np.repeat(((y.astype(np.float32) - np.float32(black)) / np.float32(luma_span))[..., np.newaxis], 3, axis=2)
    for channel, plane in ((0, cr), (2, cb)):
        chroma = (plane.astype(np.float32) - np.float32(128 * 2 ** (bits - 8))) / np.float32(chroma_span)
        chroma = chroma.repeat(-(-height // plane.shape[0]), axis=0).repeat(-(-width // plane.shape[1]), axis=1)
        difference = chroma[:height, :width] * np.float32(2 - 2 * luma[channel])  # of the channel from luma
        rgb[..., channel] += difference
        rgb[..., 1] -= difference * np.float32(luma[channel] / luma[1])
    return rgb.clip(*OVERSHOOT, out=rgb)


def to_levels(values: NDArray[np.float32], bits: int) -> Plane:
    """Return values in [0,1] in so many bits, full range, rounded."""
    return _rounded(values * np.float32(2 ** bits - 1), bits)


def _luma(colour: Colour) -> NDArray[np.float64]:
    """Return the weights of red, green and blue in luma."""
    red, blue = _WEIGHTS[colour.matrix]
    return np.array([red, 1 - red - blue, blue])


def _spans(colour: Colour, bits: int) -> tuple[int, int, int]:
    """Return the level of black, and how many levels luma and chroma span."""
    most, unit = 2 ** bits - 1, 2 ** (bits - 8)
    return (0, most, most) if colour.full_range else (16 * unit, 219 * unit, 224 * unit)


def _combined(values: Frame, weights: NDArray[np.float64], offset: int, bits: int) -> Plane:
    """Return the weighted sum of the channels plus the offset, rounded."""
    levels: Frame = values @ weights.astype(np.float32)
    levels += np.float32(offset)
    return _rounded(levels, bits)


def _rounded(levels: NDArray[np.float32], bits: int) -> Plane:
    """Return the levels as whole numbers; they are overwritten."""
    np.rint(levels, out=levels)
    levels.clip(0, 2 ** bits - 1, out=levels)  # the full range of chroma ends half a level higher
    return levels.astype(np.uint8) if bits == 8 else levels.astype(np.uint16)
