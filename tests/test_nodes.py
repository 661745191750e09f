"""The nodes, loaded as ComfyUI loads them but without it."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.conftest import picture

IDS = {"FilmOpenVINOLoader": "Load FILM OpenVINO", "FilmOpenVINOInterpolatePair": "Interpolate Pair",
       "FilmOpenVINORecursiveInterpolate": "Recursive Interpolate", "FilmOpenVINOSaveWebM": "Save WebM",
       "FilmOpenVINOInspect": "Inspect Pair", "FilmOpenVINOInterpolateVideo": "Interpolate Video",
       "FilmOpenVINOQuantize": "Make INT8 Model"}


def images(count: int, height: int = 32, width: int = 48, channels: int = 3) -> torch.Tensor:
    frames = [np.concatenate([picture(height, width, seed), picture(height, width, seed + 9)], -1)[..., :channels]
              for seed in range(count)]
    return torch.from_numpy(np.stack(frames))


@pytest.fixture
def nodes(pack: ModuleType) -> dict[str, Any]:
    """Each node by the end of its id."""
    return {name.removeprefix("FilmOpenVINO"): node() for name, node in pack.NODE_CLASS_MAPPINGS.items()}


@pytest.fixture
def film(nodes: dict[str, Any]) -> Any:
    return nodes["Loader"].load("film_lite", "CPU", "f32")[0]


def test_the_ids_and_names_are_the_ones_that_workflows_hold(pack: ModuleType) -> None:
    assert IDS == pack.NODE_DISPLAY_NAME_MAPPINGS
    assert list(pack.NODE_CLASS_MAPPINGS) == list(IDS)


@pytest.mark.parametrize("name", IDS)
def test_every_node_and_input_is_explained(pack: ModuleType, name: str) -> None:
    node = pack.NODE_CLASS_MAPPINGS[name]
    assert len(node.DESCRIPTION) > 40 and callable(getattr(node, node.FUNCTION)) and node.CATEGORY
    inputs = node.INPUT_TYPES()
    for kind in ("required", "optional"):
        for options in inputs.get(kind, {}).values():
            assert len(options[1]["tooltip"]) > 10


def test_inputs_stand_in_the_order_that_workflows_hold(pack: ModuleType) -> None:
    orders = {name: [*(types := node.INPUT_TYPES())["required"], *types.get("optional", {})]
              for name, node in pack.NODE_CLASS_MAPPINGS.items()}
    assert orders == {
        "FilmOpenVINOLoader": ["model", "device", "precision", "tile"],
        "FilmOpenVINOInterpolatePair": ["model", "first", "last", "time", "method"],
        "FilmOpenVINORecursiveInterpolate": ["model", "images", "times_to_interpolate", "last", "method", "cuts",
                                             "skip", "only", "loop", "multiplier"],
        "FilmOpenVINOSaveWebM": ["images", "filename_prefix", "fps", "crf", "codec", "audio", "quality", "exact_fps",
                                 "alpha", "pingpong", "loop_count", "save_output", "save_first_frame"],
        "FilmOpenVINOInspect": ["model", "first", "last"],
        "FilmOpenVINOInterpolateVideo": ["model", "video", "multiplier", "fps", "slow_motion", "method", "cuts",
                                         "drop_duplicates", "skip", "only", "loop", "audio", "codec", "quality"],
        "FilmOpenVINOQuantize": ["model", "frames", "replace"]}


def test_types_stay_and_choices_that_workflows_hold_are_not_taken_away(pack: ModuleType) -> None:
    outputs = {name.removeprefix("FilmOpenVINO"): node.RETURN_TYPES for name, node in pack.NODE_CLASS_MAPPINGS.items()}
    assert outputs == {
        "Loader": ("FILM_OPENVINO_MODEL", "STRING"), "InterpolatePair": ("IMAGE",),
        "RecursiveInterpolate": ("IMAGE", "INT"), "SaveWebM": (), "Inspect": ("IMAGE", "IMAGE"),
        "InterpolateVideo": ("VIDEO", "STRING"), "Quantize": ("FILM_OPENVINO_MODEL", "STRING")}
    kinds = {f"{name.removeprefix('FilmOpenVINO')}.{given}": options[0]
             for name, node in pack.NODE_CLASS_MAPPINGS.items()
             for group in ("required", "optional") for given, options in node.INPUT_TYPES().get(group, {}).items()}
    choices = {name: kind for name, kind in kinds.items() if isinstance(kind, list)}
    for name, held in {
            "Loader.device": "AUTO", "Loader.precision": "auto f32 bf16 f16 int8",
            "Loader.tile": "auto off 512 768 1024 1536", "InterpolatePair.method": "recursive direct",
            "RecursiveInterpolate.method": "recursive direct", "RecursiveInterpolate.cuts": "repeat blend ignore",
            "SaveWebM.codec": "vp9 av1", "InterpolateVideo.method": "auto recursive direct",
            "InterpolateVideo.cuts": "repeat blend ignore", "InterpolateVideo.audio": "keep drop",
            "InterpolateVideo.codec": "auto vp9 av1 h264 h265"}.items():
        assert set(held.split()) <= set(choices.pop(name)), name
    qualities = {"visually lossless", "high", "medium", "small"}
    assert {"by crf", "lossless", *qualities} <= set(choices.pop("SaveWebM.quality"))
    assert qualities <= set(choices.pop("InterpolateVideo.quality")) and list(choices) == ["Loader.model"]
    assert {name: kind for name, kind in kinds.items() if kind in ("INT", "FLOAT", "STRING", "BOOLEAN")} == {
        "InterpolatePair.time": "FLOAT", "RecursiveInterpolate.times_to_interpolate": "INT",
        "RecursiveInterpolate.skip": "STRING", "RecursiveInterpolate.only": "STRING",
        "RecursiveInterpolate.loop": "BOOLEAN", "RecursiveInterpolate.multiplier": "INT",
        "SaveWebM.filename_prefix": "STRING", "SaveWebM.fps": "FLOAT",
        "SaveWebM.crf": "INT", "SaveWebM.exact_fps": "STRING", "SaveWebM.alpha": "BOOLEAN",
        "SaveWebM.pingpong": "BOOLEAN", "SaveWebM.loop_count": "INT", "SaveWebM.save_output": "BOOLEAN",
        "SaveWebM.save_first_frame": "BOOLEAN", "InterpolateVideo.multiplier": "FLOAT",
        "InterpolateVideo.fps": "STRING", "InterpolateVideo.slow_motion": "BOOLEAN",
        "InterpolateVideo.drop_duplicates": "BOOLEAN", "InterpolateVideo.skip": "STRING",
        "InterpolateVideo.only": "STRING", "InterpolateVideo.loop": "BOOLEAN", "Quantize.replace": "BOOLEAN"}


def test_numbers_go_as_far_as_workflows_may_have_them(pack: ModuleType) -> None:
    bounds = {f"{name.removeprefix('FilmOpenVINO')}.{given}": (kind, *map(options.get, ("min", "max", "step")))
              for name, node in pack.NODE_CLASS_MAPPINGS.items()
              for group in ("required", "optional")
              for given, (kind, options) in node.INPUT_TYPES().get(group, {}).items() if kind in ("INT", "FLOAT")}
    assert bounds == {
        "InterpolatePair.time": ("FLOAT", 0, 1, 0.01),
        "RecursiveInterpolate.times_to_interpolate": ("INT", 0, 8, None),
        "RecursiveInterpolate.multiplier": ("INT", 0, 64, None),
        "SaveWebM.fps": ("FLOAT", 0.01, 1000, 0.01), "SaveWebM.crf": ("INT", 0, 63, None),
        "SaveWebM.loop_count": ("INT", 0, 100, None),
        "InterpolateVideo.multiplier": ("FLOAT", 1, 256, 0.5)}


def test_the_loader_offers_the_bundled_model_and_says_how_to_get_the_other(
        pack: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    models, options = pack.NODE_CLASS_MAPPINGS["FilmOpenVINOLoader"].INPUT_TYPES()["required"]["model"]
    assert models == ["film_lite"] and options["default"] == "film_lite"
    assert "python install.py" in options["tooltip"]


def test_the_loader_keeps_a_model(nodes: dict[str, Any], film: Any) -> None:
    assert nodes["Loader"].load("film_lite", "CPU", "f32")[0] is film


def test_the_loader_reports_what_runs_and_what_is_there(nodes: dict[str, Any]) -> None:
    report = nodes["Loader"].load("film_lite", "CPU", "f32")[1]
    assert report.startswith("film_lite on CPU (")
    for heading in ("Packages", "Devices", "Models", "Troubles", "Next"):
        assert f"\n{heading}\n" in report
    assert "\nSpeed\n" not in report


@pytest.mark.parametrize(("name", "message"), [("film", "python install.py in"), ("/etc", "'/etc' is not installed")])
def test_a_model_that_is_not_installed_is_refused_before_the_run(
        nodes: dict[str, Any], name: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert message in nodes["Loader"].VALIDATE_INPUTS(name)
    assert nodes["Loader"].VALIDATE_INPUTS("film_lite") is True


@pytest.mark.parametrize(("device", "precision", "message"), [
    ("TPU", "auto", "'TPU' is not among"), ("CPU", "f8", "'f8' is none")])
def test_a_choice_that_this_machine_has_not_is_explained(nodes: dict[str, Any], device: str, precision: str,
                                                         message: str) -> None:
    with pytest.raises(Exception, match=message):
        nodes["Loader"].load("film_lite", device, precision)


def test_a_prefix_that_no_file_can_have_is_refused(nodes: dict[str, Any]) -> None:
    assert "holds a character that no file name may have" in nodes["SaveWebM"].VALIDATE_INPUTS("film/a\0b")


@pytest.mark.parametrize("prefix", ["", "../outside", "film/../../outside", "/tmp/outside", "C:/outside",
                                    "..\\outside", "film/", "."])
def test_a_prefix_that_names_no_file_in_the_output_folder_is_refused(nodes: dict[str, Any], prefix: str) -> None:
    assert "names no file in the output folder" in nodes["SaveWebM"].VALIDATE_INPUTS(prefix)
    with pytest.raises(Exception, match="names no file in the output folder"):
        nodes["SaveWebM"].save(images(1), prefix, 30.0, 20, "vp9")
    for good in ("test", "clips/%year%/test", "clips\\test"):
        assert nodes["SaveWebM"].VALIDATE_INPUTS(good) is True


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_recursion_keeps_sources_bit_for_bit_and_channels(nodes: dict[str, Any], film: Any, channels: int) -> None:
    sources = images(3, channels=channels) * 1.05 - 0.02
    result, multiplier = nodes["RecursiveInterpolate"].interpolate(film, sources, 2)
    assert multiplier == 4 and result.shape == (9, 32, 48, channels)
    assert result.dtype == torch.float32 and result.device.type == "cpu"
    assert torch.equal(result[::4], sources)
    new = torch.stack([result[index] for index in range(9) if index % 4])
    assert new.min() >= 0 and new.max() <= 1


@pytest.mark.parametrize(("multiplier", "loop"), [(3, False), (5, True), (6, False)])
def test_a_multiplier_makes_any_number_of_frames_at_even_distances(nodes: dict[str, Any], film: Any, multiplier: int,
                                                                   loop: bool) -> None:
    sources = images(3)
    result, factor = nodes["RecursiveInterpolate"].interpolate(film, sources, 1, method="direct", loop=loop,
                                                               multiplier=multiplier)
    assert factor == multiplier and len(result) == (3 if loop else 2) * multiplier + (not loop)
    assert torch.equal(result[::multiplier][:3], sources)
    for step in range(1, multiplier):
        made, = nodes["InterpolatePair"].interpolate(film, sources[1:2], sources[2:], step / multiplier, "direct")
        assert torch.allclose(result[multiplier + step], made[0], atol=1e-6)
    halved, _ = nodes["RecursiveInterpolate"].interpolate(film, sources[:2], 0, multiplier=multiplier)
    made, = nodes["InterpolatePair"].interpolate(film, sources[:1], sources[1:2], 1 / multiplier, "recursive")
    assert len(halved) == multiplier + 1 and torch.allclose(halved[1], made[0], atol=1e-6)


def test_across_a_scene_cut_the_nearer_image_is_repeated_or_both_are_blended(nodes: dict[str, Any], film: Any) -> None:
    sources = torch.cat([images(1).expand(3, -1, -1, -1), 1 - images(1).expand(3, -1, -1, -1)])
    interpolate = nodes["RecursiveInterpolate"].interpolate
    repeated = interpolate(film, sources, 2, cuts="repeat")[0]
    assert torch.equal(repeated[9], sources[2]) and torch.equal(repeated[10], sources[3])
    blended = interpolate(film, sources, 2, cuts="blend")[0]
    assert torch.allclose(blended[9], sources[2] * 0.75 + sources[3] * 0.25, atol=1e-6)
    ignored = interpolate(film, sources, 2)[0]
    assert torch.equal(ignored[:8], repeated[:8]) and not torch.allclose(ignored[9], repeated[9], atol=0.01)


def test_skipped_images_go_on_without_interpolation_and_only_leaves_the_others_out(
        nodes: dict[str, Any], film: Any) -> None:
    sources = images(4)
    whole, skipped, only = (nodes["RecursiveInterpolate"].interpolate(film, sources, 1, **ranges)[0]
                            for ranges in ({}, {"skip": "1"}, {"only": "0, 2-"}))
    assert torch.equal(skipped, only) and torch.equal(skipped[3], sources[2])
    assert torch.equal(skipped[[1, 5]], whole[[1, 5]]) and not torch.equal(whole[3], skipped[3])
    assert "skip: 'x' is no range of frames" in nodes["RecursiveInterpolate"].VALIDATE_INPUTS("x", "")


def test_a_loop_goes_on_from_the_last_image_to_the_first(nodes: dict[str, Any], film: Any) -> None:
    sources = images(3)
    looped, multiplier = nodes["RecursiveInterpolate"].interpolate(film, sources, 1, loop=True)
    closing = nodes["RecursiveInterpolate"].interpolate(film, sources[[2, 0]], 1)[0]
    assert (len(looped), multiplier) == (6, 2) and torch.equal(looped[::2], sources)
    assert torch.equal(looped[5], closing[1])


def test_alpha_is_interpolated_like_a_grey_image(nodes: dict[str, Any], film: Any) -> None:
    rgba = images(2, channels=4)
    whole = nodes["RecursiveInterpolate"].interpolate(film, rgba, 1)[0][1]
    colour = nodes["RecursiveInterpolate"].interpolate(film, rgba[..., :3], 1)[0][1]
    alpha = nodes["RecursiveInterpolate"].interpolate(film, rgba[..., 3:], 1)[0][1]
    assert torch.equal(whole, torch.cat([colour, alpha], -1))


def test_last_is_appended(nodes: dict[str, Any], film: Any) -> None:
    together = nodes["RecursiveInterpolate"].interpolate(film, images(2), 1)[0]
    apart = nodes["RecursiveInterpolate"].interpolate(film, images(2)[:1], 1, images(2)[1:])[0]
    assert torch.equal(together, apart)


@pytest.mark.parametrize(("count", "times"), [(1, 3), (3, 0)])
def test_nothing_to_interpolate_comes_back_as_it_is(nodes: dict[str, Any], film: Any, count: int, times: int) -> None:
    sources = images(count)
    result, multiplier = nodes["RecursiveInterpolate"].interpolate(film, sources, times)
    assert torch.equal(result, sources) and multiplier == 2 ** times


def test_pairs_are_made_frame_by_frame(nodes: dict[str, Any], film: Any) -> None:
    firsts, lasts = images(3), images(3).flip(0)
    result, = nodes["InterpolatePair"].interpolate(film, firsts, lasts, 0.5)
    assert result.shape == (3, 32, 48, 3)
    for index in range(3):
        alone, = nodes["InterpolatePair"].interpolate(film, firsts[index:index + 1], lasts[index:index + 1], 0.5)
        assert torch.equal(result[index], alone[0])


def test_a_single_frame_is_used_for_every_pair(nodes: dict[str, Any], film: Any) -> None:
    result, = nodes["InterpolatePair"].interpolate(film, images(1), images(3), 0.5)
    repeated, = nodes["InterpolatePair"].interpolate(film, images(1).expand(3, -1, -1, -1), images(3), 0.5)
    assert torch.equal(result, repeated)


def test_half_precision_images_come_out_as_float32(nodes: dict[str, Any], film: Any) -> None:
    assert nodes["InterpolatePair"].interpolate(film, images(1).half(), images(1).half(), 0.5)[0].dtype == torch.float32


def test_batches_that_do_not_fit_are_refused(nodes: dict[str, Any], film: Any) -> None:
    pair, recursive = nodes["InterpolatePair"].interpolate, nodes["RecursiveInterpolate"].interpolate
    with pytest.raises(Exception, match="The first batch has 2 images and the last has 3"):
        pair(film, images(2), images(3), 0.5)
    with pytest.raises(Exception, match=r"first image is 48x32 and the last image is 40x32: .*Upscale Image"):
        pair(film, images(1), images(1, 32, 40), 0.5)
    with pytest.raises(Exception, match=r"batch of images is 48x32 and the last image is 48x30: .*Upscale Image"):
        recursive(film, images(1), 1, images(1, 30))
    with pytest.raises(Exception, match="has 3 channels and the last image has 4"):
        pair(film, images(1), images(1, channels=4), 0.5)
    with pytest.raises(Exception, match=r"shape \(1, 32, 48, 2\)"):
        pair(film, images(1, channels=2), images(1), 0.5)
    with pytest.raises(Exception, match="nan"):
        pair(film, images(1) * float("nan"), images(1), 0.5)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_inspect_draws_a_sheet_and_a_comparison_for_each_pair(nodes: dict[str, Any], film: Any, channels: int) -> None:
    firsts, lasts = images(2, channels=channels), images(2, channels=channels).flip(0)
    sheets, comparisons = nodes["Inspect"].inspect(film, firsts, lasts)
    for drawn in (sheets, comparisons):
        assert len(drawn) == 2 and drawn.shape[-1] == 3 and drawn.dtype == torch.float32
        assert 0 <= drawn.min() < drawn.max() <= 1
        assert not torch.equal(drawn[0], drawn[1])
    alone, _ = nodes["Inspect"].inspect(film, firsts[:1], lasts[:1])
    assert torch.equal(sheets[:1], alone)
    with pytest.raises(Exception, match="the last has 3"):
        nodes["Inspect"].inspect(film, firsts, images(3, channels=channels))


def test_a_result_that_cannot_fit_is_refused_before_it_starts(nodes: dict[str, Any], film: Any) -> None:
    frames = torch.zeros(1, 1, 1, 3).expand(2000, 2160, 3840, 3)[:, ::1]
    with pytest.raises(Exception, match=r"needs about .* GB of memory where .* GB are free"):
        nodes["InterpolatePair"].interpolate(film, frames[:1], frames, 0.5)


def test_save_webm_writes_a_counted_file_with_the_workflow(nodes: dict[str, Any], tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workflow = {"workflow": {"nodes": ["Łódź"]}}
    result = nodes["SaveWebM"].save(images(3, channels=4), "clips/test", 23.976, 20, "vp9", prompt={"1": {}},
                                    extra_pnginfo=workflow)
    shown, = result["ui"]["images"]
    assert result["ui"]["animated"] == (True,) and shown["type"] == "output"
    with av.open(str(tmp_path / "output" / shown["filename"])) as container:
        tags = {name.lower(): json.loads(text) for name, text in container.metadata.items()
                if name.lower() in ("prompt", "workflow")}
        assert tags == {"prompt": {"1": {}}, "workflow": workflow["workflow"]}
        assert sum(1 for _ in container.decode(video=0)) == 3


class FileVideo:
    """A VIDEO of a file as newer versions of ComfyUI have it: it may show a part, but its source is the whole."""

    def __init__(self, source: Any, start: int = 0, stop: int = 6) -> None:
        self.source, self.start, self.stop = source, start, stop

    def get_stream_source(self) -> Any:
        return self.source

    def get_dimensions(self) -> tuple[int, int]:
        return 64, 64

    def get_duration(self) -> float:
        return (self.stop - self.start) / 6

    def as_trimmed(self, start: int, stop: int) -> "FileVideo":
        return FileVideo(self.source, start, stop)

    def save_to(self, path: str) -> None:
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=6)
            stream.width = stream.height = 64
            for level in range(self.start, self.stop):
                grey = np.full((64, 64, 3), level * 32, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
            container.mux(stream.encode())


@pytest.fixture
def video(pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileVideo:
    host = sys.modules[f"{pack.__name__}.nodes.host"]
    monkeypatch.setattr(host, "VideoFromFile", FileVideo)
    monkeypatch.setattr(host, "folder_paths", SimpleNamespace(get_temp_directory=lambda: str(tmp_path / "temp")))
    path = str(tmp_path / "video.mp4")
    FileVideo(path).save_to(path)
    return FileVideo(path)


def test_the_video_of_a_whole_file_is_read_from_it(pack: ModuleType, video: FileVideo, tmp_path: Path) -> None:
    source = sys.modules[f"{pack.__name__}.nodes.host"].video_source(video)
    assert source == tmp_path / "video.mp4"


def test_of_a_trimmed_video_its_part_alone_is_read(pack: ModuleType, video: FileVideo, tmp_path: Path) -> None:
    host = sys.modules[f"{pack.__name__}.nodes.host"]
    source = host.video_source(video.as_trimmed(2, 5))
    with av.open(source) as container:
        levels = [frame.to_ndarray(format="rgb24").mean() / 255 for frame in container.decode(video=0)]
    assert levels == pytest.approx([64 / 255, 96 / 255, 128 / 255], abs=0.01)
    assert host.video_source(video.as_trimmed(2, 5)).read() == source.getvalue(), "a stopped run could not go on"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["video.mp4"]


def test_a_video_whose_file_is_gone_is_refused(pack: ModuleType, video: FileVideo, tmp_path: Path) -> None:
    host, engine = (sys.modules[f"{pack.__name__}.{name}"] for name in ("nodes.host", "ov_film.errors"))
    (tmp_path / "video.mp4").unlink()
    with pytest.raises(engine.FilmError, match="load a video that is"):
        host.video_source(video)
