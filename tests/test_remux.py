"""Sound, subtitles, chapters and tags of a video's source."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import click_of, moving, run, times_of, write_clip

F = Fraction


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of one scene, a second long, with a click at 0.9 s."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving(24), sounds=[{"click": 0.9}])


@pytest.mark.parametrize(("name", "codec", "output", "kept"), [
    ("in.mp4", "aac", "out.mp4", "aac"), ("in.mp4", "aac", "out.mkv", "aac"), ("in.mp4", "aac", "out.mov", "aac"),
    ("in.mp4", "aac", "out.webm", "opus"), ("in.mkv", "libopus", "out.webm", "opus"),
    ("in.mkv", "libmp3lame", "out.mp4", "mp3float"), ("in.ts", "aac", "out.mp4", "aac"),
    ("in.ts", "aac", "out.mkv", "aac"), ("in.mkv", "pcm_s16le", "out.webm", "opus"),
    ("in.mkv", "flac", "out.mov", "aac")])
def test_sound_stays_in_time(tmp_path: Path, name: str, codec: str, output: str, kept: str) -> None:
    source = write_clip(tmp_path / name, moving(72), sounds=[{"codec": codec, "seconds": 3, "click": 2.8}])
    report = run(source, tmp_path / output, quality="small")
    with av.open(str(tmp_path / output)) as container:
        assert container.streams.audio[0].codec_context.codec.name == kept
    assert ("encoded anew" in str(report)) == (codec not in ("libmp3lame", "lib" + kept, kept))
    offsets = [click_of(path) - float(times_of(path)[0]) for path in (source, tmp_path / output)]
    assert abs(offsets[0] - offsets[1]) < 1 / 48


def test_sound_in_bytes_stays_with_all_its_tracks(tmp_path: Path) -> None:
    sounds = [{"click": 0.4, "language": "eng"}, {"click": 0.7, "language": "deu", "layout": "mono"},
              {"click": 0.6, "codec": "ac3", "layout": "5.1(side)"}]
    source = write_clip(tmp_path / "in.mkv", moving(24), sounds=sounds, metadata={"title": "A title"})
    for output in ("out.mp4", "out.mkv", "out.webm"):
        run(BytesIO(source.read_bytes()), tmp_path / output)
        clicks = [click_of(tmp_path / output, track) for track in range(3)]
        assert np.allclose(clicks, [0.4, 0.7, 0.6], atol=0.03)
        with av.open(str(tmp_path / output)) as container:
            assert [stream.language for stream in list(container.streams.audio)[:2]] == ["eng", "deu"]
            assert {text for tag, text in container.metadata.items() if tag.lower() == "title"} == {"A title"}


@pytest.mark.parametrize(("name", "codec", "output"), [
    ("in.mp4", "aac", "out.mp4"), ("in.mkv", "pcm_s16le", "out.mp4"), ("in.mkv", "libopus", "out.webm"),
    ("in.mp4", "aac", "out.mkv")])
def test_sound_a_little_before_the_pictures_is_not_cut_off(tmp_path: Path, name: str, codec: str, output: str) -> None:
    source = write_clip(tmp_path / name, moving(48), 48, stamps=range(3, 51), time_base=F(1, 48),
                        sounds=[{"seconds": 1, "click": 0.02, "codec": codec}])
    run(source, tmp_path / output, quality="small")
    offsets = [click_of(path) - float(times_of(path)[0]) for path in (source, tmp_path / output)]
    assert abs(offsets[0] + 2 / 48) < 0.03 and abs(offsets[0] - offsets[1]) < 0.01


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_sound_of_avi_whose_channels_are_only_counted(tmp_path: Path, output: str) -> None:
    source = write_clip(tmp_path / "in.avi", moving(24), codec="mjpeg", pixel_format="yuvj420p",
                        sounds=[{"codec": "pcm_s16le", "click": 0.8}])
    report = run(source, tmp_path / output, quality="small")
    assert ("encoded anew" in str(report)) == (output == "out.webm")
    assert abs(click_of(tmp_path / output) - 0.8) < 1 / 48


def test_sound_that_an_edit_list_hides_is_not_heard(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", moving(48), sounds=[{"seconds": 2, "click": 0.3}])
    with av.open(str(whole)) as old, av.open(str(tmp_path / "in.mp4"), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream, opaque=True) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                stream = packet.stream
                packet.stream = streams[stream.index]
                packet.pts -= round(1 / packet.time_base)
                packet.dts -= round(1 / packet.time_base)
                new.mux(packet)
    run(tmp_path / "in.mp4", tmp_path / "out.mkv", quality="small")
    assert times_of(tmp_path / "out.mkv")[0] < F(1, 40)
    with pytest.raises(AssertionError, match="no click"):
        click_of(tmp_path / "out.mkv")


def test_sound_whose_times_fall_is_joined(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.flv", moving(48), sounds=[{"seconds": 2, "click": 1.8}])
    data, place, sounds = bytearray(source.read_bytes()), 13, 0
    while place < len(data):  # tags: kind, size, time in milliseconds, ...; sound is of kind 8
        if data[place] == 8 and (sounds := sounds + 1) == 20:
            data[place + 4:place + 7] = (9000).to_bytes(3, "big")
        place += 15 + int.from_bytes(data[place + 1:place + 4], "big")
    source.write_bytes(bytes(data))
    offset = 1.8 - float(times_of(source)[0])
    for output in ("out.mkv", "out.mp4", "out.webm"):
        assert "1 packets of sound or subtitles out of time" in str(run(source, tmp_path / output, quality="small"))
        assert abs(click_of(tmp_path / output) - float(times_of(tmp_path / output)[0]) - offset) < 1 / 24


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4", "out.webm"])
def test_sound_in_packets_shorter_than_a_millisecond_stays_in_time(tmp_path: Path, output: str) -> None:
    plain = write_clip(tmp_path / "plain.mkv", moving(48), sounds=[{"codec": "pcm_s16le", "seconds": 2, "click": 1.8}])
    source, size = tmp_path / "in.mkv", 40 * 4  # bytes of 40 samples, as TrueHD's packets have
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        pictures, sound = (new.add_stream_from_template(stream, opaque=True) for stream in old.streams)
        data = b"".join(bytes(packet) for packet in old.demux(audio=0))
        old.seek(0)
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                new.mux(packet)
        for number in range(len(data) // size):
            packet = av.Packet(data[number * size:(number + 1) * size])
            packet.pts = packet.dts = round(number * 40 / 48)
            packet.time_base, packet.stream = F(1, 1000), sound
            new.mux(packet)
    run(source, tmp_path / output, quality="small")
    assert abs(click_of(tmp_path / output) - float(times_of(tmp_path / output)[0]) - 1.8) < 0.02


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4", "out.webm"])
def test_sound_goes_on_where_times_begin_anew(tmp_path: Path, output: str) -> None:
    first = write_clip(tmp_path / "in.ts", moving(48), sounds=[{"seconds": 2, "click": 0.1}])
    second = write_clip(tmp_path / "second.ts", moving(48), sounds=[{"seconds": 2, "click": 1.5}])
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert run(first, tmp_path / output, quality="small").frames == 192
    assert abs(click_of(tmp_path / output, after=1) - float(times_of(tmp_path / output)[0]) - 3.5) < 0.1


def _seconds_of_sound(path: Path) -> float:
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


@pytest.mark.parametrize(("start", "seconds"), [(-0.5, 1.5), (0.4, 0.6), (0, 3)])
@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.webm"])
def test_sound_may_begin_and_end_when_it_will(tmp_path: Path, start: float, seconds: float, output: str) -> None:
    first = max(0, round(-start * 24))
    source = write_clip(tmp_path / "in.mkv", moving(24), 24, stamps=range(first, first + 24), time_base=F(1, 24),
                        sounds=[{"seconds": seconds, "click": 0.3, "start": max(0, start)}])
    run(source, tmp_path / output, quality="small")
    offsets, lengths = [], []
    for path in (source, tmp_path / output):
        offsets.append(click_of(path) - float(times_of(path)[0]))
        lengths.append(_seconds_of_sound(path))
    assert abs(offsets[0] - offsets[1]) < 1 / 48
    assert abs(lengths[0] - lengths[1]) < 0.1


@pytest.mark.parametrize("multiplier", [2, F(5, 2), 8])
@pytest.mark.parametrize("output", ["out.mp4", "out.webm"])
def test_slow_motion_slows_the_sound_down(tmp_path: Path, clip: Path, multiplier: Any, output: str) -> None:
    run(clip, tmp_path / output, multiplier, slow_motion=True, quality="small")
    assert abs(click_of(tmp_path / output) - 0.9 * float(multiplier)) < 0.05 * float(multiplier)
    before, after = map(_seconds_of_sound, (clip, tmp_path / output))
    assert abs(after - float(multiplier) * before) < 0.05
    run(clip, tmp_path / output, 2, slow_motion=True, audio="drop")
    with av.open(str(tmp_path / output)) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("multiplier", [2, 4, 8])
def test_slowed_sound_is_no_frame_early_or_late(tmp_path: Path, multiplier: int) -> None:
    sound = {"seconds": 2, "click": 0.6, "lasts": 0.5}
    source = write_clip(tmp_path / "in.mkv", moving(12), 6, sounds=[sound])
    run(source, tmp_path / "out.mp4", multiplier, slow_motion=True, quality="small")
    with av.open(str(tmp_path / "out.mp4")) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    middle = np.average(np.arange(len(heard)), weights=np.square(heard)) / 48_000
    assert abs(middle - multiplier * 0.85) < 0.01


@pytest.mark.parametrize(("layout", "said"), [("4.0", True), ("5.1", False), ("7.1", False), ("mono", False)])
@pytest.mark.parametrize("slow_motion", [False, True])
def test_channels_that_are_mixed_are_said(tmp_path: Path, layout: str, said: bool, slow_motion: bool) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(4), sounds=[{"codec": "pcm_s16le", "layout": layout}])
    report = run(source, tmp_path / "out.webm", slow_motion=slow_motion, quality="small")
    assert ("its 4 channels mixed to 2" in str(report)) == said


def test_a_gap_in_sound_that_is_encoded_anew_is_silence(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", moving(72), sounds=[{"seconds": 3, "click": 2.5}])
    with av.open(str(source)) as old, av.open(str(tmp_path / "gap.ts"), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream, opaque=True) for stream in old.streams}
        for packet in old.demux():
            late = packet.stream.type == "audio" and packet.pts and 1 < packet.pts * packet.time_base < 2
            if packet.dts is not None and not late:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    run(tmp_path / "gap.ts", tmp_path / "out.webm", quality="small")
    offset = click_of(source) - float(times_of(source)[0])
    assert abs(click_of(tmp_path / "out.webm") - float(times_of(tmp_path / "out.webm")[0]) - offset) < 1 / 24


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.mov"])
@pytest.mark.parametrize("slow_motion", [False, True])
def test_a_clip_whose_times_vary_ends_when_its_last_frame_does(tmp_path: Path, output: str, slow_motion: bool) -> None:
    stamps = [0, 100, 600, 650, 2650, 2700]
    source = write_clip(tmp_path / "in.mkv", moving(6), 30, stamps=stamps, time_base=F(1, 1000))
    run(source, tmp_path / output, 4, slow_motion=slow_motion)
    times = times_of(tmp_path / output)
    with av.open(str(tmp_path / output)) as container:
        rest = container.duration / av.time_base - float(times[-1])
    assert len(times) == 24 and 0 < rest < (0.8 if slow_motion else 0.2)


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
@pytest.mark.parametrize("more", [{}, {"workflow": '{"nodes": []}', "com.apple.quicktime.make": "A maker"}])
def test_tags_of_any_name_stay(tmp_path: Path, output: str, more: dict[str, str]) -> None:
    tags = {"title": "A title", "creation_time": "2024-05-06T07:08:09.000000Z"} | more
    source = write_clip(tmp_path / "in.mov", moving(8), metadata=tags,
                        container_options={"movflags": "use_metadata_tags"} if more else None)
    run(source, tmp_path / output, quality="small")
    run(tmp_path / output, tmp_path / f"again_{output}", quality="small")
    for path in (tmp_path / output, tmp_path / f"again_{output}"):
        with av.open(str(path)) as container:
            kept = {name.lower(): text for name, text in container.metadata.items()}
        assert {name: kept.get(name, "").partition(";")[0] for name in tags} == tags


def write_chapters(clip: Path, path: Path, data: bool = False) -> None:
    """Write a clip's pictures with two chapters, and with two packets of data as well."""
    with av.open(str(clip)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        if data:
            more = new.add_data_stream("bin_data")
            more.time_base = F(1, 1000)
        new.set_chapters([{"id": 1, "start": 0, "end": 400, "time_base": F(1, 1000), "metadata": {"title": "One"}},
                          {"id": 2, "start": 400, "end": 1000, "time_base": F(1, 1000), "metadata": {"title": "Two"}}])
        for stamp in (0, 500) if data else ():
            packet = av.Packet(b"data")
            packet.pts, packet.dts, packet.duration, packet.time_base = stamp, stamp, 500, more.time_base
            packet.stream = more
            new.mux(packet)
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


@pytest.mark.parametrize("name", ["in.mp4", "in.mov"])
def test_the_track_of_the_chapters_titles_is_not_told_as_lost(tmp_path: Path, clip: Path, name: str) -> None:
    write_chapters(clip, tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        assert [stream.type for stream in container.streams] == ["video", "data"]
    for output in ("out.mp4", "out.mov", "out.mkv"):
        assert "left out" not in str(run(tmp_path / name, tmp_path / output))
        with av.open(str(tmp_path / output)) as container:
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One", "Two"]


def test_other_data_beside_chapters_is_told_as_lost(tmp_path: Path, clip: Path) -> None:
    write_chapters(clip, tmp_path / "in.mp4", data=True)
    with av.open(str(tmp_path / "in.mp4")) as container:
        assert [stream.frames for stream in container.streams if stream.type == "data"] == [2, 2]
    assert str(run(tmp_path / "in.mp4", tmp_path / "out.mp4")).count("data (of an unknown kind) left out") == 1


@pytest.mark.parametrize("slow_motion", [False, True])
def test_chapters_stay_in_time(tmp_path: Path, clip: Path, slow_motion: bool) -> None:
    write_chapters(clip, tmp_path / "in.mkv")
    for output in ("out.mkv", "out.mp4"):
        run(tmp_path / "in.mkv", tmp_path / output, slow_motion=slow_motion)
        with av.open(str(tmp_path / output)) as container:
            chapters = [(chapter["start"] * chapter["time_base"], chapter["metadata"]["title"])
                        for chapter in container.chapters()]
        assert chapters == [(0, "One"), (F(4 * (1 + slow_motion), 10), "Two")]


@pytest.mark.parametrize("output", ["out.mkv", "out.mp4", "out.mov"])
def test_frames_that_do_not_come_evenly_have_their_mean_rate(tmp_path: Path, output: str) -> None:
    stamps = [number * 40 + 7 * (number % 3) for number in range(30)]
    source = write_clip(tmp_path / "in.mp4", moving(30), 25, stamps=stamps, time_base=Fraction(1, 1000))
    run(source, tmp_path / output, quality="small")
    with av.open(str(tmp_path / output)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(50, rel=0.03)


@pytest.mark.parametrize(("output", "known"), [("out.mov", "ger"), ("out.mp4", "deu"), ("out.mkv", "deu")])
def test_a_language_is_called_as_the_container_knows_it(tmp_path: Path, output: str, known: str) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(4), sounds=[{"language": "deu"}])
    run(source, tmp_path / output, quality="small")
    with av.open(str(tmp_path / output)) as container:
        assert container.streams.audio[0].language == known
