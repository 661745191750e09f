"""Fixtures that many tests share."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from ov_film.convert import convert
from ov_film.model import FilmModel
from tests.comfyui import ComfyUI, find_comfyui, install_requirements, running_comfyui, write_inputs
from tests.film_tensorflow import Film, Sizes, write_saved_model
from tools.english import load_pack

ROOT = Path(__file__).parent.parent


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth random frame (H,W,3) float32 in [0,1]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / 20
    waves = [np.sin(a * x + b * y + c) for a, b, c in random.uniform(-3, 3, (3, 3))]
    return (0.5 + 0.45 * np.stack(waves, -1)).astype(np.float32)


@pytest.fixture(scope="session")
def small_film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Film]:
    """A SavedModel of a small FILM, and the network that it was made from."""
    folder = tmp_path_factory.mktemp("saved") / "small"
    return folder, write_saved_model(folder, Sizes())


@pytest.fixture(scope="session")
def small_archive(small_film: tuple[Path, Film], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small FILM as a .tar.gz, as TF Hub serves one: the SavedModel at its root."""
    archive = tmp_path_factory.mktemp("archive") / "film.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small_film[0], arcname=".")
    return archive


@pytest.fixture(scope="session")
def small_folder(small_film: tuple[Path, Film], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small FILM converted."""
    folder = tmp_path_factory.mktemp("models") / "small"
    convert(small_film[0], folder)
    return folder


@pytest.fixture
def model(small_folder: Path) -> FilmModel:
    """The small FILM on the CPU in f32."""
    return FilmModel.load(small_folder, device="CPU", precision="f32")


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The pack as ComfyUI loads it: a package of a name with a '-', from its path."""
    return load_pack()


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of a ComfyUI."""
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no ComfyUI in $COMFYUI_DIR or, at home, in comfy/ComfyUI")
    install_requirements(folder)
    return folder


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """A running ComfyUI with the pack and small samples in it."""
    with running_comfyui(comfyui, tmp_path_factory.mktemp("comfyui") / "base") as running:
        write_inputs(running)
        yield running


@pytest.fixture(scope="session")
def object_info(server: ComfyUI) -> dict[str, Any]:
    return server.object_info()
