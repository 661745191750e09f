"""Windows, and frames worked on in them."""

from pathlib import Path

import numpy as np
import pytest

from ov_film import memory
from ov_film.compiled import CompiledModels
from ov_film.configuration import COARSE_FLOW, FINE_ENCODER, STITCHED_ENCODER, FilmConfiguration
from ov_film.errors import FilmError
from ov_film.memory import memory_needed, window_for
from ov_film.model import FilmModel
from ov_film.pipeline import FilmPipeline
from ov_film.tiles import Canvas, check_tile, window_size, windows
from tests.conftest import picture

RELEASED = FilmConfiguration(7, (64, 128, 256, 512), (32, 64, 128, 256), (3, 3, 3, 3), (64, 128, 256, 256))
LITE = FilmConfiguration(5, (16, 32, 64, 128), (), (), (16, 32, 64, 128), image_levels=1,
                         projections=(8, 16, 16, 16), blends=True)


def psnr(first: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((first - other) ** 2) + 1e-12))


@pytest.mark.parametrize(("height", "width"), [(384, 384), (1088, 1920), (2176, 3840), (448, 3840), (3840, 448)])
@pytest.mark.parametrize("margin", [16, 67, 96])
def test_windows_cover_a_frame_and_overlap_by_two_margins(height: int, width: int, margin: int) -> None:
    found = windows(height, width, (384, 384), margin, 16)
    covered = np.zeros((height, width), int)
    for window in found:
        assert window.top % 16 == window.left % 16 == 0 and (window.height, window.width) == (384, 384)
        inner = window.inner(margin, height, width)
        covered[inner.at(0)] += 1
    assert covered.min() >= 1


def test_window_sizes_fit_the_area_and_waste_least() -> None:
    height, width = window_size(1088, 1920, 600_000, 80, 16)
    assert height * width <= 600_000 and height % 16 == width % 16 == 0
    square = windows(1088, 1920, (768, 768), 80, 16)
    assert len(windows(1088, 1920, (height, width), 80, 16)) * height * width <= len(square) * 768 * 768
    assert window_size(256, 256, 600_000, 80, 16) == (256, 256)


def test_a_field_laid_in_windows_comes_back() -> None:
    field = picture(400, 640)
    canvas = Canvas(400, 640, 3, 50)
    for window in windows(400, 640, (384, 384), 50, 16):
        canvas.add(*window.at(0), field[window.at(0)])
    assert np.abs(canvas.field() - field).max() < 1e-6


@pytest.fixture(scope="module")
def moving() -> list[np.ndarray]:
    """Three frames of a picture that moves by (9,-5) pixels each, too large for one window."""
    large = picture(500, 800)
    return [np.ascontiguousarray(large[20 + 5 * step:420 + 5 * step, 20 - 9 * step:660 - 9 * step])
            for step in range(3)]


@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_windows_give_what_the_whole_frame_gives(moving: list[np.ndarray], precision: str) -> None:
    whole = list(FilmModel.load("film_lite", "CPU", precision, tile="off").interpolate_sequence(moving, 2))
    model = FilmModel.load("film_lite", "CPU", precision, tile=384)
    for frame, other in zip(model.interpolate_sequence(moving, 2), whole, strict=True):
        assert frame.shape == other.shape and psnr(frame, other) > (70 if precision == "f32" else 45)
    assert str(model.report()).endswith("640x400 in windows of 384x384")


def test_the_direct_method_and_details_come_out_of_windows_too(moving: list[np.ndarray]) -> None:
    whole, tiled = (FilmModel.load("film_lite", "CPU", "f32", tile=tile) for tile in ("off", 384))
    for frame, other in zip(tiled.interpolate_sequence(moving[:2], 4, "direct"),
                            whole.interpolate_sequence(moving[:2], 4, "direct"), strict=True):
        assert psnr(frame, other) > 70
    details, others = tiled.inspect(*moving[:2]), whole.inspect(*moving[:2])
    assert psnr(details.warped_first, others.warped_first) > 60
    for flow, other in zip(details.forward_flows, others.forward_flows, strict=True):
        assert flow.shape == other.shape and np.abs(flow - other).mean() < 0.01


def test_all_fine_levels_but_the_coarsest_are_held_for_one_window_only(
        moving: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    encodings = []
    original = FilmPipeline.encode
    monkeypatch.setattr(FilmPipeline, "encode",
                        lambda self, frame: encodings.append(original(self, frame)) or encodings[-1])
    runs = []
    run = CompiledModels.run
    monkeypatch.setattr(CompiledModels, "run", lambda self, name, inputs: runs.append(name) or run(self, name, inputs))
    FilmModel.load("film_lite", "CPU", "f32", tile=384).interpolate(*moving[:2])
    assert [encoding.fine for encoding in encodings] == [None, None]
    # The coarsest of them is made once for each frame, and kept whole.
    height, width = (side >> LITE.stitched_level for side in (400, 640))
    for encoding in encodings:
        assert encoding.coarse[f"features_{LITE.stitched_level}"].shape[1:3] == [height, width]
    first_pair = runs.index(COARSE_FLOW)
    assert STITCHED_ENCODER not in runs[first_pair:] and FINE_ENCODER not in runs[:first_pair]


def test_margins_grow_with_the_motion(moving: list[np.ndarray]) -> None:
    model = FilmModel.load("film_lite", "CPU", "f32", tile=384)
    pipeline = model._network(moving[0], 1)
    still, moved = (pipeline._margin(pipeline.pair(pipeline.encode(moving[0]), pipeline.encode(other)))
                    for other in (moving[0], moving[2]))
    assert LITE.reach // 2 <= still < moved <= 96


def test_a_long_strip_is_cut_along_its_length_only(moving: list[np.ndarray]) -> None:
    strips = [np.ascontiguousarray(frame[100:164]) for frame in moving[:2]]
    whole, tiled = (FilmModel.load("film_lite", "CPU", "f32", tile=tile).interpolate(*strips) for tile in ("off", 384))
    assert psnr(whole, tiled) > 70


@pytest.mark.parametrize(("size", "most"), [((1088, 1920), 4e9), ((2176, 3840), 8e9)])
def test_large_pairs_stay_within_their_memory(size: tuple[int, int], most: float) -> None:
    for winograd in (False, True):  # int8 does without
        window = window_for(RELEASED, size, "bf16", "auto", winograd)
        assert window != size
        held = 300e6  # by the process anyway
        assert memory_needed(RELEASED, size, window, "bf16", 1, winograd) + held < most


def test_small_frames_are_worked_on_whole_and_memory_at_hand_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert window_for(RELEASED, (768, 1280), "bf16", "auto") == (768, 1280)
    assert window_for(LITE, (1088, 1920), "bf16", "auto") == (1088, 1920)
    before = window_for(RELEASED, (1088, 1920), "f32", "auto")
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: None)
    assert window_for(RELEASED, (1088, 1920), "f32", "auto") == before


@pytest.mark.parametrize("tile", [100, 0, -512, True, "big", None, 512.0])
def test_a_tile_that_is_none_is_refused(tile: object, small_folder: Path) -> None:
    with pytest.raises(FilmError, match=r"choose auto, off, or a whole number of pixels from 384"):
        FilmModel.load(small_folder, "CPU", tile=tile)


def test_tiles_are_auto_off_or_pixels() -> None:
    assert [check_tile(tile) for tile in ("auto", "off", 384, 1000)] == ["auto", "off", 384, 1000]
