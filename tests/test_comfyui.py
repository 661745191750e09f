"""The pack in a real ComfyUI, found in $COMFYUI_DIR or in the home folder (comfy/ComfyUI), through its API."""

import copy
import json
import re
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.comfyui import (
    NAME,
    NOTES,
    SAMPLES,
    SIZE,
    ComfyUI,
    Prompt,
    Run,
    cancelling,
    changed,
    files_in,
    frames_of,
    id_of,
    inputs_of,
    prompt_of,
    running_comfyui,
    workflow,
)

IDS = ("FilmOpenVINOLoader", "FilmOpenVINOInterpolatePair", "FilmOpenVINORecursiveInterpolate", "FilmOpenVINOSaveWebM",
       "FilmOpenVINOInspect", "FilmOpenVINOInterpolateVideo", "FilmOpenVINOQuantize")
LOADER, PAIR, RECURSIVE, SAVE, INSPECT, *_ = IDS
ALLOWED_LATE = 32  # frames made while a cancel is under way, on a busy machine


@pytest.fixture
def prompt(object_info: dict[str, Any]) -> Prompt:
    """The example workflow of two photos."""
    return prompt_of(workflow("two_photos"), object_info)


def inputs_in(prompt: Prompt) -> dict[str, Any]:
    """Return what was chosen in a prompt, without what ComfyUI adds as it runs."""
    return {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()}


def with_photos(prompt: Prompt, first: str, last: str) -> Prompt:
    """Return the prompt with other photos."""
    new = copy.deepcopy(prompt)
    for name, node in zip((first, last), (n for n in new.values() if n["class_type"] == "LoadImage"), strict=True):
        node["inputs"]["image"] = name
    return new


def picture(path: Path) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    return image


def psnr(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(np.mean((image / 255.0 - reference / 255.0) ** 2)))


@pytest.mark.parametrize("told", [{}, {"output": None}, {"output": {}}, {"output": {"images": None, "text": None}}])
def test_a_node_that_shows_nothing_when_it_has_ended_is_no_fault(tmp_path: Path, told: dict[str, Any]) -> None:
    run = Run()
    message = json.dumps({"type": "executed", "data": {"node": "1", **told}})
    assert ComfyUI(tmp_path, port=0)._take(message, run, None)
    assert run == Run()


def test_the_pack_loads_without_a_warning(server: ComfyUI, object_info: dict[str, Any]) -> None:
    told = [line for line in server.log().split("got prompt")[0].splitlines() if NAME in line or "ov_film" in line]
    assert len(told) == 1 and re.fullmatch(rf"\s*[\d.]+ seconds: .*{NAME}", told[0]), told


def test_the_page_is_told_what_every_node_and_input_does(object_info: dict[str, Any]) -> None:
    assert {name for name, node in object_info.items() if node["python_module"].endswith(NAME)} == set(IDS)
    for name in IDS:
        assert object_info[name]["description"]
        for label, options in inputs_of(object_info[name]).items():
            assert options[1]["tooltip"], f"{name}.{label}"


def test_the_page_finds_the_help_pages_their_pictures_and_the_translations(server: ComfyUI) -> None:
    for name in IDS:
        page = server.get(f"extensions/{NAME}/docs/{name}.md").decode()
        for picture_path in re.findall(r"images/[\w.]+", page):
            assert len(server.get(f"extensions/{NAME}/docs/{picture_path}")) > 1000
        for language in ("zh", "ja", "de"):
            assert server.get(f"extensions/{NAME}/docs/{name}/{language}.md").startswith(b"# ")
    translations = json.loads(server.get("i18n"))
    for language in ("en", "zh", "ja", "de"):
        assert set(translations[language]["nodeDefs"]) == set(IDS)


@pytest.mark.parametrize("name", ["two_photos", "batch", "inspect", "slow_motion", "loop", "int8"])
def test_an_example_workflow_names_the_inputs_and_outputs_that_the_nodes_have(
        object_info: dict[str, Any], name: str) -> None:
    nodes = workflow(name)["nodes"]
    for node in nodes:
        if node["type"] not in NOTES:
            info = object_info[node["type"]]
            assert {given["name"] for given in node["inputs"]} - {"upload"} == set(inputs_of(info))
            assert [(given["name"], given["type"]) for given in node["outputs"]] == list(
                zip(info["output_name"], info["output"], strict=True))
    assert any(node["type"] in NOTES for node in nodes)


def test_an_example_workflow_makes_its_clip(server: ComfyUI, object_info: dict[str, Any]) -> None:
    page = workflow("two_photos")
    prompt = prompt_of(page, object_info)
    run = server.run(prompt, page)
    assert run.error is None and len(run.files) == 1
    sources = [picture(server.input / f"{sample}.png") for sample in ("first", "last")]
    gap = 2 ** prompt[id_of(prompt, RECURSIVE)]["inputs"]["times_to_interpolate"]
    frames = frames_of(run.files[0])
    assert len(frames) == (len(sources) - 1) * gap + 1
    for source, frame in zip(sources, frames[::gap], strict=True):
        assert psnr(frame, source) > 32  # the new frames beside it come to 30.5
    assert all(psnr(frame, after) < 50 for frame, after in pairwise(frames)), "two frames are alike"
    with av.open(str(run.files[0])) as container:
        assert inputs_in(json.loads(container.metadata["PROMPT"])) == inputs_in(prompt)
        assert json.loads(container.metadata["WORKFLOW"]) == page
        video = container.streams.video[0]
        context = video.codec_context
        assert "vp9" in context.name and video.average_rate == prompt[id_of(prompt, SAVE)]["inputs"]["fps"]
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)


def test_the_example_of_a_generated_batch_moves_its_light_evenly(
        server: ComfyUI, object_info: dict[str, Any]) -> None:
    run = server.run(prompt_of(workflow("batch"), object_info))
    assert run.error is None and len(run.files) == 1
    frames = frames_of(run.files[0])
    assert len(frames) == 2 * 16 + 1
    middles = [np.argwhere(frame[..., 0] > 200).mean(axis=0)[::-1] for frame in frames]
    assert np.abs(np.diff(middles, axis=0)[:, 0] - 50 / 16).max() < 1.5
    for number, (x, y) in zip((0, 16, 32), ((120, 240), (170, 200), (220, 160)), strict=True):
        assert np.abs(middles[number] - (x, y)).max() < 1.5


def test_the_example_of_a_loop_goes_from_the_last_image_to_the_first(
        server: ComfyUI, object_info: dict[str, Any]) -> None:
    run = server.run(prompt_of(workflow("loop"), object_info))
    assert run.error is None
    frames = frames_of(run.files[0])
    assert len(frames) == 8 * len(SAMPLES)
    assert frames[0].shape == (SIZE[1], SIZE[0], 3)
    around = [abs(frames[index - 1].astype(float) - frames[index]).mean() for index in range(len(frames))]
    assert around[0] < 2 * max(around[1:]), "the clip jumps where it begins again"


def test_a_run_logs_what_ran_and_no_warning(server: ComfyUI, prompt: Prompt) -> None:
    log = server.run(changed(prompt, RECURSIVE, times_to_interpolate=2)).log
    assert re.search(r"^FILM OpenVINO: film_lite on CPU \(.+\), (f32|bf16|f16), 160x96, 3 new frames\.$", log, re.M)
    others = [line for line in log.splitlines() if not line.startswith("FILM OpenVINO: ")]
    assert [line for line in others if f"{NAME}/" in line] == []  # as warnings and tracebacks name a file


def test_each_new_frame_is_shown_as_it_is_made(server: ComfyUI, prompt: Prompt) -> None:
    run = server.run(changed(prompt, RECURSIVE, times_to_interpolate=3))
    assert run.progress[id_of(prompt, RECURSIVE)] == [(done, 7) for done in range(1, 8)]
    assert run.progress[id_of(prompt, SAVE)] == [(done, 9) for done in range(1, 10)]
    assert len(run.previews) == 7
    shown = cv2.imdecode(np.frombuffer(run.previews[-1], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert psnr(cv2.resize(shown, SIZE, None, 0, 0, cv2.INTER_AREA), frames_of(run.files[0])[-2]) > 30


def test_a_longer_run_tells_its_speed_and_the_time_left(server: ComfyUI, prompt: Prompt) -> None:
    long = with_photos(changed(prompt, RECURSIVE, times_to_interpolate=6), "large_first.png", "large_last.png")
    run = server.run(long)
    assert run.error is None
    *texts, last = run.told[id_of(long, RECURSIVE)]
    assert texts and all(re.fullmatch(r"\d+ of 63 frames, [\d.]+ frames/s, \d+ s left", text) for text in texts[1:])
    assert re.fullmatch(r"63 of 63 frames, [\d.]+ frames/s", last)


def test_a_second_run_keeps_the_model(server: ComfyUI, prompt: Prompt) -> None:
    again = changed(prompt, RECURSIVE, times_to_interpolate=1)
    server.run(prompt)
    assert id_of(prompt, LOADER) not in server.run(again).executed
    server.run(colour_prompt(frames=1))  # ComfyUI forgets what this prompt has not
    run = server.run(again)
    assert id_of(prompt, LOADER) in run.executed
    # The loader's line gives the size of the last run: a model loaded anew has none.
    assert re.search(r"^FILM OpenVINO: film_lite on CPU \(.+\), \w+, 160x96\.$", run.log, re.M)


def test_a_cancel_ends_the_interpolation_and_leaves_nothing(server: ComfyUI, prompt: Prompt) -> None:
    long = with_photos(changed(prompt, RECURSIVE, times_to_interpolate=8), "large_first.png", "large_last.png")
    node, before = id_of(long, RECURSIVE), files_in(server.output)
    run = server.run(long, on_progress=cancelling(server, node))
    assert run.cancelled and run.error is None
    assert len(run.progress[node]) < 3 + ALLOWED_LATE
    assert files_in(server.output) == before
    assert len(frames_of(server.run(changed(prompt, RECURSIVE, times_to_interpolate=2)).files[0])) == 5


def test_a_cancel_ends_the_writing_of_a_file_and_leaves_nothing(server: ComfyUI) -> None:
    prompt, before = colour_prompt(frames=4096), files_in(server.output)
    node = id_of(prompt, SAVE)
    run = server.run(prompt, on_progress=cancelling(server, node))
    assert run.cancelled and run.error is None
    assert 3 <= len(run.progress[node]) < 4096
    assert all(re.fullmatch(r"\d+ of 4096 frames.*|Stopped at \d+ of 4096 frames", text)
               for text in run.told.get(node, []))
    assert files_in(server.output) == before


def test_photos_of_two_sizes_are_refused_with_both_and_the_node_that_helps(server: ComfyUI, prompt: Prompt) -> None:
    error = server.run(with_photos(prompt, "first.png", "odd_last.png")).error
    assert error
    for part in ("160x90", "101x67", "Upscale Image"):
        assert part in error


def test_a_model_that_is_not_installed_is_refused_with_the_way_to_get_it(server: ComfyUI, prompt: Prompt) -> None:
    error = server.run(changed(prompt, LOADER, model="film")).error
    assert error and "'film' is not installed" in error and "install.py" in error


def test_a_path_that_a_workflow_gives_for_a_model_is_refused(server: ComfyUI, prompt: Prompt) -> None:
    bundled = Path(__file__).absolute().parent.parent / "ov_film" / "bundled" / "film_lite"
    for path in (str(bundled), "../../film_lite"):
        error = server.run(changed(prompt, LOADER, model=path)).error
        assert error and "is not installed" in error


def test_a_name_that_leaves_the_output_folder_is_refused(server: ComfyUI, prompt: Prompt) -> None:
    before = files_in(server.output.parent)
    small = changed(prompt, RECURSIVE, times_to_interpolate=0)
    error = server.run(changed(small, SAVE, filename_prefix="../outside")).error
    assert error and "output folder" in error
    assert [file for file in files_in(server.output.parent) if file.suffix == ".webm" and file not in before] == []


def test_odd_sizes_go_through(server: ComfyUI, prompt: Prompt) -> None:
    odd = with_photos(changed(prompt, RECURSIVE, times_to_interpolate=1), "odd_first.png", "odd_last.png")
    recursive = odd[id_of(odd, RECURSIVE)]["inputs"]
    odd["pair"] = {"class_type": PAIR, "inputs": {
        "model": recursive["model"], "first": recursive["images"], "last": recursive["last"], "time": 0.5}}
    odd["png"] = {"class_type": "SaveImage", "inputs": {"images": ["pair", 0], "filename_prefix": "odd"}}
    run = server.run(odd)
    assert run.error is None
    midpoint, = (picture(file) for file in run.files if file.suffix == ".png")
    clip, = (frames_of(file) for file in run.files if file.suffix == ".webm")
    assert midpoint.shape == (67, 101, 3)
    assert [frame.shape for frame in clip] == [(68, 102, 3)] * 3
    assert psnr(clip[1][:67, :101], midpoint) > 30


def test_a_multiplier_of_three_puts_two_frames_into_the_gap(server: ComfyUI, prompt: Prompt) -> None:
    run = server.run(changed(prompt, RECURSIVE, multiplier=3, method="direct"))
    assert run.error is None
    assert [len(frames_of(file)) for file in run.files if file.suffix == ".webm"] == [4]
    error = server.run(changed(prompt, RECURSIVE, multiplier=65)).error
    assert error and "multiplier" in error


def test_the_example_of_inspect_shows_the_frame_and_where_it_comes_from(
        server: ComfyUI, object_info: dict[str, Any]) -> None:
    prompt = prompt_of(workflow("inspect"), object_info)
    run = server.run(prompt)
    assert run.error is None and run.progress[id_of(prompt, INSPECT)] == [(1, 1)]
    pictures = sorted((picture(file) for file in run.files), key=lambda image: image.size)
    assert len(pictures) == 3 and pictures[0].shape == (SIZE[1], SIZE[0], 3)
    _, compared, sheet = pictures
    assert sheet.shape[1] == compared.shape[1] > 900 and sheet.shape[0] > compared.shape[0] > 300


def test_a_preview_with_sound_and_the_values_of_nodes_in_its_name(server: ComfyUI) -> None:
    with wave.open(str(server.input / "sound.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(bytes(22050 * 2 * 2))
    prompt = colour_prompt(frames=12)
    prompt["3"] = {"class_type": "LoadAudio", "inputs": {"audio": "sound.wav"}}
    prompt["4"] = {"class_type": "PrimitiveString", "inputs": {"value": "%EmptyImage.batch_size%/%date:yyyy%_%width%"}}
    prompt["2"]["inputs"] |= {"audio": ["3", 0], "filename_prefix": ["4", 0], "quality": "small", "pingpong": True,
                              "save_output": False, "save_first_frame": True}
    run = server.run(prompt)
    assert run.error is None
    clip, = run.files
    assert re.fullmatch(r"temp/12/20\d\d_64_00001_\.webm", clip.relative_to(server.base).as_posix())
    assert clip.with_suffix(".png").is_file()
    with av.open(str(clip)) as container:
        assert len(container.streams.audio) == 1 and sum(1 for _ in container.decode(video=0)) == 22


def test_without_metadata_the_file_holds_no_workflow(comfyui: Path, tmp_path: Path) -> None:
    with running_comfyui(comfyui, tmp_path / "base", "--disable-metadata") as server:
        run = server.run(colour_prompt(frames=2), {"nodes": []})
    assert run.error is None
    with av.open(str(run.files[0])) as container:
        assert {"PROMPT", "WORKFLOW"}.isdisjoint(container.metadata)


def colour_prompt(frames: int) -> Prompt:
    """Return a prompt that saves frames of one colour, without a network."""
    inputs = {"1": {"width": 64, "height": 64, "batch_size": frames, "color": 255},
              "2": {"images": ["1", 0], "filename_prefix": "colour", "fps": 30.0, "crf": 20, "codec": "vp9"}}
    return {"1": {"class_type": "EmptyImage", "inputs": inputs["1"]}, "2": {"class_type": SAVE, "inputs": inputs["2"]}}
