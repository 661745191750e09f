"""Frames into a WebM file: VP9 or AV1 at constant quality, with BT.709 colours that are tagged as such."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from .errors import FilmError
from .files import written_whole
from .frames import Frame, check_frame, check_same_size, padded, size_text

try:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

Codec = Literal["vp9", "av1"]


class _Encoder(NamedTuple):
    name: Literal["libvpx-vp9", "libsvtav1"]
    pixel_format: str
    bits: int
    """Bits of a sample."""
    options: dict[str, str]
    """FFmpeg's options of this encoder; {crf} stands for the CRF."""
    least_side: int
    """The fewest pixels that a frame may have in either direction."""
    most_rate: int
    """The highest frame rate."""


_ENCODERS: dict[Codec, _Encoder] = {
    # cpu-used 2 is the slowest that pays: 1 takes half as much time again and gains 0.1 to 0.2 dB. Threads and tiles
    # are libvpx's own choice, as many as there are processors and as the width allows.
    "vp9": _Encoder("libvpx-vp9", "yuv420p", 8,
                    {"crf": "{crf}", "deadline": "good", "cpu-used": "2", "row-mt": "1"}, least_side=1, most_rate=1000),
    # FFmpeg's own option crf takes 0 for "not set", which is 35. Below 64 pixels SVT-AV1 may hang or end the process
    # (3.x at 16x16, 4.1 at 640x16), with no error to catch.
    "av1": _Encoder("libsvtav1", "yuv420p10le", 10,
                    {"svtav1-params": "crf={crf}", "preset": "6"}, least_side=64, most_rate=240),
}
_LEAST_RATE = Fraction(1, 100)
_MOST_CRF = 63

# FFmpeg holds a rate as two 32-bit numbers: 1000 times this fits.
_MOST_DENOMINATOR = 2_000_000

# The number of BT.709 in ITU-T H.273, for primaries, transfer and matrix alike, and FFmpeg's of the limited range.
_BT709 = 1
_LIMITED = 1

# BT.709's weights of red, green and blue in luma.
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def write_webm(
    path: Path,
    frames: Iterable[Frame],
    frame_rate: Fraction,
    *,
    crf: int = 20,
    codec: Codec = "vp9",
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write frames as a WebM file, whole or not at all, and return how many there were.

    The frames are (H,W,3) float32 RGB in [0,1], all of one size; they are taken one by one and not kept. What lies
    outside [0,1] is clipped. Where H or W is odd, the last row or column is there twice in the video, because 4:2:0
    has one colour for 2x2 pixels; nothing is scaled.

    Colours go through BT.709's matrix to limited range, rounded, in 8 bits (VP9) or 10 (AV1), and the stream is tagged
    so. The transfer is tagged bt709 as well, though frames are sRGB as a rule: players then show the values as they
    are, while some convert what is tagged sRGB.

    The frame rate is in frames a second, from 1/100 to 1000 (AV1: 240), and is kept as it is up to a denominator of
    2,000,000. WebM counts milliseconds: a frame begins up to half a millisecond early or late, and errors don't add up.

    `crf` goes from 0 (best) to 63 (smallest file). AV1 needs frames of at least 64x64. `metadata` holds names and
    texts for the file's tags; WebM keeps the names in capitals.

    Raises:
        FilmError: an argument is out of range, there is no frame or a wrong one, PyAV lacks the encoder, or the file
            can't be written; what was at `path` is still there.
    """
    encoder = _find_encoder(codec)
    if not 0 <= crf <= _MOST_CRF:
        raise FilmError(f"CRF is {crf}: choose one from 0 (best) to {_MOST_CRF} (smallest file).")
    if not _LEAST_RATE <= frame_rate <= encoder.most_rate:
        raise FilmError(f"Frame rate is {frame_rate} with codec {codec}: choose one from {_LEAST_RATE} to "
                        f"{encoder.most_rate} frames a second.")
    frame_rate = frame_rate.limit_denominator(_MOST_DENOMINATOR)
    with written_whole(path) as temporary:
        temporary.touch()  # FFmpeg opens the file only many frames later: too late to hear that it can't be written
        container = av.open(str(temporary.absolute()), "w", format="webm")
        try:
            container.metadata.update(metadata or {})
            count = _encode(container, frames, frame_rate, crf, encoder)
            container.close()
        except BaseException:
            # Windows deletes no open file. Closing may fail for the reason that brought us here: that one counts.
            with suppress(av.FFmpegError):
                container.close()
            raise
        if not count:
            raise FilmError(f"Video {path} would have no frames: give one or more.")
    return count


def _find_encoder(codec: Codec) -> _Encoder:
    if codec not in _ENCODERS:
        raise FilmError(f"Codec is {codec!r}: choose one of {', '.join(_ENCODERS)}.")
    encoder = _ENCODERS[codec]
    try:
        av.Codec(encoder.name, "w")
    except ValueError as error:
        raise FilmError(f"Codec {codec} needs the encoder {encoder.name}, which PyAV {av.__version__} lacks: update it "
                        "(python -m pip install --upgrade av) or choose another codec.") from error
    return encoder


def _encode(
    container: OutputContainer, frames: Iterable[Frame], frame_rate: Fraction, crf: int, encoder: _Encoder
) -> int:
    """Encode the frames into the container and return how many there were."""
    count = 0
    for count, frame in enumerate(frames, start=1):
        check_frame(frame, f"Frame {count}")
        if count == 1:
            first = frame
            stream = _open_stream(container, frame, frame_rate, crf, encoder)
        check_same_size(first, frame, "Frame 1", f"Frame {count}")
        picture = _picture(frame, encoder)
        picture.pts = count - 1
        container.mux(stream.encode(picture))
    if count:
        container.mux(stream.encode(None))
    return count


def _open_stream(
    container: OutputContainer, frame: Frame, frame_rate: Fraction, crf: int, encoder: _Encoder
) -> VideoStream:
    """Add a stream for frames of this size and open its encoder."""
    height, width = (side + side % 2 for side in frame.shape[:2])
    if min(height, width) < encoder.least_side:
        raise FilmError(f"Frame 1 is {size_text(frame)}, too small for {encoder.name}: give frames of at least "
                        f"{encoder.least_side}x{encoder.least_side}, or choose codec vp9.")
    options = {name: text.format(crf=crf) for name, text in encoder.options.items()}
    stream = container.add_stream(encoder.name, rate=frame_rate, options=options)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, encoder.pixel_format
    context.bit_rate = 0  # constant quality; PyAV 14 sets a bit rate that would limit it
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED
    try:
        context.open()
    except av.FFmpegError as error:
        raise FilmError(f"Frames of {size_text(frame)} can't be encoded by {encoder.name} ({error.strerror}): give "
                        "smaller ones.") from error
    return stream


def _picture(frame: Frame, encoder: _Encoder) -> av.VideoFrame:
    """Return the frame as Y'CbCr 4:2:0 by BT.709, limited range."""
    rgb = padded(frame, 2)
    quarter = (rgb[::2, ::2] + rgb[::2, 1::2] + rgb[1::2, ::2] + rgb[1::2, 1::2]) / 4
    luma, quarter_luma = rgb @ _LUMA, quarter @ _LUMA
    blue, red = ((quarter[..., channel] - quarter_luma) / (2 - 2 * _LUMA[channel]) for channel in (2, 0))
    picture = av.VideoFrame(rgb.shape[1], rgb.shape[0], encoder.pixel_format)
    kind = np.uint8 if encoder.bits == 8 else np.uint16
    for plane, levels in zip(picture.planes, (16 + 219 * luma, 128 + 224 * blue, 128 + 224 * red), strict=True):
        samples = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)  # its lines may be padded
        samples[:, :levels.shape[1]] = np.rint(levels * 2 ** (encoder.bits - 8))
    return picture
