"""The network that training builds, and what the engine makes of its tensors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ov_film import pipeline
from ov_film.configuration import REACH
from ov_film.convert import convert
from ov_film.devices import choose_device
from ov_film.model import FilmModel
from tests.conftest import picture
from training import film_torch
from training.film_torch import Film, FilmConfig, FilmOutput, film_tensors, load_film, searched_frames
from training.flow import FlowRun
from training.mix import mix
from training.predictors import compared
from training.samples import mirrored
from training.search import searching
from training.tracks import SMALLER, flows_through, track
from training.train import Run, wanted_flows

SMALL = FilmConfig(4, (4, 6, 8), (4, 6), levels=6, stages=2, projections=(2, 2), flow_convolutions=(2, 3, 2),
                   descriptors=6)
THREE_STAGES = FilmConfig(4, (4, 6, 8), (4, 6), stages=3, image_levels=0, projections=(3, 2, 5),
                          flow_convolutions=(3, 3, 3), descriptors=7)
CONFIGURATIONS = {
    "film_lite": FilmConfig(),
    "two_image_levels": FilmConfig(4, (4, 6, 8), (4, 6, 8), stages=2, image_levels=2, projections=(2, 3),
                                   flow_convolutions=(1, 4, 2), descriptors=0, searches=False),
    "no_image_levels": THREE_STAGES,
    "colours": replace(THREE_STAGES, blends=False, searches=False),
    "released": replace(THREE_STAGES, projections=(), flow_level=0, descriptors=0, blends=False,
                        searches=False),
}


def network(config: FilmConfig) -> Film:
    """A network with random weights that moves and blends."""
    torch.manual_seed(1)
    film = Film(config).eval()
    with torch.no_grad():
        film.head.weight.normal_(0, 0.3)
        film.head.bias.normal_(0, 0.3)
        for predictor in film.predictors:
            predictor.layers()[-1].weight.normal_(0, 0.5)
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
    film = network(SMALL)
    before = {name: value.clone() for name, value in film.state_dict().items()}
    run = FlowRun(film, torch.device("cpu"))
    frames = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(6)])).permute(0, 3, 1, 2)
    run.train_step(frames.reshape(2, 3, 3, 64, 64), torch.full((2, 2, 2, 64, 64), 9.0), 0.9, 1e-2, False)
    changed = {".".join(name.split(".")[:2]) for name, value in film.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed == {"predictors.0", "predictors.1", "predictors.2"}


@pytest.mark.parametrize(("x", "y"), [(3, -2), (-4, 4), (0, 1)])
def test_comparisons_are_highest_at_the_flow(x: int, y: int) -> None:
    torch.manual_seed(2)
    wide = torch.nn.functional.normalize(torch.randn(1, 16, 26, 36), dim=1)
    first, last = wide[..., 5:-5, 5:-5], wide[..., 5 - y:21 - y, 5 - x:31 - x]
    alike = compared(torch.cat([first, last]))
    flows = [(x, y) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
    there, back = (part[:, 5:-5, 5:-5].argmax(0) for part in alike)
    assert alike.shape == (2, len(flows), 16, 26)
    assert (there == flows.index((x, y))).all() and (back == flows.index((-x, -y))).all()


def test_a_fusion_that_begins_to_search_gives_a_mean_of_what_it_gave_and_of_what_is_found() -> None:
    former = network(replace(SMALL, searches=False))
    with torch.no_grad():
        former.head.weight[3:] = 0
        former.head.bias[3:] = 9
    ends = [torch.from_numpy(picture(64, 64, seed)).permute(2, 0, 1)[None] for seed in (0, 1)]
    found = searched_frames(torch.cat(ends), 0.5).chunk(2, 1)
    mean = 0.55 * former(*ends).image + 0.225 * (found[0] + found[1])
    assert torch.allclose(searching(former)(*ends).image, mean, atol=2e-3)


def test_training_goes_on_where_a_flow_is_not_known() -> None:
    film = network(SMALL)
    before = {name: value.clone() for name, value in film.state_dict().items()}
    frames = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(6)])).permute(0, 3, 1, 2)
    truth = torch.full((2, 2, 2, 64, 64), 3.0)
    truth[0] = torch.nan
    errors = Run(film, torch.device("cpu")).train_step(frames.reshape(2, 3, 3, 64, 64), truth, 0.5, 1e-2, False)
    assert np.isfinite(errors).all()
    assert all(value.isfinite().all() for value in film.state_dict().values())
    changed = {name.split(".")[0] for name, value in film.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"encoder", "predictors", "projections", "fusion", "head"}


def panning(shift: int, count: int, height: int = 96, width: int = 160) -> np.ndarray:
    """Frames whose content goes to the left by a shift a frame."""
    wide = (picture(height, width + shift * count, 3) * 255).astype(np.uint8)
    return np.stack([wide[:, shift * number : shift * number + width] for number in range(count)])


def tracked(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A clip's frames at a quarter of the size, and the flows from each to the next and back."""
    count, height, width = len(frames), frames.shape[1] // SMALLER, frames.shape[2] // SMALLER
    small = np.zeros((count, height, width, 3), np.uint8)
    steps = np.zeros((count - 1, 2, height, width, 2), np.float16)
    track(frames, small, steps)
    return small, steps


def test_flows_of_real_frames_are_tracked_from_frame_to_frame() -> None:
    _, steps = tracked(panning(8, 7))
    part = (slice(4, 20), slice(14, 26))
    flows = flows_through(steps, 3, 3, part, (48, 64))  # 4 times the part
    np.testing.assert_allclose(np.nanmedian(flows[0, 0]), -48, atol=2)
    np.testing.assert_allclose(np.nanmedian(flows[1, 0]), 48, atol=2)
    np.testing.assert_allclose(np.nanmedian(flows[:, 1]), 0, atol=1)


def test_a_flow_is_not_known_where_it_leads_out_of_the_frame() -> None:
    _, steps = tracked(panning(8, 7))
    forward, backward = flows_through(steps, 3, 3, (slice(0, 24), slice(0, 40)), (160, 96))
    assert np.isnan(forward[0, :, :12]).all() and np.isfinite(forward[0, :, 40:]).mean() > 0.8
    assert np.isnan(backward[0, :, -12:]).all() and np.isfinite(backward[0, :, :-40]).mean() > 0.8


def test_a_mirrored_pair_still_has_its_flows() -> None:
    frames = panning(8, 3)[::2]
    flows = np.stack([np.full((2, 96, 160), way) for way in ([[[-16.0]], [[0.0]]], [[[16.0]], [[0.0]]])])
    for seed in range(8):
        (first, last), (there, back) = mirrored(frames, flows, True, np.random.default_rng(seed))
        x, y = (int(part[0, 0]) for part in there)
        assert np.array_equal(np.roll(first, (y, x), (0, 1))[32:64, 32:64], last[32:64, 32:64])
        assert np.array_equal(there, -back)


def test_a_coarse_flow_is_the_mean_of_what_is_known_in_a_pixel() -> None:
    truth = torch.full((1, 2, 8, 8), 6.0)
    truth[:, :, :4, 4:] = torch.nan
    truth[:, :, 4:, 4:6] = torch.nan
    (coarse,) = wanted_flows(truth, range(2, 3))
    expected = torch.tensor([[1.5, torch.nan], [1.5, 1.5]])
    assert torch.equal(torch.nan_to_num(coarse[0, 0], -1), torch.nan_to_num(expected, -1))
