"""What the README tells people to type."""

import re
import shlex
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

import install
from ov_film.cli import _parser, main
from ov_film.library import model_folder
from tests.clips import moving, write_clip
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = list(dict.fromkeys(re.findall(r"(?:^    |`)python -m ov_film ([^`\n#]+)", README, re.MULTILINE)))
VIDEO = [command for command in COMMANDS if " IN.mp4 " in command]
OWN = [command for command in COMMANDS if command not in (*VIDEO, "quantize", "inspect", "video")]
RUN = [command for command in OWN if not command.startswith("quantize")]  # which takes minutes: see test_quantize.py
INSTALL = re.findall(r"^    (?:python|\S*python\.exe) (?:film-openvino\\)?install\.py *([^\n#]*)", README, re.MULTILINE)
MAKE = re.findall(r"(?:^    |`)make ([a-z]+)", README, re.MULTILINE)


def test_there_are_commands() -> None:
    assert len(VIDEO) >= 8 and len(OWN) >= 12 and len(RUN) >= 10 and len(INSTALL) >= 7 and set(MAKE) >= {"demo", "test"}


@pytest.mark.parametrize("command", RUN)
def test_a_command_does_what_it_says(command: str, small_archive: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tmp_path / "samples"  # small ones of the same names
    samples.mkdir()
    for image in (ROOT / "samples").glob("*.png"):
        cv2.imwrite(str(samples / image.name), cv2.resize(cv2.imread(str(image)), (128, 80)))
    write_clip(samples / "clip.mp4", moving(8))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command.replace("SAVED_MODEL", str(small_archive)))
    assert main(words) == 0
    made = (words[words.index("--output") + 1] if "--output" in words
            else words[2] if words[0] in ("video", "convert") else "samples")
    assert (tmp_path / made).exists()


@pytest.mark.parametrize("command", [command for command in OWN if command not in RUN])
def test_a_command_that_takes_minutes_names_what_there_is(command: str) -> None:
    options = _parser().parse_args(shlex.split(command))
    assert options.model == "film_lite" and model_folder(options.model).is_dir()
    assert options.frames in (ROOT / "samples", Path("CLIP_OR_FOLDER"))


@pytest.mark.parametrize("arguments", INSTALL)
def test_the_installer_takes_what_it_is_given(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("ov_film.fetch.install", lambda models, **options: given.update(options, models=models))
    assert install.main(shlex.split(arguments)) == 0
    assert given["force"] == ("--force" in arguments)
    assert given["source"] == ("FOLDER" if "--source" in arguments else None)
    assert (given["models"] == Path("DIR")) == ("--models-dir" in arguments)


@pytest.mark.parametrize("target", sorted(set(MAKE)))
def test_make_knows_what_it_is_to_make(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", VIDEO)
def test_a_recipe_for_videos_makes_one(command: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "IN.mp4", moving(8))
    words = [str(tmp_path / word) if word.startswith(("IN.", "OUT.")) else word for word in shlex.split(command)]
    assert main(words) == 0
    made, = tmp_path.glob("OUT.*")
    with av.open(str(made)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["IN.mp4", made.name]
