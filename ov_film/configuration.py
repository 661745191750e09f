"""What a set of FILM tensors says of the network: its configuration, read off names and shapes."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FilmError
from .matching import expected_shapes as matching_shapes

FilmTensors = dict[str, NDArray[np.float32]]

# A tensor's full name, perhaps behind the scope of a model that holds the network.
TENSOR_NAME = re.compile(
    r"(?:.*?/)??((?:feat_net/sub_extractor/cfeat_conv_\d+"
    r"|predict_flow/flow_predictor_(?:\d+|shared)/conv_\d+"
    r"|match/[a-z]+(?:_\d+)?"
    r"|fusion/conv2d(?:_\d+)?"
    r"|fusion/project_\d+)/(?:kernel|bias))")

# The models that the network is built as (see network.py).
FINE_ENCODER, COARSE_ENCODER, COARSE_FLOW, FINE_FLOW, FUSION = MODELS = (
    "fine_encoder", "coarse_encoder", "coarse_flow", "fine_flow", "fusion")
STITCHED_ENCODER = "stitched_encoder"  # the part of the fine encoder whose results windows are put together to
RELEASED_PYRAMID_LEVELS = 7
_OWN_PREDICTOR, _SHARED_PREDICTOR = r"predict_flow/flow_predictor_\d+/conv_0", "flow_predictor_shared"
_COLOURS, _LOGITS = 3, 2  # channels of the last convolution: logits for each pair of warped images that it blends


@dataclass(frozen=True)
class FilmConfiguration:
    """The sizes of a FILM network (Reda et al., ECCV 2022, section 3; `Options` of the released code).

    Attributes:
        pyramid_levels: levels of the image, feature and flow pyramids.
        feature_filters: channels of each stage of the encoder's subtree.
        flow_filters: channels of each flow predictor, the finest level's first; the last one is also used at
            every coarser level. None in a network that matches.
        flow_convolutions: how many 3x3 convolutions each flow predictor has.
        fusion_filters: channels of each fusion level that has convolutions, the finest level first.
        image_levels: finest levels that are not encoded, at which fusion makes do with the images. None in the released
            network.
        projections: channels that fusion reads of the features of each encoded level, the finest first, through a
            1x1 convolution; none in the released network, which fuses all features as they are. A network that has some
            matches frames instead of predicting flow level by level (see matching.py), and what is finer than that
            is found in the frames themselves (see refinement.py).
        blends: whether the last convolution gives, beside colours, the logits of the warped images' shares in the
            frame; that of the colours is 0. Not so in the released network, whose colours are the frame.
        searches: whether fusion blends both images too as a flow warps them that is found in the frames alone (see
            refinement.py), beside those of the flow that the network predicts. Not so in the released network.
    """

    pyramid_levels: int
    feature_filters: tuple[int, ...]
    flow_filters: tuple[int, ...]
    flow_convolutions: tuple[int, ...]
    fusion_filters: tuple[int, ...]
    image_levels: int = 0
    projections: tuple[int, ...] = ()
    blends: bool = False
    searches: bool = False

    @property
    def fusion_levels(self) -> int:
        """Levels that are fused; the coarsest has no convolutions of its own."""
        return len(self.fusion_filters) + 1

    @property
    def fine_levels(self) -> int:
        """Levels that are too large to be handled whole in a large frame; from the fourth on they are 1/64 and less."""
        return min(3, self.pyramid_levels - 1)

    @property
    def stitched_level(self) -> int:
        """The coarsest fine level: what comes out of windows there is put together and kept whole, as it is small."""
        return self.fine_levels - 1

    @property
    def matches(self) -> bool:
        """Whether flow is matched, not predicted level by level (see `projections`)."""
        return bool(self.projections)

    @property
    def multiple(self) -> int:
        """What a frame's height and width are padded to a multiple of."""
        return 1 << (self.pyramid_levels - 1)

    @property
    def window_multiple(self) -> int:
        """What a window's place and size in a frame are multiples of, so that its fine and fused levels are too."""
        return 1 << max(self.fine_levels, self.fusion_levels - 1)

    @property
    def reach(self) -> int:
        """How far from a new frame's pixel the fine levels look, in pixels, the motion between the frames aside."""
        encoder = sum(2 << level for level in range(self.image_levels, self.fine_levels))
        flow = 0 if self.matches else sum((self.flow_convolutions[self.predictor(level)] + 1) << level
                                          for level in range(self.fine_levels))
        fusion = sum(3 << level for level in range(self.fusion_levels - 1))
        return encoder + flow + fusion

    def features(self, level: int) -> int:
        """Channels of the feature pyramid at a level."""
        return sum(self.feature_filters[:max(0, level - self.image_levels + 1)])

    def fused_features(self, level: int) -> int:
        """Channels of the features that fusion reads at a level."""
        if level < self.image_levels or not self.projections:
            return self.features(level)
        return self.projections[level - self.image_levels]

    @property
    def last_channels(self) -> int:
        """Channels of the last convolution: colours, and logits."""
        return _COLOURS + (_LOGITS if self.blends else 0) + (_LOGITS if self.searches else 0)

    def predictor(self, level: int) -> int:
        """Which flow predictor (index into `flow_filters`) works at a level."""
        return min(level, len(self.flow_filters) - 1)

    def subtree_stages(self, level: int) -> int:
        """How many stages the subtree has that begins at a level of the image pyramid."""
        return min(len(self.feature_filters), self.pyramid_levels - level)

    def convolutions(self) -> int:
        """Convolutions in the graph of the released code, where both frames are encoded and both flows predicted."""
        encoder = sum(2 * self.subtree_stages(level) for level in range(self.pyramid_levels))
        flow = sum(self.flow_convolutions[self.predictor(level)] + 2 for level in range(self.pyramid_levels))
        return 2 * encoder + 2 * flow + 3 * len(self.fusion_filters) + 1

    def parameters(self) -> int:
        """Numbers in all tensors together."""
        return sum(math.prod(shape) for shape in expected_shapes(self).values())

    def as_json(self) -> dict[str, Any]:
        """Return what `film.json` stores."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "FilmConfiguration":
        """Return what `as_json` gave; raises KeyError, TypeError or ValueError where it is something else."""
        widths = {name: tuple(int(width) for width in fields[name])
                  for name in ("feature_filters", "flow_filters", "flow_convolutions", "fusion_filters")}
        widths["projections"] = tuple(int(width) for width in fields.get("projections", ()))
        return cls(pyramid_levels=int(fields["pyramid_levels"]), image_levels=int(fields.get("image_levels", 0)),
                   blends=bool(fields.get("blends", False)), searches=bool(fields.get("searches", False)), **widths)


def canonical_names(variables: Mapping[str, NDArray[np.float32]]) -> FilmTensors:
    """Return FILM's tensors without an outer scope, fusion's convolutions counted from 0.

    Keras numbers unnamed layers through a whole program, so an export may begin at conv2d_13, say. Where every
    level has a flow predictor of its own, the coarsest one's is called the shared one.

    Raises:
        FilmError: two variables have the same name.
    """
    tensors: FilmTensors = {}
    for full_name, array in variables.items():
        match = TENSOR_NAME.fullmatch(full_name)
        if match is None:
            continue
        if match[1] in tensors:
            raise FilmError(f"The SavedModel holds {match[1]} twice: export the network alone.")
        tensors[match[1]] = array
    numbers = sorted({_number(name) for name in tensors if name.startswith("fusion/conv2d")})
    predictors = {name.split("/")[1] for name in tensors if name.startswith("predict_flow/")}
    # The shared one has the longest name, and of the numbers the longest and then the largest is the coarsest.
    coarsest = max(predictors, key=lambda name: (len(name), name), default=_SHARED_PREDICTOR)

    def canonical(name: str) -> str:
        if name.startswith("fusion/conv2d"):
            return f"{fusion_name(numbers.index(_number(name)))}/{name.rsplit('/', 1)[1]}"
        return name.replace(f"/{coarsest}/", f"/{_SHARED_PREDICTOR}/")

    return {canonical(name): array for name, array in tensors.items()}


def fusion_name(convolution: int) -> str:
    """Return the name of fusion's convolution, counted from the finest level's first."""
    return f"fusion/conv2d_{convolution}" if convolution else "fusion/conv2d"


def projection_name(level: int) -> str:
    """Return the name of the convolution that projects a level's features for fusion."""
    return f"fusion/project_{level}"


def predictor_name(index: int, configuration: FilmConfiguration) -> str:
    """Return the name of a flow predictor (index into `flow_filters`)."""
    if index == len(configuration.flow_filters) - 1:
        return f"predict_flow/{_SHARED_PREDICTOR}"
    return f"predict_flow/flow_predictor_{index}"


def read_configuration(tensors: FilmTensors, pyramid_levels: int) -> FilmConfiguration:
    """Read the configuration off the tensors' shapes, and check that they are all of a FILM and nothing else.

    Args:
        tensors: arrays by canonical name.
        pyramid_levels: levels of the pyramid, which no shape tells.

    Raises:
        FilmError: a tensor is missing, of another shape, or too many.
    """
    def width(name: str) -> int:
        kernel = tensors.get(f"{name}/kernel")
        if kernel is None or kernel.ndim != 4:
            raise FilmError(f"The model has no convolution {name}, so it is no FILM: give it google/film.")
        return int(kernel.shape[3])

    def count(pattern: str) -> int:
        return sum(1 for name in tensors if re.fullmatch(pattern + "/kernel", name))

    predictors = [f"predict_flow/flow_predictor_{index}" for index in range(count(_OWN_PREDICTOR))]
    predictors += [f"predict_flow/{_SHARED_PREDICTOR}"] if count(f"predict_flow/{_SHARED_PREDICTOR}/conv_0") else []
    fused = count(r"fusion/conv2d(_\d+)?") // 3
    logits = width(fusion_name(3 * fused)) - _COLOURS
    projected = sorted(int(match[1]) for name in tensors
                       if (match := re.fullmatch(r"fusion/project_(\d+)/kernel", name)))
    configuration = FilmConfiguration(
        pyramid_levels=fused + 1 if projected else pyramid_levels,
        feature_filters=tuple(width(f"feat_net/sub_extractor/cfeat_conv_{2 * stage}")
                              for stage in range(count(r"feat_net/sub_extractor/cfeat_conv_\d+") // 2)),
        flow_filters=tuple(width(f"{name}/conv_0") for name in predictors),
        flow_convolutions=tuple(count(rf"{name}/conv_\d+") - 2 for name in predictors),
        fusion_filters=tuple(width(fusion_name(3 * level)) for level in range(fused)),
        image_levels=projected[0] if projected else 0,
        projections=tuple(width(projection_name(level)) for level in projected),
        blends=logits > 0, searches=logits > _LOGITS)
    _check(tensors, configuration)
    return configuration


def _check(tensors: FilmTensors, configuration: FilmConfiguration) -> None:
    coarsest = configuration.pyramid_levels - 1
    if coarsest < 1:
        raise FilmError(f"The model has {configuration.pyramid_levels} pyramid level where a FILM has at least 2: "
                        "give the right number of pyramid levels.")
    predictors = len(configuration.flow_filters)
    if not predictors and not configuration.matches:
        raise FilmError("The model has no flow predictor, so it is no FILM: give it google/film.")
    if configuration.fusion_levels > configuration.pyramid_levels or predictors > coarsest + 1:
        raise FilmError(f"The model has {configuration.fusion_levels} fusion levels and {predictors} flow predictors, "
                        f"more than {configuration.pyramid_levels} pyramid levels can have: give the right number of "
                        "pyramid levels.")
    if configuration.searches and not configuration.matches:
        raise FilmError("The model blends what a search finds in frames that it doesn't match, so it is no FILM: give "
                        "it google/film.")
    projections = configuration.fusion_levels - configuration.image_levels if configuration.matches else 0
    if configuration.image_levels >= configuration.fine_levels or len(configuration.projections) != projections:
        raise FilmError(f"The model projects the features of {len(configuration.projections)} levels from level "
                        f"{configuration.image_levels} on, where fusion would read {projections}: give it the "
                        "SavedModel of google/film.")
    expected = expected_shapes(configuration)
    for name, shape in expected.items():
        found = tensors[name].shape if name in tensors else "none"
        if found != shape:
            raise FilmError(f"Tensor {name} has shape {found} where a FILM like this has {shape}: give it the "
                            "SavedModel of google/film.")
    surplus = sorted(tensors.keys() - expected.keys())
    if surplus:
        raise FilmError(f"Tensor {surplus[0]} is none of a FILM like this: give it the SavedModel of google/film.")


def expected_shapes(configuration: FilmConfiguration) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a FILM of this configuration has, by name.

    Raises:
        FilmError: levels that share a flow predictor have features of different widths.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, size: int, inputs: int, outputs: int) -> int:
        kernel = (size, size, inputs, outputs)
        if shapes.setdefault(f"{name}/kernel", kernel) != kernel:
            raise FilmError(f"Convolution {name} would have to read {inputs} channels at one level and "
                            f"{shapes[f'{name}/kernel'][2]} at another, so the model is no FILM: give it google/film.")
        shapes[f"{name}/bias"] = (outputs,)
        return outputs

    channels = 3
    for stage, filters in enumerate(configuration.feature_filters):
        for convolution_index in (2 * stage, 2 * stage + 1):
            channels = convolution(f"feat_net/sub_extractor/cfeat_conv_{convolution_index}", 3, channels, filters)
    for level in range(0 if configuration.matches else configuration.pyramid_levels):
        index = configuration.predictor(level)
        name, filters = predictor_name(index, configuration), configuration.flow_filters[index]
        channels = 2 * configuration.features(level)
        for step in range(configuration.flow_convolutions[index]):
            channels = convolution(f"{name}/conv_{step}", 3, channels, filters)
        channels = convolution(f"{name}/conv_{step + 1}", 1, channels, filters // 2)
        convolution(f"{name}/conv_{step + 2}", 1, channels, 2)
    if configuration.matches:
        shapes |= matching_shapes()
    for level, filters in enumerate(configuration.projections, start=configuration.image_levels):
        shapes[f"{projection_name(level)}/kernel"] = (1, 1, configuration.features(level), filters)
    aligned = [2 * (3 + configuration.fused_features(level) + 2) for level in range(configuration.fusion_levels)]
    channels = aligned[-1]
    for level in reversed(range(configuration.fusion_levels - 1)):
        filters = configuration.fusion_filters[level]
        convolution(fusion_name(3 * level), 2, channels, filters)
        convolution(fusion_name(3 * level + 1), 3, aligned[level] + filters, filters)
        channels = convolution(fusion_name(3 * level + 2), 3, filters, filters)
    convolution(fusion_name(3 * (configuration.fusion_levels - 1)), 1, channels, configuration.last_channels)
    return shapes


def _number(fusion_tensor: str) -> int:
    digits = re.search(r"conv2d_(\d+)/", fusion_tensor)
    return int(digits[1]) if digits else 0

