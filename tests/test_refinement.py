"""Flows that are found in the frames, from a coarse flow on."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ov_film.frames import read_frame
from ov_film.refinement import halved, moved, refined, searched
from tests.conftest import picture

Floats = np.ndarray


def moving(height: int, width: int, x: int, y: int) -> tuple[Floats, Floats]:
    """Two frames of a picture that moves by so many pixels."""
    large = picture(height + 40, width + 40)
    return tuple(np.ascontiguousarray(large[20 - dy:20 - dy + height, 20 - dx:20 - dx + width])
                 for dx, dy in ((0, 0), (x, y)))


def flows(height: int, width: int, x: float, y: float) -> tuple[Floats, Floats]:
    """Both flows of what moves so."""
    forward = np.broadcast_to(np.array([x, y], np.float32), (height, width, 2)).copy()
    return forward, -forward


@pytest.mark.parametrize(("guess", "motion"), [((0, 0), (3, -2)), ((6, 4), (9, 1)), ((-8, 0), (-8, 0))])
def test_flows_that_are_off_are_led_to_the_motion(guess: tuple[int, int], motion: tuple[int, int]) -> None:
    first, last = moving(128, 192, *motion)
    forward, backward = refined(first, last, *flows(128, 192, *guess))
    inner = slice(16, -16)
    assert np.abs(forward - motion)[inner, inner].mean() < 0.2
    assert np.abs(backward + motion)[inner, inner].mean() < 0.2


@pytest.mark.parametrize("motion", [(0, 0), (6, -4), (-12, 3)])
def test_a_search_in_the_frames_alone_finds_the_motion(motion: tuple[int, int]) -> None:
    forward, backward = searched(*moving(128, 192, *motion), *flows(128, 192, 40, 0))
    inner = slice(20, -20)
    assert np.abs(forward - motion)[inner, inner].mean() < 0.2
    assert np.abs(backward + motion)[inner, inner].mean() < 0.2


def test_a_search_yields_to_flows_that_bring_the_frames_nearer_to_each_other() -> None:
    wide = read_frame(Path(__file__).absolute().parent.parent / "samples" / "first.png")
    first, last = (np.ascontiguousarray(wide[:, start:start + 400]) for start in (0, 200))
    far = flows(360, 400, -200, 0)
    for flow, true in zip(searched(first, last, *far), far, strict=True):
        shown = flow[20:-20, 120:-120]  # in both frames, at the midpoint
        assert (shown == true[20:-20, 120:-120]).all(axis=2).mean() > 0.9


def test_an_image_is_read_at_a_share_of_its_flow_and_repeats_its_border() -> None:
    image = picture(40, 60)
    brought = moved(image, flows(40, 60, 8, -4)[0], 0.5)
    assert np.array_equal(brought[2:, :-4], image[:-2, 4:])
    assert np.array_equal(brought[:2, :-4], image[:1, 4:].repeat(2, 0))


def test_a_sharp_reading_between_pixels_is_nearer_to_a_wave_than_a_bilinear_one() -> None:
    def wave(shift: float) -> np.ndarray:
        return np.tile(np.sin((np.arange(60, dtype=np.float32) + shift) * 1.2)[:, None, None], (1, 1, 3))

    flow = flows(60, 1, 0, 0.5)[0]
    off = [np.abs(moved(wave(0), flow, 1, sharp=sharp) - wave(0.5))[4:-4].mean() for sharp in (True, False)]
    assert off[0] < off[1] / 3


def test_a_window_of_a_moved_image_is_that_of_the_whole() -> None:
    image, flow = picture(64, 96), np.random.default_rng(0).normal(0, 5, (64, 96, 2)).astype(np.float32)
    part = np.s_[16:48, 24:80]
    assert np.array_equal(moved(image, flow[part], 0.3, 16, 24), moved(image, flow, 0.3)[part])


def test_what_lies_on_each_other_stays_to_the_bit() -> None:
    frame = picture(64, 96)
    for flow in refined(frame, frame, *flows(64, 96, 0, 0)):
        assert not flow.any()


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (16, 1024), (1024, 16), (64, 1024)])
def test_the_smallest_and_the_longest_frames_are_refined_too(size: tuple[int, int]) -> None:
    first, last = moving(*size, 2, 1)
    forward, _ = refined(first, last, *flows(*size, 0, 0))
    assert np.abs(forward - (2, 1)).mean() < (0.6 if min(size) == 64 else 3)
    assert np.isfinite(searched(first, last, *flows(*size, 0, 0))).all()


def test_the_number_of_threads_makes_no_difference() -> None:
    first, last = picture(192, 320, 1), picture(192, 320, 2)
    threads, found = cv2.getNumThreads(), []
    try:
        for count in (1, 2, 5):
            cv2.setNumThreads(count)
            found.append(np.stack(refined(first, last, *flows(192, 320, 0, 0))))
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_a_halved_flow_is_its_mean_in_larger_pixels() -> None:
    flow = np.random.default_rng(0).random((8, 12, 2), np.float32)
    small = halved(flow)
    assert small.shape == (4, 6, 2) and np.allclose(small[1, 2], flow[2:4, 4:6].mean((0, 1)) / 2, atol=1e-6)
