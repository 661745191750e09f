"""Fetch the released FILM and have it converted: the only module that touches the network.

What is slow to import (OpenVINO, TensorFlow, the clients) is imported where it is needed, so that finding the
model installed takes no time.
"""

import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import requests

from .errors import FilmError
from .library import FULL_MODEL, default_models_folder, is_model_folder, read_manifest

HANDLE = "https://tfhub.dev/google/film/1"
ARCHIVE_URL = "https://www.kaggle.com/api/v1/models/google/film/tensorFlow2/film/1/download"

_PACK = Path(__file__).absolute().parent.parent
_PATIENCE = 15  # seconds without a byte, after which a connection is given up
_RETRIES = 2

_TF_HUB_HANDLE = re.compile(r"https?://(?:www\.)?tfhub\.dev/([\w-]+)/([\w-]+)/(\d+)/?")
_KAGGLE_HANDLE = re.compile(
    r"(?:https?://(?:www\.)?kaggle\.com/models/)?([\w-]+/[\w-]+)/(?:frameworks/)?tensorFlow2"
    r"/(?:variations/)?([\w-]+)(?:/(?:versions/)?(\d+))?/?", re.IGNORECASE)


class _Route(NamedTuple):
    """A way to a SavedModel: where from, what fetches it (given a scratch folder), whether a cache keeps it."""

    origin: str
    fetch: Callable[[Path], Path]
    cached: bool = False


def install(models: Path, *, source: str | None = None, force: bool = False,
            report: Callable[[str], None] = print) -> Path:
    """Make sure that the full FILM lies converted in ``models/film``, and return that folder.

    Args:
        models: the folder that holds model folders; made if it isn't there.
        source: the SavedModel to convert, even over a model that is there: a folder, an archive, a URL of an
            archive, or a handle of TF Hub or Kaggle. None takes what is there: the converted model; else an
            archive (film*.tar.gz, film*.tar) or a SavedModel folder lying in `models`; else it fetches
            google/film by tensorflow_hub, where that is installed, or from Kaggle.
        force: convert again although the converted model is there.
        report: what is told of the progress, a sentence at a time.

    Raises:
        FilmError: every way failed, `source` is none of these, or a SavedModel lies where the converted one goes; a
            model that was there is untouched.
        ImportError: a package of requirements.txt is missing.
        OSError: `models` can't be written to.
    """
    model = models / FULL_MODEL
    if source is None and not force and _is_installed(model):
        report(f"FILM is installed in {model}.")
        return model
    if (model / "saved_model.pb").is_file():
        raise FilmError(f"Folder {model} is a SavedModel where the converted model goes: give that folder another name "
                        "there, and it is converted.")
    from .convert import convert  # it needs OpenVINO; where that is missing, nothing should be fetched first

    models.mkdir(parents=True, exist_ok=True)
    routes = _routes(source) if source else [*_placed_by_hand(models), *_routes(HANDLE)]
    with tempfile.TemporaryDirectory(prefix="film_fetched_") as scratch:

        def follow(route: _Route) -> Path:
            report(f"Getting FILM from {route.origin}.")
            saved_model = route.fetch(Path(scratch))
            report(f"Converting {saved_model}.")
            try:
                convert(saved_model, model)
            except FilmError as error:
                remedy = f" Delete {saved_model} first; it is a cache's copy." if route.cached else ""
                raise FilmError(f"What came from {route.origin} can't be used: {error}{remedy}") from error
            report(f"FILM is installed in {model}.")
            return model

        *first_choices, last_choice = routes
        for route in first_choices:
            try:
                return follow(route)
            except FilmError as error:
                report(str(error))
        return follow(last_choice)


def by_hand(models: Path) -> str:
    """Return the sentence that tells how to get the full model into `models` where it can't be fetched."""
    folder = "" if models == default_models_folder() else f' --models-dir "{models.absolute()}"'
    return (f"To have the full model, download {ARCHIVE_URL} in a browser, on any computer, move the file to "
            f"{models.absolute() / f'{FULL_MODEL}.tar.gz'}, and type `python install.py{folder}` (ComfyUI's Python) in "
            f"{_PACK}.")


def _is_installed(model: Path) -> bool:
    try:
        read_manifest(model)
    except FilmError:  # none is there, or one that an earlier version of this pack converted
        return False
    return is_model_folder(model)


def _placed_by_hand(models: Path) -> list[_Route]:
    # A browser may have unpacked the .gz, and a user the whole archive.
    archives = [*models.glob(f"{FULL_MODEL}*.tar.gz"), *models.glob(f"{FULL_MODEL}*.tar")]
    folders = [file.parent for file in models.glob("*/saved_model.pb")]
    return [_here(path) for path in sorted(archives) + sorted(folders)]


def _routes(source: str) -> list[_Route]:
    if match := _TF_HUB_HANDLE.fullmatch(source):
        publisher, name, version = match.groups()
        kaggle = _kaggle(f"{publisher}/{name}/tensorFlow2/{name}/{version}")
        if not (find_spec("tensorflow_hub") and find_spec("tensorflow")):
            return [kaggle]
        return [_Route(f"tensorflow_hub ({source})", partial(_from_tensorflow_hub, source), cached=True), kaggle]
    if match := _KAGGLE_HANDLE.fullmatch(source):
        model, variation, version = match.groups()
        return [_kaggle("/".join(filter(None, (model, "tensorFlow2", variation, version))))]
    if source.startswith(("http://", "https://")):
        return [_Route(source, partial(_from_url, source))]
    if (path := Path(source).expanduser()).exists():
        return [_here(path)]
    raise FilmError(f"Source {source!r} doesn't exist: give a SavedModel folder, its .tar.gz, the http(s) address "
                    f"of one, or a handle such as {HANDLE}.")


def _here(path: Path) -> _Route:
    return _Route(str(path), lambda scratch: path)


def _kaggle(handle: str) -> _Route:
    return _Route(f"Kaggle ({handle})", partial(_from_kaggle, handle), cached=True)


def _from_tensorflow_hub(handle: str, scratch: Path) -> Path:
    try:
        import tensorflow_hub

        with _bounded_waits():
            return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # TensorFlow installations break in any way
        raise FilmError(f"tensorflow_hub doesn't deliver {handle} ({_reason(error)}).") from error


def _from_kaggle(handle: str, scratch: Path) -> Path:
    import kagglehub

    try:
        with _bounded_waits():
            return Path(kagglehub.model_download(handle))
    except Exception as error:  # the client has no base class for what it raises
        raise FilmError(f"Kaggle doesn't deliver {handle} ({_reason(error)}): try again later, or download it in "
                        "a browser and give the file as --source.") from error


def _from_url(url: str, scratch: Path) -> Path:
    import pooch
    from tqdm import tqdm

    def attempt(url: str, output: str, _: object) -> None:
        # pooch sets the bar's total, but shows it only if it is true, which for tqdm means a total.
        with tqdm(total=1, unit="B", unit_scale=True) as bar:
            try:
                pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=_PATIENCE)(url, output, None)
            except requests.HTTPError as error:  # an answer, no broken transfer: pooch must not ask again
                raise FilmError(f"The server refuses the download ({error}): open the address in a browser, save the "
                                "archive, and give the file as --source.") from error
            if Path(output).stat().st_size < bar.total:  # requests over urllib3 1.26 takes that for the end
                raise requests.ConnectionError

    name = f"{FULL_MODEL}.tar.gz"
    storage = pooch.create(path=scratch, base_url="", registry={name: None}, urls={name: url},
                           retry_if_failed=_RETRIES)
    try:
        return Path(storage.fetch(name, downloader=attempt))
    except requests.RequestException as error:
        raise FilmError(f"{url} can't be downloaded ({_reason(error)}): try again later, or download it in a "
                        "browser and give the file as --source.") from error


@contextmanager
def _bounded_waits() -> Iterator[None]:
    """Give a timeout to connections that have none; the hubs' clients set none and would wait for ever.

    tensorflow_hub's urllib heeds the default of sockets; kagglehub's requests overrides it at each `send`.
    """
    default, send = socket.getdefaulttimeout(), requests.Session.send

    def bounded_send(*arguments: Any, timeout: Any = None, **settings: Any) -> requests.Response:
        return send(*arguments, timeout=timeout or _PATIENCE, **settings)

    socket.setdefaulttimeout(_PATIENCE)
    requests.Session.send = bounded_send  # type: ignore[method-assign]
    try:
        yield
    finally:
        requests.Session.send = send  # type: ignore[method-assign]
        socket.setdefaulttimeout(default)


def _reason(error: Exception) -> str:
    """Say in a few words what went wrong; the texts of connection errors are dumps of objects."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {_PATIENCE} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return "there is no connection, or it broke off"
    return " ".join(str(error).split()) or type(error).__name__
