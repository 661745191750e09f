"""Interpolate Video in a real ComfyUI, through its API: from Load Video to Save Video."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.comfyui import (
    CLIP_FRAMES,
    ComfyUI,
    Prompt,
    cancelling,
    changed,
    files_in,
    id_of,
    prompt_of,
    workflow,
)

VIDEO, LOAD, SAVE = "FilmOpenVINOInterpolateVideo", "LoadVideo", "SaveVideo"
RATE = 25
ALLOWED_LATE = 1  # frames made while a cancel is under way


@pytest.fixture
def prompt(object_info: dict[str, Any]) -> Prompt:
    """The example workflow of slow motion."""
    return prompt_of(workflow("slow_motion"), object_info)


def described(path: Path) -> tuple[int, Fraction, Fraction, Fraction]:
    """Return a video's frames, rate, and how many seconds its pictures and its sound last."""
    with av.open(str(path)) as container:
        video, = container.streams.video
        audio, = container.streams.audio
        rate, seconds = video.average_rate, video.duration * video.time_base
        sound = audio.duration * audio.time_base
        return sum(1 for _ in container.decode(video)), Fraction(rate), Fraction(seconds), Fraction(sound)


def report_of(prompt: Prompt) -> Prompt:
    """Return the prompt with what shows the report."""
    return prompt | {"report": {"class_type": "PreviewAny", "inputs": {"source": [id_of(prompt, VIDEO), 1]}}}


def test_the_example_of_slow_motion_lasts_four_times_as_long_with_its_sound(
        server: ComfyUI, prompt: Prompt) -> None:
    page = workflow("slow_motion")
    run = server.run(prompt, page)
    assert run.error is None
    clip, = run.files
    frames, rate, seconds, sound = described(clip)
    assert (frames, rate, seconds) == (4 * CLIP_FRAMES, RATE, Fraction(4 * CLIP_FRAMES, RATE))
    assert abs(sound - seconds) < 4 * Fraction(1, RATE)
    assert run.progress[id_of(prompt, VIDEO)] == [(done, frames) for done in range(1, frames + 1)]
    assert len(run.previews) == frames
    with av.open(str(clip)) as container:
        assert json.loads(container.metadata["workflow"]) == page


def test_a_smoother_video_keeps_its_length_and_its_sound(server: ComfyUI, prompt: Prompt) -> None:
    run = server.run(changed(prompt, VIDEO, fps="60", slow_motion=False, codec="h265"))
    assert run.error is None
    clip, = run.files
    frames, rate, seconds, sound = described(clip)
    source = described(server.input / "clip.mp4")
    assert rate == 60 and frames == -(-CLIP_FRAMES * 60 // RATE)
    assert abs(seconds - source[2]) < Fraction(1, 60) and abs(sound - source[3]) < Fraction(1, RATE)
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.name == "hevc"
        assert container.streams.audio[0].codec_context.name == "aac"


def test_a_cancelled_run_ends_within_a_frame_and_goes_on_when_queued_again(server: ComfyUI, prompt: Prompt) -> None:
    long = report_of(changed(changed(prompt, LOAD, file="large_clip.mp4"), VIDEO, multiplier=2.0))
    node, before = id_of(long, VIDEO), {path for path in files_in(server.output) if path.suffix == ".mp4"}
    run = server.run(long, on_progress=cancelling(server, node))
    done = len(run.progress[node])
    assert run.cancelled and run.error is None and done <= 3 + ALLOWED_LATE
    kept = {path for path in files_in(server.output) if path.suffix == ".mp4"} - before
    assert kept and all(".film_openvino" in path.parts for path in kept)
    again = server.run(long)
    assert again.error is None
    assert re.fullmatch(r"80 of 80 frames, [\d.]+ frames/s", again.told[node][-1])
    first, total = again.progress[node][0]
    assert first - 1 in (done, done + 1) and total == 80  # a cancel comes before a frame that is made is told
    assert f"; {first - 1} frames of an earlier run" in again.texts[0]
    clip, = again.files
    assert described(clip)[0] == 80
    assert not [path for path in files_in(server.output) if ".film_openvino" in path.parts]


def test_a_video_of_images_goes_in(server: ComfyUI, prompt: Prompt) -> None:
    made = {key: node for key, node in prompt.items() if node["class_type"] != LOAD}
    made["images"] = {"class_type": "LoadImage", "inputs": {"image": "first.png"}}
    made["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["images", 0], "amount": 3}}
    made["video"] = {"class_type": "CreateVideo", "inputs": {"images": ["batch", 0], "fps": 24.0}}
    run = server.run(changed(made, VIDEO, video=["video", 0], multiplier=2.5, slow_motion=False))
    assert run.error is None
    with av.open(str(run.files[0])) as container:
        assert container.streams.video[0].average_rate == 60
        assert sum(1 for _ in container.decode(video=0)) == 8


@pytest.mark.parametrize(("inputs", "words"), [
    ({"fps": "fast"}, "fast"), ({"fps": "12"}, "below"), ({"skip": "9-1"}, "9-1")])
def test_what_cannot_be_is_refused_in_a_sentence(
        server: ComfyUI, prompt: Prompt, inputs: dict[str, Any], words: str) -> None:
    error = server.run(changed(prompt, VIDEO, **inputs)).error
    assert error and words in error and error.strip().endswith(".")
