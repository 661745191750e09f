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

ONLY_HERE = {"ov_film/fetch.py": {"requests", "socket", "pooch", "kagglehub", "tensorflow_hub",
                                  "addresses"},  # alone fetches
             "ov_film/environment.py": {"what it is told"}}  # looks whether what it lists can be imported
NETWORK = {"requests", "socket", "socketserver", "ssl", "urllib", "urllib3", "http", "xmlrpc", "ftplib", "imaplib",
           "poplib", "smtplib", "telnetlib", "aiohttp", "httpx", "websocket", "websockets", "paramiko", "pooch",
           "kagglehub", "huggingface_hub", "tensorflow_hub", "gdown", "webbrowser"}
NEVER = {"subprocess", "multiprocessing", "pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve",
         "pty", "commands", "sqlite3", "ctypes", "builtins", "runpy", "code", "codeop", "pip", "winreg"}
NAMES = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"os.system", "os.putenv", "os.unsetenv", "os.startfile", "torch.load", "torch.hub"}
FAMILIES = ("os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.popen", "asyncio.create_subprocess",
            "asyncio.open_", "asyncio.start_")
ADDRESSES = re.compile("(?:https?|rtsp|rtmp|ftp)://")


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
    read = {id(node.value) for node in ast.walk(tree) if (isinstance(node, ast.Attribute) and node.attr == "get")
            or (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _imported(node, allowed)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            module = node.args[0].value if isinstance(node.args[0], ast.Constant) else "what it is told"
            if str(module).partition(".")[0] in (NEVER | NETWORK | {"what it is told"}) - allowed:
                yield f"imports {module}"
        elif isinstance(node, ast.Call) and ast.unparse(node).startswith("getattr(os,"):
            yield "takes a name from os"
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield f"uses {node.id}"
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in ATTRIBUTES or name.startswith(FAMILIES) or (name == "os.environ" and id(node) not in read):
                yield f"uses {name}"
        elif isinstance(node, ast.Constant) and ADDRESSES.match(str(node.value)) and "addresses" not in allowed:
            yield f"names {node.value}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield "reads pickles"


def _imported(node: ast.Import | ast.ImportFrom, allowed: set[str]) -> Iterator[str]:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    yield from (f"imports {package}" for package in
                {module.partition(".")[0] for module in modules} & (NEVER | NETWORK) - allowed)
    yield from (f"imports {alias.name} as {alias.asname}" for alias in node.names
                if alias.name in ("os", "asyncio", "importlib") and alias.asname)
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        yield from (f"imports {alias.name} from os" for alias in node.names)


@pytest.mark.parametrize("code", [
    "import subprocess", "from subprocess import run", "import pickle", "import urllib.request", "eval('1')",
    "exec('1')", "import os\nos.system('ls')", "os.environ['A'] = 'b'", "del os.environ['A']", "os.environ.update(a=1)",
    "os.environ.setdefault('A', 'b')", "os.execv('a', [])", "__import__('os')", "from os import environ",
    "np.load(f, allow_pickle=True)", "import os as o\no.system('ls')", "import os\nos.environ |= {'A': 'b'}",
    "import os\nenvironment = os.environ\nenvironment['A'] = 'b'", "import os\nfoo(os.environ)",
    "import builtins\nbuiltins.eval('1')", "run = eval\nrun('1')", "import os\ngetattr(os, 'system')('ls')",
    "import asyncio\nasyncio.create_subprocess_exec('ls')", "import importlib\nimportlib.import_module('subprocess')",
    "from importlib import import_module\nimport_module(name)", "import torch\ntorch.load('x')", "import urllib3",
    "import multiprocessing", "from pip._internal import main", "import tensorflow_hub", "cv2.VideoCapture('http://x')",
    "import asyncio\nasyncio.open_connection('x', 80)", "import torch\ntorch.hub.load('x', 'y')"])
def test_the_scan_finds(code: str) -> None:
    assert list(findings(ast.parse(code), set()))


@pytest.mark.parametrize("code", [
    "import os\nos.environ.get('A')", "import os\nos.environ['A']", "import re\nre.compile('a')",
    "import os\nos.replace('a', 'b')", "np.load(f, allow_pickle=False)",
    "import importlib\nimportlib.import_module('nncf')", "from os.path import join"])
def test_the_scan_lets_pass_what_is_harmless(code: str) -> None:
    assert list(findings(ast.parse(code), set())) == []


def test_nothing_that_ships_is_what_the_registry_flags() -> None:
    sources = [path for path in shipped() if path.suffix == ".py"]
    assert len(sources) > 30
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        found = list(findings(ast.parse(path.read_text(encoding="utf-8")), ONLY_HERE.get(name, set())))
        assert not found, f"{name}: {found}"
    assert [path.name for path in shipped() if path.suffix in (
        ".js", ".exe", ".dll", ".pyd", ".so", ".dylib", ".sh", ".bat", ".ps1", ".pyw")] == []


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
