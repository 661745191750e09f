"""The node Save WebM, loaded as ComfyUI loads it but without it."""

import importlib
import json
import re
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

LEVELS = (0.1, 0.3, 0.5, 0.7)


def shades(channels: int = 3, height: int = 64, width: int = 96) -> torch.Tensor:
    """One grey after the other; alpha grows from left to right."""
    frames = torch.stack([torch.full((height, width, channels), level) for level in LEVELS])
    if channels == 4:
        frames[..., 3] = torch.linspace(0, 1, width)
    return frames


def noise(count: int = 4) -> torch.Tensor:
    return torch.rand((count, 65, 97, 3), generator=torch.Generator().manual_seed(0))


def sound(seconds: float = 1, channels: int = 2, sample_rate: int = 44100) -> dict[str, Any]:
    return {"waveform": torch.zeros((1, channels, round(seconds * sample_rate))), "sample_rate": sample_rate}


@pytest.fixture
def save(pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Save images with the defaults of the page, or other options; returns the file."""
    monkeypatch.chdir(tmp_path)
    node = pack.NODE_CLASS_MAPPINGS["FilmOpenVINOSaveWebM"]
    types = node.INPUT_TYPES()

    def run(images: torch.Tensor, **options: Any) -> Path:
        defaults = {name: given[1]["default"] for kind in ("required", "optional")
                    for name, given in types[kind].items() if "default" in given[1]}
        shown, = node().save(images, **defaults | options)["ui"]["images"]
        return tmp_path / shown["type"] / shown["subfolder"] / shown["filename"]

    return run


def played(path: Path) -> list[float]:
    """The shade of each frame, as the nearest of LEVELS."""
    with av.open(str(path)) as container:
        means = [(frame.to_ndarray()[:64].mean() - 16) / 219 for frame in container.decode(video=0)]
    return [min(LEVELS, key=lambda level: abs(level - mean)) for mean in means]


def test_options_that_a_saved_workflow_lacks_leave_the_file_as_it_was(pack: ModuleType, save: Any) -> None:
    whole = save(noise(), filename_prefix="whole").read_bytes()
    node = pack.NODE_CLASS_MAPPINGS["FilmOpenVINOSaveWebM"]()
    node.save(noise(), "five", 30.0, 20, "vp9")
    assert len(whole) == len(Path("output/five_00001_.webm").read_bytes())
    assert not list(Path("output").glob("*.png"))


@pytest.mark.parametrize(("options", "order"), [
    ({}, [0, 1, 2, 3]),
    ({"pingpong": True}, [0, 1, 2, 3, 2, 1]),
    ({"loop_count": 2}, [0, 1, 2, 3] * 3),
    ({"pingpong": True, "loop_count": 1}, [0, 1, 2, 3, 2, 1] * 2),
])
def test_frames_are_played_forth_and_back_and_again(save: Any, options: dict[str, Any], order: list[int]) -> None:
    assert played(save(shades(), **options)) == [LEVELS[number] for number in order]


@pytest.mark.parametrize("count", [1, 2])
def test_pingpong_of_one_or_two_frames_repeats_none(save: Any, count: int) -> None:
    assert played(save(shades()[:count], pingpong=True)) == list(LEVELS[:count])


@pytest.mark.parametrize(("options", "rate"), [
    ({"fps": 23.976}, "24000/1001"), ({"exact_fps": "24000/1001"}, "24000/1001"), ({"exact_fps": "1000/33"}, "1000/33"),
    ({"exact_fps": "12.5"}, "25/2"), ({"fps": 48.0}, "48")])
def test_the_frame_rate_is_exact(save: Any, options: dict[str, Any], rate: str) -> None:
    with av.open(str(save(shades(), **options))) as container:
        assert container.streams.video[0].average_rate == Fraction(rate)


def test_better_qualities_make_larger_files_with_either_codec(pack: ModuleType, save: Any) -> None:
    choices = pack.NODE_CLASS_MAPPINGS["FilmOpenVINOSaveWebM"].INPUT_TYPES()["optional"]["quality"][0]
    assert choices == ["by crf", "lossless", "visually lossless", "high", "medium", "small"]
    for codec in ("vp9", "av1"):
        sizes = [save(noise(), codec=codec, quality=quality).stat().st_size for quality in choices[2:]]
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4


def test_crf_counts_by_crf_only(save: Any) -> None:
    sizes = {(quality, crf): save(noise(), quality=quality, crf=crf).stat().st_size
             for quality in ("by crf", "small") for crf in (4, 50)}
    assert sizes["by crf", 4] > 2 * sizes["by crf", 50] and sizes["small", 4] == sizes["small", 50]


def test_lossless_is_exact_in_8_bits_with_odd_sides(save: Any) -> None:
    images = noise()
    with av.open(str(save(images, quality="lossless"))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(np.stack(frames), np.rint(images.numpy() * 255).astype(np.uint8))


def alpha_of(path: Path) -> np.ndarray | None:
    """The alpha of the first frame, from 0 to 255; None where there is none."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            for frame in decoder.decode(packet):
                if frame.format.name != "yuva420p":
                    return None
                plane = frame.planes[3]
                return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, :plane.width]
    raise AssertionError("there is no frame")


def test_alpha_is_kept_where_images_have_it_unless_it_is_switched_off(save: Any) -> None:
    kept = alpha_of(save(shades(4)))
    assert kept is not None and np.abs(kept - np.linspace(0, 255, 96)).max() <= 3
    assert alpha_of(save(shades(4), alpha=False)) is None
    assert alpha_of(save(shades(3))) is None
    assert alpha_of(save(shades(1))) is None


@pytest.mark.parametrize(("options", "message"), [
    ({"codec": "av1"}, "av1 has no alpha: choose codec vp9, or leave the alpha out"),
    ({"quality": "lossless"}, "Lossless is not to be had with alpha: choose codec vp9, 8 bits and no alpha")])
def test_alpha_is_not_lost_without_a_word(save: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        save(shades(4), **options)
    assert len(played(save(shades(4), alpha=False))) == 4
    assert len(list(Path().rglob("*.webm"))) == 1


def test_sound_goes_into_the_file(save: Any) -> None:
    with av.open(str(save(shades(), fps=4.0, audio=sound(0.75, channels=1)))) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.codec_context.layout.name) == ("opus", "mono")
        assert abs(sum(frame.samples for frame in container.decode(audio=0)) / 48000 - 0.75) < 0.021


def test_audio_that_is_made_when_it_is_asked_for_is_taken(save: Any) -> None:
    class Lazy(dict):  # type: ignore[type-arg]  # as a loader of videos gives it
        def __getitem__(self, name: str) -> Any:
            return sound()[name]

    with av.open(str(save(shades(), audio=Lazy()))) as container:
        assert len(container.streams.audio) == 1


@pytest.mark.parametrize(("audio", "message"), [
    ("sound.wav", "Audio is str without a waveform"),
    ({"waveform": torch.zeros((1, 2, 100))}, "Audio is dict without a waveform and a sample rate"),
    ({"waveform": torch.zeros((2, 100)), "sample_rate": 44100}, r"shape \(2, 100\) where \(1, channels, samples\)"),
    ({"waveform": torch.zeros((3, 2, 100)), "sample_rate": 44100}, r"shape \(3, 2, 100\).*connect one recording"),
    ({"waveform": None, "sample_rate": 44100}, r"shape \(\)"),
    (sound(0), "give some sound"), (sound(channels=5), "5 channels"), (sound(sample_rate=0), "samples"),
])
def test_wrong_audio_is_told_and_nothing_is_left(save: Any, tmp_path: Path, audio: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        save(shades(), audio=audio)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_wrong_quality_is_told_with_all_that_there_are(save: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Quality is 'best': choose one of by crf, lossless, visually lossless, high, "
                                        "medium, small"):
        save(shades(), quality="best")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_preview_goes_to_the_temp_folder(save: Any, tmp_path: Path) -> None:
    path = save(shades(), save_output=False)
    assert path == tmp_path / "temp" / "film" / "interpolated_00001_.webm" and len(played(path)) == 4
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_first_frame_is_saved_with_the_workflow(save: Any, channels: int) -> None:
    workflow = {"nodes": [{"title": "Łódź"}]}
    path = save(shades(channels), save_first_frame=True, prompt={"1": {}}, extra_pnginfo={"workflow": workflow})
    with Image.open(path.with_suffix(".png")) as image:
        assert image.mode == ("RGBA" if channels == 4 else "RGB") and image.size == (96, 64)
        assert json.loads(image.info["workflow"]) == workflow and json.loads(image.info["prompt"]) == {"1": {}}
        assert np.asarray(image)[0, 0, 0] == round(LEVELS[0] * 255)


def test_a_clip_that_fails_leaves_no_first_frame(save: Any, tmp_path: Path) -> None:
    images = shades()
    images[2, 0, 0, 0] = float("nan")
    with pytest.raises(Exception, match="Frame 3 has values from nan"):
        save(images, save_first_frame=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["film", "film/interpolated_00001_.webm/deeper"])
def test_an_output_folder_that_cannot_be_written_to_is_named(save: Any, name: str) -> None:
    Path("output").mkdir()
    Path("output/film").write_bytes(b"a file")
    with pytest.raises(Exception, match=r"output/film/.* can't be written .*choose another place"):
        save(shades(), filename_prefix=f"film/{name}")


def test_a_folder_that_comfyui_cannot_make_is_named(save: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    paths = SimpleNamespace(get_save_image_path=refuse, get_output_directory=lambda: "/srv/output")
    monkeypatch.setattr(importlib.import_module("film-openvino.nodes.host"), "folder_paths", paths)
    with pytest.raises(Exception, match=r"folder of film/clip can't be used in /srv/output \(Permission denied"):
        save(shades(), filename_prefix="film/clip")


@pytest.fixture
def replaced(pack: ModuleType) -> Any:
    return importlib.import_module(f"{pack.__name__}.nodes.file_name").with_tokens_replaced


PROMPT = {"3": {"class_type": "KSampler", "inputs": {"seed": 42, "cfg": 7.0, "denoise": 0.5, "model": ["4", 0]}},
          "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd/v1:5.safetensors", "tiled": True},
                "_meta": {"title": "My Model v1.5"}},
          "8": {"class_type": "KSampler", "inputs": {"seed": 43}}}
WORKFLOW = {"nodes": [{"id": 8, "properties": {"Node name for S&R": "second"}}, {"id": 99, "properties": None},
                      {"id": 5, "properties": {"Node name for S&R": "note"}}]}


@pytest.mark.parametrize(("prefix", "name"), [
    ("film/plain", "film/plain"), ("%KSampler.seed%_x", "42_x"), ("%second.seed%", "43"), ("%KSampler.cfg%", "7"),
    ("%KSampler.denoise%", "0.5"), ("%My Model v1.5.ckpt_name%", "sd_v1_5.safetensors"),
    ("%CheckpointLoaderSimple.tiled%", "true"), ("%year%-%width%", "%year%-%width%"), ("100%", "100%"),
    ("%KSampler.model%", "%KSampler.model%"), ("%KSampler.steps%", "%KSampler.steps%"),
    ("%Nobody.seed%", "%Nobody.seed%"), ("%note.text%", "%note.text%"), ("%KSampler.seed%/%second.seed%", "42/43")])
def test_the_values_of_nodes_go_into_the_name(replaced: Any, prefix: str, name: str) -> None:
    assert replaced(prefix, PROMPT, WORKFLOW) == name


@pytest.mark.parametrize(("prompt", "workflow"), [(None, None), ({}, {}), (PROMPT, None)])
def test_a_name_needs_no_workflow(replaced: Any, prompt: Any, workflow: Any) -> None:
    assert replaced("film_%second.seed%", prompt, workflow) == "film_%second.seed%"


def test_dates_are_written_as_the_page_writes_them(replaced: Any) -> None:
    before = datetime.now()
    written = replaced("%date:yyyy-MM-dd hh.mm.ss% %date:yy/M/d%", None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d \d\d/[1-9]\d?/[1-9]\d?", written)
    written_time = datetime.strptime(written[:19], "%Y-%m-%d %H.%M.%S")
    assert before.replace(microsecond=0) <= written_time <= datetime.now()
    assert datetime.strptime(written[20:], "%y/%m/%d").date() == written_time.date()


def test_a_value_cannot_lead_out_of_the_output_folder(replaced: Any, save: Any, tmp_path: Path) -> None:
    prompt = {"1": {"class_type": "Text", "inputs": {"text": "../../outside"}}}
    assert replaced("%Text.text%", prompt, None) == ".._.._outside"
    assert save(shades(), filename_prefix="%Text.text%/clip", prompt=prompt).is_relative_to(tmp_path / "output")
    prompt["1"]["inputs"] = {"text": ".."}
    with pytest.raises(Exception, match="names no file in the output folder"):
        save(shades(), filename_prefix="%Text.text%/clip", prompt=prompt)


def test_the_page_is_told_of_a_wrong_rate_before_the_run(pack: ModuleType) -> None:
    check = pack.NODE_CLASS_MAPPINGS["FilmOpenVINOSaveWebM"].VALIDATE_INPUTS
    assert "24000:1001 is no number" in check("film", "24000:1001")
    assert "-5 is not above 0" in check("film", "-5")
    assert check("%date:yyyy-MM-dd%/film", "24000/1001") is True
    assert check(None, None) is True  # both come from other nodes
    assert check("film") is True
