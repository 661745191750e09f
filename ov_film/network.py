"""FILM as five OpenVINO models, which together make the frames between two frames.

Reda et al., "FILM: Frame Interpolation for Large Motion", ECCV 2022. Frames are encoded one by one, so that recursion
encodes each once; flow is told from fusion, so that one flow can serve many times; and both are cut where the
pyramid's levels are small enough to be handled whole, so that the fine levels can be worked on window by window:

    fine encoder     frame -> features_i, predictor_i of the fine levels i, and image_j of the coarsest of them, j
    coarse encoder   image_j, features_j -> features_i, predictor_i of the coarse levels
    coarse flow      features_i, predictor_i of the coarse levels of both frames -> forward_flow_i, backward_flow_i
    fine flow        those of the fine levels, flows at the finest coarse level -> forward_flow_i, backward_flow_i;
                     where they are refined (see configuration.py), no more than flows -> these, enlarged
    fusion           features_i of both frames at the fused levels, the flows that each is read by -> frame; where it
                     blends (see configuration.py), of the time too; where it searches, of both frames as the flow that
                     is found in them brings them to that time, searched_0, too

Every tensor between them is (1,h,w,channels). image_i is level i of the image pyramid and features_i of the feature
pyramid, at the fused levels behind image_i, as both are warped alike there. predictor_i is what a frame's own features
add to the first convolution of level i's flow predictor, which reads them beside the other frame's warped ones and is
linear. Flows are (x, y) in pixels of their level.

The released network predicts each flow at the pixels of the frame that it begins in, though the new frame reads it at
its own. Where flows are refined they are predicted at the midpoint's pixels, from both frames' features brought there;
predictor_i is then a projection of a frame's features, which is all that is read of them; behind it lie descriptors,
if the predictor compares them. Fusion reads projections too there, fused_i, behind image_i, or image_i alone at the
image levels (see configuration.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, reduce

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from .configuration import (
    COARSE_ENCODER,
    COARSE_FLOW,
    FINE_ENCODER,
    FINE_FLOW,
    FUSION,
    REACH,
    FilmConfiguration,
    FilmTensors,
    fusion_name,
    predictor_name,
    projection_name,
)
from .layers import Layers, Node, parameter

ENDS, DIRECTIONS, TIME = ("first", "last"), ("forward", "backward"), "time"
SEARCHED = "searched_0"  # a frame as the flow that is found in both brings it to the time of the new one
_DOUBTFUL = 0.005  # difference of the warped images, in [0,1], at which the colours that are made count half
_END = np.iinfo(np.int64).max
_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def encoding_channels(configuration: FilmConfiguration) -> dict[str, int]:
    """Return the names of all that an encoding holds, in order, with their channels."""
    stitched, fused = configuration.stitched_level, range(configuration.image_levels, configuration.fusion_levels)
    channels = {f"image_{level}": 3 for level in sorted({*range(configuration.image_levels), stitched})}
    if configuration.refines:
        channels |= {f"features_{stitched}": configuration.features(stitched)}
        channels |= {f"fused_{level}": 3 + configuration.fused_features(level) for level in fused}
    else:
        channels |= {f"features_{level}": _images(configuration, level) + configuration.features(level)
                     for level in range(configuration.pyramid_levels)}
    return channels | {f"predictor_{level}": configuration.predictor_channels(level)
                       for level in range(configuration.flow_level, configuration.pyramid_levels)}


def fused_names(configuration: FilmConfiguration) -> list[str]:
    """Return the names of the parts of an encoding that are fused, finest level first."""
    encoded = "fused" if configuration.refines else "features"
    return [f"{'image' if level < configuration.image_levels else encoded}_{level}"
            for level in range(configuration.fusion_levels)]


def _images(configuration: FilmConfiguration, level: int) -> int:
    """Return how many channels of an image lie before a level's features."""
    return 3 if level < configuration.fusion_levels and not configuration.refines else 0


def level_of(name: str) -> int:
    """Return the pyramid level that a tensor's name ends in."""
    return int(name.rsplit("_", 1)[1])


def build_models(tensors: FilmTensors, configuration: FilmConfiguration) -> dict[str, ov.Model]:
    """Return the five models by name, sides of frames left open: multiples of `multiple`."""
    fine, coarse = range(configuration.fine_levels), range(configuration.fine_levels, configuration.pyramid_levels)
    return {FINE_ENCODER: _build_encoder(tensors, configuration, fine),
            COARSE_ENCODER: _build_encoder(tensors, configuration, coarse),
            COARSE_FLOW: _build_flow(tensors, configuration, coarse),
            FINE_FLOW: _build_flow(tensors, configuration, fine),
            FUSION: _build_fusion(tensors, configuration)}


def _build_encoder(tensors: FilmTensors, configuration: FilmConfiguration, levels: range) -> ov.Model:
    """Encode some levels; each is made of the one before it, where the subtrees that it continues have come to."""
    layers = Layers(tensors)
    finer = levels[0] - 1
    channels = encoding_channels(configuration)
    inputs = ([parameter(name, channels[name]) for name in (f"image_{finer}", f"features_{finer}")] if levels[0]
              else [parameter("frame", 3)])
    image, *features = inputs
    stages = _stages(_transpose(features[0], _NCHW), configuration, finer) if features else []

    encoding: dict[str, Node] = {}
    for level in levels:
        image = _halve_image(image) if level else image
        colours = _transpose(image, _NCHW)
        encoding[f"image_{level}"] = colours
        if level < configuration.image_levels:
            continue
        below = [colours, *(_halve(stage) for stage in stages)][:len(configuration.feature_filters)]
        stages = []
        for stage, net in enumerate(below):
            for convolution in (2 * stage, 2 * stage + 1):
                net = layers.activated(net, f"feat_net/sub_extractor/cfeat_conv_{convolution}")
            stages.append(net)
        joined = _concatenate(stages)
        encoding[f"features_{level}"] = (_concatenate([colours, *stages]) if _images(configuration, level) else joined)
        if configuration.refines and level < configuration.fusion_levels:
            projected = layers.convolution(joined, projection_name(level), bias=False)
            encoding[f"fused_{level}"] = ops.concat([colours, projected], 1)
        if level >= configuration.flow_level:
            name = f"{predictor_name(configuration.predictor(level), configuration)}/conv_0"
            own = slice(0, configuration.features(level))
            encoding[f"predictor_{level}"] = layers.convolution(joined, name, inputs=own)
            if configuration.compared(level):
                described = layers.convolution(joined, name.replace("conv_0", "describe"))
                described = ops.normalize_l2(described, np.array([1], np.int64), 1e-12, "max")
                encoding[f"predictor_{level}"] = ops.concat([encoding[f"predictor_{level}"], described], 1)
    outputs = {name: _transpose(encoding[name], _NHWC) for name in encoding_channels(configuration) if name in encoding}
    return _model(outputs, inputs, COARSE_ENCODER if levels[0] else FINE_ENCODER)


def _stages(features: Node, configuration: FilmConfiguration, level: int) -> list[Node]:
    """Return the stages of the subtrees that a level's features are made of."""
    images = _images(configuration, level)
    filters = configuration.feature_filters[:level - configuration.image_levels + 1]
    channels = [images, *filters] if images else list(filters)
    parts = list(ops.variadic_split(features, np.int64(1), np.array(channels, np.int64)).outputs())
    return parts[1 if images else 0:]


def _build_flow(tensors: FilmTensors, configuration: FilmConfiguration, levels: range) -> ov.Model:
    """Predict the flows of some levels, coarse to fine, from those of the level above them if there is one."""
    layers = Layers(tensors)
    predicted = range(max(levels[0], configuration.flow_level), levels[-1] + 1)
    channels = {name: count for name, count in encoding_channels(configuration).items()
                if level_of(name) in predicted and not name.startswith(("image_", "fused_"))}
    first, last = ({name: parameter(f"{end}_{name}", count) for name, count in channels.items()} for end in ENDS)
    above = [] if levels[-1] == configuration.pyramid_levels - 1 else [
        parameter(f"{direction}_flow_{levels[-1] + 1}", 2) for direction in DIRECTIONS]
    # The fine levels need the flow at the finest coarse one; further down, what is fused.
    needed = [level for level in levels if level == configuration.fine_levels or level < configuration.fusion_levels]
    if configuration.refines and above:
        needed = [0]

    outputs: dict[str, Node] = {}
    flows: list[Node] = [_transpose(flow, _NCHW) for flow in above]
    for level in reversed(levels):
        upsampled = [_double_flow(flow) for flow in flows]
        if level in predicted:
            flows = (_midpoint_flows(layers, configuration, level, (first, last), upsampled) if configuration.refines
                     else [_predicted_flow(layers, configuration, level, *parts)
                           for parts in zip((first, last), (last, first), upsampled or (None, None), strict=True)])
        else:
            flows = upsampled
        if level in needed:
            outputs |= {f"{direction}_flow_{level}": _transpose(flow, _NHWC)
                        for direction, flow in zip(DIRECTIONS, flows, strict=True)}
    inputs = [*first.values(), *last.values(), *above]
    return _model(outputs | layers.exact, inputs, FINE_FLOW if above else COARSE_FLOW)


def _predicted_flow(layers: Layers, configuration: FilmConfiguration, level: int, this: Mapping[str, Node],
                    other: Mapping[str, Node], upsampled: Node | None) -> Node:
    """Return the flow (1,2,h,w) of a level from one frame to the other; the level above it gives a first guess."""
    own, warped = this[f"predictor_{level}"], other[f"features_{level}"]
    if upsampled is not None:
        warped = layers.sample(warped, _transpose(upsampled, _NHWC), level)
    index = configuration.predictor(level)
    name, width = predictor_name(index, configuration), configuration.features(level)
    net = layers.convolution(_transpose(warped, _NCHW), f"{name}/conv_0", inputs=slice(width, 2 * width), bias=False,
                             unused=_images(configuration, level))
    net = layers.leaky_relu(ops.add(net, _transpose(own, _NCHW)))
    last_step = configuration.flow_convolutions[index] + 1
    for step in range(1, last_step):
        net = layers.activated(net, f"{name}/conv_{step}")
    residual = layers.convolution(net, f"{name}/conv_{last_step}")
    return residual if upsampled is None else ops.add(residual, upsampled)


def _midpoint_flows(layers: Layers, configuration: FilmConfiguration, level: int, ends: Sequence[Mapping[str, Node]],
                    upsampled: Sequence[Node]) -> list[Node]:
    """Return both flows (1,2,h,w) of a level at the midpoint's pixels; those of the level above give a first guess."""
    index = configuration.predictor(level)
    name = predictor_name(index, configuration)
    parts = [end[f"predictor_{level}"] for end in ends]
    if upsampled:
        halfway = (_transpose(ops.multiply(flow, np.float32(0.5)), _NHWC) for flow in reversed(upsampled))
        parts = [layers.sample(part, flow, level) for part, flow in zip(parts, halfway, strict=True)]
    net = _pairs([_transpose(part, _NCHW) for part in parts], configuration.compared(level))
    last_step = configuration.flow_convolutions[index] + 2
    for step in range(1, last_step):
        net = layers.activated(net, f"{name}/conv_{step}")
    flows = ops.split(layers.convolution(net, f"{name}/conv_{last_step}"), np.int64(0), 2).outputs()
    return _agreed(*(ops.add(*pair) for pair in zip(flows, upsampled, strict=True)) if upsampled else flows)


def _pairs(parts: Sequence[Node], compared: int) -> Node:
    """Return what a predictor reads, (2,c,h,w), of both frames' parts (1,c,h,w): the way there, then the way back.

    The last channels are compared.
    """
    channels = parts[0].output(0).get_partial_shape()[1].get_length()
    there, back = (ops.concat([_part(part, 1, 0, channels - compared) for part in pair], 1)
                   for pair in (parts, parts[::-1]))
    net = ops.concat([there, back], 0)
    if not compared:
        return net
    alike = _comparison(*(_part(part, 1, channels - compared, channels) for part in parts))
    return ops.concat([net, ops.concat([alike, _part(alike, 1, -1, -_END, -1)], 0)], 1)


def _comparison(first: Node, last: Node) -> Node:
    """Return how alike two frames' descriptors (1,c,h,w) are in 3x3, opposite ways from each pixel: (1,81,h,w).

    One for each flow of up to REACH whole pixels, row by row, of which the last frame takes the larger half; 0 where
    that leads out of the frame. For the flows from the last frame to the first the order is the reverse.
    """
    margin = (REACH + 1) // 2
    around = np.array([0, 0, margin, margin], np.int64)
    padded = [ops.pad(field, around, around, "constant", np.float32(0)) for field in (first, last)]
    # Compiling takes time by the number of operations: so they share what is constant, and slices.
    axes, steps, channels = (ops.constant(np.array(numbers, np.int64)) for numbers in ((2, 3), (1, 1), (1,)))

    @cache
    def moved(end: int, *place: int) -> Node:
        starts = np.array([margin + distance for distance in place], np.int64)
        ends = np.array([distance - margin or _END for distance in place], np.int64)
        return ops.slice(padded[end], starts, ends, steps, axes)

    reach = range(-REACH, REACH + 1)
    pairs = ((moved(0, -(y // 2), -(x // 2)), moved(1, y - y // 2, x - x // 2)) for y in reach for x in reach)
    products = [ops.reduce_sum(ops.multiply(*pair), channels, True) for pair in pairs]
    return ops.avg_pool(ops.concat(products, 1), [1, 1], [1, 1], [1, 1], [3, 3], exclude_pad=False)


def _agreed(forward: Node, backward: Node) -> list[Node]:
    """Return two flows (1,2,h,w), made each other's opposite where they nearly are.

    Their errors are independent, so that the mean has less of them; where they differ, something is covered.
    """
    half = ops.multiply(ops.add(forward, backward), np.float32(0.5))
    squared = ops.reduce_sum(ops.multiply(half, half), np.array([1], np.int64), True)
    shared = ops.multiply(half, ops.exp(ops.negative(squared)))
    return [ops.subtract(flow, shared) for flow in (forward, backward)]


def _build_fusion(tensors: FilmTensors, configuration: FilmConfiguration) -> ov.Model:
    """Make a frame, not clamped, from both frames' encodings, the flows first_flow_i and last_flow_i, and the time.

    A frame is read backwards: each pixel of the new one at its place plus first_flow in the first frame, which at
    time t is t times the backward flow, and at its place plus last_flow, 1 - t times the forward flow, in the last.
    """
    layers = Layers(tensors)
    levels = range(configuration.fusion_levels)
    channels = {name: encoding_channels(configuration)[name] for name in fused_names(configuration)}
    ends = {end: {name: parameter(f"{end}_{name}", count) for name, count in channels.items()} for end in ENDS}
    flows = {end: [parameter(f"{end}_flow_{level}", 2) for level in levels] for end in ENDS}
    inputs = [*ends["first"].values(), *ends["last"].values(), *flows["first"], *flows["last"]]
    searched = [parameter(f"{end}_{SEARCHED}", 3) for end in ENDS] if configuration.searches else []
    inputs += searched
    if configuration.blends:
        time = ops.parameter([1], np.float32, name=TIME)
        time.output(0).set_names({TIME})
        inputs.append(time)
    aligned = []
    for level, name in enumerate(channels):
        both, both_flows = [ends[end][name] for end in ENDS], [flows[end][level] for end in ENDS]
        warp = layers.sample_few if level < configuration.image_levels else layers.sample
        parts = [warp(part, flow, level) for part, flow in zip(both, both_flows, strict=True)]
        aligned.append((parts, both_flows))

    net = _joined([*aligned[-1][0], *aligned[-1][1]])
    for level, name in reversed(list(enumerate(channels))[:-1]):
        net = layers.doubled(net, fusion_name(3 * level))
        parts, both_flows = aligned[level]
        # In 8 bits, flows of many pixels would leave little to the features beside them: so they are told apart, and
        # with them the images of a level that has no features.
        start, end = 2 * channels[name], 2 * channels[name] + 4
        if level < configuration.image_levels:
            inputs_apart = np.arange(end)
            apart, joined = ops.concat([*parts, *(_transpose(flow, _NCHW) for flow in both_flows)], 1), net
        else:
            inputs_apart = np.arange(start, end)
            apart, joined = _joined(both_flows), _joined([*parts, _transpose(net, _NHWC)])
        joining = fusion_name(3 * level + 1)
        by_flow = layers.convolution(apart, joining, inputs=inputs_apart, bias=False)
        inputs_joined = np.delete(np.arange(end + configuration.fusion_filters[level]), inputs_apart)
        rest = layers.convolution(joined, joining, inputs=inputs_joined)
        # In this order OpenVINO's CPU plugin adds within the convolution of the flows, which is not in 8 bits.
        net = layers.leaky_relu(ops.add(by_flow, rest))
        net = layers.activated(net, fusion_name(3 * level + 2))
    frame = layers.convolution(net, fusion_name(3 * levels[-1]))
    if configuration.blends:
        warped = [part if configuration.image_levels else _transpose(part, _NCHW) for part in aligned[0][0]]
        frame = _blended(frame, [*warped, *(_transpose(image, _NCHW) for image in searched)], time)
    return _model({"frame": _transpose(frame, _NHWC)} | layers.exact, inputs, FUSION)


def _blended(made: Node, warped: Sequence[Node], time: Node) -> Node:
    """Return the frame that colours and logits make of pairs of warped frames, images in front, and of those colours.

    The logits are the midpoint's; at other times the nearer frame gets more. Where the first pair agrees, the colours'
    share goes to 0: there is nothing to add.
    """
    count = len(warped)
    colours, logits = ops.variadic_split(made, np.int64(1), np.array([3, count], np.int64)).outputs()
    images = [_front(part, 1) for part in warped]
    nearness = ops.multiply(ops.concat([ops.subtract(np.float32(1), time), time] * (count // 2), 0), np.float32(2))
    logits = ops.add(logits, ops.reshape(ops.log(nearness), np.array([1, count, 1, 1], np.int64), False))
    difference = ops.reduce_mean(ops.abs(ops.subtract(*images[:2])), np.array([1], np.int64), True)
    doubt = ops.divide(difference, ops.add(difference, np.float32(_DOUBTFUL)))
    own = ops.log(ops.add(doubt, np.float32(1e-6)))
    shares = ops.split(ops.softmax(ops.concat([logits, own], 1), 1), np.int64(1), count + 1).outputs()
    return reduce(ops.add, (ops.multiply(part, share) for part, share in zip((*images, colours), shares, strict=True)))


def _front(net: Node, axis: int) -> Node:
    """Return the image that lies before the features along an axis."""
    return _part(net, axis, 0, 3)


def _part(net: Node, axis: int, start: int, end: int, step: int = 1) -> Node:
    return ops.slice(net, *(np.array([number], np.int64) for number in (start, end, step, axis)))


def _transpose(net: Node, order: Sequence[int]) -> Node:
    return ops.transpose(net, np.array(order, np.int64))


def _halve(net: Node) -> Node:
    return ops.avg_pool(net, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _halve_image(image: Node) -> Node:
    """Return the means of 2x2 pixels of an image (1,h,w,3); OpenVINO's CPU plugin pools few channels slowly."""
    for axis in (1, 2):
        image = ops.add(_part(image, axis, 0, _END, 2), _part(image, axis, 1, _END, 2))
    return ops.multiply(image, np.float32(0.25))


def _double_flow(flow: Node) -> Node:
    """Return a flow (1,2,h,w) at twice the size, bilinear, in the finer level's pixels.

    OpenVINO's CPU plugin takes four times as long for an Interpolate, and rounds it at bf16.
    """
    around = np.array([0, 0, 1, 1], np.int64)
    padded = ops.pad(flow, around, around, "edge")
    phases = [phase for row in _between(padded, 2, 2) for phase in _between(row, 3, 1)]
    return ops.depth_to_space(ops.concat(phases, 1), "blocks_first", 2)


def _between(padded: Node, axis: int, scale: float) -> list[Node]:
    """Return, times scale, what lies a quarter of a pixel before and after each one along an axis."""
    near = ops.multiply(_part(padded, axis, 1, -1), np.float32(0.75 * scale))
    return [ops.add(near, ops.multiply(_part(padded, axis, start, end), np.float32(0.25 * scale)))
            for start, end in ((0, -2), (2, _END))]


def _joined(nodes: Sequence[Node]) -> Node:
    """Return fields (1,h,w,c), joined, as (1,c,h,w)."""
    return _transpose(ops.concat(list(nodes), 3), _NCHW)


def _concatenate(nodes: Sequence[Node]) -> Node:
    return ops.concat(list(nodes), 1) if len(nodes) > 1 else nodes[0]


def _model(outputs: dict[str, Node], inputs: Iterable[Node], name: str) -> ov.Model:
    results = []
    for output_name, node in outputs.items():
        result = ops.result(node, name=output_name)
        result.output(0).set_names({output_name})
        results.append(result)
    return ov.Model(results, list(inputs), name)
