"""install.py as ComfyUI-Manager and people at a console run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import install
from ov_film import fetch, library
from ov_film.configuration import FilmConfiguration
from ov_film.errors import FilmError


@pytest.fixture(autouse=True)
def comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ComfyUI for the models to go to, so that no test touches this checkout."""
    monkeypatch.setattr(library, "_PACK", tmp_path / "custom_nodes" / "pack")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str | None, bool]]:
    made: list[tuple[Path, str | None, bool]] = []

    def recorded(models: Path, *, source: str | None, force: bool, report: object) -> Path:
        made.append((models, source, force))
        return models / "film"

    monkeypatch.setattr(fetch, "install", recorded)
    return made


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise error

    monkeypatch.setattr(fetch, "install", fail)


def test_models_go_to_the_comfyui_around_the_pack(comfyui: Path, calls: list[object]) -> None:
    assert install.main([]) == 0
    assert calls == [(comfyui / "models" / "film_openvino", None, False)]


def test_options_are_passed_on(tmp_path: Path, calls: list[object]) -> None:
    assert install.main(["--models-dir", str(tmp_path), "--source", "film.tar.gz", "--force"]) == 0
    assert calls == [(tmp_path, "film.tar.gz", True)]


def test_without_a_network_the_way_on_is_printed(comfyui: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, FilmError("Kaggle doesn't deliver."))
    assert install.main([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == 1
    for part in ("Kaggle doesn't deliver.", "works now", "install.py", fetch.ARCHIVE_URL,
                 str(comfyui / "models" / "film_openvino" / "film.tar.gz")):
        assert part in said.out


@pytest.mark.parametrize("arguments", [["--require"], ["--source", "https://somewhere/film.tar.gz"]])
def test_failure_of_what_was_asked_for_is_an_error(arguments: list[str], monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, FilmError("Kaggle doesn't deliver."))
    assert install.main(arguments) == 1
    assert capsys.readouterr() == ("", "Kaggle doesn't deliver.\n")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "models"),
                                   RuntimeError("Check 'x' failed at src/core.cpp:1:\nno such thing")])
def test_other_errors_are_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, error)
    assert install.main([]) == 1
    assert capsys.readouterr().err == " ".join(str(error).split()) + "\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        install.main(["--debug"])


def test_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert install.main([]) == 130
    assert capsys.readouterr().err.startswith("Interrupted")


def test_missing_requirement_is_told_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ov_film.convert", None)  # as where OpenVINO is missing
    monkeypatch.setattr(fetch, "_from_kaggle", lambda *_: pytest.fail("fetched in vain"))
    monkeypatch.setattr(fetch, "_from_tensorflow_hub", lambda *_: pytest.fail("fetched in vain"))
    assert install.main([]) == 1
    assert "-m pip install -r requirements.txt" in capsys.readouterr().err


def test_nothing_slow_is_imported_where_the_model_is_installed(tmp_path: Path) -> None:
    model = tmp_path / "models" / "film"
    model.mkdir(parents=True)
    configuration = FilmConfiguration(7, (64, 128), (32, 64), (3, 3), (64,))
    library.Manifest(configuration, "google/film", {}, {}).write(model)
    for name in library.MODEL_FILES:
        (model / name).touch()
    script = Path(install.__file__).absolute()
    run = subprocess.run([sys.executable, "-X", "importtime", script, "--models-dir", model.parent],
                         cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == f"FILM is installed in {model}.\n"
    assert "ov_film.fetch" in run.stderr
    assert not re.search("openvino|tensorflow|kagglehub|pooch|cv2", run.stderr)
