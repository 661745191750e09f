"""The report on a machine, with facts of machines that this one is not."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ov_film.cli import main
from ov_film.devices import Device
from ov_film.doctor import missing_device, model_troubles, package_troubles, page, speed_test
from ov_film.environment import Facts, Machine, Packages, find_facts, version
from ov_film.library import read_manifest
from ov_film.model import FilmModel
from tests.conftest import ROOT

CPU = Device("CPU", "Some Processor", ("bf16", "f32"))
GPU = Device("GPU", "Some Graphics", ("f16", "f32"))
HEALTHY = Packages({"openvino": "2026.4.1", "numpy": "2.4.6", "opencv-python": "4.12.0", "av": "16.0.0"},
                   ("openvino>=2025.0", "numpy>=1.26", "opencv-python>=4.8", "av>=15"))
FACTS = Facts(("1.2.3", Path("/pack")), ("3.11.2", Path("/python")), HEALTHY, Machine(intel_gpu=False, intel_npu=False),
              (CPU,), (8_000_000_000, 16_000_000_000))
RENDER, ACCEL = "/dev/dri/renderD128", "/dev/accel/accel0"


def packages(**versions: str) -> Packages:
    """Return HEALTHY with other versions ("": not installed; "_" stands for "-")."""
    changed = {**HEALTHY.versions, **{name.replace("_", "-"): text for name, text in versions.items()}}
    return replace(HEALTHY, versions={name: text for name, text in changed.items() if text})


@pytest.mark.parametrize(("vnni", "said"), [(True, "; has VNNI"), (False, "; no VNNI"), (None, "; f32\n")])
def test_it_says_whether_int8_is_worth_it_on_the_processor(vnni: bool | None, said: str) -> None:
    cpu = replace(CPU, precisions=("f32",))
    assert said in page(replace(FACTS, machine=Machine(vnni=vnni), devices=(cpu,))).split("CPU: ")[1]


@pytest.mark.parametrize(("machine", "reason"), [
    (Machine("Darwin"), "on a Mac"),
    (Machine("Windows"), "newest driver from Intel"),
    (Machine(wsl=True), "WSL passes no GPU on"),
    (Machine(wsl=True, device_files={"/dev/dxg": True}), "sudo apt install intel-opencl-icd"),
    (Machine(intel_gpu=False), "this machine has no Intel GPU"),
    (Machine(intel_gpu=True, container=True), "the container has no /dev/dri: start it with --device /dev/dri"),
    (Machine(intel_gpu=True), "no driver for it loaded (i915 or xe)"),
    (Machine(intel_gpu=None), "started without --device /dev/dri"),
    (Machine(intel_gpu=True, device_files={RENDER: False}), "sudo usermod -aG render $USER"),
    (Machine(intel_gpu=True, container=True, device_files={RENDER: False}), "--group-add"),
    (Machine(intel_gpu=True, device_files={RENDER: True}), "sudo apt install intel-opencl-icd"),
    (Machine(intel_gpu=True, device_files={RENDER: True}, compute_runtime=True), "finds no GPU that it knows"),
])
def test_it_says_why_there_is_no_gpu(machine: Machine, reason: str) -> None:
    assert reason in missing_device("GPU", machine)
    assert reason in page(replace(FACTS, machine=machine))
    assert "GPU: none" not in page(replace(FACTS, machine=machine, devices=(CPU, GPU)))


@pytest.mark.parametrize(("machine", "reason"), [
    (Machine("Darwin"), "on a Mac"),
    (Machine("Windows"), "newest driver from Intel"),
    (Machine(wsl=True, device_files={"/dev/dxg": True}), "none is passed on to WSL"),
    (Machine(intel_npu=False), "this machine has no Intel NPU"),
    (Machine(intel_npu=True, device_files={RENDER: True}), "intel_vpu, Linux 6.6 or newer"),
    (Machine(intel_npu=True, container=True), "--device /dev/accel"),
    (Machine(intel_npu=True, device_files={ACCEL: False}), "sudo usermod -aG render $USER"),
    (Machine(intel_npu=True, device_files={ACCEL: True}), "linux-npu-driver"),
])
def test_it_says_why_there_is_no_npu(machine: Machine, reason: str) -> None:
    assert reason in missing_device("NPU", machine)


def test_a_healthy_environment_has_no_troubles() -> None:
    assert package_troubles(HEALTHY) == []
    assert "Troubles\n  none\n" in page(FACTS)


@pytest.mark.parametrize(("found", "trouble"), [
    (packages(av=""), "av is not installed: python -m pip install -r requirements.txt"),
    (packages(av="12.3.0"), 'av is 12.3.0 where >=15 is needed: python -m pip install --upgrade "av>=15"'),
    (packages(opencv_python_headless="4.11.0"), "opencv-python 4.12.0 and opencv-python-headless 4.11.0 share"),
    (packages(openvino_nightly="2026.5.0.dev1"), "openvino and openvino-nightly share a folder"),
    (packages(openvino_dev="2024.6.0"), "openvino-dev 2024.6.0 is for OpenVINO of its own version, not 2026.4.1"),
    (replace(packages(numpy="2.7.0"), needs={"openvino": ("numpy<2.6.0,>=1.16.6", 'x>=9; extra == "y"')}),
     "openvino 2026.4.1 needs numpy<2.6.0,>=1.16.6, but 2.7.0 is installed"),
    (replace(packages(tensorflow="2.21.0", protobuf="4.25.0"), needs={"tensorflow": ("protobuf<8.0.0,>=6.31.1",)}),
     "tensorflow 2.21.0 needs protobuf<8.0.0,>=6.31.1, but 4.25.0 is installed"),
    (replace(HEALTHY, broken={"opencv-python": "libGL.so.1: cannot open"}), "pip install opencv-python-headless"),
    (replace(HEALTHY, broken={"av": "numpy.core.multiarray failed to import"}), "built for another NumPy"),
    (replace(packages(opencv_python="", opencv_python_headless="4.12.0"), broken={"opencv-python": "no cv2.abi3.so"}),
     "opencv-python-headless can't be imported (no cv2.abi3.so): python -m pip install --force-reinstall "
     "opencv-python-headless"),
    (replace(HEALTHY, broken={"openvino": "undefined symbol"}), "pip install --force-reinstall openvino"),
])
def test_it_finds_what_is_wrong_with_the_packages(found: Packages, trouble: str) -> None:
    troubles = package_troubles(found)
    assert len(troubles) == 1 and trouble in troubles[0]
    text = page(replace(FACTS, packages=found))
    assert trouble in text and "mend what stands under Troubles" in text


def test_what_works_is_no_trouble() -> None:
    assert package_troubles(packages(opencv_python="", opencv_python_headless="4.12.0")) == []  # as the README says
    assert package_troubles(packages(opencv_contrib_python="4.12.0")) == []  # one version: nothing is overwritten
    assert package_troubles(packages(openvino_dev="2026.4.1")) == []
    missing = replace(packages(av=""), broken={"av": "No module named 'av'"})
    assert len(package_troubles(missing)) == 1, "what is missing is told once"


def test_without_openvino_the_page_is_there_all_the_same() -> None:
    text = page(replace(FACTS, devices=(), packages=replace(HEALTHY, broken={"openvino": "no"})))
    assert "OpenVINO can't be imported" in text and "GPU: none" not in text


def test_models_are_listed_with_what_was_proved_of_them(small_folder: Path) -> None:
    text = page(FACTS, [small_folder.parent])
    assert f"{small_folder}" in text and "from openvino (largest difference)" in text
    assert "film: not installed" in text and "python install.py fetches the full model" in text


def test_a_damaged_model_is_a_trouble(small_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "film")
    assert model_troubles([tmp_path]) == []
    (folder / "fusion.bin").write_bytes(b"")
    trouble, = model_troubles([tmp_path])
    assert "fusion.bin is damaged" in trouble and trouble.endswith("convert it again (python install.py --force)")
    (folder / "film.json").write_text("{}")
    assert "is damaged" in page(FACTS, [tmp_path])


def test_a_folder_that_holds_a_part_of_a_model_is_a_trouble(small_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_folder, tmp_path / "film")
    (tmp_path / "notes").mkdir()
    (folder / "fusion.xml").unlink()
    trouble, = model_troubles([tmp_path])
    assert f"{folder} lacks fusion.xml" in trouble and "python install.py --force" in trouble


def test_an_int8_version_of_other_weights_is_a_trouble(small_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "film")
    int8 = shutil.copytree(small_folder, tmp_path / "film_int8")
    fields: dict[str, Any] = json.loads((int8 / "film.json").read_text())
    fields["int8"] = {"psnr": 45.67, "made_of": read_manifest(small_folder).weights}
    (int8 / "film.json").write_text(json.dumps(fields))
    assert model_troubles([tmp_path]) == []
    text = page(FACTS, [tmp_path])
    assert "45.7 dB against f32" in text and "ov_film quantize" not in text
    fields["int8"]["made_of"] = "others"
    (int8 / "film.json").write_text(json.dumps(fields))
    assert "was made of other weights" in model_troubles([tmp_path])[0]


def test_the_way_to_int8_names_its_package_where_it_is_missing(small_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "film")
    assert "python -m pip install nncf, then python -m ov_film quantize film " in page(FACTS, [tmp_path])
    assert "install nncf" not in page(replace(FACTS, packages=packages(nncf="3.4.0")), [tmp_path])
    assert "ov_film quantize" not in page(FACTS)  # the pack's own model has its int8 version


def test_the_speed_test_measures_one_size_and_marks_the_others_as_estimates(model: FilmModel) -> None:
    measured, *estimates = speed_test(model, seconds=0.01)
    assert "256x256" in measured and "median" in measured and "estimate" not in measured
    assert [line.split(":")[0] for line in estimates] == ["512x512", "1280x720", "1920x1080"]
    assert all("estimate" in line for line in estimates)
    seconds = [float(line.split("about ")[1].split(" s")[0]) for line in estimates]
    assert seconds[2] / seconds[0] == pytest.approx(1920 * 1080 / 512 ** 2, rel=0.1)


def test_this_machine_is_looked_at() -> None:
    facts = find_facts()
    assert facts.pack == (version(), ROOT) and facts.packages.broken == {}
    assert any(device.name == "CPU" for device in facts.devices) and 0 < facts.memory[0] < facts.memory[1]
    assert {"openvino", "numpy", "opencv-python"} <= set(facts.packages.versions)
    assert "openvino" in facts.packages.needs and "openvino>=2025.0" in facts.packages.required


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for heading in ("Packages", "Devices", "Models", "Speed", "Troubles", "Next"):
        assert f"\n{heading}\n" in printed
    assert "(estimate by pixels)" in printed


@pytest.mark.parametrize(("module", "package"), [("openvino", "openvino"), ("cv2", "opencv-python"), ("av", "av")])
def test_a_package_that_cannot_be_imported_is_told_of_and_the_rest_of_the_page_is_there(
        module: str, package: str) -> None:
    program = f"import sys; sys.modules['{module}'] = None; from ov_film.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
    assert f"{package} can't be imported" in done.stdout and "\nNext\n" in done.stdout


def test_an_opencv_of_which_pip_left_a_folder_alone_is_told_of(tmp_path: Path) -> None:
    hollow = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['cv2'] = cv2 = type(sys)('cv2'); " \
             "cv2.__file__ = None; from ov_film.cli import main; sys.exit(main(sys.argv[1:]))"
    for arguments, status in ((["doctor"], 0), (["interpolate", "a.png", "b.png", "--output", "c.png"], 1)):
        done = subprocess.run([sys.executable, "-c", hollow, *arguments], cwd=tmp_path, capture_output=True,
                              text=True, check=False)
        assert done.returncode == status
        assert "can't be imported (its folder cv2 is all but empty)" in done.stdout + done.stderr
        assert "pip install --force-reinstall opencv-python" in done.stdout + done.stderr
