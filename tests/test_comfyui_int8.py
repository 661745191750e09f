"""Make INT8 Model in a real ComfyUI, through its API: the example workflow, run again, on other frames, cancelled."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.comfyui import (
    CLIP_FRAMES,
    ComfyUI,
    Prompt,
    changed,
    frames_of,
    id_of,
    inputs_of,
    prompt_of,
    workflow,
)

QUANTIZE, LOADER, VIDEO, COMPONENTS, LOAD = ("FilmOpenVINOQuantize", "FilmOpenVINOLoader",
                                             "FilmOpenVINOInterpolateVideo", "GetVideoComponents", "LoadVideo")
LEAST_PSNR = 40


@pytest.fixture(scope="module")
def prompt(server: ComfyUI, object_info: dict[str, Any]) -> Prompt:
    """The example workflow, which has run once."""
    prompt = prompt_of(workflow("int8"), object_info)
    run = server.run(prompt)
    assert run.error is None
    node = id_of(prompt, QUANTIZE)
    assert run.progress[node][-1] == (100, 100) and len(run.progress[node]) > 20
    report, = run.texts
    assert report.startswith("film_lite_int8 on CPU (") and "made of these frames" in report
    assert f"{manifest(server)['psnr']:.1f} dB against f32 on 2 of 6 pairs of frames" in report
    assert run.told[node][-1] in report
    assert "FILM OpenVINO: film_lite_int8, made of these frames; " in run.log
    assert "int8 (" in next(line for line in run.log.splitlines() if f"became {2 * CLIP_FRAMES}" in line)
    clip, = run.files
    assert rate_of(clip) == 2 * rate_of(server.input / "clip.mp4") and len(frames_of(clip)) == 2 * CLIP_FRAMES
    return prompt


def rate_of(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        return Fraction(container.streams.video[0].average_rate)


def write_at_half_the_rate(source: Path, path: Path) -> None:
    """Write a video's pictures, the very same, so that each is shown twice as long."""
    with av.open(str(source)) as container, av.open(str(path), "w") as slow:
        stream = slow.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.duration = 2 * packet.pts, 2 * packet.dts, 2 * packet.duration
                packet.stream = stream
                slow.mux(packet)


def film_json(server: ComfyUI) -> Path:
    return server.base / "models" / "film_openvino" / "film_lite_int8" / "film.json"


def manifest(server: ComfyUI) -> dict[str, Any]:
    return dict(json.loads(film_json(server).read_text(encoding="utf-8"))["int8"])


def forget(server: ComfyUI) -> None:
    """Run something else, so that ComfyUI's cache loses what ran before, as it does when ComfyUI ends."""
    assert server.run({"1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1,
                                                                    "color": 0}},
                       "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}).error is None


def on_other_frames(prompt: Prompt, **inputs: Any) -> Prompt:
    """Return the prompt made of the first frames of the clip alone."""
    new = changed(prompt, QUANTIZE, frames=["start", 0], **inputs)
    return new | {"start": {"class_type": "ImageFromBatch", "inputs": {
        "image": [id_of(prompt, COMPONENTS), 0], "batch_index": 0, "length": 4}}}


def test_the_example_makes_the_int8_version_and_the_loader_offers_it(server: ComfyUI, prompt: Prompt) -> None:
    assert manifest(server)["psnr"] >= LEAST_PSNR
    loader = inputs_of(server.object_info()[LOADER])
    assert "int8" in loader["precision"][0] and loader["model"][0] == ["film_lite"]
    again = {key: node for key, node in prompt.items() if node["class_type"] not in (QUANTIZE, "PreviewAny")}
    again = changed(changed(again, LOADER, precision="int8"), VIDEO, model=[id_of(prompt, LOADER), 0])
    run = server.run(again)
    assert run.error is None and f"int8 ({manifest(server)['psnr']:.1f} dB against f32)" in run.log


def test_the_rate_of_the_example_is_twice_that_of_the_clip(server: ComfyUI, prompt: Prompt) -> None:
    write_at_half_the_rate(server.input / "clip.mp4", server.input / "slow.mp4")
    run = server.run(changed(prompt, LOAD, file="slow.mp4"))
    assert run.error is None and "made earlier of these frames" in run.texts[0]
    clip, = run.files
    assert rate_of(clip) == rate_of(server.input / "clip.mp4") == 2 * rate_of(server.input / "slow.mp4")
    assert len(frames_of(clip)) == 2 * CLIP_FRAMES


def test_the_same_frames_are_not_calibrated_on_again(server: ComfyUI, prompt: Prompt) -> None:
    made = film_json(server).stat().st_mtime_ns
    forget(server)
    run = server.run(prompt)
    assert run.error is None and id_of(prompt, QUANTIZE) in run.executed
    assert id_of(prompt, QUANTIZE) not in run.progress and "made earlier of these frames" in run.texts[0]
    assert film_json(server).stat().st_mtime_ns == made


def test_what_was_made_of_other_frames_stays_where_it_is_not_to_be_replaced_and_where_that_is_cancelled(
        server: ComfyUI, prompt: Prompt) -> None:
    made, node = film_json(server).stat().st_mtime_ns, id_of(prompt, QUANTIZE)
    run = server.run(on_other_frames(prompt, replace=False))
    assert run.error is None and "made of other frames; turn on replace" in run.texts[0]

    def cancel(telling: str, done: int) -> None:
        if telling == node and done >= 20:  # within NNCF
            server.cancel()

    cancelled = server.run(on_other_frames(prompt), on_progress=cancel)
    assert cancelled.cancelled and cancelled.error is None and cancelled.progress[node][-1][0] < 100
    assert film_json(server).stat().st_mtime_ns == made
    assert [path.name for path in film_json(server).parents[1].iterdir()] == ["film_lite_int8"]


def test_an_int8_model_and_too_few_frames_are_refused_in_a_sentence(server: ComfyUI, prompt: Prompt) -> None:
    few = on_other_frames(prompt)
    few["start"]["inputs"]["length"] = 2
    for refused, words in ((changed(prompt, LOADER, precision="int8"), "is an int8 version already"),
                           (few, "give three or more frames")):
        error = server.run(refused).error
        assert error and words in error and error.strip().endswith(".")
