"""Test videos, written by PyAV alone, and a model that needs no network."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ov_film.frames import Frame
from ov_film.interpolate_video import VideoReport, interpolate_video
from ov_film.model import End
from ov_film.retiming import Retiming

Levels = NDArray[np.uint8]


class Blend:
    """Stands for a model: a frame in between is the mean of both, weighted by time."""

    def __init__(self, identity: str = "blend") -> None:
        self.identity = identity
        self.gaps: list[tuple[list[Fraction], str]] = []

    def end(self, frame: Frame, name: str = "") -> End:
        return End(frame)

    def between(self, before: End, after: End, times: Sequence[Fraction], method: str = "recursive",
                names: Any = None) -> Iterator[Frame]:
        self.gaps.append((list(times), method))
        for time in times:
            yield before.frame + (after.frame - before.frame) * np.float32(time)


def run(source: Any, output: Path, multiplier: Any = 2, model: Any = None, **more: Any) -> VideoReport:
    """Interpolate with a model that blends; what belongs to the retiming goes there."""
    options = {name: more.pop(name) for name in list(more) if name in Retiming.__dataclass_fields__}
    times = None if options.get("frame_rate") else Fraction(multiplier)
    return interpolate_video(source, output, model or Blend(), Retiming(times, **options),
                             **{"quality": "visually lossless"} | more)


def moving(count: int, height: int = 64, width: int = 64, seed: int = 0) -> list[Levels]:
    """Return frames of one scene, a texture that moves two pixels a frame."""
    random = np.random.default_rng(seed)
    texture = random.integers(0, 256, (height // 8 + 3, (width + 2 * count) // 8 + 3, 3), np.uint8)
    scene = cv2.resize(texture, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(scene[:height, 2 * step:2 * step + width]) for step in range(count)]


def write_clip(path: Path, frames: Iterable[Levels], rate: Fraction | int = 24, *, codec: str = "libx264",
               pixel_format: str = "yuv420p", stamps: Sequence[int] | None = None, time_base: Fraction | None = None,
               tags: tuple[int, int, int, int] | None = None, rotation: int = 0, aspect: Fraction | None = None,
               options: dict[str, str] | None = None, sounds: Sequence[dict[str, Any]] = (),
               metadata: dict[str, str] | None = None, container_format: str | None = None,
               container_options: dict[str, str] | None = None, flips: tuple[bool, bool] = (False, False)) -> Path:
    """Write a video; `stamps` count in `time_base`, `tags` are primaries, transfer, matrix and range (1 or 2).

    The frames are RGB or RGBA; `flips` are those of left and right, and of top and bottom.
    Each of `sounds` has the arguments of `_Sound`.
    """
    frames = list(frames)
    with av.open(str(path), "w", format=container_format, options=container_options) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options=options or _options(codec))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        if time_base:
            stream.time_base = context.time_base = time_base
        if aspect:
            context.sample_aspect_ratio = aspect
        if tags:
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        if rotation or any(flips):
            stream.set_display_rotation(rotation, *flips)
        tracks = [_Sound(container, **sound) for sound in sounds]
        for number, levels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(levels, format="rgb24" if levels.shape[2] == 3 else "rgba")
            matrix = {1: "ITU709", 9: "ITU709"}.get(tags[2] if tags else 6, "ITU601")
            picture = picture.reformat(format=pixel_format, dst_colorspace=matrix, interpolation="BICUBIC",
                                       **({"dst_color_range": tags[3]} if tags else {}))
            picture.pts = stamps[number] if stamps else number
            picture.time_base = time_base or 1 / Fraction(rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        for track in tracks:
            track.write(container)
    return path


class _Sound:
    """A silence with a click, which may last, as a stream."""

    def __init__(self, container: Any, codec: str = "aac", seconds: float = 1, click: float = 0.5, start: float = 0,
                 sample_rate: int = 48_000, layout: str = "stereo", language: str | None = None,
                 lasts: float = 0.005) -> None:
        self.stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        if language:
            self.stream.metadata["language"] = language
        channels = self.stream.layout.nb_channels
        samples = np.zeros((round(seconds * sample_rate), channels), np.float32)
        at, length = round(click * sample_rate), round(lasts * sample_rate)
        samples[at:at + length] = 0.9 * np.sin(np.arange(length))[:, np.newaxis]
        self.frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
        self.frame.sample_rate, self.frame.time_base = sample_rate, Fraction(1, sample_rate)
        self.frame.pts = round(start * sample_rate)

    def write(self, container: Any) -> None:
        for frame in (self.frame, None):
            container.mux(self.stream.encode(frame))


def times_of(path: Path) -> list[Fraction]:
    """Return when the frames of a video are shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * Fraction(frame.time_base) for frame in container.decode(video=0)]


def pictures_of(path: Path) -> list[Levels]:
    """Return the frames of a video as rgb24, by FFmpeg's conversion."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24", interpolation="BICUBIC") for frame in container.decode(video=0)]


def click_of(path: Path, track: int = 0, after: float = 0) -> float:
    """Return when the click of a sound is heard, the first after a time, in seconds."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=track):
            if frame.time < after:
                continue
            loud = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1)
            most = 0.3 if frame.format.name.startswith(("flt", "dbl")) else 10_000
            if loud.max() > most:
                channels = 1 if frame.format.is_planar else frame.layout.nb_channels
                place = int(np.argmax(loud > most)) % (frame.samples * channels) // channels
                return float(frame.pts * frame.time_base) + place / frame.sample_rate
    raise AssertionError("there is no click")


def psnr(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return how alike two frames of 8 bits are, in dB."""
    return float(-20 * np.log10(np.sqrt(np.mean((first.astype(np.float64) - second) ** 2)) / 255 + 1e-9))


def _options(codec: str) -> dict[str, str]:
    return {"libx264": {"crf": "10", "preset": "ultrafast"}, "libx265": {"crf": "8", "x265-params": "log-level=none"},
            "libvpx-vp9": {"crf": "8", "deadline": "realtime"}}.get(codec, {})
