"""Files that appear whole or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FilmError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what was written there is renamed to `path`, or removed if the body raises.

    The name is hidden and has the suffix of `path`. Missing parent folders are created.

    Raises:
        FilmError: the folder or the file can't be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FilmError(f"{path} can't be written ({error.strerror or error}): choose another place or make room there."
                        ) from error
    finally:
        temporary.unlink(missing_ok=True)
