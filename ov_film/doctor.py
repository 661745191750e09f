"""One page on this machine: what is installed, what runs where and how fast, what is wrong and what to do next."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .environment import OPENCV, Facts, Machine, Packages
from .errors import FilmError
from .library import (
    BUNDLED_MODEL,
    FULL_MODEL,
    INT8_SUFFIX,
    checked_manifest,
    default_model,
    find_models,
    incomplete_models,
    int8_model,
    read_manifest,
)

if TYPE_CHECKING:
    from .model import FilmModel

EXPECTED = ((512, 512), (1280, 720), (1920, 1080))  # width and height of the frames whose time is estimated
_SIDE = 256  # pixels of the frames that are timed
_LISTED = ("openvino", "numpy", *OPENCV, "av", "nncf", "torch", "tensorflow")
_INT8_PACKAGE = "nncf"
_SHARED = "/dev/dri", "/dev/accel"  # the folders of a GPU's and an NPU's device files

Section = tuple[str, list[str]]


def page(facts: Facts, folders: Iterable[Path] | None = None, speed: Iterable[str] = ()) -> str:
    """Return the report as text.

    Args:
        facts: see environment.find_facts.
        folders: where models lie; the default models folder if none are given.
        speed: the lines of `speed_test`, where one was made.
    """
    folders = None if folders is None else list(folders)
    troubles = [*package_troubles(facts.packages), *model_troubles(folders)]
    sections: list[Section] = [
        ("Packages", _package_lines(facts.packages)),
        ("Devices", _device_lines(facts)),
        ("Models", _model_lines(folders)),
        ("Speed", list(speed)),
        ("Troubles", troubles or ["none"]),
        ("Next", _next_steps(facts, folders, bool(troubles)))]
    (version, pack), (python_version, python) = facts.pack, facts.python
    head = [f"FILM OpenVINO {version} on {facts.machine.system}{' (WSL)' if facts.machine.wsl else ''}, "
            f"Python {python_version}",
            f"Below, python means {python}, typed in the folder {pack}."]
    return "\n".join([*head, *(line for title, lines in sections if lines
                               for line in ("", title, *(f"  {text}" for text in lines)))])


def missing_device(kind: str, machine: Machine) -> str:
    """Return why OpenVINO sees no "GPU" or no "NPU", and what helps, as far as the machine tells."""
    folder = _SHARED[kind == "NPU"]
    usable = [may for file, may in machine.device_files.items() if file.startswith(folder)]
    present = machine.intel_npu if kind == "NPU" else machine.intel_gpu
    if machine.system == "Darwin":
        return "on a Mac OpenVINO runs on the processor alone."
    if machine.system == "Windows":
        return f"if this machine has an Intel {kind}, install its newest driver from Intel."
    if machine.wsl and kind == "NPU":
        return "none is passed on to WSL; Windows's own Python may see it."
    if machine.wsl:
        if "/dev/dxg" not in machine.device_files:
            return "WSL passes no GPU on (/dev/dxg is missing): use WSL 2, and update it (wsl --update) and the " \
                   "GPU's driver in Windows."
        return _driver(kind, machine)
    if present is False:
        return f"this machine has no Intel {kind}, and OpenVINO drives no other."
    if not usable:
        if machine.container:
            return f"the container has no {folder}: start it with --device {folder}."
        needed = "intel_vpu, Linux 6.6 or newer" if kind == "NPU" else "i915 or xe"
        return f"{folder} is missing: Linux has no driver for it loaded ({needed}), or this is a container that was " \
               f"started without --device {folder}."
    if not any(usable):
        if machine.container:
            return f"this user may not open {folder}: start the container with --group-add and the number of the " \
                   f"group that owns the files in it (ls -ln {folder})."
        return f"this user may not open {folder}: type sudo usermod -aG render $USER, and log in again."
    return _driver(kind, machine)


def _driver(kind: str, machine: Machine) -> str:
    if kind == "NPU":
        return "its driver is missing or too old: install the newest of github.com/intel/linux-npu-driver."
    if machine.compute_runtime:
        return "Intel's compute runtime is installed but finds no GPU that it knows: update it " \
               "(github.com/intel/compute-runtime)."
    return "Intel's compute runtime is missing: install it (on Debian and Ubuntu, sudo apt install intel-opencl-icd)."


def package_troubles(packages: Packages) -> list[str]:
    """Return what is missing, too old, broken, or at odds with another package, each with its remedy."""
    return [*_unmet(packages), *_twins(packages.versions), *_at_odds(packages), *_unimportable(packages)]


def _unmet(packages: Packages) -> Iterator[str]:
    for requirement in map(Requirement, packages.required):
        name = canonicalize_name(requirement.name)
        found = [packages.versions[one] for one in (OPENCV if name in OPENCV else (name,)) if one in packages.versions]
        if not found:
            yield f"{name} is not installed: python -m pip install -r requirements.txt"
        elif not any(requirement.specifier.contains(version, prereleases=True) for version in found):
            yield f"{name} is {found[0]} where {requirement.specifier} is needed: python -m pip install " \
                  f"--upgrade \"{requirement}\""


def _twins(versions: Mapping[str, str]) -> Iterator[str]:
    """Yield which packages have written their files over one another's."""
    wheels = [f"{name} {versions[name]}" for name in OPENCV if name in versions]
    if len({wheel.split()[1] for wheel in wheels}) > 1:
        yield f"{' and '.join(wheels)} share the folder cv2, which is now of the one installed last: uninstall all " \
              "of them and install one (opencv-contrib-python-headless holds what the others do, save windows)"
    if "openvino" in versions and "openvino-nightly" in versions:
        yield "openvino and openvino-nightly share a folder: python -m pip uninstall openvino openvino-nightly, then " \
              "python -m pip install openvino"
    if "openvino-dev" in versions and versions["openvino-dev"] != versions.get("openvino"):
        yield f"openvino-dev {versions['openvino-dev']} is for OpenVINO of its own version, not " \
              f"{versions.get('openvino', 'none')}: python -m pip uninstall openvino-dev"


def _at_odds(packages: Packages) -> Iterator[str]:
    for package, needs in packages.needs.items():
        for requirement in map(Requirement, needs):
            version = packages.versions.get(canonicalize_name(requirement.name))
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and version and not requirement.specifier.contains(version, prereleases=True):
                yield f"{package} {packages.versions[canonicalize_name(package)]} needs {requirement.name}" \
                      f"{requirement.specifier}, but {version} is installed: python -m pip install --upgrade {package}"


def _unimportable(packages: Packages) -> Iterator[str]:
    for package, reason in packages.broken.items():
        installed = [name for name in (OPENCV if package in OPENCV else (package,)) if name in packages.versions]
        if not installed:
            continue  # that stands above
        if "libGL" in reason:
            remedy = "python -m pip install opencv-python-headless"
        elif "numpy" in reason.lower() or "_ARRAY_API" in reason:
            remedy = f"it was built for another NumPy: python -m pip install --upgrade --force-reinstall {installed[0]}"
        else:
            remedy = f"python -m pip install --force-reinstall {installed[0]}"
        yield f"{installed[0]} can't be imported ({reason}): {remedy}"


def model_troubles(folders: Iterable[Path] | None = None) -> list[str]:
    """Return which models are damaged or not whole, and which int8 versions were made of other weights."""
    folders = None if folders is None else list(folders)
    troubles = incomplete_models(folders)
    for name, folder in find_models(folders).items():
        try:
            checked_manifest(folder)
            if f"{name}{INT8_SUFFIX}" in find_models(folders):
                int8_model(name, folders)
        except FilmError as error:
            troubles.append(str(error).rstrip("."))
    return troubles


def speed_test(model: "FilmModel", seconds: float = 1) -> list[str]:
    """Time midpoints of a small pair for about so many seconds, and estimate larger ones by their pixels.

    Returns:
        A line for what was measured, and one for what to expect at each of some sizes.

    Raises:
        FilmError: the model doesn't run.
    """
    import numpy as np

    first, last = np.random.default_rng(0).random((2, _SIDE, _SIDE, 3), np.float32)
    model.interpolate(first, last)  # compiles, which isn't timed
    times: list[float] = []
    while sum(times) < seconds:
        began = time.perf_counter()
        model.interpolate(first, last)
        times.append(time.perf_counter() - began)
    taken = median(times)
    return [f"{model.report()}: {taken:.2g} s for a new frame (median of {len(times)})",
            *(f"{width}x{height}: about {taken * width * height / _SIDE ** 2:.2g} s (estimate by pixels)"
              for width, height in EXPECTED)]


def _package_lines(packages: Packages) -> list[str]:
    installed = [f"{name} {packages.versions[name]}" for name in _LISTED if name in packages.versions]
    return [", ".join(installed) or "none", *(
        [] if _INT8_PACKAGE in packages.versions else [f"{_INT8_PACKAGE} is not installed; int8 versions need it"])]


def _device_lines(facts: Facts) -> list[str]:
    vnni = {None: "", True: "; has VNNI, which int8 wants", False: "; no VNNI, which int8 wants"}
    lines = [f"{device.name}: {device.full_name}; {', '.join(device.precisions)}"
             f"{vnni[facts.machine.vnni] if device.name == 'CPU' else ''}" for device in facts.devices]
    lines += [f"{kind}: none; {missing_device(kind, facts.machine)}" for kind in ("GPU", "NPU")
              if facts.devices and not any(device.name.startswith(kind) for device in facts.devices)]
    free, total = facts.memory
    return [*(lines or ["unknown, as OpenVINO can't be imported"]),
            *([f"memory: {free / 1e9:.1f} GB free of {total / 1e9:.1f}"] if total else [])]


def _model_lines(folders: list[Path] | None) -> list[str]:
    models = find_models(folders)
    lines = []
    for name, folder in models.items():
        try:
            manifest = read_manifest(folder)
        except FilmError as error:
            lines.append(f"{name}: {error}")
            continue
        parity = [f"{figures['max_error']:.1g} from {reference} (largest difference)"
                  for reference, figures in manifest.parity.items()]
        int8 = [f"{manifest.int8['psnr']:.1f} dB against f32"] if manifest.int8 else []
        lines.append(f"{name}: {'; '.join([f'{manifest.configuration.parameters():,} parameters', *parity, *int8])}; "
                     f"{folder}")
    return lines if FULL_MODEL in models else [*lines, f"{FULL_MODEL}: not installed"]


def _next_steps(facts: Facts, folders: list[Path] | None, troubled: bool) -> list[str]:
    models = find_models(folders)
    steps = ["mend what stands under Troubles, then run python -m ov_film doctor again"] if troubled else []
    if FULL_MODEL not in models:
        steps.append(f"python install.py fetches the full model, {FULL_MODEL}; {BUNDLED_MODEL} works meanwhile")
    best = default_model(models)
    if f"{best}{INT8_SUFFIX}" not in models:
        package = "" if _INT8_PACKAGE in facts.packages.versions else f"python -m pip install {_INT8_PACKAGE}, then "
        steps.append(f"{package}python -m ov_film quantize {best} --frames CLIP_OR_FOLDER makes its int8 version, "
                     "which is the fastest on processors with VNNI")
    return [*steps, "python -m ov_film interpolate samples/first.png samples/last.png --times 3 --output clip.webm",
            "in ComfyUI, load example_workflows/two_photos.json"]
