"""Encoders, containers and colours; tests/test_video.py has what WebM files hold."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ov_film.colour import Colour
from ov_film.encoding import CODECS, QUALITIES, Codec, Encoder, Encoding, check_container, crf_of, open_container
from ov_film.errors import FilmError

BT709, BT601, BT2020 = Colour(), Colour(6, 6, 6), Colour(9, 14, 9)
SUFFIXES = {".webm": ("vp9", "av1"), ".mkv": CODECS, ".mp4": CODECS, ".mov": ("h264", "h265")}
TAKEN = [(suffix, codec) for suffix, codecs in SUFFIXES.items() for codec in codecs]


def picture(seed: int, height: int = 96, width: int = 128) -> NDArray[np.float32]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / 20
    waves = [np.sin(a * x + b * y + c) for a, b, c in np.random.default_rng(seed).uniform(-1, 1, (3, 3))]
    return (0.5 + 0.45 * np.stack(waves, -1)).astype(np.float32)


def card(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float32]:
    """Two colours side by side."""
    frame = np.empty((96, 128, 3), np.float32)
    frame[:, :64], frame[:, 64:] = first, second
    return frame


def gradients() -> list[NDArray[np.float32]]:
    """One colour that goes into another, and black into white."""
    across = np.linspace(0, 1, 256, dtype=np.float32)
    rows = np.ones((200, 1, 3), np.float32)
    return [np.stack([across, np.full_like(across, 0.5), 1 - across], axis=-1) * rows, across[:, None] * rows]


def encoded(path: Path, frames: Sequence[NDArray[np.float32]], encoding: Encoding, times: Sequence[int] | None = None,
            rate: Fraction = Fraction(25), **options: Any) -> Path:
    with open_container(path) as container:
        encoder = Encoder(container, frames[0].shape[0], frames[0].shape[1], rate, encoding, **options)
        for pts, frame in zip(times or range(len(frames)), frames, strict=True):
            encoder.encode(frame, pts)
        encoder.finish()
    return path


def decoded(path: Path) -> list[VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def rgb(frame: VideoFrame) -> NDArray[np.float64]:
    """RGB from 0 to 255 as FFmpeg's scaler reads the tags."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name,
                              time_base=Fraction(1, 1000))
    scaler = graph.add("scale", flags="bicubic+accurate_rnd+full_chroma_int")
    source.link_to(scaler)
    scaler.link_to(pixels := graph.add("format", "rgb24"))
    pixels.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return graph.pull().to_ndarray().astype(np.float64)


@pytest.mark.parametrize(("suffix", "codec"), TAKEN)
def test_every_frame_is_there_at_its_own_time(tmp_path: Path, suffix: str, codec: Codec) -> None:
    path = tmp_path / f"video{suffix}"
    check_container(path, codec)
    times = [0, 3003, 6006, 15015, 18018, 21021]
    encoded(path, [picture(seed) for seed in range(6)], Encoding(codec), times, Fraction(30000, 1001),
            time_base=Fraction(1, 90000))
    rounding = Fraction(1, 2000) if suffix in (".webm", ".mkv") else 0
    for seed, (frame, time) in enumerate(zip(decoded(path), times, strict=True)):
        assert abs(frame.pts * frame.time_base - Fraction(time, 90000)) <= rounding
        assert np.abs(rgb(frame)[:96, :128] - picture(seed) * 255).mean() < 2


@pytest.mark.parametrize("codec", CODECS)
def test_times_may_begin_later_than_0(tmp_path: Path, codec: Codec) -> None:
    path = encoded(tmp_path / "video.mkv", [picture(seed) for seed in range(3)], Encoding(codec), [50, 51, 53])
    assert [frame.pts * frame.time_base for frame in decoded(path)] == [2, Fraction("2.04"), Fraction("2.12")]


@pytest.mark.parametrize(("name", "codec", "message"), [
    ("video.webm", "h264", r"video\.webm can't hold the codec h264: choose one of vp9, av1"),
    ("video.mov", "vp9", r"video\.mov can't hold the codec vp9: choose one of h264, h265"),
    ("video.avi", "h264", r"suffix '\.avi': choose one of \.webm, \.mkv, \.mp4, \.mov"),
    ("video", "vp9", "suffix ''"),
])
def test_a_container_that_does_not_take_the_codec_is_refused(name: str, codec: Codec, message: str) -> None:
    with pytest.raises(FilmError, match=message):
        check_container(Path(name), codec)


def test_capitals_in_a_suffix_make_no_difference(tmp_path: Path) -> None:
    check_container(tmp_path / "VIDEO.MP4", "h264")
    assert len(decoded(encoded(tmp_path / "VIDEO.MP4", [picture(0)], Encoding("h264")))) == 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("colour", [BT709, BT601, BT2020, BT709._replace(full_range=True)],
                         ids=["bt709", "bt601", "bt2020", "full range"])
def test_colours_come_back_within_two_levels_by_the_tags(tmp_path: Path, codec: Codec, colour: Colour) -> None:
    cards = [card((1, 0, 0), (0, 0, 1)), card((0, 1, 0), (1, 0, 1)), card((0.9, 0.72, 0.6), (0.3, 0.5, 0.8)),
             card((0, 0, 0), (1, 1, 1)), card((1, 1, 0), (0.25, 0.25, 0.25))]
    frames = decoded(encoded(tmp_path / "video.mkv", cards, Encoding(codec, crf=4, colour=colour)))
    for expected, frame in zip(cards, frames, strict=True):
        assert (frame.colorspace, frame.color_range) == (colour.matrix, 2 if colour.full_range else 1)
        error = np.abs(rgb(frame)[:96] - expected * 255)
        assert max(error[:, :60].max(), error[:, 68:].max()) <= 2  # the edge between is smooth in 4:2:0
    frames = decoded(encoded(tmp_path / "gradients.mkv", gradients(), Encoding(codec, crf=1, colour=colour)))
    for expected, frame in zip(gradients(), frames, strict=True):
        error = np.abs(rgb(frame)[:200] - expected * 255)
        assert np.quantile(error, 0.999) <= 2.001 and error.max() <= 3.001  # x264 and x265 add some noise
        assert codec in ("h264", "h265") or error.max() <= 2.001


@pytest.mark.parametrize(("suffix", "codec"), TAKEN)
def test_a_stream_is_tagged_with_its_colour(tmp_path: Path, suffix: str, codec: Codec) -> None:
    path = encoded(tmp_path / f"video{suffix}", [picture(0)], Encoding(codec, colour=BT2020))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (9, 14, 9, 1)


@pytest.mark.parametrize(("codec", "bits"), [("av1", 10), ("av1", 8), ("h264", 10), ("h265", 10), ("h265", 8)])
def test_bits_are_the_ones_asked_for(tmp_path: Path, codec: Codec, bits: int) -> None:
    levels = np.repeat(np.float32([100, 100.25, 100.5, 100.75]), 64)
    frame = np.zeros((64, 256, 3), np.float32) + ((levels - 16) / 219)[:, None]
    found, = decoded(encoded(tmp_path / "video.mkv", [frame], Encoding(codec, crf=1, bits=bits)))
    assert found.format.name == ("yuv420p" if bits == 8 else "yuv420p10le")
    luma = np.frombuffer(memoryview(found.planes[0]), np.uint8 if bits == 8 else np.uint16).reshape(64, -1)[:, :256]
    assert len({round(float(part.mean())) for part in np.split(luma, 4, axis=1)}) == (4 if bits == 10 else 2)


@pytest.mark.parametrize("codec", CODECS)
def test_a_worse_quality_makes_a_smaller_file(tmp_path: Path, codec: Codec) -> None:
    sizes = [encoded(tmp_path / f"{quality}.mkv", [picture(seed, 128, 192) for seed in range(4)],
                     Encoding(codec, crf_of(quality, codec))).stat().st_size for quality in QUALITIES]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    assert Encoding(codec).options == Encoding(codec, crf_of("high", codec)).options


@pytest.mark.parametrize("codec", CODECS)
def test_the_shape_of_a_pixel_is_kept(tmp_path: Path, codec: Codec) -> None:
    path = encoded(tmp_path / "video.mp4", [picture(0)], Encoding(codec), sample_aspect_ratio=Fraction(12, 11))
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(12, 11)


@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_the_shape_of_a_pixel_is_not_lost_without_a_word(tmp_path: Path, codec: Codec) -> None:
    with pytest.raises(FilmError, match=r"aspect 12/11 .*codec h264 or h265, or the suffix \.mp4"):
        encoded(tmp_path / "video.mkv", [picture(0)], Encoding(codec), sample_aspect_ratio=Fraction(12, 11))


@pytest.mark.parametrize(("options", "message"), [
    ({"codec": "h264", "crf": 0}, "CRF is 0 with codec h264: choose one from 1 .* to 51"),
    ({"codec": "h265", "crf": 52}, "CRF is 52 with codec h265: choose one from 0 .* to 51"),
    ({"codec": "h264", "bits": 12}, "h264 with 12 bits is more than libx264 .*choose 8 bits"),
    ({"codec": "h265", "alpha": True}, "h265 has no alpha"),
    ({"codec": "h264", "lossless": True}, "not to be had with codec h264"),
    ({"lossless": True, "bits": 10}, "not to be had with codec vp9 and 10 bits: choose .* 8 bits"),
    ({"colour": Colour(matrix=2)}, "Colour matrix is 2: choose one of 1, 4, 5, 6, 7, 9"),
    ({"codec": "mpeg2"}, "'mpeg2': choose one of vp9, av1, h264, h265"),
])
def test_what_cannot_be_done_is_told_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FilmError, match=message):
        Encoding(**options)


@pytest.mark.parametrize("codec", CODECS)
def test_a_preset_that_the_encoder_does_not_know_is_refused(tmp_path: Path, codec: Codec) -> None:
    with pytest.raises(FilmError, match=r"can't be encoded by .*another codec"):
        encoded(tmp_path / "video.mkv", [picture(0)], Encoding(codec, preset="warp speed"))


def test_an_unknown_quality_is_refused() -> None:
    with pytest.raises(FilmError, match="'best': choose one of visually lossless, high, medium, small"):
        crf_of("best", "vp9")  # type: ignore[arg-type]


@pytest.mark.parametrize(("codec", "height", "width"), [("h265", 62, 640), ("h265", 640, 62), ("av1", 62, 64)])
def test_a_size_that_would_break_the_encoder_is_refused(tmp_path: Path, codec: Codec, height: int, width: int) -> None:
    with pytest.raises(FilmError, match=f"{width}x{height} are too small .*at least 64x64"):
        encoded(tmp_path / "video.mkv", [picture(0, height, width)], Encoding(codec))


@pytest.mark.parametrize(("codec", "side"), [("vp9", 1), ("h264", 1), ("h265", 63), ("av1", 63)])
def test_the_least_size_is_taken(tmp_path: Path, codec: Codec, side: int) -> None:
    frames = decoded(encoded(tmp_path / "video.mkv", [picture(seed, side, side) for seed in range(3)], Encoding(codec)))
    assert len(frames) == 3 and frames[0].width >= side
