"""Run the comparison: this pack's ways and its peers, alternating in one run, and write RESULTS.md's tables."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil

from benchmarks.contenders import NOTEBOOK, OURS, PEERS, TORCH, TORCH_ONE_FLOW, Job, work
from benchmarks.rate import convolution_rate, multiply_adds
from ov_film import FilmModel
from ov_film.convert import convert
from ov_film.quantize import quantize, read_pairs

HERE = Path(__file__).absolute().parent
SIZES = {"256x256": (256, 256), "640x384": (384, 640), "1920x1088": (1088, 1920)}
MARKS = ("<!-- measured: written by make bench -->", "<!-- end -->")


def main() -> None:
    """Compare, and write what was found."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--saved-model", type=Path, help="a SavedModel of the full FILM (default: one with random "
                                                         "weights is made)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3, help="medians are of so many; the largest size has one round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        saved_model = options.saved_model or _random_saved_model(Path(scratch) / "saved_model")
        folder = Path(scratch) / "film"
        convert(saved_model, folder)
        quantize(folder, read_pairs(HERE.parent / "samples"), Path(scratch) / "film_int8")
        results = {"machine": machine(), "rates": {kind: convolution_rate(kind) for kind in ("f32", "bf16", "int8")},
                   "jobs": []}
        for size in options.sizes:
            height, width = SIZES[size]
            for job in (Job("one pair x8", height, width, 2, 3), Job("9 frames x2", height, width, 9, 1)):
                found = compare(job, saved_model, folder, options.rounds if size != "1920x1088" else 1)
                results["jobs"].append({"job": job.name, "size": size, "found": found,
                                        "multiply_adds": multiply_adds(folder, job)})
                (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        results["growth"] = growth(folder)
    results["quality"] = quality()
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def compare(job: Job, saved_model: Path, folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Return for each contender its seconds a new frame in each round, and its peak memory in bytes.

    The first run of each, which compiles, is not counted. With more than one round all take turns; with one, each has
    the memory for itself. Those that take a whole run for each new frame are not run again for the second job.
    """
    names = [name for name in OURS | PEERS if job.frames == 2 or name in OURS]
    groups = [names] if rounds > 1 else [[name] for name in names]
    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in names}
    context = multiprocessing.get_context("spawn")
    for group in groups:
        workers = {}
        for name in group:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, name, saved_model, folder, job))
            process.start()
            theirs.close()  # so that a crash over there ends the wait here
            workers[name] = (process, ours)
        for number in range(rounds + 1):
            for name, (_, pipe) in workers.items():
                pipe.send(True)
                seconds = pipe.recv()
                print(f"{job.name} {job.width}x{job.height} {name}: {seconds:.3f} s a new frame", flush=True)
                if number:
                    found[name]["seconds"].append(seconds)
        for name, (process, pipe) in workers.items():
            pipe.send(False)
            found[name]["peak"] = pipe.recv()
            process.join()
    for figures in found.values():
        figures["median"] = statistics.median(figures["seconds"])
    for figures in found.values():
        figures["ratio"] = {peer: found[peer]["median"] / figures["median"]
                            for peer in (NOTEBOOK, TORCH, TORCH_ONE_FLOW) if peer in found}
    return found


def growth(folder: Path) -> dict[str, list[list[float]]]:
    """Return seconds in all, in bf16, against pixels (one midpoint), frames (x2) and times (one pair)."""
    import time

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
        convert_from = HERE.parent / "ov_film" / "bundled" / "film_lite"
        folder.symlink_to(convert_from)
        quantize(folder, read_pairs(HERE.parent / "samples"), Path(scratch) / "film_lite_int8")

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
