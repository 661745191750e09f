"""FILM (Reda et al., ECCV 2022) in torch, in any width, and its tensors under the released names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov_film.matching import CONVOLUTIONS, PROPAGATION, SHARPNESS
from ov_film.refinement import enlarged, halved, moved, refined, searched, shrunk

from .matcher import SHARPENING, Matcher
from .predictors import Predictor, convolution, doubled, swap
from .warping import warp

DOUBTFUL = 0.005  # difference of the warped frames, in [0,1], at which the network's own colours count half


@dataclass(frozen=True)
class FilmConfig:
    """Widths and depths; the defaults are film_lite's.

    The released network has 64 filters, flow filters 32, 64, 128, 256, three convolutions each, fusion filters 64, 128,
    256, 512, 7 levels, no image levels, fuses all features, and blends nothing.
    """

    filters: int = 16  # channels of the encoder's first stage; each further stage doubles them
    flow_filters: tuple[int, ...] = ()  # per own flow predictor, then of the shared one; none: frames are matched
    fusion_filters: tuple[int, ...] = (16, 32, 64, 128)  # per fused level but the coarsest, which has none
    levels: int = 5  # pyramid levels; frames are multiples of 2 ** (levels - 1)
    stages: int = 4  # stages of an encoder subtree
    image_levels: int = 1  # finest levels that are not encoded: fusion reads images alone there
    projections: tuple[int, ...] = (8, 16, 16, 16)  # of features for fusion, per encoded level; none: as they are
    flow_convolutions: tuple[int, ...] = ()  # of 3x3, per flow predictor
    blends: bool = True  # the head gives, beside colours, the logits of the warped frames' shares in the result
    searches: bool = True  # it blends both frames, too, as a flow warps them that is found in them alone

    @property
    def fusion_levels(self) -> int:
        """Levels that are fused."""
        return len(self.fusion_filters) + 1

    def predictor(self, level: int) -> int:
        """Which flow predictor works at a level: the coarser ones share the last."""
        return min(level, len(self.flow_filters) - 1)

    def aligned_channels(self, level: int) -> int:
        """What fusion reads at a level: image, features and flow of both frames."""
        fused = self.projections[level - self.image_levels] if self.projections else self.feature_channels(level)
        return 2 * (3 + (fused if level >= self.image_levels else 0) + 2)

    def feature_channels(self, level: int) -> int:
        """Channels of the features at a level, over all encoder stages that reach it."""
        return sum(self.filters << stage for stage in range(self.stages_at(level)))

    def stages_at(self, level: int) -> int:
        """Stages of the encoder that reach a level, each from as many levels above it."""
        return max(0, min(level - self.image_levels + 1, self.stages))


@dataclass
class FilmOutput:
    """What one midpoint leaves behind; lists run from the finest level to the coarsest."""

    image: Tensor  # (B,3,H,W), the midpoint, about [0,1], not clamped
    warped: list[tuple[Tensor, Tensor]]  # per fusion level both frames at the midpoint, (B,3,h,w)
    flows: list[Tensor]  # per level (2B,2,h,w), x and y in its pixels: first to last, then last to first


@torch.no_grad()
def searched_frames(images: Tensor, flow: Tensor, time: float) -> Tensor:
    """Both frames (B,6,H,W) as the flows bring them to a time that the pack finds in frames (2B,3,H,W) alone.

    Flows that are known, (2B,2,H,W), are taken where these yield to them.
    """
    fields, flows = (part.float().permute(0, 2, 3, 1).cpu().contiguous().numpy() for part in (images, flow))
    brought = []
    for first, last, *known in zip(*np.split(fields, 2), *np.split(flows, 2), strict=True):
        forward, backward = searched(first, last, *known)
        ends = moved(first, backward, time, sharp=True), moved(last, forward, 1 - time, sharp=True)
        brought.append(np.concatenate(ends, axis=2))
    return torch.from_numpy(np.stack(brought)).permute(0, 3, 1, 2).to(images)


@torch.no_grad()
def matched_levels(matcher: Matcher, images: Tensor, levels: int) -> list[Tensor]:
    """The fused levels' flows (2B,2,h,w) of frames (2B,3,H,W): matched, then found in the frames as the pack does."""
    fields = images.float().permute(0, 2, 3, 1).cpu().contiguous().numpy()
    small = torch.from_numpy(np.stack([shrunk(field) for field in fields])).permute(0, 3, 1, 2).to(images.device)
    coarse = matcher(*small.chunk(2)).flows[-1].float().permute(0, 2, 3, 1).cpu().contiguous().numpy()
    flows: list[npt.NDArray[np.float32]] = []
    for first, last, both in zip(*np.split(fields, 2), coarse, strict=True):
        flows += refined(first, last, *(enlarged(both[..., start : start + 2].copy(), *first.shape[:2])
                                        for start in (0, 2)))
    flows = [*flows[::2], *flows[1::2]]  # forward before backward
    found = []
    for _ in range(levels):
        found.append(torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(images))
        flows = [halved(flow) for flow in flows]
    return found


class Film(nn.Module):
    """Two frames in, the frame half-way between them out."""

    def __init__(self, config: FilmConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or FilmConfig()
        widths = [3, *(c.filters << stage for stage in range(c.stages))]
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(before, width), convolution(width, width))
            for before, width in pairwise(widths)
        )
        self.predictors = nn.ModuleList(
            Predictor(2 * c.feature_channels(level), *size)
            for level, size in enumerate(zip(c.flow_filters, c.flow_convolutions, strict=True))
        )
        self.matcher = None if c.flow_filters else Matcher().requires_grad_(False)
        self.projections = nn.ModuleList(  # of the features that are fused, from fine to coarse
            nn.Conv2d(c.feature_channels(level), width, 1, bias=False)
            for level, width in enumerate(c.projections, start=c.image_levels)
        )
        self.fusion = nn.ModuleList()  # from coarse to fine
        inputs = c.aligned_channels(c.fusion_levels - 1)
        for level, width in reversed(list(enumerate(c.fusion_filters))):
            joined = width + c.aligned_channels(level)
            steps = [nn.Conv2d(inputs, width, 2), convolution(joined, width), convolution(width, width)]
            self.fusion.append(nn.ModuleList(steps))
            inputs = width
        self.head = nn.Conv2d(inputs, 3 + (2 + 2 * c.searches if c.blends else 0), 1)
        if c.blends:  # begin with little but the mean of both warped frames
            nn.init.zeros_(self.head.weight[3:])
            nn.init.ones_(self.head.bias[3:])

    def encode(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Frames (B,3,H,W) -> image pyramid and feature pyramid, finest level first."""
        c = self.config
        images = [frames]
        for _ in range(c.levels - 1):
            images.append(F.avg_pool2d(images[-1], 2))
        subtrees: list[list[Tensor]] = []
        for level, head in enumerate(images):
            subtree: list[Tensor] = []
            for stage in range(min(c.levels - level, c.stages) if level >= c.image_levels else 0):
                head = self.encoder[stage](F.avg_pool2d(head, 2) if stage else head)
                subtree.append(head)
            subtrees.append(subtree)
        features = [
            torch.cat([image[:, :0], *(subtrees[level - stage][stage] for stage in range(c.stages_at(level)))], 1)
            for level, image in enumerate(images)
        ]
        return images, features

    def estimate_flows(self, images: list[Tensor], features: list[Tensor]) -> list[Tensor]:
        """Pyramids (2B,C,h,w), first frames before last ones -> flows as in FilmOutput."""
        if self.matcher:
            return matched_levels(self.matcher, images[0], self.config.fusion_levels)
        flows: list[Tensor] = []
        for level in reversed(range(self.config.levels)):
            flow = doubled(flows[-1]) if flows else torch.zeros_like(images[level][:, :2])
            other = swap(features[level])
            other = warp(other, flow) if flows else other
            predictor = self.predictors[self.config.predictor(level)]
            flows.append(flow + predictor(torch.cat([features[level], other], 1)).float())
        return flows[::-1]

    def forward(self, first: Tensor, last: Tensor) -> FilmOutput:
        """Frames (B,3,H,W) in [0,1], sides multiples of 2 ** (levels - 1) -> midpoint and what led to it."""
        images, features = self.encode(torch.cat([first, last]))
        return self.fuse(images, features, self.estimate_flows(images, features))

    def fuse(self, images: list[Tensor], features: list[Tensor], flows: list[Tensor], time: float = 0.5) -> FilmOutput:
        """Make the frame at a time in (0,1) from both frames' pyramids, first frames before last ones, and flows."""
        aligned: list[Tensor] = []
        pairs: list[tuple[Tensor, Tensor]] = []
        for level in range(self.config.fusion_levels):
            forward, backward = flows[level].chunk(2)
            by = torch.cat([backward * time, forward * (1 - time)])  # the first frame is read by the backward flow
            encoded = features[level]
            if self.projections and level >= self.config.image_levels:
                encoded = self.projections[level - self.config.image_levels](encoded)
            pair = warp(torch.cat([images[level], encoded.to(images[level].dtype)], 1), by)
            aligned.append(torch.cat([*pair.chunk(2), *by.to(pair.dtype).chunk(2)], 1))
            before, after = pair[:, :3].chunk(2)
            pairs.append((before, after))
        net = aligned[-1]
        for (upsampled, join, refine), context in zip(self.fusion, aligned[-2::-1], strict=True):
            net = F.pad(F.interpolate(net, scale_factor=2, mode="nearest"), (0, 1, 0, 1))
            net = refine(join(torch.cat([context, upsampled(net)], 1)))
        net = self.head(net)
        if self.config.blends:
            colours, logits = net.float().tensor_split((3,), 1)
            nearness = torch.tensor([2 * (1 - time), 2 * time] * (logits.shape[1] // 2), device=logits.device)
            logits = logits + nearness.log()[:, None, None]  # the midpoint's is 0
            found = searched_frames(images[0], flows[0], time).chunk(2, 1) if self.config.searches else ()
            read = [image.float() for image in (*pairs[0], *found)]
            difference = (read[0] - read[1]).detach().abs().mean(1, keepdim=True)
            own = (difference / (difference + DOUBTFUL) + 1e-6).log()  # where both agree, there is nothing to add
            shares = torch.softmax(torch.cat([logits, own], 1), 1).split(1, 1)
            net = sum(share * image for share, image in zip(shares, (*read, colours), strict=True))
        return FilmOutput(net, pairs, flows)


def named_layers(model: Film) -> Iterator[tuple[str, nn.Conv2d]]:
    """Every convolution with its name in the released network."""
    for stage, pair in enumerate(model.encoder):
        for k, layer in enumerate(pair):
            yield f"feat_net/sub_extractor/cfeat_conv_{2 * stage + k}", layer[0]
    for index, predictor in enumerate(model.predictors):
        own = index < len(model.predictors) - 1
        for k, layer in enumerate(predictor.layers()):
            yield f"predict_flow/flow_predictor_{index if own else 'shared'}/conv_{k}", layer
    if model.matcher:
        for name in CONVOLUTIONS:
            yield name, model.matcher.get_submodule(name.removeprefix("match/"))
    for level, layer in enumerate(model.projections, start=model.config.image_levels):
        yield f"fusion/project_{level}", layer
    coarsest = model.config.fusion_levels - 1
    for step, (upsampled, join, refine) in enumerate(model.fusion):
        for k, layer in enumerate((upsampled, join[0], refine[0])):
            number = 3 * (coarsest - 1 - step) + k
            yield f"fusion/conv2d_{number}" if number else "fusion/conv2d", layer
    yield f"fusion/conv2d_{3 * coarsest}", model.head


def film_tensors(model: Film) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors as a SavedModel names and lays them out: kernels (H,W,I,O), biases (O,), float32."""
    tensors = {}
    for name, layer in named_layers(model):
        kernel = layer.weight.detach().float().cpu().permute(2, 3, 1, 0)
        tensors[f"{name}/kernel"] = kernel.contiguous().numpy()
        if layer.bias is not None:
            tensors[f"{name}/bias"] = layer.bias.detach().float().cpu().numpy()
    if model.matcher:
        for name, values in ((SHARPNESS, model.matcher.sharpness), (PROPAGATION, model.matcher.propagation)):
            tensors[f"{name}/bias"] = values.detach().float().cpu().numpy()
    return tensors


def read_config(tensors: Mapping[str, npt.NDArray[np.float32]]) -> FilmConfig:
    """Read widths and depths off the names and shapes of named tensors; the pyramid's levels, untold, are 7."""

    def outputs(name: str) -> int:
        return int(tensors[f"{name}/kernel"].shape[3])

    own = sum(bool(re.fullmatch(r"predict_flow/flow_predictor_\d+/conv_0/kernel", name)) for name in tensors)
    predictors = [*(f"flow_predictor_{index}" for index in range(own)), "flow_predictor_shared"]
    convolutions = [sum(name.startswith(part) for name in tensors) // 2 for part in ("feat_net/", "fusion/conv2d")]
    steps = [sum(name.startswith(f"predict_flow/{part}/conv_") for name in tensors) // 2 - 2 for part in predictors]
    fused = [f"fusion/conv2d_{3 * level}" if level else "fusion/conv2d" for level in range(convolutions[1] // 3)]
    projected = sorted(int(number) for name in tensors for number in re.findall(r"fusion/project_(\d+)/", name))
    matches = f"{SHARPNESS}/bias" in tensors
    return FilmConfig(
        filters=outputs("feat_net/sub_extractor/cfeat_conv_0"),
        flow_filters=() if matches else tuple(outputs(f"predict_flow/{name}/conv_0") for name in predictors),
        fusion_filters=tuple(outputs(name) for name in fused),
        stages=convolutions[0] // 2,
        image_levels=projected[0] if projected else 0,
        projections=tuple(outputs(f"fusion/project_{level}") for level in projected),
        levels=len(fused) + 1 if matches else 7,
        flow_convolutions=() if matches else tuple(steps),
        blends=outputs(f"fusion/conv2d_{convolutions[1] - 1}") > 3,
        searches=outputs(f"fusion/conv2d_{convolutions[1] - 1}") > 5,
    )


def fill(model: Film, tensors: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Take over the layers whose tensors fit; the others stay as they are.

    A network that blends nothing gives its colours.
    """
    with torch.no_grad():
        for name, layer in named_layers(model):
            if f"{name}/kernel" not in tensors:
                continue
            kernel = torch.from_numpy(tensors[f"{name}/kernel"]).permute(3, 2, 0, 1)
            if layer is model.head or kernel.shape == layer.weight.shape:
                layer.weight[: len(kernel)] = kernel
                if layer.bias is not None:
                    layer.bias[: len(kernel)] = torch.from_numpy(tensors[f"{name}/bias"])
        if model.matcher and f"{SHARPNESS}/bias" in tensors:
            model.matcher.sharpening.copy_(torch.from_numpy(tensors[f"{SHARPNESS}/bias"]).log() / SHARPENING)
            model.matcher.propagation.copy_(torch.from_numpy(tensors[f"{PROPAGATION}/bias"]))


def load_film(path: Path) -> Film:
    """Build the network that an .npz of named tensors holds."""
    with np.load(path) as archive:
        tensors = dict(archive)
    model = Film(read_config(tensors))
    fill(model, tensors)
    return model


def main() -> None:
    """Export the averaged weights of a training checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt, as train.py writes it")
    parser.add_argument("output", type=Path, help="the .npz to write")
    args = parser.parse_args()
    state = torch.load(args.checkpoint, weights_only=True, map_location="cpu")
    model = Film(FilmConfig(**state["config"]))
    model.load_state_dict(state["average"])
    np.savez(args.output, **film_tensors(model))


if __name__ == "__main__":
    main()
