"""The devices that OpenVINO sees, and the precisions they run in."""

import functools
from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from .errors import FilmError

PRECISIONS = ("auto", "f32", "bf16", "f16")
INT8 = "int8"  # a precision that a model must first be quantized for
# Fastest first; a device lists the capability only where its hardware does it natively.
_CAPABILITIES = {"bf16": "BF16", "f16": "FP16", "f32": "FP32"}


@dataclass(frozen=True)
class Device:
    """A device: its OpenVINO name ("CPU", "GPU.0"), its full name, and its native precisions, fastest first."""

    name: str
    full_name: str
    precisions: tuple[str, ...]


@functools.cache
def core() -> ov.Core:
    """Return the process's OpenVINO runtime, created at the first call because that takes time."""
    return ov.Core()


def find_devices() -> list[Device]:
    """Return every device that OpenVINO sees."""
    return [_device(name) for name in core().available_devices]


def choose_device(name: str) -> Device:
    """Return the device of that name, or for AUTO the one that OpenVINO chooses.

    Raises:
        FilmError: OpenVINO sees no such device.
    """
    available = core().available_devices
    if name == "AUTO":
        # What AUTO chooses is asked with a model of one operation; from then on the device is fixed, so that a
        # run never begins on one device and goes on, a little different, on another.
        parameter = ops.parameter([1], np.float32)
        compiled = core().compile_model(ov.Model([ops.relu(parameter)], [parameter], "probe"), "AUTO",
                                        {"ENABLE_STARTUP_FALLBACK": "NO"})
        return _device(compiled.get_property("EXECUTION_DEVICES")[0])
    if name not in available and f"{name}.0" not in available:
        raise FilmError(f"Device {name!r} is not among those that OpenVINO sees ({', '.join(available)}): choose one "
                        "of these or AUTO; python -m ov_film doctor says why others are missing.")
    return _device(name)


def choose_precision(precision: str, device: Device) -> str:
    """Return the precision to run in: the fastest native one for "auto".

    Raises:
        FilmError: the device doesn't run that precision natively, or there is no such precision.
    """
    if precision not in (*PRECISIONS, INT8):
        raise FilmError(f"Precision {precision!r} is none: choose one of {', '.join((*PRECISIONS, INT8))}.")
    if precision == "auto":
        return device.precisions[0]
    if precision not in device.precisions:
        raise FilmError(f"Precision {precision!r} is not native to {device.name} ({device.full_name}): choose "
                        f"one of {', '.join(('auto', *device.precisions, INT8))}.")
    return precision


def _device(name: str) -> Device:
    capabilities = core().get_property(name, "OPTIMIZATION_CAPABILITIES")
    precisions = tuple(precision for precision, capability in _CAPABILITIES.items() if capability in capabilities)
    return Device(name, core().get_property(name, "FULL_DEVICE_NAME").strip(), precisions)
