"""What the README tells people to type."""

import re
import shlex
from pathlib import Path

import av
import pytest

from ov_film.cli import _parser, main
from tests.clips import moving, write_clip
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"(?:^    |`)python -m ov_film ([^`\n#]+)", README, re.MULTILINE)
VIDEO = [command for command in COMMANDS if " IN.mp4 " in command]
WHOLE = [command for command in COMMANDS if command not in ("quantize", "inspect", "video")]


def test_there_are_commands() -> None:
    assert len(VIDEO) >= 7 and len(WHOLE) > 15


@pytest.mark.parametrize("command", WHOLE)
def test_a_command_is_one(command: str) -> None:
    options = _parser().parse_args(shlex.split(command))
    for name in re.findall(r"samples/\S+", command):
        assert (ROOT / name).is_file()
    assert options.command


@pytest.mark.parametrize("command", VIDEO)
def test_a_recipe_for_videos_makes_one(command: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "IN.mp4", moving(8))
    words = [str(tmp_path / word) if word.startswith(("IN.", "OUT.")) else word for word in shlex.split(command)]
    assert main(words) == 0
    made, = tmp_path.glob("OUT.*")
    with av.open(str(made)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["IN.mp4", made.name]
