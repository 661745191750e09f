"""The network that training builds, and what the engine makes of its tensors."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ov_film import pipeline
from ov_film.convert import convert
from ov_film.devices import choose_device
from ov_film.matching import REACH_X, REACH_Y
from ov_film.model import FilmModel
from tests.conftest import picture
from training import film_torch, pairs
from training.data import TRAINING
from training.film_torch import Film, FilmConfig, FilmOutput, film_tensors, load_film
from training.match import MatchRun
from training.matcher import places, products
from training.run import Plan, Run, train
from training.tracks import SMALLER, chained, track
from training.train import FusionRun
from training.warping import warp

SMALL = FilmConfig(4, fusion_filters=(4, 6, 8), levels=4, stages=2, projections=(2, 2, 2))
THREE_STAGES = FilmConfig(4, fusion_filters=(4, 6), levels=3, stages=3, image_levels=0, projections=(3, 2, 5))
CONFIGURATIONS = {
    "film_lite": FilmConfig(),
    "two_image_levels": FilmConfig(4, fusion_filters=(4, 6, 8), levels=4, stages=2, image_levels=2, projections=(2, 3),
                                   searches=False),
    "no_image_levels": THREE_STAGES,
    "colours": replace(THREE_STAGES, blends=False, searches=False),
    "released": replace(THREE_STAGES, flow_filters=(4, 6, 8), flow_convolutions=(3, 3, 3), projections=(), levels=7,
                        blends=False, searches=False),
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
        if film.matcher:
            film.matcher.get_submodule("residual").weight.normal_(0, 0.1)
            film.matcher.get_submodule("logits").weight.normal_(0, 0.1)
    return film


def made(film: Film, first: np.ndarray, last: np.ndarray, time: float = 0.5) -> FilmOutput:
    """What the network makes of two frames, both sides multiples of what its pyramid has."""
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
        for name, parameter in film.matcher.named_parameters():
            if name.startswith(("residual.", "logits.")):
                parameter.zero_()
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


def batches() -> tuple[torch.Tensor, torch.Tensor]:
    """Small pairs, as the matching learns from: of half of them nothing is known."""
    frames = torch.from_numpy(np.stack([picture(32, 64, seed) for seed in range(12)])).permute(0, 3, 1, 2)
    flows = torch.full((6, 4, 32, 64), 3.0)
    flows[:, 2:] = -3
    flows[:3] = torch.nan
    return frames.reshape(6, 2, 3, 32, 64), flows


def changed(run: Run, batch: object) -> set[str]:
    """Which parts of a film a step changes."""
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert np.isfinite(run.update(batch)).all()
    assert all(value.isfinite().all() for value in run.model.state_dict().values())
    state = run.model.state_dict()
    return {name.split(".")[0] for name, value in state.items() if not torch.equal(value, before[name])}


def test_training_the_matching_leaves_all_else_alone_and_bears_what_is_not_known() -> None:
    assert changed(MatchRun(network(SMALL), Plan(9, 0, 1e-2), torch.device("cpu")), batches()) == {"matcher"}


@pytest.mark.parametrize(("alone", "parts"), [(0, {"encoder", "projections", "fusion", "head"}),
                                              (1, {"projections", "fusion", "head"})])
def test_training_the_fusion_leaves_the_matching_alone(alone: int, parts: set[str]) -> None:
    frames = torch.from_numpy(np.stack([picture(64, 64, seed) for seed in range(6)])).permute(0, 3, 1, 2)
    run = FusionRun(network(SMALL), Plan(9, 0, 1e-2), torch.device("cpu"), alone)
    assert changed(run, frames.reshape(2, 3, 3, 64, 64)) == parts


class Stopping(list[object]):
    """Batches of which one can't be had."""

    def __getitem__(self, step: int) -> object:  # type: ignore[override]
        if step == 2:
            raise InterruptedError
        return super().__getitem__(step)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.run.SAVE_EVERY", 1)
    runs = [MatchRun(network(SMALL), Plan(4, 0, 1e-2), torch.device("cpu")) for _ in range(3)]
    train(runs[0], [batches()] * 4, tmp_path / "whole", workers=0)
    with pytest.raises(InterruptedError):
        train(runs[1], Stopping([batches()] * 4), tmp_path / "stopped", workers=0)
    assert runs[1].step == 2
    train(runs[2], [batches()] * 4, tmp_path / "stopped", workers=0)
    for name, value in runs[0].average.items():
        assert torch.equal(value, runs[2].average[name])


def test_the_matching_finds_what_moves_far() -> None:
    torch.manual_seed(2)
    wide = torch.nn.functional.normalize(torch.randn(1, 16, 26, 46), dim=1)
    for x, y in ((11, -5), (-8, 8), (0, 1)):
        first, last = wide[..., 8:18, 12:34], wide[..., 8 - y:18 - y, 12 - x:34 - x]
        alike, inside = products(first, last)
        flows = places(REACH_X, REACH_Y)
        seen = inside[flows.index((y, x))]
        assert seen.any() and (alike[0].argmax(0)[seen] == flows.index((y, x))).all()


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
    for end, far in ((6, -6), (0, 6)):  # at a quarter of the size
        flow = chained(steps, 3, end)
        np.testing.assert_allclose(np.nanmedian(flow[..., 0]), far, atol=0.3)
        np.testing.assert_allclose(np.nanmedian(flow[..., 1]), 0, atol=0.1)


def test_a_flow_is_not_known_where_it_leads_out_of_the_frame() -> None:
    _, steps = tracked(panning(8, 7))
    forward, backward = (chained(steps, 3, end)[..., 0] for end in (6, 0))
    assert np.isnan(forward[:, :3]).all() and np.isfinite(forward[:, 10:]).mean() > 0.8
    assert np.isnan(backward[:, -3:]).all() and np.isfinite(backward[:, :-10]).mean() > 0.8


def test_a_mirrored_pair_still_has_its_flows() -> None:
    frames = panning(8, 3)[::2].astype(np.float32)
    flows = np.stack([np.full((2, 96, 160), way, np.float32) for way in ([[[-16]], [[0]]], [[[16]], [[0]]])])
    for seed in range(8):
        first, last, (there, back) = pairs.mirrored((*frames, flows), np.random.default_rng(seed))
        x, y = (int(part[0, 0]) for part in there)
        assert np.array_equal(np.roll(first, (y, x), (0, 1))[32:64, 32:64], last[32:64, 32:64])
        assert np.array_equal(there, -back)


def test_pairs_to_learn_from_are_brought_onto_each_other_by_their_flows(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        photo = (picture(480, 640, number) * 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), photo)
    for clip in TRAINING:
        count = max(end for _, end in clip.ranges)
        np.save(tmp_path / f"{clip.name}.npy", np.zeros((count, 8, 8, 3), np.uint8))
        small, steps = tracked(panning(3, 24))
        repeated = np.resize(small, (count, *small.shape[1:])), np.resize(steps, (count - 1, *steps.shape[1:]))
        for kind, values in zip(("small", "steps"), repeated, strict=True):
            np.save(tmp_path / f"{clip.name}.{kind}.npy", values)
    gathered = pairs.Pairs(tmp_path, 10)
    frames, flows = gathered[4]
    assert frames.shape == (6, 2, 3, 96, 160) and flows.shape == (6, 4, 96, 160)
    again = gathered[4]
    assert torch.equal(frames, again[0]) and torch.equal(flows.nan_to_num(), again[1].nan_to_num())
    known = flows.nan_to_num()
    ends = [warp(frames[:, end], known[:, start:start + 2] / 2) for end, start in ((0, 2), (1, 0))]
    apart = (frames[:, 0] - frames[:, 1]).abs().mean()
    assert (ends[0] - ends[1]).abs().mean() < 0.7 * apart
