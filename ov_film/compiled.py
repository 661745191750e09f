"""FILM's models, compiled for one device, precision and resolution."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import openvino as ov
from openvino import preprocess

from .configuration import (
    COARSE_ENCODER,
    COARSE_FLOW,
    FINE_ENCODER,
    FINE_FLOW,
    FUSION,
    MODELS,
    STITCHED_ENCODER,
    FilmConfiguration,
)
from .devices import core
from .matching import matched_size
from .network import TIME, level_of
from .winograd import use_winograd

Tensors = dict[str, ov.Tensor]  # by the models' names for them
ReadModel: TypeAlias = Callable[[str], ov.Model]

_MOST_CACHED = 64  # files: up to six models for each device, precision, resolution and window
_MOST_WEIGHTS_CACHED = 16 << 20  # bytes: a compiled model with its weights loads faster, but takes their space again
_TYPED = "features_", "fused_", "predictor_", "matched_1", "matched_2", "matched_context_"  # in names of tensors
_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


class CompiledModels:
    """The five models. Calls from several threads take turns.

    Where frames are worked on in windows, the fine encoder is two: the coarsest of its levels is made by the stitched
    encoder, once for each frame, and kept whole; the others are made again for each pair.

    Attributes:
        device, precision: what they were compiled for.
        resolution: height and width of padded frames.
        window: height and width that the fine levels and fusion are worked on at; the resolution if that is whole.
    """

    def __init__(self, read: ReadModel, configuration: FilmConfiguration, device: str, precision: str,
                 resolution: tuple[int, int], window: tuple[int, int], cache: Path | None = None,
                 winograd: bool = False) -> None:
        self.device, self.precision = device, precision
        self.resolution, self.window = resolution, window
        self._whole = COARSE_ENCODER, COARSE_FLOW, *([FINE_FLOW] if configuration.matches else [])
        self._lock = threading.Lock()
        self._cache = _writable(cache) if cache else None
        # While some are compiled the next is made ready, fusion first, which takes longest. One thread alone reads and
        # changes graphs: where several did, OpenVINO's Python could lock up.
        with ThreadPoolExecutor() as threads:
            compiled = {}
            for name in [*reversed(MODELS), *([] if window == resolution else [STITCHED_ENCODER])]:
                model = read(FINE_ENCODER if name == STITCHED_ENCODER else name)
                if window != resolution and name in (FINE_ENCODER, STITCHED_ENCODER):
                    _divide(model, configuration.stitched_level, name == STITCHED_ENCODER)
                model, settings = self._ready(model, name, winograd)
                compiled[name] = threads.submit(core().compile_model, model, device, settings)
            self._compiled = {name: model.result() for name, model in compiled.items()}

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

    def inputs(self, name: str) -> list[str]:
        """Return the names of what a model reads."""
        return [port.any_name for port in self._compiled[name].inputs]

    def execution(self) -> tuple[str, str, str]:
        """Return the device, its full name and the precision that OpenVINO says it runs with."""
        model = self._compiled[FUSION]
        device = model.get_property("EXECUTION_DEVICES")[0]
        precision = model.get_property("INFERENCE_PRECISION_HINT")
        names = {element_type: name for name, element_type in _TYPES.items()}
        return device, core().get_property(device, "FULL_DEVICE_NAME").strip(), names.get(precision, str(precision))

    def release_memory(self, *names: str) -> None:
        """Give back what the layers' results took in some models, or all; the next run takes it again."""
        with self._lock:
            for name in names or self._compiled:
                self._compiled[name].release_memory()

    def _ready(self, model: ov.Model, name: str, winograd: bool) -> tuple[ov.Model, dict[str, str]]:
        """Return a model as it is to be compiled, and the settings to do so with."""
        model = self._shaped(model, name)
        settings = {"INFERENCE_PRECISION_HINT": self.precision, "PERFORMANCE_HINT": "LATENCY"}
        changed = winograd and use_winograd(model, _TYPES[self.precision])
        if self._cache:
            settings |= _cache_settings(self._cache, self.device, model, changed)
        return model, settings

    def _shaped(self, model: ov.Model, name: str) -> ov.Model:
        """Fix a model's shapes, and let features pass between models in the type that the layers compute in."""
        model.reshape(input_shapes(model, self.resolution if name in self._whole else self.window))
        steps = preprocess.PrePostProcessor(model)
        for place, ports in ((steps.input, model.inputs), (steps.output, model.outputs)):
            for port in ports:
                if any(name in port.any_name for name in _TYPED):
                    place(port.any_name).tensor().set_element_type(_TYPES[self.precision])
        return steps.build()


def input_shapes(model: ov.Model, resolution: tuple[int, int]) -> dict[str, list[int]]:
    """Return the shapes of what a model reads, by name, of padded frames of a height and width."""
    shapes = {}
    for port in model.inputs:
        if port.any_name != TIME:
            height, width = matched_size(*resolution) if "matched_" in port.any_name else resolution
            level = 0 if port.any_name == "frame" else level_of(port.any_name)
            shapes[port.any_name] = [1, height >> level, width >> level, port.partial_shape[3].get_length()]
    return shapes


def _divide(model: ov.Model, level: int, stitched: bool) -> None:
    """Leave the fine encoder that part of its results that is of a level, or the others."""
    for port in model.outputs:
        if (level_of(port.any_name) == level) != stitched:
            model.remove_result(port.get_node())


def _writable(cache: Path) -> Path | None:
    """Return the folder for compiled models if they can be kept there, without the oldest: OpenVINO removes none."""
    try:
        cache.mkdir(exist_ok=True)
        for blob in sorted(cache.iterdir(), key=lambda file: file.stat().st_mtime_ns, reverse=True)[_MOST_CACHED:]:
            blob.unlink()
    except OSError:
        return None
    return cache


def _cache_settings(cache: Path, device: str, model: ov.Model, changed: bool) -> dict[str, str]:
    """Return OpenVINO's settings to keep a compiled model; where its weights were changed, only if they are few."""
    weights = sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")
    if weights <= _MOST_WEIGHTS_CACHED:
        return {"CACHE_DIR": str(cache)}
    if changed:  # they would be kept too, hundreds of MB, and save little time
        return {}
    known = core().get_property(device, "SUPPORTED_PROPERTIES")
    # The first is a GPU's sign that it can, the second a CPU's; the CPU of OpenVINO 2025.0 has neither.
    weightless = "CACHE_MODE" in known or "ENABLE_WEIGHTLESS" in known
    # Without the weights, which lie beside it.
    return {"CACHE_DIR": str(cache)} | ({"CACHE_MODE": "OPTIMIZE_SIZE"} if weightless else {})
