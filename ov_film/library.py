"""Where models lie, and what `film.json` says of one."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .configuration import MODELS, FilmConfiguration
from .errors import FilmError

FORMAT = 2
MANIFEST = "film.json"
FULL_MODEL, BUNDLED_MODEL = "film", "film_lite"
INT8_SUFFIX = "_int8"

_PACK = Path(__file__).absolute().parent.parent
_BUNDLED = Path(__file__).absolute().parent / "bundled"
MODEL_FILES = tuple(f"{name}{suffix}" for name in MODELS for suffix in (".xml", ".bin"))


@dataclass(frozen=True)
class Manifest:
    """What `film.json` holds.

    Attributes:
        configuration: the network's sizes.
        source: what the model was converted from.
        parity: for each reference ("openvino", "tensorflow") that the converted network was compared with in f32:
            {"max_error": largest difference of a value of the midpoint, "size": [height, width]}; empty where the
            source holds no graph to compare with.
        checksums: SHA-256 of each file beside it.
        int8: of a quantized model: "psnr" against f32 in dB on pairs of frames that it was not calibrated on, "size"
            [height, width] of these, "pairs_calibrated_on", "pairs_held_back", "floating_point" (in words, how many
            layers of which of its models were left so), "made_of" (`weights` of the model before), "frames" (that of
            the pairs; see quantize.checksum). Empty for others.
    """

    configuration: FilmConfiguration
    source: str
    parity: Mapping[str, Any]
    checksums: Mapping[str, str] = field(default_factory=dict)
    int8: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """SHA-256 of the checksums of all weights."""
        return hashlib.sha256("".join(self.checksums[f"{name}.bin"] for name in MODELS).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write film.json into the folder."""
        fields = {"format": FORMAT, "source": self.source, "configuration": self.configuration.as_json(),
                  "parity": dict(self.parity), "checksums": dict(self.checksums)}
        if self.int8:
            fields["int8"] = dict(self.int8)
        (folder / MANIFEST).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read a model folder's `film.json`.

    Raises:
        FilmError: it is missing, damaged, or of another format than this version reads.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        written = fields["format"]
        if written != FORMAT:
            raise FilmError(f"Model {folder} has format {written} where this version reads {FORMAT}: {_anew(folder)}.")
        return Manifest(FilmConfiguration.from_json(fields["configuration"]), str(fields["source"]),
                        dict(fields["parity"]), dict(fields["checksums"]), dict(fields.get("int8", {})))
    except FileNotFoundError as error:
        raise FilmError(f"Folder {folder} holds no {MANIFEST}, so it is no converted model: convert one into it "
                        f"(python -m ov_film convert SAVED_MODEL {folder}).") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FilmError(f"{path} is damaged ({error!r}): {_anew(folder)}.") from error


def file_checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a model; raises FileNotFoundError where one is missing."""
    with ThreadPoolExecutor() as threads:
        return dict(zip(MODEL_FILES, threads.map(_checksum, (folder / name for name in MODEL_FILES)), strict=True))


def _checksum(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while part := opened.read(1 << 18):
            found.update(part)
    return found.hexdigest()


def checked_manifest(folder: Path) -> Manifest:
    """Read `film.json` and check every file against it.

    Raises:
        FilmError: as `read_manifest`; or a file is missing or not what the conversion wrote.
    """
    manifest = read_manifest(folder)
    try:
        found = file_checksums(folder)
    except OSError as error:
        raise FilmError(f"Model file {error.filename} can't be read ({error.strerror}): {_anew(folder)}.") from error
    for name, checksum in found.items():
        if manifest.checksums.get(name) != checksum:
            raise FilmError(f"Model file {folder / name} is damaged (its checksum is not the one in {MANIFEST}): "
                            f"{_anew(folder)}.")
    return manifest


def _anew(folder: Path) -> str:
    """Return how to make a model's folder anew."""
    if folder.parent == _BUNDLED:
        return "install this pack again"
    if folder.name.endswith(INT8_SUFFIX):
        return f"make it again (python -m ov_film quantize {folder.name.removesuffix(INT8_SUFFIX)})"
    if folder.name == FULL_MODEL:
        return "convert it again (python install.py --force)"
    return "convert it again (python -m ov_film convert SAVED_MODEL OUT_FOLDER)"


def is_model_folder(folder: Path) -> bool:
    """Whether the folder holds `film.json` and every file of a model; nothing is checked."""
    return all((folder / name).is_file() for name in (MANIFEST, *MODEL_FILES))


def default_models_folder() -> Path:
    """Return where converted models go: ComfyUI's models/film_openvino if the pack lies in a ComfyUI, else the pack's.

    ComfyUI is found by the pack's place in its custom_nodes, or by the environment's COMFYUI_PATH.
    """
    if _PACK.parent.name == "custom_nodes":
        return _PACK.parent.parent / "models" / "film_openvino"
    comfyui = os.environ.get("COMFYUI_PATH")
    return (Path(comfyui) if comfyui else _PACK) / "models" / "film_openvino"


def find_models(folders: Iterable[Path] | None = None) -> dict[str, Path]:
    """Return every installed model by name; the first folder that has a name wins, the bundled model comes last.

    Args:
        folders: folders of model folders; `default_models_folder()` if none are given.
    """
    models: dict[str, Path] = {}
    for folder in _folders_in(folders):
        if is_model_folder(folder):
            models.setdefault(folder.name, folder)
    return models


def incomplete_models(folders: Iterable[Path] | None = None) -> list[str]:
    """Return, of each folder that holds some files of a model only, as a copy that broke off does, what helps."""
    said = []
    for folder in _folders_in(folders):
        there = [name for name in (MANIFEST, *MODEL_FILES) if (folder / name).is_file()]
        missing = [name for name in (MANIFEST, *MODEL_FILES) if name not in there]
        if there and missing and not folder.name.startswith("."):  # a hidden one is being made
            said.append(f"Model folder {folder} lacks {missing[0]}, so the model isn't offered: remove the folder, or "
                        f"{_anew(folder)}")
    return said


def _folders_in(folders: Iterable[Path] | None) -> Iterator[Path]:
    for parent in (*(folders if folders is not None else [default_models_folder()]), _BUNDLED):
        yield from sorted(parent.iterdir()) if parent.is_dir() else []


def default_model(models: Iterable[str]) -> str:
    """Return which of the installed models to offer first: the full one where it is there."""
    return FULL_MODEL if FULL_MODEL in models else BUNDLED_MODEL


def installed_model(name: str, folders: Iterable[Path] | None = None) -> Path:
    """Return the folder of an installed model.

    Raises:
        FilmError: there is none of that name.
    """
    models = find_models(folders)
    if name not in models:
        remedy = (f"run python install.py in {_PACK}, with ComfyUI's Python, to fetch it" if name == FULL_MODEL
                  else "choose one of these")
        exact = ", ".join(model for model in models if not model.endswith(INT8_SUFFIX))
        raise FilmError(f"Model {name!r} is not installed (installed: {exact}): {remedy}.")
    return models[name]


def model_folder(name_or_folder: str | Path, folders: Iterable[Path] | None = None) -> Path:
    """Return the folder of a model given by name or by path.

    Raises:
        FilmError: there is no such model.
    """
    folder = Path(name_or_folder)
    if str(name_or_folder) not in find_models(folders) and folder.is_dir():
        return folder
    return installed_model(str(name_or_folder), folders)


def int8_folder(folder: Path) -> Path:
    """Return where a model's int8 version lies: beside it; the bundled model's in the models folder."""
    parent = default_models_folder() if folder.parent == _BUNDLED else folder.parent
    return parent / (folder.name + INT8_SUFFIX)


def int8_model(name_or_folder: str | Path, folders: Iterable[Path] | None = None) -> Path:
    """Return the folder of the int8 version of a model given by name or by path.

    Raises:
        FilmError: there is no such model, it has no int8 version, or that was made of other weights.
    """
    folder = model_folder(name_or_folder, folders)
    beside = int8_folder(folder)
    quantized = beside if is_model_folder(beside) else find_models(folders).get(beside.name, beside)
    how = f"make one (python -m ov_film quantize {name_or_folder} --frames CLIP_OR_FOLDER)"
    if not is_model_folder(quantized):
        raise FilmError(f"Model {folder.name} has no int8 version: {how}, or choose another precision.")
    if read_manifest(quantized).int8.get("made_of") != read_manifest(folder).weights:
        raise FilmError(f"The int8 version {quantized} was made of other weights than {folder} has now: {how}.")
    return quantized
