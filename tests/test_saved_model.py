"""Opening SavedModels: folders, archives, and what only looks like one."""

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ov_film.errors import FilmError
from ov_film.saved_model import opened_saved_model
from tests.film_tensorflow import Film


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where archives are unpacked; it must be empty again after every test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


def test_a_folder_is_opened_in_place(small_film: tuple[Path, Film]) -> None:
    with opened_saved_model(small_film[0]) as folder:
        assert folder == small_film[0]


def test_an_archive_is_unpacked_and_removed_afterwards(small_archive: Path) -> None:
    with opened_saved_model(small_archive) as folder:
        assert (folder / "variables" / "variables.index").is_file()
    assert not folder.exists()


def test_what_an_error_leaves_is_removed_too(small_archive: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened_saved_model(small_archive):
        raise KeyboardInterrupt


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize("hostile", [
    member("../outside"), member("film/../../outside"), member("/tmp/outside"), member("C:/outside"),
    member("..\\outside"), member("link", tarfile.SYMTYPE, "/etc/passwd"), member("link", tarfile.SYMTYPE, "inside"),
    member("link", tarfile.LNKTYPE, "../outside"), member("device", tarfile.CHRTYPE), member("pipe", tarfile.FIFOTYPE),
], ids=lambda info: f"{info.name}-{info.type.decode()}")
def test_an_archive_that_leads_out_of_its_folder_is_refused(hostile: tarfile.TarInfo, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "film.tar.gz", "w:gz") as tar:
        tar.addfile(member("saved_model.pb"), io.BytesIO(b"data"))
        tar.addfile(hostile, io.BytesIO(b"data"))
    with pytest.raises(FilmError, match="it is unsafe"), opened_saved_model(tmp_path / "film.tar.gz"):
        pass
    assert not list(tmp_path.rglob("outside"))


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("variables/huge")
    huge.size = 1 << 40
    (tmp_path / "film.tar").write_bytes(huge.tobuf() + bytes(1024))
    with pytest.raises(FilmError, match="unpacks to more than 2 GiB"), opened_saved_model(tmp_path / "film.tar"):
        pass


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_an_archive_cut_short_is_refused(small_archive: Path, tmp_path: Path, share: float) -> None:
    data = small_archive.read_bytes()
    (tmp_path / "film.tar.gz").write_bytes(data[:int(len(data) * share)])
    with pytest.raises(FilmError, match=r"can't be unpacked|incomplete|holds no saved_model"), \
            opened_saved_model(tmp_path / "film.tar.gz"):
        pass


def test_garbage_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "film.tar.gz").write_bytes(b"<html>Forbidden</html>" * 99)
    with pytest.raises(FilmError, match=r"film.tar.gz can't be unpacked") as caught, \
            opened_saved_model(tmp_path / "film.tar.gz"):
        pass
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"holds no saved_model\.pb"), opened_saved_model(tmp_path):
        pass


def test_a_saved_model_without_variables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(FilmError, match=r"lacks variables/variables\.index"), opened_saved_model(tmp_path):
        pass


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"nowhere doesn't exist"), opened_saved_model(tmp_path / "nowhere"):
        pass
