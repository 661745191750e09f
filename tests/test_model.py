"""Running a model: pairs, recursion, times, sizes, bad frames."""

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ov_film import compiled, memory
from ov_film import model as model_module
from ov_film.compiled import CompiledModels
from ov_film.configuration import MODELS
from ov_film.convert import convert
from ov_film.devices import Device, choose_device, choose_precision, find_devices
from ov_film.errors import FilmError
from ov_film.model import FilmModel
from ov_film.pipeline import Encoding, FilmPipeline
from tests.conftest import picture
from tests.film_tensorflow import Film


def test_the_midpoint_is_a_clamped_frame_of_the_same_size(model: FilmModel) -> None:
    frame = model.interpolate(picture(30, 45, 1), picture(30, 45, 2))
    assert frame.shape == (30, 45, 3) and frame.dtype == np.float32
    assert frame.min() == 0 and frame.max() <= 1  # random weights overshoot, so clamping shows


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 9), (64, 64), (65, 63)])
def test_any_size_comes_back_as_it_went_in(model: FilmModel, size: tuple[int, int]) -> None:
    frames = list(model.interpolate_sequence([picture(*size, 1), picture(*size, 2)], 1))
    assert [frame.shape for frame in frames] == [(*size, 3)] * 3


def test_recursion_gives_every_frame_in_order_and_sources_bit_for_bit(model: FilmModel) -> None:
    sources = [picture(24, 40, seed) for seed in range(3)]
    frames = list(model.interpolate_sequence(iter(sources), 2))
    assert len(frames) == 9
    for index, source in enumerate(sources):
        assert frames[4 * index] is source
    middle = model.interpolate(sources[0], sources[1])
    assert np.array_equal(frames[2], middle)
    assert np.array_equal(frames[1], model.interpolate(sources[0], middle))
    assert np.array_equal(frames[7], model.interpolate(frames[6], sources[2]))


def test_direct_is_the_midpoint_in_the_middle_and_scales_the_flow_elsewhere(model: FilmModel) -> None:
    sources = [picture(24, 40, seed) for seed in range(3)]
    frames = list(model.interpolate_sequence(sources, 2, "direct"))
    assert len(frames) == 9 and all(frames[4 * index] is source for index, source in enumerate(sources))
    assert np.array_equal(frames[2], model.interpolate(sources[0], sources[1]))
    assert np.array_equal(frames[5], model.interpolate(sources[1], sources[2], 0.25, "direct"))
    assert not np.array_equal(frames[5], model.interpolate(sources[1], sources[2], 0.25))


def test_direct_finds_one_flow_for_each_gap_and_takes_any_time(model: FilmModel,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = FilmPipeline.pair
    monkeypatch.setattr(FilmPipeline, "pair", lambda *pair: asked.append(pair) or original(*pair))
    first, last = picture(24, 40, 1), picture(24, 40, 2)
    assert len(list(model.interpolate_sequence([first, last], 3, "direct"))) == 9
    assert len(asked) == 1
    near = [model.interpolate(first, last, time, "direct") for time in (0.3, 0.301)]
    assert not np.array_equal(*near) and np.abs(near[0] - near[1]).mean() < 0.01
    assert model.interpolate(first, last, 0.0, "direct") is first
    assert model.interpolate(first, last, 1.0, "direct") is last


def test_a_direct_frame_is_what_tensorflow_makes_of_scaled_flows(small_film: tuple[Path, Film],
                                                                 model: FilmModel) -> None:
    first, last = picture(32, 48, 1), picture(32, 48, 2)
    expected = small_film[1](first[None], last[None], 0.25)["image"].numpy()[0].clip(0, 1)
    assert np.abs(model.interpolate(first, last, 0.25, "direct") - expected).max() < 1e-4


def test_an_unknown_method_is_refused(model: FilmModel) -> None:
    for run in (lambda: model.interpolate(picture(8, 8), picture(8, 8), 0.5, "fast"),
                lambda: model.interpolate_sequence([], 1, "fast")):
        with pytest.raises(FilmError, match="Method is 'fast': choose one of recursive, direct"):
            run()


@pytest.mark.parametrize(("count", "times"), [(0, 3), (1, 3), (4, 0)])
def test_nothing_to_interpolate_passes_through_without_the_network(model: FilmModel, count: int, times: int) -> None:
    sources = [picture(8, 8, seed) for seed in range(count)]
    frames = list(model.interpolate_sequence(sources, times))
    assert len(frames) == count and all(frame is source for frame, source in zip(frames, sources, strict=True))
    assert model.report().resolution is None


@pytest.mark.parametrize("times", [1, 2, 3])
def test_each_frame_is_encoded_once_and_few_encodings_live(model: FilmModel, times: int,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    class _Watched(Encoding):
        __hash__ = object.__hash__

    living: weakref.WeakSet[_Watched] = weakref.WeakSet()
    counts = {"encoded": 0, "most": 0}
    original = FilmPipeline.encode

    def encode(self: FilmPipeline, frame: np.ndarray) -> Encoding:
        encoding = original(self, frame)
        watched = _Watched(**vars(encoding))
        living.add(watched)
        gc.collect()
        counts["encoded"] += 1
        counts["most"] = max(counts["most"], len(living))
        return watched

    monkeypatch.setattr(FilmPipeline, "encode", encode)
    frames = list(model.interpolate_sequence([picture(16, 16, seed) for seed in range(4)], times))
    assert len(frames) == 3 * 2 ** times + 1
    assert counts == {"encoded": 4 + 3 * (2 ** (times - 1) - 1), "most": times + 1}


def test_frames_are_taken_only_as_they_are_needed(model: FilmModel) -> None:
    taken = []

    def frames() -> Iterator[np.ndarray]:
        for seed in range(100):
            taken.append(seed)
            yield picture(16, 16, seed)

    recursion = model.interpolate_sequence(frames(), 2)
    for _ in range(6):
        next(recursion)
    assert taken == [0, 1, 2]


def test_time_is_reached_by_halving(model: FilmModel) -> None:
    first, last = picture(16, 24, 1), picture(16, 24, 2)
    quarters = list(model.interpolate_sequence([first, last], 2))
    for index, time in enumerate((0, 0.25, 0.5, 0.75, 1)):
        assert np.array_equal(model.interpolate(first, last, time), quarters[index])
    finest = list(model.interpolate_sequence([first, last], 6))
    assert np.array_equal(model.interpolate(first, last, 1 / 3), finest[21])
    assert np.array_equal(model.interpolate(first, last, 0.004), first)


@pytest.mark.parametrize("time", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_time_outside_the_gap_is_refused(model: FilmModel, time: float) -> None:
    with pytest.raises(FilmError, match=f"Time {time} is not between 0"):
        model.interpolate(picture(8, 8), picture(8, 8), time)


@pytest.mark.parametrize("times", [-1, 17, 1.5, True, None])
def test_a_depth_out_of_range_is_refused_at_once(model: FilmModel, times: int) -> None:
    with pytest.raises(FilmError, match=f"Times {times} is not a whole number from 0 to 16"):
        model.interpolate_sequence([], times)


def test_frames_of_two_sizes_are_refused_by_name(model: FilmModel) -> None:
    with pytest.raises(FilmError, match="The first frame is 9x8 and the last frame is 8x8: resize"):
        model.interpolate(picture(8, 9), picture(8, 8))
    with pytest.raises(FilmError, match="Frame 2 is 8x8 and frame 3 is 9x8: resize"):
        list(model.interpolate_sequence([picture(8, 8), picture(8, 8), picture(8, 9)], 1))


@pytest.mark.parametrize(("frame", "message"), [
    (np.zeros((8, 8, 3), np.uint8), "uint8 where a NumPy array of float32"),
    (np.zeros((8, 8, 3)), "float64 where a NumPy array of float32"),
    ([[1.0]], "list where a NumPy array of float32"),
    (np.zeros((8, 8), np.float32), r"shape \(8, 8\) where \(height, width, 3\)"),
    (np.zeros((8, 8, 4), np.float32), r"shape \(8, 8, 4\) where"),
    (np.zeros((0, 8, 3), np.float32), r"shape \(0, 8, 3\) where"),
    (np.full((8, 8, 3), 255, np.float32), "values from 255 to 255 where"),
    (np.full((8, 8, 3), np.nan, np.float32), "values from nan to nan where"),
    (np.full((8, 8, 3), -np.inf, np.float32), "values from -inf to -inf where"),
], ids=lambda value: str(value)[:20] if isinstance(value, str) else "")
def test_what_is_no_frame_is_refused(model: FilmModel, frame: np.ndarray, message: str) -> None:
    with pytest.raises(FilmError, match=message):
        model.interpolate(frame, picture(8, 8))
    with pytest.raises(FilmError, match=message):
        list(model.interpolate_sequence([picture(8, 8), frame], 1))


def test_a_network_that_overflows_makes_no_frame(small_film: tuple[Path, Film], tmp_path: Path) -> None:
    arrays = {variable.name.removesuffix(":0"): variable.numpy() for variable in small_film[1].variables}
    arrays["fusion/conv2d_6/bias"] = np.full(3, np.inf, np.float32)
    np.savez(tmp_path / "film.npz", pyramid_levels=4, **arrays)
    convert(tmp_path / "film.npz", tmp_path / "model")
    broken = FilmModel.load(tmp_path / "model", "CPU", "f32")
    for run in (broken.interpolate, broken.inspect):
        with pytest.raises(FilmError, match="overflowed at precision f32 on CPU"):
            run(picture(16, 16, 1), picture(16, 16, 2))


def test_a_single_nan_is_found(model: FilmModel) -> None:
    frame = picture(8, 8)
    frame[3, 4, 1] = np.nan
    with pytest.raises(FilmError, match="nan"):
        model.interpolate(frame, picture(8, 8))


def test_a_little_overshoot_is_clamped_for_the_network(model: FilmModel) -> None:
    frame = picture(16, 16) * 1.2 - 0.1
    assert np.array_equal(model.interpolate(frame, picture(16, 16, 1)),
                          model.interpolate(frame.clip(0, 1), picture(16, 16, 1)))


def test_results_do_not_depend_on_what_ran_before(model: FilmModel) -> None:
    pair = picture(20, 30, 1), picture(20, 30, 2)
    before = model.interpolate(*pair)
    for size in ((8, 8), (40, 24), (16, 64), (32, 32), (20, 31)):  # more resolutions than are kept
        model.interpolate(picture(*size, 3), picture(*size, 4))
    assert np.array_equal(model.interpolate(*pair), before)


def test_two_sizes_of_one_padded_resolution_do_not_mix(model: FilmModel) -> None:
    small = model.interpolate(picture(17, 18, 1), picture(17, 18, 2))
    model.interpolate(picture(24, 24, 1), picture(24, 24, 2))
    assert np.array_equal(model.interpolate(picture(17, 18, 1), picture(17, 18, 2)), small)


def test_the_flow_of_a_still_pair_is_the_same_both_ways(model: FilmModel) -> None:
    frame = picture(32, 48)
    details = model.inspect(frame, frame)
    assert [flow.shape for flow in details.forward_flows] == [(32, 48, 2), (16, 24, 2), (8, 12, 2)]
    for forward, backward in zip(details.forward_flows, details.backward_flows, strict=True):
        assert np.allclose(forward, backward, atol=1e-5)


def test_the_report_says_what_runs(model: FilmModel) -> None:
    assert str(model.report()).startswith("small on CPU (")
    model.interpolate(picture(30, 45, 1), picture(30, 45, 2))
    report = model.report()
    assert (report.model, report.device, report.precision, report.resolution) == ("small", "CPU", "f32", (32, 48))
    assert report.full_name == find_devices()[0].full_name


def test_a_native_low_precision_runs_and_is_near_f32(model: FilmModel, small_folder: Path) -> None:
    precisions = choose_device("CPU").precisions
    first, last = picture(64, 96, 1), picture(64, 96, 2)
    exact = model.interpolate(first, last)
    for precision in precisions:
        other = FilmModel.load(small_folder, "CPU", precision)
        frame = other.interpolate(first, last)
        assert other.report().precision == precision
        assert np.sqrt(np.mean((frame - exact) ** 2)) < 0.02
        assert np.array_equal(frame, exact) == (precision == "f32")


def test_auto_takes_the_fastest_native_precision() -> None:
    assert choose_precision("auto", Device("GPU", "some GPU", ("f16", "f32"))) == "f16"
    assert choose_precision("auto", choose_device("AUTO")) in ("bf16", "f16", "f32")


def test_a_precision_that_is_not_native_is_refused() -> None:
    with pytest.raises(FilmError, match=r"Precision 'bf16' is not native to GPU \(some GPU\): choose one of "
                                        "auto, f16, f32, int8"):
        choose_precision("bf16", Device("GPU", "some GPU", ("f16", "f32")))
    with pytest.raises(FilmError, match="Precision 'int3' is none: choose one of auto, f32, bf16, f16, int8"):
        choose_precision("int3", choose_device("CPU"))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(FilmError, match=r"Device 'TPU' is not among those that OpenVINO sees \(.*CPU.*\)"):
        choose_device("TPU")


def test_a_run_that_cannot_fit_is_refused_with_the_numbers(model: FilmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 50_000_000})())
    with pytest.raises(FilmError, match=r"A pair of 800x600 needs about 0\.\d GB of memory where 0\.1 GB are free"):
        model.interpolate(picture(600, 800, 1), picture(600, 800, 2))
    assert model.report().resolution is None


def test_a_run_that_cannot_fit_into_its_container_is_refused(
    model: FilmModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("90000000\n")
    (tmp_path / "memory.current").write_text("80000000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 50000000\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    with pytest.raises(FilmError, match=r"A pair of 800x600 needs about 0\.\d GB of memory where 0\.1 GB are free"):
        model.interpolate(picture(600, 800, 1), picture(600, 800, 2))
    (tmp_path / "memory.max").write_text("max\n")
    assert model.interpolate(picture(16, 16, 1), picture(16, 16, 2)).shape == (16, 16, 3)


def test_memory_needed_grows_with_pixels_and_depth(model: FilmModel) -> None:
    small, large = model.memory_needed(256, 256), model.memory_needed(1024, 1024)
    assert small < large < 16 * small
    assert model.memory_needed(256, 256, times=4) > small


def test_memory_is_given_back_when_asked_and_at_another_size(model: FilmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    original = CompiledModels.release_memory
    monkeypatch.setattr(CompiledModels, "release_memory", lambda self: (released.append(self), original(self)))
    frame = model.interpolate(picture(16, 16, 1), picture(16, 16, 2))
    assert model.memory_needed(16, 16) < model.memory_needed(16, 24) / 2  # its layers hold theirs
    model.release_memory()
    model.release_memory()
    assert len(released) == 1 and model.memory_needed(16, 16) > 100_000_000
    assert np.array_equal(model.interpolate(picture(16, 16, 1), picture(16, 16, 2)), frame)
    model.interpolate(picture(16, 24, 1), picture(16, 24, 2))
    assert len(released) == 2


@pytest.mark.parametrize("name", ["fine_encoder.bin", "fusion.xml"])
def test_a_damaged_model_file_is_named(small_folder: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "model"))
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(FilmError, match=f"{name} is damaged"):
        FilmModel.load(folder)
    (folder / name).unlink()
    with pytest.raises(FilmError, match=f"{name} can't be read"):
        FilmModel.load(folder)


@pytest.mark.parametrize(("change", "message"), [
    ({"format": 99}, "has format 99 where this version reads 2"),
    ({"configuration": {}}, "film.json is damaged"),
    ({"configuration": None}, "film.json is damaged"),
])
def test_a_wrong_film_json_is_refused(small_folder: Path, tmp_path: Path, change: dict, message: str) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "model"))
    fields = json.loads((folder / "film.json").read_text()) | change
    (folder / "film.json").write_text(json.dumps(fields))
    with pytest.raises(FilmError, match=message):
        FilmModel.load(folder)


def test_a_model_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"'film' is not installed \(installed: film_lite\): run python install.py"):
        FilmModel.load("film", folders=[tmp_path])
    with pytest.raises(FilmError, match=r"holds no film.json"):
        FilmModel.load(tmp_path)


def test_an_installed_model_is_found_by_name(small_folder: Path) -> None:
    assert FilmModel.load("small", "CPU", folders=[small_folder.parent]).report().model == "small"


def test_a_model_folder_that_cannot_be_written_runs_without_a_cache(model: FilmModel,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(compiled.Path, "mkdir", refuse)
    assert model.interpolate(picture(8, 16, 1), picture(8, 16, 2)).shape == (8, 16, 3)


def test_compiled_models_are_cached_beside_the_model(model: FilmModel, small_folder: Path) -> None:
    model.interpolate(picture(48, 8, 1), picture(48, 8, 2))
    assert list((small_folder / ".cache").iterdir())


def test_the_oldest_cached_models_go(model: FilmModel, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_MOST_CACHED", 6)
    for width in (8, 16, 24, 32):
        model.interpolate(picture(56, width, 1), picture(56, width, 2))
    assert 6 <= len(list((small_folder / ".cache").iterdir())) <= 6 + len(MODELS)


def test_few_resolutions_are_kept(model: FilmModel) -> None:
    for width in (8, 16, 24, 32, 40):
        model.interpolate(picture(8, width, 1), picture(8, width, 2))
    assert model._compiled.cache_info().currsize == model_module._KEPT_RESOLUTIONS


def test_a_model_that_is_let_go_is_freed_at_once(small_folder: Path) -> None:
    model, frame = FilmModel.load(small_folder, "CPU", "f32"), picture(64, 64)
    model.interpolate(frame, frame)
    network = weakref.ref(model._network(frame, 1))
    gc.disable()
    try:
        del model
        assert network() is None
    finally:
        gc.enable()
