"""What makes two warped frames lie on each other more exactly than flow predictors do: no weights, hardly any time."""

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as ops

from .configuration import MEAN_REACH
from .layers import Node

_TRUSTED = 0.1  # a difference of brightness, in [0,1], that counts a quarter
_DAMPING = 2.5e-6  # squared slope of the brightness, in [0,1] a pixel, below which a displacement fades
_FARTHEST = 2.0  # pixels, of a displacement


def agreed(forward: Node, backward: Node) -> list[Node]:
    """Return two flows (1,2,h,w), made each other's opposite where they nearly are.

    Their errors are independent, so that the mean has less of them; where they differ, something is covered.
    """
    half = ops.multiply(ops.add(forward, backward), np.float32(0.5))
    squared = ops.reduce_sum(ops.multiply(half, half), np.array([1], np.int64), True)
    shared = ops.multiply(half, ops.exp(ops.negative(squared)))
    return [ops.subtract(flow, shared) for flow in (forward, backward)]


def mean_around(values: Node) -> Node:
    """Return the mean of 9 x 9 pixels (1,c,h,w), of fewer at the border."""
    for kernel in ((1, 2 * MEAN_REACH + 1), (2 * MEAN_REACH + 1, 1)):
        padding = [side // 2 for side in kernel]
        values = ops.avg_pool(values, [1, 1], padding, padding, kernel, exclude_pad=True)
    return values


def displacement(first: Node, last: Node) -> Node:
    """Return how far what is at one place in both warped grey images (1,1,h,w) still lies apart: (1,h,w,2), x and
    y in pixels.

    One step of Lucas and Kanade, "An Iterative Image Registration Technique", IJCAI 1981: least squares over 9 x 9
    pixels. The slope is that of the mean of both images, half-way between them, so that the step is exact to the second
    order. Where the images differ much, in what one of them lacks, they count less.
    """
    difference = ops.subtract(first, last)
    between = ops.multiply(ops.add(first, last), np.float32(0.5))
    x, y = _slope(between, 3), _slope(between, 2)
    doubt = ops.add(ops.multiply(ops.abs(difference), np.float32(1 / _TRUSTED)), np.float32(1))
    weight = ops.divide(np.float32(1), ops.multiply(doubt, doubt))
    weighted_x, weighted_y = (ops.multiply(slope, weight) for slope in (x, y))
    products = [ops.multiply(weighted_x, x), ops.multiply(weighted_x, y), ops.multiply(weighted_y, y),
                ops.multiply(weighted_x, difference), ops.multiply(weighted_y, difference)]
    xx, xy, yy, xd, yd = ops.split(mean_around(ops.concat(products, 1)), np.int64(1), 5).outputs()
    xx, yy = (ops.add(slope, np.float32(_DAMPING)) for slope in (xx, yy))
    solved = ops.divide(ops.concat([_cross(yy, xd, xy, yd), _cross(xx, yd, xy, xd)], 1), _cross(xx, yy, xy, xy))
    return ops.transpose(ops.clamp(solved, -_FARTHEST, _FARTHEST), _ints(0, 2, 3, 1))


def _slope(values: Node, axis: int) -> Node:
    """Return the change a pixel along an axis, over the two neighbours."""
    around = [int(axis == index) for index in range(4)]
    padded = ops.pad(values, _ints(*around), _ints(*around), "edge")
    end = np.iinfo(np.int64).max
    before, after = (ops.slice(padded, _ints(start), _ints(stop), _ints(1), _ints(axis))
                     for start, stop in ((0, -2), (2, end)))
    return ops.multiply(ops.subtract(after, before), np.float32(0.5))


def _cross(a: Node, b: Node, c: Node, d: Node) -> Node:
    return ops.subtract(ops.multiply(a, b), ops.multiply(c, d))


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)
