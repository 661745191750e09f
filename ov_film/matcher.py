"""The matching (see matching.py) as OpenVINO models."""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .configuration import COARSE_FLOW, FINE_FLOW, FilmTensors
from .layers import END, NCHW, NHWC, Layers, Node, doubled_flow, model_of, parameter, part, transposed
from .matching import (
    COARSE_DESCRIPTORS,
    COMPARED,
    FINE_CONTEXT,
    FINE_DESCRIPTORS,
    FLOW_SCALE,
    FLOWS,
    HANDED,
    LED_LESS,
    MATCHED_0,
    MATCHED_CHANNELS,
    PROPAGATION,
    REACH_X,
    REACH_Y,
    REFINING_REACH,
    SHARPNESS,
    UNSEEN,
)


def described(layers: Layers, small: Node) -> dict[str, Node]:
    """Return matched_1 and matched_2 of a small frame (1,h,w,3)."""
    middle, factor = MATCHED_0
    net = ops.multiply(ops.subtract(transposed(small, NCHW), np.float32(middle)), np.float32(factor))
    for step in range(3):
        net = layers.activated(net, f"match/encode_{step}", stride=1 if step else 2)
    fine = _described(layers, net, "match/describe_1", FINE_DESCRIPTORS)
    net = layers.activated(net, "match/deepen_0", stride=2)
    net = _blocks(layers, net, "match/deepen", 4)
    coarse = _described(layers, net, "match/describe_2", COARSE_DESCRIPTORS)
    return {"matched_1": transposed(fine, NHWC), "matched_2": transposed(coarse, NHWC)}


def build_coarse_flow(tensors: FilmTensors) -> ov.Model:
    """Match matched_2 of both frames -> matched_flow_2 (1,h,w,2), forward, and what is handed on beside it."""
    layers = Layers(tensors)
    ends = [parameter(f"{end}_matched_2", MATCHED_CHANNELS["matched_2"]) for end in ("first", "last")]
    products, seen = _products(*(part(end, 3, 0, COARSE_DESCRIPTORS) for end in ends))
    around = _mean(_mean(products))
    alike = ops.add(*(ops.multiply(values, factor)
                      for values, factor in zip((products, around), tensors[f"{SHARPNESS}/bias"], strict=True)))
    context = [transposed(part(end, 3, COARSE_DESCRIPTORS, END), NCHW) for end in ends]
    net = ops.concat([layers.activated(ops.concat([products, around], 1), "match/gather"), *context], 1)
    net = _blocks(layers, layers.activated(net, "match/weigh_0"), "match/weigh", 8)
    logits = ops.select(seen, ops.add(layers.convolution(net, "match/logits"), alike), np.float32(UNSEEN))
    flow = transposed(_led(layers, net, logits, tensors[f"{PROPAGATION}/bias"]), NHWC)
    handed = transposed(layers.convolution(net, "match/hand"), NHWC)
    return model_of({"matched_flow_2": flow, "matched_context_2": handed}, ends, COARSE_FLOW)


def build_fine_flow(tensors: FilmTensors) -> ov.Model:
    """Refine it by matched_1 of both frames -> matched_flow_1 (1,h,w,4), forward and backward."""
    layers = Layers(tensors)
    ends = [parameter(f"{end}_matched_1", MATCHED_CHANNELS["matched_1"]) for end in ("first", "last")]
    coarse, handed = parameter("matched_flow_2", 2), parameter("matched_context_2", HANDED)
    net = transposed(handed, NCHW)
    handed_on = ops.depth_to_space(ops.concat([net] * 4, 1), "blocks_first", 2)
    flow = doubled_flow(transposed(coarse, NCHW))
    flows = ops.concat([flow, ops.negative(flow)], 1)
    flows = ops.add(flows, _residual(layers, ends, flows, handed_on))
    flows = transposed(flows, NHWC)
    return model_of({"matched_flow_1": flows} | layers.exact, [*ends, coarse, handed], FINE_FLOW)


def _residual(layers: Layers, ends: Sequence[Node], flows: Node, handed: Node) -> Node:
    """Return what flows (1,4,h,w) lack, by what they bring to the midpoint of both frames."""
    halves = [transposed(ops.multiply(part(flows, 1, start, start + 2), np.float32(0.5)), NHWC) for start in (2, 0)]
    brought = [transposed(layers.sample(end, half, 1), NCHW) for end, half in zip(ends, halves, strict=True)]
    alike = compared(*(part(end, 1, 0, FINE_DESCRIPTORS) for end in brought))
    context = [part(end, 1, FINE_DESCRIPTORS, END) for end in brought]
    # In 8 bits, flows of many pixels would leave little to what is beside them: so they are told apart.
    start = COMPARED + 2 * FINE_CONTEXT
    scaled = ops.multiply(flows, np.float32(FLOW_SCALE))
    by_flow = layers.convolution(scaled, "match/refine_0", inputs=slice(start, start + 4), bias=False)
    inputs = np.delete(np.arange(start + 4 + HANDED), np.arange(start, start + 4))
    rest = layers.convolution(ops.concat([alike, *context, handed], 1), "match/refine_0", inputs=inputs)
    net = _blocks(layers, layers.leaky_relu(ops.add(by_flow, rest)), "match/refine", 8)
    return layers.convolution(net, "match/residual")


def compared(first: Node, last: Node) -> Node:
    """Return how alike two frames' descriptors (1,c,h,w) are, opposite ways from each pixel: (1,25,h,w).

    One for each flow of up to REFINING_REACH whole pixels, row by row, of which the last frame takes the larger half; 0
    where that leads out of the frame.
    """
    margin = (REFINING_REACH + 1) // 2
    around = np.array([0, 0, margin, margin], np.int64)
    padded = [ops.pad(field, around, around, "constant", np.float32(0)) for field in (first, last)]

    def moved(end: int, *place: int) -> Node:
        starts = np.array([margin + distance for distance in place], np.int64)
        ends = np.array([distance - margin or END for distance in place], np.int64)
        return ops.slice(padded[end], starts, ends, np.array([1, 1], np.int64), np.array([2, 3], np.int64))

    reach = range(-REFINING_REACH, REFINING_REACH + 1)
    products = [ops.multiply(moved(0, -(y // 2), -(x // 2)), moved(1, y - y // 2, x - x // 2))
                for y in reach for x in reach]
    return ops.concat([ops.reduce_sum(product, np.array([1], np.int64), True) for product in products], 1)


def _described(layers: Layers, net: Node, name: str, descriptors: int) -> Node:
    """Return descriptors of length 1, and context behind them."""
    net = layers.convolution(net, name)
    one = ops.normalize_l2(part(net, 1, 0, descriptors), np.array([1], np.int64), 1e-12, "max")
    return ops.concat([one, part(net, 1, descriptors, END)], 1)


def _blocks(layers: Layers, net: Node, name: str, convolutions: int) -> Node:
    for step in range(1, convolutions, 2):
        inner = layers.activated(net, f"{name}_{step}")
        net = layers.leaky_relu(ops.add(net, layers.convolution(inner, f"{name}_{step + 1}")))
    return net


def _products(first: Node, last: Node) -> tuple[Node, Node]:
    """Return the scalar products of descriptors (1,h,w,c) that each flow pairs at each of the midpoint's pixels.

    Of a flow the last frame takes the larger half. Returns (1,flows,h,w), 0 where a flow leads out of a frame, and
    where none does.
    """
    channels = first.output(0).get_partial_shape()[3].get_length()
    rows = [ops.reshape(end, np.array([-1, channels], np.int64), False) for end in (first, last)]
    products = ops.reshape(ops.matmul(*rows, False, True), np.array([-1], np.int64), False)
    height, width = _sides(first, (1, 2))
    y, x = np.mgrid[-REACH_Y:REACH_Y + 1, -REACH_X:REACH_X + 1].reshape(2, FLOWS, 1, 1).astype(np.int32)
    indices, seen = [], []
    for down, right in ((-(y // 2), -(x // 2)), (y - y // 2, x - x // 2)):
        row, column = (ops.range(np.int32(0), side, np.int32(1), "i32") for side in (height, width))
        row = ops.add(ops.unsqueeze(row, np.array([0, 2], np.int64)), down)
        column = ops.add(ops.unsqueeze(column, np.array([0, 1], np.int64)), right)
        for place, side in ((row, height), (column, width)):
            seen += [ops.greater_equal(place, np.int32(0)), ops.less(place, side)]
        indices.append(ops.add(ops.multiply(row, width), column))
    inside = seen[0]
    for condition in seen[1:]:
        inside = ops.logical_and(inside, condition)
    index = ops.add(ops.multiply(indices[0], ops.multiply(height, width)), indices[1])
    found = ops.gather(products, ops.select(inside, index, np.int32(0)), np.int64(0))
    batch = np.array([0], np.int64)
    inside = ops.unsqueeze(inside, batch)
    return ops.select(inside, ops.unsqueeze(found, batch), np.float32(0)), inside


def _mean(net: Node) -> Node:
    """Return the means of 3x3, with zeros beyond the border."""
    return ops.avg_pool(net, [1, 1], [1, 1], [1, 1], [3, 3], exclude_pad=False)


def _best(logits: Node) -> Node:
    """Return the flow (1,2,h,w) of the highest logit (1,flows,h,w), as a mean with those that lie around it."""
    wide = 2 * REACH_X + 1
    best = ops.convert(ops.topk(logits, np.int64(1), 1, "max", "none").output(1), "i32")
    row = ops.divide(best, np.int32(wide))
    column = ops.subtract(best, ops.multiply(row, np.int32(wide)))
    down, right = np.mgrid[-1:2, -1:2].reshape(2, 1, 9, 1, 1).astype(np.int32)
    rows, columns = ops.add(row, down), ops.add(column, right)
    inside = ops.logical_and(_within(rows, 2 * REACH_Y), _within(columns, 2 * REACH_X))
    index = ops.add(ops.multiply(rows, np.int32(wide)), columns)
    near = ops.gather_elements(logits, ops.select(inside, index, best), 1)
    shares = ops.softmax(ops.select(inside, near, np.float32(-1e4)), 1)
    axis = np.array([1], np.int64)
    return ops.concat([
        ops.add(ops.convert(ops.subtract(whole, np.int32(reach)), "f32"),
                ops.reduce_sum(ops.multiply(shares, offset.astype(np.float32)), axis, True))
        for whole, offset, reach in ((column, right, REACH_X), (row, down, REACH_Y))], 1)


def _led(layers: Layers, net: Node, logits: Node, propagation: NDArray[np.float32]) -> Node:
    """Return the best flow (1,2,h,w), each pixel led by those that it belongs to, the more the less it is sure."""
    far, given, taken = propagation
    axis = np.array([1], np.int64)
    best, highest = _best(logits), ops.reduce_max(logits, axis, True)
    sure = ops.negative(ops.log(ops.reduce_sum(ops.exp(ops.subtract(logits, highest)), axis, True)))
    source, led = (layers.convolution(net, f"match/{name}") for name in ("source", "lead"))
    query, key = (_rows(layers.convolution(net, f"match/{name}")) for name in ("query", "key"))
    height, width = _sides(net, (2, 3))
    shape = ops.concat([ops.unsqueeze(side, np.int64(0)) for side in (height, width, height, width)], 0)
    weights = ops.reshape(ops.matmul(query, key, False, True), shape, False)
    weights = ops.add(weights, ops.add(source, ops.multiply(sure, given)))
    for side, axes in ((height, (0, 2)), (width, (1, 3))):
        weights = ops.subtract(weights, ops.multiply(_squares(side, axes), far))
    count = ops.unsqueeze(ops.multiply(height, width), np.int64(0))
    weights = ops.softmax(ops.reshape(weights, ops.concat([count, count], 0), False), 1)
    others = transposed(ops.matmul(weights, _rows(best), False, False), (1, 0))
    others = ops.reshape(others, ops.shape_of(best), False)
    share = ops.sigmoid(ops.subtract(ops.subtract(led, ops.multiply(sure, taken)), np.float32(LED_LESS)))
    return ops.add(best, ops.multiply(share, ops.subtract(others, best)))


def _rows(net: Node) -> Node:
    """Return a net (1,c,h,w) as (h*w,c)."""
    channels = net.output(0).get_partial_shape()[1].get_length()
    return ops.reshape(transposed(net, NHWC), np.array([-1, channels], np.int64), False)


def _sides(net: Node, axes: tuple[int, int]) -> list[Node]:
    """Return a net's height and width."""
    shape = ops.convert(ops.shape_of(net), "i32")
    return [ops.gather(shape, np.int64(axis), np.int64(0)) for axis in axes]


def _squares(side: Node, axes: tuple[int, int]) -> Node:
    """Return the squared distances between all places along a side, at two axes of four."""
    place = ops.range(np.int32(0), side, np.int32(1), "f32")
    ends = [ops.unsqueeze(place, np.array([other for other in range(4) if other != axis], np.int64)) for axis in axes]
    difference = ops.subtract(*ends)
    return ops.multiply(difference, difference)


def _within(place: Node, last: int) -> Node:
    return ops.logical_and(ops.greater_equal(place, np.int32(0)), ops.less_equal(place, np.int32(last)))
