"""Small graphs of OpenVINO's operations, run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops


def computed(build: Callable[..., Any], *inputs: np.ndarray, precision: str = "f32") -> list[np.ndarray]:
    """What nodes give for some inputs."""
    parameters = [ops.parameter(value.shape, np.float32) for value in inputs]
    nodes = build(*parameters)
    model = ov.Model(nodes if isinstance(nodes, list) else [nodes], parameters, "test")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    found = compiled(list(inputs))
    return [found[output] for output in compiled.outputs]
