"""A model's frames at any times between two ends, and its identity."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ov_film.errors import FilmError
from ov_film.model import METHODS, FilmModel, depth
from ov_film.pipeline import FilmPipeline
from tests.conftest import picture


def test_between_gives_what_interpolate_gives_and_encodes_each_end_once(model: FilmModel,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [picture(24, 40, seed) for seed in range(3)]
    encoded = []
    encode = FilmPipeline.encode
    monkeypatch.setattr(FilmPipeline, "encode", lambda self, frame: encoded.append(frame) or encode(self, frame))
    ends = [model.end(frame) for frame in frames]
    times = [Fraction(1, 3), Fraction(1, 2), Fraction(4, 5)]
    for method in METHODS:
        for pair in pairwise(ends):
            assert len(list(model.between(*pair, times, method))) == 3
    assert all(sum(each is frame for each in encoded) == 1 for frame in frames)
    for method in METHODS:
        for time, frame in zip(times, model.between(*ends[:2], times, method), strict=True):
            reached = time if method == "direct" else Fraction(round(time * 64), 64)
            assert np.allclose(frame, model.interpolate(*frames[:2], float(reached), method), atol=1e-6)


def test_between_rounds_times_that_no_halving_reaches_and_keeps_their_number(model: FilmModel) -> None:
    frames = [picture(24, 40, seed) for seed in range(2)]
    ends = [model.end(frame) for frame in frames]
    near, same, other, far = model.between(*ends, [Fraction(1, 1000), Fraction(300, 601), Fraction(301, 601),
                                                   Fraction(999, 1000)])
    assert near is frames[0] and far is frames[1]
    assert np.array_equal(same, other) and np.array_equal(same, model.interpolate(*frames))
    assert list(model.between(*ends, [])) == []


@pytest.mark.parametrize("multiplier", [-1, 65])
def test_a_multiplier_out_of_bounds_is_named(model: FilmModel, multiplier: int) -> None:
    with pytest.raises(FilmError, match=f"Multiplier {multiplier} is not between 0 and 64: choose one that is"):
        model.interpolate_sequence([], 1, multiplier=multiplier)


def test_memory_is_told_for_as_many_halvings_as_a_multiplier_takes() -> None:
    assert [depth(multiplier) for multiplier in (1, 2, 3, 8, 63, 64)] == [0, 1, 6, 3, 6, 6]
    assert [depth(multiplier) for multiplier in (10, 15, 40, 256)] == [6, 6, 6, 8]


def test_between_says_what_is_wrong(model: FilmModel) -> None:
    ends = [model.end(picture(24, size, 1)) for size in (40, 48)]
    with pytest.raises(FilmError, match="Frame 3 is 40x24 and frame 4 is 48x24"):
        list(model.between(*ends, [Fraction(1, 2)], names=("Frame 3", "frame 4")))
    with pytest.raises(FilmError, match="Method is 'fast'"):
        list(model.between(ends[0], ends[0], [Fraction(1, 2)], "fast"))  # type: ignore[arg-type]
    with pytest.raises(FilmError, match="Frame 7 is uint8"):
        model.end(np.zeros((4, 4, 3), np.uint8), "Frame 7")


def test_what_makes_other_frames_has_another_identity(small_folder: Path) -> None:
    models = [FilmModel.load(small_folder, "CPU", precision, tile=tile) for precision, tile in
              (("f32", "auto"), ("f32", "off"), ("f32", 384), ("f32", "auto"))]
    assert len({model.identity for model in models}) == 3 and models[0].identity == models[3].identity
