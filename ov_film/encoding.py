"""Frames into a video stream, one by one: codecs, containers, and the colours that the stream is tagged with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from .colour import BT709, IDENTITY, Colour, Plane, check_colour, to_levels, to_ycbcr
from .errors import FilmError
from .frames import Frame, check_frame, padded, size_text
from .hdr import NO_HDR, Hdr

try:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

Codec = Literal["vp9", "av1", "h264", "h265"]
CODECS: tuple[Codec, ...] = get_args(Codec)
Quality = Literal["visually lossless", "high", "medium", "small"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)


class _Encoder(NamedTuple):
    name: Literal["libvpx-vp9", "libsvtav1", "libx264", "libx265"]
    bits: int
    """Bits of a sample where no number is asked for."""
    options: dict[str, str]
    """FFmpeg's options of this encoder; {crf} and {preset} stand for the values."""
    preset: str
    crfs: tuple[int, int, int, int]
    """The CRF of each quality; with all codecs a quality comes to about the same PSNR."""
    best_crf: int
    smallest_crf: int
    least_side: int
    """The fewest pixels that a frame may have in either direction."""
    most_rate: int
    """The highest frame rate."""


_ENCODERS: dict[Codec, _Encoder] = {
    # cpu-used 2 is the slowest that pays: 1 takes half as much time again and gains 0.1 to 0.2 dB. Threads and tiles
    # are libvpx's own choice, as many as there are processors and as the width allows.
    "vp9": _Encoder("libvpx-vp9", 8,
                    {"crf": "{crf}", "deadline": "good", "cpu-used": "{preset}", "row-mt": "1"}, preset="2",
                    crfs=(12, 20, 30, 40), best_crf=0, smallest_crf=63, least_side=1, most_rate=1000),
    # FFmpeg's own option crf takes 0 for "not set", which is 35. Below 64 pixels SVT-AV1 may hang or end the process
    # (3.x at 16x16, 4.1 at 640x16), with no error to catch.
    "av1": _Encoder("libsvtav1", 10, {"svtav1-params": "crf={crf}", "preset": "{preset}"}, preset="6",
                    crfs=(12, 20, 28, 40), best_crf=0, smallest_crf=63, least_side=64, most_rate=240),
    # At CRF 0 x264 leaves the profiles that players know.
    "h264": _Encoder("libx264", 8, {"crf": "{crf}", "preset": "{preset}"}, preset="medium",
                     crfs=(12, 16, 20, 24), best_crf=1, smallest_crf=51, least_side=1, most_rate=1000),
    # In frames narrower than 50 pixels x265 4.2 writes beyond its memory.
    "h265": _Encoder("libx265", 8,
                     {"crf": "{crf}", "preset": "{preset}", "x265-params": "log-level=error"}, preset="medium",
                     crfs=(13, 18, 22, 26), best_crf=0, smallest_crf=51, least_side=64, most_rate=1000),
}
_LEAST_RATE = Fraction(1, 100)

# Containers that take the sample aspect ratio from where PyAV has no access; H.264 and H.265 carry it themselves.
_MATROSKA = ("webm", "matroska")

# Of so few frames in all, x265 4.2 leaves the time of decoding unset; none of them is out of order.
_X265_UNSET = 2

# A frame is converted in strips of so many rows, which stay in the processor's cache.
_ROWS = 64

# FFmpeg holds a rate as two 32-bit numbers: 1000 times this fits.
_MOST_DENOMINATOR = 2_000_000

# FFmpeg's name of the container that a suffix means, and the codecs that it takes.
_CONTAINERS: dict[str, tuple[str, tuple[Codec, ...]]] = {
    ".webm": ("webm", ("vp9", "av1")),
    ".mkv": ("matroska", CODECS),
    ".mp4": ("mp4", CODECS),
    ".mov": ("mov", ("h264", "h265")),
}


def check_codec(codec: str, codecs: Sequence[str] = CODECS) -> None:
    """Raise FilmError where there is no such codec."""
    if codec not in codecs:
        raise FilmError(f"Codec is {codec!r}: choose one of {', '.join(codecs)}.")


def crf_of(quality: Quality, codec: Codec) -> int:
    """Return the CRF that gives a quality with a codec.

    Raises:
        FilmError: there is no such quality or codec.
    """
    if quality not in QUALITIES:
        raise FilmError(f"Quality is {quality!r}: choose one of {', '.join(QUALITIES)}.")
    return _encoder_of(codec).crfs[QUALITIES.index(quality)]


def holds_aspect(container: OutputContainer, codec: Codec) -> bool:
    """Return whether a container gets pixels that aren't square, with a codec."""
    return codec in ("h264", "h265") or container.format.name not in _MATROSKA


def hides(container: OutputContainer) -> bool:
    """Return whether a container can hold sound that is decoded and not heard, by an edit list."""
    return container.format.name not in _MATROSKA


def check_container(path: Path, codec: Codec) -> None:
    """Raise FilmError where the suffix of a path names no container, or one that doesn't take the codec."""
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise FilmError(f"Video {path} has the suffix {path.suffix!r}: choose one of {', '.join(_CONTAINERS)}.")
    if codec not in container[1]:
        raise FilmError(f"Video {path} can't hold the codec {codec}: choose one of {', '.join(container[1])}, or "
                        "another suffix.")


@contextmanager
def open_container(path: Path) -> Iterator[OutputContainer]:
    """Yield a container that is written to `path` as its suffix says, and close it, whatever happens.

    Raises:
        OSError: the file can't be written.
    """
    path.touch()  # FFmpeg opens the file only many frames later: too late to hear that it can't be written
    container = av.open(str(path.absolute()), "w", format=_CONTAINERS[path.suffix.lower()][0])
    try:
        yield container
        try:
            container.close()
        except OSError:
            raise
        except av.FFmpegError as error:
            raise FilmError(f"{path.suffix} can't hold this video with what goes with it ({error.strerror}): choose "
                            "another suffix, or leave the sound out.") from error
    except BaseException:
        # Windows deletes no open file. Closing may fail for the reason that brought us here: that one counts.
        with suppress(av.FFmpegError):
            container.close()
        raise


@dataclass(frozen=True)
class Encoding:
    """How to encode: one that exists can be done, as far as the size of the frames and their rate don't forbid it.

    Attributes:
        codec: vp9, av1, h264 or h265.
        crf: from 0 (best; h264: 1) to 63 (smallest; h264, h265: 51); None is that of high quality.
        preset: speed, by the encoder's own names: x264's and x265's "medium", SVT-AV1's "6", libvpx's cpu-used "2",
            which None stands for.
        bits: 8 or 10; None is 8 (av1: 10).
        alpha: whether frames have a fourth channel (vp9 alone).
        colour: what the stream is tagged with; the conversion follows its matrix and range.
        lossless: whether the 8 bits of RGB come back exactly, at any CRF (vp9 alone, 8 bits, no alpha).
        hdr: what else the stream is tagged with (h265 and av1 alone).

    Raises:
        FilmError: a value is out of range or doesn't go with another, or PyAV lacks the encoder.
    """

    codec: Codec = "vp9"
    crf: int | None = None
    preset: str | None = None
    bits: int | None = None
    alpha: bool = False
    colour: Colour = BT709
    lossless: bool = False
    hdr: Hdr = NO_HDR

    def __post_init__(self) -> None:  # noqa: D105
        encoder = _encoder_of(self.codec)
        if self.crf is not None and not encoder.best_crf <= self.crf <= encoder.smallest_crf:
            raise FilmError(f"CRF is {self.crf} with codec {self.codec}: choose one from {encoder.best_crf} (best) to "
                            f"{encoder.smallest_crf} (smallest file).")
        if self.alpha and self.codec != "vp9":
            raise FilmError(f"Codec {self.codec} has no alpha: choose codec vp9, or leave the alpha out.")
        if self.lossless and (self.codec != "vp9" or self.alpha or self.sample_bits != 8):
            culprit = "alpha" if self.alpha else f"codec {self.codec} and {self.sample_bits} bits"
            raise FilmError(f"Lossless is not to be had with {culprit}: choose codec vp9, 8 bits and no alpha, or a "
                            "low CRF.")
        if self.pixel_format not in _pixel_formats(self.codec):
            raise FilmError(f"Codec {self.codec} with {self.sample_bits} bits is more than {encoder.name} of PyAV "
                            f"{av.__version__} can do: choose {encoder.bits} bits or another codec.")
        check_colour(self.colour)

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return _ENCODERS[self.codec].name

    @property
    def sample_bits(self) -> int:
        """Bits of a sample."""
        return self.bits or _ENCODERS[self.codec].bits

    @property
    def sample_type(self) -> type[np.uint8] | type[np.uint16]:
        """The type of a sample."""
        return np.uint8 if self.sample_bits == 8 else np.uint16

    @property
    def multiple(self) -> int:
        """What a video's sides are multiples of: 2 where there is one colour for 2x2 pixels."""
        return 1 if self.lossless else 2

    @property
    def tags(self) -> Colour:
        """What the stream is tagged with."""
        return self.colour._replace(matrix=IDENTITY, full_range=True) if self.lossless else self.colour

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of how the encoder takes frames."""
        if self.lossless:
            return "gbrp"
        return f"yuv{'a' * self.alpha}420p{'' if self.sample_bits == 8 else f'{self.sample_bits}le'}"

    @property
    def options(self) -> dict[str, str]:
        """FFmpeg's options of the encoder."""
        encoder = _ENCODERS[self.codec]
        crf = crf_of("high", self.codec) if self.crf is None else self.crf
        options = {name: text.format(crf=crf, preset=self.preset or encoder.preset)
                   for name, text in encoder.options.items()}
        if parameters := self.hdr.parameters(encoder.name):
            options[next(name for name in options if name.endswith("-params"))] += f":{parameters}"
        return options | {"lossless": "1", "crf": "0"} if self.lossless else options

    def exact_rate(self, frame_rate: Fraction) -> Fraction:
        """Return the frame rate as the encoder keeps it: as it is up to a denominator of 2,000,000.

        Raises:
            FilmError: it is not from 1/100 to 1000 (av1: 240) frames a second.
        """
        most = _ENCODERS[self.codec].most_rate
        if not _LEAST_RATE <= frame_rate <= most:
            raise FilmError(f"Frame rate is {frame_rate} with codec {self.codec}: choose one from {_LEAST_RATE} to "
                            f"{most} frames a second.")
        return frame_rate.limit_denominator(_MOST_DENOMINATOR)


def takes_size(codec: Codec, height: int, width: int) -> bool:
    """Return whether frames are large enough for a codec."""
    return min(height + height % 2, width + width % 2) >= _ENCODERS[codec].least_side


class Encoder:
    """Encodes frames into a new video stream of a container, at constant quality.

    Attributes:
        stream: PyAV's, for what else it may hold (rotation, language, ...).
    """

    def __init__(
        self,
        container: OutputContainer,
        height: int,
        width: int,
        frame_rate: Fraction,
        encoding: Encoding,
        *,
        time_base: Fraction | None = None,
        sample_aspect_ratio: Fraction = Fraction(1),
        overshoot: bool = False,
    ) -> None:
        """Add the stream to the container and open its encoder.

        Args:
            container: nothing has been written to it yet.
            height: of the frames; where it is odd, the last row is there twice in the video, because 4:2:0 has one
                colour for 2x2 pixels (lossless: once).
            width: as height.
            frame_rate: in frames a second; where times vary, their mean.
            encoding: how.
            time_base: seconds in which the times of frames count; None is one frame.
            sample_aspect_ratio: width of a pixel by its height. PyAV can't write one beside 1 with vp9 or av1 into
                WebM and Matroska.
            overshoot: whether values outside [0,1] are kept, as far as the video's levels go; else they are clipped.

        Raises:
            FilmError: the frames are too small or too large for the encoder, or their rate is out of range, or the
                sample aspect ratio can't be written.
        """
        self._container, self._height, self._width, self._encoding = container, height, width, encoding
        self._overshoot = overshoot
        self._count = 0
        encoder = _ENCODERS[encoding.codec]
        if not takes_size(encoding.codec, height, width):
            raise FilmError(f"Frames of {width}x{height} are too small for {encoder.name}: give frames of at least "
                            f"{encoder.least_side}x{encoder.least_side}, or choose codec vp9.")
        if sample_aspect_ratio != 1 and not holds_aspect(container, encoding.codec):
            raise FilmError(f"Pixels of aspect {sample_aspect_ratio} can't be written with codec {encoding.codec} into "
                            f"{container.format.name}: choose codec h264 or h265, or the suffix .mp4.")
        stream = container.add_stream(encoding.encoder, rate=encoding.exact_rate(frame_rate), options=encoding.options)
        self.stream = cast(VideoStream, stream)
        context = self.stream.codec_context
        context.width, context.height = (side + -side % encoding.multiple for side in (width, height))
        context.pix_fmt = encoding.pixel_format
        context.bit_rate = 0  # constant quality; PyAV 14 sets a bit rate that would limit it
        colour = encoding.tags
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.colorspace = colour.matrix
        context.color_range = 2 if colour.full_range else 1
        if encoding.codec == "h265" and container.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players know no other
        if time_base:
            context.time_base = self.stream.time_base = time_base
        context.sample_aspect_ratio = sample_aspect_ratio
        try:
            context.open()
        except av.FFmpegError as error:
            raise FilmError(f"Frames of {width}x{height} can't be encoded by {encoder.name} ({error.strerror}): give "
                            "smaller ones, or choose another codec.") from error

    def encode(self, frame: Frame, pts: int) -> None:
        """Encode a frame that is shown from `pts` on, counted in the time base; each is later than the one before.

        The frame is (H,W,3) float32 RGB in [0,1], or (H,W,4) with alpha.

        Raises:
            FilmError: it is no such frame, or of another size.
            OSError: the file can't be written.
        """
        self._count += 1
        name = f"Frame {self._count}"
        check_frame(frame, name, channels=4 if self._encoding.alpha else 3)
        if frame.shape[:2] != (self._height, self._width):
            raise FilmError(f"The video is {self._width}x{self._height} and {name} is {size_text(frame)}: resize one "
                            "to the other's size.")
        picture = self._picture(frame)
        picture.pts = pts
        self._container.mux(self.stream.encode(picture))

    def finish(self) -> None:
        """Write what the encoder still holds; no frame can follow.

        Raises:
            OSError: the file can't be written.
        """
        for packet in self.stream.encode(None):
            if self._count <= _X265_UNSET and self._encoding.codec == "h265":
                packet.dts = packet.pts
            self._container.mux(packet)

    def _picture(self, frame: Frame) -> av.VideoFrame:
        encoding, context = self._encoding, self.stream.codec_context
        picture = av.VideoFrame(context.width, context.height, encoding.pixel_format)
        planes = [np.frombuffer(memoryview(plane), encoding.sample_type).reshape(plane.height, -1)
                  for plane in picture.planes]  # lines may be padded
        for top in range(0, context.height, _ROWS):
            rows = padded(frame[top:top + _ROWS], encoding.multiple, clamp=not self._overshoot)
            for plane, levels in zip(planes, self._levels(rows), strict=True):
                start = top * len(plane) // context.height
                plane[start:start + levels.shape[0], :levels.shape[1]] = levels
        return picture

    def _levels(self, rows: Frame) -> list[Plane]:
        """Return some rows as they go into the picture's planes."""
        encoding, bits = self._encoding, self._encoding.sample_bits
        if encoding.lossless:
            levels = to_levels(rows, bits)
            return [levels[..., channel] for channel in (1, 2, 0)]
        alpha = [to_levels(rows[..., 3], bits)] if encoding.alpha else []
        return [*to_ycbcr(rows[..., :3], encoding.colour, bits), *alpha]


def _encoder_of(codec: Codec) -> _Encoder:
    check_codec(codec)
    return _ENCODERS[codec]


def _pixel_formats(codec: Codec) -> list[str]:
    """Return the pixel formats that PyAV's encoder takes."""
    name = _ENCODERS[codec].name
    try:
        encoder = av.Codec(name, "w")
    except ValueError as error:
        raise FilmError(f"Codec {codec} needs the encoder {name}, which PyAV {av.__version__} lacks: update it "
                        "(python -m pip install --upgrade av) or choose another codec.") from error
    return [known.name for known in encoder.video_formats or ()]
