"""What HDR10 says of the mastering display and of how bright pictures get."""

from pathlib import Path

import av
import pytest

from ov_film.clip import open_clip
from ov_film.hdr import Hdr, read_hdr
from tests.clips import moving, run, write_clip

HDR10 = ("log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,500):"
         "max-cll=1000,400")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames in 10 bits, BT.2020 and PQ."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving(4), codec="libx265",
                      pixel_format="yuv420p10le", tags=(9, 16, 9, 1), options={"crf": "10", "x265-params": HDR10})


def test_it_is_read(clip: Path) -> None:
    hdr = open_clip(clip).hdr
    assert [float(value) for value in hdr.display] == [
        0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.05, 1000]
    assert hdr.light == (1000, 400)


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.mov", "out.webm"])
def test_it_stays_or_it_is_said(tmp_path: Path, clip: Path, output: str) -> None:
    assert "HDR" not in str(run(clip, tmp_path / output))
    for number, value in enumerate(open_clip(tmp_path / output).hdr.display):
        assert float(value) == pytest.approx(float(open_clip(clip).hdr.display[number]), abs=1e-4)
    assert open_clip(tmp_path / output).hdr.light == (1000, 400)
    codec = "vp9" if output == "out.webm" else "h264"
    assert "HDR's mastering display and light level left out" in str(run(clip, tmp_path / output, codec=codec))


def test_other_clips_have_none(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving(2))
    assert open_clip(source).hdr == Hdr() and "HDR" not in str(run(source, tmp_path / "out.mp4"))
    with av.open(str(source)) as container:
        assert read_hdr(next(container.decode(video=0)).side_data) == Hdr()
