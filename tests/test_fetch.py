"""Fetching FILM: from a server on this machine, and from stand-ins of the hubs' clients."""

import shutil
import socket
import sys
import tarfile
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Thread, Timer
from types import ModuleType

import pytest
import requests

from ov_film import fetch
from ov_film.configuration import FilmConfiguration
from ov_film.errors import FilmError
from ov_film.library import MODEL_FILES, Manifest, checked_manifest, default_models_folder, read_manifest
from ov_film.saved_model import opened_saved_model

CONFIGURATION = FilmConfiguration(7, (64, 128, 256, 512), (32, 64, 128, 256), (3, 3, 3, 3), (64, 128, 256, 256))


def converted(source: Path, output: Path) -> Manifest:
    """Stand in for the conversion: refuse what is no SavedModel, else write a model folder in its place."""
    with opened_saved_model(source) as saved_model:
        manifest = Manifest(CONFIGURATION, (saved_model / "saved_model.pb").read_text(), {}, {})
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    for name in MODEL_FILES:
        (output / name).touch()
    manifest.write(output)
    return manifest


@pytest.fixture
def stand_in_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is about the ways to a SavedModel, not about FILM: conversion takes seconds."""
    module = ModuleType("ov_film.convert")
    module.convert = converted
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders go; whatever happens in a test, none may be left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models" / "film_openvino"


def saved_model(folder: Path, text: str = "any") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(text)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def archive(path: Path, text: str = "any") -> Path:
    folder = saved_model(path.parent / f"{path.name}.unpacked", text)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=".")
    shutil.rmtree(folder)
    return path


class Server(ThreadingHTTPServer):
    """Serves /film, /breaks_once, /breaks, /garbage and /forbidden; counts what is asked for."""

    def __init__(self, served: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served = served
        self.requests: Counter[str] = Counter()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        if self.path == "/forbidden":
            self.send_error(403)
            return
        body = b"<html>Please sign in</html>" if self.path == "/garbage" else self.server.served
        broken = self.path == "/breaks" or (self.path == "/breaks_once" and self.server.requests[self.path] == 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:len(body) // 2] if broken else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(small_archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of the small FILM."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with Server(small_archive.read_bytes()) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hang_up = Timer(3, listening.close)  # so that a client without a timeout fails its test
        hang_up.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        hang_up.cancel()


Client = Callable[[str], str]


@pytest.fixture
def clients(stand_in_conversion: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """Install stand-ins of the hubs' clients; returns the list of what they are asked for, as it grows."""
    def set_up(*, kaggle: Client, tensorflow_hub: Client | None = None) -> list[tuple[str, str]]:
        asked: list[tuple[str, str]] = []

        def stand_in(name: str, function: str, client: Client) -> None:
            def called(handle: str) -> str:
                asked.append((name, handle))
                return client(handle)

            module = ModuleType(name)
            setattr(module, function, called)
            monkeypatch.setitem(sys.modules, name, module)

        stand_in("kagglehub", "model_download", kaggle)
        there = {"tensorflow", "tensorflow_hub"} if tensorflow_hub else set()
        monkeypatch.setattr(fetch, "find_spec", lambda name: ModuleSpec(name, None) if name in there else None)
        if tensorflow_hub:
            stand_in("tensorflow_hub", "resolve", tensorflow_hub)
        return asked

    return set_up


def no_network(handle: str) -> str:
    raise requests.ConnectionError(f"HTTPSConnectionPool(...): Failed to resolve the host of {handle}")


def installed(model: Path) -> str:
    """Return what the installed model was converted from."""
    return read_manifest(model).source


# An address

def test_archive_at_an_address_is_installed(server: Server, models: Path, small_folder: Path) -> None:
    assert fetch.install(models, source=server.url("/film")) == models / "film"
    assert checked_manifest(models / "film").configuration == read_manifest(small_folder).configuration
    assert [path.name for path in models.iterdir()] == ["film"]


def test_transfer_that_breaks_off_is_started_again(server: Server, models: Path) -> None:
    fetch.install(models, source=server.url("/breaks_once"))
    assert server.requests["/breaks_once"] == 2
    checked_manifest(models / "film")


def test_transfer_that_always_breaks_off_is_given_up(server: Server, models: Path) -> None:
    with pytest.raises(FilmError, match=r"/breaks can't be downloaded \(.*broke off\).*try again later"):
        fetch.install(models, source=server.url("/breaks"))
    assert server.requests["/breaks"] == 3
    assert list(models.iterdir()) == []


def test_garbage_is_named_with_its_address(server: Server, models: Path) -> None:
    with pytest.raises(FilmError, match=r"from http://\S+/garbage can't be used: Archive .* can't be unpacked"):
        fetch.install(models, source=server.url("/garbage"))
    assert list(models.iterdir()) == []


def test_refusal_is_final_and_tells_another_way(server: Server, models: Path) -> None:
    with pytest.raises(FilmError, match=r"403 .*/forbidden.*browser.*--source"):
        fetch.install(models, source=server.url("/forbidden"))
    assert server.requests["/forbidden"] == 1
    assert list(models.iterdir()) == []


def test_server_that_is_not_there(server: Server, models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/film.tar.gz"
    with pytest.raises(FilmError, match="no connection"):
        fetch.install(models, source=url)


# A path

@pytest.mark.usefixtures("stand_in_conversion")
def test_given_folder_and_archive_are_converted(tmp_path: Path, models: Path) -> None:
    fetch.install(models, source=str(saved_model(tmp_path / "folder", "folder")))
    assert installed(models / "film") == "folder"
    fetch.install(models, source=str(archive(tmp_path / "any.tar.gz", "archive")))
    assert installed(models / "film") == "archive"


def test_missing_source_is_named(tmp_path: Path, models: Path) -> None:
    with pytest.raises(FilmError, match=r"nowhere\.tar\.gz' doesn't exist: give"):
        fetch.install(models, source=str(tmp_path / "nowhere.tar.gz"))


# A handle

@pytest.mark.parametrize(("source", "handle"), [
    ("google/film/tensorFlow2/film/1", "google/film/tensorFlow2/film/1"),
    ("google/film/tensorFlow2/film", "google/film/tensorFlow2/film"),
    ("https://www.kaggle.com/models/google/film/TensorFlow2/film/1", "google/film/tensorFlow2/film/1"),
    ("https://kaggle.com/models/google/film/frameworks/tensorFlow2/variations/film/versions/1",
     "google/film/tensorFlow2/film/1"),
])
def test_kaggle_handle_goes_to_kaggle(source: str, handle: str, tmp_path: Path, models: Path, clients) -> None:
    folder = saved_model(tmp_path / "cache", "kaggle")
    asked = clients(kaggle=lambda handle: str(folder), tensorflow_hub=no_network)
    fetch.install(models, source=source)
    assert asked == [("kagglehub", handle)]
    assert installed(models / "film") == "kaggle"


def test_tf_hub_handle_goes_to_tensorflow_hub(tmp_path: Path, models: Path, clients) -> None:
    folder = saved_model(tmp_path / "cache", "hub")
    asked = clients(kaggle=no_network, tensorflow_hub=lambda handle: str(folder))
    fetch.install(models, source=fetch.HANDLE)
    assert asked == [("tensorflow_hub", fetch.HANDLE)]
    assert installed(models / "film") == "hub"


def test_tf_hub_handle_goes_to_kaggle_without_tensorflow_hub(tmp_path: Path, models: Path, clients) -> None:
    folder = saved_model(tmp_path / "cache", "kaggle")
    asked = clients(kaggle=lambda handle: str(folder))
    fetch.install(models, source=fetch.HANDLE)
    assert asked == [("kagglehub", "google/film/tensorFlow2/film/1")]


def test_compressed_tf_hub_address_is_a_plain_download(models: Path, clients, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = clients(kaggle=no_network)
    downloaded: list[str] = []

    def download(url: str, scratch: Path) -> Path:
        downloaded.append(url)
        return saved_model(scratch / "film")

    monkeypatch.setattr(fetch, "_from_url", download)
    fetch.install(models, source=f"{fetch.HANDLE}?tf-hub-format=compressed")
    assert (downloaded, asked) == ([f"{fetch.HANDLE}?tf-hub-format=compressed"], [])


# Nothing given

def test_tensorflow_hub_that_fails_is_reported_and_kaggle_asked(tmp_path: Path, models: Path, clients) -> None:
    def broken(handle: str) -> str:
        raise TypeError("Descriptors cannot be created directly.\n\nIf this call came from a _pb2.py file, ...")

    folder = saved_model(tmp_path / "cache", "kaggle")
    asked = clients(kaggle=lambda handle: str(folder), tensorflow_hub=broken)
    said: list[str] = []
    fetch.install(models, report=said.append)
    assert [name for name, _ in asked] == ["tensorflow_hub", "kagglehub"]
    assert any("Descriptors cannot be created directly." in line for line in said)
    assert not any("\n" in line for line in said)
    assert installed(models / "film") == "kaggle"


def test_damaged_copy_in_a_cache_is_reported_and_the_next_way_tried(tmp_path: Path, models: Path, clients) -> None:
    good, damaged = saved_model(tmp_path / "good", "kaggle"), tmp_path / "damaged"
    damaged.mkdir()
    clients(kaggle=lambda handle: str(good), tensorflow_hub=lambda handle: str(damaged))
    said: list[str] = []
    fetch.install(models, report=said.append)
    assert any("tensorflow_hub" in line and f"Delete {damaged} first" in line for line in said)
    assert installed(models / "film") == "kaggle"


def test_without_a_network_the_last_failure_is_raised(models: Path, clients) -> None:
    clients(kaggle=no_network, tensorflow_hub=no_network)
    with pytest.raises(FilmError, match=r"Kaggle doesn't deliver google/film/\S+ \(there is no connection"):
        fetch.install(models)
    assert list(models.iterdir()) == []


def test_refusal_by_kaggle_is_one_line(models: Path, clients) -> None:
    def refusing(handle: str) -> str:
        raise requests.HTTPError("403 Client Error.\n\nYou don't have permission to access resource.")

    clients(kaggle=refusing)
    with pytest.raises(FilmError, match=r"403 Client Error\. You don't have permission"):
        fetch.install(models)


def test_waits_of_the_clients_are_bounded(silent_url: str, models: Path, clients,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_PATIENCE", 0.05)
    send = requests.Session.send
    clients(kaggle=lambda handle: requests.get(silent_url).text,
            tensorflow_hub=lambda handle: urllib.request.urlopen(silent_url).read())
    said: list[str] = []
    with pytest.raises(FilmError, match=r"Kaggle .*\(no answer within 0.05 s\)"):
        fetch.install(models, report=said.append)
    assert any("tensorflow_hub" in line and "timed out" in line for line in said)
    assert (socket.getdefaulttimeout(), requests.Session.send) == (None, send)


# What lies there

def test_installed_model_is_left_alone(tmp_path: Path, models: Path, clients) -> None:
    fetch.install(models, source=str(saved_model(tmp_path / "old", "old")))
    asked = clients(kaggle=no_network)
    assert fetch.install(models) == models / "film"
    assert asked == []
    assert installed(models / "film") == "old"


@pytest.mark.parametrize("damage", [lambda model: (model / "fusion.bin").unlink(),
                                    lambda model: (model / "film.json").write_text('{"format": 0}')])
def test_incomplete_or_outdated_model_is_made_anew(damage: Callable[[Path], object], tmp_path: Path, models: Path,
                                                   clients) -> None:
    fetch.install(models, source=str(saved_model(tmp_path / "old", "old")))
    damage(models / "film")
    clients(kaggle=lambda handle: str(saved_model(tmp_path / "new", "new")))
    fetch.install(models)
    assert installed(models / "film") == "new"


def test_force_converts_again(tmp_path: Path, models: Path, clients) -> None:
    fetch.install(models, source=str(saved_model(tmp_path / "old", "old")))
    clients(kaggle=lambda handle: str(saved_model(tmp_path / "new", "new")))
    fetch.install(models, force=True)
    assert installed(models / "film") == "new"


@pytest.mark.usefixtures("stand_in_conversion")
def test_given_source_replaces_the_installed_model(tmp_path: Path, models: Path) -> None:
    fetch.install(models, source=str(saved_model(tmp_path / "old", "old")))
    fetch.install(models, source=str(saved_model(tmp_path / "new", "new")))
    assert installed(models / "film") == "new"


@pytest.mark.parametrize("path", ["/breaks", "/garbage", "/forbidden"])
def test_failure_keeps_the_installed_model(path: str, models: Path, server: Server, small_folder: Path) -> None:
    shutil.copytree(small_folder, models / "film")
    with pytest.raises(FilmError):
        fetch.install(models, source=server.url(path), force=True)
    assert checked_manifest(models / "film") == read_manifest(small_folder)
    assert [path.name for path in models.iterdir()] == ["film"]


def test_the_way_by_hand_names_the_folder_where_it_is_not_the_usual_one(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "python install.py`" in fetch.by_hand(default_models_folder())
    told = fetch.by_hand(Path("here"))
    assert f'python install.py --models-dir "{tmp_path / "here"}"`' in told
    assert f"{tmp_path / 'here' / 'film.tar.gz'}," in told


@pytest.mark.parametrize("place", [lambda models: archive(models / "film.tar.gz", "placed"),
                                   lambda models: archive(models / "film-tensorflow2-film-v1.tar.gz", "placed"),
                                   lambda models: saved_model(models / "film_saved_model", "placed")])
def test_what_was_placed_by_hand_is_converted_without_a_network(place: Callable[[Path], Path], models: Path,
                                                                clients) -> None:
    asked = clients(kaggle=no_network)
    models.mkdir(parents=True)
    place(models)
    fetch.install(models)
    assert asked == []
    assert installed(models / "film") == "placed"


def test_damaged_archive_placed_by_hand_is_reported_and_passed_over(tmp_path: Path, models: Path, clients) -> None:
    clients(kaggle=lambda handle: str(saved_model(tmp_path / "cache", "kaggle")))
    models.mkdir(parents=True)
    (models / "film.tar.gz").write_bytes(b"half an archi")
    said: list[str] = []
    fetch.install(models, report=said.append)
    assert any("film.tar.gz can't be unpacked" in line for line in said)
    assert installed(models / "film") == "kaggle"
    assert (models / "film.tar.gz").is_file()


def test_saved_model_in_the_place_of_the_converted_one_is_kept(models: Path, clients) -> None:
    asked = clients(kaggle=no_network)
    saved_model(models / "film")
    with pytest.raises(FilmError, match="give that folder another name"):
        fetch.install(models)
    assert asked == []
    assert (models / "film" / "saved_model.pb").is_file()
