"""The parts of a video that takes long to make: kept until it is whole, so that a stopped run can go on."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .errors import FilmError
from .files import written_whole

_PLAN = "plan.json"
_WRITTEN = "part.mp4"
_NAME = re.compile(r"part_(\d+)_(\d+)_(\d+)\.mp4")


class Part(NamedTuple):
    """A finished part: its file, how many frames it has, and the time stamp that its own ones count from."""

    file: Path
    frames: int
    start: int


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
        try:
            if folder.exists() and _read(folder / _PLAN) != text:
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(folder / _PLAN) as temporary:
                temporary.write_text(text, encoding="utf-8")
            kept = [part.file for part in self.finished()]
            for file in folder.iterdir():
                # What a killed run left half-written, and what comes after a part that is gone.
                if file.name.startswith(".") or (_NAME.fullmatch(file.name) and file not in kept):
                    file.unlink()
        except OSError as error:
            raise FilmError(f"{folder} can't be written ({error.strerror or error}): choose another place or make room "
                            "there.") from error
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

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
