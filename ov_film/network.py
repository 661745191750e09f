"""FILM as five OpenVINO models, which together make the frames between two frames.

Reda et al., "FILM: Frame Interpolation for Large Motion", ECCV 2022. Frames are encoded one by one, so that recursion
encodes each once; flow is told from fusion, so that one flow can serve many times; and both are cut where the
pyramid's levels are small enough to be handled whole, so that the fine levels can be worked on window by window:

    fine encoder     frame -> features_i, predictor_i of the fine levels i, and image_j of the coarsest of them, j
    coarse encoder   image_j, features_j -> features_i, predictor_i of the coarse levels
    coarse flow      features_i, predictor_i of the coarse levels of both frames -> forward_flow_i, backward_flow_i
    fine flow        those of the fine levels, flows at the finest coarse level -> forward_flow_i, backward_flow_i
    fusion           features_i of both frames at the fused levels, the flows that each is read by -> frame; where it
                     blends (see configuration.py), of the time too; where it searches, of both frames as the flow that
                     is found in them brings them to that time, searched_0, too

Every tensor between them is (1,h,w,channels). image_i is level i of the image pyramid and features_i of the feature
pyramid, at the fused levels behind image_i, as both are warped alike there. predictor_i is what a frame's own features
add to the first convolution of level i's flow predictor, which reads them beside the other frame's warped ones and is
linear. Flows are (x, y) in pixels of their level.

That is the released network. One that matches (see configuration.py) finds flow in another way: its coarse encoder
describes a small frame too, and the models of flow are those of matching.py. Fusion reads projections of features
there, fused_i, behind image_i, or image_i alone at the image levels.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from .configuration import (
    COARSE_ENCODER,
    COARSE_FLOW,
    FINE_ENCODER,
    FINE_FLOW,
    FUSION,
    FilmConfiguration,
    FilmTensors,
    fusion_name,
    predictor_name,
    projection_name,
)
from .layers import END, NCHW, NHWC, Layers, Node, doubled_flow, model_of, parameter, part, transposed
from .matcher import build_coarse_flow, build_fine_flow, described

ENDS, DIRECTIONS, TIME = ("first", "last"), ("forward", "backward"), "time"
SEARCHED = "searched_0"  # a frame as the flow that is found in both brings it to the time of the new one
_DOUBTFUL = 0.005  # difference of the warped images, in [0,1], at which the colours that are made count half


def encoding_channels(configuration: FilmConfiguration) -> dict[str, int]:
    """Return the names of all that an encoding holds, in order, with their channels."""
    stitched, fused = configuration.stitched_level, range(configuration.image_levels, configuration.fusion_levels)
    channels = {f"image_{level}": 3 for level in sorted({*range(configuration.image_levels), stitched})}
    if configuration.matches:
        channels |= {f"features_{stitched}": configuration.features(stitched)}
        channels |= {f"fused_{level}": 3 + configuration.fused_features(level) for level in fused}
    else:
        channels |= {f"features_{level}": _images(configuration, level) + configuration.features(level)
                     for level in range(configuration.pyramid_levels)}
        channels |= {f"predictor_{level}": configuration.flow_filters[configuration.predictor(level)]
                     for level in range(configuration.pyramid_levels)}
    return channels


def fused_names(configuration: FilmConfiguration) -> list[str]:
    """Return the names of the parts of an encoding that are fused, finest level first."""
    encoded = "fused" if configuration.matches else "features"
    return [f"{'image' if level < configuration.image_levels else encoded}_{level}"
            for level in range(configuration.fusion_levels)]


def _images(configuration: FilmConfiguration, level: int) -> int:
    """Return how many channels of an image lie before a level's features."""
    return 3 if level < configuration.fusion_levels and not configuration.matches else 0


def level_of(name: str) -> int:
    """Return the pyramid level that a tensor's name ends in."""
    return int(name.rsplit("_", 1)[1])


def build_models(tensors: FilmTensors, configuration: FilmConfiguration) -> dict[str, ov.Model]:
    """Return the five models by name, sides of frames left open: multiples of `multiple`."""
    fine, coarse = range(configuration.fine_levels), range(configuration.fine_levels, configuration.pyramid_levels)
    return {FINE_ENCODER: _build_encoder(tensors, configuration, fine),
            COARSE_ENCODER: _build_encoder(tensors, configuration, coarse),
            COARSE_FLOW: (build_coarse_flow(tensors) if configuration.matches
                          else _build_flow(tensors, configuration, coarse)),
            FINE_FLOW: build_fine_flow(tensors) if configuration.matches else _build_flow(tensors, configuration, fine),
            FUSION: _build_fusion(tensors, configuration)}


def _build_encoder(tensors: FilmTensors, configuration: FilmConfiguration, levels: range) -> ov.Model:
    """Encode some levels; each is made of the one before it, where the subtrees that it continues have come to."""
    layers = Layers(tensors)
    finer = levels[0] - 1
    channels = encoding_channels(configuration)
    inputs = ([parameter(name, channels[name]) for name in (f"image_{finer}", f"features_{finer}")] if levels[0]
              else [parameter("frame", 3)])
    image, *features = inputs
    stages = _stages(transposed(features[0], NCHW), configuration, finer) if features else []

    encoding: dict[str, Node] = {}
    for level in levels:
        image = _halve_image(image) if level else image
        colours = transposed(image, NCHW)
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
        if configuration.matches and level < configuration.fusion_levels:
            projected = layers.convolution(joined, projection_name(level), bias=False)
            encoding[f"fused_{level}"] = ops.concat([colours, projected], 1)
        if not configuration.matches:
            name = f"{predictor_name(configuration.predictor(level), configuration)}/conv_0"
            own = slice(0, configuration.features(level))
            encoding[f"predictor_{level}"] = layers.convolution(joined, name, inputs=own)
    outputs = {name: transposed(encoding[name], NHWC) for name in encoding_channels(configuration) if name in encoding}
    if configuration.matches and levels[0]:
        inputs.append(parameter("matched_0", 3))
        outputs |= described(layers, inputs[-1])
    return model_of(outputs, inputs, COARSE_ENCODER if levels[0] else FINE_ENCODER)


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
    channels = {name: count for name, count in encoding_channels(configuration).items()
                if level_of(name) in levels and not name.startswith("image_")}
    first, last = ({name: parameter(f"{end}_{name}", count) for name, count in channels.items()} for end in ENDS)
    above = [] if levels[-1] == configuration.pyramid_levels - 1 else [
        parameter(f"{direction}_flow_{levels[-1] + 1}", 2) for direction in DIRECTIONS]
    # The fine levels need the flow at the finest coarse one; further down, what is fused.
    needed = [level for level in levels if level == configuration.fine_levels or level < configuration.fusion_levels]

    outputs: dict[str, Node] = {}
    flows: list[Node] = [transposed(flow, NCHW) for flow in above]
    for level in reversed(levels):
        upsampled = [doubled_flow(flow) for flow in flows]
        flows = [_predicted_flow(layers, configuration, level, *parts)
                 for parts in zip((first, last), (last, first), upsampled or (None, None), strict=True)]
        if level in needed:
            outputs |= {f"{direction}_flow_{level}": transposed(flow, NHWC)
                        for direction, flow in zip(DIRECTIONS, flows, strict=True)}
    inputs = [*first.values(), *last.values(), *above]
    return model_of(outputs | layers.exact, inputs, FINE_FLOW if above else COARSE_FLOW)


def _predicted_flow(layers: Layers, configuration: FilmConfiguration, level: int, this: Mapping[str, Node],
                    other: Mapping[str, Node], upsampled: Node | None) -> Node:
    """Return the flow (1,2,h,w) of a level from one frame to the other; the level above it gives a first guess."""
    own, warped = this[f"predictor_{level}"], other[f"features_{level}"]
    if upsampled is not None:
        warped = layers.sample(warped, transposed(upsampled, NHWC), level)
    index = configuration.predictor(level)
    name, width = predictor_name(index, configuration), configuration.features(level)
    net = layers.convolution(transposed(warped, NCHW), f"{name}/conv_0", inputs=slice(width, 2 * width), bias=False,
                             unused=_images(configuration, level))
    net = layers.leaky_relu(ops.add(net, transposed(own, NCHW)))
    last_step = configuration.flow_convolutions[index] + 1
    for step in range(1, last_step):
        net = layers.activated(net, f"{name}/conv_{step}")
    residual = layers.convolution(net, f"{name}/conv_{last_step}")
    return residual if upsampled is None else ops.add(residual, upsampled)


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
            apart, joined = ops.concat([*parts, *(transposed(flow, NCHW) for flow in both_flows)], 1), net
        else:
            inputs_apart = np.arange(start, end)
            apart, joined = _joined(both_flows), _joined([*parts, transposed(net, NHWC)])
        joining = fusion_name(3 * level + 1)
        by_flow = layers.convolution(apart, joining, inputs=inputs_apart, bias=False)
        inputs_joined = np.delete(np.arange(end + configuration.fusion_filters[level]), inputs_apart)
        rest = layers.convolution(joined, joining, inputs=inputs_joined)
        # In this order OpenVINO's CPU plugin adds within the convolution of the flows, which is not in 8 bits.
        net = layers.leaky_relu(ops.add(by_flow, rest))
        net = layers.activated(net, fusion_name(3 * level + 2))
    frame = layers.convolution(net, fusion_name(3 * levels[-1]))
    if configuration.blends:
        warped = [part if configuration.image_levels else transposed(part, NCHW) for part in aligned[0][0]]
        frame = _blended(frame, [*warped, *(transposed(image, NCHW) for image in searched)], time)
    return model_of({"frame": transposed(frame, NHWC)} | layers.exact, inputs, FUSION)


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
    return part(net, axis, 0, 3)


def _halve(net: Node) -> Node:
    return ops.avg_pool(net, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)


def _halve_image(image: Node) -> Node:
    """Return the means of 2x2 pixels of an image (1,h,w,3); OpenVINO's CPU plugin pools few channels slowly."""
    for axis in (1, 2):
        image = ops.add(part(image, axis, 0, END, 2), part(image, axis, 1, END, 2))
    return ops.multiply(image, np.float32(0.25))


def _joined(nodes: Sequence[Node]) -> Node:
    """Return fields (1,h,w,c), joined, as (1,c,h,w)."""
    return transposed(ops.concat(list(nodes), 3), NCHW)


def _concatenate(nodes: Sequence[Node]) -> Node:
    return ops.concat(list(nodes), 1) if len(nodes) > 1 else nodes[0]

