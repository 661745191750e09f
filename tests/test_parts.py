"""The parts of videos that no run goes on with."""

import logging
import os
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ov_film.errors import FilmError
from ov_film.parts import ABANDONED_DAYS, Parts, opened_parts, remove_abandoned

DAY = 24 * 60 * 60
PLAN = {"source": "a clip"}


class StopError(Exception):
    """What a cancelled run raises."""


def stopped(folder: Path, days: float) -> Path:
    """Make a folder of parts that a run has left so many days ago."""
    with pytest.raises(StopError), opened_parts(folder, PLAN) as parts:
        add(parts)
        raise StopError
    then = time.time() - days * DAY
    os.utime(folder, (then, then))
    return folder


def add(parts: Parts) -> None:
    with parts.part() as path:
        path.write_bytes(b"frames")
    parts.add(60, 0)


def test_parts_stay_where_the_run_is_stopped_and_go_where_it_ends(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "parts", days=0)
    with opened_parts(folder, PLAN) as parts:
        assert parts.frames == 60
        add(parts)
        assert [part.frames for part in parts.finished()] == [60, 60]
    assert not list(tmp_path.iterdir())


def test_parts_of_another_plan_give_way(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "parts", days=0)
    with opened_parts(folder, {"source": "another clip"}) as parts:
        assert parts.frames == 0 and not parts.finished()


def test_parts_that_nobody_went_on_with_are_removed_after_a_month(tmp_path: Path) -> None:
    old, kept, young = (stopped(tmp_path / name, days) for name, days in
                        (("old", ABANDONED_DAYS + 1), ("kept", ABANDONED_DAYS + 1), ("young", ABANDONED_DAYS - 1)))
    (tmp_path / "no parts").mkdir()
    os.utime(tmp_path / "no parts", (0, 0))
    (tmp_path / "file").write_text("the user's own")
    assert remove_abandoned(tmp_path, keep=kept) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "kept", "no parts", "young"]
    assert not old.exists() and young.exists()
    assert remove_abandoned(tmp_path / "nowhere", keep=kept) == 0


def test_old_parts_that_a_run_works_on_stay(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "parts", days=0)
    with opened_parts(folder, PLAN) as parts:
        os.utime(folder, (0, 0))
        assert remove_abandoned(tmp_path, keep=tmp_path / "other") == 0
        assert parts.finished()


def test_a_second_run_of_the_same_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with opened_parts(tmp_path / "parts", PLAN) as parts:
        add(parts)
        with pytest.raises(FilmError, match="wait until it has ended"), opened_parts(tmp_path / "parts", {}):
            pass
        assert len(parts.finished()) == 1


def test_the_node_says_in_the_log_what_it_removed(pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  caplog: pytest.LogCaptureFixture) -> None:
    node = sys.modules[f"{pack.__name__}.nodes.interpolate_video"]
    stopped(tmp_path / ".film_openvino" / "old", ABANDONED_DAYS + 1)
    monkeypatch.setattr(node.host, "folder_paths", SimpleNamespace(
        get_output_directory=lambda: str(tmp_path), get_temp_directory=lambda: str(tmp_path),
        get_save_image_path=lambda *_: (str(tmp_path), "video", 1, "", "")))
    monkeypatch.setattr(node.host, "video_source", lambda video: video)
    monkeypatch.setattr(node, "interpolate_video", lambda *_, **__: "a report")
    with caplog.at_level(logging.INFO):
        node.InterpolateVideo().interpolate(SimpleNamespace(report=str), Path(__file__), 2, "", False)
    assert "removed the parts of 1 video that no run went on with for 30 days" in caplog.text
    assert not list((tmp_path / ".film_openvino").iterdir())
