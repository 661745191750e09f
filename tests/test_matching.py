"""Flows that miss what moves farther than it is large, and what comparing patches makes of them."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ov_film import FilmModel
from ov_film.devices import core
from ov_film.matching import build_matching

Floats = NDArray[np.float32]


def scene(height: int, width: int, seed: int = 1) -> Floats:
    """Return a smooth picture without sharp detail, (height,width,3) in [0.2,0.6]."""
    coarse = np.random.default_rng(seed).random((8, 8, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 0.4 + 0.2


def with_thing(picture: Floats, y: int, x: int, side: int) -> Floats:
    """Return the picture with a red square that has a pattern of its own."""
    picture = picture.copy()
    thing = np.array([0.8, 0.1, 0.1], np.float32) + scene(side, side, 2) * 0.4
    picture[y:y + side, x:x + side] = thing.clip(0, 1)
    return picture


def corrected(first: Floats, last: Floats, forward: Floats | None = None,
              backward: Floats | None = None) -> tuple[Floats, Floats]:
    """Return both flows of level 3 as matching leaves them; they are 0 where none are given."""
    height, width = first.shape[:2]
    model = core().compile_model(build_matching("matching", 3, height, width, 3), "CPU",
                                 {"INFERENCE_PRECISION_HINT": "f32"})
    still = np.zeros((height, width, 2), np.float32)
    flows = [still if flow is None else flow for flow in (forward, backward)]
    found = model({"first_features_3": first[np.newaxis], "last_features_3": last[np.newaxis],
                   "forward_flow_3": flows[0][np.newaxis], "backward_flow_3": flows[1][np.newaxis]})
    return found["forward_match_3"][0], found["backward_match_3"][0]


@pytest.mark.parametrize(("height", "width"), [(48, 80), (45, 75)])
def test_a_small_thing_that_moves_far_is_found_in_both_directions(height: int, width: int) -> None:
    picture = scene(height, width)
    first, last = with_thing(picture, 20, 30, 7), with_thing(picture, 23, 39, 7)
    forward, backward = corrected(first, last)
    np.testing.assert_allclose(np.median(forward[22:25, 32:35], (0, 1)), [9, 3])
    np.testing.assert_allclose(np.median(backward[25:28, 41:44], (0, 1)), [-9, -3])


def test_the_flow_of_what_it_leads_to_rightly_stays() -> None:
    picture = scene(48, 80)
    flow = np.random.default_rng(0).normal(0, 0.3, (48, 80, 2)).astype(np.float32)
    forward, backward = corrected(picture, picture, flow, -flow)
    np.testing.assert_array_equal(forward, flow)
    np.testing.assert_array_equal(backward, -flow)


@pytest.mark.parametrize(("gain", "lift"), [(0.6, 0.0), (0.7, 0.25), (1.2, 0.0), (0.0, 0.0)])
def test_flows_stay_in_a_fade(gain: float, lift: float) -> None:
    # A slope has what is as light as it was, a step aside.
    slope = np.linspace(0.1, 0.8, 80, dtype=np.float32)[:, np.newaxis] + 0.3 * scene(48, 80) - 0.1
    for match in corrected(slope, slope * np.float32(gain) + np.float32(lift)):
        np.testing.assert_array_equal(match, 0)


def test_what_has_no_like_in_the_other_frame_keeps_its_flow() -> None:
    picture = scene(48, 80)
    forward, backward = corrected(with_thing(picture, 20, 30, 7), picture)
    np.testing.assert_array_equal(forward[22:25, 32:35], 0)
    np.testing.assert_array_equal(backward, 0)


def test_the_bundled_model_moves_a_small_thing_that_moves_far() -> None:
    picture = scene(128, 256)
    first, truth, last = (with_thing(picture, 44, x, 40) for x in (80, 112, 144))
    midpoint = FilmModel.load("film_lite", "CPU", "f32").interpolate(first, last)
    place = np.s_[44:84, 112:152]
    error, blended = (np.sqrt(np.mean((frame[place] - truth[place]) ** 2)) for frame in (midpoint, (first + last) / 2))
    assert error < blended / 2
