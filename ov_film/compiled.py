"""FILM's five models, compiled for one device, precision and resolution."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import openvino as ov
from openvino import preprocess

from .configuration import COARSE_ENCODER, COARSE_FLOW, FUSION, MODELS
from .devices import core
from .network import level_of

Tensors = dict[str, ov.Tensor]  # by the models' names for them

_MOST_CACHED = 64  # files: five models for each device, precision, resolution and window
_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


class CompiledModels:
    """The five models. Calls from several threads take turns.

    Attributes:
        device, precision: what they were compiled for.
        resolution: height and width of padded frames.
        window: height and width that the fine levels and fusion are worked on at; the resolution if that is whole.
    """

    def __init__(self, read: Callable[[str], ov.Model], device: str, precision: str, resolution: tuple[int, int],
                 window: tuple[int, int], cache: Path | None = None) -> None:
        self.device, self.precision = device, precision
        self.resolution, self.window = resolution, window
        self._lock = threading.Lock()
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        settings |= _cache_settings(cache, device) if cache else {}
        self._compiled = {name: core().compile_model(self._shaped(read(name), name), device, settings)
                          for name in MODELS}

    def run(self, name: str, inputs: Mapping[str, ov.Tensor]) -> Tensors:
        """Run a model on what it needs of the inputs; the request is made anew, because one holds its tensors."""
        model = self._compiled[name]
        outputs = {port.any_name: ov.Tensor(port.element_type, port.shape) for port in model.outputs
                   if not port.any_name.startswith("exact")}
        with self._lock:
            request = model.create_infer_request()
            for port in model.inputs:
                request.set_tensor(port, inputs[port.any_name])
            for output, tensor in outputs.items():
                request.set_tensor(output, tensor)
            request.infer()
        return outputs

    def execution(self) -> tuple[str, str, str]:
        """Return the device, its full name and the precision that OpenVINO says it runs with."""
        model = self._compiled[FUSION]
        device = model.get_property("EXECUTION_DEVICES")[0]
        precision = model.get_property("INFERENCE_PRECISION_HINT")
        names = {element_type: name for name, element_type in _TYPES.items()}
        return device, core().get_property(device, "FULL_DEVICE_NAME").strip(), names.get(precision, str(precision))

    def release_memory(self) -> None:
        """Give back what the layers' results took; the next run takes it again."""
        with self._lock:
            for model in self._compiled.values():
                model.release_memory()

    def _shaped(self, model: ov.Model, name: str) -> ov.Model:
        """Fix a model's shapes, and let features pass between models in the type that the layers compute in."""
        height, width = self.resolution if name in (COARSE_ENCODER, COARSE_FLOW) else self.window
        shapes = {}
        for port in model.inputs:
            level = 0 if port.any_name == "frame" else level_of(port.any_name)
            shapes[port.any_name] = [1, height >> level, width >> level, port.partial_shape[3].get_length()]
        model.reshape(shapes)
        steps = preprocess.PrePostProcessor(model)
        for place, ports in ((steps.input, model.inputs), (steps.output, model.outputs)):
            for port in ports:
                if "features_" in port.any_name or "predictor_" in port.any_name:
                    place(port.any_name).tensor().set_element_type(_TYPES[self.precision])
        return steps.build()


def _cache_settings(cache: Path, device: str) -> dict[str, str]:
    """Return OpenVINO's settings to keep compiled models beside the model; none where that can't be written.

    OpenVINO never removes any, so the oldest go here.
    """
    try:
        cache.mkdir(exist_ok=True)
        for blob in sorted(cache.iterdir(), key=lambda file: file.stat().st_mtime_ns, reverse=True)[_MOST_CACHED:]:
            blob.unlink()
    except OSError:
        return {}
    settings = {"CACHE_DIR": str(cache)}
    if "CACHE_MODE" in core().get_property(device, "SUPPORTED_PROPERTIES"):
        # Without the weights, which lie beside it, a resolution of the released network takes 11 MB instead of 340.
        settings["CACHE_MODE"] = "OPTIMIZE_SIZE"
    return settings
