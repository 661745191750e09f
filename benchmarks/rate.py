"""How fast this processor's convolutions can be, and how many multiply-adds a job has."""

import statistics
import time
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from benchmarks.contenders import Job
from ov_film.compiled import input_shapes
from ov_film.configuration import MODELS

_CHANNELS, _SIDE, _LAYERS = 256, 96, 6


def convolution_rate(kind: str) -> float:
    """Return the multiply-adds a second of 3x3 convolutions of 256 channels, one behind the other, in a precision."""
    random = np.random.default_rng(0)
    net = parameter = ops.parameter([1, _CHANNELS, _SIDE, _SIDE], np.float32)
    for _ in range(_LAYERS):
        kernel = random.normal(0, 0.02, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        weights = ops.constant(kernel)
        if kind == "int8":
            net = _fake(net, 0, 4, 256)
            weights = _fake(weights, -0.1, 0.1, 255)
        net = ops.relu(ops.convolution(net, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    hint = "bf16" if kind == "bf16" else "f32"
    compiled = ov.Core().compile_model(ov.Model([net], [parameter]), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    batch = random.random((1, _CHANNELS, _SIDE, _SIDE)).astype(np.float32)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        compiled(batch)
        seconds.append(time.perf_counter() - began)
    return _LAYERS * 9 * _CHANNELS * _CHANNELS * _SIDE * _SIDE / statistics.median(seconds[2:])


def _fake(net: ov.Node, low: float, high: float, levels: int) -> ov.Node:
    ends = [np.float32(low), np.float32(high)]
    return ops.fake_quantize(net, *ends, *ends, levels)


def multiply_adds(folder: Path, job: Job) -> dict[str, float]:
    """Return the multiply-adds of a job's convolutions, for each method, where frames are worked on whole."""
    core, counts = ov.Core(), {}
    for name in MODELS:
        model = core.read_model(folder / f"{name}.xml")
        model.reshape(input_shapes(model, (job.height, job.width)))
        counts[name] = sum(float(np.prod(list(node.input_value(1).shape))) * np.prod(list(node.output(0).shape)[2:])
                           for node in model.get_ops() if node.get_type_name() == "Convolution")
    gaps, new = job.frames - 1, (1 << job.times) - 1
    encoder = counts["fine_encoder"] + counts["coarse_encoder"]
    flow = counts["coarse_flow"] + counts["fine_flow"]
    encoded = job.frames + gaps * ((1 << (job.times - 1)) - 1)
    return {"recursive": encoded * encoder + gaps * new * (flow + counts["fusion"]),
            "direct": job.frames * encoder + gaps * (flow + new * counts["fusion"])}
