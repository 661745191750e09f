"""A video in, a video with more frames out: decoded, interpolated and encoded frame by frame."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from .clip import Clip, ClipFrame, Source, open_clip
from .encoding import (
    CODECS,
    Codec,
    Encoder,
    Encoding,
    Quality,
    check_codec,
    check_container,
    crf_of,
    holds_aspect,
    open_container,
    takes_size,
)
from .errors import FilmError
from .files import remove_leftovers, unwritable, written_whole
from .frames import Frame, bridge
from .model import METHODS, End, FilmModel, Method, check_method
from .parts import Parts, opened_parts
from .remux import AUDIO_CHOICES, AudioChoice, join, opened_part
from .retiming import Clock, Gap, Retiming, gaps
from .words import counted

# How many frames a killed run may have to make again, and how far apart keyframes are at most.
_PART_FRAMES = 60

AutoMethod = Literal["auto"] | Method
AUTO_METHODS: tuple[AutoMethod, ...] = ("auto", *METHODS)
AutoCodec = Literal["auto"] | Codec
AUTO_CODECS: tuple[AutoCodec, ...] = ("auto", *CODECS)
OnFrame = Callable[[int, int, Frame], None]


@dataclass
class VideoReport:
    """What became of a clip.

    Attributes:
        path: the new clip.
        method: how times between the frames were reached.
        frame_rate: frames a second of the new clip.
        frames, source_frames: how many it has, and how many were read.
        cuts: how many scene cuts were found.
        duplicates: how many frames were dropped as such.
        resumed: how many frames an earlier run had made.
        notes: what was lost or changed, in words.
    """

    path: Path
    method: Method
    frame_rate: Fraction
    frames: int = 0
    source_frames: int = 0
    cuts: int = 0
    duplicates: int = 0
    resumed: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line for people."""
        counts = ((self.cuts, f"scene cuts: {self.cuts}"), (self.duplicates, f"duplicates dropped: {self.duplicates}"),
                  (self.resumed, f"{counted(self.resumed, 'frame')} of an earlier run"))
        return "; ".join([f"{counted(self.source_frames, 'frame')} became {self.frames}, "
                          f"{float(self.frame_rate):.6g} a second, {self.method}",
                          *(text for count, text in counts if count), *self.notes])


def interpolate_video(
    source: Source,
    output: Path,
    model: FilmModel,
    retiming: Retiming,
    *,
    method: AutoMethod = "auto",
    codec: AutoCodec = "auto",
    quality: Quality = "high",
    audio: AudioChoice = "keep",
    parts_folder: Path | None = None,
    on_frame: OnFrame | None = None,
) -> VideoReport:
    """Make a clip with more frames a second, or a longer one, out of a video file.

    Memory does not grow with the clip. Frames of the source are decoded, converted and encoded, else unchanged. What is
    done is kept in parts until all is: a run that was stopped goes on where it stopped when it is started again with
    the same arguments. The output appears whole or not at all.

    Args:
        source: a video file, or its opened bytes.
        output: the file to write; its suffix says the container.
        model: makes the frames.
        retiming: how many, and where none.
        codec: "auto" is h264 (for more than 8 bits: h265; in WebM: vp9, of more than 8 bits: av1). Colours are tagged
            and bits kept as in the source, as far as the codec can; else the report says so.
        quality: stands for the codec's CRF.
        method: "auto" is "recursive" where halving comes to every time in three steps at most, else "direct".
        audio: "keep" (in slow motion it is stretched at its pitch) or "drop".
        parts_folder: where to keep parts; None is a hidden folder beside the output.
        on_frame: called after each frame with how many are done, how many there will be, and the frame (H,W,3); what
            it raises stops the run.

    Raises:
        FilmError: the source can't be read, the output can't be written or is being made by another run, or an argument
            is out of range.
    """
    _check_output(source, output)
    if audio not in AUDIO_CHOICES:
        raise FilmError(f"Audio is {audio!r}: choose one of {', '.join(AUDIO_CHOICES)}.")
    check_method(method, AUTO_METHODS)
    check_codec(codec, AUTO_CODECS)
    clip = open_clip(source)
    clock = Clock(clip, retiming)
    encoding = _encoding(output, clip, codec, quality)
    encoding.exact_rate(clock.frame_rate)
    if method == "auto":
        method = "recursive" if clock.dyadic and not retiming.drop_duplicates else "direct"
    report = VideoReport(output, method, clock.frame_rate)
    plan = {"source": fingerprint(source), "retiming": str(retiming), "encoding": str(encoding), "method": method,
            "model": model.identity}
    with opened_parts(parts_folder or output.with_name(f".{output.name}.parts"), plan) as parts:
        for part in parts.finished():  # now, not after hours
            with opened_part(part):
                pass
        report.resumed = parts.frames
        frames = _shown(_made(clip, model, retiming, clock, report, parts.frames), parts.frames, clock.total, on_frame)
        while _write_part(parts, frames, clip, clock, encoding):
            pass
        report.frames = parts.frames
        remove_leftovers(output)
        with written_whole(output) as temporary, open_container(temporary) as container:
            lost = join(container, parts.finished(), clock.time_base, clip, clock.stretch, audio)
            if clip.sample_aspect_ratio != 1 and not holds_aspect(container, encoding.codec):
                lost.append(f"pixels of aspect {clip.sample_aspect_ratio} became square ones")
    if clip.bits > encoding.sample_bits:
        lost.append(f"{clip.bits} bits a sample became {encoding.sample_bits}")
    if any(clip.hdr) and not clip.hdr.parameters(encoding.encoder):
        lost.append("what it says of HDR's mastering display and light level left out")
    if any(side % encoding.multiple for side in (clip.height, clip.width)):
        lost.append(f"{clip.width}x{clip.height} got a row or column more: the codec wants even sides")
    if clip.fine_chroma:
        lost.append("2x2 pixels share one colour now (4:2:0)")
    report.notes = [*lost, *clip.notes, *(f"{count} {what}" for what, count in clip.faults.items() if count)]
    return report


def _check_output(source: Source, output: Path) -> None:
    try:
        if isinstance(source, Path) and source.exists() and output.exists() and source.samefile(output):
            raise FilmError(f"{output} is the video to read as well: choose another name for the new one.")
        if output.is_dir():
            raise FilmError(f"{output} is a folder: name a file in it.")
    except OSError as error:  # a name that is too long, say
        raise unwritable(output, error) from error


def _encoding(output: Path, clip: Clip, codec: AutoCodec, quality: Quality) -> Encoding:
    """Return how to encode a clip: in its colours, with its bits where the codec can."""
    deep, webm = clip.bits > 8, output.suffix.lower() == ".webm"
    usual: dict[tuple[bool, bool], Codec] = {
        (False, False): "h264", (False, True): "h265", (True, False): "vp9", (True, True): "av1"}
    if codec == "auto":
        codec = usual[webm, deep]
        codec = codec if takes_size(codec, clip.height, clip.width) else usual[webm, False]
    check_container(output, codec)
    bits = 10 if codec == "av1" or (deep and codec in ("h264", "h265")) else 8
    return Encoding(codec, crf_of(quality, codec), bits=bits, colour=clip.colour, hdr=clip.hdr)


def fingerprint(source: Source) -> str:
    """Return a text that changes when the source does."""
    if isinstance(source, Path):
        about = source.stat()
        return f"{source.absolute()} {about.st_size} {about.st_mtime_ns}"
    source.seek(0)
    return hashlib.sha256(source.read()).hexdigest()


def _made(clip: Clip, model: FilmModel, retiming: Retiming, clock: Clock, report: VideoReport,
          done: int) -> Iterator[tuple[int, Frame]]:
    """Yield each frame of the new clip, those done left out, with its time stamp; count what comes by."""
    ends: dict[int, End] = {}  # by the frames' numbers

    def end(frame: ClipFrame) -> End:
        if frame.number not in ends:
            ends[frame.number] = model.end(frame.rgb(), f"Frame {frame.number}")
        return ends[frame.number]

    place = 0
    for gap in gaps(clip, retiming, clock):
        report.cuts += gap.cut
        report.source_frames += gap.reads
        report.duplicates += gap.reads - 1
        times = gap.times[max(0, done - place):]
        place += len(gap.times)
        if times:
            made = _between(model, gap, times, retiming, report.method, end)
            yield from zip(map(clock.pts, times), made, strict=True)
        ends = {number: held for number, held in ends.items() if gap.after and number == gap.after.number}


def _between(model: FilmModel, gap: Gap, times: list[Fraction], retiming: Retiming, method: Method,
             end: Callable[[ClipFrame], End]) -> Iterator[Frame]:
    """Yield the frames of some times of a gap."""
    shares = [(time - gap.start) / (gap.end - gap.start) for time in times]
    while shares and shares[0] <= 0:
        yield end(gap.before).frame
        shares = shares[1:]
    if gap.after is None:
        yield from [end(gap.before).frame] * len(shares)
    elif gap.interpolated:
        yield from model.between(end(gap.before), end(gap.after), shares, method)
    else:
        yield from bridge(end(gap.before).frame, end(gap.after).frame, shares, retiming.cuts == "blend")


def _shown(frames: Iterator[tuple[int, Frame]], done: int, total: int,
           on_frame: OnFrame | None) -> Iterator[tuple[int, Frame]]:
    """Pass frames through, and tell of each when it has been encoded."""
    for number, (pts, frame) in enumerate(frames, start=done + 1):
        yield pts, frame
        if on_frame:
            on_frame(number, max(number, total), frame)  # times that begin anew hide how many there are


def _write_part(parts: Parts, frames: Iterator[tuple[int, Frame]], clip: Clip, clock: Clock,
                encoding: Encoding) -> bool:
    """Write a part of the next frames; return whether there were any. What is there when they stop short is kept."""
    coming = next(frames, None)
    if coming is None:
        return False
    start, count, stopped = coming[0], 0, None
    with parts.part() as path, open_container(path) as container:
        encoder = Encoder(container, clip.height, clip.width, clock.frame_rate, encoding, time_base=clock.time_base,
                          sample_aspect_ratio=clip.sample_aspect_ratio, overshoot=True)
        while coming is not None:
            pts, frame = coming
            encoder.encode(frame, pts - start)
            count += 1
            if count == _PART_FRAMES:
                break
            try:
                coming = next(frames, None)
            except BaseException as error:  # cancelled, say
                stopped, coming = error, None
        encoder.finish()
    parts.add(count, start)
    if stopped is not None:
        raise stopped
    return True
