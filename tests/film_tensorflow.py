"""FILM in TensorFlow (Reda et al., ECCV 2022), written apart from the engine, to compare it with.

`write_saved_model` exports any configuration with random weights, in the ways in which exports of one network differ:
checkpoint keys, an outer scope, the numbers of fusion's layers, the order of the outputs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Sizes:
    """The options of the released code, under its names."""

    pyramid_levels: int = 4
    fusion_pyramid_levels: int = 3
    specialized_levels: int = 2
    sub_levels: int = 3
    filters: int = 4
    flow_convs: tuple[int, ...] = (2, 2, 2)
    flow_filters: tuple[int, ...] = (4, 6, 8)


class Film(tf.Module):
    """The network. Calling it returns every output of the released one by name; frames are (B,H,W,3)."""

    def __init__(self, sizes: Sizes, seed: int = 0, scope: str = "", first_fusion_number: int = 0) -> None:
        super().__init__()
        self.sizes, self.scope = sizes, scope
        self._random = np.random.default_rng(seed)
        channels = 3
        self.encoder = []
        for stage in range(sizes.sub_levels):
            for step in (0, 1):
                name = f"feat_net/sub_extractor/cfeat_conv_{2 * stage + step}"
                self.encoder.append(self._layer(name, 3, channels, sizes.filters << stage))
                channels = sizes.filters << stage
        self.predictors = []
        for level in range(min(sizes.specialized_levels + 1, sizes.pyramid_levels)):
            shared = level == sizes.specialized_levels
            name = f"predict_flow/flow_predictor_{'shared' if shared else level}"
            width, layers, channels = sizes.flow_filters[level], [], 2 * self._features(level)
            for step in range(sizes.flow_convs[level]):
                layers.append(self._layer(f"{name}/conv_{step}", 3, channels, width))
                channels = width
            layers.append(self._layer(f"{name}/conv_{step + 1}", 1, channels, width // 2))
            layers.append(self._layer(f"{name}/conv_{step + 2}", 1, width // 2, 2, gain=8))
            self.predictors.append(layers)
        self.fusion, number = [], first_fusion_number
        for level in range(sizes.fusion_pyramid_levels - 1):
            width = sizes.filters << min(level, sizes.specialized_levels)
            coarser = sizes.filters << min(level + 1, sizes.specialized_levels)
            if level == sizes.fusion_pyramid_levels - 2:
                coarser = self._aligned(level + 1)
            inputs = (coarser, self._aligned(level) + width, width)
            self.fusion.append([self._layer(self._fusion(number + step), 2 if step == 0 else 3, inputs[step], width)
                                for step in (0, 1, 2)])
            number += 3
        channels = sizes.filters if self.fusion else self._aligned(0)
        self.to_rgb = self._layer(self._fusion(number), 1, channels, 3)

    def __call__(self, x0: tf.Tensor, x1: tf.Tensor, time: float = 0.5) -> dict[str, tf.Tensor | list[tf.Tensor]]:
        images = [self._image_pyramid(x0), self._image_pyramid(x1)]
        features = [self._feature_pyramid(pyramid) for pyramid in images]
        forward, backward = self._flows(features[0], features[1]), self._flows(features[1], features[0])
        aligned = []
        for level in range(self.sizes.fusion_pyramid_levels):
            to_first, to_last = backward[level] * time, forward[level] * (1 - time)
            seen = [tf.concat([images[frame][level], features[frame][level]], -1) for frame in (0, 1)]
            aligned.append([warp(seen[0], to_first), warp(seen[1], to_last), to_first, to_last])
        net = tf.concat(aligned[-1], -1)
        for level in reversed(range(len(self.fusion))):
            first, second, third = self.fusion[level]
            net = convolve(tf.image.resize(net, tf.shape(aligned[level][0])[1:3], "nearest"), first)
            net = activate(convolve(tf.concat([*aligned[level], net], -1), second))
            net = activate(convolve(net, third))
        return {"image": convolve(net, self.to_rgb), "x0_warped": aligned[0][0][..., :3],
                "x1_warped": aligned[0][1][..., :3], "forward": forward[:len(aligned)],
                "backward": backward[:len(aligned)]}

    def _image_pyramid(self, image: tf.Tensor) -> list[tf.Tensor]:
        pyramid = [image]
        while len(pyramid) < self.sizes.pyramid_levels:
            pyramid.append(tf.nn.avg_pool2d(pyramid[-1], 2, 2, "VALID"))
        return pyramid

    def _feature_pyramid(self, images: list[tf.Tensor]) -> list[tf.Tensor]:
        subtrees = []
        for level, net in enumerate(images):
            subtree = []
            for stage in range(min(self.sizes.sub_levels, len(images) - level)):
                if stage:
                    net = tf.nn.avg_pool2d(net, 2, 2, "VALID")
                for layer in self.encoder[2 * stage:2 * stage + 2]:
                    net = activate(convolve(net, layer))
                subtree.append(net)
            subtrees.append(subtree)
        return [tf.concat([subtrees[level - stage][stage] for stage in range(self.sizes.sub_levels) if stage <= level],
                          -1) for level in range(len(images))]

    def _flows(self, these: list[tf.Tensor], others: list[tf.Tensor]) -> list[tf.Tensor]:
        flows: list[tf.Tensor] = []
        for level in reversed(range(len(these))):
            net = others[level]
            if flows:
                flow = tf.image.resize(2 * flows[0], tf.shape(net)[1:3])
                net = warp(net, flow)
            net = tf.concat([these[level], net], -1)
            *hidden, last = self.predictors[min(level, len(self.predictors) - 1)]
            for layer in hidden:
                net = activate(convolve(net, layer))
            residual = convolve(net, last)
            flows.insert(0, residual + flow if flows else residual)
        return flows

    def _layer(self, name: str, size: int, inputs: int, outputs: int, gain: float = 1) -> tuple[tf.Variable, ...]:
        limit = gain * np.sqrt(6 / (size * size * (inputs + outputs)))
        kernel = self._random.uniform(-limit, limit, (size, size, inputs, outputs)).astype(np.float32)
        bias = self._random.normal(0, 0.02, outputs).astype(np.float32)
        return tuple(tf.Variable(value, name=f"{self.scope}{name}/{part}")
                     for value, part in ((kernel, "kernel"), (bias, "bias")))

    def _features(self, level: int) -> int:
        return sum(self.sizes.filters << stage for stage in range(min(level + 1, self.sizes.sub_levels)))

    def _aligned(self, level: int) -> int:
        return 2 * (3 + self._features(level) + 2)

    @staticmethod
    def _fusion(number: int) -> str:
        return f"fusion/conv2d_{number}" if number else "fusion/conv2d"


def convolve(net: tf.Tensor, layer: tuple[tf.Variable, ...]) -> tf.Tensor:
    return tf.nn.bias_add(tf.nn.conv2d(net, layer[0], 1, "SAME"), layer[1])


def activate(net: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(net, 0.2)


def warp(image: tf.Tensor, flow: tf.Tensor) -> tf.Tensor:
    """Read image at each pixel plus flow (x, y), bilinear, clamped to the border."""
    shape = tf.shape(image)
    height, width = shape[1], shape[2]
    y, x = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    x = tf.clip_by_value(tf.cast(x, tf.float32) + flow[..., 0], 0.0, tf.cast(width - 1, tf.float32))
    y = tf.clip_by_value(tf.cast(y, tf.float32) + flow[..., 1], 0.0, tf.cast(height - 1, tf.float32))
    left, top = tf.cast(tf.floor(x), tf.int32), tf.cast(tf.floor(y), tf.int32)
    right, bottom = tf.minimum(left + 1, width - 1), tf.minimum(top + 1, height - 1)
    a, b = (x - tf.floor(x))[..., None], (y - tf.floor(y))[..., None]
    flat = tf.reshape(image, [shape[0], height * width, shape[3]])

    def read(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        return tf.gather(flat, row * width + column, batch_dims=1)

    upper = read(top, left) * (1 - a) + read(top, right) * a
    lower = read(bottom, left) * (1 - a) + read(bottom, right) * a
    return tf.reshape(upper * (1 - b) + lower * b, shape)


def write_saved_model(folder: Path, sizes: Sizes, seed: int = 0, scope: str = "", first_fusion_number: int = 0,
                      image_last: bool = False, gain_in_graph: float = 1) -> Film:
    """Export a FILM with random weights; `gain_in_graph` makes its graph another network than its tensors say."""
    film = Film(sizes, seed, scope, first_fusion_number)
    frames = tf.TensorSpec([None, None, None, 3], tf.float32)

    @tf.function(input_signature=[frames, frames, tf.TensorSpec([None, 1], tf.float32)])
    def serve(x0: tf.Tensor, x1: tf.Tensor, time: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = film(x0, x1)
        named = {f"flow_{i}": flow for i, flow in enumerate([*outputs["forward"], *outputs["backward"]])}
        warped = {"a_warped": outputs["x0_warped"], "b_warped": outputs["x1_warped"], **named}
        return {**warped, "z_image" if image_last else "a_image": outputs["image"] * gain_in_graph + 0 * time[0, 0]}

    tf.saved_model.save(film, str(folder), signatures=serve)
    return film
