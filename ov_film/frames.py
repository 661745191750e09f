"""Frames: (H,W,3) float32 RGB in [0,1]. Checking, padding, reading and writing."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FilmError
from .files import written_whole

try:
    import cv2
    if cv2.__file__ is None:  # pip has removed a second OpenCV, and with it most of the folder that both had
        raise ImportError("its folder cv2 is all but empty")
except ImportError as error:
    raise FilmError(f"OpenCV can't be imported ({error}): install it anew, python -m pip install --force-reinstall "
                    "opencv-python; on a machine without a desktop (no libGL), python -m pip install "
                    "opencv-python-headless.") from error

Frame = NDArray[np.float32]

# A little overshoot is what sharpening leaves; far more means that values are in [0,255].
OVERSHOOT = -1.0, 2.0


def check_frame(frame: Any, name: str, channels: int = 3) -> Frame:
    """Return the frame if it is one, RGB or, with 4 channels, RGBA.

    Raises:
        FilmError: it is not (H,W,channels) float32, is empty, not finite, or not in [0,1] save a little overshoot.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.float32:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise FilmError(f"{name} is {kind} where a NumPy array of float32 in [0,1] belongs: convert it (uint8: divide "
                        "by 255).")
    if frame.ndim != 3 or frame.shape[2] != channels or frame.size == 0:
        kind = "RGB" if channels == 3 else "RGBA"
        raise FilmError(f"{name} has shape {frame.shape} where (height, width, {channels}) belongs: give one {kind} "
                        "frame.")
    least, most = float(frame.min()), float(frame.max())
    if not OVERSHOOT[0] <= least <= most <= OVERSHOOT[1]:  # a NaN compares as false
        raise FilmError(f"{name} has values from {least:g} to {most:g} where [0,1] belongs: scale it (from [0,255]: "
                        "divide by 255) or mend what made it.")
    return frame


def check_same_size(first: Frame, other: Frame, first_name: str, other_name: str) -> None:
    """Raise FilmError where two frames differ in size."""
    if first.shape != other.shape:
        raise FilmError(f"{first_name} is {size_text(first)} and {other_name} is {size_text(other)}: resize one to the "
                        "other's size.")


def size_text(frame: Frame) -> str:
    """Return a frame's size as people write it, width first."""
    return f"{frame.shape[1]}x{frame.shape[0]}"


def padded(frame: Frame, multiple: int, *, clamp: bool = True) -> Frame:
    """Return the frame clamped to [0,1], its last row and column repeated until both sides are multiples."""
    below, right = (-side % multiple for side in frame.shape[:2])
    values = frame.clip(0, 1) if clamp else frame
    return np.pad(values, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else values


def read_frame(path: Path) -> Frame:
    """Read an image of any kind that OpenCV reads, 8 or 16 bits; alpha is dropped, grey becomes RGB.

    Raises:
        FilmError: there is no such file, or it is no image.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise FilmError(f"Image {path} can't be read ({error.strerror}): give the path of an image file.") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise FilmError(f"Image {path} is damaged or of a kind that can't be read: give a PNG, JPEG or WebP file.")
    most = 255 if image.dtype == np.uint8 else 65535
    frame: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32) / np.float32(most)
    return frame


def bridge(before: Frame, after: Frame, times: Sequence[Fraction], blend: bool) -> Iterator[Frame]:
    """Yield, for each time in (0,1), the nearer of two frames, or both blended by it."""
    for time in times:
        if blend:
            yield (before + (after - before) * before.dtype.type(time)).clip(0, 1)
        else:
            yield before if time < Fraction(1, 2) else after


def to_8_bits(frame: Frame) -> NDArray[np.uint8]:
    """Return a frame's values from 0 to 255, clamped and rounded."""
    levels: NDArray[np.uint8] = np.rint(frame.clip(0, 1) * 255).astype(np.uint8)
    return levels


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image (H,W,3) RGB as PNG, whole or not at all.

    Raises:
        FilmError: the file can't be written.
    """
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with written_whole(path) as temporary:
        temporary.write_bytes(data.tobytes())


def warped(frame: Frame, flow: NDArray[np.float32]) -> Frame:
    """Return the frame (H,W,3) that reads it at each pixel's place plus the flow (H,W,2), bilinear.

    Outside, the border repeats. OpenCV's remap knows places to 1/32 pixel only.
    """
    height, width = flow.shape[:2]
    whole = np.floor(flow)
    right, down = np.moveaxis((flow - whole)[..., np.newaxis], 2, 0)
    x, y = np.moveaxis(whole.astype(np.int64), 2, 0) + np.mgrid[0:height, 0:width][::-1]
    left_x, right_x = x.clip(0, width - 1), (x + 1).clip(0, width - 1)
    above, below = (frame[rows, left_x] * (1 - right) + frame[rows, right_x] * right
                    for rows in (y.clip(0, height - 1), (y + 1).clip(0, height - 1)))
    moved: Frame = above * (1 - down) + below * down
    return moved
