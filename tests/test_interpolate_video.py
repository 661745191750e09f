"""A video in, a video out: what becomes of times and pictures, and of a run that is stopped."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import weakref
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ov_film import clip as clip_module
from ov_film.cli import main
from ov_film.errors import FilmError
from ov_film.frames import Frame
from ov_film.model import End
from tests.clips import Blend, moving, pictures_of, psnr, run, times_of, write_clip

F = Fraction


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of one scene, a second long, with a click at 0.9 s."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving(24), sounds=[{"click": 0.9}])


@pytest.mark.parametrize(("rate", "more", "frames", "new_rate"), [
    (24, {"multiplier": 2}, 48, F(48)),
    (24, {"multiplier": 3}, 72, F(72)),
    (24, {"multiplier": F(5, 2)}, 60, F(60)),
    (24, {"frame_rate": F(60)}, 60, F(60)),
    (F(24000, 1001), {"frame_rate": F(60000, 1001)}, 60, F(60000, 1001)),
    (F(24000, 1001), {"multiplier": 2}, 48, F(48000, 1001)),
    (24, {"multiplier": 4, "slow_motion": True}, 96, F(24)),
    (24, {"multiplier": F(5, 2), "slow_motion": True}, 60, F(24))])
def test_frames_and_times_are_those_of_the_rate(tmp_path: Path, rate: Any, more: Any, frames: int,
                                                new_rate: Fraction) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(24), rate)
    report = run(source, tmp_path / "out.mp4", **more)
    assert (report.frames, report.source_frames, report.frame_rate) == (frames, 24, new_rate)
    assert times_of(tmp_path / "out.mp4") == [number / new_rate for number in range(frames)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert Fraction(stream.average_rate) == new_rate
        assert stream.duration * stream.time_base == frames / new_rate


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h265"), (".mkv", "h264"), (".mkv", "h265"), (".mov", "h264"),
                                               (".webm", "vp9"), (".webm", "av1"), (".mp4", "av1"), (".mkv", "vp9")])
def test_every_container_has_the_times_of_more_than_one_part(tmp_path: Path, suffix: str, codec: Any) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(40))
    run(source, tmp_path / f"out{suffix}", codec=codec, quality="small")
    times = times_of(tmp_path / f"out{suffix}")
    assert len(times) == 80
    assert max(abs(time - F(number, 48)) for number, time in enumerate(times)) < F(1, 1000)


def test_frames_of_the_source_are_as_they_were_and_others_lie_between(tmp_path: Path, clip: Path) -> None:
    run(clip, tmp_path / "out.mp4")
    before, after = pictures_of(clip), pictures_of(tmp_path / "out.mp4")
    assert min(psnr(one, other) for one, other in zip(before, after[::2], strict=True)) > 40
    mean = (before[3].astype(float) + before[4]) / 2
    assert psnr(mean, after[7]) > 38


def test_times_that_vary_stay_exactly_and_gaps_are_halved(tmp_path: Path) -> None:
    stamps = [0, 500, 1013, 1999, 2400, 3100, 3601, 4500, 4711, 5555]
    base = F(1, 15360)
    source = write_clip(tmp_path / "in.mp4", moving(10), 30, stamps=stamps, time_base=base)
    model = Blend()
    report = run(source, tmp_path / "out.mp4", model=model)
    times = times_of(tmp_path / "out.mp4")
    assert times[::2] == [stamp * base for stamp in stamps] and len(times) == 20
    assert times[1:-1:2] == [F(one + other, 2) * base for one, other in pairwise(stamps)]
    assert report.method == "recursive" and all(gap == ([F(1, 2)], "recursive") for gap in model.gaps)


@pytest.mark.parametrize(("pixel_format", "said"), [("yuv422p", True), ("yuv444p", True), ("bgr0", True),
                                                    ("yuv420p", False), ("gray", False)])
def test_colours_that_become_coarser_are_said(tmp_path: Path, pixel_format: str, said: bool) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(2, 33, 65), codec="ffv1", pixel_format=pixel_format)
    assert ("2x2 pixels share one colour now (4:2:0)" in str(run(source, tmp_path / "out.mp4"))) == said


def test_times_that_vary_become_constant_at_a_target_rate(tmp_path: Path) -> None:
    stamps = [0, 500, 1013, 1999, 2400, 3100, 3601, 4500, 4711, 5555]
    source = write_clip(tmp_path / "in.mp4", moving(10), 30, stamps=stamps, time_base=F(1, 15360))
    for rate in (60, 25):
        run(source, tmp_path / "out.mp4", frame_rate=F(rate))
        times = times_of(tmp_path / "out.mp4")
        assert times == [F(number, rate) for number in range(len(times))]
        assert abs(len(times) / rate - 5555 / 15360 * 10 / 9) <= 1 / rate


def test_frames_that_a_constant_rate_lacks_are_made(tmp_path: Path) -> None:
    frames = moving(24)
    stamps = [number for number in range(24) if number not in (7, 15)]
    source = write_clip(tmp_path / "in.mp4", [frames[stamp] for stamp in stamps], 24, stamps=stamps,
                        time_base=F(1, 24))
    report = run(source, tmp_path / "out.mp4")
    assert (report.source_frames, report.frames) == (22, 48)
    assert times_of(tmp_path / "out.mp4") == [F(number, 48) for number in range(48)]


@pytest.mark.parametrize(("tags", "codec", "pixel_format", "output"), [
    ((1, 1, 1, 1), "libx264", "yuv420p", "out.mp4"),
    ((1, 1, 1, 2), "libx264", "yuv420p", "out.mp4"),
    ((6, 6, 6, 1), "libx264", "yuv444p", "out.mkv"),
    ((5, 6, 5, 1), "libvpx-vp9", "yuv420p", "out.webm"),
    ((9, 14, 9, 1), "libx265", "yuv420p10le", "out.mp4"),
    ((9, 16, 9, 1), "libx265", "yuv420p10le", "out.mkv")])
def test_colours_are_tagged_and_mean_the_same(tmp_path: Path, tags: Any, codec: str, pixel_format: str,
                                              output: str) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(4), codec=codec, pixel_format=pixel_format, tags=tags)
    run(source, tmp_path / output)
    found = []
    for path in (source, tmp_path / output):
        with av.open(str(path)) as container:
            pictures = list(container.decode(video=0))
            context = container.streams.video[0].codec_context
            assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == tags
            step = 4 if "10" in pictures[0].format.name else 1
            found.append([np.frombuffer(memoryview(plane), np.uint16 if step == 4 else np.uint8)
                          .reshape(plane.height, -1)[:, :plane.width].mean() / step for plane in pictures[0].planes])
    assert np.allclose(*found, atol=0.6)


@pytest.mark.parametrize(("height", "matrix"), [(64, 6), (720, 1)])
def test_untagged_colours_are_those_that_players_take_by_the_size(tmp_path: Path, height: int, matrix: int) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(2, height, 64))
    run(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == matrix


def test_ten_bits_stay_or_it_says_so(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(4), codec="libx265", pixel_format="yuv420p10le")
    report = run(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "hevc"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"  # Apple's players know no other
    assert "bits" not in str(report)
    assert "10 bits a sample became 8" in str(run(source, tmp_path / "out.webm", codec="vp9"))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_clip_becomes_upright(tmp_path: Path, rotation: int) -> None:
    frames = moving(3, 64, 96)
    source = write_clip(tmp_path / "in.mp4", frames, rotation=rotation)
    run(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        picture = next(container.decode(video=0))
    assert picture.rotation == 0
    upright = np.rot90(frames[0], rotation // 90)
    assert psnr(upright, picture.to_ndarray(format="rgb24")) > 28


@pytest.mark.parametrize(("rotation", "shown"), [(0, F(4, 3)), (90, F(3, 4))])
def test_the_sample_aspect_ratio_stays(tmp_path: Path, rotation: int, shown: Fraction) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(3), aspect=F(4, 3), rotation=rotation)
    for output in ("out.mp4", "out.mkv"):
        run(source, tmp_path / output)
        with av.open(str(tmp_path / output)) as container:
            assert container.streams.video[0].sample_aspect_ratio == shown
    report = run(source, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        kept = container.streams.video[0].sample_aspect_ratio == shown
    assert kept or "aspect" in str(report)


class StopError(Exception):
    """What a cancelled run raises."""


@pytest.mark.parametrize("stopped_at", [1, 2, 59, 60, 61, 100, 139, 140])
def test_a_stopped_run_goes_on_and_gives_the_same_video(tmp_path: Path, stopped_at: int) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(70), sounds=[{"seconds": 3}])
    output = tmp_path / "out.mp4"
    shown: list[int] = []

    def stop(done: int, total: int, frame: Frame) -> None:
        shown.append(done)
        assert total == 140 and frame.shape == (64, 64, 3)
        if done == stopped_at:
            raise StopError

    with pytest.raises(StopError):
        run(source, output, on_frame=stop)
    assert not output.exists() and shown == list(range(1, stopped_at + 1))
    model = Blend()
    report = run(source, output, model=model)
    assert report.resumed == stopped_at
    assert f"{stopped_at} frame{'' if stopped_at == 1 else 's'} of an earlier run" in str(report)
    assert len(model.gaps) == 69 - stopped_at // 2 if stopped_at < 140 else not model.gaps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    run(source, tmp_path / "whole.mp4")
    assert times_of(output) == times_of(tmp_path / "whole.mp4")
    assert min(map(psnr, pictures_of(output), pictures_of(tmp_path / "whole.mp4"))) > 35


def test_a_run_of_a_video_that_another_process_is_making_is_refused_until_that_has_ended_however(
        tmp_path: Path) -> None:
    source, output = write_clip(tmp_path / "in.mp4", moving(70)), tmp_path / "out.mp4"
    child = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from tests.clips import run
        def wait(done, total, frame):
            if done == 65:
                print("waiting", flush=True)
                time.sleep(600)
        run(Path(sys.argv[1]), Path(sys.argv[2]), on_frame=wait)""")
    with subprocess.Popen([sys.executable, "-c", child, str(source), str(output)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout and other.stdout.readline() == b"waiting\n"
            before = sorted((tmp_path / ".out.mp4.parts").iterdir())
            for more in ({}, {"quality": "small"}):
                with pytest.raises(FilmError, match=r"Another run is making .* wait until it has ended, or stop it"):
                    run(source, output, **more)
            assert sorted((tmp_path / ".out.mp4.parts").iterdir()) == before and not output.exists()
        finally:
            other.kill()
    assert run(source, output).resumed == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_run_that_is_stopped_before_its_first_part_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                   ) -> None:
    source, model = write_clip(tmp_path / "in.mp4", moving(4)), Blend()

    def refused(*_: Any) -> None:
        raise StopError

    monkeypatch.setattr(model, "end", refused)
    with pytest.raises(StopError):
        run(source, tmp_path / "out.mp4", model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_other_settings_or_another_source_begin_anew(tmp_path: Path) -> None:
    source, output = write_clip(tmp_path / "in.mp4", moving(10)), tmp_path / "out.mp4"

    def stop(done: int, _total: int, _frame: Frame) -> None:
        if done == 5:
            raise StopError

    for other in ({"multiplier": 3}, {"quality": "small"}, {"loop": True}, {"model": Blend("other")},
                  {"method": "direct"}, {}):
        with pytest.raises(StopError):
            run(source, output, on_frame=stop)
        if not other:
            write_clip(source, moving(10, seed=1))
        assert run(source, output, **other).resumed == 0


def test_loop_goes_on_to_the_first_frame(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(6))
    for loop in (False, True):
        model = Blend()
        run(source, tmp_path / "out.mp4", model=model, loop=loop)
        pictures = pictures_of(tmp_path / "out.mp4")
        mean = (pictures[10].astype(float) + pictures[0]) / 2
        assert len(pictures) == 12 and len(model.gaps) == 5 + loop
        assert (psnr(mean, pictures[11]) > 35) == loop and (psnr(pictures[10], pictures[11]) > 35) != loop


@pytest.mark.parametrize("cuts", ["repeat", "blend", "ignore"])
def test_nothing_is_interpolated_across_a_cut(tmp_path: Path, cuts: Any) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(6) + moving(6, seed=1))
    model = Blend()
    report = run(source, tmp_path / "out.mp4", 4, model=model, cuts=cuts)
    pictures = pictures_of(tmp_path / "out.mp4")
    assert report.cuts == (cuts != "ignore") and len(pictures) == 48
    assert len(model.gaps) == (11 if cuts == "ignore" else 10)
    before, after = pictures[20], pictures[24]
    if cuts == "repeat":
        assert min(psnr(before, pictures[21]), psnr(after, pictures[22]), psnr(after, pictures[23])) > 35
    else:
        assert psnr(before * 0.75 + after * 0.25, pictures[21]) > 35


def test_a_run_holds_few_frames_however_long_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [frame for seed in range(4) for frame in moving(25, seed=seed) for _ in range(2)]
    source = write_clip(tmp_path / "in.mp4", frames, options={"crf": "1"})
    pictures, ends = _Counted(clip_module.ClipFrame), _Counted(End)
    monkeypatch.setattr(clip_module, "ClipFrame", pictures)
    model = Blend()
    monkeypatch.setattr(model, "end", lambda frame, _name: ends(frame))
    report = run(source, tmp_path / "out.mp4", F(5, 2), model=model, drop_duplicates=True, loop=True, cuts="blend",
                 skip=((3, 9),))
    assert (report.frames, report.cuts, report.duplicates) == (500, 3, 100)
    assert pictures.made == 200 and pictures.most <= 12
    assert ends.made >= 100 and ends.most <= 4


class _Counted:
    """Makes things, and counts how many of them live at once."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._living = self.made = self.most = 0

    def __call__(self, *arguments: Any) -> Any:
        thing = self._kind(*arguments)
        weakref.finalize(thing, self._gone)
        self._living += 1
        self.made += 1
        self.most = max(self.most, self._living)
        return thing

    def _gone(self) -> None:
        self._living -= 1


def test_the_output_is_another_file_in_a_folder_that_can_be_written(tmp_path: Path, clip: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    for output, text in ((copy, "is the video to read as well"), (copy / "out.mp4", "can't be written"),
                         (tmp_path / "out.avi", "suffix '.avi'"), (tmp_path / "out", "suffix ''")):
        with pytest.raises(FilmError, match=text):
            run(copy, output)
    assert copy.read_bytes() == clip.read_bytes() and list(tmp_path.iterdir()) == [copy]
    with pytest.raises(FilmError, match=r"can't be written .*name too long"):
        run(clip, tmp_path / f"{'long' * 100}.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(FilmError, match="is a folder"):
        run(clip, tmp_path / "folder.mp4")


def test_a_full_disk_leaves_what_was_there_and_the_parts(tmp_path: Path) -> None:
    source, output = write_clip(tmp_path / "in.mp4", moving(70, 128, 128)), tmp_path / "out.mp4"
    output.write_bytes(b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(FilmError, match=r"can't be written .*make room"):
            run(source, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert output.read_bytes() == b"before"
    assert os.listdir(tmp_path / ".out.mp4.parts") and not list(tmp_path.glob(".out.*.mp4"))
    run(source, output)
    assert len(times_of(output)) == 140


@pytest.mark.parametrize(("height", "width"), [(65, 97), (1, 64), (64, 1), (1, 1), (3, 301)])
def test_odd_and_narrow_frames(tmp_path: Path, height: int, width: int) -> None:
    source = write_clip(tmp_path / "in.mov", moving(4, height, width), codec="png", pixel_format="rgb24")
    report = run(source, tmp_path / "out.mp4")
    assert report.frames == 8
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)


def test_a_relative_name_may_have_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(clip, Path("file:out.mp4")).frames == 48


def test_one_frame(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(1))
    for options in ({}, {"loop": True}, {"drop_duplicates": True}):
        assert str(run(source, tmp_path / "out.mp4", **options)).startswith("1 frame became 2, ")


def test_the_command(tmp_path: Path, clip: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, common = tmp_path / "out.mkv", ["--model", str(small_folder), "--device", "CPU", "--precision", "f32"]
    assert main(["video", str(clip), str(output), "--fps", "59.94", "--loop", "--skip", "2-4", "--drop-duplicates",
                 "--cuts", "blend", "--codec", "h265", "--quality", "small", *common]) == 0
    text = capsys.readouterr().out
    assert "24 frames became 60, 59.9401 a second, direct" in text and str(output) in text
    assert len(times_of(output)) == 60
    for arguments, error in (([clip, output, "--fps", "60", "--multiplier", "2"], "choose one of the two"),
                             ([clip, output, "--fps", "12"], "below the 24"),
                             ([clip, output, "--multiplier", "x"], "no number"),
                             ([clip, output, "--skip", "x"], "--skip: 'x' is no range of frames"),
                             ([clip, output, "--fps", "0.004"], "below the 24"),
                             ([clip, output, "--method", "fast"],
                              "Method is 'fast': choose one of auto, recursive, direct."),
                             ([clip, output, "--codec", "vp8"],
                              "Codec is 'vp8': choose one of auto, vp9, av1, h264, h265."),
                             ([clip, output, "--audio", "louder"], "Audio is 'louder'"),
                             ([clip, output, "--quality", "best"], "Quality is 'best'"),
                             ([clip, tmp_path / "out.webm", "--codec", "h264"], "can't hold the codec"),
                             ([tmp_path / "no.mp4", output], "can't be read")):
        assert main(["video", *map(str, arguments), *common]) == 1
        assert error in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv"]


@pytest.mark.parametrize(("output", "codec", "bits"), [("out.mp4", "h264", 10), ("out.webm", "vp9", 8)])
def test_a_small_video_of_10_bits_gets_a_codec_that_takes_its_size(tmp_path: Path, output: str, codec: str,
                                                                  bits: int) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(4, 32, 48), codec="ffv1", pixel_format="yuv420p10le")
    report = run(source, tmp_path / output)
    with av.open(str(tmp_path / output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name.endswith(codec) and stream.codec_context.format.components[0].bits == bits
    assert ("10 bits a sample became 8" in str(report)) == (bits == 8)


def test_an_odd_size_that_became_even_is_said(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", moving(4, 65, 97), codec="ffv1", pixel_format="yuv444p")
    assert "97x65 got a row or column more" in str(run(source, tmp_path / "out.mp4"))
