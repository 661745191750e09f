"""A video file's frames, one by one, with their exact times; what is broken in it is passed over and counted."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import cv2
import numpy as np

from .colour import Colour
from .errors import FilmError
from .frame_rate import frame_rate
from .frames import Frame
from .hdr import NO_HDR, Hdr, read_hdr
from .leaps import Clock, Leaps
from .pictures import MATRICES, UNTAGGED, colour_of, is_transparent, left_out, rgb_of
from .scenes import THUMBNAIL_WIDTH, Thumbnail, thumbnail_rows

try:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

# For names and texts that are no UTF-8; PyAV 19 has no such option, and passes their bytes on.
_READING: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

Source: TypeAlias = Path | BytesIO
Packet: TypeAlias = Any  # av.Packet, which is generic in newer versions only

# How far a time may be from its place in a constant rate: Matroska and others round to milliseconds.
_ROUNDING = Fraction(1, 999)
_LEAST_RATE, _MOST_RATE = Fraction(1, 100), 1000
_MOST_UNTIDY = Fraction(1, 1_000_000)
_LEAST_REGULAR = 0.8
_LEAST_FILLED = 0.5
_MOST_BREAKS = 100
_FRAMES_SEEN = 8  # at the beginning, to tell whether their time stamps are in order, and what they carry
_LEAST_MISSING = 0.15  # seconds; the last packets of sound don't always say how long they last
_LATE = Fraction(1, 2)  # seconds; decoders give a picture so late after damage
_OUT_OF_TIME = "frames out of time, and left out"
_CLOCK_SET_ANEW = 0x0200  # FFmpeg's AVFMT_TS_DISCONT: of broadcasts and discs


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip: its number among those read, and its time in seconds from the first."""

    number: int
    time: Fraction
    clip: "Clip"
    picture: av.VideoFrame

    def rgb(self) -> Frame:
        """Return the frame (H,W,3) as it is shown: upright, in the clip's size.

        Values go a little beyond [0,1] where the video's do, brighter than white for instance.
        """
        if any(part.is_alpha for part in self.picture.format.components) and is_transparent(self.picture):
            self.clip.faults["frames whose transparency was left out"] += 1
        return self.clip.shown(rgb_of(self.picture, self.clip.colour))

    def thumbnail(self) -> Thumbnail:
        """Return the frame small, (h,128,3) uint8 BGR as it is stored, to compare it with others."""
        small = self.picture.reformat(format="bgr24", width=THUMBNAIL_WIDTH, height=self.clip._thumbnail_rows,
                                      interpolation="AREA")
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
        usual: how long a frame is shown as a rule (the median), in seconds.
        start: the first frame's time stamp in the file, in seconds; frames' times count from it.
        end: when the last frame's time is over, in seconds from the start.
        time_base: seconds that the file's time stamps count in.
        count: how many frames are in the file.
        colour: what its numbers mean.
        bits: bits of a sample.
        fine_chroma: whether it has more than one colour for 2x2 pixels.
        hdr: what it says of HDR.
        sample_aspect_ratio: width of a pixel by its height, as shown.
        notes: what was found when it was opened that its reader should know, in words.
        faults: what was found broken so far, and how often.
        leaps: those in the file's time stamps; all times are without them.
    """

    source: Source
    name: str
    height: int = 0
    width: int = 0
    frame_rate: Fraction = Fraction(0)
    constant: bool = True
    usual: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(0)
    time_base: Fraction = Fraction(1)
    count: int = 0
    colour: Colour = field(default_factory=Colour)
    bits: int = 8
    fine_chroma: bool = False
    hdr: Hdr = NO_HDR
    sample_aspect_ratio: Fraction = Fraction(1)
    notes: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    leaps: Leaps = field(default_factory=Leaps)
    _clock: Clock = field(default_factory=lambda: Clock([Fraction(0)]))
    _orientation: tuple[bool, bool, bool] = (False, False, False)
    _by_dts: bool = False  # where time stamps of AVI are those of decoding, in order, and the others are made up
    _zero: Fraction = Fraction(0)  # the first frame's time stamp as frames count, which `start` is but for `_by_dts`
    _thumbnail_rows: int = 0

    def frames(self) -> Iterator[ClipFrame]:
        """Yield the frames in order; times rise, those without a time stamp of use being between their neighbours'."""
        self.faults.clear()
        number = -1
        for number, (picture, time) in enumerate(self._dated()):
            yield ClipFrame(number, time, self, picture)
        gone = self.faults[_OUT_OF_TIME]
        self.faults["packets that gave no frame"] = max(0, self.count - number - 1 - gone)

    def end_of(self, last: ClipFrame) -> Fraction:
        """Return when the last frame's time is over: `end`, or later where time stamps had to be mended."""
        return self.end if self.end > last.time else last.time + 1 / self.frame_rate

    def shown(self, rgb: Frame) -> Frame:
        """Return a decoded frame upright, in the clip's size."""
        transposed, mirrored, upside_down = self._orientation
        upright = rgb.transpose(1, 0, 2) if transposed else rgb
        upright = np.ascontiguousarray(upright[::-1 if upside_down else 1, ::-1 if mirrored else 1])
        if upright.shape[:2] != (self.height, self.width):
            self.faults[f"frames of another size, scaled to {self.width}x{self.height}"] += 1
            return np.asarray(cv2.resize(upright, (self.width, self.height), interpolation=cv2.INTER_AREA), np.float32)
        return upright

    def opened(self) -> tuple[InputContainer, VideoStream]:
        """Open the file anew, at its beginning."""
        return _opened(self.source, self.name)

    def packets(self, container: InputContainer, *streams: av.stream.Stream) -> Iterator[Packet]:
        """Yield what packets of streams can be read; the last one is empty and makes a decoder give all it has."""
        breaks = 0
        while breaks < _MOST_BREAKS:
            try:
                yield from container.demux(*streams)
                return
            except av.FFmpegError:
                breaks += 1
                self.faults["breaks in the file"] = breaks
            except IndexError:  # PyAV's, at the end, where more streams came to light on the way
                break
        last = av.Packet()
        last.stream = streams[0]
        yield last

    def _pictures(self) -> Iterator[av.VideoFrame]:
        container, stream = self.opened()
        stream.thread_type = "AUTO"
        with container:
            for packet in self.packets(container, stream):
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
                    if picture.interlaced_frame:
                        self.faults["interlaced frames, taken as they are"] += 1
                    if int(picture.colorspace) not in MATRICES:
                        self.faults[f"frames with colours of matrix {int(picture.colorspace)}, taken for those of "
                                    f"{self.colour.matrix}"] += 1
                        picture.colorspace = UNTAGGED
                    yield picture

    def _dated(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield the pictures with their times, those left out that come late or have no place before the next one.

        So a wrong time stamp is that of one picture, and moves no other.
        """
        self._clock = self.leaps.clock()
        read = ((picture, self._time(picture)) for picture in self._pictures())
        following = next(read, None)
        latest: Fraction | None = None
        while following:
            (picture, stamp), following = following, next(read, None)
            after = following[1] if following else None
            if latest is None:
                latest = Fraction(0)
            elif stamp is not None and stamp > latest and not (after is not None and latest < after < stamp):
                latest = stamp
            else:
                if after is None or after <= latest:
                    after = None
                between = self._between(latest, after)
                if between is None or (stamp is not None and after is not None and stamp < latest - _LATE):
                    self.faults[_OUT_OF_TIME] += 1
                    continue
                if stamp is not None:
                    self.faults["time stamps that did not rise, and were mended"] += 1
                latest = between
            yield picture, latest

    def _between(self, before: Fraction, after: Fraction | None) -> Fraction | None:
        """Return a frame's time after the one before; None where another frame's is as early."""
        unit = 1 / self.frame_rate if self.constant else self.time_base
        time = before + max(1, round(1 / self.frame_rate / unit)) * unit
        if after is None or time < after:
            return time
        time = before + (after - before) // (2 * unit) * unit
        return time if time > before else None

    def _time(self, picture: av.VideoFrame) -> Fraction | None:
        stamp = picture.dts if self._by_dts else picture.pts
        if stamp is None or picture.time_base is None:
            return None
        shown = stamp * _exact(picture.time_base)
        closed = self.leaps.closed(shown + self._clock.offset(shown))
        if closed is None:
            self.faults["time stamps that leap away, and were mended"] += 1
            return None
        time = closed - self._zero
        return Fraction(round(time * self.frame_rate)) / self.frame_rate if self.constant else time


def open_clip(source: Source) -> Clip:
    """Read what a video file is like: its frames' times all, of its frames the first.

    Raises:
        FilmError: there is no such file, or no frame of a video that can be read.
    """
    name = str(source) if isinstance(source, Path) else "The video"
    clip = Clip(source, name)
    first, stamps, unkept = None, [], set()
    for picture in islice(clip._pictures(), _FRAMES_SEEN):
        first = first or picture
        unkept.update(left_out(picture))  # not of every frame: PyAV's side data hold their frame until gc comes by
        stamps.append((picture.pts, picture.dts))
    if first is None:
        raise FilmError(f"{name} has no frame that can be read: give a video with one or more.")
    pts, dts = zip(*stamps, strict=True)
    clip._by_dts = not _rise(pts) and _rise(dts)
    _find_times(clip, dts if clip._by_dts else pts)
    container, stream = clip.opened()
    with container:
        context = stream.codec_context
        aspect = _exact(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1) or Fraction(1)
        clip.colour = colour_of(first, int(context.color_primaries), int(context.color_trc))
        if "1" in (stream.metadata.get(name) for name in ("alpha_mode", "ALPHA_MODE")):  # a second picture of WebM's
            clip.notes.append("transparency left out")
    clip.notes += [f"{what} left out" for what in sorted(unkept)]
    clip.bits = max(component.bits for component in first.format.components)
    clip.hdr = read_hdr(first.side_data)
    clip.fine_chroma = any(part.width > (first.width + 1) // 2 or part.height > (first.height + 1) // 2
                           for part in first.format.components[1:2])
    clip._thumbnail_rows = thumbnail_rows(first.height, first.width)
    clip._orientation = _orientation(first)
    transposed = clip._orientation[0]
    clip.height, clip.width = (first.height, first.width)[::-1 if transposed else 1]
    clip.sample_aspect_ratio = 1 / aspect if transposed else aspect
    return clip


def _orientation(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether rows are to become columns, and then left be right, and top bottom, as FFmpeg's matrix says."""
    matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return (True, c < 0, b < 0) if abs(b) > abs(a) else (False, a < 0, d < 0)


def _rise(stamps: Sequence[int | None]) -> bool:
    """Return whether time stamps rise, those left out that are not there."""
    return all(before < after for before, after in pairwise(stamp for stamp in stamps if stamp is not None))


def _exact(rational: Any) -> Fraction:
    """Return a rational of PyAV's, which have a type of their own from 19 on."""
    return Fraction(rational)


def _opened(source: Source, name: str) -> tuple[InputContainer, VideoStream]:
    try:
        if isinstance(source, Path):
            container = av.open(str(source.absolute()), "r", **_READING)
        else:  # the bytes are shared, the place in them is not
            container = av.open(BytesIO(source.getvalue()), "r", **_READING)
    except av.FFmpegError as error:
        raise FilmError(f"{name} can't be read as a video ({error.strerror}): give one that is there and whole."
                        ) from error
    pictures = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        container.close()
        raise FilmError(f"{name} has no video in it: give a file that has.")
    return container, streams[0]


def _find_times(clip: Clip, beginning: Sequence[int | None]) -> None:
    """Set what the time stamps tell: start, end, count, rate, whether it is constant, and what is missing.

    Args:
        clip: without them.
        beginning: the time stamps of the first few frames, as far as they have some.
    """
    container, stream = clip.opened()
    stamps: dict[int, int] = {}  # and how long they last
    packets, end = 0, 0.0
    clip.leaps = Leaps(broadcast=bool(container.format.flags & _CLOCK_SET_ANEW))
    with container:
        clip.time_base = _exact(stream.time_base or 1)
        guess = _tidied(_exact(stream.guessed_rate or stream.average_rate or 25), clip.time_base)
        for packet in clip.packets(container, *container.streams):
            stamp, offset = packet.dts if packet.pts is None else packet.pts, Fraction(0)
            if stamp is not None:
                begin, duration = (float(value * packet.time_base) for value in (stamp, packet.duration or 0))
                end = max(end, begin + duration)
                if packet.stream.type in ("video", "audio"):
                    usual = float(1 / guess) if packet.stream == stream else 0
                    offset = clip.leaps.see(packet.stream_index, begin, duration, usual)
            if packet.size and packet.stream == stream:
                packets += 1
                if stamp is not None and not packet.is_discard:
                    stamps[stamp + round(offset / clip.time_base)] = packet.duration or 0
        declared, length, kind = stream.frames, (container.duration or 0) / av.time_base, container.format.name
    # Streams without a container have no time stamps; others lack those of some frames at the beginning.
    lacking, stamp = next(((number, stamp) for number, stamp in enumerate(beginning) if stamp is not None), (0, 0))
    clip.leaps.close()
    clip.notes += ["a clock that was set back went on"] * (len(clip.leaps.offsets) > 1)
    clip.notes += [f"a leap of {seconds:.0f} s in the time stamps was closed" for seconds in clip.leaps.seconds]
    closed = [clip.leaps.closed(stamp * clip.time_base) for stamp in sorted(stamps)]
    known = [time for time in closed if time is not None]
    first = clip.leaps.closed(stamp * clip.time_base)
    clip._zero = (stamp * clip.time_base if first is None else first) - lacking / guess
    clip.start = min(known, default=Fraction(0)) if clip._by_dts else clip._zero
    times = [number / guess for number in range(lacking or 1 if stamps else max(1, packets))]
    times += [time - clip.start for time in known if time - clip.start > times[-1]]
    clip.count = len(times) + len(closed) - len(known)
    _find_rate(clip, times, guess)
    if not clip.constant and stamps[max(stamps)]:
        clip.end = times[-1] + stamps[max(stamps)] * clip.time_base
    # MP4 says exactly how many frames it has; AVI, Matroska, FLV and fragments of MP4 how long they are.
    missing, whole = declared - packets, "mp4" in kind and declared > 0
    least = 0 if whole or kind == "avi" else _LEAST_MISSING * clip.frame_rate
    if kind == "avi":
        length = float(declared / guess)
    if not whole and any(name in kind for name in ("avi", "matroska", "flv", "mp4")):
        missing = round((length - end) * clip.frame_rate)
    if missing > least:
        clip.notes.append(f"the file was cut off and lacks {missing} frames")


def _tidied(rate: Fraction, time_base: Fraction) -> Fraction:
    """Return a rate as it is meant where the file can't say it exactly: Matroska's 19001/317 is 60000/1001."""
    if (1 / rate / time_base).denominator == 1:
        return rate
    tidy = frame_rate(str(round(float(rate), 3))) if rate > _ROUNDING else rate
    return tidy if abs(tidy - rate) < rate * _MOST_UNTIDY else rate


def _find_rate(clip: Clip, times: list[Fraction], guess: Fraction) -> None:
    """Set the rate, whether it is constant, and the end of a clip."""
    span = times[-1]
    mean = Fraction(len(times) - 1) / span if span else None
    tolerance = max(clip.time_base, _ROUNDING)
    for rate in (guess, frame_rate(str(round(float(mean), 3))) if mean and mean > _ROUNDING else None):
        if rate and 0 < rate <= _MOST_RATE and _fits(times, rate, tolerance):
            clip.frame_rate, clip.constant = rate, True
            break
    else:
        clip.frame_rate, clip.constant = max((mean or guess).limit_denominator(10_000), _LEAST_RATE), False
    clip.usual = median([after - before for before, after in pairwise(times)] or [1 / clip.frame_rate])
    if clip.constant and (lacking := round(span * clip.frame_rate) + 1 - clip.count):
        clip.notes.append(f"{lacking} frames are missing in the file, and were made")
    clip.end = (round(span * clip.frame_rate) / clip.frame_rate if clip.constant else span) + 1 / clip.frame_rate


def _fits(times: list[Fraction], rate: Fraction, tolerance: Fraction) -> bool:
    """Return whether times lie at places of a constant rate, each at its own, most of them one after the other."""
    places = [round(time * rate) for time in times]
    steps = [after - before for before, after in pairwise(places)]
    return (all(abs(time - place / rate) <= tolerance for time, place in zip(times, places, strict=True))
            and min(steps, default=1) > 0 and steps.count(1) >= _LEAST_REGULAR * len(steps)
            and len(places) >= _LEAST_FILLED * places[-1])
