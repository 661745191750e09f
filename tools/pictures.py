"""Draw the pictures of the registry's page and of the help pages: python -m tools.pictures."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from ov_film.calibration import read_pairs
from ov_film.figures import comparison, inspection
from ov_film.frame_rate import frame_rate
from ov_film.frames import Frame, read_frame, to_8_bits
from ov_film.library import model_folder
from ov_film.model import FilmModel
from ov_film.quantize import quantize
from ov_film.video import write_webm

_ROOT = Path(__file__).absolute().parent.parent
_SAMPLES, _DOCS, _HELP = _ROOT / "samples", _ROOT / "docs", _ROOT / "web" / "docs" / "images"
_EXAMPLES = _ROOT / "example_workflows"

_FINER = 4  # drawn so many times larger, for smooth edges
_ABOVE, _BELOW = (10, 26, 58), (22, 104, 168)  # the background's colours
_SOURCE, _NEW = (255, 255, 255), (120, 220, 255)
_TIMES, _STEPS, _MOVING_RATE = 3, 8, 16
_SLOWER, _SLOW_FRAMES, _VIDEO_RATE = 4, 24, 25  # of the sample clip, for its slow motion
_JPEG_WIDTH, _THUMBNAIL_WIDTH, _JPEG_QUALITY = 1200, 640, 82


def main() -> None:
    """Draw every picture, over those that are there."""
    _icon().save(_DOCS / "icon.png", optimize=True)
    _banner().save(_DOCS / "banner.png", optimize=True)
    frames = [read_frame(_SAMPLES / f"{name}.png") for name in ("first", "last", "next")]
    model = FilmModel.load("film_lite", device="CPU", precision="f32")
    first, last = frames[:2]
    details = model.inspect(first, last)
    _save_jpeg(_HELP / "inspect.jpg", inspection(first, last, details))
    _save_jpeg(_HELP / "pair.jpg", comparison(first, details.midpoint, last))
    _save_jpeg(_EXAMPLES / "inspect.jpg", inspection(first, last, details), _THUMBNAIL_WIDTH)
    moving = list(_half_size(_there_and_back(model, frames)))
    write_webm(_HELP / "recursive.webm", moving, frame_rate(_MOVING_RATE), crf=40)
    _save_moving(_DOCS / "moving.webp", moving)
    _save_slow_motion(_HELP / "video.webm", model)
    exact_and_int8 = _exact_and_int8(model, first, last)
    for folder in (_HELP, _EXAMPLES):
        _save_jpeg(folder / "int8.jpg", exact_and_int8, _THUMBNAIL_WIDTH)


def _icon(side: int = 400) -> Image.Image:
    """Draw a gap: two frames that were given, and the new one between them."""
    image = _background(side, side)
    _draw_balls(image, gaps=1, steps=2, margin=0.24, ground=0.64, radius=0.155 * side)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _banner(width: int = 1260, height: int = 540) -> Image.Image:
    """Draw the name over two gaps, with three new frames in each."""
    image = _background(width, height)
    _draw_balls(image, gaps=2, steps=4, margin=0.1, ground=0.72, radius=0.06 * width)
    draw = ImageDraw.Draw(image)
    middle = width * _FINER / 2
    for text, size, top, colour in (("FILM OpenVINO", 92, 58, _SOURCE),
                                    ("smooth motion between your frames, without CUDA", 34, 176, _NEW)):
        draw.text((middle, top * _FINER), text, colour, ImageFont.load_default(size * _FINER), anchor="ma")
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _background(width: int, height: int) -> Image.Image:
    share = np.linspace(0, 1, height * _FINER)[:, np.newaxis, np.newaxis]
    rows = (1 - share) * np.array(_ABOVE) + share * np.array(_BELOW)
    return Image.fromarray(np.rint(rows).astype(np.uint8).repeat(width * _FINER, axis=1))


def _draw_balls(image: Image.Image, gaps: int, steps: int, margin: float, ground: float, radius: float) -> None:
    """Draw balls that bounce from frame to frame: white where one was given, small and blue where it is new."""
    radius *= _FINER
    balls = []
    for index in range(gaps * steps + 1):
        place = margin + (1 - 2 * margin) * index / (gaps * steps)
        bounce = 1.3 * np.sin(np.pi * (index % steps) / steps)
        balls.append((place * image.width, ground * image.height - bounce * radius, index % steps == 0))
    glow = Image.new("RGB", image.size)
    for x, y, given in balls:
        _draw_ball(glow, x, y, radius, given)
    light = glow.filter(ImageFilter.GaussianBlur(radius / 2)).point(lambda value: value // 3)
    image.paste(ImageChops.add(image, light))
    for x, y, given in balls:
        _draw_ball(image, x, y, radius * (0.9 if given else 0.62), given)


def _draw_ball(image: Image.Image, x: float, y: float, radius: float, given: bool) -> None:
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), _SOURCE if given else _NEW)


def _save_jpeg(path: Path, picture: np.ndarray, width: int = _JPEG_WIDTH) -> None:
    image = Image.fromarray(picture)
    image.thumbnail((width, width), Image.Resampling.LANCZOS)
    image.save(path, quality=_JPEG_QUALITY, optimize=True)


def _there_and_back(model: FilmModel, frames: list[Frame]) -> Iterator[Frame]:
    """Yield the frames made smooth, and back again, so that the clip can be played in a loop."""
    smooth = list(model.interpolate_sequence(frames, _TIMES))
    yield from smooth
    yield from smooth[-2:0:-1]


def _save_moving(path: Path, frames: list[Frame]) -> None:
    """Save frames as a moving picture; on its left side those that were given stand until the next one comes."""
    pictures = [_side_by_side((("the images", frames[number // _STEPS * _STEPS]), ("with the new frames", frame)))
                for number, frame in enumerate(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000 // _MOVING_RATE, loop=0, quality=60,
                     method=6)


def _save_slow_motion(path: Path, model: FilmModel) -> None:
    """Save the start of the sample clip in slow motion: its frames repeated, and beside it with new ones between."""
    with av.open(_SAMPLES / "clip.mp4") as container:
        frames = [picture.to_ndarray(format="rgb24").astype(np.float32) / 255
                  for picture in islice(container.decode(video=0), _SLOW_FRAMES)]
    smooth = list(_half_size(model.interpolate_sequence(frames, _SLOWER.bit_length() - 1)))
    shown = (np.asarray(_side_by_side((("each frame four times", smooth[number // _SLOWER * _SLOWER]),
                                       ("slow_motion, multiplier 4", frame)))) / np.float32(255)
             for number, frame in enumerate(smooth))
    write_webm(path, shown, frame_rate(_VIDEO_RATE), crf=40)


def _exact_and_int8(model: FilmModel, first: Frame, last: Frame) -> np.ndarray:
    """Draw a midpoint in f32 and, calibrated on the sample clip, in int8, with how near the second is to the first."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / "film_lite_int8"
        psnr = quantize(model_folder("film_lite"), read_pairs(_SAMPLES / "clip.mp4"), made).int8["psnr"]
        frames = [each.interpolate(first, last) for each in (model, FilmModel.load(made, "CPU"))]
    middle = [frame[:, frame.shape[1] // 4:-frame.shape[1] // 4] for frame in frames]
    return np.asarray(_side_by_side((("f32", middle[0]), (f"int8: {psnr:.1f} dB", middle[1])), letters=28))


def _side_by_side(frames: Sequence[tuple[str, Frame]], letters: int = 16) -> Image.Image:
    """Draw frames of one size, each with a text on it."""
    picture = Image.fromarray(to_8_bits(np.hstack([frame for _, frame in frames])))
    draw = ImageDraw.Draw(picture)
    for number, (text, frame) in enumerate(frames):
        draw.text((number * frame.shape[1] + 8, 6), text, _SOURCE, ImageFont.load_default(letters),
                  stroke_width=2, stroke_fill=_ABOVE)
    return picture


def _half_size(frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield (frame[::2, ::2] + frame[1::2, ::2] + frame[::2, 1::2] + frame[1::2, 1::2]) / np.float32(4)


if __name__ == "__main__":
    main()
