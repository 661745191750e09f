"""Write frames as a WebM file: VP9 or AV1, colours by BT.709 and tagged so, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from uuid import uuid4

import av
import av.codec
import av.container
import av.video.stream
import numpy as np
from numpy.typing import NDArray

from .errors import FilmError

Codec = Literal["vp9", "av1"]


class _Encoder(NamedTuple):
    """What tells one encoder from the other."""

    name: str  # FFmpeg's name for it
    pixel_format: str
    bits: int  # per sample
    options: Mapping[str, str]
    smallest: int  # pixels, either side
    fastest: int  # frames per second


_ENCODERS: Mapping[Codec, _Encoder] = {
    # Of cpu-used 1 to 5, 2 is where one step slower costs half as much time again for some 0.15 dB. Tiles
    # and threads are left to libvpx, which takes what the width and the processor allow.
    "vp9": _Encoder(
        "libvpx-vp9", "yuv420p", 8, {"deadline": "good", "cpu-used": "2", "row-mt": "1"}, smallest=1, fastest=1000
    ),
    # Below 64 pixels SVT-AV1 does not refuse reliably but may hang or crash the process (16 x 640 does).
    "av1": _Encoder("libsvtav1", "yuv420p10le", 10, {"preset": "6"}, smallest=64, fastest=240),
}

_SLOWEST = Fraction(1, 100)

# A numerator must fit 31 bits; with denominators up to this one it does, at any frame rate allowed here.
_LARGEST_DENOMINATOR = 2_000_000

# ITU-T H.273's code point of BT.709 is 1 for the primaries, the transfer and the matrix alike.
_BT709 = 1
_LIMITED_RANGE = 1  # FFmpeg's AVCOL_RANGE_MPEG, "tv"

# BT.709, item 3.2: luma from red, green and blue.
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def write_webm(
    path: Path,
    frames: Iterable[NDArray[np.float32]],
    frame_rate: Fraction,
    *,
    crf: int = 20,
    codec: Codec = "vp9",
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write frames as a WebM file and return their number.

    The file appears under its name only when it is complete: whatever goes wrong before, an earlier file of
    that name stays as it was and nothing else is left behind. Frames are taken one at a time and not kept.

    Colours are converted with BT.709's matrix to limited range, rounded to the nearest step, and the stream
    is tagged bt709 throughout. The transfer is tagged bt709 too, though the frames are sRGB: players show
    such a stream as it is, whereas an sRGB tag makes some of them convert it. VP9 holds 8 bits a sample,
    AV1 holds 10.

    Args:
        path: the file to write, ending in ``.webm``; its folder is made if it is missing.
        frames: arrays (H, W, 3), float32 RGB, sRGB-encoded, all of one size. Values are clipped to [0, 1].
            Where H or W is odd, the last row or column is written twice, because the chroma of 4:2:0 covers
            squares of two by two pixels; nothing is scaled.
        frame_rate: frames per second, 1/100 to 1000 (AV1: to 240), kept exactly up to a denominator of two
            million. WebM counts time in milliseconds, so each frame starts within half of one of its time.
        crf: constant rate factor, 0 (best) to 63 (smallest).
        codec: "vp9", or "av1", which needs frames of at least 64 x 64 pixels.
        metadata: names and texts to store as tags of the file. Matroska, and so WebM, turns the names into
            capitals.

    Raises:
        FilmError: an argument is out of its range, a frame is not as described above, there is no frame,
            PyAV lacks the encoder, or the file cannot be written.

    """
    encoder = _encoder(codec)
    if path.suffix.lower() != ".webm":
        raise FilmError(f"The video {path} would hold WebM under another ending: give it a name ending in .webm.")
    if not 0 <= crf <= 63:
        raise FilmError(f"The CRF is {crf}: choose one from 0 (best) to 63 (smallest).")
    if not _SLOWEST <= frame_rate <= encoder.fastest:
        raise FilmError(
            f"The frame rate is {frame_rate} frames per second: choose one from {_SLOWEST} to {encoder.fastest}, "
            f"the limits for {codec}."
        )

    temporary = path.absolute().with_name(f".film-{uuid4().hex}.webm")
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # tells at once, not after the first frames, whether the folder can be used
    try:
        count = _encode(temporary, path, frames, frame_rate, crf, encoder, metadata or {})
        with _write_errors(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _encoder(codec: Codec) -> _Encoder:
    """The encoder for `codec`, known to be there."""
    if codec not in _ENCODERS:
        raise FilmError(f"The codec is {codec!r}: choose one of {', '.join(get_args(Codec))}.")
    encoder = _ENCODERS[codec]
    try:
        av.codec.Codec(encoder.name, "w")
    except ValueError as error:
        raise FilmError(
            f"PyAV {av.__version__} lacks the encoder {encoder.name} that {codec} needs: "
            "install the newest one (pip install --upgrade av) or choose the other codec."
        ) from error
    return encoder


def _encode(
    temporary: Path,
    path: Path,
    frames: Iterable[NDArray[np.float32]],
    frame_rate: Fraction,
    crf: int,
    encoder: _Encoder,
    metadata: Mapping[str, str],
) -> int:
    """Encode all frames into the file `temporary`, which errors call `path`; return their number."""
    container = av.open(str(temporary), "w", format="webm")
    try:
        container.metadata.update(metadata)
        count = 0
        for frame in frames:
            if count == 0:
                size = _size(frame, count)
                stream = _open_stream(container, size, frame_rate, crf, encoder)
            elif _size(frame, count) != size:
                raise FilmError(
                    f"Frame {count} (the first is 0) has {_text(_size(frame, count))} pixels, but the frames before "
                    f"it have {_text(size)}: give all frames one size."
                )
            picture = _picture(frame, count, encoder)
            picture.pts = count
            with _write_errors(path):
                container.mux(stream.encode(picture))
            count += 1
        if count == 0:
            raise FilmError(f"There are no frames for the video {path}: give at least one.")
        with _write_errors(path):
            container.mux(stream.encode(None))
            container.close()
    except BaseException:
        # Let go of the file, which Windows would not delete otherwise; what went wrong is known already.
        with suppress(OSError, av.FFmpegError):
            container.close()
        raise
    return count
