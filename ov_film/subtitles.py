"""Text subtitles from one codec into another, by FFmpeg's decoders and encoders."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from .clip import Packet
from .errors import FilmError

try:
    import av
    from av.container import OutputContainer
    from av.subtitles.codeccontext import SubtitleCodecContext
    from av.subtitles.stream import SubtitleStream
    from av.subtitles.subtitle import AssSubtitle, SubtitleSet
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

_TEXTS = ("subrip", "text", "mov_text", "webvtt", "ass", "ssa")
_CODEC_OF_CONTAINER = {"mp4": "mov_text", "mov": "mov_text", "webm": "webvtt", "matroska": "subrip"}
_LASTS = 5  # seconds, where a subtitle doesn't say how long
# A line of FFmpeg's is number, layer, style, name, three margins, effect, text.
_FIELDS = 8
_DRAWING = re.compile(rb"\{[^}]*\\p[1-9]")  # its text is the outline of a shape
# FFmpeg's encoder lets through what a player takes for a tag of its own.
_STRAY = re.compile(rb"<(?!/?[bui]>)")


def codec_to_convert_to(container: OutputContainer, codec: str) -> str | None:
    """Return the codec that a container takes text in, where subtitles of a codec are text; None where they can't be.

    From PyAV 16.1 on there are encoders of subtitles.
    """
    if codec not in _TEXTS or not hasattr(SubtitleCodecContext, "encode_subtitle"):
        return None
    return _CODEC_OF_CONTAINER[container.format.name]


def add_subtitles(container: OutputContainer, source: SubtitleStream, codec: str) -> SubtitleStream:
    """Add a stream for the subtitles of another, of a codec that `codec_to_convert_to` returned."""
    stream = cast("SubtitleStream", container.add_stream(codec))
    source.codec_context.open(strict=False)
    stream.codec_context.subtitle_header = source.codec_context.subtitle_header
    return stream


def converted(packets: Iterator[Packet], stream: SubtitleStream, faults: Counter[str]) -> Iterator[Packet]:
    """Yield packets of subtitles in a stream's codec, in the time base that they had; count what can't be decoded.

    Those shown at the same time are joined, because MP4 has one at a time.
    """
    for line in _in_turn(_lines(packets, faults)):
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(line.text, 0, 0))
        if stream.codec_context.name == "webvtt":
            packet = av.Packet(_STRAY.sub(b"&lt;", bytes(packet)))
        if packet.size:
            packet.pts = packet.dts = line.start
            packet.duration, packet.time_base = line.end - line.start, line.time_base
            yield packet


class _Line(NamedTuple):
    """What is shown from start until before end, as FFmpeg writes ASS."""

    start: int
    end: int
    text: bytes
    time_base: Any


def _lines(packets: Iterator[Packet], faults: Counter[str]) -> Iterator[_Line]:
    for packet in packets:
        if packet.pts is None or not packet.size:
            continue
        end = packet.pts + (packet.duration or round(_LASTS / packet.time_base))
        try:
            subtitles = packet.stream.codec_context.decode2(packet)
        except av.FFmpegError:
            faults["subtitles that can't be decoded, and were left out"] += 1
            continue
        for subtitle in subtitles or ():
            if isinstance(subtitle, AssSubtitle) and not _DRAWING.search(subtitle.ass):
                yield _Line(packet.pts, end, subtitle.ass, packet.time_base)


def _in_turn(lines: Iterator[_Line]) -> Iterator[_Line]:
    """Yield what is shown, each until something else is."""
    showing: list[_Line] = []
    for line in lines:
        yield from _until(line.start, showing)
        showing = [*(shown._replace(start=line.start) for shown in showing if shown.end > line.start), line]
    yield from _until(max((line.end for line in showing), default=0), showing)


def _until(end: int, showing: list[_Line]) -> Iterator[_Line]:
    """Yield what is shown until a time, of lines that begin together."""
    start = showing[0].start if showing else end
    for change in sorted({min(line.end, end) for line in showing}):
        shown = [line for line in showing if line.end > start]
        if change > start:
            texts = [line.text.split(b",", _FIELDS)[-1] for line in shown[1:]]
            yield shown[0]._replace(start=start, end=change, text=b"\\N{\\r}".join([shown[0].text, *texts]))
        start = change
