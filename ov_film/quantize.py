"""Make a model's int8 version: convolutions in 8 bits, calibrated on frames, where frames do not suffer by it."""

import importlib
import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from .compiled import CompiledModels, ReadModel, Tensors
from .configuration import FUSION, MODELS
from .convert import check_output, write_model
from .devices import choose_device, choose_precision, core
from .errors import FilmError
from .frames import Frame, check_frame, check_same_size, read_frame
from .library import Manifest, checked_manifest
from .pipeline import FilmPipeline

LEAST_PSNR = 40.0  # dB against f32, on pairs that were not calibrated on; models go back to floating point until then
_CROP = 256  # pixels: the side of what is calibrated on
_CROPS = 16  # about so many in all
_LARGEST = (384, 640)  # pixels: the most that is kept of a frame, height and width, or 4K pairs would fill the memory
_HELD_BACK = 3  # of so many pairs, one tells how good it became
_MOST_PAIRS = 32
_CLIP_FRAMES = 1000  # the start of a clip that is read for pairs
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_FEW_CHANNELS = 5  # convolutions that read flows, or make them or colours and shares
# Of the operations that NNCF would quantize, convolutions alone take time; flows and warps need their precision.
_FLOATING = ("Add", "Subtract", "Multiply", "AvgPool", "Interpolate", "Floor", "Gather", "DepthToSpace", "Minimum",
             "Maximum")

Inputs = dict[str, NDArray[Any]]
Pair = tuple[Frame, Frame]


def quantize(folder: Path, pairs: Sequence[Pair], output: Path) -> Manifest:
    """Write the int8 version of the model in a folder; a model in `output` is replaced, whole or not at all.

    Kernels and what convolutions read become 8-bit integers (NNCF, post-training quantization, min-max), except the
    convolutions that read or make flows or make colours. Of each three pairs the third is held back: on these the
    int8 version must come to 40 dB or more against f32, and of the five models those that hurt most go back to
    floating point until it does.

    Args:
        folder: a converted model.
        pairs: two or more pairs of frames, (H,W,3) float32 in [0,1], all of one size, with the motion that is to be
            interpolated (see `read_pairs`).
        output: the folder to make (see library.int8_folder).

    Returns:
        What was written into film.json; `int8` holds the figures.

    Raises:
        FilmError: NNCF is missing, the model is damaged or quantized already, pairs are too few or no frames, or the
            output can't be written or is something else than a model.
    """
    nncf = _nncf()
    manifest = checked_manifest(folder)
    check_output(output)
    if manifest.int8:
        raise FilmError(f"Model {folder} is an int8 version already: give the model that it was made of.")
    _check(pairs)
    judged = range(_HELD_BACK - 1, len(pairs), _HELD_BACK) or [len(pairs) - 1]
    held_back = [_cut(pairs[index], index) for index in judged]
    calibration = [pair for index, pair in enumerate(pairs) if index not in judged]

    def read(name: str) -> ov.Model:
        return core().read_model(folder / f"{name}.xml")

    seen = _inputs_seen(read, manifest, calibration)
    quantized = {name: _quantized(nncf, read(name), seen.pop(name)) for name in MODELS}

    precision = choose_precision("auto", choose_device("CPU"))
    exact = _midpoints({name: read(name) for name in MODELS}, manifest, "f32", held_back)

    def psnr(names: Sequence[str]) -> float:
        models = {name: quantized[name] if name in names else read(name) for name in MODELS}
        return _psnr(exact, _midpoints(models, manifest, precision, held_back))

    chosen = list(MODELS)
    reached = psnr(chosen)
    if reached < LEAST_PSNR:
        for worst in sorted(MODELS, key=lambda name: psnr([name])):
            chosen.remove(worst)
            reached = psnr(chosen)
            if reached >= LEAST_PSNR:
                break
    if not chosen:
        raise FilmError(f"No part of {folder.name} comes to {LEAST_PSNR:g} dB in int8 on these frames: use other "
                        "frames, or precision auto.")
    figures = {"psnr": round(reached, 2), "size": list(held_back[0][0].shape[:2]),
               "pairs_calibrated_on": len(calibration), "pairs_held_back": len(held_back),
               "floating_point": [name for name in MODELS if name not in chosen],
               "made_of": manifest.checksums[f"{FUSION}.bin"]}
    models = {name: quantized[name] if name in chosen else read(name) for name in MODELS}
    return write_model(models, replace(manifest, int8=figures), output, weights="f32")


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs of neighbouring frames, at most 32, spread over a folder of images or the start of a clip.

    Of large frames a part is kept, from another place for each pair.

    Raises:
        FilmError: there is no such file or folder, or something in it can't be read.
    """
    if path.is_dir():
        images = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)
        if len(images) == 3:  # too few for pairs that share no frame
            images.insert(1, images[1])
        return _spread((read_frame(first), read_frame(last))
                       for first, last in zip(images[::2], images[1::2], strict=False))
    return _spread(_clip_pairs(path))


def _clip_pairs(path: Path) -> Iterator[Pair]:
    try:
        with av.open(path) as container:
            frames = (frame.to_ndarray(format="rgb24").astype(np.float32) / 255
                      for frame in itertools.islice(container.decode(video=0), _CLIP_FRAMES))
            yield from zip(frames, frames, strict=False)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise FilmError(f"Clip {path} can't be read ({error}): give a video or a folder of images.") from error


def _spread(pairs: Iterable[Pair]) -> list[Pair]:
    """Return up to so many pairs at equal distances, of a number that is not known before the last."""
    kept: list[Pair] = []
    step = 1
    for index, pair in enumerate(pairs):
        if index % step == 0:
            kept.append(_cut(pair, index))
        if len(kept) > _MOST_PAIRS:
            kept, step = kept[::2], 2 * step
    return kept


def _nncf() -> ModuleType:
    try:
        nncf = importlib.import_module("nncf")
        telemetry = importlib.import_module("nncf.telemetry.wrapper").telemetry
    except ImportError as error:
        raise FilmError(f"NNCF can't be imported ({error}): install it (python -m pip install nncf).") from error
    telemetry._impl = None  # or each call would report its use over the network
    nncf.set_log_level(logging.ERROR)
    return nncf


def _check(pairs: Sequence[Pair]) -> None:
    for number, frame in enumerate(itertools.chain.from_iterable(pairs), start=1):
        check_frame(frame, f"Frame {number}")
        check_same_size(pairs[0][0], frame, "The first frame", f"frame {number}")
    if len(pairs) < 2:
        raise FilmError(f"There are {len(pairs)} pairs of frames to calibrate on where 2 or more are needed, one to "
                        "judge by: give a clip or a folder of three or more images.")


def _cut(pair: Pair, index: int) -> Pair:
    """Return at most so much of a pair as is looked at, from a place that differs from pair to pair."""
    first, last = pair
    check_same_size(first, last, "The first frame of a pair", "the last")
    height, width = (min(side, most) for side, most in zip(first.shape[:2], _LARGEST, strict=True))
    down, right = np.random.default_rng(index).random(2)
    top, left = round(down * (first.shape[0] - height)), round(right * (first.shape[1] - width))
    return (first[top:top + height, left:left + width].copy(), last[top:top + height, left:left + width].copy())


def _inputs_seen(read: ReadModel, manifest: Manifest, pairs: Sequence[Pair]) -> dict[str, list[Inputs]]:
    """Return what goes into each model while crops of pairs are interpolated, in f32."""
    multiple = manifest.configuration.multiple
    size = -(-_CROP // multiple) * multiple
    models = _Recording(read, "CPU", "f32", (size, size), (size, size))
    pipeline = FilmPipeline(models, manifest.configuration)
    count = math.ceil(_CROPS / len(pairs))
    for index, (first, last) in enumerate(pairs):
        for place in np.random.default_rng(index).random((count, 2)):
            top, left = (int(share * max(0, side - size)) for share, side in zip(place, first.shape[:2], strict=True))
            ends = (_filled(frame[top:top + size, left:left + size], size) for frame in (first, last))
            next(pipeline.unclamped(pipeline.pair(*(pipeline.encode(end) for end in ends)), [0.5]))
    return models.seen


def _filled(crop: Frame, size: int) -> Frame:
    """Return a crop of a small frame with its border repeated up to a size."""
    return np.pad(crop, ((0, size - crop.shape[0]), (0, size - crop.shape[1]), (0, 0)), mode="edge")


class _Recording(CompiledModels):
    """Compiled models that keep what goes into them."""

    def __init__(self, read: ReadModel, device: str, precision: str, resolution: tuple[int, int],
                 window: tuple[int, int]) -> None:
        super().__init__(read, device, precision, resolution, window)
        self.seen: dict[str, list[Inputs]] = {name: [] for name in MODELS}

    def run(self, name: str, inputs: Mapping[str, ov.Tensor]) -> Tensors:
        self.seen[name].append({needed: inputs[needed].data.copy() for needed in self.inputs(name)})
        return super().run(name, inputs)


def _quantized(nncf: ModuleType, model: ov.Model, inputs: list[Inputs]) -> ov.Model:
    few = [node.get_friendly_name() for node in model.get_ops()
           if node.get_type_name() == "Convolution" and min(node.input_value(1).shape[:2]) <= _FEW_CHANNELS]
    quantized: ov.Model = nncf.quantize(
        model, nncf.Dataset(inputs), preset=nncf.QuantizationPreset.MIXED, subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=few, types=list(_FLOATING), validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True))
    return quantized


def _midpoints(models: Mapping[str, ov.Model], manifest: Manifest, precision: str,
               pairs: Sequence[Pair]) -> list[Frame]:
    multiple = manifest.configuration.multiple
    height, width = (-(-side // multiple) * multiple for side in pairs[0][0].shape[:2])
    compiled = CompiledModels(lambda name: models[name].clone(), "CPU", precision, (height, width), (height, width))
    pipeline = FilmPipeline(compiled, manifest.configuration)
    return [next(pipeline.frames(pipeline.pair(pipeline.encode(first), pipeline.encode(last)), [0.5]))
            for first, last in pairs]


def _psnr(exact: Sequence[Frame], others: Sequence[Frame]) -> float:
    """Return the PSNR of frames in [0,1], in dB; at most 100."""
    error = np.mean([np.mean((frame - other) ** 2) for frame, other in zip(exact, others, strict=True)])
    return float(-10 * np.log10(max(error, 1e-10)))
