"""Make RESULTS.md's tables and the plot of what bench.py measured."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.bench import RESULTS
from benchmarks.contenders import NOTEBOOK, OURS, TORCH, TORCH_ONE_FLOW

HERE = Path(__file__).absolute().parent
DOCUMENT, PLOT = HERE / "RESULTS.md", HERE / "speed.png"
START, END = "<!-- measured: written by make bench -->", "<!-- end of what was measured -->"
# Which of the processor's rates a contender's convolutions could have.
_RATES = {"f32": "f32", "bf16": "bf16", "int8": "int8", "direct bf16": "bf16", "direct int8": "int8"}


def main() -> None:
    """Write both."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    parts = [_machine(results)]
    parts += [f"### {name}\n\n{_table(job, results['rates'])}" for name, job in results["jobs"].items()]
    parts += [_growth(results["growth"]), _start(results["start"]), _quality(results["quality"])]
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(START)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + START + "\n\n" + "\n\n".join(parts) + "\n\n" + END + after, encoding="utf-8")
    _plot(results["jobs"])


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _machine(results: dict[str, Any]) -> str:
    machine, rates = results["machine"], results["rates"]
    measured = ", ".join(f"{rate / 1e9:.0f} G in {kind}" for kind, rate in rates.items())
    return (f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory']}; {machine['system']}, "
            f"OpenVINO {machine['openvino']}. 3x3 convolutions of 256 channels reach these multiply-adds a second "
            f"here: {measured}.")


def _table(job: dict[str, Any], rates: dict[str, float]) -> str:
    found = {name: figures | {"median": median(figures["seconds"])} for name, figures in job["found"].items()}
    peers = [name for name in (NOTEBOOK, TORCH, TORCH_ONE_FLOW) if name in found]
    rows = []
    for name, figures in found.items():
        share = ""
        if name in _RATES:
            method = "direct" if name.startswith("direct") else "recursive"
            rate = job["multiply_adds"][method] / job["new_frames"] / figures["median"]
            share = f"{rate / rates[_RATES[name]]:.0%}"
        rows.append([f"**{name}**" if name in OURS else name, f"{figures['median']:.2f}",
                     *(f"{found[peer]['median'] / figures['median']:.2f}x" for peer in peers),
                     f"{figures['peak'] / 1e9:.1f}" if "peak" in figures else "", share])
    return _rows(["", "s a new frame", *(f"against {peer}" for peer in peers), "peak GB", "of the rate"], rows)


def _growth(growth: dict[str, list[list[float]]]) -> str:
    def line(name: str, unit: str) -> str:
        return f"{name}: " + ", ".join(f"{count:g}{unit} {seconds:.2f} s" for count, seconds in growth[name])

    return ("### How the time grows (bf16)\n\n"
            f"- {line('pixels', ' px')} (one midpoint)\n- {line('frames', '')} (x2 at 256x256)\n"
            f"- {line('times', '')} (one pair at 256x256: 1, 3, 7, 15 new frames)")


def _start(start: dict[str, list[float]]) -> str:
    rows = [[name, f"{seconds[0]:.2f}", f"{median(seconds[1:]):.2f}"] for name, seconds in start.items()]
    return ("### Loading and compiling at 640x384, seconds\n\n"
            + _rows(["", "the first time", "again (median of 3)"], rows))


def _quality(quality: dict[str, float]) -> str:
    rows = [[name, "direct f32" if name in ("direct bf16", "direct int8") else "f32 recursion", f"{psnr:.1f}"]
            for name, psnr in quality.items()]
    return ("### film_lite on the sample frames, x8: PSNR in dB\n\n" + _rows(["", "against", "dB"], rows))


def _plot(jobs: dict[str, Any]) -> None:
    name, job = next((name, job) for name, job in jobs.items() if "x8" in name and "640x384" in name)
    found = {key: median(figures["seconds"]) for key, figures in job["found"].items()}
    names = sorted(found, key=found.__getitem__, reverse=True)
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1))
    bars = axes.barh([f"this pack, {key}" if key in OURS else key for key in names], [found[key] for key in names],
                     color=["#2a7f62" if key in OURS else "#b8b8b8" for key in names])
    axes.bar_label(bars, fmt="%.2f s", padding=3)
    axes.set_xlabel(f"seconds a new frame, full FILM, {name}, 2 cores (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    main()
