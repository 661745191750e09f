"""What is compared: ways to make the frames between frames, each in a process of its own."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from ov_film import FilmModel
from ov_film.frames import Frame

Frames = list[Frame]
# Makes all frames of a job (frames, times), new and old, and returns how many new ones it timed.
Run = Callable[[Frames, int], int]
SAMPLES = Path(__file__).absolute().parent.parent / "samples"


@dataclass(frozen=True)
class Job:
    """So many frames, of so many pixels, and how often to halve the gaps between them."""

    name: str
    height: int
    width: int
    frames: int
    times: int

    @property
    def new_frames(self) -> int:
        """How many frames come between."""
        return (self.frames - 1) * ((1 << self.times) - 1)

    def pictures(self) -> Frames:
        """Return the sample frames, back and forth, at this size."""
        pictures = []
        for index in range(self.frames):
            name = ("first", "last", "next", "last")[index % 4]
            picture = cv2.imread(str(SAMPLES / f"{name}.png"))[..., ::-1]
            resized = cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)
            pictures.append(resized.astype(np.float32) / 255)
        return pictures


@dataclass(frozen=True)
class Contender:
    """A way to make frames. `whole_runs` says that each new frame takes one run of the whole network."""

    name: str
    prepare: Callable[[Path, Path, Job], Run]
    whole_runs: bool = False


def _ours(precision: str, method: str) -> Callable[[Path, Path, Job], Run]:
    def prepare(saved_model: Path, folder: Path, job: Job) -> Run:
        model = FilmModel.load(folder, "CPU", precision)

        def run(frames: Frames, times: int) -> int:
            return sum(1 for _ in model.interpolate_sequence(frames, times, method)) - len(frames)

        return run
    return prepare


def _whole(midpoint: Callable[[np.ndarray, np.ndarray], object], frames: Frames) -> Run:
    """Time one midpoint: those who run the whole network for each new frame take as long for every one."""
    first, last = frames[0][np.newaxis], frames[1][np.newaxis]

    def run(_frames: Frames, _times: int) -> int:
        midpoint(first, last)
        return 1

    return run


def _notebook(saved_model: Path, folder: Path, job: Job) -> Run:
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(saved_model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    half = np.full((1, 1), 0.5, np.float32)
    return _whole(lambda first, last: compiled({"x0": first, "x1": last, "time": half}), job.pictures())


def _tensorflow(saved_model: Path, folder: Path, job: Job) -> Run:
    import tensorflow as tf

    network = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    half = tf.constant(np.full((1, 1), 0.5, np.float32))

    def midpoint(first: np.ndarray, last: np.ndarray) -> object:
        outputs = network(x0=tf.constant(first), x1=tf.constant(last), time=half)
        return [output.numpy() for output in outputs.values()]

    return _whole(midpoint, job.pictures())


def _torch(bfloat16: bool, one_flow: bool) -> Callable[[Path, Path, Job], Run]:
    def prepare(saved_model: Path, folder: Path, job: Job) -> Run:
        import torch

        from training.film_torch import Film, FilmConfig

        released = FilmConfig(64, (32, 64, 128, 256), (64, 128, 256, 512), image_levels=0, flow_level=0,
                              projections=(), flow_convolutions=(3, 3, 3, 3), blends=False, searches=False)
        network = Film(released).eval().requires_grad_(False)
        # Each in the layout that is faster for it here.
        kind, layout = ((torch.bfloat16, torch.channels_last) if bfloat16 else (torch.float32, torch.contiguous_format))
        network = network.to(kind).to(memory_format=layout)

        def tensor(frame: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(frame).permute(0, 3, 1, 2).to(kind).contiguous(memory_format=layout)

        def run(frames: Frames, times: int) -> int:
            count = 1 << times
            for first, last in pairwise(frames):
                images, features = network.encode(torch.cat([tensor(first[np.newaxis]), tensor(last[np.newaxis])]))
                flows = network.estimate_flows(images, features)
                for step in range(1, count):
                    network.fuse(images, features, flows, step / count).image.float().numpy()
            return (len(frames) - 1) * (count - 1)

        if one_flow:
            return run
        return _whole(lambda first, last: network(tensor(first), tensor(last)).image.float().numpy(), job.pictures())
    return prepare


NOTEBOOK, TORCH, TORCH_ONE_FLOW = "notebook's IR f32", "torch fp32", "torch fp32 one flow"
OURS = {"f32": Contender("f32", _ours("f32", "recursive")),
        "bf16": Contender("bf16", _ours("bf16", "recursive")),
        "int8": Contender("int8", _ours("int8", "recursive")),
        "direct bf16": Contender("direct bf16", _ours("bf16", "direct")),
        "direct int8": Contender("direct int8", _ours("int8", "direct"))}
PEERS = {contender.name: contender for contender in (
    Contender(NOTEBOOK, _notebook, whole_runs=True),
    Contender(TORCH, _torch(bfloat16=False, one_flow=False), whole_runs=True),
    Contender(TORCH_ONE_FLOW, _torch(bfloat16=False, one_flow=True)),
    Contender("TensorFlow fp32", _tensorflow, whole_runs=True),
    Contender("torch bf16", _torch(bfloat16=True, one_flow=False), whole_runs=True),
    Contender("torch bf16 one flow", _torch(bfloat16=True, one_flow=True)))}
ONE_FLOW = ("direct bf16", "direct int8", TORCH_ONE_FLOW, "torch bf16 one flow")


def work(pipe: Connection, name: str, saved_model: Path, folder: Path, job: Job) -> None:
    """In a process of its own: run the job once for each message, answer with seconds a new frame, at last the peak."""
    run = (OURS | PEERS)[name].prepare(saved_model, folder, job)
    frames: Sequence[Frame] = job.pictures()
    while pipe.recv():
        began = time.perf_counter()
        count = run(list(frames), job.times)
        pipe.send((time.perf_counter() - began) / count)
    pipe.send(_peak())


def _peak() -> int:
    """Return this process's peak memory in bytes. Linux's ru_maxrss would be at least that of the parent process."""
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
