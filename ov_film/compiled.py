"""A FILM compiled for one device, precision and resolution."""

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import preprocess

from .configuration import FilmConfiguration
from .devices import core
from .errors import FilmError
from .frames import Frame, padded
from .library import ENCODER, PAIR_MODEL

_MOST_CACHED = 32  # files: an encoder and a pair model for each device, precision and resolution
_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


@dataclass(frozen=True)
class PairDetails:
    """What the network saw in a pair, each cropped to the frames' size.

    Attributes:
        midpoint: (H,W,3) float32 in [0,1].
        warped_first, warped_last: (H,W,3), each frame moved to the midpoint.
        forward_flows, backward_flows: for each fusion level, finest first, (h,w,2) float32: the flow (x, y) in pixels
            of that level from the first frame to the last, and from the last to the first.
    """

    midpoint: Frame
    warped_first: Frame
    warped_last: Frame
    forward_flows: tuple[NDArray[np.float32], ...]
    backward_flows: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Encoding:
    """What a pair needs of one frame: the encoder's outputs, in order, and the frame's own height and width."""

    tensors: Sequence[ov.Tensor]
    size: tuple[int, int]


class CompiledFilm:
    """A FILM for frames that are padded to one height and width. Calls from several threads take turns."""

    def __init__(self, folder: Path, configuration: FilmConfiguration, device: str, precision: str, height: int,
                 width: int) -> None:
        self._folder, self._configuration = folder, configuration
        self._device, self._precision = device, precision
        self._lock = threading.Lock()
        encoder = core().read_model(folder / ENCODER)
        encoder.reshape({"frame": [1, height, width, 3]})
        self._encoder = self._compile(_with_encoding_type(encoder, _TYPES[precision]))
        self._shapes = {output.any_name: list(output.shape) for output in self._encoder.outputs}
        self._pair = self._compile_pair(with_details=False)

    def encode(self, frame: Frame) -> Encoding:
        """Encode one frame (H,W,3) float32; sides up to the resolution."""
        tensors = [ov.Tensor(output.element_type, output.shape) for output in self._encoder.outputs]
        batch = np.ascontiguousarray(padded(frame, self._configuration.multiple)[np.newaxis])
        with self._lock:
            request = self._encoder.create_infer_request()
            request.set_input_tensor(ov.Tensor(batch, shared_memory=True))
            for index, tensor in enumerate(tensors):
                request.set_output_tensor(index, tensor)
            request.infer()
        return Encoding(tensors, (frame.shape[0], frame.shape[1]))

    def midpoint(self, first: Encoding, last: Encoding) -> Frame:
        """Return the frame midway between two encoded ones, (H,W,3) float32 in [0,1].

        Raises:
            FilmError: the network overflowed.
        """
        with self._lock:
            return self._clamped(_cropped(_inferred(self._pair, first, last), "midpoint", first.size))

    def details(self, first: Encoding, last: Encoding) -> PairDetails:
        """Return the midpoint with the flows and warped frames that it was made of; raises as `midpoint`."""
        height, width = first.size
        with self._lock:
            request = _inferred(self._details, first, last)
            flows = [tuple(_cropped(request, f"{direction}_flow_{level}", (-(-height >> level), -(-width >> level)))
                           for level in range(self._configuration.fusion_levels))
                     for direction in ("forward", "backward")]
            midpoint, warped_first, warped_last = (_cropped(request, name, first.size)
                                                   for name in ("midpoint", "warped_first", "warped_last"))
        return PairDetails(self._clamped(midpoint), warped_first, warped_last, flows[0], flows[1])

    def execution(self) -> tuple[str, str, str]:
        """Return the device, its full name and the precision that OpenVINO says it runs with."""
        device = self._pair.get_property("EXECUTION_DEVICES")[0]
        precision = self._pair.get_property("INFERENCE_PRECISION_HINT")
        names = {element_type: name for name, element_type in _TYPES.items()}
        return device, core().get_property(device, "FULL_DEVICE_NAME").strip(), names.get(precision, str(precision))

    def release_memory(self) -> None:
        """Give back what the layers' results took; the next run takes it again."""
        with self._lock:
            self._encoder.release_memory()
            self._pair.release_memory()

    def _clamped(self, midpoint: Frame) -> Frame:
        if not np.isfinite(midpoint).all():
            raise FilmError(f"The network overflowed at precision {self._precision} on {self._device}, so its frame "
                            "would be wrong: choose precision f32 or another device.")
        return midpoint.clip(0, 1)

    @functools.cached_property
    def _details(self) -> ov.CompiledModel:
        return self._compile_pair(with_details=True)

    def _compile_pair(self, with_details: bool) -> ov.CompiledModel:
        pair = core().read_model(self._folder / PAIR_MODEL)
        if not with_details:
            for output in pair.outputs:
                if not output.any_name.startswith(("midpoint", "grid")):
                    pair.remove_result(output.node)
        pair.reshape({f"{end}_{name}": shape for end in ("first", "last") for name, shape in self._shapes.items()})
        return self._compile(_with_encoding_type(pair, _TYPES[self._precision]))

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        settings = {"INFERENCE_PRECISION_HINT": self._precision, "PERFORMANCE_HINT": "LATENCY"}
        return core().compile_model(model, self._device, settings | _cache_settings(self._folder, self._device))


def _with_encoding_type(model: ov.Model, element_type: ov.Type) -> ov.Model:
    """Let features pass between the models in the type that the layers compute in; images stay f32."""
    steps = preprocess.PrePostProcessor(model)
    for place, ports in ((steps.input, model.inputs), (steps.output, model.outputs)):
        for port in ports:
            if "features_" in port.any_name or "predictor_" in port.any_name:
                place(port.any_name).tensor().set_element_type(element_type)
    return steps.build()


def _inferred(pair: ov.CompiledModel, first: Encoding, last: Encoding) -> ov.InferRequest:
    """Run a pair model and return the request, which has the outputs; made anew, because one holds its encodings."""
    request = pair.create_infer_request()
    for index, tensor in enumerate([*first.tensors, *last.tensors]):
        request.set_input_tensor(index, tensor)
    request.infer()
    return request


def _cropped(request: ov.InferRequest, name: str, size: tuple[int, int]) -> NDArray[np.float32]:
    output: NDArray[np.float32] = request.get_tensor(name).data
    return output[0, :size[0], :size[1]].copy()


def _cache_settings(folder: Path, device: str) -> dict[str, str]:
    """Return OpenVINO's settings to keep compiled models beside the model; none where that can't be written.

    OpenVINO never removes any, so the oldest go here.
    """
    cache = folder / ".cache"
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
