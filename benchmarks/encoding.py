"""The encoder against plain PyAV, which is FFmpeg: the same options, but rgb24 frames through FFmpeg's scaler."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ov_film.encoding import CODECS, Codec, Encoder, Encoding, open_container
from ov_film.frames import Frame, read_frame, to_8_bits

PHOTO = Path(__file__).absolute().parent.parent / "samples" / "first.png"
SIZES = {"640x360": (360, 640, 60), "1920x1080": (1080, 1920, 24)}
RATE = Fraction(24)


def main() -> None:
    """Print the frames a second of both, the median of rounds in turn."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    options = parser.parse_args()
    print("| size | codec | ours, frames/s | FFmpeg, frames/s | time, ours by FFmpeg's | bytes, ours by FFmpeg's |")
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        frames = pan(*SIZES[size])
        levels = [to_8_bits(frame) for frame in frames]
        for codec in options.codecs:
            ours, theirs = _in_turn(frames, levels, codec, options.rounds)
            rates = [len(frames) / statistics.median(seconds) for seconds, _ in (ours, theirs)]
            ratio = statistics.median(mine / other for mine, other in zip(ours[0], theirs[0], strict=True))
            print(f"| {size} | {codec} | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.2f} | {ours[1] / theirs[1]:.2f} |",
                  flush=True)


def pan(height: int, width: int, count: int) -> list[Frame]:
    """Return a window that moves over a photo, two pixels a frame in each direction."""
    photo = cv2.resize(read_frame(PHOTO), (width + 2 * count, height + 2 * count), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(photo[2 * step:2 * step + height, 2 * step:2 * step + width]) for step in range(count)]


def encode(path: Path, frames: list[Frame], codec: Codec) -> None:
    """Write a clip as this pack does."""
    with open_container(path) as container:
        encoder = Encoder(container, *frames[0].shape[:2], RATE, Encoding(codec))
        for number, frame in enumerate(frames):
            encoder.encode(frame, number)
        encoder.finish()


def encode_by_ffmpeg(path: Path, levels: list[np.ndarray], codec: Codec) -> None:
    """Write a clip of (H,W,3) uint8 as FFmpeg does by itself, with this pack's options of the encoder."""
    encoding = Encoding(codec)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoding.encoder, rate=RATE, options=encoding.options)
        stream.height, stream.width = levels[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = encoding.pixel_format, 0
        for frame in levels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _in_turn(frames: list[Frame], levels: list[np.ndarray], codec: Codec,
             rounds: int) -> tuple[tuple[list[float], int], ...]:
    """Return for both the seconds of each round, and the bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mkv"
        ways: list[Callable[[], None]] = [lambda: encode(path, frames, codec),
                                          lambda: encode_by_ffmpeg(path, levels, codec)]
        seconds: list[list[float]] = [[], []]
        sizes = [0, 0]
        for turn in range(rounds + 1):
            for index, way in enumerate(ways):
                began = time.perf_counter()
                way()
                if turn:  # the first only warms up
                    seconds[index].append(time.perf_counter() - began)
                sizes[index] = path.stat().st_size
    return (seconds[0], sizes[0]), (seconds[1], sizes[1])


if __name__ == "__main__":
    main()
