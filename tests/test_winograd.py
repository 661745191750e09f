"""Winograd's minimal filtering agrees with the plain convolutions, and is used where it pays."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from ov_film import winograd
from ov_film.configuration import FilmConfiguration
from ov_film.devices import choose_device, core
from ov_film.model import FilmModel
from ov_film.winograd import use_winograd, winograd_pays


def _model(height: int, width: int, channels: tuple[int, int] = (128, 136), size: int = 3) -> ov.Model:
    """Convolve, add a bias and another field, activate, join with what went in, and halve."""
    random = np.random.default_rng(0)
    inputs, outputs = channels
    net, other = (ops.parameter([1, count, height, width], np.float32) for count in channels)
    kernel = (random.standard_normal((outputs, inputs, size, size)) / np.sqrt(size * size * inputs)).astype(np.float32)
    sides = [size // 2] * 2
    made = ops.convolution(net, ops.constant(kernel), [1, 1], sides, sides, [1, 1])
    made = ops.add(made, random.standard_normal((1, outputs, 1, 1)).astype(np.float32))
    made = ops.prelu(ops.add(other, made), np.float32(0.2))
    joined = ops.concat([net, made], 1)
    return ov.Model([joined, ops.avg_pool(made, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)], [net, other])


def _run(model: ov.Model, precision: str = "f32") -> list[np.ndarray]:
    random = np.random.default_rng(1)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    results = compiled([random.standard_normal(port.shape).astype(np.float32) for port in model.inputs])
    return [results[port].copy() for port in compiled.outputs]


def _convolutions(model: ov.Model) -> list[list[int]]:
    return [list(node.input_value(1).get_shape())[2:] for node in model.get_ops()
            if node.get_type_name() == "Convolution"]


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (35, 32), (34, 64), (4, 300), (2, 601)])
@pytest.mark.parametrize("strip", [1 << 30, 500_000, 1])
def test_it_agrees_with_the_plain_convolution(size: tuple[int, int], strip: int,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_STRIP_VALUES", strip)
    plain = _run(_model(*size))
    model = _model(*size)
    assert use_winograd(model, ov.Type.f32)
    assert set(map(tuple, _convolutions(model))) == {(1, 3)}
    for made, expected in zip(_run(model), plain, strict=True):
        assert np.abs(made - expected).max() < 2e-6 * np.abs(expected).max()


def test_strips_take_so_many_values_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for strip in (1 << 30, 6 * 4 * 48 * 128, 1):  # all, 4 of 8 sets of rows, one
        monkeypatch.setattr(winograd, "_STRIP_VALUES", strip)
        model = _model(32, 48)
        use_winograd(model, ov.Type.f32)
        counts.append(len(_convolutions(model)))
    assert counts == [6, 12, 48]


def test_bf16_stays_near_f32() -> None:
    if "bf16" not in choose_device("CPU").precisions:
        pytest.skip("this processor computes in f32 alone")
    expected, plain = _run(_model(32, 48)), _run(_model(32, 48), "bf16")
    model = _model(32, 48)
    use_winograd(model, ov.Type.bf16)
    for made, low, exact in zip(_run(model, "bf16"), plain, expected, strict=True):
        assert np.sqrt(((made - exact) ** 2).mean()) < 4 * np.sqrt(((low - exact) ** 2).mean())


def test_results_are_the_same_from_run_to_run() -> None:
    model = _model(48, 40)
    use_winograd(model, ov.Type.f32)
    once, again = _run(model), _run(model)
    assert all(np.array_equal(*pair) for pair in zip(once, again, strict=True))


@pytest.mark.parametrize("arguments", [(16, 48), (32, 48, (48, 128)), (32, 48, (128, 48)), (32, 48, (128, 128), 1)])
def test_narrow_small_and_other_convolutions_stay(arguments: tuple) -> None:
    model = _model(*arguments)
    before = len(model.get_ops())
    assert not use_winograd(model, ov.Type.f32)
    assert len(model.get_ops()) == before


def test_quantized_kernels_stay() -> None:
    net = ops.parameter([1, 128, 32, 48], np.float32)
    kernel = ops.multiply(ops.convert(ops.constant(np.ones((128, 128, 3, 3), np.int8)), "f32"), np.float32(0.1))
    made = ops.convolution(net, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    assert not use_winograd(ov.Model([made], [net]), ov.Type.f32)


def test_one_kernel_is_transformed_once_however_often_it_is_used() -> None:
    net = ops.parameter([1, 128, 32, 48], np.float32)
    kernel = ops.constant(np.ones((128, 128, 3, 3), np.float32))
    made = [ops.convolution(part, kernel, [1, 1], [1, 1], [1, 1], [1, 1]) for part in (net, ops.relu(net))]
    model = ov.Model(made, [net])
    assert use_winograd(model, ov.Type.f32)
    kernels = [node for node in model.get_ops() if node.get_type_name() == "Constant" and len(node.get_output_shape(0))
               == 4 and node.get_output_shape(0)[-1] == 3]
    assert len(kernels) == 6


def test_it_is_for_the_full_model_on_a_cpu(small_folder: Path) -> None:
    full = FilmConfiguration(7, (64, 128, 256, 512), (32, 64, 128, 256), (3, 3, 3, 3), (64, 128, 256, 512))
    assert winograd_pays(full, "CPU") and not winograd_pays(full, "GPU") and not winograd_pays(full, "NPU")
    for name in ("film_lite", small_folder):
        assert not FilmModel.load(name, "CPU", "f32")._winograd
