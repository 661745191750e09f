"""What is drawn for people."""

import numpy as np
import pytest

from ov_film.figures import comparison, contradiction, difference, flow_picture, inspection, map_picture, occluded
from ov_film.frames import to_8_bits
from ov_film.model import FilmModel
from tests.conftest import picture

RED, YELLOW = (255, 0, 0), (255, 255, 0)


def flow(x: float, y: float, height: int = 20, width: int = 30) -> np.ndarray:
    return np.tile(np.array([x, y], np.float32), (height, width, 1))


def test_still_is_white_and_colours_grow_with_the_motion() -> None:
    assert (flow_picture(flow(0, 0), 5) == 255).all()
    saturation = [int(np.ptp(flow_picture(flow(x, 0), 10)[0, 0].astype(int))) for x in (1, 5, 10, 99)]
    assert np.allclose(saturation, [25.5, 127.5, 255, 255], atol=1)


def test_directions_have_the_hues_of_the_middlebury_wheel() -> None:
    assert tuple(flow_picture(flow(3, 0), 3)[0, 0]) == RED  # to the right
    left, up, down = (flow_picture(flow(*way), 3)[0, 0].astype(int) for way in ((-3, 0), (0, -3), (0, 3)))
    assert np.abs(down - YELLOW).max() < 40
    assert left[0] == 0 and left[1] > 100 and left[2] == 255  # between cyan and blue
    assert up[0] > 60 and up[1] == 0 and up[2] == 255  # between blue and magenta


def test_hues_go_round_without_a_step() -> None:
    angles = np.linspace(-np.pi, np.pi, 361, dtype=np.float32)
    drawn = flow_picture(np.stack([np.cos(angles), np.sin(angles)], -1)[np.newaxis], 1)[0].astype(int)
    assert np.abs(np.diff(drawn, axis=0)).max() < 30 and np.abs(drawn[0] - drawn[-1]).max() < 5


def test_maps_go_from_black_to_bright() -> None:
    drawn = map_picture(np.array([[0, 1, 2, 9]], np.float32), 2)[0].astype(int)
    assert drawn[0].sum() < 20 and drawn[0].sum() < drawn[1].sum() < drawn[2].sum() and (drawn[2] == drawn[3]).all()


def test_flows_that_lead_back_do_not_contradict_each_other() -> None:
    assert np.allclose(contradiction(flow(3, -2), flow(-3, 2)), 0)
    assert not occluded(flow(3, -2), flow(-3, 2)).any()


def test_flows_that_do_not_lead_back_contradict_each_other_by_so_many_pixels() -> None:
    assert np.allclose(contradiction(flow(3, 0), flow(1, 3)), 5)
    assert occluded(flow(3, 0), flow(1, 3)).all()
    assert not occluded(flow(40, 0), flow(-38, 0)).any(), "the bound grows with the motion"


def test_a_comparison_shows_the_frames_and_how_they_differ() -> None:
    frames = [np.full((200, 400, 3), value, np.float32) for value in (0, 32 / 255, 64 / 255)]
    drawn = comparison(*frames)
    for column, frame in enumerate(frames):
        assert (drawn[150, 200 + column * 416] == to_8_bits(frame[:1, :1])).all()
    brightness = [int(drawn[400, 200 + column * 416].sum()) for column in range(3)]
    assert brightness[0] == brightness[2] < brightness[1]
    assert np.allclose(difference(frames[0], frames[2]), 64 / 255)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (90, 30), (48, 400), (700, 64), (600, 8), (1, 1)])
def test_the_sheet_of_frames_of_any_shape_is_as_large_for_every_pair(model: FilmModel, height: int, width: int) -> None:
    sheets = [inspection(first, last, model.inspect(first, last)) for first, last in (
        (picture(height, width, 1), picture(height, width, 2)), (picture(height, width, 3), picture(height, width, 3)))]
    assert sheets[0].shape == sheets[1].shape and sheets[0].dtype == np.uint8
    assert 900 < sheets[0].shape[1] < 2000 and sheets[0].shape[0] < 2500
