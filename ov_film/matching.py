"""What a flow pyramid loses: things that move farther than they are large. Patches are compared to find them.

Coarse to fine, the flow follows what the coarsest levels still see, so a small thing that moves far gets the flow of
what is around it. Here each patch of one level is compared with all those in reach in the other frame. A match is
trusted where it fits far better than what the flow leads to, and where the other frame's match leads back.
"""

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from .layers import Layers, Node, parameter
from .network import DIRECTIONS, ENDS

_BLOCK = 8  # pixels, a side: their patches are compared with the same ones
_REACH = 10  # pixels, to each side of a block
_STRIP = 96  # blocks that are worked on at a time; all strips use the same memory
_PATCH = 7  # pixels, a side
_FARNESS = 2e-5  # squared difference of colours, in [0,1], that counts like a pixel away from where the flow leads
_POOR = 0.05  # difference of colours from which a flow is in doubt
_BETTER = 0.7  # of that difference, what a match may have at most
_MISSED = 1  # pixels that the match of a match may miss by
_FARTHER = 1  # pixels, of x or y, that match and flow differ by at least
_TURNED = (np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
           / np.sqrt(np.array([[3], [2], [6]], np.float32)))  # rows: lightness and two hues
_MOST_CONTRAST = 2  # times as much, or as little, is given to a frame so that both have the same


def build_matching(name: str, level: int, height: int, width: int, channels: int) -> ov.Model:
    """Return the model that corrects both flows of a level; it has no weights.

    It reads first_features_<level> and last_features_<level> (1,h,w,channels), images in [0,1] in front, and
    forward_flow_<level> and backward_flow_<level> (1,h,w,2), x and y in pixels, and gives forward_match_<level> and
    backward_match_<level>, the same but for where a match is trusted.

    Args:
        name: the model's.
        level: the pyramid level.
        height, width: its size, in pixels.
        channels: of its features, images included.
    """
    ends = [parameter(f"{end}_features_{level}", channels, height, width) for end in ENDS]
    flows = [parameter(f"{direction}_flow_{level}", 2, height, width) for direction in DIRECTIONS]
    grid = _Grid(height, width)
    images = _alike(*(_channels(features, 0, 3) for features in ends))
    patches, brief = [_around(image, _PATCH) for image in images], [_brief_patches(image) for image in images]
    pairs = list(zip(patches, patches[::-1], flows, strict=True))
    targets = [grid.most_alike(own, other, flow) for own, other, flow in zip(brief, brief[::-1], flows, strict=True)]
    matches = [ops.subtract(grid.places(target), grid.all) for target in targets]
    layers = Layers({})
    results = []
    for direction, (own, other, flow), target, match, back in zip(DIRECTIONS, pairs, targets, matches, matches[::-1],
                                                                  strict=True):
        by_flow = _difference(own, layers.sample(other, flow, level))
        by_match = _difference(own, grid.read(other, target))
        missed = _largest(ops.add(match, grid.read(back, target)))
        trusted = [ops.greater(by_flow, np.float32(_POOR ** 2)),
                   ops.less(by_match, ops.multiply(by_flow, np.float32(_BETTER ** 2))),
                   ops.less_equal(missed, np.float32(_MISSED)),
                   ops.greater(_largest(ops.subtract(match, flow)), np.float32(_FARTHER))]
        while len(trusted) > 1:
            trusted = [*trusted[2:], ops.logical_and(*trusted[:2])]
        result = ops.result(ops.select(trusted[0], match, flow))
        result.output(0).set_names({f"{direction}_match_{level}"})
        results.append(result)
    return ov.Model(results, [*ends, *flows], name)


class _Grid:
    """The pixels of a level by their row-major indices, and the blocks that they are compared in."""

    def __init__(self, height: int, width: int) -> None:
        self._shape = (1, height, width)
        starts = [(np.arange(0, side, _BLOCK)[:, np.newaxis], side) for side in (height, width)]
        # In blocks over the border, pixels of the border stand more than once, which does no harm.
        asked = [np.minimum(start + np.arange(_BLOCK), side - 1) for start, side in starts]
        offered = [np.clip(start + np.arange(-_REACH, _BLOCK + _REACH), 0, side - 1) for start, side in starts]
        self._asked, self._offered = (_indices(rows, columns, width) for rows, columns in (asked, offered))
        order = np.empty(height * width, np.int32)
        order[self._asked.reshape(-1)] = np.arange(self._asked.size)
        self._order = order  # of the pixels among those that are asked
        index = np.arange(height * width).reshape(height, width)
        self._places = np.stack([index % width, index // width], 2).reshape(-1, 2).astype(np.float32)
        self.all = ops.constant(self._places.reshape(1, height, width, 2))

    def places(self, index: Node) -> Node:
        """Return x and y (1,h,w,2) of indices (1,h,w)."""
        return ops.gather(self._places, index, np.int64(0))

    def read(self, values: Node, index: Node) -> Node:
        """Return values (1,h,w,c) at indices (1,h,w)."""
        return ops.gather(_rows(values), index, np.int64(0))

    def most_alike(self, own: Node, other: Node, flow: Node) -> Node:
        """Return the index (1,h,w) of what in the other frame is most like each patch, and near to its flow.

        Squared distances of patches and places together, but for what is the same for all that are compared.
        """
        weight = np.float32(_FARNESS ** 0.5)
        asked = ops.concat([own, ops.multiply(ops.add(self.all, flow), weight)], 3)
        offered = ops.concat([other, ops.multiply(self.all, weight)], 3)
        asked, offered = _rows(asked), _rows(offered)
        squares = ops.reduce_sum(ops.multiply(offered, offered), np.int64(1), False)
        strips = [slice(start, start + _STRIP) for start in range(0, len(self._asked), _STRIP)]
        targets = ops.concat([self._targets(asked, offered, squares, strip) for strip in strips], 0)
        targets = ops.gather(ops.reshape(targets, np.array([-1], np.int64), False), self._order, np.int64(0))
        return ops.reshape(targets, np.array(self._shape, np.int64), False)

    def _targets(self, asked: Node, offered: Node, squares: Node, strip: slice) -> Node:
        """Return the indices (blocks,64) of what is nearest to the pixels of some blocks."""
        indices = self._offered[strip]
        patches = ops.gather(offered, indices, np.int64(0))
        products = ops.matmul(ops.gather(asked, self._asked[strip], np.int64(0)), patches, False, True)
        squares = ops.unsqueeze(ops.gather(squares, indices, np.int64(0)), np.int64(1))
        costs = ops.subtract(squares, ops.multiply(products, np.float32(2)))
        best = ops.squeeze(ops.topk(costs, np.int64(1), 2, "min", "none", "i32").output(1), np.int64(2))
        blocks, compared = indices.shape
        best = ops.add(best, np.arange(0, blocks * compared, compared, dtype=np.int32)[:, np.newaxis])
        return ops.gather(indices.reshape(-1), best, np.int64(0))


def _indices(rows: NDArray[np.int64], columns: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """Return the row-major indices of some rows (m,r) by some columns (n,c): (m*n,r*c)."""
    indices = rows[:, np.newaxis, :, np.newaxis] * width + columns[:, np.newaxis, :]
    return indices.reshape(len(rows) * len(columns), -1).astype(np.int32)


def _alike(first: Node, last: Node) -> list[Node]:
    """Return images (1,h,w,3) with one mean colour and one contrast, or in a fade whatever is lighter would match."""
    centred = [ops.subtract(image, ops.reduce_mean(image, np.array([1, 2], np.int64), True)) for image in (first, last)]
    contrasts = [ops.sqrt(ops.add(ops.reduce_mean(ops.multiply(image, image), np.array([1, 2, 3], np.int64), True),
                                  np.float32(1e-6))) for image in centred]
    both = ops.multiply(ops.add(*contrasts), np.float32(0.5))
    return [ops.multiply(image, ops.clamp(ops.divide(both, contrast), 1 / _MOST_CONTRAST, _MOST_CONTRAST))
            for image, contrast in zip(centred, contrasts, strict=True)]


def _brief_patches(image: Node) -> Node:
    """Return what stands for patches (1,h,w,147) in the search, (1,h,w,67), and takes half the time to compare.

    Of a patch's colours, turned in their space, that is all of the lightness and nine means of both hues.
    """
    turned = ops.matmul(image, _TURNED, False, True)
    hues = ops.transpose(_channels(turned, 1, 3), np.array([0, 3, 1, 2], np.int64))
    means = ops.avg_pool(hues, [1, 1], [1, 1], [1, 1], [3, 3], exclude_pad=True)
    means = ops.transpose(means, np.array([0, 2, 3, 1], np.int64))
    return ops.concat([ops.multiply(_around(_channels(turned, 0, 1), _PATCH), np.float32(3 ** -0.5)),
                       ops.multiply(_around(means, 3, 3), np.float32((2 / 3) ** 0.5))], 3)


def _around(image: Node, size: int, step: int = 1) -> Node:
    """Return the size x size values (1,h,w,c*size*size) around each pixel, scaled so that squares sum to their mean."""
    reach = size // 2 * step
    channels = image.output(0).get_partial_shape()[3].get_length()
    padding = np.array([0, reach, reach, 0], np.int64)
    padded = ops.transpose(ops.pad(image, padding, padding, "edge"), np.array([0, 3, 1, 2], np.int64))
    patches = ops.extract_image_patches(padded, [size, size], [1, 1], [step, step], "valid")
    scaled = ops.multiply(patches, np.float32((channels * size ** 2) ** -0.5))
    return ops.transpose(scaled, np.array([0, 2, 3, 1], np.int64))


def _difference(own: Node, other: Node) -> Node:
    """Return the mean squared difference (1,h,w,1) of patches."""
    return ops.reduce_sum(ops.squared_difference(own, other), np.int64(3), True)


def _channels(values: Node, start: int, end: int) -> Node:
    return ops.slice(values, *(np.array([number], np.int64) for number in (start, end, 1, 3)))


def _largest(flow: Node) -> Node:
    return ops.reduce_max(ops.abs(flow), np.int64(3), True)


def _rows(values: Node) -> Node:
    """Return (1,h,w,c) as (h*w,c)."""
    channels = values.output(0).get_partial_shape()[3].get_length()
    return ops.reshape(values, np.array([-1, channels], np.int64), False)
