"""Subtitles of a video's source: kept in the codec that the container takes, in time."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest

from ov_film import subtitles
from tests.clips import moving, run, write_clip

F = Fraction
CODECS = {"out.mkv": "srt", "out.mp4": "mov_text", "out.mov": "mov_text", "out.webm": "webvtt"}

ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1
Style: Thought,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,1,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class Line(NamedTuple):
    """A subtitle: when it begins and ends, in seconds, and its text in its codec."""

    start: Fraction
    end: Fraction
    text: str


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of one scene, a second long, with sound that begins with them."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", moving(24), sounds=[{"codec": "pcm_s16le"}])


def srt(*lines: tuple[int, int, str]) -> str:
    """Return SubRip's text of lines from and to so many milliseconds."""
    return "".join(f"{number}\n00:00:{start // 1000:02},{start % 1000:03} --> 00:00:{end // 1000:02},{end % 1000:03}\n"
                   f"{text}\n\n" for number, (start, end, text) in enumerate(lines, start=1))


HELLO = srt((200, 600, "Hello <i>you</i>"), (700, 900, "ça & <3\nva"))


def subtitled(clip: Path, source: Path, texts: Sequence[str], disposition: int = 0, kind: str = "srt",
              shift: int = 0) -> Path:
    """Write a clip with subtitles into a file; the pictures come so many milliseconds later."""
    paths = [clip]
    for number, text in enumerate(texts):
        paths.append(source.with_name(f"{number}.{kind}"))
        paths[-1].write_text(text, encoding="utf-8")
    files = [av.open(str(path)) for path in paths]
    with av.open(str(source), "w") as new:
        streams = {(file, stream.index): new.add_stream_from_template(stream, opaque=True)
                   for file in files for stream in file.streams}
        for file in files[1:]:
            streams[file, 0].metadata.update({"language": "fre", "title": "Full"})
            streams[file, 0].disposition = disposition
        for file in files:
            for packet in file.demux():
                if packet.dts is not None:
                    moved = round(F(shift, 1000) / packet.time_base) if file is files[0] else 0
                    packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
                    packet.stream = streams[file, packet.stream.index]
                    new.mux(packet)
    for file in files:
        file.close()
    return source


def lines_of(path: Path, track: int = 0) -> list[Line]:
    """Return the subtitles of a file, without the empty ones with which MP4 ends them."""
    lines = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[track]
        for packet in container.demux(stream):
            text = bytes(packet)
            if stream.codec_context.name == "mov_text":
                text = text[2:2 + int.from_bytes(text[:2], "big")]
            if text:
                start, end = (value * F(packet.time_base) for value in (packet.pts, packet.pts + packet.duration))
                lines.append(Line(start, end, text.decode()))
    return lines


@pytest.mark.parametrize("disposition", [0, av.stream.Disposition.forced.value | av.stream.Disposition.default.value])
def test_subtitles_stay_in_every_container_and_come_back(tmp_path: Path, clip: Path, disposition: int) -> None:
    source = subtitled(clip, tmp_path / "in.mkv", [HELLO, srt((100, 300, "other"))], disposition)
    for output, codec in CODECS.items():
        (tmp_path / output).unlink(missing_ok=True)
        report = run(source, tmp_path / output, quality="small")
        assert (f"subtitles (subrip) became {codec}" in str(report)) == (codec != "srt")
        assert "left out" not in str(report)
        for name in ("back.mkv", "back.mp4"):
            (tmp_path / name).unlink(missing_ok=True)
            run(tmp_path / output, tmp_path / name, quality="small")
        for name in (output, "back.mkv", "back.mp4"):
            lines = lines_of(tmp_path / name)
            assert [line[:2] for line in lines] == [(F(1, 5), F(3, 5)), (F(7, 10), F(9, 10))]
            assert [line.text for line in lines_of(tmp_path / name, track=1)] == ["other"]
            plain = [line.text.replace("<i>", "").replace("</i>", "").replace("&lt;", "<") for line in lines]
            assert plain == ["Hello you", "ça & <3\nva"]
            assert "<i>you</i>" in lines[0].text or name.endswith(("mp4", "mov"))
            with av.open(str(tmp_path / name)) as container:
                stream = container.streams.subtitles[0]
                assert stream.metadata.get("title", stream.metadata.get("name")) == "Full"
                if "out.mov" not in (name, output):  # whose header can say neither
                    assert stream.language == "fre"
                    first = any(path.endswith(("mp4", "mov")) for path in (name, output))  # of MP4's is the default
                    assert stream.disposition.value == disposition | first


@pytest.mark.parametrize("output", CODECS)
@pytest.mark.parametrize("audio", ["keep", "drop"])
def test_slow_motion_slows_subtitles_down(tmp_path: Path, clip: Path, output: str, audio: Any) -> None:
    source = subtitled(clip, tmp_path / "in.mkv", [HELLO])
    report = run(source, tmp_path / output, F(5, 2), slow_motion=True, audio=audio, quality="small")
    assert [line[:2] for line in lines_of(tmp_path / output)] == [(F(1, 2), F(3, 2)), (F(7, 4), F(9, 4))]
    assert "left out" not in str(report)


@pytest.mark.parametrize("output", CODECS)
def test_subtitles_before_the_first_frame_do_not_move_the_rest(tmp_path: Path, clip: Path, output: str) -> None:
    text = srt((100, 900, "gone"), (1500, 2300, "begun"), (2500, 2600, "there"))
    source = subtitled(clip, tmp_path / "in.mkv", [text], shift=2000)
    run(source, tmp_path / output, quality="small")
    assert lines_of(tmp_path / output) == [(0, F(3, 10), "begun"), (F(1, 2), F(3, 5), "there")]
    with av.open(str(tmp_path / output)) as container:
        assert next(container.decode(video=0)).pts == 0


def test_subtitles_that_are_shown_together_are_joined_where_one_is_at_a_time(tmp_path: Path, clip: Path) -> None:
    text = srt((100, 800, "long"), (200, 300, "a"), (200, 400, "b"), (700, 900, "end"))
    source = subtitled(clip, tmp_path / "in.mkv", [text])
    run(source, tmp_path / "out.mkv", quality="small")
    assert lines_of(tmp_path / "out.mkv") == [
        (F(1, 10), F(4, 5), "long"), (F(1, 5), F(3, 10), "a"), (F(1, 5), F(2, 5), "b"), (F(7, 10), F(9, 10), "end")]
    run(source, tmp_path / "out.mp4", quality="small")
    assert lines_of(tmp_path / "out.mp4") == [
        (F(1, 10), F(1, 5), "long"), (F(1, 5), F(3, 10), "long\na\nb"), (F(3, 10), F(2, 5), "long\nb"),
        (F(2, 5), F(7, 10), "long"), (F(7, 10), F(4, 5), "long\nend"), (F(4, 5), F(9, 10), "end")]


@pytest.mark.parametrize("output", CODECS)
def test_styled_subtitles_become_text_without_their_drawings(tmp_path: Path, clip: Path, output: str) -> None:
    events = ("Dialogue: 0,0:00:00.20,0:00:00.60,Thought,,0,0,0,,{\\an8}Hello\n"
              "Dialogue: 0,0:00:00.60,0:00:00.70,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
              "Dialogue: 0,0:00:00.70,0:00:00.90,Default,,0,0,0,,there\n")
    source = subtitled(clip, tmp_path / "in.mkv", [ASS + events], kind="ass")
    report = run(source, tmp_path / output, quality="small")
    texts = [line.text for line in lines_of(tmp_path / output)]
    if output == "out.mkv":
        assert len(texts) == 3 and "Thought,,0,0,0,,{\\an8}Hello" in texts[0] and "(ass)" not in str(report)
    else:
        assert [text.replace("<i>", "").replace("</i>", "") for text in texts] == ["Hello", "there"]
        assert "subtitles (ass) became" in str(report)


def test_subtitles_of_pictures_are_left_out_where_the_container_lacks_them(tmp_path: Path, clip: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(clip)) as old, av.open(str(source), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream, opaque=True) for stream in old.streams}
        pictures = new.add_mux_stream("dvd_subtitle")
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
        packet = av.Packet(b"\0\x08\0\x04\0\0\0\xff")
        packet.pts, packet.duration, packet.time_base, packet.stream = 200, 300, F(1, 1000), pictures
        packet.dts = packet.pts
        new.mux(packet)
    assert "subtitles (dvd_subtitle) left out" in str(run(source, tmp_path / "out.webm"))
    assert "left out" not in str(run(source, tmp_path / "out.mkv"))


def test_without_an_encoder_of_text_it_says_that_subtitles_are_left_out(tmp_path: Path, clip: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """PyAV 16.0's."""

    monkeypatch.setattr(subtitles, "SubtitleCodecContext", Old)
    source = subtitled(clip, tmp_path / "in.mkv", [HELLO])
    assert "subtitles (subrip) left out" in str(run(source, tmp_path / "out.mp4"))
