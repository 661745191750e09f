"""How far a run is: the bar, the newest frame, and in words how fast it goes and how long it will take."""

import logging
import time

from ..ov_film.frames import Frame
from ..ov_film.words import counted
from . import host

_TEXT_SECONDS, _LOG_SECONDS = 0.5, 10


class FrameProgress:
    """Shows on the node how many frames are done; call it after each of them.

    The words come where a run takes longer than a moment. The frame that was done first is left out of the speed: the
    network was compiled for it.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar = host.progress(total)
        self._first: tuple[int, float] | None = None
        self._told = self._logged = time.monotonic()
        self._telling = False

    def __call__(self, done: int, frame: Frame | None) -> None:
        """Show that so many are done, and the newest (H,W,C) in [0,1]; raises what ComfyUI raises at a cancel."""
        now = time.monotonic()
        self._first = self._first or (done, now)
        if now - self._told >= _TEXT_SECONDS or (done == self._total and self._telling):
            self._told, self._telling = now, True
            host.show_text(self._text(done, now))
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            logging.info("FILM OpenVINO: %s", self._text(done, now))
        try:
            self._bar(done, frame)
        except Exception:
            if self._telling:
                host.show_text(f"Stopped at {self._count(done)}")
            raise

    def _text(self, done: int, now: float) -> str:
        first, began = self._first or (done, now)
        if done == first or now == began:
            return self._count(done)
        rate = (done - first) / (now - began)
        left = f", {_duration((self._total - done) / rate)} left" if done < self._total else ""
        return f"{self._count(done)}, {rate:.{0 if rate >= 100 else 1 if rate >= 10 else 2}f} frames/s{left}"

    def _count(self, done: int) -> str:
        return f"{done} of {counted(self._total, 'frame')}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
