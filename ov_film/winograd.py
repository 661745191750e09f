"""Wide 3x3 convolutions by Winograd's minimal filtering along the height, which takes 18 products where they take 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: F(4,3), in one dimension. Six sums are
made of six rows of pixels, each is convolved by a 1x3 kernel, and of the products four rows of the result are summed.
In two dimensions there would be fewer products still, but four times as much data between; so it is half as much again.
The points 0, 2/3, -2/3, 3/2, -3/2 and infinity lose less in bf16 than the usual 0, 1, -1, 2, -2 and infinity (Barabasz
et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", ACM TOMS 2020).
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .configuration import FilmConfiguration
from .layers import Node

_LEAST_PARAMETERS = 8_000_000  # smaller models have narrow layers
# Below, the sums take the time that products save, or compiling takes more than a short clip gives back.
_LEAST_CHANNELS, _LEAST_PIXELS = 64, 1024
_MADE, _READ = 4, 6  # rows of the result that are made at once, and of the net that they are made of
# All strips of a layer use the same memory. Smaller ones take longer to compile.
_STRIP_VALUES = 64 << 20  # of sums
_AT_A_TIME = 1 << 14  # of a kernel's inputs by outputs
_NEAR, _FAR = 2 / 3, 3 / 2  # the points; as one is the other's inverse, no more factors are needed
_KERNEL_TRANSFORM = np.array(
    [[1, 0, 0]] + [[point ** tap / (2 * point ** 2 * (point ** 2 - other ** 2)) for tap in range(3)]
                   for point, other in ((_NEAR, _FAR), (-_NEAR, _FAR), (_FAR, _NEAR), (-_FAR, _NEAR))] + [[0, 0, 1]],
    np.float32)


def winograd_pays(configuration: FilmConfiguration, device: str) -> bool:
    """Return whether a model that is not quantized should use this. GPUs and NPUs have ways of their own."""
    return device == "CPU" and configuration.parameters() >= _LEAST_PARAMETERS


def use_winograd(model: ov.Model, element_type: ov.Type) -> bool:
    """Replace the wide 3x3 convolutions of a model, whose shapes must be fixed; return whether there was one.

    This is for OpenVINO's CPU plugin. Joins and poolings of what is made so are replaced by ones that keep its layout.

    Args:
        model: changed in place.
        element_type: what the new kernels, which are twice as large, are held in: that which layers compute in.
    """
    layers = _Layers(element_type)
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Convolution" and (kernel := _wide_kernel(node)) is not None:
            net = layers.convolved(layers.rows(node.input_value(0)), kernel, node.input_value(1).get_node())
            replaced, net = _with_elementwise(layers, node, net)
            replaced.output(0).replace(layers.from_rows(net).output(0))
        elif kind in ("Concat", "AvgPool") and any(_made_of(value) for value in node.input_values()):
            if kind == "Concat":
                net = layers.from_rows(ops.concat([layers.rows(value) for value in node.input_values()], 3))
            else:
                net = _halved(layers.from_rows(layers.rows(node.input_value(0))))
            node.output(0).replace(net.output(0))
    return layers.any


def _wide_kernel(convolution: Node) -> NDArray[np.float32] | None:
    """Return the kernel (K,C,3,3) of a convolution that is worth it, None of others."""
    source = convolution.input_value(1)
    outputs, inputs, *size = _shape(source)
    height, width = list(convolution.get_output_shape(0))[2:]
    attributes = convolution.get_attributes()
    if (size != [3, 3] or attributes["strides"] != [1, 1] or attributes["pads_begin"] != [1, 1]
            or attributes["pads_end"] != [1, 1] or attributes["dilations"] != [1, 1]
            or min(outputs, inputs) < _LEAST_CHANNELS or height * width < _LEAST_PIXELS):
        return None
    constant = source.get_node()
    if constant.get_type_name() == "Convert":  # from 16 bits
        constant = constant.input_value(0).get_node()
    return np.asarray(constant.data, np.float32) if constant.get_type_name() == "Constant" else None


def _with_elementwise(layers: "_Layers", convolution: Node, net: Node) -> tuple[Node, Node]:
    """Go on with rows through the sums and activations that follow a convolution and have no other reader between.

    Return the last of the operations and its rows. Between them, a transpose would cost time.
    """
    last = convolution
    while len(readers := last.output(0).get_target_inputs()) == 1:
        reader = readers.pop()
        node = reader.get_node()
        if node.get_type_name() not in ("Add", "PRelu"):
            break
        other = node.input_value(1 - reader.get_index())
        if len(other.get_partial_shape()) == 4:
            other = layers.rows(other)
        net = ops.add(net, other) if node.get_type_name() == "Add" else ops.prelu(net, other)
        last = node
    return last, net


def _halved(net: Node) -> Node:
    """Average (1,C,H,W) over 2x2 pixels, by an operation that takes the layout that convolutions use."""
    quarters = np.full((_shape(net)[1], 1, 1, 2, 2), 0.25, np.float32)
    return ops.group_convolution(net, quarters, [2, 2], [0, 0], [0, 0], [1, 1])


class _Layers:
    """The convolutions of one model. Constants are shared, because each takes time to compile."""

    def __init__(self, element_type: ov.Type) -> None:
        self._element_type = element_type
        self._kernels: dict[str, list[Node]] = {}  # transformed, by the constant's name
        self._constants: dict[tuple[int, ...] | float, Node] = {}

    @property
    def any(self) -> bool:
        """Whether there was one."""
        return bool(self._kernels)

    def convolved(self, net: Node, kernel: NDArray[np.float32], constant: Node) -> Node:
        """Convolve rows by a kernel (K,C,3,3), which the model has as a constant."""
        name = constant.get_friendly_name()
        if name not in self._kernels:
            self._kernels[name] = _transformed(kernel, self._element_type)
        height, _, width, channels = _shape(net)
        count = -(-height // _MADE)
        size = -(-count // -(-_READ * count * width * channels // _STRIP_VALUES))
        strips = [self._strip(net, start, min(size, count - start), self._kernels[name])
                  for start in range(0, count, size)]
        net = ops.concat(strips, 0) if len(strips) > 1 else strips[0]
        return self._slice(net, 0, height, 1) if height % _MADE else net

    def rows(self, net: Node) -> Node:
        """Return (1,C,H,W) as (H,1,W,C): the shape keeps OpenVINO from moving the transpose to where it costs time.

        What was made of rows goes back to them, so that each reader has a transpose of its own, which costs nothing.
        """
        _, channels, height, width = _shape(net)
        return _made_of(net) or self._reshaped(ops.transpose(net, self._integers(0, 2, 3, 1)),
                                               height, 1, width, channels)

    def from_rows(self, net: Node) -> Node:
        """Return (H,1,W,C) as (1,C,H,W)."""
        height, _, width, channels = _shape(net)
        return ops.transpose(self._reshaped(net, 1, height, width, channels), self._integers(0, 3, 1, 2))

    def _strip(self, net: Node, start: int, count: int, kernels: Sequence[Node]) -> Node:
        """Return 4*count rows of the result from row 4*start."""
        rows = [self._every_fourth(net, _MADE * start - 1 + row, count) for row in range(_READ)]
        # In one tensor, so that all sums come before the products: OpenVINO then makes those that share some in one.
        sums = ops.split(ops.concat(self._row_sums(rows), 0), np.int64(0), _READ).outputs()
        products = [ops.convolution(self.from_rows(part), kernel, [1, 1], [0, 1], [0, 1], [1, 1])
                    for part, kernel in zip(sums, kernels, strict=True)]
        net = ops.transpose(ops.concat(self._product_sums(products), 3), self._integers(0, 2, 3, 1))
        _, _, width, outputs = _shape(net)
        return self._reshaped(net, _MADE * count, 1, width // _MADE, outputs)

    def _every_fourth(self, net: Node, first: int, count: int) -> Node:
        """Return so many rows, four apart; those outside the net are 0."""
        last = first + _MADE * (count - 1)
        above, below = int(first < 0), max(0, -(-(last + 1 - _shape(net)[0]) // _MADE))
        net = self._slice(net, first + _MADE * above, last - _MADE * below + 1, _MADE)
        if above or below:
            net = ops.pad(net, self._integers(above, 0, 0, 0), self._integers(below, 0, 0, 0), "constant",
                          np.float32(0))
        return net

    def _row_sums(self, rows: Sequence[Node]) -> list[Node]:
        """Return the six sums of six rows."""
        sums = []
        for point, other in ((_NEAR, _FAR), (_FAR, _NEAR)):
            even = ops.subtract(rows[4], self._scaled(rows[2], other ** 2))
            odd = ops.subtract(self._scaled(rows[3], point), self._scaled(rows[1], other))
            sums += [ops.add(even, odd), ops.subtract(even, odd)]
        first, last = (ops.subtract(ops.add(rows[row], rows[row + 4]),
                                    self._scaled(rows[row + 2], _NEAR ** 2 + _FAR ** 2)) for row in (0, 1))
        return [first, *sums, last]

    def _product_sums(self, products: Sequence[Node]) -> list[Node]:
        """Return the four rows that six products come to."""
        first, near, minus_near, far, minus_far, last = products
        near_even, near_odd = ops.add(near, minus_near), ops.subtract(near, minus_near)
        far_even, far_odd = ops.add(far, minus_far), ops.subtract(far, minus_far)

        def mixed(near_part: Node, far_part: Node, power: int) -> Node:
            return ops.add(self._scaled(near_part, _NEAR ** power), self._scaled(far_part, _FAR ** power))

        return [ops.add(ops.add(first, near_even), far_even), mixed(near_odd, far_odd, 1),
                mixed(near_even, far_even, 2), ops.add(mixed(near_odd, far_odd, 3), last)]

    def _slice(self, net: Node, start: int, stop: int, step: int) -> Node:
        return ops.slice(net, *(self._integers(value) for value in (start, stop, step, 0)))

    def _reshaped(self, net: Node, *shape: int) -> Node:
        return ops.reshape(net, self._integers(*shape), False)

    def _integers(self, *values: int) -> Node:
        if values not in self._constants:
            self._constants[values] = ops.constant(np.array(values, np.int64))
        return self._constants[values]

    def _scaled(self, net: Node, factor: float) -> Node:
        if factor not in self._constants:
            self._constants[factor] = ops.constant(np.float32(factor))
        return ops.multiply(net, self._constants[factor])


def _transformed(kernel: NDArray[np.float32], element_type: ov.Type) -> list[Node]:
    """Return the six kernels (K,C,1,3) of a kernel (K,C,3,3), held in a type and read in f32."""
    outputs, inputs, *_ = kernel.shape
    kept = [ov.Tensor(element_type, [outputs, inputs, 1, 3]) for _ in range(_READ)]
    # By columns, as products of 9 values by 9x3 are as fast as memory; so many at a time as stay in the cache.
    taps = kernel.reshape(-1, 9)
    transforms = [np.kron(row[:, np.newaxis], np.eye(3, dtype=np.float32)) for row in _KERNEL_TRANSFORM]
    for start in range(0, len(taps), _AT_A_TIME):
        part = taps[start:start + _AT_A_TIME]
        for transform, tensor in zip(transforms, kept, strict=True):
            values = tensor.data.reshape(-1, 3)[start:start + _AT_A_TIME]
            if element_type == ov.Type.bf16:
                values.view(np.uint16)[...] = _upper_halves(part @ transform)
            else:
                values[...] = part @ transform
    constants: list[Node] = [ov.op.Constant(tensor, shared_memory=True) for tensor in kept]
    if element_type == ov.Type.f32:
        return constants
    constants = [ops.convert(constant, "f32") for constant in constants]
    for constant in constants:
        constant.get_rt_info()["decompression_0"] = ""  # OpenVINO's own mark, without which it would hold them in f32
    return constants


def _upper_halves(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return values as bf16, rounded."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def _made_of(net: Node) -> Node | None:
    """Return the rows that `from_rows` made (1,C,H,W) of; None where it did not."""
    node = net if isinstance(net, ov.Node) else net.get_node()
    for kind in ("Transpose", "Reshape"):
        if node.get_type_name() != kind:
            return None
        value = node.input_value(0)
        node = value.get_node()
    _, channels, height, width = _shape(net)
    return value if _shape(value) == [height, 1, width, channels] else None


def _shape(net: Node) -> list[int]:
    return list((net.output(0) if isinstance(net, ov.Node) else net).get_shape())
