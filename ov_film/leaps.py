"""Time stamps that leap ahead by so much that they can't be meant, and clocks that are set back."""

from fractions import Fraction
from itertools import pairwise

# Seconds that go by without picture or sound. What stands still for longer has sound, as a rule, and then is no leap.
_LEAST_LEAP = 600
# The same in containers of broadcasts and discs, whose clocks are set anew on the way; FFmpeg's own figure.
_LEAST_BROADCAST_LEAP = 10
_STEPS = 10  # in the least leap
_SET_BACK = 1  # seconds; pictures are decoded out of order, but by less


class Clock:
    """Follows the time stamps of one stream, in the file's order or as shown, through a clock that is set back."""

    def __init__(self, offsets: list[Fraction]) -> None:
        """Begin; `offsets` are seconds to add before the clock is set back first, after that, and so on."""
        self._offsets, self._place = offsets, 0
        self._last: Fraction | float | None = None
        self._away = False

    def is_set_back(self, time: Fraction | float) -> bool:
        """Return whether the next stamp, in seconds, says that the clock was set back: not only from a leap."""
        return self._last is not None and time < self._last - _SET_BACK and not self._away

    def is_last(self) -> bool:
        """Return whether no further setting back is known."""
        return self._place == len(self._offsets) - 1

    def offset(self, time: Fraction | float) -> Fraction:
        """Return what is to be added to the next stamp, in seconds."""
        if self.is_set_back(time) and not self.is_last():
            self._place += 1
        leap = 0 if self._last is None else time - self._last
        self._away = leap > _LEAST_BROADCAST_LEAP or (self._away and leap > -_SET_BACK)
        self._last = time
        return self._offsets[self._place]


class Leaps:
    """The leaps in a file's time stamps. First `see` all of its packets, then `close`.

    Attributes:
        seconds: how long each leap is after which the file goes on; those are closed.
        offsets: what is to be added to time stamps, in seconds, as often as a broadcast's clock was set back: joined
            recordings begin anew. What follows goes on where the last stream had ended.
    """

    def __init__(self, broadcast: bool = False) -> None:
        """Begin without any; `broadcast` says whether the container's clock may be set anew on the way."""
        self._least = _LEAST_BROADCAST_LEAP if broadcast else _LEAST_LEAP
        self._step = self._least / _STEPS
        self._broadcast = broadcast
        self.offsets = [Fraction(0)]
        self._clocks: dict[int, Clock] = {}  # of each stream
        self._over = 0.0  # when all that was seen is over
        self.seconds: list[float] = []
        self._steps: dict[int, tuple[float, float]] = {}  # that packets lie in: when the first begins, the last is over
        self._latest: dict[int, int] = {}  # step of each stream
        self._back: set[int] = set()  # steps that a stream returned to
        self._closed: list[tuple[float, Fraction | None]] = []  # from when on, and what is too much; None: not known

    def clock(self) -> Clock:
        """Return a clock for one stream, at its beginning."""
        return Clock(self.offsets)

    def see(self, stream: int, begin: float, duration: float, usual: float) -> Fraction:
        """Take in a packet of pictures or sound, in the file's order; return what its clock lacks, in seconds.

        Args:
            stream: its number.
            begin: its time stamp, in seconds.
            duration: how long it lasts; 0 is not known, and MP4 has leaps as durations.
            usual: how long one lasts as a rule.
        """
        clock = self._clocks.setdefault(stream, self.clock())
        if self._broadcast and clock.is_set_back(begin) and clock.is_last():
            self.offsets.append(Fraction(round((self._over - begin) * 1000), 1000))
        offset = clock.offset(begin)
        begin += float(offset)
        over = begin + (duration if 0 < duration < self._least else usual)
        step = int(begin // self._step)
        first, last = self._steps.get(step, (begin, over))
        self._steps[step] = min(first, begin), max(last, over)
        latest = self._latest[stream] = max(step, self._latest.get(stream, step))
        if latest - step >= _STEPS:
            self._back.add(step)
        self._over = max(self._over, over)
        return offset

    def close(self) -> None:
        """Find the leaps. Where a stream comes back from one, no time beyond is known; else they follow at once."""
        gone = Fraction(0)
        steps = sorted(self._steps)
        for before, after in pairwise(steps):
            begin, over = self._steps[after][0], self._steps[before][1]
            if begin - over < self._least:
                continue
            if any(step <= before for step in self._back):
                self._closed.append((begin, None))
                break
            self.seconds.append(begin - over)
            gone += Fraction(round((begin - over) * 1000), 1000)
            self._closed.append((begin, gone))

    def closed(self, time: Fraction) -> Fraction | None:
        """Return a time of the file, in seconds, without the leaps before it; None where it is not known."""
        for begin, gone in reversed(self._closed):
            if time > begin - self._step:  # well within the leap: packets and pictures may round differently
                return None if gone is None else time - gone
        return time
