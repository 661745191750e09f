"""Matching of small frames: their sizes, and that what goes far is found."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ov_film.frames import read_frame
from ov_film.matching import MOST_WIDE, matched_size
from ov_film.model import FilmModel
from ov_film.refinement import enlarged, shrunk

SAMPLE = Path(__file__).absolute().parent.parent / "samples" / "first.png"


@pytest.mark.parametrize(("size", "small"), [((384, 640), (96, 160)), ((16, 16), (4, 4)), ((960, 960), (240, 240)),
                                             ((544, 976), (68, 124)), ((1088, 1920), (136, 240)),
                                             ((2160, 3840), (136, 240)), ((16, 3840), (4, 240))])
def test_small_frames_are_a_quarter_or_less_and_no_larger_than_the_matching_reaches(
        size: tuple[int, int], small: tuple[int, int]) -> None:
    assert matched_size(*size) == small and max(small) <= MOST_WIDE
    assert shrunk(np.zeros((*size, 3), np.float32)).shape == (*small, 3)


def test_an_enlarged_flow_is_in_pixels_of_its_size() -> None:
    flow = enlarged(np.full((4, 8, 2), (1, -2), np.float32), 40, 160)
    assert flow.shape == (40, 160, 2)
    np.testing.assert_allclose(flow, np.full_like(flow, (20, -20)), rtol=1e-6)


@pytest.mark.parametrize(("scale", "width", "shift"), [(1, 448, 120), (1, 448, -90), (2, 1024, 200)])
def test_what_goes_far_is_found(scale: int, width: int, shift: int) -> None:
    wide = cv2.resize(read_frame(SAMPLE), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    first, middle, last = (np.ascontiguousarray(wide[:, start:start + width])
                           for start in (max(-shift, 0), abs(shift) // 2, max(shift, 0)))
    inner = slice(abs(shift), width - abs(shift))
    midpoint = FilmModel.load("film_lite", "CPU", "f32").interpolate(first, last)
    error, blended = (np.abs(frame - middle)[:, inner].mean() for frame in (midpoint, (first + last) / 2))
    assert error < 0.2 * blended
