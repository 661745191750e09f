"""Files and folders that appear whole or not at all."""

import errno
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import FilmError


def unwritable(path: Path, error: OSError) -> FilmError:
    """Return the error that says why something can't be written, and what helps."""
    remedy = ("choose a shorter name" if error.errno == errno.ENAMETOOLONG
              else "choose another place or make room there")
    return FilmError(f"{path} can't be written ({error.strerror or error}): {remedy}.")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; the file or folder made there replaces `path`, or goes if the body raises.

    The name is hidden and has the suffix of `path`. Missing parent folders are created.

    Raises:
        FilmError: it can't be written, or the disk is full; what was at `path` is still there.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _remove(temporary)


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left of `path`; none may be writing it now."""
    leftover = re.compile(re.escape(f".{path.stem}.") + r"[0-9a-f]{8}" + re.escape(path.suffix))
    with suppress(OSError):
        for file in path.parent.iterdir():
            if leftover.fullmatch(file.name):
                _remove(file)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a folder to a name that may be taken, which a rename alone does only to empty folders, on some systems."""
    aside = new.with_name(new.name + ".old")
    if path.exists():
        path.rename(aside)
    try:
        new.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    with suppress(OSError):  # a path that can't be written can be one that can't be looked at
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
