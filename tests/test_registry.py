"""What the registry looks at: the project's description, what ships and what is in it."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from ov_film.environment import version
from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ONLY_HERE = {"ov_film/fetch.py": {"requests", "socket", "pooch", "kagglehub"}}  # the one module that fetches
NETWORK = {"requests", "socket", "urllib", "http", "ftplib", "smtplib", "aiohttp", "httpx", "websocket", "websockets",
           "pooch", "kagglehub", "huggingface_hub"}
NEVER = {"subprocess", "pickle", "cPickle", "dill", "marshal", "shelve", "pty", "commands", "sqlite3", "ctypes"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.putenv", "os.unsetenv", "os.startfile"}
CALL_FAMILIES = ("os.exec", "os.spawn", "os.fork", "os.environ.")
HARMLESS = {"os.environ.get"}


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def left_out() -> list[str]:
    """Return the names at the root that .comfyignore leaves out."""
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def shipped() -> list[Path]:
    """Return the files that an archive of a clean checkout holds."""
    without = {line.strip("/") for line in left_out()}
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    files = [path for entry in ROOT.iterdir() if entry.name not in without | ignored and not entry.name.startswith(".")
             for path in ([entry] if entry.is_file() else entry.rglob("*"))]
    return [path for path in files if path.is_file() and ignored.isdisjoint(path.relative_to(ROOT).parts)]


def findings(tree: ast.AST, allowed: set[str]) -> Iterator[str]:
    """Yield what a scanner would flag in a module."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            packages = {module.partition(".")[0] for module in modules}
            yield from (f"imports {package}" for package in packages & (NEVER | NETWORK) - allowed)
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                yield from (f"imports {alias.name} from os" for alias in node.names)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or (name.startswith(CALL_FAMILIES) and name not in HARMLESS):
                yield f"calls {name}"
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            if not isinstance(node.ctx, ast.Load):
                yield "writes os.environ"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield "reads pickles"


@pytest.mark.parametrize("code", [
    "import subprocess", "from subprocess import run", "import pickle", "import urllib.request", "eval('1')",
    "exec('1')", "import os\nos.system('ls')", "os.environ['A'] = 'b'", "del os.environ['A']", "os.environ.update(a=1)",
    "os.environ.setdefault('A', 'b')", "os.execv('a', [])", "__import__('os')", "from os import environ",
    "np.load(f, allow_pickle=True)"])
def test_the_scan_finds(code: str) -> None:
    assert list(findings(ast.parse(code), set()))


def test_nothing_that_ships_is_what_the_registry_flags() -> None:
    sources = [path for path in shipped() if path.suffix == ".py"]
    assert len(sources) > 30
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        found = list(findings(ast.parse(path.read_text(encoding="utf-8")), ONLY_HERE.get(name, set())))
        assert not found, f"{name}: {found}"
    assert [path.name for path in shipped() if path.suffix in (".js", ".exe", ".dll", ".so", ".sh", ".bat")] == []


def test_what_runs_ships_and_what_makes_it_does_not() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in shipped()}
    assert all(line.startswith("/") for line in left_out()), "without it, /docs/ would leave out web/docs too"
    for needed in ("__init__.py", "install.py", "requirements.txt", "pyproject.toml", "README.md", "LICENSE", "NOTICE",
                   "nodes/loader.py", "ov_film/bundled/film_lite/film.json", "samples/first.png",
                   "locales/zh/nodeDefs.json", "web/docs/FilmOpenVINOLoader.md", "example_workflows/two_photos.json"):
        assert needed in names
    for folder in ("tests", "tools", "training", "benchmarks", ".github"):
        assert not any(name.startswith(f"{folder}/") for name in names)
    assert all((ROOT / line.strip("/")).exists() for line in left_out())


def test_the_name_is_one_that_the_registry_takes() -> None:
    name = project()["project"]["name"]
    assert len(name) < 100 and re.fullmatch(r"[a-z]+([-_.]?[a-z0-9]+)*", name) and "comfyui" not in name


def test_the_version_stands_in_one_place_and_the_changelog_tells_of_it() -> None:
    number = project()["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", number) and version() == number
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == number and len(set(headings)) == len(headings)
    for path in shipped():
        if path.suffix == ".py":
            assert f'"{number}"' not in path.read_text(encoding="utf-8"), path


def test_requirements_are_lines_that_the_manager_can_give_to_pip_one_by_one() -> None:
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+>=[\d.]+", line), line
    assert project()["project"]["dynamic"] == ["dependencies"]
    assert project()["tool"]["setuptools"]["dynamic"]["dependencies"]["file"] == ["requirements.txt"]


def test_classifiers_are_ones_that_comfyui_knows() -> None:
    classifiers = project()["project"]["classifiers"]
    environments = [name for name in classifiers if name.startswith("Environment ::")]
    assert "Operating System :: OS Independent" in classifiers and environments == ["Environment :: GPU :: Intel Arc"]


def test_icon_and_banner_have_the_sizes_that_the_registry_takes() -> None:
    comfy = project()["tool"]["comfy"]
    for kind, ratio, most in (("Icon", 1, 400), ("Banner", 21 / 9, 2100)):
        path = ROOT / "docs" / Path(comfy[kind]).name
        width, height = Image.open(path).size
        assert width <= most and width / height == pytest.approx(ratio, rel=0.01) and path.stat().st_size < 500_000


def test_what_is_to_be_set_before_the_first_publication_is_marked() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    if "PUBLISHER" in text:
        assert project()["tool"]["comfy"]["PublisherId"] == "PUBLISHER" and "PUBLISHER" in contributing


def test_every_node_is_in_an_example_workflow(pack: ModuleType) -> None:
    files = (ROOT / "example_workflows").glob("*.json")
    used = {node["type"] for file in files for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]}
    assert set(pack.NODE_CLASS_MAPPINGS) <= used
