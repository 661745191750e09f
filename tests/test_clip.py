"""Reading video files: every kind of picture, times, and what is broken."""

import gc
from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from ov_film.clip import Clip, open_clip
from ov_film.errors import FilmError
from ov_film.frames import to_8_bits
from ov_film.interpolate_video import VideoReport, interpolate_video
from ov_film.retiming import Clock, Retiming
from ov_film.video import write_webm
from tests.clips import Blend, Levels, moving, pictures_of, psnr, times_of, write_clip

F = Fraction
SMOOTH = [cv2.GaussianBlur(frame, (0, 0), 4) for frame in moving(6, 96, 128)]


def read(path: Path) -> tuple[Clip, list[Levels]]:
    clip = open_clip(path)
    return clip, [to_8_bits(frame.rgb()) for frame in clip.frames()]


def interpolated(source: Path) -> VideoReport:
    return interpolate_video(source, source.with_name("out.mp4"), Blend(), Retiming(), quality="small")


@pytest.mark.parametrize(("codec", "pixel_format", "name", "least"), [
    ("ffv1", "bgr0", "in.mkv", 90), ("rawvideo", "rgb24", "in.nut", 90), ("rawvideo", "bgr24", "in.avi", 90),
    ("ffv1", "gbrp10le", "in.mkv", 55), ("ffv1", "yuv444p", "in.mkv", 45), ("ffv1", "yuv422p10le", "in.mkv", 39),
    ("ffv1", "yuv420p", "in.mkv", 36), ("rawvideo", "nv12", "in.mkv", 36), ("rawvideo", "yuyv422", "in.mkv", 36),
    ("ffv1", "yuv411p", "in.mkv", 32), ("ffv1", "yuv410p", "in.mkv", 29), ("libx264", "yuvj420p", "in.mp4", 36),
    ("mjpeg", "yuvj422p", "in.avi", 31), ("libx265", "yuv420p12le", "in.mp4", 36), ("gif", "rgb8", "in.gif", 18),
    ("libx264", "nv12", "in.mp4", 36), ("ffv1", "yuva420p", "in.mkv", 36)])
def test_pictures_of_every_kind(tmp_path: Path, codec: str, pixel_format: str, name: str, least: float) -> None:
    source = write_clip(tmp_path / name, SMOOTH, 25, codec=codec, pixel_format=pixel_format)
    clip, frames = read(source)
    assert len(frames) == 6 and (clip.height, clip.width, clip.frame_rate) == (96, 128, 25)
    assert min(psnr(one, other) for one, other in zip(SMOOTH, frames, strict=True)) > least
    assert not clip.faults.total() and not clip.notes


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le"])
def test_grey_pictures(tmp_path: Path, pixel_format: str) -> None:
    grey = [np.repeat(frame[..., 1:2], 3, axis=2) for frame in SMOOTH]
    source = write_clip(tmp_path / "in.mkv", grey, codec="ffv1", pixel_format=pixel_format)
    assert min(psnr(one, other) for one, other in zip(grey, read(source)[1], strict=True)) > 40


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuyv422", "yuv444p"])
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (1, 1, 1, 2), (6, 6, 6, 1), (6, 6, 6, 2)])
def test_matrix_and_range_are_honoured(tmp_path: Path, pixel_format: str, tags: Any) -> None:
    codec = "ffv1" if pixel_format.startswith("yuv4") else "rawvideo"
    colours = [np.full((64, 64, 3), colour, np.uint8) for colour in
               ((255, 0, 0), (0, 0, 255), (200, 180, 150), (0, 0, 0), (255, 255, 255))]
    source = write_clip(tmp_path / "in.mkv", colours, codec=codec, pixel_format=pixel_format, tags=tags)
    clip = open_clip(source)
    assert (*clip.colour[:3], 1 + clip.colour.full_range) == tags
    for colour, found in zip(colours, read(source)[1], strict=True):
        assert np.abs(colour.astype(int) - found).max() <= 4


@pytest.mark.parametrize("matrix", [8, 14])
def test_a_matrix_that_is_not_known_is_said(tmp_path: Path, matrix: int) -> None:
    source = write_clip(tmp_path / "in.mp4", SMOOTH, tags=(1, 1, matrix, 1))
    assert f"6 frames with colours of matrix {matrix}, taken for those of 6" in str(interpolated(source))
    assert psnr(SMOOTH[0], read(source)[1][0]) > 30


def test_what_is_brighter_than_white_stays(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 64
        for pts in range(3):
            picture = av.VideoFrame(64, 64, "yuv420p")
            for plane, level in zip(picture.planes, (250, 120, 140), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            picture.pts = pts
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    report = interpolate_video(source, tmp_path / "out.mp4", Blend(), Retiming())
    with av.open(str(report.path)) as container:
        picture = next(container.decode(video=0))
    means = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, :plane.width].mean()
             for plane in picture.planes]
    assert np.allclose(means, (250, 120, 140), atol=1)


@pytest.mark.parametrize(("codec", "pixel_format", "name"), [("png", "rgba", "in.mov"), ("ffv1", "yuva420p", "in.mkv")])
def test_transparency_is_said_to_be_left_out(tmp_path: Path, codec: str, pixel_format: str, name: str) -> None:
    frames = [np.dstack([frame, frame[..., :1]]) for frame in SMOOTH]
    source = write_clip(tmp_path / name, frames, codec=codec, pixel_format=pixel_format)
    assert "6 frames whose transparency was left out" in str(interpolated(source))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", [(True, False), (False, True)])
def test_a_mirrored_clip_is_shown_as_players_show_it(tmp_path: Path, rotation: int, flips: tuple[bool, bool]) -> None:
    clip, frames = read(write_clip(tmp_path / "in.mp4", SMOOTH, rotation=rotation, flips=flips))
    turned = np.rot90(SMOOTH[0], rotation // 90)
    assert psnr(np.flip(turned, 1 if flips[0] else 0), frames[0]) > 30
    assert (clip.height, clip.width) == turned.shape[:2]


def test_the_containers_sample_aspect_ratio_counts(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", SMOOTH, aspect=F(4, 3))
    with av.open(str(source)) as old, av.open(str(tmp_path / "in.mp4"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        stream.codec_context.sample_aspect_ratio = F(16, 11)
        for packet in old.demux():
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert open_clip(tmp_path / "in.mp4").sample_aspect_ratio == F(16, 11)


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts", "in.webm", "in.mov", "in.avi", "in.flv"])
@pytest.mark.parametrize("rate", [24, F(24000, 1001), F(30000, 1001), F(60000, 1001), 60, F(25, 2)])
def test_constant_rates_are_exact(tmp_path: Path, name: str, rate: Any) -> None:
    codec = "libvpx-vp9" if name == "in.webm" else "libx264"
    clip = open_clip(write_clip(tmp_path / name, moving(50), rate, codec=codec))
    assert (clip.frame_rate, clip.constant, clip.count) == (rate, True, 50)
    assert clip.end == 50 / F(rate)
    assert [frame.time for frame in clip.frames()] == [number / F(rate) for number in range(50)]
    assert not any(clip.faults.values()) and not clip.notes


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(10), 25, stamps=range(90, 100), time_base=F(1, 25))
    clip = open_clip(source)
    assert (clip.start, clip.end, clip.constant) == (F(18, 5), F(2, 5), True)
    assert [frame.time for frame in clip.frames()] == [F(number, 25) for number in range(10)]


def test_a_stream_without_time_stamps_has_its_rate(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.h264", moving(20), 25, container_format="h264")
    clip = open_clip(source)
    assert (clip.count, clip.constant) == (20, True)
    assert [frame.time for frame in clip.frames()] == [number / clip.frame_rate for number in range(20)]
    assert interpolated(source).frames == 40


def test_time_stamps_that_do_not_rise_are_mended(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.nut", moving(12), 25, codec="ffv1", pixel_format="yuv420p",
                        time_base=F(1, 1000))
    _restamped(source, tmp_path / "bad.avi", [0, 1, 2, 3, 3, 3, 6, 7, 8, 8, 10, 11])
    clip = open_clip(tmp_path / "bad.avi")
    times = [frame.time for frame in clip.frames()]
    assert len(times) == 12 and sorted(set(times)) == times
    report = interpolated(tmp_path / "bad.avi")
    assert report.source_frames == 12
    shown = times_of(tmp_path / "out.mp4")
    assert sorted(set(shown)) == shown and len(shown) == report.frames


def _restamped(source: Path, target: Path, stamps: list[int]) -> None:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        packets = [packet for packet in old.demux() if packet.size]
        for packet, stamp in zip(packets, stamps, strict=True):
            packet.pts = packet.dts = stamp * 40
            packet.time_base, packet.stream = F(1, 1000), stream
            try:
                new.mux(packet)
            except av.FFmpegError:  # the muxer wants stamps that rise: it gets none
                packet.pts = packet.dts = None
                new.mux(packet)


def stamped(folder: Path, stamps: Sequence[int]) -> Path:
    """A clip of 25 frames a second with time stamps, in frames, whether they rise or not."""
    source = write_clip(folder / "in.nut", moving(len(stamps)), 25, codec="ffv1", pixel_format="yuv420p")
    with av.open(str(source)) as old, av.open(str(folder / "bad.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for number, packet in enumerate(packet for packet in old.demux() if packet.size):
            packet.dts, packet.pts = number * 40, (stamps[number] + 60) * 40
            packet.time_base, packet.stream = F(1, 1000), stream
            new.mux(packet)
    return folder / "bad.mkv"


def test_a_picture_that_comes_late_after_damage_moves_no_other(tmp_path: Path) -> None:
    late = 40
    clip = open_clip(stamped(tmp_path, [number - 30 * (number == late) for number in range(60)]))
    times = [frame.time for frame in clip.frames()]
    assert times == [F(number, 25) for number in range(60) if number != late]
    assert clip.faults["frames out of time, and left out"] == 1


@pytest.mark.parametrize("wrong", [{20: 70}, {10: 9, 20: 19, 30: 29}, {20: 15}, {59: 30}])
def test_a_wrong_time_stamp_moves_no_other_frame(tmp_path: Path, wrong: dict[int, int]) -> None:
    clip = open_clip(stamped(tmp_path, [wrong.get(number, number) for number in range(60)]))
    assert [frame.time for frame in clip.frames()] == [F(number, 25) for number in range(60)]
    assert clip.faults["time stamps that did not rise, and were mended"] == len(wrong)


def test_frames_that_share_their_time_don_t_put_off_those_that_follow(tmp_path: Path) -> None:
    clip = open_clip(stamped(tmp_path, [number - (number > 20) - (number > 40) for number in range(60)]))
    assert [frame.time for frame in clip.frames()] == [F(number, 25) for number in range(58)]
    assert clip.faults["frames out of time, and left out"] == 2


def test_b_frames_in_avi_have_their_times(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.avi", moving(40), 25, options={"bf": "3", "preset": "medium"})
    clip = open_clip(source)
    assert [frame.time for frame in clip.frames()] == [F(number, 25) for number in range(40)]
    assert not clip.faults.total() and interpolated(source).frames == 80


def test_times_that_are_lacking_at_the_beginning_are_counted_back(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(30), 25, stamps=range(-5, 25), time_base=F(1, 25),
                        container_options={"avoid_negative_ts": "disabled"})
    assert times_lack(source)
    clip = open_clip(source)
    assert [frame.time for frame in clip.frames()] == [F(number, 25) for number in range(30)]
    assert clip.start == -F(1, 5) and not clip.faults.total() and not clip.notes


def times_lack(path: Path) -> bool:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).pts is None


@pytest.mark.parametrize(("make", "text"), [
    (lambda path: None, "can't be read as a video"),
    (lambda path: path.write_text("no video\n" * 100), "can't be read as a video"),
    (lambda path: path.write_bytes(b""), "can't be read as a video"),
    (lambda path: path.mkdir(), "can't be read as a video"),
    (lambda path: path.write_bytes(write_clip(path, moving(30)).read_bytes()[:6000]), "can't be read as a video")])
def test_what_is_no_video_is_said(tmp_path: Path, make: Callable[[Path], Any], text: str) -> None:
    make(tmp_path / "in.mp4")
    with pytest.raises(FilmError, match=text):
        open_clip(tmp_path / "in.mp4")
    if (tmp_path / "in.mp4").is_file():
        with pytest.raises(FilmError, match="The video can't be read"):
            open_clip(BytesIO((tmp_path / "in.mp4").read_bytes()))


def test_a_file_without_pictures_is_said(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(FilmError, match="has no video in it"):
        open_clip(tmp_path / "sound.m4a")
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        container.start_encoding()
    with pytest.raises(FilmError, match=r"has no (video in it|frame that can be read)"):
        open_clip(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["in.mkv", "in.webm", "in.ts", "in.flv", "in.avi", "in.mp4"])
def test_a_file_that_was_cut_off_gives_what_it_has(tmp_path: Path, name: str) -> None:
    matroska = name in ("in.mkv", "in.webm")
    source = write_clip(tmp_path / name, moving(100), 25, codec="libvpx-vp9" if name == "in.webm" else "libx264",
                        sounds=[{"seconds": 4, "codec": "libopus"}] if matroska else (),
                        container_options={"movflags": "frag_keyframe+empty_moov"} if name == "in.mp4" else None)
    source.write_bytes(source.read_bytes()[:source.stat().st_size // 2])
    clip, frames = read(source)
    assert 20 < len(frames) < 90
    if name != "in.ts":  # which doesn't say how long it is meant to be
        assert "cut off" in clip.notes[-1]
    report = interpolated(source)
    assert report.source_frames == len(frames) and len(pictures_of(report.path)) == report.frames


def test_an_avi_that_leaves_out_what_stands_still_was_not_cut_off(tmp_path: Path) -> None:
    stamps = [number + 2 * (number // 3) for number in range(60)]  # AVI has empty packets in between
    source = write_clip(tmp_path / "in.avi", moving(60), 25, codec="mpeg4", stamps=stamps, time_base=F(1, 25))
    clip, frames = read(source)
    assert len(frames) == 60 and not [note for note in clip.notes if "cut off" in note]


def test_an_mp4_that_was_cut_off_says_how_many_frames_it_lacks(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(100), 25)
    with av.open(str(source)) as old, av.open(str(tmp_path / "fast.mp4"), "w",
                                              options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux():
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    fast = tmp_path / "fast.mp4"
    fast.write_bytes(fast.read_bytes()[:fast.stat().st_size // 2])
    clip, frames = read(fast)
    assert clip.notes == [f"the file was cut off and lacks {100 - clip.count} frames"]
    assert len(frames) + clip.faults["packets that gave no frame"] == clip.count < 100
    assert "lacks" in str(interpolated(fast))


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts", "in.avi"])
def test_damage_in_the_middle_is_survived_and_said(tmp_path: Path, name: str) -> None:
    source = write_clip(tmp_path / name, moving(100), 25, options={"crf": "10", "preset": "ultrafast", "g": "20"})
    data = bytearray(source.read_bytes())
    random = np.random.default_rng(0)
    middle = slice(len(data) * 2 // 5, len(data) * 2 // 5 + 3000)
    data[middle] = random.integers(0, 256, 3000, np.uint8).tobytes()
    source.write_bytes(bytes(data))
    clip, frames = read(source)
    assert len(frames) > 40
    assert sum(clip.faults.values()) + len(clip.notes) > 0, "nothing was said"
    report = interpolated(source)
    assert report.frames == len(pictures_of(report.path)) and report.notes


def test_sizes_that_change_become_the_first_one(tmp_path: Path) -> None:
    for number, (height, width) in enumerate(((64, 96), (96, 64), (48, 128))):
        write_clip(tmp_path / f"{number}.ts", moving(10, height, width), 25)
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join((tmp_path / f"{number}.ts").read_bytes() for number in range(3)))
    clip, frames = read(source)
    assert {frame.shape for frame in frames} == {(64, 96, 3)} and len(frames) == 30
    assert clip.faults["frames of another size, scaled to 96x64"] == 20
    report = interpolated(source)
    assert report.source_frames == 30 and "20 frames of another size" in str(report)


def test_transparency_of_webm_is_said_to_be_left_out(tmp_path: Path) -> None:
    frames = [np.full((64, 64, 4), 0.5, np.float32)] * 2
    write_webm(tmp_path / "in.webm", frames, F(24), alpha=True)
    assert open_clip(tmp_path / "in.webm").notes == ["transparency left out"]


def test_closed_captions_are_said_to_be_left_out(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.h264", moving(2), options={"bf": "0"})
    before, slices = plain.read_bytes().split(b"\0\0\1\x65")
    captions = b"\xb5\0\x31GA94" + bytes([3, 0x41, 0xff, 0xfc, 0x94, 0x20, 0xff])  # ATSC A/53: a pair of bytes
    message = b"\0\0\1\6\4" + bytes([len(captions)]) + captions + b"\x80"
    (tmp_path / "in.h264").write_bytes(before + message + b"\0\0\1\x65" + slices)
    assert "closed captions left out" in str(interpolated(tmp_path / "in.h264"))


def test_pictures_go_at_once_without_waiting_for_the_garbage_collector(tmp_path: Path) -> None:
    clip = open_clip(write_clip(tmp_path / "in.mp4", moving(60)))
    gc.collect()
    gc.disable()
    try:
        for _ in islice(clip.frames(), 50):
            pass
        alive = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive < 20


def test_8k_is_read_and_planned(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", [np.zeros((4320, 7680, 3), np.uint8)] * 2)
    clip = open_clip(source)
    assert (clip.height, clip.width, Clock(clip, Retiming()).total) == (4320, 7680, 4)
    assert next(clip.frames()).thumbnail().shape == (72, 128, 3)


