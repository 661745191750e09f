"""The network that training builds, and what the engine makes of its tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ov_film import pipeline
from ov_film.convert import convert
from ov_film.devices import choose_device
from ov_film.model import FilmModel
from tests.conftest import picture
from training import film_torch
from training.film_torch import Film, FilmConfig, FilmOutput, film_tensors, load_film
from training.flow import FlowRun
from training.mix import mix
from training.project import factors
from training.samples import found_flows
from training.train import Run

CONFIGURATIONS = {
    "film_lite": FilmConfig(),
    "two_image_levels": FilmConfig(4, (4, 6), (4, 6, 8), stages=2, image_levels=2, projections=(2, 3)),
    "no_image_levels": FilmConfig(4, (4, 6, 8), (4, 6), stages=3, image_levels=0, projections=(3, 2, 5)),
    "colours": FilmConfig(4, (4, 6, 8), (4, 6), stages=3, image_levels=0, projections=(3, 2, 5), blends=False),
    "released": FilmConfig(4, (4, 6, 8), (4, 6), stages=3, image_levels=0, projections=(), flow_level=0, blends=False),
}


def network(config: FilmConfig) -> Film:
    """A network with random weights that moves and blends."""
    torch.manual_seed(1)
    film = Film(config).eval()
    with torch.no_grad():
        film.head.weight.normal_(0, 0.3)
        film.head.bias.normal_(0, 0.3)
        for predictor in film.predictors:
            predictor.layers()[-1].weight.normal_(0, 3)
    return film


def made(film: Film, first: np.ndarray, last: np.ndarray, time: float = 0.5) -> FilmOutput:
    """What the network makes of two frames, both sides multiples of 64."""
    frames = torch.from_numpy(np.stack([first, last])).permute(0, 3, 1, 2)
    with torch.no_grad():
        images, features = film.encode(frames)
        return film.fuse(images, features, film.estimate_flows(images, features), time)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_engine_gives_what_the_trained_network_gives(name: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (film_torch, pipeline):  # a search leaps at the slightest difference
        monkeypatch.setattr(module, "refined", lambda first, last, forward, backward: (forward, backward))
    film = network(CONFIGURATIONS[name])
    np.savez(tmp_path / "film.npz", **film_tensors(film))
    convert(tmp_path / "film.npz", tmp_path / "model")
    model = FilmModel.load(tmp_path / "model", "CPU", "f32")
    first, last = picture(64, 128, 1), picture(64, 128, 2)
    for time in (0.5, 0.25, 0.9):
        expected = made(film, first, last, time)
        image = expected.image[0].permute(1, 2, 0).clamp(0, 1).numpy()
        assert np.abs(model.interpolate(first, last, time, "direct") - image).max() < 1e-4
    flows = model.inspect(first, last).forward_flows
    assert np.abs(flows[0]).max() > 1  # so that warps are among what is compared
    for flow, true in zip(flows, expected.flows, strict=False):
        assert np.abs(flow - true[0].permute(1, 2, 0).numpy()).max() < 1e-3


def test_the_engine_searches_the_frames_as_training_does(tmp_path: Path) -> None:
    film = network(CONFIGURATIONS["film_lite"])
    np.savez(tmp_path / "film.npz", **film_tensors(film))
    convert(tmp_path / "film.npz", tmp_path / "model")
    wide = picture(64, 140, 1)
    first, last = (np.ascontiguousarray(wide[:, start:start + 128]) for start in (0, 3))
    expected = made(film, first, last).image[0].permute(1, 2, 0).clamp(0, 1).numpy()
    midpoint = FilmModel.load(tmp_path / "model", "CPU", "f32").interpolate(first, last)
    assert np.square(midpoint - expected).mean() < 1e-5


@pytest.mark.parametrize("precision", choose_device("CPU").precisions)
def test_the_warped_frames_alone_come_back_exactly_where_nothing_moves(precision: str, tmp_path: Path) -> None:
    film = network(CONFIGURATIONS["film_lite"])
    with torch.no_grad():
        film.head.bias[3:] = 50  # none of its own colours
        for predictor in film.predictors:
            predictor.layers()[-1].weight.zero_()
    np.savez(tmp_path / "film.npz", **film_tensors(film))
    convert(tmp_path / "film.npz", tmp_path / "model")
    frame = picture(64, 96)
    midpoint = FilmModel.load(tmp_path / "model", "CPU", precision).interpolate(frame, frame)
    assert np.abs(midpoint - frame).max() < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_tensors_come_back_as_the_network_that_they_were_of(name: str, tmp_path: Path) -> None:
    film = network(CONFIGURATIONS[name])
    np.savez(tmp_path / "film.npz", **film_tensors(film))
    loaded = load_film(tmp_path / "film.npz")
    assert loaded.config == film.config
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, film.state_dict()[name])


def test_runs_are_mixed_part_by_part(tmp_path: Path) -> None:
    names = ("feat_net/sub_extractor/cfeat_conv_0/kernel", "predict_flow_0/conv_0/kernel", "fusion/conv_0/bias")
    runs = [tmp_path / f"{value}.npz" for value in (1, 4)]
    for value, run in zip((1, 4), runs, strict=True):
        np.savez(run, **{name: np.full(3, value, np.float16) for name in names})
    mix(runs, {"encoder": [1, 1], "flow": [0, 1], "fusion": [2, 1]}, tmp_path / "mixed.npz")
    assert [float(np.load(tmp_path / "mixed.npz")[name][0]) for name in names] == [2.5, 4, 2]


def test_training_flow_predictors_leaves_all_else_alone() -> None:
    film = network(FilmConfig(4, (4, 6), (4, 6), levels=6, stages=2, projections=(2, 2)))
    before = {name: value.clone() for name, value in film.state_dict().items()}
    run = FlowRun(film, torch.device("cpu"))
    frames = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(6)])).permute(0, 3, 1, 2)
    run.train_step(frames.reshape(2, 3, 3, 64, 64), torch.full((2, 2, 2, 64, 64), 9.0), 0.9, 1e-2, False)
    changed = {".".join(name.split(".")[:2]) for name, value in film.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed == {"predictors.0", "predictors.1"}


def test_training_goes_on_where_a_flow_is_not_known() -> None:
    film = network(FilmConfig(4, (4, 6), (4, 6), levels=6, stages=2, projections=(2, 2)))
    before = {name: value.clone() for name, value in film.state_dict().items()}
    frames = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(6)])).permute(0, 3, 1, 2)
    truth = torch.full((2, 2, 2, 64, 64), 3.0)
    truth[0] = torch.nan
    errors = Run(film, torch.device("cpu")).train_step(frames.reshape(2, 3, 3, 64, 64), truth, 0.5, 1e-2, False)
    assert np.isfinite(errors).all()
    assert all(value.isfinite().all() for value in film.state_dict().values())
    changed = {name.split(".")[0] for name, value in film.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"encoder", "predictors", "projections", "fusion", "head"}


def test_flows_of_real_frames_are_found_at_the_middle_ones_pixels() -> None:
    wide = (picture(96, 160, 3) * 255).astype(np.uint8)
    flows = found_flows(np.stack([wide[16:80, 32 + shift : 96 + shift] for shift in (6, 0, -6)]))
    inner = flows[:, :, 16:48, 16:48]
    assert np.isfinite(inner).mean() > 0.8
    np.testing.assert_allclose(np.nanmedian(inner[:, 0], axis=(1, 2)), [12, -12], atol=0.5)


def test_as_many_projections_as_features_lose_nothing_and_fewer_keep_what_counts() -> None:
    torch.manual_seed(0)
    features, kernel = torch.randn(6, 1000).double(), torch.randn(6, 4).double()
    features[0] *= 100
    moments = features @ features.T / 1000
    for kept, most in ((6, 1e-5), (1, 0.1)):
        projection, made = factors(kernel, moments, 6, kept)
        lost = features.T @ (projection @ made - kernel)
        assert lost.norm() < most * (features.T @ kernel).norm()
