"""A decoded picture of any kind as RGB, and what colour it has."""

import numpy as np

from .colour import IDENTITY, Colour, Plane, has_matrix, to_rgb
from .errors import FilmError
from .frames import Frame

try:
    import av
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

UNTAGGED = 2
MATRICES = (IDENTITY, 1, UNTAGGED, 4, 5, 6, 7, 9)  # that FFmpeg's scaler knows; at others it fails
_PLANAR = {f"yuv{kind}{chroma}p{depth}" for kind in ("", "j", "a") for chroma in (420, 422, 444, 440, 411, 410)
           for depth in ("", "9le", "10le", "12le", "14le", "16le")}
# What a picture may carry that can't be given to the new ones, by FFmpeg's names of it.
_LEFT_OUT = {"A53_CC": "closed captions", "DOVI_METADATA": "Dolby Vision", "DYNAMIC_HDR_PLUS": "HDR10+",
             "STEREO3D": "two views (3D)", "SPHERICAL": "a view all around (360 degrees)"}


def colour_of(picture: av.VideoFrame, primaries: int, transfer: int) -> Colour:
    """Return a picture's colour; where its matrix is missing, what players take by the size."""
    full_range = picture.color_range == 2 or picture.format.name.startswith("yuvj")
    colour = Colour(primaries, transfer, int(picture.colorspace), full_range)
    if has_matrix(colour):
        return colour
    if picture.format.is_rgb:
        return Colour()
    return colour._replace(matrix=1 if picture.height >= 720 else 6)


def rgb_of(picture: av.VideoFrame, colour: Colour) -> Frame:
    """Return a picture as RGB (H,W,3) in [0,1]."""
    if picture.format.name not in _PLANAR:
        if picture.format.is_rgb or picture.format.name in ("gray", "pal8", "monow", "monob"):
            deep = picture.format.components[0].bits > 8
            levels = picture.to_ndarray(format="rgb48le" if deep else "rgb24")
            return levels.astype(np.float32) / np.float32(65535 if deep else 255)
        deep = max(component.bits for component in picture.format.components) > 8
        picture = picture.reformat(format="yuv420p10le" if deep else "yuv420p")
    bits = picture.format.components[0].bits
    y, cb, cr = (_samples(plane, bits) for plane in picture.planes[:3])
    return to_rgb(y, cb, cr, colour, bits)


def is_transparent(picture: av.VideoFrame) -> bool:
    """Whether any pixel of a picture with alpha is transparent."""
    return bool(picture.to_ndarray(format="rgba")[..., 3].min() < 255)


def left_out(picture: av.VideoFrame) -> list[str]:
    """Return in words what a picture carries that is left out."""
    return [what for name, what in _LEFT_OUT.items() if picture.side_data.get(name) is not None]


def _samples(plane: av.video.plane.VideoPlane, bits: int) -> Plane:
    buffer = memoryview(plane)
    samples: Plane = np.frombuffer(buffer, np.uint8) if bits <= 8 else np.frombuffer(buffer, np.uint16)
    return samples.reshape(plane.height, -1)[:, :plane.width]
