"""Convert a SavedModel of FILM into a model folder, and prove that it is the same network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from .compiled import CompiledModels
from .configuration import (
    RELEASED_PYRAMID_LEVELS,
    FilmTensors,
    canonical_names,
    read_configuration,
)
from .devices import core
from .errors import FilmError
from .files import written_whole
from .library import MANIFEST, Manifest, file_checksums
from .network import build_models
from .pipeline import FilmPipeline
from .saved_model import opened_saved_model, read_film_tensors

MOST_ERROR = 1e-3  # of a value of the midpoint, in f32, against a reference
_MOST_PYRAMID_LEVELS = 12

Frames = tuple[NDArray[np.float32], NDArray[np.float32]]


def convert(source: Path, output: Path, *, verify: bool = False, weights: Literal["f32", "f16"] = "f32") -> Manifest:
    """Convert FILM into the model folder `output`, which appears whole or not at all; a model there is replaced.

    Args:
        source: a SavedModel folder, its .tar.gz, or an .npz of FILM's tensors by name (kernels HWIO; the number of
            pyramid levels as "pyramid_levels", else 7).
        output: the folder to make.
        verify: compare with TensorFlow too, which must be installed.
        weights: what the files hold; f16 halves them.

    Returns:
        What was written into film.json. `parity` is empty for an .npz, which has no graph to compare with.

    Raises:
        FilmError: the source is no FILM or damaged, the output can't be written or is something else than a model,
            or the converted network differs from a reference by more than 1e-3.
    """
    check_output(output)
    if source.suffix == ".npz":
        if verify:
            raise FilmError(f"{source} holds tensors without a graph, so there is nothing to verify them against: "
                            "leave --verify out, or give a SavedModel.")
        network = _Network(*_read_npz(source))
        return write_model(network.models, Manifest(network.configuration, source.name, {}), output, weights)
    with opened_saved_model(source) as saved_model:
        tensors = read_film_tensors(saved_model)  # first: it checks every byte, which OpenVINO's reader does not
        reference = _OpenVinoReference(saved_model, source)
        network = _Network(tensors, _pyramid_levels(tensors, reference.convolutions, source))
        frames = _test_frames(network.configuration.multiple)
        midpoint = network.midpoint(frames)
        parity = {"openvino": _parity(midpoint, reference.outputs(frames), "OpenVINO's own conversion")}
        if verify:
            parity["tensorflow"] = _parity(midpoint, _tensorflow_outputs(saved_model, frames), "TensorFlow")
    return write_model(network.models, Manifest(network.configuration, source.name, parity), output, weights)


class _Network:
    """The network built from its tensors."""

    def __init__(self, tensors: FilmTensors, pyramid_levels: int) -> None:
        self.configuration = read_configuration(tensors, pyramid_levels)
        self.models = build_models(tensors, self.configuration)

    def midpoint(self, frames: Frames) -> NDArray[np.float32]:
        """Return the midpoint of two frames (1,H,W,3) in f32, not clamped."""
        size = (frames[0].shape[1], frames[0].shape[2])
        models = CompiledModels(lambda name: self.models[name].clone(), self.configuration, "CPU", "f32", size, size)
        pipeline = FilmPipeline(models, self.configuration)
        pair = pipeline.pair(*(pipeline.encode(frame[0]) for frame in frames))
        return next(pipeline.unclamped(pair, [0.5]))[np.newaxis]


class _OpenVinoReference:
    """The same SavedModel as OpenVINO's TensorFlow front end reads it."""

    def __init__(self, saved_model: Path, source: Path) -> None:
        self._source = source
        with self._readable():
            self._model = core().read_model(saved_model)
        self.convolutions = sum(1 for node in self._model.get_ops() if node.get_type_name() == "Convolution")

    def outputs(self, frames: Frames) -> list[NDArray[np.float32]]:
        """Return every output for two frames (1,H,W,3), in f32."""
        # Shapes stay dynamic: with static ones the CPU plugin of OpenVINO 2026.4 can crash in batched Gather.
        with self._readable():
            values = _inputs({port.any_name: len(port.partial_shape) for port in self._model.inputs}, frames)
            compiled = core().compile_model(self._model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            return list(compiled(values).values())

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise FilmError(f"OpenVINO can't run SavedModel {self._source} ({reason}): fetch it again.") from error


def _tensorflow_outputs(saved_model: Path, frames: Frames) -> list[NDArray[np.float32]]:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise FilmError(f"TensorFlow can't be imported ({error}): install it (python -m pip install tensorflow) or "
                        "leave --verify out.") from error
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures["serving_default"]
    ranks = {name: spec.shape.rank for name, spec in signature.structured_input_signature[1].items()}
    outputs = signature(**{name: tf.constant(value) for name, value in _inputs(ranks, frames).items()})
    return [output.numpy() for output in outputs.values()]


def _inputs(ranks: Mapping[str, int], frames: Frames) -> dict[str, NDArray[np.float32]]:
    """Return a reference's inputs by name: the frames are those of rank 4 (x0, x1), the other one is the time."""
    images = sorted(name for name, rank in ranks.items() if rank == 4)
    if len(images) != len(frames):
        raise FilmError(f"The SavedModel takes {len(images)} images where a FILM takes two: use google/film.")
    times = {name: np.full((1, 1), 0.5, np.float32) for name in ranks if name not in images}
    return times | dict(zip(images, frames, strict=True))


def _pyramid_levels(tensors: FilmTensors, convolutions: int, source: Path) -> int:
    """Return the number of pyramid levels, which no tensor tells, from how many convolutions the graph has."""
    deepest = read_configuration(tensors, _MOST_PYRAMID_LEVELS)
    for levels in range(1, _MOST_PYRAMID_LEVELS + 1):
        if replace(deepest, pyramid_levels=levels).convolutions() == convolutions:
            return levels
    raise FilmError(f"The graph of {source} has {convolutions} convolutions, which no FILM with these tensors has: "
                    "give it the SavedModel of google/film.")


def _test_frames(multiple: int) -> Frames:
    """Return two smooth frames (1,H,W,3) in [0,1], the second one a shifted, darker first one with noise."""
    random = np.random.default_rng(0)
    height, width = max(64, multiple), 2 * max(64, multiple)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / 16
    waves = [np.sin(x * a + y * b + c) for a, b, c in random.uniform(-1, 1, (3, 3))]
    first = 0.5 + 0.4 * np.stack(waves, -1)[np.newaxis]
    last = np.roll(first, (3, 5), (1, 2)) * 0.9 + random.uniform(0, 0.05, first.shape)
    return first.astype(np.float32), last.astype(np.float32)


def _parity(midpoint: NDArray[np.float32], outputs: list[NDArray[np.float32]], reference: str) -> dict[str, Any]:
    """Compare with the one of a reference's outputs that is the image: exports name and order them as they like.

    The warped frames have the image's shape too, but none of the three is within the bound of another.
    """
    errors = [float(np.abs(output - midpoint).max()) for output in outputs if output.shape == midpoint.shape]
    error = min(errors, default=float("inf"))
    if not error <= MOST_ERROR:
        raise FilmError(f"The converted network differs from {reference} by {error:.2g} where {MOST_ERROR:g} is "
                        "allowed: the SavedModel is no FILM of the released kind, use google/film.")
    return {"max_error": error, "size": list(midpoint.shape[1:3])}


def _read_npz(path: Path) -> tuple[FilmTensors, int]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise FilmError(f"Tensors {path} can't be read ({error}): give an .npz of FILM's tensors.") from error
    levels = int(arrays.pop("pyramid_levels", RELEASED_PYRAMID_LEVELS))
    return canonical_names({name: array.astype(np.float32) for name, array in arrays.items()}), levels


def write_model(models: Mapping[str, ov.Model], manifest: Manifest, output: Path, weights: str) -> Manifest:
    """Write a model folder, whole or not at all, and return its manifest, now with checksums."""
    with written_whole(output) as folder:
        folder.mkdir()
        for name, model in models.items():
            try:
                ov.save_model(model, folder / f"{name}.xml", compress_to_fp16=weights == "f16")
            except RuntimeError as error:
                raise OSError(f"OpenVINO: {error}") from error
        written = replace(manifest, checksums=file_checksums(folder))
        written.write(folder)
    return written


def check_output(output: Path) -> None:
    """Raise FilmError where a model folder would replace something else."""
    if output.exists() and not (output / MANIFEST).is_file() and (output.is_file() or any(output.iterdir())):
        raise FilmError(f"Output {output} exists and is no model folder: choose another, or remove it.")
