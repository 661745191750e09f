"""The command line, as it is typed."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ov_film.cli import main
from ov_film.errors import FilmError
from ov_film.figures import comparison, inspection
from ov_film.frame_rate import frame_rate
from ov_film.frames import read_frame, to_8_bits, write_png
from ov_film.model import FilmModel
from tests.conftest import ROOT, picture


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Three PNGs of 48x32."""
    paths = [tmp_path / f"{name}.png" for name in ("first", "last", "next")]
    for seed, path in enumerate(paths):
        write_png(path, to_8_bits(picture(32, 48, seed)))
    return [str(path) for path in paths]


@pytest.fixture
def common(small_folder: Path) -> list[str]:
    return ["--model", str(small_folder), "--device", "CPU", "--precision", "f32"]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail; return its one line."""
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("ov_film: ") and error.count("\n") == 1
    return error


def test_a_webm_holds_every_frame_at_its_rate(images: list[str], common: list[str], tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "out.webm"
    assert run("interpolate", *images, "--times", 2, "--fps", "29.97", "--crf", 4, "--output", output, *common) == 0
    assert "48x32: 9 frames" in capsys.readouterr().out
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9
    for index, path in ((0, images[0]), (4, images[1]), (8, images[2])):
        error = frames[index] / 255 - read_frame(Path(path))
        assert np.sqrt(np.mean(error ** 2)) < 0.03


def test_a_png_holds_the_midpoint(images: list[str], common: list[str], tmp_path: Path) -> None:
    assert run("interpolate", *images[:2], "--output", tmp_path / "midpoint.png", *common) == 0
    assert run("interpolate", *images[:2], "--output", tmp_path / "all", *common) == 0
    midpoint, again = (cv2.imread(str(path)) for path in (tmp_path / "midpoint.png", tmp_path / "all/frame_000002.png"))
    assert midpoint.shape == (32, 48, 3) and np.array_equal(midpoint, again)


def test_a_folder_holds_every_frame_and_the_sources_unchanged(images: list[str], common: list[str],
                                                               tmp_path: Path) -> None:
    assert run("interpolate", *images, "--times", 1, "--output", tmp_path / "all", *common) == 0
    assert sorted(os.listdir(tmp_path / "all")) == [f"frame_{number:06d}.png" for number in range(1, 6)]
    for number, path in ((1, images[0]), (3, images[1]), (5, images[2])):
        assert np.array_equal(cv2.imread(str(tmp_path / "all" / f"frame_{number:06d}.png")), cv2.imread(path))


def test_a_multiplier_makes_so_many_times_the_frames(images: list[str], common: list[str], tmp_path: Path,
                                                     small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("interpolate", *images, "--multiplier", 3, "--method", "direct", "--output", tmp_path / "all",
               *common) == 0
    assert ": 7 frames in" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "all")) == [f"frame_{number:06d}.png" for number in range(1, 8)]
    for number, path in ((1, images[0]), (4, images[1]), (7, images[2])):
        assert np.array_equal(cv2.imread(str(tmp_path / "all" / f"frame_{number:06d}.png")), cv2.imread(path))
    model = FilmModel.load(small_folder, "CPU", "f32")
    third = model.interpolate(*(read_frame(Path(path)) for path in images[:2]), time=1 / 3, method="direct")
    made = to_8_bits(read_frame(tmp_path / "all" / "frame_000002.png")).astype(int)
    assert np.abs(made - to_8_bits(third)).max() <= 1


def test_the_midpoint_is_alike_by_times_and_by_multiplier(images: list[str], common: list[str],
                                                          tmp_path: Path) -> None:
    figures = [tmp_path / "times.png", tmp_path / "multiplier.png"]
    for figure, options in zip(figures, (("--times", 2), ("--multiplier", 4)), strict=True):
        assert run("interpolate", *images, *options, "--figure", figure, "--output", tmp_path / figure.stem,
                   *common) == 0
    assert figures[0].read_bytes() == figures[1].read_bytes()


def test_a_figure_shows_first_midpoint_and_last(images: list[str], common: list[str], tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    assert run("interpolate", *images, "--times", 2, "--output", tmp_path / "all", "--figure", figure, *common) == 0
    shown = [read_frame(Path(path)) for path in (images[0], tmp_path / "all" / "frame_000003.png", images[1])]
    drawn, expected = to_8_bits(read_frame(figure)), comparison(*shown)
    frames = slice(drawn.shape[0] // 2)  # the differences below are of frames that were not rounded
    assert drawn.shape == expected.shape and np.array_equal(drawn[frames], expected[frames])


def test_inspect_draws_what_the_network_saw(images: list[str], common: list[str], tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str], small_folder: Path) -> None:
    assert run("inspect", *images[:2], "--output", tmp_path / "sheet.png", *common) == 0
    assert capsys.readouterr().out.startswith("small on CPU (")
    first, last = (read_frame(Path(path)) for path in images[:2])
    details = FilmModel.load(small_folder, "CPU", "f32").inspect(first, last)
    assert np.array_equal(to_8_bits(read_frame(tmp_path / "sheet.png")), inspection(first, last, details))
    assert "no PNG" in fails(capsys, "inspect", *images[:2], "--output", tmp_path / "sheet.webm", *common)


def test_an_image_that_is_read_is_not_written_over(images: list[str], common: list[str], tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    before = [Path(path).read_bytes() for path in images]
    first, last, other = *images[:2], tmp_path / "other.png"
    for command in (("interpolate", first, last, "--output", last), ("inspect", first, last, "--output", first),
                    ("interpolate", first, last, "--output", other, "--figure", tmp_path / "new" / ".." / "first.png")):
        assert "is an image to read as well" in fails(capsys, *command, *common)
    twice = "interpolate", first, last, "--output", other, "--figure", other
    assert "is the output as well" in fails(capsys, *twice, *common)
    assert [Path(path).read_bytes() for path in images] == before and not other.exists()


def test_grey_alpha_and_16_bit_images_are_read_as_rgb(tmp_path: Path) -> None:
    grey = (picture(8, 9)[..., 0] * 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "grey16.png"), grey)
    frame = read_frame(tmp_path / "grey16.png")
    assert np.abs(frame - grey[..., np.newaxis] / 65535).max() < 1e-6
    rgba = to_8_bits(picture(8, 9)).repeat(2, axis=2)[..., :4]
    cv2.imwrite(str(tmp_path / "rgba.png"), rgba)
    assert np.array_equal(to_8_bits(read_frame(tmp_path / "rgba.png")), rgba[..., 2::-1])


def test_bad_input_gets_one_line_and_leaves_nothing(images: list[str], common: list[str], tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "small.png", to_8_bits(picture(16, 16)))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    before = sorted(os.listdir(tmp_path))
    output, first, last = tmp_path / "out.webm", images[0], images[1]
    cases = {
        "nowhere.png can't be read": (first, tmp_path / "nowhere.png", "--output", output),
        "is damaged or of a kind": (first, tmp_path / "text.png", "--output", output),
        "is 48x32 and": (first, tmp_path / "small.png", "--output", output),
        "ends in .mp4": (first, last, "--output", tmp_path / "out.mp4"),
        "holds one midpoint, not 3 images": (*images, "--output", tmp_path / "out.png"),
        "holds one midpoint, not 2 images made 4 times": (first, last, "--times", 2, "--output", tmp_path / "out.png"),
        "exists and is not empty": (first, last, "--output", tmp_path / "full"),
        "choose a shorter name": (first, last, "--output", tmp_path / ("a" * 300 + ".webm")),
        "Times -1 is not": (first, last, "--times", -1, "--output", output),
        "--times: invalid int value": (first, last, "--times", "two", "--output", output),
        "Both --times and --multiplier are given": (first, last, "--times", 1, "--multiplier", 3, "--output", output),
        "Multiplier 0 is not between 1 and 64": (first, last, "--multiplier", 0, "--output", output),
        "Multiplier 65 is not between 1 and 64": (first, last, "--multiplier", 65, "--output", output),
        "--multiplier: invalid int value": (first, last, "--multiplier", "2.5", "--output", output),
        "holds one midpoint, not 2 images made 3 times": (first, last, "--multiplier", 3, "--output",
                                                          tmp_path / "out.png"),
        "Frame rate abc is no number": (first, last, "--fps", "abc", "--output", output),
        "Frame rate 0 is not above 0": (first, last, "--fps", "0", "--output", output),
        "CRF is 64": (first, last, "--crf", 64, "--output", output),
        "required: --output": (first, last),
        "required: LAST: see": (first, "--output", output),
        "Device 'TPU' is not among": (first, last, "--output", output, "--device", "TPU"),
        "Precision 'int1' is none": (first, last, "--output", output, "--precision", "int1"),
        "Model 'nothing' is not installed": (first, last, "--output", output, "--model", "nothing"),
        "Figure": (first, last, "--output", output, "--times", 0, "--figure", tmp_path / "figure.png"),
        "or an even --multiplier": (first, last, "--output", output, "--multiplier", 3, "--figure",
                                    tmp_path / "figure.png"),
    }
    for message, arguments in cases.items():
        line = fails(capsys, "interpolate", *common, *arguments)
        assert message in line, line
        assert sorted(os.listdir(tmp_path)) == before


def test_an_unknown_command_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "see python -m ov_film --help" in fails(capsys, "interpolat")
    assert "COMMAND" in fails(capsys)


def test_debug_shows_the_traceback(images: list[str], tmp_path: Path) -> None:
    with pytest.raises(FilmError):
        run("interpolate", images[0], tmp_path / "nowhere.png", "--output", tmp_path / "out.webm", "--debug")


def test_convert_says_what_it_proved(small_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", small_archive, tmp_path / "model") == 0
    assert "Largest difference from openvino at 128x64" in capsys.readouterr().out
    assert "doesn't exist" in fails(capsys, "convert", tmp_path / "nowhere", tmp_path / "other")


def test_devices_lists_the_processor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("devices") == 0
    assert any(line.startswith("CPU: ") and line.endswith("f32") for line in capsys.readouterr().out.splitlines())


def test_models_lists_the_bundled_one_and_how_to_get_the_other(capsys: pytest.CaptureFixture[str],
                                                               monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert run("models") == 0
    out = capsys.readouterr().out
    assert "film_lite: 3,185,299 parameters" in out
    assert "python install.py" in out and str(tmp_path / "models" / "film_openvino") in out


def test_it_runs_without_torch_tensorflow_and_comfyui(images: list[str], tmp_path: Path) -> None:
    program = ("import sys; from ov_film.cli import main; status = main(sys.argv[1:]); "
               "loaded = {'torch', 'tensorflow', 'folder_paths'} & set(sys.modules); "
               "sys.exit(status or bool(loaded))")
    done = subprocess.run([sys.executable, "-c", program, "interpolate", *images[:2], "--output",
                           str(tmp_path / "out.webm")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_libgl_names_the_headless_package(images: list[str], tmp_path: Path) -> None:
    program = ("import sys; sys.modules['cv2'] = None; from ov_film.cli import main; sys.exit(main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", program, "interpolate", *images[:2], "--output",
                           str(tmp_path / "out.webm")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install opencv-python-headless" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_leaves_no_partial_file(images: list[str], common: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ov_film", "interpolate", *images, "--times", "14", "--output",
               str(tmp_path / "out.webm"), *common]
    # A shell's background jobs ignore Ctrl-C, and hand that down.
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(tmp_path.glob(".out.*"))  # it is writing
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (1, "ov_film: interrupted; nothing was written.\n")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(("fps", "exact"), [
    (30.0, Fraction(30)), (23.976, Fraction(24000, 1001)), (23.98, Fraction(24000, 1001)),
    (59.94, Fraction(60000, 1001)), (12.5, Fraction(25, 2)), (0.01, Fraction(1, 100)), (33.33, Fraction(3333, 100)),
    ("24000/1001", Fraction(24000, 1001))])
def test_frame_rates_are_exact(fps: float | str, exact: Fraction) -> None:
    assert frame_rate(fps) == exact


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way on Windows")
def test_nothing_is_said_when_what_reads_the_output_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "ov_film", "models"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE,
                          text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
