"""Time stamps that leap away: they mean no hours of frames."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ov_film.clip import open_clip
from ov_film.leaps import Leaps
from tests.clips import click_of, moving, run, times_of, write_clip

F = Fraction
LEAP = 20_000


def moved(source: Path, target: Path, leap: Callable[[int, float], tuple[bool, bool]]) -> Path:
    """Write a clip anew; `leap` says of a packet's number and time whether its pts and its dts are to leap."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream, opaque=True) for stream in old.streams}
        for number, packet in enumerate(old.demux()):
            if packet.dts is not None:
                pts, dts = leap(number, float(packet.pts * packet.time_base))
                packet.pts += pts * round(LEAP / packet.time_base)
                packet.dts += dts * round(LEAP / packet.time_base)
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return target


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.ts", "in.flv"])
def test_a_leap_of_pictures_and_sound_is_closed_and_said(tmp_path: Path, name: str) -> None:
    options = {"bf": "0", "preset": "ultrafast"}
    plain = write_clip(tmp_path / "plain.mkv", moving(72), 24, options=options,
                       sounds=[{"codec": "aac", "seconds": 3, "click": 2.5}])
    source = moved(plain, tmp_path / name, lambda _, time: (time > 1, time > 1))
    report = run(source, tmp_path / "out.mp4", frame_rate=F(60), quality="small")
    assert "a leap of 20000 s in the time stamps was closed" in str(report)
    times = times_of(tmp_path / "out.mp4")
    assert abs(times[-1] - times[0] - 3) < 0.1 and abs(click_of(tmp_path / "out.mp4") - float(times[0]) - 2.5) < 0.1


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.ts"])
@pytest.mark.parametrize("place", [20, 47])
def test_a_wild_time_stamp_is_mended_and_said(tmp_path: Path, name: str, place: int) -> None:
    plain = write_clip(tmp_path / "plain.mkv", moving(48), 24, options={"bf": "0", "preset": "ultrafast"})
    source = moved(plain, tmp_path / name, lambda number, _: (number == place, False))
    report = run(source, tmp_path / "out.mp4", frame_rate=F(60), quality="small")
    assert "leap" in str(report) and "missing" not in str(report)
    assert times_of(tmp_path / "out.mp4") == [F(number, 60) for number in range(120)]


def test_a_picture_that_stands_while_there_is_sound_is_no_leap() -> None:
    for sound in (False, True):
        leaps = Leaps()
        leaps.see(0, 0, 0.04, 0.04)
        for second in range(0, 3000, 300 if sound else 3000):
            leaps.see(1, second, 0.02, 0)
        leaps.see(0, 3000, 0.04, 0.04)
        leaps.close()
        assert bool(leaps.seconds) != sound
        assert leaps.closed(F(3000)) == (3000 if sound else F(4, 100))


def test_a_broadcast_whose_clock_is_set_anew_goes_on_at_once(tmp_path: Path) -> None:
    seconds = 30
    with (tmp_path / "in.ts").open("wb") as joined:
        for name, first in (("one.ts", 0), ("two.ts", 24 * (seconds + 1))):
            piece = write_clip(tmp_path / name, moving(24), 24, stamps=range(first, first + 24), time_base=F(1, 24),
                               options={"bf": "0", "preset": "ultrafast"},
                               sounds=[{"codec": "mp2", "seconds": 1, "click": 0.5, "start": first / 24}])
            joined.write(piece.read_bytes())
    report = run(tmp_path / "in.ts", tmp_path / "out.mp4", quality="small")
    assert f"a leap of {seconds} s in the time stamps was closed" in str(report) and abs(report.frame_rate - 48) < 1
    times = times_of(tmp_path / "out.mp4")
    assert abs(times[-1] - times[0] - 2) < 0.1
    assert abs(click_of(tmp_path / "out.mp4", after=1) - float(times[0]) - 1.5) < 0.1


@pytest.mark.parametrize("seconds", [2, 3])
def test_joined_recordings_stay_in_time(tmp_path: Path, seconds: int) -> None:
    parts = [write_clip(tmp_path / f"{name}.ts", moving(24 * length), 24,
                        sounds=[{"seconds": sound, "click": click}])
             for name, length, sound, click in (("first", 2, 2.4, 0.5), ("last", seconds, seconds, 1.0))]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = open_clip(joined)
    times = [frame.time for frame in clip.frames()]
    begins = times[48]  # of the second recording
    assert len(times) == 24 * (2 + seconds) and 2.3 < begins < 2.5
    report = run(joined, tmp_path / "out.mp4", quality="small")
    assert "a clock that was set back went on" in str(report)
    assert abs(click_of(tmp_path / "out.mp4") - 0.5) < 1 / 24
    assert abs(click_of(tmp_path / "out.mp4", after=2) - float(begins) - 1) < 1 / 24
