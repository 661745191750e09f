"""Memory of interpolating a video, at its peak, by the number of frames; each run is a process of its own."""

import argparse
import re
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ov_film.frames import read_frame, to_8_bits
from ov_film.interpolate_video import interpolate_video
from ov_film.retiming import Retiming
from tests.clips import Blend

PHOTO = Path(__file__).absolute().parent.parent / "samples" / "first.png"
HEIGHT, WIDTH, RATE = 360, 640, Fraction(24)


def main() -> None:
    """Print the peak of the resident memory of a process that doubles a clip's frames with a model that blends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--suffix", default=".mp4", choices=(".mp4", ".mkv", ".webm"))
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)  # the process of one run is told of its clip
    options = parser.parse_args()
    if options.clip:
        interpolate_video(options.clip, options.clip.with_name(f"out{options.suffix}"), Blend(),  # type: ignore[arg-type]
                          Retiming(drop_duplicates=True, loop=True))
        print(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
        return
    print("| frames | peak, MB |\n|---|---|")
    for count in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            clip = write_clip(Path(folder) / "in.mp4", count)
            run = subprocess.run([sys.executable, "-m", "benchmarks.video_memory", "--clip", str(clip), "--suffix",
                                  options.suffix], check=True, capture_output=True, text=True)
        print(f"| {count} | {int(run.stdout) / 1000:.0f} |", flush=True)


def write_clip(path: Path, count: int) -> Path:
    """Write a pan to and fro over a photo, with sound."""
    photo = to_8_bits(cv2.resize(read_frame(PHOTO), (WIDTH + 200, HEIGHT + 200), interpolation=cv2.INTER_AREA))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        sound = container.add_stream("aac", rate=48_000, layout="stereo")
        for number in range(count):
            at = abs(number * 2 % 400 - 200)
            frame = np.ascontiguousarray(photo[at:at + HEIGHT, at:at + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            noise = np.random.default_rng(number).normal(0, 0.1, (2, 2000)).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
            samples.sample_rate, samples.pts = 48_000, 2000 * number
            container.mux(sound.encode(samples))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    return path


if __name__ == "__main__":
    main()
