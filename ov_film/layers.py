"""The layers that FILM's models are made of: convolutions with their weights, and the warp."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .configuration import FilmTensors

Node: TypeAlias = Any  # ov.Node or ov.Output: OpenVINO's operations are untyped
NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
END = np.iinfo(np.int64).max  # of any axis


class Layers:
    """The layers that have weights, and the warp.

    Attributes:
        exact: outputs that a model must have so that its flows stay exact. OpenVINO's CPU plugin computes what lies
            between the last convolution and an output in f32 even at bf16, whose 8 bits would move a pixel of a
            640-pixel row by half a pixel.
    """

    def __init__(self, tensors: FilmTensors) -> None:
        self._tensors = tensors
        self._slope = _constant(0.2)
        self._shared: dict[str, Node] = {}
        self._pixels: dict[int, tuple[Node, ...]] = {}
        self.exact: dict[str, Node] = {}

    def convolution(self, net: Node, name: str, inputs: Any = slice(None), bias: bool = True,
                    unused: int = 0, stride: int = 1) -> Node:
        """Convolve by (a part of the input channels of) a named kernel, padded by half its size all around.

        That is TensorFlow's "same" where the stride is 1. The net's first channels can be left unused.
        """
        kernel = np.pad(self._tensors[f"{name}/kernel"][:, :, inputs], ((0, 0), (0, 0), (unused, 0), (0, 0)))
        size = kernel.shape[0]
        before, after = [(size - 1) // 2] * 2, [size // 2] * 2
        shared = self._kernel(f"{name} {inputs} {unused}", kernel)
        net = ops.convolution(net, shared, [stride] * 2, before, after, [1, 1])
        return self._biased(net, name) if bias else net

    def activated(self, net: Node, name: str, stride: int = 1) -> Node:
        """Convolve and activate."""
        return self.leaky_relu(self.convolution(net, name, stride=stride))

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

    def kept_exact(self, values: Node) -> Node:
        """Return values that, like all they are made of, must not be rounded; see `exact`."""
        self.exact[f"exact_{len(self.exact)}"] = values
        return values

    def sample(self, net: Node, flow: Node, level: int) -> Node:
        """Warp (1,h,w,c) of a level backwards by a flow (1,h,w,2), bilinear.

        Four Gathers of whole pixels take two thirds of GridSample's time on a CPU, which works channel by channel in
        f32, while convolutions keep a pixel's channels together.
        """
        shape, *indices, right, down = self._places(flow, level)
        channels = net.output(0).get_partial_shape()[3].get_length()
        pixels = ops.reshape(net, np.array([-1, channels], np.int64), False)
        above, above_right, below, below_right = (ops.gather(pixels, index, np.int64(0)) for index in indices)
        upper, lower = _mixed(above, above_right, right), _mixed(below, below_right, right)
        shape = ops.concat([shape, np.array([channels], np.int64)], 0)
        return ops.reshape(_mixed(upper, lower, down), shape, False)

    def sample_few(self, image: Node, flow: Node, level: int) -> Node:
        """Warp (1,h,w,c) likewise to (1,c,h,w), by GridSample, which takes less time where channels are few.

        Its places are from -1 to 1 over a frame, in f32, so that they are off by some thousandths of a pixel at most.
        """
        _, x, y, last_x, last_y, _ = self._pixels_of(flow, level)
        nothing = ops.multiply(ops.add(x, y), np.int32(0))
        middles, sides = (ops.convert(_stacked(pair), "f32") for pair in (
            [ops.add(nothing, pixel) for pixel in (x, y)], [ops.add(last, np.int32(1)) for last in (last_x, last_y)]))
        places = ops.divide(ops.add(flow, ops.add(middles, np.float32(0.5))), sides)
        places = self.kept_exact(ops.subtract(ops.multiply(places, np.float32(2)), np.float32(1)))
        return ops.grid_sample(ops.transpose(image, np.array([0, 3, 1, 2], np.int64)), places,
                               {"align_corners": False, "mode": "bilinear", "padding_mode": "border"})

    def _places(self, flow: Node, level: int) -> tuple[Node, ...]:
        """Return where each pixel of a level reads by a flow (1,h,w,2).

        These are the shape (1,h,w), the row-major indices of the four pixels around the place (upper left and right,
        lower left and right; outside the frame, the border's), and how far it lies to the right and down between them.
        Whole pixels are integers, so that they are exact in every precision, and flows may be of any size.
        """
        shape, pixel_x, pixel_y, last_x, last_y, width = self._pixels_of(flow, level)
        whole = ops.floor(flow)
        fraction = self.kept_exact(ops.subtract(flow, whole))
        whole = ops.convert(whole, "i32")

        def near(axis: int, pixel: Node, last: Node) -> list[Node]:
            before = ops.add(_component(whole, axis), pixel)
            return [ops.minimum(ops.maximum(place, np.int32(0)), last)
                    for place in (before, ops.add(before, np.int32(1)))]

        columns, rows = near(0, pixel_x, last_x), near(1, pixel_y, last_y)
        starts = [ops.multiply(row, width) for row in rows]
        indices = [ops.reshape(ops.add(start, column), np.array([-1], np.int64), False)
                   for start in starts for column in columns]
        right, down = (ops.reshape(_component(fraction, axis), np.array([-1, 1], np.int64), False) for axis in (0, 1))
        return shape, *indices, right, down

    def _pixels_of(self, flow: Node, level: int) -> tuple[Node, ...]:
        if level not in self._pixels:
            self._pixels[level] = _pixels(flow)
        return self._pixels[level]

    def _biased(self, net: Node, name: str) -> Node:
        """Add a bias; OpenVINO's CPU plugin makes it part of a convolution only where no other reads the constant."""
        return ops.add(net, _constant(self._tensors[f"{name}/bias"].reshape(1, -1, 1, 1)))

    def _kernel(self, name: str, kernel: NDArray[np.float32]) -> Node:
        """Return the constant of a kernel, from HWIO to OIHW, one however often it is used."""
        if name not in self._shared:
            self._shared[name] = _constant(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        return self._shared[name]


def part(net: Node, axis: int, start: int, end: int, step: int = 1) -> Node:
    """Return what lies from a start to before an end along an axis."""
    return ops.slice(net, *(np.array([number], np.int64) for number in (start, end, step, axis)))


def transposed(net: Node, order: Sequence[int]) -> Node:
    """Return a net with its axes in another order."""
    return ops.transpose(net, np.array(order, np.int64))


def doubled_flow(net: Node) -> Node:
    """Return a flow (1,2,h,w) at twice the size, bilinear, in the finer level's pixels.

    OpenVINO's CPU plugin takes four times as long for an Interpolate, and rounds it at bf16.
    """
    around = np.array([0, 0, 1, 1], np.int64)
    padded = ops.pad(net, around, around, "edge")
    phases = [phase for row in _between(padded, 2, 2) for phase in _between(row, 3, 1)]
    return ops.depth_to_space(ops.concat(phases, 1), "blocks_first", 2)


def model_of(outputs: Mapping[str, Node], inputs: Iterable[Node], name: str) -> ov.Model:
    """Return a model of a name whose outputs have theirs."""
    results = []
    for output_name, node in outputs.items():
        result = ops.result(node, name=output_name)
        result.output(0).set_names({output_name})
        results.append(result)
    return ov.Model(results, list(inputs), name)


def parameter(name: str, channels: int, height: int = -1, width: int = -1) -> Node:
    """Return a model's input (1,height,width,channels) of a name; -1 leaves a side open."""
    node = ops.parameter([1, height, width, channels], np.float32, name=name)
    node.output(0).set_names({name})
    return node


def _pixels(flow: Node) -> tuple[Node, ...]:
    """Return a flow's (1,h,w), each pixel's x (w) and y (h,1), the last x and y, and the width; integers all."""
    shape = ops.shape_of(flow)
    height, width = (ops.convert(ops.squeeze(ops.gather(shape, np.array([axis], np.int64), np.int64(0)), np.int64(0)),
                                 "i32") for axis in (1, 2))
    x, y = (ops.range(np.int32(0), side, np.int32(1), "i32") for side in (width, height))
    last_x, last_y = (ops.subtract(side, np.int32(1)) for side in (width, height))
    whole = ops.gather(shape, np.array([0, 1, 2], np.int64), np.int64(0))
    return whole, x, ops.unsqueeze(y, np.array([1], np.int64)), last_x, last_y, width


def _between(padded: Node, axis: int, scale: float) -> list[Node]:
    """Return, times scale, what lies a quarter of a pixel before and after each one along an axis."""
    near = ops.multiply(part(padded, axis, 1, -1), np.float32(0.75 * scale))
    return [ops.add(near, ops.multiply(part(padded, axis, start, end), np.float32(0.25 * scale)))
            for start, end in ((0, -2), (2, END))]


def _component(values: Node, axis: int) -> Node:
    """Return the x (0) or the y (1) of a field (1,h,w,2)."""
    return ops.gather(values, np.int64(axis), np.int64(3))


def _stacked(values: Sequence[Node]) -> Node:
    """Return values, joined along a new last axis."""
    return ops.concat([ops.unsqueeze(value, np.int64(-1)) for value in values], -1)


def _mixed(start: Node, end: Node, share: Node) -> Node:
    return ops.add(start, ops.multiply(ops.subtract(end, start), share))


def _constant(value: object) -> Node:
    return ops.constant(np.asarray(value, np.float32))
