"""The pack in ComfyUI's page, in a real browser: node, playwright-core and Chromium are needed beside a ComfyUI."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui import PACK, SIZE, ComfyUI

PAGE = Path(__file__).parent / "page"
EXAMPLES = PACK / "example_workflows"
RUN_SECONDS = 900
# ComfyUI's page raises it as it loads for a new user, without any pack too: version 1.27 of its front end changes a
# setting before it knows of it.
FAULT_OF_THE_PAGE = "Cannot read properties of undefined (reading 'id')"


@pytest.fixture(scope="module")
def seen(server: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser saw; its screenshots lie in pytest's temp folder."""
    node, chromium = shutil.which("node"), shutil.which("chromium") or shutil.which("google-chrome")
    if not (node and chromium and (PAGE / "node_modules" / "playwright-core").exists()):
        pytest.skip("no node, Chromium or playwright-core (npm install --prefix tests/page)")
    shots = tmp_path_factory.mktemp("page")
    command = [node, str(PAGE / "page.mjs"), chromium, server.address, str(EXAMPLES), str(PACK / "samples"),
               str(shots)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    print(f"screenshots: {shots}")
    return dict(json.loads(done.stdout))


def test_the_page_raises_no_error(seen: dict[str, Any]) -> None:
    assert set(seen["loading"]) <= {FAULT_OF_THE_PAGE} and seen["errors"] == []


def progress(told: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(event["value"], event["max"]) for event in told if event["kind"] == "progress"]


def kinds(told: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in told]


def test_the_first_run_takes_the_clicks_that_the_readme_counts(seen: dict[str, Any]) -> None:
    first = seen["firstRun"]
    print(f"first run: {first['clicks']} clicks, {first['seconds']} s")
    assert kinds(first["told"])[-1] == "execution_success" and first["clip"]["moved"]
    assert first["clip"]["width"] == 640, "other images than those that were uploaded"
    assert first["clicks"] == 6 and "six clicks" in (PACK / "README.md").read_text(encoding="utf-8")


def test_every_example_opens_without_a_red_node(seen: dict[str, Any]) -> None:
    assert set(seen["examples"]) == {file.stem for file in EXAMPLES.glob("*.json")}
    for name, nodes in seen["examples"].items():
        types = [node["type"] for node in json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))["nodes"]]
        assert sorted(node["type"] for node in nodes) == sorted(types)
        for node in nodes:
            assert node["known"] and not node["red"] and node["wrong"] == [], f"{name}: {node}"


def test_a_run_shows_its_progress_and_each_frame_and_the_clip_plays(seen: dict[str, Any]) -> None:
    first = seen["run"]["first"]
    assert (15, 15) in progress(first) and (17, 17) in progress(first)
    assert kinds(first).count("b_preview") == 15 and kinds(first)[-1] == "execution_success"
    clip = seen["run"]["clip"]
    assert clip["moved"] and clip["width"] == SIZE[0] and clip["seconds"] == pytest.approx(17 / 30, abs=0.05)
    assert (3, 3) in progress(seen["run"]["again"]), "a second run made other frames than were asked for"


def test_a_cancelled_video_goes_on_and_plays(seen: dict[str, Any]) -> None:
    cancelled, again = seen["cancel"]["cancelled"], seen["cancel"]["again"]
    assert kinds(cancelled)[-1] == "execution_interrupted" and progress(cancelled)[-1][0] < 80
    assert progress(again)[0][0] > progress(cancelled)[-1][0] and progress(again)[-1] == (80, 80)
    assert kinds(again)[-1] == "execution_success"
    assert re.fullmatch(r"\d+ of 80 frames, [\d.]+ frames/s, \d+ (s|min) left", seen["cancel"]["text"])
    assert [event["text"] for event in cancelled if "text" in event][-1].startswith("Stopped at ")
    assert seen["cancel"]["clip"]["moved"] and seen["cancel"]["clip"]["width"] == 640


def test_each_node_shows_its_help_page(seen: dict[str, Any]) -> None:
    pages = (PACK / "web" / "docs").glob("*.md")
    titles = {page.stem: page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in pages}
    assert seen["help"] == titles


def test_in_another_language_each_node_shows_the_help_page_of_that_language(seen: dict[str, Any]) -> None:
    definitions = json.loads((PACK / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert seen["translated"] == {name: node["display_name"] for name, node in definitions.items()}
