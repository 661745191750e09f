"""Parts of a video and the sound, subtitles and tags of its source, joined into one file; pictures are copied."""

import errno
import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from typing import Literal, NamedTuple, cast, get_args

import numpy as np

from .clip import Clip, Packet
from .encoding import hides
from .errors import FilmError
from .parts import Part
from .slowing import Samples, Slowed
from .subtitles import add_subtitles, codec_to_convert_to, converted

try:
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.subtitles.stream import SubtitleStream
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

AudioChoice = Literal["keep", "drop"]
AUDIO_CHOICES: tuple[AudioChoice, ...] = get_args(AudioChoice)

# Of sound that is encoded anew, by AAC or Opus.
_RATE = 48_000
_BIT_RATE_OF_CHANNEL = 80_000
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
# The coarsest steps that the time stamps of what is copied count in: AVI has some as long as a packet.
_MOST_STEP = Fraction(1, 90_000)
# What belongs to the source's file, not to what it shows.
_FILE_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
# What MP4 and MOV have a place for; other tags are written as QuickTime's keys, and then these are too.
_USUAL_TAGS = {"title", "artist", "album", "comment", "genre", "date", "copyright", "creation_time", "location"}
# What FFmpeg says that these take, and then does not write.
_REFUSED = {"mov": ("flac", "opus", "truehd"), "mp4": ("truehd",)}
# Of streams, and what FFmpeg calls them when it writes; of MP4 it reads a title as a name.
_STREAM_TAGS = {"language": "language", "title": "title", "name": "title", "handler_name": "handler_name"}
# QuickTime knows these languages by their other code of ISO 639-2 alone, and FFmpeg drops the usual one.
_QUICKTIMES = {"deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb", "mkd": "mac"}
_NAMES = {"subtitle": "subtitles", "audio": "sound"}


class _Timed(NamedTuple):
    """A packet and when it comes, in seconds; those of one time are taken by the number of their stream."""

    seconds: Fraction
    stream: int
    number: int
    packet: Packet


@contextmanager
def opened_part(part: Part) -> Iterator[InputContainer]:
    """Yield the opened file of a part.

    Raises:
        FilmError: it can't be read, as after a power failure.
    """
    try:
        with av.open(str(part.file.absolute())) as file:
            yield file
    except av.FFmpegError as error:
        raise FilmError(f"{part.file} is damaged ({error.strerror}): remove that file and start again; the other parts "
                        "are kept.") from error


def join(container: OutputContainer, parts: Sequence[Part], time_base: Fraction, clip: Clip, stretch: Fraction,
         audio: AudioChoice) -> list[str]:
    """Write the parts one behind the other, with what goes with them, and return in words what could not be kept.

    Args:
        container: nothing has been written to it yet.
        parts: of the video.
        time_base: seconds that time stamps count in, the parts' starts too.
        clip: the source of sound, subtitles and tags. Sound and subtitles are copied where the container takes their
            codec; else sound is encoded anew, and text is converted.
        stretch: how many times as long as its source the video is. Where that is not 1, sound is stretched at its
            pitch.
        audio: "keep" or "drop".

    Raises:
        FilmError: the container doesn't take the pictures with what goes with them.
        OSError: the file can't be written.
    """
    lost: list[str] = []
    source, pictures = clip.opened()
    with source:
        _tag(container, source)
        chapters = source.chapters() if hasattr(source, "chapters") else []  # from PyAV 16 on
        starts = [chapter["start"] * (chapter["time_base"] or Fraction(1)) for chapter in chapters]
        lead = _lead(clip, source, audio, time_base / stretch) * stretch
        end = round(clip.end * stretch / time_base)
        streams = [_video(container, parts, time_base, lead, end, pictures)]
        for stream in source.streams:
            about = f"{_NAMES.get(stream.type, stream.type)} ({_codec(stream) or 'of an unknown kind'})"
            if stream == pictures or (stream.type == "audio" and audio == "drop") or _is_titles(stream, starts):
                continue
            codec = codec_to_convert_to(container, _codec(stream))
            if _takes(container, stream) and (stretch == 1 or stream.type == "subtitle"):
                streams.append(_copied(container, clip, stream, stretch, lead))
            elif codec and isinstance(stream, SubtitleStream):
                streams.append(_converted(container, clip, stream, codec, stretch, lead))
                lost.append(f"{about} became {codec}")
            elif isinstance(stream, AudioStream) and stream.codec_context:
                streams.append(_encoded(container, clip, stream, stretch, lead))
                if stretch == 1:
                    lost.append(f"{about} encoded anew")
                if stream.channels not in _LAYOUTS:
                    lost.append(f"its {stream.channels} channels mixed to 2")
            else:
                lost.append(f"{about} left out")
        for chapter in chapters:
            chapter["start"], chapter["end"] = round(chapter["start"] * stretch), round(chapter["end"] * stretch)
        if chapters:
            container.set_chapters(chapters)
        for timed in heapq.merge(*(_numbered(index, packets) for index, packets in enumerate(streams))):
            _mux(container, timed, clip)
    return lost


def _tag(container: OutputContainer, source: InputContainer) -> None:
    """Give a file the tags of its source."""
    tags = {name: text for name, text in source.metadata.items() if name.lower() not in _FILE_TAGS}
    if "creation_time" in tags:  # of two places in the file, which FFmpeg reads as one text
        tags["creation_time"] = tags["creation_time"].partition(";")[0]
    container.metadata.update(tags)
    usual = all(name.lower().partition("-")[0] in _USUAL_TAGS for name in tags)  # location-eng
    if container.format.name in ("mp4", "mov") and not usual:
        container.options["movflags"] = "use_metadata_tags"


def _mux(container: OutputContainer, timed: _Timed, clip: Clip) -> None:
    """Write a packet; a damaged one of sound or subtitles may be refused."""
    try:
        container.mux(timed.packet)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno != errno.EPERM:  # which muxers give for what they don't take
            raise
        if timed.stream == 0:
            raise FilmError(f"The pictures can't be joined with what goes with them ({error.strerror}): choose another "
                            "suffix, or leave the sound out.") from error
        clip.faults["packets of sound or subtitles that were damaged, and left out"] += 1


def _lead(clip: Clip, source: InputContainer, audio: AudioChoice, step: Fraction) -> Fraction:
    """Return how long the sound is heard before the first picture, in seconds of the source and whole frames."""
    starts = [clip.leaps.closed(stream.start_time * stream.time_base) for stream in source.streams.audio
              if stream.start_time is not None and stream.time_base and audio == "keep"]
    lead = clip.start - Fraction(min((start for start in starts if start is not None), default=clip.start))
    return max(0, round(lead / step)) * step


def _describe(stream: av.stream.Stream, source: av.stream.Stream) -> None:
    """Give a stream the source's name, language and disposition."""
    for name, text in source.metadata.items():
        if tag := _STREAM_TAGS.get(name.lower()):
            stream.metadata[tag] = text
    language = stream.metadata.get("language", "")
    if stream.container.format.name == "mov" and language in _QUICKTIMES:
        stream.metadata["language"] = _QUICKTIMES[language]
    stream.disposition = source.disposition.value  # type: ignore[assignment]  # PyAV 16 takes no other


def _is_titles(stream: av.stream.Stream, starts: Sequence[Fraction]) -> bool:
    """Return whether a stream holds the titles of chapters that start so: MP4 and MOV have a track of texts for them.

    FFmpeg makes chapters of it, and shows it as data as well. From PyAV 17 on it can be told from other data.
    """
    entries = getattr(stream, "index_entries", ()) if stream.type == "data" else ()
    return bool(starts) and [entry.timestamp * stream.time_base for entry in entries] == starts


def _numbered(stream: int, packets: Iterator[tuple[Fraction, Packet]]) -> Iterator[_Timed]:
    for number, (seconds, packet) in enumerate(packets):
        yield _Timed(seconds, stream, number, packet)


def _codec(stream: av.stream.Stream) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context else ""


def _takes(container: OutputContainer, stream: av.stream.Stream) -> bool:
    """Return whether a stream of sound or subtitles can be copied."""
    codec = _codec(stream)
    if stream.type not in ("audio", "subtitle") or not stream.codec_context:
        return False
    # PyAV lists names of decoders and encoders, not all of which are their codec's: DTS has dca, PGS pgssub.
    if container.supported_codecs.isdisjoint((codec, stream.codec_context.codec.name)):
        return False
    if isinstance(stream, AudioStream) and "channels" in stream.layout.name and stream.channels not in _LAYOUTS:
        return False
    return codec not in _REFUSED.get(container.format.name, ())


def _seconds(value: int, timed: Packet | av.AudioFrame) -> Fraction:
    """Return a time stamp, or a duration, in seconds."""
    return value * (timed.time_base or Fraction(1))


def _video(container: OutputContainer, parts: Sequence[Part], time_base: Fraction, lead: Fraction, end: int,
           source: av.stream.Stream) -> Iterator[tuple[Fraction, Packet]]:
    with opened_part(parts[0]) as first:
        # Opaque: by the decoder, which need not have the encoder's name.
        stream = container.add_stream_from_template(first.streams.video[0], opaque=True)
        if container.format.name in ("mp4", "mov"):  # hvc1, say; the muxer's own choice is hev1
            stream.codec_context.codec_tag = first.streams.video[0].codec_context.codec_tag
    stream.time_base = time_base
    mean = sum(part.frames for part in parts) / (end * time_base)
    stream.codec_context.framerate = mean.limit_denominator(100_000)  # Matroska would say 1 / time_base
    _describe(stream, source)
    begin = round(lead / time_base)
    delays = [_delay(part, time_base) for part in parts]

    def packets() -> Iterator[tuple[Fraction, Packet]]:
        last, held, over = None, None, begin + end
        for part, delay in zip(parts, delays, strict=True):
            for packet in _part_packets(part):
                pts, dts, duration = (round(_seconds(value, packet) / time_base)
                                      for value in (packet.pts, packet.dts, packet.duration or 0))
                # A part of few frames is decoded with less delay than others: all are given the longest one. Where
                # times vary, a part's may begin before the last one's are over.
                dts += begin + part.start - max(delays) + delay
                last = dts if last is None else max(dts, last + 1)
                packet.pts, packet.dts, packet.duration = begin + pts + part.start, last, duration
                packet.time_base, packet.stream = time_base, stream
                packet.duration = min(duration, max(1, begin + end - packet.pts))  # a part's last one may be too long
                over = max(over, packet.pts + 1)
                if held is not None:
                    yield held.dts * time_base, held
                held = packet
        if held is not None:
            if hides(container):  # MP4 ends when the last packet has been decoded; times that vary may then go on
                held.duration = max(1, over - max(delays) - held.dts)
            yield held.dts * time_base, held

    return packets()


def _delay(part: Part, time_base: Fraction) -> int:
    """Return how long before it is shown a part's first picture is decoded."""
    first = next(_part_packets(part))
    return round(_seconds(first.pts - first.dts, first) / time_base)


def _part_packets(part: Part) -> Iterator[Packet]:
    with opened_part(part) as file:
        for packet in file.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                yield packet


def _packets(clip: Clip, index: int) -> Iterator[Packet]:
    """Yield the packets of one stream of the source, as far as they can be read; their time stamps rise.

    One that leaps ahead of the next is left out; one that doesn't rise follows the one before, as with pictures. Larger
    leaps are closed.
    """
    source, _ = clip.opened()
    last, duration, clock = None, 1, clip.leaps.clock()
    with source:
        if index >= len(source.streams):  # FLV's come to light one by one
            return
        for packet, following in pairwise(chain(clip.packets(source, source.streams[index]), [None])):
            read, next_stamp = _stamp(packet), _stamp(following) if following else None
            if read is not None:
                begin = read * packet.time_base
                closed = clip.leaps.closed(begin + clock.offset(begin))
                if closed is None or (next_stamp is not None and next_stamp < read):
                    clip.faults["packets of sound or subtitles out of time, and left out"] += 1
                    continue
                stamp = round(closed / packet.time_base)
                # Subtitles, and packets shorter than the time base tells: TrueHD's in Matroska.
                together = stamp == last and (packet.stream.type == "subtitle" or (packet.duration or 0) <= 1)
                time = stamp if last is None or stamp > last or together else last + duration
                packet.pts, packet.dts = time + (packet.pts - read if packet.pts is not None else 0), time
                last, duration = time, max(1, packet.duration or 0)
            yield packet


def _stamp(packet: Packet) -> int | None:
    stamp: int | None = packet.pts if packet.dts is None else packet.dts
    return stamp


def _copied(container: OutputContainer, clip: Clip, source: av.stream.Stream, stretch: Fraction, lead: Fraction
            ) -> Iterator[tuple[Fraction, Packet]]:
    stream = container.add_stream_from_template(source, opaque=True)
    _describe(stream, source)
    if isinstance(stream, AudioStream) and stream.layout.name.endswith("channels"):  # MP4 wants to know which
        stream.codec_context.layout = _LAYOUTS[stream.channels]
    return _retimed(container, clip, _packets(clip, source.index), stream, stretch, lead)


def _converted(container: OutputContainer, clip: Clip, source: SubtitleStream, codec: str, stretch: Fraction,
               lead: Fraction) -> Iterator[tuple[Fraction, Packet]]:
    stream = add_subtitles(container, source, codec)
    _describe(stream, source)
    return _retimed(container, clip, converted(_packets(clip, source.index), stream, clip.faults),
                    stream, stretch, lead)


def _retimed(container: OutputContainer, clip: Clip, packets: Iterator[Packet], stream: av.stream.Stream,
             stretch: Fraction, lead: Fraction) -> Iterator[tuple[Fraction, Packet]]:
    """Yield packets of sound or subtitles when the pictures that they belong to are shown, for a stream."""
    begin, last = clip.start * stretch - lead, None
    for packet in packets:
        if packet.pts is None:
            continue
        # What an edit list hides; a decoder begins best with it, but it stays hidden only before the beginning.
        if packet.is_discard and not (hides(container) and _seconds(packet.pts, packet) * stretch < begin):
            continue
        steps = math.ceil(packet.time_base / _MOST_STEP)
        step = Fraction(packet.time_base) / steps
        shift = round(begin / step)
        pts, dts, duration = (round(value * steps * stretch) for value in (packet.pts, packet.dts,
                                                                           packet.duration or 0))
        pts, dts = pts - shift, dts - shift
        if stream.type == "subtitle" and dts < 0:  # which would move all the rest
            if duration and pts + duration <= 0:
                continue
            pts, dts, duration = 0, 0, max(0, pts + duration)
        if stream.type == "audio" and last is not None and dts <= last:  # MP4 takes no two of one time
            pts, dts = pts + last + 1 - dts, last + 1
        last = dts
        packet.pts, packet.dts, packet.duration = pts, dts, duration
        packet.time_base, packet.stream = step, stream
        yield packet.dts * step, packet


def _encoded(container: OutputContainer, clip: Clip, source: AudioStream, stretch: Fraction, lead: Fraction
             ) -> Iterator[tuple[Fraction, Packet]]:
    layout = _LAYOUTS.get(source.channels, "stereo")
    codec = "aac" if "aac" in container.supported_codecs else "libopus"
    stream = cast("AudioStream", container.add_stream(codec, rate=_RATE, layout=layout))
    stream.codec_context.bit_rate = _BIT_RATE_OF_CHANNEL * stream.codec_context.channels
    _describe(stream, source)

    def packets() -> Iterator[tuple[Fraction, Packet]]:
        for frame in chain(_stretched(_decoded(clip, source.index), clip.start, stretch, lead), [None]):
            for packet in stream.encode(frame):
                yield _seconds(packet.dts or 0, packet), packet

    return packets()


def _decoded(clip: Clip, index: int) -> Iterator[av.AudioFrame]:
    """Yield the frames of a sound that can be decoded."""
    for packet in _packets(clip, index):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            clip.faults["packets of sound that can't be decoded, and became silence"] += 1
            continue
        yield from (frame for frame in frames if isinstance(frame, av.AudioFrame) and frame.pts is not None)


def _stretched(frames: Iterator[av.AudioFrame], start: Fraction, stretch: Fraction,
               lead: Fraction) -> Iterator[av.AudioFrame]:
    """Slow a sound down at its pitch, gaps in it filled with silence; it then begins where its time has moved to."""
    first = next(frames, None)
    if first is None:
        return
    graph = av.filter.Graph()
    graph.link_nodes(graph.add_abuffer(sample_rate=first.sample_rate, format=first.format.name,
                                       layout=first.layout.name, time_base=first.time_base),
                     graph.add("aresample", f"{_RATE}:async=1:min_hard_comp=0.01:out_sample_fmt=flt"),
                     graph.add("abuffersink")).configure()
    channels = first.layout.nb_channels
    slowed = Slowed(channels, stretch)
    begin = over = _seconds(first.pts or 0, first)
    done = round(((begin - start) * stretch + lead) * _RATE)
    for frame in chain([first], frames, [None]):
        if frame:
            over = _seconds(frame.pts or 0, frame) + Fraction(frame.samples, frame.sample_rate)
        graph.push(frame)
        # Packed: of eight channels in planes of their own, PyAV sees nine.
        parts = [slowed.push(cast("Samples", heard.to_ndarray().reshape(-1, channels).T)) for heard in _pulled(graph)]
        if not frame:
            parts.append(slowed.finish(round((over - begin) * stretch * _RATE)))
        for samples in parts:
            if samples.size:
                packed = np.ascontiguousarray(samples.T).reshape(1, -1)
                part = av.AudioFrame.from_ndarray(packed, "flt", first.layout.name)
                part.sample_rate, part.time_base, part.pts = _RATE, Fraction(1, _RATE), done
                done += part.samples
                yield part


def _pulled(graph: av.filter.Graph) -> Iterator[av.AudioFrame]:
    """Yield the sound that is through a graph."""
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, av.EOFError):  # it wants more, or there is no more
            return
        if isinstance(frame, av.AudioFrame):
            yield frame
