"""FILM as two OpenVINO models: an encoder for one frame, and a pair model from two encodings to the midpoint.

Reda et al., "FILM: Frame Interpolation for Large Motion", ECCV 2022. The split lets recursion encode each frame
once. A flow predictor's first convolution reads this frame's features beside the other frame's warped ones; it is
linear, so its first half belongs to the encoding too. Tensors are NCHW inside; frames and flows NHWC outside.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .configuration import FilmConfiguration, FilmTensors, fusion_name, predictor_name

Node: TypeAlias = Any  # ov.Node or ov.Output: OpenVINO's operations are untyped


def encoding_channels(configuration: FilmConfiguration) -> dict[str, int]:
    """Return the names of the encoder's outputs, in order, with their channels.

    image_i is the image pyramid's level i, features_i the feature pyramid's, and predictor_i what those features add
    to the first convolution of level i's flow predictor.
    """
    levels = range(configuration.pyramid_levels)
    return ({f"image_{level}": 3 for level in range(configuration.fusion_levels)}
            | {f"features_{level}": configuration.features(level) for level in levels}
            | {f"predictor_{level}": configuration.flow_filters[configuration.predictor(level)] for level in levels})


def build_encoder(tensors: FilmTensors, configuration: FilmConfiguration) -> ov.Model:
    """Return the encoder: frame (1,H,W,3) float32 in [0,1], sides multiples of `multiple` -> an encoding."""
    frame = ops.parameter([1, -1, -1, 3], np.float32, name="frame")
    frame.output(0).set_names({"frame"})
    layers = _Layers(tensors)
    images = [_transpose(frame, (0, 3, 1, 2))]
    for _ in range(configuration.pyramid_levels - 1):
        images.append(_halve(images[-1]))

    subtrees: list[list[Node]] = []
    for level, image in enumerate(images):
        subtree: list[Node] = []
        for stage in range(configuration.subtree_stages(level)):
            net = _halve(subtree[-1]) if stage else image
            for convolution in (2 * stage, 2 * stage + 1):
                net = layers.activated(net, f"feat_net/sub_extractor/cfeat_conv_{convolution}")
            subtree.append(net)
        subtrees.append(subtree)

    encoding: dict[str, Node] = {f"image_{level}": image for level, image in enumerate(images)}
    for level in range(configuration.pyramid_levels):
        features = _concatenate([subtrees[level - stage][stage]
                                 for stage in range(min(level + 1, len(configuration.feature_filters)))])
        encoding[f"features_{level}"] = features
        name = f"{predictor_name(configuration.predictor(level), configuration)}/conv_0"
        own = slice(0, configuration.features(level))
        encoding[f"predictor_{level}"] = layers.convolution(features, name, inputs=own)
    return _model({name: encoding[name] for name in encoding_channels(configuration)}, [frame], "film_encoder")


def build_pair_model(tensors: FilmTensors, configuration: FilmConfiguration) -> ov.Model:
    """Return the pair model: encodings of the first and the last frame -> the frame midway between them.

    Inputs are the encoder's outputs, "first_" and "last_" before each name. Outputs, all NHWC float32:
    midpoint (1,H,W,3), not clamped; warped_first and warped_last (1,H,W,3), both frames moved to the midpoint;
    forward_flow_i and backward_flow_i (1,h,w,2) for each fusion level i, in pixels (x, y) of that level, from the
    first frame to the last and back; and grid_k, every grid that is sampled by.

    The grids are outputs so that they stay exact: OpenVINO's CPU plugin computes what lies between the last
    convolution and an output in f32 even at bf16, whose 8 bits would move a pixel of a 640-pixel row by half a pixel.
    """
    first, last = ({name: _input(f"{end}_{name}", channels)
                    for name, channels in encoding_channels(configuration).items()} for end in ("first", "last"))
    layers = _Layers(tensors)
    forward_flows, backward_flows = _flow_pyramids(first, last, layers, configuration)

    aligned, warped = [], []
    for level in range(configuration.fusion_levels):
        # Frames are read backwards along half a flow: the first one with the flow that leaves the last.
        half_backward, half_forward = (ops.multiply(flows[level], _constant(0.5))
                                       for flows in (backward_flows, forward_flows))
        parts = []
        for encoding, half in ((first, half_backward), (last, half_forward)):
            grid = layers.grid(half, level)
            parts += [_sample(encoding[f"{kind}_{level}"], grid) for kind in ("image", "features")]
        aligned.append([*parts, half_backward, half_forward])
        warped.append((parts[0], parts[2]))

    net = _concatenate(aligned[-1])
    for level in reversed(range(configuration.fusion_levels - 1)):
        net = layers.doubled(net, fusion_name(3 * level))
        for convolution in (3 * level + 1, 3 * level + 2):
            joined = net if convolution % 3 == 2 else _concatenate([*aligned[level], net])
            net = layers.activated(joined, fusion_name(convolution))
    midpoint = layers.convolution(net, fusion_name(3 * (configuration.fusion_levels - 1)))

    outputs = {"midpoint": midpoint, "warped_first": warped[0][0], "warped_last": warped[0][1]}
    for level in range(configuration.fusion_levels):
        outputs[f"forward_flow_{level}"] = forward_flows[level]
        outputs[f"backward_flow_{level}"] = backward_flows[level]
    outputs = {name: _transpose(node, (0, 2, 3, 1)) for name, node in outputs.items()}
    outputs |= {f"grid_{index}": grid for index, grid in enumerate(layers.grids)}
    return _model(outputs, [*first.values(), *last.values()], "film_pair")


def _flow_pyramids(first: dict[str, Node], last: dict[str, Node], layers: "_Layers",
                   configuration: FilmConfiguration) -> tuple[list[Node], list[Node]]:
    """Return the forward and the backward flow pyramid, finest level first, (1,2,h,w) in pixels of the level."""
    pyramids = []
    for this, other in ((first, last), (last, first)):
        flows: list[Node] = []
        for level in reversed(range(configuration.pyramid_levels)):
            features = other[f"features_{level}"]
            if flows:
                upsampled = _double_flow(flows[-1])
                features = _sample(features, layers.grid(upsampled, level))
            index = configuration.predictor(level)
            name, width = predictor_name(index, configuration), configuration.features(level)
            net = layers.convolution(features, f"{name}/conv_0", inputs=slice(width, 2 * width), bias=False)
            net = layers.leaky_relu(ops.add(net, this[f"predictor_{level}"]))
            last_step = configuration.flow_convolutions[index] + 1
            for step in range(1, last_step):
                net = layers.activated(net, f"{name}/conv_{step}")
            residual = layers.convolution(net, f"{name}/conv_{last_step}")
            flows.append(ops.add(residual, upsampled) if flows else residual)
        pyramids.append(flows[::-1])
    return pyramids[0], pyramids[1]


class _Layers:
    """The layers that have weights, and the warp, whose grids are counted."""

    def __init__(self, tensors: FilmTensors) -> None:
        self._tensors = tensors
        self._slope = _constant(0.2)
        self.grids: list[Node] = []
        self._shared: dict[str, Node] = {}
        self._places: dict[int, tuple[Node, Node]] = {}

    def convolution(self, net: Node, name: str, inputs: slice = slice(None), bias: bool = True) -> Node:
        """Convolve by (a part of the input channels of) a named kernel, padded as TensorFlow's "same"."""
        kernel = self._tensors[f"{name}/kernel"][:, :, inputs]
        size = kernel.shape[0]
        before, after = [(size - 1) // 2] * 2, [size // 2] * 2
        net = ops.convolution(net, self._kernel(f"{name} {inputs}", kernel), [1, 1], before, after, [1, 1])
        return self._biased(net, name) if bias else net

    def activated(self, net: Node, name: str) -> Node:
        """Convolve and activate."""
        return self.leaky_relu(self.convolution(net, name))

    def leaky_relu(self, net: Node) -> Node:
        """Activate."""
        return ops.prelu(net, self._slope)

    def doubled(self, net: Node, name: str) -> Node:
        """Double the size by nearest neighbour and convolve by a named 2x2 kernel.

        Of the four pixels that the kernel meets, those that are copies of one share a product: so each of the four
        phases has a smaller kernel at the low resolution, and they take 9 products where the plain way takes 16.
        """
        kernel = self._tensors[f"{name}/kernel"]
        phases = []
        for down in (0, 1):
            rows = kernel if down else kernel.sum(axis=0, keepdims=True)
            for right in (0, 1):
                part = self._kernel(f"{name} {down}{right}", rows if right else rows.sum(axis=1, keepdims=True))
                phases.append(ops.convolution(net, part, [1, 1], [0, 0], [down, right], [1, 1]))
        return self._biased(ops.depth_to_space(ops.concat(phases, 1), "blocks_first", 2), name)

    def _biased(self, net: Node, name: str) -> Node:
        if name not in self._shared:
            self._shared[name] = _constant(self._tensors[f"{name}/bias"].reshape(1, -1, 1, 1))
        return ops.add(net, self._shared[name])

    def _kernel(self, name: str, kernel: NDArray[np.float32]) -> Node:
        """Return the constant of a kernel, from HWIO to OIHW, one however often it is used."""
        if name not in self._shared:
            self._shared[name] = _constant(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        return self._shared[name]

    def grid(self, flow: Node, level: int) -> Node:
        """Return GridSample's grid (1,h,w,2) that reads each pixel of a level at its place plus the flow (1,2,h,w)."""
        if level not in self._places:
            self._places[level] = _places(flow)
        centres, pixel = self._places[level]
        grid = ops.add(ops.multiply(_transpose(flow, (0, 2, 3, 1)), pixel), centres)
        self.grids.append(grid)
        return grid


def _places(flow: Node) -> tuple[Node, Node]:
    """Return each pixel's centre (h,w,2) and a pixel's size (2), x and y, where a flow (1,2,h,w) spans -1 to 1."""
    height, width = (ops.gather(ops.shape_of(flow), np.array([axis], np.int64), np.int64(0)) for axis in (2, 3))
    shape = ops.concat([height, width, np.array([1], np.int64)], 0)
    x, y = (ops.range(np.int64(0), ops.squeeze(side, np.int64(0)), np.int64(1), "f32") for side in (width, height))
    x, y = ops.unsqueeze(x, np.array([0, 2], np.int64)), ops.unsqueeze(y, np.array([1, 2], np.int64))
    places = ops.concat([ops.broadcast(axis, shape) for axis in (x, y)], 2)
    pixel = ops.divide(_constant(2.0), ops.convert(ops.concat([width, height], 0), "f32"))
    return ops.subtract(ops.multiply(ops.add(places, _constant(0.5)), pixel), _constant(1.0)), pixel


def _transpose(net: Node, order: Sequence[int]) -> Node:
    return ops.transpose(net, np.array(order, np.int64))


def _sample(image: Node, grid: Node) -> Node:
    """Warp backwards, bilinear; what lies outside repeats the border."""
    return ops.grid_sample(image, grid, {"align_corners": False, "mode": "bilinear", "padding_mode": "border"})


def _halve(image: Node) -> Node:
    return ops.avg_pool(image, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _double_flow(flow: Node) -> Node:
    """Return a flow at twice the size, in the finer level's pixels."""
    finer = ops.interpolate(flow, np.array([2.0, 2.0], np.float32), "linear_onnx", "scales", [0, 0], [0, 0],
                            "half_pixel", axes=np.array([2, 3], np.int64))
    return ops.multiply(finer, _constant(2.0))


def _concatenate(nodes: Sequence[Node]) -> Node:
    return ops.concat(list(nodes), 1) if len(nodes) > 1 else nodes[0]


def _constant(value: object) -> Node:
    return ops.constant(np.asarray(value, np.float32))


def _input(name: str, channels: int) -> Node:
    parameter = ops.parameter([1, channels, -1, -1], np.float32, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _model(outputs: dict[str, Node], inputs: Sequence[Node], name: str) -> ov.Model:
    results = []
    for output_name, node in outputs.items():
        result = ops.result(node, name=output_name)
        result.output(0).set_names({output_name})
        results.append(result)
    return ov.Model(results, list(inputs), name)
