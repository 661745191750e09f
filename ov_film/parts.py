"""The parts of a video that takes long to make: kept until it is whole, so that a stopped run can go on."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from .errors import FilmError
from .files import unwritable, written_whole

ABANDONED_DAYS = 30
_PLAN = "plan.json"
_WRITTEN = "part.mp4"
_LOCK = "lock"
_DAY = 24 * 60 * 60  # seconds
_NAME = re.compile(r"part_(\d+)_(\d+)_(\d+)\.mp4")


class Part(NamedTuple):
    """A finished part: its file, how many frames it has, and the time stamp that its own ones count from."""

    file: Path
    frames: int
    start: int


@contextmanager
def opened_parts(folder: Path, plan: Mapping[str, Any]) -> Iterator["Parts"]:
    """Yield the parts in a folder, and let no other run touch them meanwhile.

    They go at the end; where the body raises they stay for the next run of the same plan. Parts made by another plan
    are removed.

    Raises:
        FilmError: another run is at work there, or the folder can't be written.
    """
    lock = FileLock(folder / _LOCK)  # the system's own kind of lock, which ends with the process, however that ends
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise FilmError(f"Another run is making frames of this video (its parts lie in {folder}): wait until it has "
                        "ended, or stop it.") from error
    except (OSError, NotImplementedError):
        pass  # some file systems have no locks; whether it can be written shows in a moment
    try:
        yield Parts(folder, plan)
        with suppress(OSError):  # what can't be removed hurts nobody
            _empty(folder)
    finally:
        _leave(folder, lock)


def remove_abandoned(folder: Path, keep: Path) -> int:
    """Remove the folders of parts in a folder that no run has touched for 30 days; return how many.

    Args:
        folder: where folders of parts lie.
        keep: one of them that is about to be used.
    """
    removed = 0
    for plan in folder.glob(f"*/{_PLAN}"):
        parts = plan.parent
        with suppress(OSError):
            if parts != keep and time.time() - parts.stat().st_mtime > ABANDONED_DAYS * _DAY:
                lock = FileLock(parts / _LOCK)
                lock.acquire(blocking=False)
                _empty(parts)
                _leave(parts, lock)
                removed += 1
    return removed


class Parts:
    """A folder of parts, in order and without gaps. MP4 holds every codec's time stamps exactly, and colour tags.

    Attributes:
        frames: how many frames they have together.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        """Go on with the parts in a folder if they were made by the same plan, else begin anew.

        Raises:
            FilmError: the folder can't be written.
        """
        self.folder = folder
        text = json.dumps(plan, indent=1, sort_keys=True)
        with _writable(folder):
            if _read(folder / _PLAN) != text:
                _empty(folder)
            with written_whole(folder / _PLAN) as temporary:
                temporary.write_text(text, encoding="utf-8")
            kept = [part.file for part in self.finished()]
            for file in folder.iterdir():
                # What a killed run left half-written, and what comes after a part that is gone.
                if file.name.startswith(".") or (_NAME.fullmatch(file.name) and file not in kept):
                    file.unlink()
        self.frames = sum(part.frames for part in self.finished())

    def finished(self) -> list[Part]:
        """Return the parts, in order."""
        found: list[Part] = []
        frames = 0
        for file in sorted(self.folder.iterdir()):
            match = _NAME.fullmatch(file.name)
            if match and int(match[1]) == frames:
                found.append(Part(file, int(match[2]), int(match[3])))
                frames += found[-1].frames
        return found

    @contextmanager
    def part(self) -> Iterator[Path]:
        """Yield where to write the next part; `add` then says what it is.

        Raises:
            FilmError: it can't be written.
        """
        with written_whole(self.folder / _WRITTEN) as temporary:
            yield temporary

    def add(self, frames: int, start: int) -> None:
        """Take the part that was written as the next one; see `Part`."""
        (self.folder / _WRITTEN).rename(self.folder / f"part_{self.frames:09d}_{frames}_{start}.mp4")
        self.frames += frames


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error


def _empty(folder: Path) -> None:
    """Remove what lies in a folder of parts, but for its lock."""
    for file in folder.iterdir():
        if file.name != _LOCK:
            file.unlink()


def _leave(folder: Path, lock: FileLock) -> None:
    """Give the lock of a folder back, and remove the folder if it holds no part."""
    kept = True
    with suppress(OSError):
        kept = any(_NAME.fullmatch(file.name) for file in folder.iterdir())
        if not kept:
            _empty(folder)
    lock.release()
    if not kept:
        with suppress(OSError):  # another run may have begun there
            (folder / _LOCK).unlink(missing_ok=True)  # after the release: Windows removes no file that is open
            folder.rmdir()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
