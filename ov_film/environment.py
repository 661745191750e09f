"""What doctor.py judges: Python, its packages, the machine and its device files."""

import importlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from .devices import Device

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
_PACK = Path(__file__).absolute().parent.parent
_IMPORTED = {"numpy": "numpy", "openvino": "openvino", "opencv-python": "cv2", "av": "av", "pillow": "PIL"}
_OPTIONAL = ("nncf", "tensorflow")  # what they need is looked at as well, where they are installed
_DISPLAYS, _ACCELERATORS = "0x03", "0x12"  # the beginnings of PCI's class codes
_INTEL = "0x8086"


@dataclass(frozen=True)
class Machine:
    """What the operating system tells.

    Attributes:
        system: "Linux", "Windows" or "Darwin".
        wsl: whether Linux runs within Windows.
        container: whether the mark of a container was found; some have none.
        intel_gpu, intel_npu: whether there is one on the PCI bus; None where that can't be looked at.
        device_files: the files that lead to devices, such as /dev/dri/renderD128, and whether this user may open them.
        compute_runtime: whether Intel's OpenCL driver is registered.
        vnni: whether the processor has VNNI, instructions for int8; None where that can't be looked at.
    """

    system: str = "Linux"
    wsl: bool = False
    container: bool = False
    intel_gpu: bool | None = None
    intel_npu: bool | None = None
    device_files: Mapping[str, bool] = field(default_factory=dict)
    compute_runtime: bool = False
    vnni: bool | None = None


@dataclass(frozen=True)
class Packages:
    """What is installed.

    Attributes:
        versions: by normalised name.
        required: the lines of requirements.txt.
        needs: for some of the installed packages, the requirements that they state.
        broken: for packages that can't be imported, what Python says of it.
    """

    versions: Mapping[str, str]
    required: tuple[str, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """All that a report rests on, besides the models.

    Attributes:
        pack: the pack's version and folder.
        python: Python's version and path.
        packages, machine: as they say.
        devices: what OpenVINO sees; none where it can't be imported.
        memory: bytes that are free, and bytes in all.
    """

    pack: tuple[str, Path]
    python: tuple[str, Path]
    packages: Packages
    machine: Machine
    devices: "tuple[Device, ...]" = ()
    memory: tuple[int, int] = (0, 0)


def find_facts() -> Facts:
    """Look at the machine and at the environment that this Python runs in."""
    packages = _packages()
    devices: tuple[Device, ...] = ()
    if "openvino" not in packages.broken:
        from .devices import find_devices

        devices = tuple(find_devices())
    return Facts((version(), _PACK), (platform.python_version(), Path(sys.executable)), packages, _machine(), devices,
                 _memory())


def version() -> str:
    """Return the pack's version, which pyproject.toml alone holds."""
    found = re.search(r'^version = "(.+)"$', (_PACK / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "of no version"


def _packages() -> Packages:
    lines = (_PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = tuple(line for line in lines if line.strip() and not line.startswith("#"))
    versions = {str(canonicalize_name(found.metadata["Name"])): found.version for found in metadata.distributions()
                if found.metadata["Name"]}  # a half-removed package has none
    names = [*(re.split(r"[^\w.-]", line)[0] for line in required), *_OPTIONAL]
    needs = {name: tuple(metadata.requires(name) or ()) for name in names if canonicalize_name(name) in versions}
    return Packages(versions, required, needs, dict(_broken(_IMPORTED.items())))


def _broken(modules: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for package, module in modules:
        try:
            if importlib.import_module(module).__file__ is None:  # of what pip removed with a package that shared it
                yield package, f"its folder {module} is all but empty"
        except Exception as error:  # what is built for another NumPy raises more than ImportError
            yield package, " ".join(str(error).split()) or type(error).__name__


def _machine() -> Machine:
    files = [path for folder, pattern in (("/dev/dri", "renderD*"), ("/dev/accel", "accel*"), ("/dev", "dxg"))
             for path in sorted(Path(folder).glob(pattern))]
    return Machine(
        system=platform.system(),
        wsl="microsoft" in platform.release().lower(),
        container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        intel_gpu=_on_pci_bus(_DISPLAYS), intel_npu=_on_pci_bus(_ACCELERATORS),
        device_files={str(path): os.access(path, os.R_OK | os.W_OK) for path in files},
        compute_runtime=any("intel" in path.name.lower() for path in Path("/etc/OpenCL/vendors").glob("*.icd")),
        vnni=_has_vnni())


def _has_vnni() -> bool | None:
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags[1].split()) if flags else None


def _on_pci_bus(kind: str) -> bool | None:
    """Return whether the PCI bus has a device of Intel's of a kind; None where it can't be looked at."""
    devices = list(Path("/sys/bus/pci/devices").glob("*"))
    if not devices:
        return None
    try:
        return any((device / "vendor").read_text().strip() == _INTEL
                   and (device / "class").read_text().startswith(kind) for device in devices)
    except OSError:
        return None


def _memory() -> tuple[int, int]:
    try:
        import psutil

        from .memory import free_memory
    except ImportError:
        return 0, 0
    return round(free_memory()), psutil.virtual_memory().total
