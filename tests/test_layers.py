"""What stands for OpenVINO's own pooling, resizing and sampling of images and flows."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from openvino import opset13 as ops

from ov_film.layers import Layers, doubled_flow
from ov_film.network import _halve_image
from tests.graphs import computed

SHAPES = [(24, 40), (16, 130)]


def random(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """A smooth field (1,height,width,channels) in [-1,1]."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (5, 7, channels)).astype(np.float32)
    return cv2.resize(coarse, (width, height)).reshape(1, height, width, channels)


def before_a_convolution(build: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Give, beside what is built, a convolution of it, as at bf16 what has none is computed in f32 anyway."""
    def both(*inputs: Any) -> list[Any]:
        built = build(*inputs)
        kernel = np.ones((4, built.output(0).get_shape()[1], 3, 3), np.float32)
        return [built, ops.convolution(built, kernel, [1, 1], [1, 1], [1, 1], [1, 1])]
    return both


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_an_image_is_halved_to_the_means_of_its_pixels(height: int, width: int, precision: str) -> None:
    image = random(height, width, 3)
    found, = computed(_halve_image, image, precision=precision)
    wanted = image.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_flow_is_doubled_bilinear_and_not_rounded(height: int, width: int, precision: str) -> None:
    flow = 40 * random(height, width, 2)
    found, _ = computed(before_a_convolution(doubled_flow), np.ascontiguousarray(flow.transpose(0, 3, 1, 2)),
                        precision=precision)
    wanted = 2 * cv2.resize(flow[0], (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), wanted, atol=1e-4)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_few_channels_are_warped_as_many_are(height: int, width: int, channels: int, precision: str) -> None:
    image = random(height, width, channels)
    flow = 12 * random(height, width, 2, seed=1)  # beyond the border too
    few, = computed(lambda *nodes: Layers({}).sample_few(*nodes, 0), image, flow, precision=precision)
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    x, y = (x + flow[0, ..., 0]).clip(0, width - 1), (y + flow[0, ..., 1]).clip(0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = (left + 1).clip(max=width - 1), (top + 1).clip(max=height - 1)
    across, down = (x - left)[..., np.newaxis], (y - top)[..., np.newaxis]
    upper = image[0][top, left] * (1 - across) + image[0][top, right] * across
    lower = image[0][bottom, left] * (1 - across) + image[0][bottom, right] * across
    np.testing.assert_allclose(few[0].transpose(1, 2, 0), upper * (1 - down) + lower * down, atol=1e-4)
    many, = computed(lambda *nodes: Layers({}).sample(*nodes, 0), image, flow, precision=precision)
    np.testing.assert_allclose(few[0].transpose(1, 2, 0), many[0], atol=1e-4)
