"""Make a model's int8 version: convolutions in 8 bits, calibrated on frames, where frames do not suffer by it."""

import importlib
import importlib.util
import itertools
import logging
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .calibration import Pair, checksum, cut
from .compiled import CompiledModels, ReadModel, Tensors
from .configuration import MODELS, FilmConfiguration
from .convert import check_output, write_model
from .devices import choose_device, choose_precision, core
from .errors import FilmError
from .frames import Frame, check_frame, check_same_size
from .layers import Node
from .library import Manifest, checked_manifest
from .pipeline import FilmPipeline

LEAST_PSNR = 40.0  # dB against f32, on pairs that were not calibrated on; layers go back to floating point until then
_CROP = 256  # pixels: the side of what is calibrated on
_CROPS = 16  # about so many in all
_HELD_BACK = 3  # of so many pairs, one tells how good it became
_WORTH_A_TRIAL = 0.02  # of all products: layers with fewer, together, are not told apart
_FEW_CHANNELS = 10  # convolutions that read flows or images, or make them or colours and shares
# Of the operations that NNCF would quantize, convolutions alone take time; flows and warps need their precision.
_FLOATING = ("Add", "Subtract", "Multiply", "AvgPool", "Floor", "Gather", "DepthToSpace", "Minimum",
             "Maximum", "ReduceMean", "ReduceSum", "Divide", "NormalizeL2", "MatMul")
_INSTALL_NNCF = f"install it ({sys.executable} -m pip install nncf)"

Inputs = dict[str, NDArray[Any]]
OnProgress = Callable[[float], None]


def quantize(folder: Path, pairs: Sequence[Pair], output: Path, on_progress: OnProgress | None = None) -> Manifest:
    """Write the int8 version of the model in a folder; a model in `output` is replaced, whole or not at all.

    Kernels and what convolutions read become 8-bit integers (NNCF, post-training quantization, min-max), except the
    convolutions that read or make flows or make colours. Of each three pairs the third is held back: on these the
    int8 version must come to 40 dB or more against f32, where fine flows are not refined (see FilmPipeline). Where it
    does not, the layers that hurt are found by halving and stay in floating point.

    Args:
        folder: a converted model.
        pairs: two or more pairs of frames, (H,W,3) float32 in [0,1], all of one size, with the motion that is to be
            interpolated (see calibration.py).
        output: the folder to make (see library.int8_folder).
        on_progress: called now and then with the share that is done, in [0,1]; what it raises stops the work.

    Returns:
        What was written into film.json; `int8` holds the figures.

    Raises:
        FilmError: NNCF is missing, the model is damaged or quantized already, pairs are too few or no frames, or the
            output can't be written or is something else than a model.
    """
    manifest = checked_manifest(folder)
    if manifest.int8:
        raise FilmError(f"Model {folder} is an int8 version already: give the model that it was made of.")
    nncf = _nncf()
    check_output(output)
    _check(pairs)
    stages = len(MODELS) + 2

    def tell(stage: int, share: float = 0) -> None:
        if on_progress:
            on_progress((stage + share) / stages)

    judged = range(_HELD_BACK - 1, len(pairs), _HELD_BACK) or [len(pairs) - 1]
    held_back = [cut(pairs[index], index) for index in judged]
    calibration = [pair for index, pair in enumerate(pairs) if index not in judged]
    original = _Original(nncf, folder, manifest, calibration, held_back, partial(tell, 0))
    chosen = {name: list(layers) for name, layers in original.layers.items()}
    models = {name: original.quantized(name, chosen[name], partial(tell, stage))
              for stage, name in enumerate(MODELS, start=1)}
    psnr = original.psnr(models)
    if psnr < LEAST_PSNR:
        models, psnr, chosen = _partly_quantized(original, partial(tell, stages - 1))
    if not any(chosen.values()):
        raise FilmError(f"No part of {folder.name} comes to {LEAST_PSNR:g} dB in int8 on these frames: use other "
                        "frames, or precision auto.")
    tell(stages)
    left = {name: (len(layers) - len(chosen[name]), len(layers)) for name, layers in original.layers.items()}
    figures = {"psnr": round(psnr, 2), "size": list(held_back[0][0].shape[:2]),
               "pairs_calibrated_on": len(calibration), "pairs_held_back": len(held_back),
               "floating_point": [f"{count} of {total} convolutions of {name}"
                                  for name, (count, total) in left.items() if count],
               "made_of": manifest.weights, "frames": checksum(pairs)}
    return write_model(models, replace(manifest, int8=figures), output, weights="f32")


def described(figures: Mapping[str, Any]) -> str:
    """Return in words how good an int8 version became; see Manifest.int8."""
    kept = f"; in floating point: {', '.join(figures['floating_point'])}" if figures["floating_point"] else ""
    return (f"{figures['psnr']:.1f} dB against f32 on {figures['pairs_held_back']} of "
            f"{figures['pairs_held_back'] + figures['pairs_calibrated_on']} pairs of frames, held back{kept}")


def check_nncf() -> None:
    """Raise FilmError where NNCF is not installed; that is known at once, its import takes seconds."""
    if importlib.util.find_spec("nncf") is None:
        raise FilmError(f"NNCF, which makes int8 versions, is not installed: {_INSTALL_NNCF}.")


def _nncf() -> ModuleType:
    try:
        nncf = importlib.import_module("nncf")
        telemetry = importlib.import_module("nncf.telemetry.wrapper").telemetry
    except ImportError as error:
        raise FilmError(f"NNCF, which makes int8 versions, can't be imported ({error}): {_INSTALL_NNCF}.") from error
    telemetry._impl = None  # or each call would report its use over the network
    nncf.set_log_level(logging.ERROR)
    return nncf


def _check(pairs: Sequence[Pair]) -> None:
    for number, frame in enumerate(itertools.chain.from_iterable(pairs), start=1):
        check_frame(frame, f"Frame {number}")
        check_same_size(pairs[0][0], frame, "The first frame", f"frame {number}")
    if len(pairs) < 2:
        raise FilmError(f"The number of pairs of frames to calibrate on is {len(pairs)}, where 2 or more are needed, "
                        "one to judge by: give three or more frames of a scene that differ.")


class _Original:
    """A model in floating point, what goes into its five models on crops of frames, and its own frames to judge by.

    Attributes:
        layers: of each of the five, the convolutions that can be quantized, by name, with their number of products.
    """

    def __init__(self, nncf: ModuleType, folder: Path, manifest: Manifest, calibration: Sequence[Pair],
                 held_back: Sequence[Pair], tell: OnProgress) -> None:
        self._nncf, self._folder, self._manifest, self._held_back = nncf, folder, manifest, held_back
        self._seen = self._inputs_seen(calibration, tell)
        self._precision = choose_precision("auto", choose_device("CPU"))
        self._exact = self._midpoints({}, "f32")
        self.layers = {name: _products(self._read(name), self._seen[name][0]) for name in MODELS}

    def quantized(self, name: str, layers: Collection[str], tell: OnProgress | None = None) -> ov.Model:
        """Return one of the five with some of its layers in 8 bits."""
        model = self._read(name)
        if not layers:
            return model
        inputs, numbers = self._seen[name], itertools.count()

        def told(one: Inputs) -> Inputs:
            if tell:
                tell(min(next(numbers) / len(inputs), 1))  # NNCF may want one of them again
            return one

        floating = [node.get_friendly_name() for node in _convolutions(model) if node.get_friendly_name() not in layers]
        quantized: ov.Model = self._nncf.quantize(
            model, self._nncf.Dataset(inputs, told), preset=self._nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=self._nncf.IgnoredScope(names=floating, types=list(_FLOATING), validate=False),
            advanced_parameters=self._nncf.AdvancedQuantizationParameters(disable_bias_correction=True))
        _quantize_before_warps(quantized)
        return quantized

    def psnr(self, models: Mapping[str, ov.Model]) -> float:
        """Return the PSNR of midpoints of the held-back pairs, where some of the five are others; at most 100."""
        frames = self._midpoints(models, self._precision)
        error = np.mean([np.mean((frame - exact) ** 2) for frame, exact in zip(frames, self._exact, strict=True)])
        return float(-10 * np.log10(max(error, 1e-10)))

    def _read(self, name: str) -> ov.Model:
        return core().read_model(self._folder / f"{name}.xml")

    def _midpoints(self, models: Mapping[str, ov.Model], precision: str) -> list[Frame]:
        multiple = self._manifest.configuration.multiple
        height, width = (-(-side // multiple) * multiple for side in self._held_back[0][0].shape[:2])
        compiled = CompiledModels(lambda name: models[name].clone() if name in models else self._read(name),
                                  self._manifest.configuration, "CPU", precision, (height, width), (height, width))
        pipeline = FilmPipeline(compiled, self._manifest.configuration, refine=False)
        return [next(pipeline.frames(pipeline.pair(pipeline.encode(first), pipeline.encode(last)), [0.5]))
                for first, last in self._held_back]

    def _inputs_seen(self, pairs: Sequence[Pair], tell: OnProgress) -> dict[str, list[Inputs]]:
        """Return what goes into each model while crops of pairs are interpolated, in f32."""
        multiple = self._manifest.configuration.multiple
        size = -(-_CROP // multiple) * multiple
        models = _Recording(self._read, self._manifest.configuration, "CPU", "f32", (size, size), (size, size))
        pipeline = FilmPipeline(models, self._manifest.configuration)
        count = math.ceil(_CROPS / len(pairs))
        for index, (first, last) in enumerate(pairs):
            tell(index / len(pairs))
            for place in np.random.default_rng(index).random((count, 2)):
                top, left = (int(share * max(0, side - size))
                             for share, side in zip(place, first.shape[:2], strict=True))
                ends = (_filled(frame[top:top + size, left:left + size], size) for frame in (first, last))
                next(pipeline.unclamped(pipeline.pair(*(pipeline.encode(end) for end in ends)), [0.5]))
        return models.seen


def _partly_quantized(original: _Original,
                      tell: OnProgress) -> tuple[dict[str, ov.Model], float, dict[str, list[str]]]:
    """Quantize what can be without going below the least PSNR.

    Of layers that hurt, each half is tried, and so on. The models with the most to gain come first.

    Returns:
        The five models, their PSNR in dB, and the layers of each that are in 8 bits.
    """
    products = {name: sum(layers.values()) for name, layers in original.layers.items()}
    total, done = sum(products.values()), 0
    models = {name: original.quantized(name, []) for name in MODELS}
    reached = original.psnr(models)
    chosen: dict[str, list[str]] = {name: [] for name in MODELS}
    if reached < LEAST_PSNR:  # by the precision of floating point alone
        return models, reached, chosen
    for name in sorted(MODELS, key=products.__getitem__, reverse=True):
        waiting = [list(original.layers[name])] if original.layers[name] else []
        while waiting:
            tell(done / total)
            part = waiting.pop()
            made = models | {name: original.quantized(name, [*chosen[name], *part])}
            size = sum(original.layers[name][layer] for layer in part)
            psnr = original.psnr(made)
            if psnr < LEAST_PSNR and len(part) > 1 and size >= _WORTH_A_TRIAL * total:
                waiting += [part[len(part) // 2:], part[:len(part) // 2]]
                continue
            if psnr >= LEAST_PSNR:
                models, reached, chosen[name] = made, psnr, [*chosen[name], *part]
            done += size
    return models, reached, chosen


def _products(model: ov.Model, inputs: Inputs) -> dict[str, int]:
    """Return the convolutions that can be quantized, by name, with their number of products on some inputs."""
    model.reshape({name: list(values.shape) for name, values in inputs.items()})
    return {node.get_friendly_name(): math.prod(node.input_value(1).shape) * math.prod(node.output(0).shape[2:])
            for node in _convolutions(model) if min(node.input_value(1).shape[:2]) > _FEW_CHANNELS}


def _convolutions(model: ov.Model) -> list[Node]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]


def _filled(crop: Frame, size: int) -> Frame:
    """Return a crop of a small frame with its border repeated up to a size."""
    return np.pad(crop, ((0, size - crop.shape[0]), (0, size - crop.shape[1]), (0, 0)), mode="edge")


class _Recording(CompiledModels):
    """Compiled models that keep what goes into them."""

    def __init__(self, read: ReadModel, configuration: FilmConfiguration, device: str, precision: str,
                 resolution: tuple[int, int], window: tuple[int, int]) -> None:
        super().__init__(read, configuration, device, precision, resolution, window)
        self.seen: dict[str, list[Inputs]] = {name: [] for name in MODELS}

    def run(self, name: str, inputs: Mapping[str, ov.Tensor]) -> Tensors:
        if name in self.seen:
            self.seen[name].append({needed: inputs[needed].data.copy() for needed in self.inputs(name)})
        return super().run(name, inputs)


def _quantize_before_warps(model: ov.Model) -> None:
    """Quantize features before they are warped too, where nothing but their quantized values is used afterwards.

    A warp moves twice or four times fewer bytes so, and as it mixes what it reads, the range is the same.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Reshape" and (quantizer := _warped_for(node)) is not None:
            limits = [np.asarray(value.get_node().data) for value in quantizer.input_values()[1:]]
            if all(limit.size == 1 for limit in limits):
                features = ops.fake_quantize(node.input_value(0), *(limit.reshape(1, 1, 1, 1) for limit in limits),
                                             quantizer.get_attributes()["levels"])
                node.input(0).replace_source_output(features.output(0))


def _warped_for(pixels: Node) -> Node | None:
    """Return the FakeQuantize that all which is read of a frame's pixels (h*w,channels) ends in; None if that differs.

    See Layers.sample for what lies between.
    """
    readers = pixels.output(0).get_target_inputs()
    if not all(reader.get_node().get_type_name() == "Gather" and reader.get_index() == 0 for reader in readers):
        return None
    ends: dict[str, Node] = {}
    passed = {reader.get_node().get_friendly_name(): reader.get_node() for reader in readers}
    waiting = list(passed.values())
    while waiting:
        for reader in waiting.pop().output(0).get_target_inputs():
            node = reader.get_node()
            name = node.get_friendly_name()
            if node.get_type_name() not in ("Add", "Subtract", "Multiply", "Reshape"):
                ends[name] = node
            elif name not in passed:
                passed[name] = node
                waiting.append(node)
    found = list(ends.values())
    return found[0] if len(found) == 1 and found[0].get_type_name() == "FakeQuantize" else None
