"""A video file's frames, one by one, with their exact times; what is broken in it is passed over and counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, TypeAlias

import cv2
import numpy as np

from .colour import Colour, Plane, has_matrix, to_rgb
from .errors import FilmError
from .frame_rate import frame_rate
from .frames import Frame
from .scenes import Thumbnail

try:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

Source: TypeAlias = Path | BinaryIO

# How far a time may be from its place in a constant rate: Matroska and others round to milliseconds.
_ROUNDING = Fraction(1, 999)
_MOST_RATE = 1000
_LEAST_FILLED = 0.8
_THUMBNAIL_WIDTH = 128
_PLANAR = {f"yuv{kind}{chroma}p{depth}" for kind in ("", "j") for chroma in (420, 422, 444, 440, 411, 410)
           for depth in ("", "9le", "10le", "12le", "14le", "16le")}


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip: its number among those read, and its time in seconds from the first."""

    number: int
    time: Fraction
    clip: "Clip"
    picture: av.VideoFrame

    def rgb(self) -> Frame:
        """Return the frame (H,W,3) as it is shown: upright, in the clip's size."""
        return self.clip.shown(_rgb(self.picture, self.clip.colour))

    def thumbnail(self) -> Thumbnail:
        """Return the frame small, (h,128,3) uint8 BGR, to compare it with others."""
        width, height = self.picture.width, self.picture.height
        rows = max(8, round(_THUMBNAIL_WIDTH * height / width))
        small = self.picture.reformat(format="bgr24", width=_THUMBNAIL_WIDTH, height=rows, interpolation="AREA")
        return np.asarray(small.to_ndarray(), np.uint8)


@dataclass
class Clip:
    """A video file. Use `open_clip`.

    Attributes:
        source: its path, or the opened file.
        name: what messages call it.
        height, width: of a frame as it is shown, in pixels.
        frame_rate: frames a second, exactly where the rate is constant, else their mean.
        constant: whether the rate is constant; frames may be missing.
        start: the first frame's time stamp in the file, in seconds; frames' times count from it.
        end: when the last frame's time is over, in seconds from the start.
        count: how many frames are in the file.
        missing: how many more it says that it has: it was cut off.
        colour: what its numbers mean.
        bits: bits of a sample.
        sample_aspect_ratio: width of a pixel by its height, as shown.
        faults: what was found broken so far, and how often.
    """

    source: Source
    name: str
    height: int = 0
    width: int = 0
    frame_rate: Fraction = Fraction(0)
    constant: bool = True
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(0)
    count: int = 0
    missing: int = 0
    colour: Colour = field(default_factory=Colour)
    bits: int = 8
    sample_aspect_ratio: Fraction = Fraction(1)
    faults: Counter[str] = field(default_factory=Counter)
    _turns: int = 0

    def frames(self) -> Iterator[ClipFrame]:
        """Yield the frames in order; times rise.

        A frame without a time stamp, or whose time stamp does not rise, comes a frame's time after the one before.
        """
        self.faults.clear()
        time: Fraction | None = None
        for number, picture in enumerate(self._pictures()):
            read = self._time(picture)
            if time is not None and read is not None and read <= time:
                self.faults["time stamps that did not rise, and were mended"] += 1
                read = None
            step = 1 / self.frame_rate
            time = read if read is not None else time + step if time is not None else Fraction(0)
            yield ClipFrame(number, time, self, picture)

    def shown(self, rgb: Frame) -> Frame:
        """Return a decoded frame upright, in the clip's size."""
        upright = np.ascontiguousarray(np.rot90(rgb, self._turns))
        if upright.shape[:2] != (self.height, self.width):
            self.faults[f"frames of another size, scaled to {self.width}x{self.height}"] += 1
            return np.asarray(cv2.resize(upright, (self.width, self.height), interpolation=cv2.INTER_AREA), np.float32)
        return upright

    def opened(self) -> tuple[InputContainer, VideoStream]:
        """Open the file anew, at its beginning."""
        return _opened(self.source, self.name)

    def _pictures(self) -> Iterator[av.VideoFrame]:
        container, stream = self.opened()
        stream.thread_type = "AUTO"
        with container:
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets)
                except StopIteration:
                    return
                except av.FFmpegError:
                    self.faults["breaks after which nothing can be read"] += 1
                    return
                try:
                    decoded = packet.decode()
                except av.EOFError:
                    return
                except av.FFmpegError:
                    self.faults["packets that can't be decoded, and were left out"] += 1
                    continue
                for picture in decoded:
                    if picture.is_corrupt:
                        self.faults["frames with damage in them"] += 1
                    yield picture

    def _time(self, picture: av.VideoFrame) -> Fraction | None:
        if picture.pts is None or picture.time_base is None:
            return None
        time = picture.pts * Fraction(picture.time_base) - self.start
        return Fraction(round(time * self.frame_rate)) / self.frame_rate if self.constant else time


def open_clip(source: Source) -> Clip:
    """Read what a video file is like: its frames' times all, of its frames the first.

    Raises:
        FilmError: there is no such file, or no frame of a video that can be read.
    """
    name = str(source) if isinstance(source, Path) else "The video"
    clip = Clip(source, name)
    stamps, missing, time_base, guess = _scanned(clip)
    clip.count = len(stamps)
    if stamps:
        clip.start = stamps[0] * time_base
    _find_rate(clip, [(stamp - stamps[0]) * time_base for stamp in stamps], guess, time_base)
    first = next(clip._pictures(), None)
    if first is None:
        raise FilmError(f"{name} has no frame that can be read: give a video with one or more.")
    clip.count = max(1, clip.count)
    clip.colour = _colour(first)
    clip.bits = max(component.bits for component in first.format.components)
    clip._turns = round(first.rotation / 90) % 4
    clip.height, clip.width = (first.height, first.width)[::-1 if clip._turns % 2 else 1]
    container, stream = clip.opened()
    with container:
        aspect = Fraction(stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio or 1) or Fraction(1)
    clip.sample_aspect_ratio = 1 / aspect if clip._turns % 2 else aspect
    clip.missing = missing
    return clip


def _opened(source: Source, name: str) -> tuple[InputContainer, VideoStream]:
    try:
        if isinstance(source, Path):
            container = av.open(str(source), "r", metadata_errors="replace")
        else:
            source.seek(0)
            container = av.open(source, "r", metadata_errors="replace")
    except av.FFmpegError as error:
        raise FilmError(f"{name} can't be read as a video ({error.strerror}): give one that is there and whole."
                        ) from error
    pictures = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        container.close()
        raise FilmError(f"{name} has no video in it: give a file that has.")
    return container, streams[0]


def _scanned(clip: Clip) -> tuple[list[int], int, Fraction, Fraction | None]:
    """Return the frames' time stamps, rising; how many frames are missing; the stamps' unit in seconds; the rate."""
    container, stream = clip.opened()
    stamps = set()
    packets = 0
    with container:
        try:
            for packet in container.demux(stream):
                packets += packet.dts is not None or packet.pts is not None  # the last, empty one has neither
                if packet.pts is not None and packet.size and not packet.is_discard:
                    stamps.add(packet.pts)
        except av.FFmpegError:
            pass  # what comes before is used, and `frames` says so
        guess = stream.guessed_rate or stream.average_rate
        missing, time_base = max(0, stream.frames - packets), Fraction(stream.time_base or 1)
    return sorted(stamps), missing, time_base, Fraction(guess) if guess else None


def _find_rate(clip: Clip, times: list[Fraction], guess: Fraction | None, time_base: Fraction) -> None:
    """Set the rate, whether it is constant, and the end of a clip."""
    span = times[-1] if times else Fraction(0)
    mean = Fraction(len(times) - 1) / span if span else None
    tolerance = max(time_base, _ROUNDING)
    for rate in (guess, frame_rate(str(round(float(mean), 3))) if mean else None):
        if rate and 0 < rate <= _MOST_RATE and _fits(times, rate, tolerance):
            clip.frame_rate, clip.constant = rate, True
            break
    else:
        clip.frame_rate, clip.constant = (mean or guess or Fraction(25)).limit_denominator(10_000), False
    clip.end = (round(span * clip.frame_rate) / clip.frame_rate if clip.constant else span) + 1 / clip.frame_rate


def _fits(times: list[Fraction], rate: Fraction, tolerance: Fraction) -> bool:
    """Return whether times lie at places of a constant rate, each at its own, and fill most of them."""
    places = [round(time * rate) for time in times]
    return (all(abs(time - place / rate) <= tolerance for time, place in zip(times, places, strict=True))
            and len(set(places)) == len(places) >= _LEAST_FILLED * (places[-1] + 1))


def _colour(picture: av.VideoFrame) -> Colour:
    """Return a picture's colour tags; where the matrix is missing, what players take by the size."""
    full_range = picture.color_range == 2 or picture.format.name.startswith("yuvj")
    colour = Colour(int(picture.color_primaries), int(picture.color_trc), int(picture.colorspace), full_range)
    if has_matrix(colour):
        return colour
    if picture.format.is_rgb:
        return Colour()
    return colour._replace(matrix=1 if picture.height >= 720 else 6)


def _rgb(picture: av.VideoFrame, colour: Colour) -> Frame:
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


def _samples(plane: av.video.plane.VideoPlane, bits: int) -> Plane:
    buffer = memoryview(plane)
    samples: Plane = np.frombuffer(buffer, np.uint8) if bits <= 8 else np.frombuffer(buffer, np.uint16)
    return samples.reshape(plane.height, -1)[:, :plane.width]
