"""The example workflows as files; tests/test_comfyui.py runs them."""

import json
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_what_is_loaded_are_samples_of_the_pack_and_a_generated_batch_loads_nothing(file: Path) -> None:
    nodes = json.loads(file.read_text(encoding="utf-8"))["nodes"]
    names = [node["widgets_values"][0] for node in nodes if node["type"] in ("LoadImage", "LoadVideo")]
    assert bool(names) == (file.stem != "batch")
    for name in names:
        assert (ROOT / "samples" / name).is_file()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_has_a_small_picture_for_the_list_of_templates(file: Path) -> None:
    thumbnail = file.with_suffix(".jpg")
    assert thumbnail.stat().st_size < 100_000
    assert min(cv2.imread(str(thumbnail)).shape[:2]) > 200


def test_there_is_one_for_each_thing_that_people_do() -> None:
    assert [file.stem for file in EXAMPLES] == ["batch", "inspect", "int8", "loop", "slow_motion", "two_photos"]
