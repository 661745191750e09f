"""What the nodes tell of how far they are."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

Clock = Callable[[float], None]


@pytest.fixture
def progress(pack: ModuleType) -> ModuleType:
    return sys.modules[f"{pack.__name__}.nodes.progress"]


@pytest.fixture
def texts(progress: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown on the node."""
    shown: list[str] = []
    monkeypatch.setattr(progress.host, "show_text", shown.append)
    return shown


@pytest.fixture
def sleep(progress: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let time pass: a number of seconds."""
    now = [1000.0]

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return pass_by


def test_it_tells_the_frames_done_their_speed_and_the_time_left(
        progress: ModuleType, texts: list[str], sleep: Clock) -> None:
    show = progress.FrameProgress(480)
    sleep(20)  # to compile the network
    show(1, None)
    for done in range(2, 122):
        sleep(0.1)
        show(done, None)
    assert texts[0] == "1 of 480 frames"
    assert len(texts) <= 1 + 12 / 0.5, "more than twice a second"
    sleep(0.5)
    show(126, None)
    assert texts[-1] == "126 of 480 frames, 10.0 frames/s, 35 s left"


@pytest.mark.parametrize(("seconds", "total", "text"), [
    (0.004, 2001, "1001 of 2001 frames, 250 frames/s, 4 s left"),
    (4, 2001, "1001 of 2001 frames, 0.25 frames/s, 1 h 7 min left"),
    (0.5, 1501, "1001 of 1501 frames, 2.00 frames/s, 4 min left")])
def test_it_counts_in_units_that_people_read(progress: ModuleType, texts: list[str], sleep: Clock, seconds: float,
                                             total: int, text: str) -> None:
    show = progress.FrameProgress(total)
    show(1, None)
    sleep(1000 * seconds)
    show(1001, None)
    assert texts == [text]


def test_a_run_that_goes_on_counts_its_own_frames_for_the_speed(
        progress: ModuleType, texts: list[str], sleep: Clock) -> None:
    show = progress.FrameProgress(200)
    show(101, None)
    sleep(10)
    show(121, None)
    assert texts == ["121 of 200 frames, 2.00 frames/s, 40 s left"]


def test_one_frame_is_one_frame(progress: ModuleType, texts: list[str], sleep: Clock) -> None:
    show = progress.FrameProgress(1)
    sleep(1)
    show(1, None)
    assert texts == ["1 of 1 frame"]


def test_it_ends_with_all_frames_and_no_time_left(progress: ModuleType, texts: list[str], sleep: Clock) -> None:
    show = progress.FrameProgress(3)
    for done, seconds in ((1, 0), (2, 1), (3, 0.1)):
        sleep(seconds)
        show(done, None)
    assert texts[-1] == "3 of 3 frames, 1.82 frames/s"


def test_a_run_of_a_moment_shows_no_words(progress: ModuleType, texts: list[str], sleep: Clock) -> None:
    show = progress.FrameProgress(3)
    for done in (1, 2, 3):
        sleep(0.1)
        show(done, None)
    assert texts == []


def test_a_long_run_writes_to_the_log_now_and_then(progress: ModuleType, texts: list[str], sleep: Clock,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    show = progress.FrameProgress(100)
    with caplog.at_level(logging.INFO):
        for done in range(1, 51):
            show(done, None)
            sleep(0.5)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["FILM OpenVINO: 21 of 100 frames, 2.00 frames/s, 40 s left",
                     "FILM OpenVINO: 41 of 100 frames, 2.00 frames/s, 30 s left"]


def test_a_cancelled_run_says_where_it_stopped(progress: ModuleType, texts: list[str], sleep: Clock,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    class CancelledError(Exception):
        pass

    def bar(done: int, _frame: Any) -> None:
        if done == 9:
            raise CancelledError

    monkeypatch.setattr(progress.host, "progress", lambda total: bar)
    show = progress.FrameProgress(100)
    with pytest.raises(CancelledError):
        for done in range(1, 100):
            show(done, None)
            sleep(1)
    assert texts[-2:] == ["9 of 100 frames, 1.00 frames/s, 91 s left", "Stopped at 9 of 100 frames"]


class Server:
    """What ComfyUI's server is to the nodes; an old one can't send texts."""

    client_id: str | None = "page"
    last_node_id = "7"


class NewServer(Server):
    """One that can."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    def send_progress_text(self, text: str, node_id: str, sid: str) -> None:
        self.sent.append((text, node_id, sid))


def test_the_text_goes_to_the_page_and_node_that_run_where_comfyui_can(
        progress: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    host, server = progress.host, NewServer()
    for instance in (Server(), server):
        monkeypatch.setattr(host, "PromptServer", SimpleNamespace(instance=instance))
        host.show_text("a text")
    assert server.sent == [("a text", "7", "page")]
    server.client_id = None  # queued through the API by nobody who listens
    host.show_text("another")
    monkeypatch.setattr(host, "PromptServer", None)
    host.show_text("outside ComfyUI")
    assert len(server.sent) == 1


@pytest.mark.parametrize("name", ["RecursiveInterpolate", "InterpolatePair", "SaveWebM"])
def test_a_node_tells_of_each_frame(pack: ModuleType, progress: ModuleType, texts: list[str], tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(progress, "_TEXT_SECONDS", 0)
    monkeypatch.chdir(tmp_path)
    nodes = pack.NODE_CLASS_MAPPINGS
    film = nodes["FilmOpenVINOLoader"]().load("film_lite", "CPU", "f32")[0]
    frames = torch.rand(4, 32, 32, 3)
    node = nodes[f"FilmOpenVINO{name}"]()
    if name == "RecursiveInterpolate":
        node.interpolate(film, frames[:2], 2)
    elif name == "InterpolatePair":
        node.interpolate(film, frames[:3], frames[1:], 0.5)
    else:
        node.save(frames[:3], "clip", 25.0, 40, "vp9")
    assert [text.split(",")[0] for text in texts] == [f"{done} of 3 frames" for done in (1, 2, 3)]
