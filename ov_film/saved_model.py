"""Open a TF2 SavedModel, from a folder or an archive, and read FILM's tensors out of it."""

import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .checkpoint import read_variables
from .configuration import TENSOR_NAME, FilmTensors, canonical_names
from .errors import FilmError

# The released FILM unpacks to 141 MB in 5 files; far more is no FILM and may be meant to fill the disk.
_MOST_BYTES, _MOST_MEMBERS = 2 << 30, 1000


@contextmanager
def opened_saved_model(path: Path) -> Iterator[Path]:
    """Yield the folder that holds ``saved_model.pb``; what an archive unpacks to is removed afterwards.

    Args:
        path: a SavedModel folder, or a .tar.gz (any tar) of one.

    Raises:
        FilmError: nothing is there, it is no SavedModel, or the archive is damaged or unsafe to unpack.
    """
    if path.is_dir():
        yield _saved_model_in(path, path)
        return
    if not path.exists():
        raise FilmError(f"SavedModel {path} doesn't exist: give the path of a SavedModel folder or its .tar.gz.")
    with tempfile.TemporaryDirectory(prefix="film_saved_model_") as folder:
        _unpack(path, Path(folder))
        yield _saved_model_in(Path(folder), path)


def read_film_tensors(saved_model: Path) -> FilmTensors:
    """Return FILM's tensors of an opened SavedModel by their canonical names.

    Raises:
        FilmError: the checkpoint can't be read, or holds no FILM variables.
    """
    variables = read_variables(saved_model / "variables" / "variables.index", TENSOR_NAME)
    if not variables:
        raise FilmError("The SavedModel has no variables of a FILM (feat_net/…, predict_flow/…, fusion/…): give it the "
                        "SavedModel of google/film.")
    return canonical_names(variables)


def _saved_model_in(folder: Path, source: Path) -> Path:
    found = sorted(folder.rglob("saved_model.pb"), key=lambda file: len(file.parts))
    if not found:
        raise FilmError(f"{source} holds no saved_model.pb: give the path of a TF2 SavedModel folder or its .tar.gz.")
    saved_model = found[0].parent
    if not (saved_model / "variables" / "variables.index").is_file():
        raise FilmError(f"SavedModel {source} lacks variables/variables.index: it is incomplete, fetch it again.")
    return saved_model


def _unpack(archive: Path, folder: Path) -> None:
    unpacked = 0
    try:
        with tarfile.open(archive) as tar:
            for count, member in enumerate(tar, start=1):
                parts = member.name.replace("\\", "/").split("/")
                unpacked += member.size
                if not (member.isfile() or member.isdir()) or ".." in parts or not parts[0] or ":" in parts[0]:
                    raise FilmError(f"Archive {archive} holds {member.name!r}, which is a link or leads out of the "
                                    "archive's own folder: it is unsafe, fetch the SavedModel elsewhere.")
                if unpacked > _MOST_BYTES or count > _MOST_MEMBERS:
                    raise FilmError(f"Archive {archive} unpacks to more than {_MOST_BYTES >> 30} GiB or "
                                    f"{_MOST_MEMBERS} files: it is no FILM, fetch the SavedModel elsewhere.")
                tar.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise FilmError(f"Archive {archive} can't be unpacked ({reason}): fetch it again, as a .tar.gz.") from error
