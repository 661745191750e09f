"""Which frames a clip will have: at what times, between which frames of the source, and how they are to be made."""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias, get_args

from .clip import Clip, ClipFrame
from .errors import FilmError
from .scenes import Thumbnail, change, is_cut, is_duplicate

Cuts = Literal["repeat", "blend", "ignore"]
CUTS: tuple[Cuts, ...] = get_args(Cuts)
Ranges: TypeAlias = tuple[tuple[int, int], ...]

MOST_MULTIPLIER = 256
_MOST_RATE = 1000
_MOST_DENOMINATOR = 100_000_000
# Animation holds a drawing for two, three or four frames; what stands longer is meant to stand.
_MOST_DROPPED = 3
# A frame that is shown for longer than this, and so many times as long as usual, stands still: screens are recorded so.
_STILL, _STILL_TIMES = Fraction(1, 2), 5


@dataclass(frozen=True)
class Retiming:
    """What to make of a clip's times.

    Attributes:
        multiplier: so many times the frames; None where `frame_rate` says it.
        frame_rate: the frames a second to come to; None where `multiplier` says it.
        slow_motion: whether the clip is to keep its frame rate and last longer; else it keeps its length.
        cuts: at a scene cut, and where `skip` and `only` forbid it, nothing is interpolated: the nearer frame is
            repeated, or both are blended; "ignore" looks for no cuts.
        drop_duplicates: whether frames that repeat the one before (up to three in a row) give way to new ones.
        skip: frames, by ranges of first and last number from 0, after which nothing is interpolated.
        only: those after which something is; empty is all.
        loop: whether the last frame goes on to the first.
    """

    multiplier: Fraction | None = Fraction(2)
    frame_rate: Fraction | None = None
    slow_motion: bool = False
    cuts: Cuts = "repeat"
    drop_duplicates: bool = False
    skip: Ranges = ()
    only: Ranges = ()
    loop: bool = False

    def __post_init__(self) -> None:  # noqa: D105
        if (self.multiplier is None) == (self.frame_rate is None):
            raise FilmError("Give a multiplier or a frame rate: one of the two.")
        if self.multiplier is not None and not 1 <= self.multiplier <= MOST_MULTIPLIER:
            raise FilmError(f"Multiplier is {self.multiplier}: choose one from 1 to {MOST_MULTIPLIER}.")
        if self.cuts not in CUTS:
            raise FilmError(f"Cuts is {self.cuts!r}: choose one of {', '.join(CUTS)}.")

    def allows(self, number: int) -> bool:
        """Whether something may be interpolated after a frame of the source."""
        return (not self.only or _within(number, self.only)) and not _within(number, self.skip)


class Clock:
    """The times that a retimed clip's frames are made for, and when they are shown.

    Attributes:
        frame_rate: of the new clip, frames a second; its mean where it varies.
        stretch: how many times as long as its source the new clip is.
        total: how many frames it will have.
        dyadic: whether recursion reaches all of its times exactly, in three steps at most.
        time_base: seconds that `pts` counts in.
    """

    def __init__(self, clip: Clip, retiming: Retiming) -> None:
        """Lay the times out.

        Raises:
            FilmError: the frame rate to come to is below the clip's constant one, or above 1000.
        """
        multiplier = retiming.multiplier or (retiming.frame_rate or clip.frame_rate) / clip.frame_rate
        if multiplier < 1 and clip.constant:
            raise FilmError(f"Frame rate {_text(retiming.frame_rate)} is below the {_text(clip.frame_rate)} of "
                            f"{clip.name}: choose a higher one.")
        self.stretch = multiplier if retiming.slow_motion else Fraction(1)
        # In seconds of the source. Times that vary are halved where they are; others follow a constant rate.
        self._rate = clip.frame_rate * multiplier
        self._parts = 0 if clip.constant or multiplier.denominator > 1 or retiming.frame_rate else int(multiplier)
        self.frame_rate = self._rate / self.stretch
        if self.frame_rate > _MOST_RATE:
            raise FilmError(f"{clip.name} would have {_text(self.frame_rate)} frames a second: choose a smaller "
                            f"multiplier, or a frame rate of {_MOST_RATE} at most.")
        self.total = clip.count * self._parts if self._parts else _ceil(clip.end * self._rate)
        self.dyadic = multiplier in (1, 2, 4, 8) and (clip.constant or self._parts > 0)
        # Where times vary, those of the source stay exact, as long as an encoder can count in such steps.
        exact = clip.time_base * self.stretch / multiplier
        fine = exact if exact.denominator <= _MOST_DENOMINATOR else Fraction(1, 90_000)
        self.time_base = fine if self._parts else 1 / self.frame_rate

    def times(self, start: Fraction, end: Fraction) -> list[Fraction]:
        """Return the times from start until before end, in seconds of the source; both are times of its frames."""
        if self._parts and start < end:
            return [start + (end - start) * part / self._parts for part in range(self._parts)]
        return [place / self._rate for place in range(_ceil(start * self._rate), _ceil(end * self._rate))]

    def pts(self, time: Fraction) -> int:
        """Return when the frame of a time is shown, in the time base."""
        return round(time * self.stretch / self.time_base)


class Gap(NamedTuple):
    """A frame of the source, the next one, and what comes between.

    Attributes:
        before, after: the two; after the last frame of all there is none.
        start, end: from when until when the one moves into the other, in seconds of the source: their times, but where
            `before` stands still for long, and where there is no interpolation, the last moment of that; `after` may
            be the first frame again, one loop later.
        times: those of the new clip from `before` until before `after`.
        interpolated: whether there may be interpolation.
        cut: whether the scene changes.
        reads: how many frames of the source it takes in: `before`, and its duplicates that were dropped.
    """

    before: ClipFrame
    after: ClipFrame | None
    start: Fraction
    end: Fraction
    times: list[Fraction]
    interpolated: bool
    cut: bool
    reads: int


def gaps(clip: Clip, retiming: Retiming, clock: Clock) -> Iterator[Gap]:
    """Yield the gaps of a clip, in order; no more than a handful of its frames is held."""
    kept = _kept(_seen(clip, clock), retiming.drop_duplicates)
    first, before, changes = None, None, (0.0, 0.0)
    waiting: tuple[_Seen, _Seen] | None = None

    def gap(before: _Seen, after: _Seen, next_change: float) -> Gap:
        cut = retiming.cuts != "ignore" and is_cut(*changes, next_change)
        allowed = not cut and retiming.allows(before.frame.number)
        start, end = before.frame.time, after.frame.time
        if not allowed or end - start > max(_STILL, _STILL_TIMES * clip.usual):
            start = max(start, end - clip.usual)
        return Gap(before.frame, after.frame, start, end, before.times, allowed, cut, before.reads)

    for seen in kept:
        first = first or seen
        if before is not None:
            newest = change(before.thumbnail, seen.thumbnail)
            if waiting:
                yield gap(*waiting, newest)
            waiting, changes = (before, seen), (changes[1], newest)
        before = seen
    if waiting:
        yield gap(*waiting, 0.0)
    if before is not None and first is not None:
        after = first.frame if retiming.loop and first is not before else None
        allowed = after is not None and retiming.allows(before.frame.number)
        end = clip.end_of(before.frame)
        yield Gap(before.frame, after, before.frame.time, end, before.times, allowed, False, before.reads)


class _Seen(NamedTuple):
    frame: ClipFrame
    thumbnail: Thumbnail
    times: list[Fraction]
    reads: int = 1


def _seen(clip: Clip, clock: Clock) -> Iterator[_Seen]:
    """Yield each frame with the times from its own until before the next one's."""
    before: ClipFrame | None = None
    for frame in clip.frames():
        if before is not None:
            yield _Seen(before, before.thumbnail(), clock.times(before.time, frame.time))
        before = frame
    if before is not None:
        end = clip.end_of(before)
        yield _Seen(before, before.thumbnail(), clock.times(before.time, end))


def _kept(frames: Iterable[_Seen], drop_duplicates: bool) -> Iterator[_Seen]:
    """Yield the frames that are none's duplicates; those dropped leave their times to the one before them."""
    if not drop_duplicates:
        yield from frames
        return
    kept: _Seen | None = None
    run: list[_Seen] = []  # the duplicates of `kept` so far, while they may be dropped
    still = False
    for seen in frames:
        if kept is not None and is_duplicate(kept.thumbnail, seen.thumbnail):
            if not still and len(run) < _MOST_DROPPED:
                run.append(seen)
                continue
            yield from [kept, *run]
            kept, run, still = seen, [], True
            continue
        if kept is not None:
            yield _joined(kept, run)
        kept, run, still = seen, [], False
    if kept is not None:
        yield _joined(kept, run)


def _joined(kept: _Seen, dropped: list[_Seen]) -> _Seen:
    times = chain.from_iterable(seen.times for seen in dropped)
    return kept._replace(times=[*kept.times, *times], reads=1 + len(dropped))


def parse_ranges(text: str, name: str) -> Ranges:
    """Return the ranges of frames that a text such as "0-9, 25, 100-" lists; an open one goes on to the end.

    Errors call it by its name.

    Raises:
        FilmError: it is no such list.
    """
    ranges = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)(\s*-\s*(\d*))?", part)
        if match is None:
            raise FilmError(f"{name}: {part!r} is no range of frames: give some such as 0-9, 25, 100-.")
        first = int(match[1])
        last = first if match[2] is None else int(match[3]) if match[3] else sys.maxsize
        if last < first:
            raise FilmError(f"{name}: range {part!r} ends before it begins: give some such as 0-9, 25, 100-.")
        ranges.append((first, last))
    return tuple(ranges)


def _within(number: int, ranges: Ranges) -> bool:
    return any(first <= number <= last for first, last in ranges)


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _text(rate: Fraction | None) -> str:
    return f"{float(rate or 0):.6g}"
