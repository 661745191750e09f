"""Parts of a video and the sound, subtitles and tags of its source, joined into one file; pictures are copied."""

import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from .clip import Clip
from .errors import FilmError
from .parts import Part

try:
    import av
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

AudioChoice = Literal["keep", "drop"]
AUDIO_CHOICES: tuple[AudioChoice, ...] = get_args(AudioChoice)

_OPUS_RATE = 48_000
_BIT_RATE_OF_CHANNEL = 80_000
# FFmpeg's atempo slows down to half at a time.
_LEAST_TEMPO = Fraction(1, 2)
# What belongs to the source's file, not to what it shows.
_FILE_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}


_Packet: TypeAlias = Any  # av.Packet, which is generic in newer versions only


class _Timed(NamedTuple):
    """A packet and when it comes, in seconds; those of one time are taken by the number of their stream."""

    seconds: Fraction
    stream: int
    number: int
    packet: _Packet


def join(container: OutputContainer, parts: Sequence[Part], time_base: Fraction, clip: Clip, stretch: Fraction,
         audio: AudioChoice) -> list[str]:
    """Write the parts one behind the other, with what goes with them, and return in words what could not be kept.

    Args:
        container: nothing has been written to it yet.
        parts: of the video.
        time_base: seconds that time stamps count in, the parts' starts too.
        clip: the source of sound, subtitles and tags. Sound is copied where the container takes its codec, else it is
            encoded anew.
        stretch: how many times as long as its source the video is. Where that is not 1, sound is stretched at its
            pitch, and subtitles are left out.
        audio: "keep" or "drop".

    Raises:
        OSError: the file can't be written.
    """
    lost: list[str] = []
    source, _ = clip.opened()
    with source:
        container.metadata.update({name: text for name, text in source.metadata.items()
                                   if name.lower() not in _FILE_TAGS})
        streams = [_video(container, parts, time_base)]
        for sound in source.streams.audio if audio == "keep" else ():
            copied = stretch == 1 and _takes(container, sound)
            streams.append(_copied(container, clip, sound) if copied else _encoded(container, clip, sound, stretch))
        for stream in source.streams.subtitles:
            if stretch == 1 and _takes(container, stream):
                streams.append(_copied(container, clip, stream))
            else:
                lost.append(f"subtitles ({_codec(stream) or 'of an unknown kind'}) left out")
        for timed in heapq.merge(*(_numbered(index, packets) for index, packets in enumerate(streams))):
            container.mux(timed.packet)
    return lost


def _numbered(stream: int, packets: Iterator[tuple[Fraction, _Packet]]) -> Iterator[_Timed]:
    for number, (seconds, packet) in enumerate(packets):
        yield _Timed(seconds, stream, number, packet)


def _codec(stream: av.stream.Stream) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context else ""


def _takes(container: OutputContainer, stream: av.stream.Stream) -> bool:
    return _codec(stream) in container.supported_codecs


def _seconds(value: int, timed: _Packet | av.AudioFrame) -> Fraction:
    """Return a time stamp, or a duration, in seconds."""
    return value * (timed.time_base or Fraction(1))


def _video(container: OutputContainer, parts: Sequence[Part], time_base: Fraction
           ) -> Iterator[tuple[Fraction, _Packet]]:
    with av.open(str(parts[0].file)) as first:
        stream = container.add_stream_from_template(first.streams.video[0])
    stream.time_base = time_base
    delays = [_delay(part, time_base) for part in parts]

    def packets() -> Iterator[tuple[Fraction, _Packet]]:
        last = None
        for part, delay in zip(parts, delays, strict=True):
            for packet in _part_packets(part):
                pts, dts, duration = (round(_seconds(value, packet) / time_base)
                                      for value in (packet.pts, packet.dts, packet.duration or 0))
                # A part of few frames is decoded with less delay than others: all are given the longest one. Where
                # times vary, a part's may begin before the last one's are over.
                dts += part.start - max(delays) + delay
                last = dts if last is None else max(dts, last + 1)
                packet.pts, packet.dts, packet.duration = pts + part.start, last, duration
                packet.time_base, packet.stream = time_base, stream
                yield last * time_base, packet

    return packets()


def _delay(part: Part, time_base: Fraction) -> int:
    """Return how long before it is shown a part's first picture is decoded."""
    first = next(_part_packets(part))
    return round(_seconds(first.pts - first.dts, first) / time_base)


def _part_packets(part: Part) -> Iterator[_Packet]:
    with av.open(str(part.file)) as file:
        for packet in file.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                yield packet


def _packets(clip: Clip, index: int) -> Iterator[_Packet]:
    """Yield the packets of one stream of the source, as far as they can be read."""
    source, _ = clip.opened()
    with source:
        packets = source.demux(source.streams[index])
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):  # what the pictures lost by it, the clip says
                return
            yield packet


def _copied(container: OutputContainer, clip: Clip, source: av.stream.Stream
            ) -> Iterator[tuple[Fraction, _Packet]]:
    stream = container.add_stream_from_template(source)
    stream.metadata.update(source.metadata)

    def packets() -> Iterator[tuple[Fraction, _Packet]]:
        for packet in _packets(clip, source.index):
            if packet.dts is None and packet.pts is None:
                continue
            shift = round(clip.start / _seconds(1, packet))
            pts = (packet.pts if packet.pts is not None else packet.dts or 0) - shift
            dts = packet.dts - shift if packet.dts is not None else pts
            packet.pts, packet.dts, packet.stream = pts, dts, stream
            yield _seconds(dts, packet), packet

    return packets()


def _encoded(container: OutputContainer, clip: Clip, source: AudioStream, stretch: Fraction
             ) -> Iterator[tuple[Fraction, _Packet]]:
    codec, rate = ("aac", source.rate) if "aac" in container.supported_codecs else ("libopus", _OPUS_RATE)
    stream = cast("AudioStream", container.add_stream(codec, rate=rate, layout=source.layout.name))
    stream.codec_context.bit_rate = _BIT_RATE_OF_CHANNEL * source.channels
    stream.metadata.update(source.metadata)

    def packets() -> Iterator[tuple[Fraction, _Packet]]:
        for frame in chain(_stretched(_decoded(clip, source.index), stretch), [None]):
            for packet in stream.encode(frame):
                yield _seconds(packet.dts or 0, packet), packet

    return packets()


def _decoded(clip: Clip, index: int) -> Iterator[av.AudioFrame]:
    """Yield the frames of a sound, timed from the clip's start; what can't be decoded is a silence."""
    for packet in _packets(clip, index):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, av.AudioFrame) and frame.pts is not None:
                frame.pts -= round(clip.start / _seconds(1, frame))
                yield frame


def _stretched(frames: Iterator[av.AudioFrame], stretch: Fraction) -> Iterator[av.AudioFrame]:
    """Slow a sound down at its pitch."""
    first = next(frames, None)
    if first is None or stretch == 1:
        yield from chain([first] if first else [], frames)
        return
    graph = av.filter.Graph()
    nodes = [graph.add_abuffer(sample_rate=first.sample_rate, format=first.format.name, layout=first.layout.name,
                               time_base=first.time_base)]
    tempo = 1 / stretch
    while tempo < 1:
        nodes.append(graph.add("atempo", str(float(max(tempo, _LEAST_TEMPO)))))
        tempo /= max(tempo, _LEAST_TEMPO)
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    start, done = _seconds(first.pts or 0, first) * stretch, 0
    for frame in chain([first], frames, [None]):
        graph.push(frame)
        while True:
            try:
                slow = graph.pull()
            except (BlockingIOError, av.EOFError):  # it wants more, or there is no more
                break
            if not isinstance(slow, av.AudioFrame):
                continue
            slow.time_base = Fraction(1, slow.sample_rate)
            slow.pts = round(start * slow.sample_rate) + done
            done += slow.samples
            yield slow
