"""What runs leave behind that were stopped late, by force or with the power; parts of few frames."""

import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ov_film.errors import FilmError
from ov_film.frames import Frame
from tests.clips import moving, run, times_of, write_clip

F = Fraction


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(100))
    child = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from tests.clips import run
        def kill(done, total, frame):
            if done == 130:
                os.kill(os.getpid(), signal.SIGKILL)
        run(Path(sys.argv[1]), Path(sys.argv[2]), on_frame=kill)""")
    output = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", child, str(source), str(output)], check=False)
    assert done.returncode == -signal.SIGKILL and not output.exists()
    report = run(source, output)
    assert (report.resumed, report.frames) == (120, 200)
    assert times_of(output) == [F(number, 48) for number in range(200)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_run_that_is_killed_at_the_end_leaves_nothing_behind(tmp_path: Path) -> None:
    source, output = write_clip(tmp_path / "in.mp4", moving(10)), tmp_path / "out.mp4"
    child = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        import ov_film.interpolate_video as engine
        from tests.clips import run
        engine.join = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
        run(Path(sys.argv[1]), Path(sys.argv[2]))""")
    done = subprocess.run([sys.executable, "-c", child, str(source), str(output)], check=False)
    assert done.returncode == -signal.SIGKILL and not output.exists()
    other = tmp_path / ".out.other.mp4"
    other.touch()
    assert run(source, output).resumed == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.other.mp4", "in.mp4", "out.mp4"]


def test_a_part_that_a_power_failure_damaged_is_named(tmp_path: Path) -> None:
    source, output = write_clip(tmp_path / "in.mp4", moving(70)), tmp_path / "out.mp4"

    def stop(done: int, _total: int, _frame: Frame) -> None:
        if done == 130:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, output, on_frame=stop)
    part = sorted((tmp_path / ".out.mp4.parts").glob("part_*"))[1]
    part.write_bytes(part.read_bytes()[:500])
    with pytest.raises(FilmError, match=rf"{part.name} is damaged .*remove that file"):
        run(source, output)
    part.unlink()
    assert run(source, output).resumed == 60
    assert times_of(output) == [F(number, 48) for number in range(140)]


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
@pytest.mark.parametrize("count", [1, 2, 31])
def test_a_last_part_of_few_frames(tmp_path: Path, codec: Any, count: int) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(count))
    for multiplier in (1, 2) if codec == "h265" else (2,):
        for _ in range(3 if codec == "h265" else 1):  # x265 makes up the times of one or two frames
            run(source, tmp_path / "out.mp4", multiplier, codec=codec, quality="small")
            times = times_of(tmp_path / "out.mp4")
            assert times == [F(number, 24 * multiplier) for number in range(count * multiplier)]
