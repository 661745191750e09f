"""Run the comparison: this pack's ways and its peers, alternating in one run, and write RESULTS.md's tables."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil

from benchmarks.contenders import ONE_FLOW, OURS, PEERS, SAMPLES, Job, work
from benchmarks.rate import convolution_rate, multiply_adds
from ov_film import FilmModel
from ov_film.calibration import read_pairs
from ov_film.convert import convert
from ov_film.quantize import quantize

HERE = Path(__file__).absolute().parent
SIZES = {"256x256": (256, 256), "640x384": (384, 640), "1920x1088": (1088, 1920)}
_AT_A_TIME = 8
RESULTS = HERE / "results.json"
LITE = HERE.parent / "ov_film" / "bundled" / "film_lite"
START = """
import sys, time
from ov_film import FilmModel
began = time.perf_counter()
FilmModel.load(sys.argv[1], "CPU").prepare(384, 640)
print(time.perf_counter() - began)
"""


def main() -> None:
    """Compare, and keep what was found in results.json, from which report.py makes tables and a plot."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--saved-model", type=Path, help="a SavedModel of the full FILM (default: one with random "
                                                         "weights is made)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--contenders", nargs="+", choices=OURS | PEERS, default=list(OURS | PEERS))
    parser.add_argument("--rounds", type=int, default=3, help="medians are of so many; the largest size has one")
    options = parser.parse_args()
    # What was measured before at other sizes stays.
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"jobs": {}}
    results["machine"] = machine()
    results["rates"] = {kind: convolution_rate(kind) for kind in ("f32", "bf16", "int8")}
    with tempfile.TemporaryDirectory() as scratch:
        saved_model = options.saved_model or _random_saved_model(Path(scratch) / "saved_model")
        folder = Path(scratch) / "film"
        convert(saved_model, folder)
        quantize(folder, read_pairs(SAMPLES), Path(scratch) / "film_int8")
        results["start"] = start_up(folder)
        results["growth"] = growth(folder)
        for size in options.sizes:
            for job in (Job("one pair x8", *SIZES[size], 2, 3), Job("9 frames x2", *SIZES[size], 9, 1)):
                found = compare(job, saved_model, folder, options.contenders, options.rounds)
                results["jobs"][f"{job.name}, {size}"] = {
                    "found": found, "new_frames": job.new_frames, "multiply_adds": multiply_adds(folder, job)}
                RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    results["quality"] = quality()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def compare(job: Job, saved_model: Path, folder: Path, contenders: Sequence[str],
            rounds: int) -> dict[str, dict[str, Any]]:
    """Return for each contender its seconds a new frame in each round, and its peak memory in bytes.

    Eight at a time take turns, after a first run each that is not counted because it compiles: 24 GB don't hold more,
    and the first eight are those whose ratios are told. At the largest size each has the memory for itself and one
    round, and only those of one run for each new frame get a first run: others take minutes.
    In the second job, a clip at x2, one flow for all times is one flow for each: so those that do so are left out.
    """
    names = [name for name in contenders if job.times > 1 or name not in ONE_FLOW]
    large = job.height * job.width > 1 << 20
    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in names}
    at_a_time = 1 if large else _AT_A_TIME
    for group in (names[start:start + at_a_time] for start in range(0, len(names), at_a_time)):
        workers = {name: _Worker(name, saved_model, folder, job) for name in group}
        for number in range(2 if large else rounds + 1):
            for name, worker in list(workers.items()):
                if number == 0 and large and not (OURS | PEERS)[name].whole_runs:
                    continue
                try:
                    seconds = worker.run()
                except (EOFError, BrokenPipeError):
                    print(f"{job.name} {job.width}x{job.height} {name}: crashed", flush=True)
                    del workers[name], found[name]
                    continue
                print(f"{job.name} {job.width}x{job.height} {name}: {seconds:.3f} s a new frame", flush=True)
                if number:
                    found[name]["seconds"].append(seconds)
        for name, worker in workers.items():
            found[name]["peak"] = worker.end()
    return found


class _Worker:
    """A contender in a process of its own."""

    def __init__(self, name: str, saved_model: Path, folder: Path, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, name, saved_model, folder, job))
        self._process.start()
        theirs.close()  # so that a crash over there ends the wait here

    def run(self) -> float:
        self._pipe.send(True)
        seconds: float = self._pipe.recv()
        return seconds

    def end(self) -> int:
        self._pipe.send(False)
        peak: int = self._pipe.recv()
        self._process.join()
        return peak


def start_up(folder: Path) -> dict[str, list[float]]:
    """Return the seconds to load and compile at 640x384 in bf16, the first time and again, of film and film_lite."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, source in (("film", folder), ("film_lite", LITE)):
            copy = Path(shutil.copytree(source, Path(scratch) / name, ignore=shutil.ignore_patterns(".cache")))
            worker = [sys.executable, "-c", START, str(copy)]
            found[name] = [float(subprocess.run(worker, capture_output=True, check=True, text=True).stdout)
                           for _ in range(4)]
    return found


def growth(folder: Path) -> dict[str, list[list[float]]]:
    """Return seconds in all, in bf16, against pixels (one midpoint), frames (x2) and times (one pair)."""
    def seconds(height: int, width: int, frames: int, times: int) -> float:
        model = FilmModel.load(folder, "CPU", "bf16")
        pictures = Job("", height, width, frames, times).pictures()
        found = []
        for _ in range(3):
            began = time.perf_counter()
            for _frame in model.interpolate_sequence(pictures, times):
                pass
            found.append(time.perf_counter() - began)
        return min(found)

    return {"pixels": [[side * side, seconds(side, side, 2, 1)] for side in (128, 256, 384, 512, 640)],
            "frames": [[count, seconds(256, 256, count, 1)] for count in (2, 3, 5, 9, 17)],
            "times": [[times, seconds(256, 256, 2, times)] for times in (1, 2, 3, 4)]}


def quality() -> dict[str, float]:
    """Return film_lite's PSNR against its f32 recursion, over the seven frames of a x8 of the samples, in dB.

    film_lite because its weights are trained; random ones would tell nothing of pictures.
    """
    pictures = Job("", 384, 640, 2, 3).pictures()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "film_lite"
        folder.symlink_to(LITE)
        quantize(folder, read_pairs(SAMPLES), Path(scratch) / "film_lite_int8")

        def frames(precision: str, method: Any) -> np.ndarray:
            model = FilmModel.load(folder, "CPU", precision)
            return np.stack(list(model.interpolate_sequence(pictures, 3, method))[1:-1])

        exact, direct = frames("f32", "recursive"), frames("f32", "direct")
        others = {"bf16": frames("bf16", "recursive"), "int8": frames("int8", "recursive"), "direct f32": direct,
                  "direct bf16": frames("bf16", "direct"), "direct int8": frames("int8", "direct")}
        against = {name: direct if name in ("direct bf16", "direct int8") else exact for name in others}
        return {name: float(-10 * np.log10(np.mean((found - against[name]) ** 2))) for name, found in others.items()}


def machine() -> dict[str, str]:
    """Describe what this runs on."""
    return {"processor": ov.Core().get_property("CPU", "FULL_DEVICE_NAME").strip(),
            "cores": str(psutil.cpu_count()), "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
            "capabilities": ", ".join(sorted(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
            "system": f"{platform.system()}, Python {platform.python_version()}", "openvino": ov.__version__}


def _random_saved_model(path: Path) -> Path:
    from tests.film_tensorflow import Sizes, write_saved_model

    write_saved_model(path, Sizes(pyramid_levels=7, fusion_pyramid_levels=5, specialized_levels=3, sub_levels=4,
                                  filters=64, flow_convs=(3, 3, 3, 3), flow_filters=(32, 64, 128, 256)))
    return path


if __name__ == "__main__":
    main()
