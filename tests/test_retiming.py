"""Times of new frames, and between which frames of the source they lie."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ov_film.batch import uninterpolated
from ov_film.clip import open_clip
from ov_film.errors import FilmError
from ov_film.retiming import Clock, Gap, Retiming, gaps, parse_ranges
from ov_film.scenes import change, difference, is_cut
from tests.clips import Levels, moving, pictures_of, psnr, run, write_clip
from tests.conftest import picture

F = Fraction


def laid_out(folder: Path, frames: list[Levels], crf: int = 10, **options: Any) -> list[Gap]:
    """Return the gaps of a clip at 24 frames a second."""
    source = write_clip(folder / "in.mp4", frames, options={"crf": str(crf), "preset": "medium"})
    clip, retiming = open_clip(source), Retiming(**options)
    clock = Clock(clip, retiming)
    found = list(gaps(clip, retiming, clock))
    times = [time for gap in found for time in gap.times]
    assert times == sorted(set(times)) and len(times) == clock.total
    assert sum(gap.reads for gap in found) == clip.count == len(frames)
    return found


def scene(count: int, seed: int = 0) -> list[Levels]:
    return [np.asarray(cv2.resize(frame, (384, 216), interpolation=cv2.INTER_CUBIC), np.uint8)
            for frame in moving(count, 36, 64, seed)]


@pytest.mark.parametrize("crf", [10, 23, 28])
@pytest.mark.parametrize("held", [2, 3, 4])
def test_animation_on_twos_becomes_smooth(tmp_path: Path, held: int, crf: int) -> None:
    frames = [frame for frame in scene(6) for _ in range(held)]
    found = laid_out(tmp_path, frames, crf, drop_duplicates=True)
    assert [gap.before.number for gap in found] == list(range(0, 6 * held, held))
    assert all(gap.reads == held and len(gap.times) == 2 * held for gap in found)
    assert all(gap.end - gap.start == F(held, 24) for gap in found)


def test_what_stands_for_longer_goes_on_standing(tmp_path: Path) -> None:
    moves = scene(4)
    found = laid_out(tmp_path, moves[:2] + [moves[2]] * 9 + moves[3:], drop_duplicates=True)
    assert [gap.before.number for gap in found] == list(range(12)) and all(gap.reads == 1 for gap in found)


def test_a_cut_among_duplicates_stays_where_it_is(tmp_path: Path) -> None:
    found = laid_out(tmp_path, [frame for frame in scene(6) + scene(6, seed=1) for _ in range(4)], drop_duplicates=True)
    cut, = [gap for gap in found if gap.cut]
    assert (cut.before.number, cut.reads, cut.end - cut.start, cut.end) == (20, 4, F(1, 24), 1)


@pytest.mark.parametrize("moves", [3, 40])  # frames at a rate that varies, and at a constant one
def test_what_stands_still_for_long_does_not_creep(tmp_path: Path, moves: int) -> None:
    stamps = [*range(moves), moves + 29]
    source = write_clip(tmp_path / "in.mp4", moving(moves + 1), 30, stamps=stamps, time_base=F(1, 30))
    run(source, tmp_path / "out.mp4", frame_rate=F(60))
    assert open_clip(source).constant == (moves == 40)
    shown = pictures_of(tmp_path / "out.mp4")
    last, following = 2 * (moves - 1), 2 * (moves + 29)
    changes = [number for number in range(last + 1, following + 1) if psnr(shown[number], shown[number - 1]) < 35]
    assert changes == [following - 1, following]


def test_duplicates_stay_where_they_are_not_to_be_dropped(tmp_path: Path) -> None:
    assert len(laid_out(tmp_path, [frame for frame in scene(5) for _ in range(2)])) == 10


def test_small_motion_is_no_duplicate(tmp_path: Path) -> None:
    still = scene(1)[0]
    frames = []
    for number in range(8):
        frame = still.copy()
        frame[90:114, 30 + 3 * number:54 + 3 * number] = (255, 220, 40)
        frames.append(frame)
    assert len(laid_out(tmp_path, frames, 23, drop_duplicates=True)) == 8


def test_cuts_among_duplicates_are_found(tmp_path: Path) -> None:
    frames = [frame for seed in range(3) for frame in scene(4, seed) for _ in range(2)]
    found = laid_out(tmp_path, frames, 23, drop_duplicates=True)
    assert [gap.before.number for gap in found if gap.cut] == [6, 14] and len(found) == 12
    assert [gap.interpolated for gap in found] == [not gap.cut for gap in found[:-1]] + [False]


@pytest.mark.parametrize("crf", [10, 28])
def test_cuts_are_found_and_motion_is_none(tmp_path: Path, crf: int) -> None:
    frames = scene(8) + scene(8, 1)[::3] + scene(2, 2) + scene(8, 3)
    found = laid_out(tmp_path, frames, crf)
    assert [gap.before.number for gap in found if gap.cut] == [7, 10, 12]


def test_a_flash_is_no_cut(tmp_path: Path) -> None:
    frames = scene(9)
    frames[4] = np.full_like(frames[4], 250)
    assert not any(gap.cut for gap in laid_out(tmp_path, frames))


def test_a_cut_stands_out_from_its_neighbours() -> None:
    assert is_cut(0.01, 0.2, 0.01) and not is_cut(0.01, 0.02, 0) and not is_cut(0.15, 0.2, 0.15)


def test_pictures_of_any_size_are_compared() -> None:
    for rows in (32, 72, 256):
        picture = np.random.default_rng(0).integers(0, 256, (rows, 128, 3), np.uint8)
        assert change(picture, picture) < 0.01 and difference(picture, picture) == 0
        assert change(picture, 255 - picture) > 0.1 and difference(picture, 255 - picture) > 100


@pytest.mark.parametrize(("options", "allowed"), [
    ({"skip": ((2, 3), (6, 99))}, [0, 1, 4, 5]), ({"only": ((2, 3),)}, [2, 3]),
    ({"only": ((2, 9),), "skip": ((4, 4),)}, [2, 3, 5, 6]), ({}, [0, 1, 2, 3, 4, 5, 6]),
    ({"loop": True}, [0, 1, 2, 3, 4, 5, 6, 7]), ({"loop": True, "skip": ((7, 7),)}, [0, 1, 2, 3, 4, 5, 6])])
def test_only_and_skip_say_where_to_interpolate(tmp_path: Path, options: Any, allowed: list[int]) -> None:
    found = laid_out(tmp_path, scene(8), **options)
    assert [gap.before.number for gap in found if gap.interpolated] == allowed


def test_loop_ends_with_the_first_frame(tmp_path: Path) -> None:
    last = laid_out(tmp_path, scene(5), loop=True)[-1]
    assert last.after is not None and (last.before.number, last.after.number) == (4, 0)
    assert (last.start, last.end) == (F(4, 24), F(5, 24))
    assert laid_out(tmp_path, scene(5))[-1].after is None


@pytest.mark.parametrize(("multiplier", "rate", "slow", "new_rate", "total", "stretch", "dyadic"), [
    (F(2), None, False, F(48), 20, 1, True), (F(8), None, False, F(192), 80, 1, True),
    (F(16), None, False, F(384), 160, 1, False), (F(5, 2), None, False, F(60), 25, 1, False),
    (None, F(60000, 1001), False, F(60000, 1001), 25, 1, False), (None, F(48), False, F(48), 20, 1, True),
    (F(4), None, True, F(24), 40, 4, True), (None, F(60), True, F(24), 25, F(5, 2), False),
    (F(1), None, False, F(24), 10, 1, True)])
def test_the_clock_counts_exactly(tmp_path: Path, multiplier: Any, rate: Any, slow: bool, new_rate: Fraction,
                                  total: int, stretch: Any, dyadic: bool) -> None:
    clip = open_clip(write_clip(tmp_path / "in.mp4", moving(10)))
    clock = Clock(clip, Retiming(multiplier, rate, slow))
    assert (clock.frame_rate, clock.total, clock.stretch, clock.dyadic) == (new_rate, total, stretch, dyadic)
    times = clock.times(F(0), clip.end)
    assert len(times) == total and [clock.pts(time) for time in times] == list(range(total))


@pytest.mark.parametrize(("options", "text"), [
    ({"multiplier": F(1, 2)}, "from 1 to 256"), ({"multiplier": F(300)}, "from 1 to 256"),
    ({"multiplier": None}, "one of the two"), ({"frame_rate": F(60)}, "one of the two"),
    ({"cuts": "some"}, "repeat, blend, ignore"), ({"multiplier": F(100)}, "1000 at most"),
    ({"multiplier": None, "frame_rate": F(12)}, "is below the 24")])
def test_what_can_not_be_is_said(tmp_path: Path, options: Any, text: str) -> None:
    clip = open_clip(write_clip(tmp_path / "in.mp4", moving(2)))
    with pytest.raises(FilmError, match=text):
        Clock(clip, Retiming(**options))


def test_ranges_are_read() -> None:
    ranges = parse_ranges(" 0-9, 25 ,100-,, 3 - 4 ", "skip")
    assert ranges[:2] == ((0, 9), (25, 25)) and ranges[3] == (3, 4) and ranges[2][1] > 10 ** 9
    assert parse_ranges("", "skip") == ()
    for text in ("a", "-5", "1-2-3", "1.5", "9-3", "\u00b2"):
        with pytest.raises(FilmError, match=r"^skip: "):
            parse_ranges(text, "skip")


@pytest.mark.parametrize("size", [(16, 1280), (1280, 16)])
def test_a_cut_between_frames_far_longer_one_way_than_the_other_is_found(size: tuple[int, int]) -> None:
    frames = [picture(*size, seed) for seed in (0, 0, 0, 1, 1, 1)]
    assert uninterpolated(frames, 6, Retiming()) == {2}
