"""The int8 version of a model."""

import json
import re
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ov_film import FilmModel, cli, quantize
from ov_film.calibration import pairs_of, read_pairs
from ov_film.configuration import MODELS
from ov_film.convert import convert
from ov_film.devices import core
from ov_film.errors import FilmError
from ov_film.frames import Frame, write_png
from ov_film.library import MANIFEST, int8_model, read_manifest
from ov_film.video import write_webm
from tests.conftest import ROOT, picture

LITE = ROOT / "ov_film" / "bundled" / "film_lite"


def samples(height: int, width: int) -> list[Frame]:
    paths = (ROOT / "samples" / f"{name}.png" for name in ("first", "last", "next"))
    return [cv2.imread(str(path))[100:100 + height, 200:200 + width, ::-1].astype(np.float32) / 255 for path in paths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """film_lite in a models folder, with its int8 version made by the command."""
    models = tmp_path_factory.mktemp("models")
    folder = Path(shutil.copytree(LITE, models / "film_lite", ignore=shutil.ignore_patterns(".cache")))
    for number, frame in enumerate(samples(192, 320)):
        write_png(models / "frames" / f"{number}.png", np.rint(frame * 255).astype(np.uint8))
    assert cli.main(["quantize", str(folder), "--frames", str(models / "frames")]) == 0
    return folder


def test_the_int8_version_runs_in_integers_and_is_near_f32(folder: Path) -> None:
    first, last, _ = samples(192, 320)
    exact = FilmModel.load(folder, "CPU", "f32").interpolate(first, last)
    model = FilmModel.load(folder, "CPU", "int8")
    frame = model.interpolate(first, last)
    assert not np.array_equal(frame, exact) and -10 * np.log10(np.mean((frame - exact) ** 2)) > 40
    xml = (folder.parent / "film_lite_int8" / "fusion.xml").read_text()
    assert "FakeQuantize" in xml and 'element_type="i8"' in xml
    psnr = read_manifest(folder.parent / "film_lite_int8").int8["psnr"]
    assert psnr >= quantize.LEAST_PSNR and f"int8 ({psnr:.1f} dB against f32)" in str(model.report())


def test_features_are_quantized_before_the_warp_and_images_that_are_blended_are_not(folder: Path) -> None:
    model = core().read_model(folder.parent / "film_lite_int8" / "fusion.xml")
    readers = {port.any_name: {reader.get_node().get_type_name() for reader in port.get_target_inputs()}
               for port in model.inputs}
    for end in ("first", "last"):
        assert readers[f"{end}_fused_1"] == {"FakeQuantize"}
        assert readers[f"{end}_image_0"] == {"Transpose"}


def test_int8_gives_the_same_frame_every_time(folder: Path) -> None:
    first, last, _ = samples(128, 128)
    model = FilmModel.load(folder, "CPU", "int8")
    frame = model.interpolate(first, last)
    model.interpolate(*samples(64, 192)[:2])
    assert np.array_equal(model.interpolate(first, last), frame)
    assert np.array_equal(FilmModel.load(folder, "CPU", "int8").interpolate(first, last), frame)


def test_the_loader_takes_the_int8_version_that_was_made_and_else_the_packs_own(
        folder: Path, pack: object, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = pack.NODE_CLASS_MAPPINGS["FilmOpenVINOLoader"]
    host = sys.modules[f"{pack.__name__}.nodes.host"]
    monkeypatch.setattr(host, "models_folders", lambda: [folder.parent])
    inputs = loader.INPUT_TYPES()["required"]
    assert "int8" in inputs["precision"][0] and "film_lite_int8" not in inputs["model"][0]
    made = read_manifest(folder.parent / "film_lite_int8").int8["psnr"]
    assert loader().load("film_lite", "CPU", "int8")[0].report().int8_psnr == made
    monkeypatch.setattr(host, "models_folders", lambda: [])
    own = read_manifest(ROOT / "ov_film" / "bundled" / "film_lite_int8").int8["psnr"]
    assert loader().load("film_lite", "CPU", "int8")[0].report().int8_psnr == own != made


def test_without_an_int8_version_it_says_how_to_make_one(small_folder: Path) -> None:
    with pytest.raises(FilmError, match=r"small has no int8 version: make one \(python -m ov_film quantize "):
        FilmModel.load(small_folder, "CPU", "int8")


def test_an_int8_version_of_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("film_lite", "film_lite_int8"):
        shutil.copytree(folder.parent / name, tmp_path / name)
    manifest = tmp_path / "film_lite_int8" / MANIFEST
    fields = json.loads(manifest.read_text())
    fields["int8"]["made_of"] = "0" * 64
    manifest.write_text(json.dumps(fields))
    with pytest.raises(FilmError, match="was made of other weights"):
        FilmModel.load(tmp_path / "film_lite", "CPU", "int8")


@pytest.mark.parametrize("name", MODELS)
def test_new_weights_of_any_part_make_an_int8_version_one_of_others(folder: Path, tmp_path: Path, name: str) -> None:
    for model in ("film_lite", "film_lite_int8"):
        shutil.copytree(folder.parent / model, tmp_path / model)
    assert int8_model(tmp_path / "film_lite") == tmp_path / "film_lite_int8"
    manifest = tmp_path / "film_lite" / MANIFEST
    fields = json.loads(manifest.read_text())
    fields["checksums"][f"{name}.bin"] = "0" * 64
    manifest.write_text(json.dumps(fields))
    with pytest.raises(FilmError, match="was made of other weights"):
        int8_model(tmp_path / "film_lite")


def test_a_layer_that_hurts_stays_in_floating_point(tmp_path: Path) -> None:
    """One channel between two layers is made a thousand times as large, and read by a thousandth: the same network."""
    tensors = {name: array.astype(np.float32) for name, array in np.load(ROOT / "training" / "film_lite.npz").items()}
    for part in ("kernel", "bias"):
        tensors[f"fusion/conv2d_1/{part}"][..., 3] *= 1000
    tensors["fusion/conv2d_2/kernel"][:, :, 3] /= 1000
    np.savez(tmp_path / "film.npz", **tensors)
    convert(tmp_path / "film.npz", tmp_path / "film")
    shares: list[float] = []
    pairs = pairs_of(samples(128, 128))
    figures = quantize.quantize(tmp_path / "film", pairs, tmp_path / "film_int8", shares.append).int8
    assert figures["psnr"] >= quantize.LEAST_PSNR and shares == sorted(shares) and shares[-1] == 1
    left, = figures["floating_point"]
    found = re.fullmatch(r"(\d+) of (\d+) convolutions of fusion", left)
    assert found and int(found[1]) <= 2 < int(found[2])
    assert f"in floating point: {left}" in quantize.described(figures)
    assert FilmModel.load(tmp_path / "film", "CPU", "int8").report().int8_psnr == figures["psnr"]


def test_where_nothing_suffices_in_int8_it_says_so_and_writes_nothing(small_folder: Path, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "LEAST_PSNR", 101)
    monkeypatch.setattr(quantize, "_CROPS", 2)
    with pytest.raises(FilmError, match="No part of small comes to 101 dB in int8 on these frames: use other frames"):
        quantize.quantize(small_folder, pairs_of(samples(64, 64)), tmp_path / "small_int8")
    assert not list(tmp_path.iterdir())


def test_too_few_frames_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    pair = (picture(64, 64, 1), picture(64, 64, 2))
    with pytest.raises(FilmError, match=r"is 1, where 2 or more are needed.*: give three or more frames"):
        quantize.quantize(LITE, [pair], tmp_path / "out")
    with pytest.raises(FilmError, match=r"frame 4 is 64x32"):
        quantize.quantize(LITE, [pair, (pair[0], picture(32, 64))], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_missing_nncf_is_named_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    for refused in (quantize.check_nncf, lambda: quantize.quantize(LITE, [], tmp_path / "out")):
        with pytest.raises(FilmError, match=r"NNCF, which makes int8 .*: install it \(.* -m pip install nncf"):
            refused()


def test_the_command_misses_nncf_before_it_reads_a_long_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert cli.main(["quantize", "film_lite", "--frames", str(tmp_path / "no clip")]) == 1
    assert "NNCF, which makes int8 versions, is not installed" in capsys.readouterr().err


def test_a_run_that_is_stopped_leaves_the_version_that_was_there(folder: Path) -> None:
    class StopError(Exception):
        pass

    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        if len(shares) > 20:  # within NNCF
            raise StopError

    output = folder.parent / "film_lite_int8"
    before = (output / MANIFEST).read_bytes()
    with pytest.raises(StopError):
        quantize.quantize(folder, pairs_of(samples(64, 64)), output, stop)
    assert shares == sorted(shares) and 1 / 7 < shares[-1] < 2 / 7
    assert (output / MANIFEST).read_bytes() == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["film_lite", "film_lite_int8", "frames"]


def test_pairs_are_spread_over_clips_and_folders(tmp_path: Path) -> None:
    write_webm(tmp_path / "clip.webm", (picture(64, 64, seed) for seed in range(100)), Fraction(25))
    pairs = read_pairs(tmp_path / "clip.webm")
    assert 16 < len(pairs) <= 32 and pairs[0][0].shape == (64, 64, 3)
    for number in range(3):
        write_png(tmp_path / "images" / f"{number}.png", np.full((8, 8, 3), 10 * number, np.uint8))
    read = [[round(float(frame[0, 0, 0]) * 255) for frame in pair] for pair in read_pairs(tmp_path / "images")]
    assert read == [[0, 10], [10, 20]]


def test_frames_that_repeat_the_one_before_make_no_pair(tmp_path: Path) -> None:
    on_twos = (picture(64, 64, number // 2) for number in range(12))
    write_webm(tmp_path / "on_twos.webm", on_twos, Fraction(25))
    pairs = read_pairs(tmp_path / "on_twos.webm")
    assert len(pairs) == 3 and all(np.abs(first - last).mean() > 0.05 for first, last in pairs)
    assert pairs_of([picture(64, 64)] * 9) == []


def test_pairs_over_a_scene_cut_are_left_out() -> None:
    def scene(seed: int, count: int) -> list[np.ndarray]:
        wide = picture(64, 128, seed)
        return [wide[:, 2 * number:2 * number + 64] for number in range(count)]

    pairs = pairs_of([*scene(0, 5), *scene(1, 6), *scene(2, 4)])  # of seven pairs, cuts lie in the third and the sixth
    assert len(pairs) == 5
    for first, last in pairs:
        assert np.array_equal(first[:, 2:], last[:, :-2])


@pytest.mark.parametrize(("count", "pairs"), [(2, [(0, 1)]), (3, [(0, 1), (1, 2)]), (4, [(0, 1), (2, 3)]),
                                              (5, [(0, 1), (2, 3)]), (200, [(0, 1), (8, 9), (16, 17)])])
def test_pairs_of_a_batch_are_neighbours(count: int, pairs: list[tuple[int, int]]) -> None:
    # A lit column that moves along, in frames of as many.
    frames = np.repeat(np.repeat(np.eye(count, dtype=np.float32)[:, None, :, None], 4, 1), 3, 3)
    made = pairs_of(frames)
    assert [tuple(int(frame[0, :, 0].argmax()) for frame in pair) for pair in made][:3] == pairs[:3]
    assert len(made) <= 32


@pytest.fixture
def node(folder: Path, pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The node, in whose models folder film_lite has an int8 version of the samples; NNCF's work would fail."""
    monkeypatch.setattr(sys.modules[f"{pack.__name__}.nodes.host"], "models_folders", lambda: [folder.parent])

    def refused(*_: Any) -> None:
        raise AssertionError("it was made anew")

    monkeypatch.setattr(sys.modules[f"{pack.__name__}.nodes.quantize"], "quantize", refused)
    return pack.NODE_CLASS_MAPPINGS["FilmOpenVINOQuantize"]()


def loaded(pack: ModuleType, precision: str = "f32") -> Any:
    return pack.NODE_CLASS_MAPPINGS["FilmOpenVINOLoader"]().load("film_lite", "CPU", precision)[0]


def batch(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.stack(samples(height, width)))


def test_the_node_uses_what_was_made_of_the_same_frames(node: Any, folder: Path, pack: ModuleType) -> None:
    frames, model = batch(192, 320), loaded(pack)
    made, report = node.make(model, torch.cat([frames, frames[..., :1]], -1))  # alpha is left out
    assert "int8" in str(made.report()) and "CPU" in str(made.report())
    psnr = read_manifest(folder.parent / "film_lite_int8").int8["psnr"]
    assert f"{psnr:.1f} dB against f32 on 1 of 2 pairs" in report and "made earlier of these frames" in report
    assert node.make(model, frames)[0] is made, "the model was loaded once more"


def test_the_node_keeps_what_was_made_of_other_frames_where_it_is_not_to_replace(
        node: Any, folder: Path, pack: ModuleType) -> None:
    with pytest.raises(AssertionError, match="anew"):
        node.make(loaded(pack), batch(64, 64))
    made, report = node.make(loaded(pack), batch(64, 64), replace=False)
    assert "int8" in str(made.report()) and "made of other frames; turn on replace" in report


def test_the_node_replaces_what_was_made_of_other_frames_and_says_so(
        node: Any, folder: Path, pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, shown = read_manifest(folder.parent / "film_lite_int8"), []
    nodes = sys.modules[f"{pack.__name__}.nodes.quantize"]
    monkeypatch.setattr(nodes, "quantize", lambda *_: manifest)
    monkeypatch.setattr(nodes.host, "show_text", shown.append)
    _, report = node.make(loaded(pack), batch(64, 64))
    assert report.endswith("made of these frames, in place of one of other frames") and shown[0] in report


def test_the_node_makes_what_is_damaged_anew(node: Any, folder: Path, pack: ModuleType) -> None:
    file = folder.parent / "film_lite_int8" / "fusion.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    try:
        with pytest.raises(AssertionError, match="anew"):
            node.make(loaded(pack), batch(192, 320))
    finally:
        file.write_bytes(whole)


def test_the_node_refuses_an_int8_version_and_a_missing_nncf_in_a_sentence(
        node: Any, folder: Path, pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, engine = (sys.modules[f"{pack.__name__}.{name}.quantize"] for name in ("nodes", "ov_film"))
    monkeypatch.setattr(nodes, "quantize", engine.quantize)
    with pytest.raises(engine.FilmError, match="is an int8 version already"):
        node.make(loaded(pack, "int8"), batch(64, 64))
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert node.VALIDATE_INPUTS() is True, "the version that is there can be used without NNCF"
    monkeypatch.setattr(nodes.host, "models_folders", lambda: [])
    assert "-m pip install nncf" in node.VALIDATE_INPUTS()


@pytest.mark.parametrize("name", ["missing.mp4", "text.txt"])
def test_an_unreadable_clip_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("no clip")
    with pytest.raises(FilmError, match=rf"{name} can't be read .*give a video or a folder of images"):
        read_pairs(tmp_path / name)
