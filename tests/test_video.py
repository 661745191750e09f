import errno
import json
import resource
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ov_film import encoding
from ov_film.encoding import Codec
from ov_film.errors import FilmError
from ov_film.video import write_webm

RATE = Fraction(24)
CODECS: tuple[Codec, ...] = ("vp9", "av1")
COLOURS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (0, 0, 0), (0.25, 0.25, 0.25),
           (0.5, 0.5, 0.5), (1, 1, 1), (0.9, 0.72, 0.6), (0.55, 0.38, 0.29), (0.3, 0.5, 0.8)]


def flat(colour: Any = 0.5, height: int = 64, width: int = 64) -> NDArray[np.float32]:
    return np.full((height, width, 3), colour, np.float32)


def noise(count: int, height: int = 64, width: int = 64, channels: int = 3) -> Iterator[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.random((height, width, channels), np.float32)


def decoded(path: Path) -> list[VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def planes(picture: VideoFrame) -> list[NDArray[np.float64]]:
    """Y', Cb and Cr in steps of 8 bits, with fractions where the picture has more bits."""
    kind, step = {"yuv420p": (np.uint8, 1), "yuv420p10le": (np.uint16, 4)}[picture.format.name]
    return [np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, :plane.width] / step
            for plane in picture.planes]


def rgb(picture: VideoFrame) -> NDArray[np.float64]:
    """RGB in [0,1] by ITU-R BT.709 from limited range, computed without FFmpeg."""
    luma, blue, red = planes(picture)
    y = (luma - 16) / 219
    b, r = (((plane - 128) / 224).repeat(2, 0).repeat(2, 1) for plane in (blue, red))
    r, b = y + 1.5748 * r, y + 1.8556 * b
    return np.stack([r, (y - 0.2126 * r - 0.0722 * b) / 0.7152, b], axis=-1)


def test_the_number_of_frames_is_returned_and_found_in_the_file(tmp_path: Path) -> None:
    for codec in CODECS:
        for count in (1, 2, 40):
            path = tmp_path / f"{codec}-{count}.webm"
            assert write_webm(path, noise(count), RATE, codec=codec) == count
            assert len(decoded(path)) == count


@pytest.mark.parametrize("codec", CODECS)
def test_flat_colours_come_back_within_two_levels(tmp_path: Path, codec: Codec) -> None:
    path = tmp_path / "colours.webm"
    write_webm(path, map(flat, COLOURS), RATE, crf=4, codec=codec)
    for colour, picture in zip(COLOURS, decoded(path), strict=True):
        assert np.abs(rgb(picture) - colour).max() * 255 <= 2, colour


@pytest.mark.parametrize("codec", CODECS)
def test_gradients_come_back_within_two_levels(tmp_path: Path, codec: Codec) -> None:
    path = tmp_path / "gradients.webm"
    ramp = np.linspace(0, 1, 512, dtype=np.float32)
    across = np.stack([ramp, np.full_like(ramp, 0.5), 1 - ramp], axis=-1) * np.ones((64, 1, 1), np.float32)
    grey = ramp[:, None] * np.ones((64, 1, 3), np.float32)
    write_webm(path, [across, grey], RATE, crf=4, codec=codec)
    for frame, picture in zip((across, grey), decoded(path), strict=True):
        assert np.abs(rgb(picture) - frame).max() * 255 <= 2


def test_levels_are_rounded_and_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / "grey.webm"
    levels = [100.4, 100.6]
    write_webm(path, [flat((level - 16) / 219) for level in levels], RATE, crf=0)
    assert [float(planes(picture)[0].mean()) for picture in decoded(path)] == [100, 101]


def test_av1_keeps_levels_that_8_bits_have_not(tmp_path: Path) -> None:
    path = tmp_path / "grey.webm"
    levels = np.repeat([100.0, 100.25, 100.5, 100.75], 64)
    write_webm(path, [flat(((levels - 16) / 219)[:, None], width=256)], RATE, crf=0, codec="av1")
    np.testing.assert_array_equal(planes(decoded(path)[0])[0].mean(axis=0), levels)


@pytest.mark.parametrize("codec", CODECS)
def test_stream_and_frames_are_tagged_bt709_limited_range(tmp_path: Path, codec: Codec) -> None:
    path = tmp_path / "tags.webm"
    write_webm(path, [flat()], RATE, codec=codec)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        picture = next(container.decode(video=0))
        assert (picture.colorspace, picture.color_range) == (1, 1)


def test_values_outside_0_and_1_are_clipped(tmp_path: Path) -> None:
    path = tmp_path / "clipped.webm"
    write_webm(path, [flat(-0.5), flat(1.5)], RATE, crf=0)
    assert [np.unique(planes(picture)[0]).tolist() for picture in decoded(path)] == [[16], [235]]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60), Fraction(25, 2),
                                  Fraction(1, 2), Fraction(240)], ids=str)
def test_frame_rate_is_exact_and_times_are_right_to_the_millisecond(
    tmp_path: Path, codec: Codec, rate: Fraction
) -> None:
    path = tmp_path / "rate.webm"
    write_webm(path, (flat() for _ in range(48)), rate, codec=codec)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == rate
        assert abs(Fraction(container.duration, av.time_base) - 48 / rate) <= Fraction(1, 1000)
        for number, picture in enumerate(container.decode(video=0)):
            assert abs(picture.pts * picture.time_base - number / rate) <= Fraction(1, 2000)


@pytest.mark.parametrize("rate", [Fraction(1, 100), Fraction(1000)], ids=str)
def test_no_two_frames_share_a_time_at_the_extreme_frame_rates(tmp_path: Path, rate: Fraction) -> None:
    path = tmp_path / "rate.webm"
    write_webm(path, (flat() for _ in range(5)), rate)
    assert [picture.pts for picture in decoded(path)] == [number * 1000 / rate for number in range(5)]


def test_a_frame_rate_made_from_a_float_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "rate.webm"
    write_webm(path, [flat()] * 3, Fraction(23.976))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction("23.976")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (1, 64), (16, 16), (33, 65), (48, 31)])
def test_odd_and_tiny_frames_gain_at_most_a_copy_of_their_last_row_and_column(
    tmp_path: Path, height: int, width: int
) -> None:
    path = tmp_path / "size.webm"
    frame = np.zeros((height, width, 3), np.float32) + np.linspace(0, 1, width, dtype=np.float32)[:, None]
    write_webm(path, [frame], RATE, crf=0)
    luma = planes(decoded(path)[0])[0]
    assert luma.shape == (height + height % 2, width + width % 2)
    expected = np.rint(16 + 219 * np.pad(frame[..., 0], ((0, height % 2), (0, width % 2)), mode="edge"))
    np.testing.assert_array_equal(luma, expected)


def test_av1_takes_63_pixels_and_names_the_least_size_for_fewer(tmp_path: Path) -> None:
    path = tmp_path / "size.webm"
    write_webm(path, [flat(height=63, width=63)] * 2, RATE, codec="av1")
    assert planes(decoded(path)[0])[0].shape == (64, 64)
    with pytest.raises(FilmError, match=r"640x16.*at least 64x64.*vp9"):
        write_webm(path, [flat(height=16, width=640)], RATE, codec="av1")


def test_a_frame_too_large_for_the_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"16400x64.*libsvtav1"):
        write_webm(tmp_path / "size.webm", [flat(height=64, width=16400)], RATE, codec="av1")
    assert not list(tmp_path.iterdir())


def test_a_frame_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"64x48.*Frame 3 is 48x64"):
        write_webm(tmp_path / "size.webm", [flat(height=48), flat(height=48), flat(width=48)], RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame", [flat().astype(np.float64), (flat() * 255).astype(np.uint8), flat()[..., 0],
                                   np.zeros((8, 8, 4), np.float32), np.zeros((0, 8, 3), np.float32), None],
                         ids=["float64", "uint8", "grey", "rgba", "empty", "none"])
def test_what_is_no_frame_is_refused_by_number(tmp_path: Path, frame: Any) -> None:
    with pytest.raises(FilmError, match="Frame 2 "):
        write_webm(tmp_path / "kind.webm", [flat(), frame], RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    frame = flat()
    frame[5, 7, 1] = value
    with pytest.raises(FilmError, match="Frame 2 "):
        write_webm(tmp_path / "nan.webm", [flat(), frame], RATE)


@pytest.mark.parametrize("codec", CODECS)
def test_a_lower_crf_gives_a_larger_file_down_to_zero(tmp_path: Path, codec: Codec) -> None:
    def size(crf: int) -> int:
        path = tmp_path / f"{crf}.webm"
        write_webm(path, noise(4), RATE, crf=crf, codec=codec)
        return path.stat().st_size

    sizes = [size(crf) for crf in (0, 10, 30, 63)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.2 * sizes[1]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"crf": -1}, r"CRF is -1.*0 .*63"),
    ({"crf": 64}, r"CRF is 64.*0 .*63"),
    ({"frame_rate": Fraction(0)}, r"rate is 0 .*1/100 to 1000"),
    ({"frame_rate": Fraction(-24)}, r"rate is -24 .*1/100 to 1000"),
    ({"frame_rate": Fraction(1001)}, r"rate is 1001 .*1/100 to 1000"),
    ({"frame_rate": Fraction(480), "codec": "av1"}, r"rate is 480 .*av1.*1/100 to 240"),
    ({"codec": "mpeg2"}, r"'mpeg2'.*vp9, av1"),
    ({"codec": "h264"}, r"h264.*vp9, av1"),
    ({"frames": []}, r"video\.webm.*no frames"),
])
def test_a_wrong_argument_is_named_with_what_would_be_right(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FilmError, match=message):
        write_webm(**{"path": tmp_path / "video.webm", "frames": [flat()], "frame_rate": RATE, **arguments})
    assert not list(tmp_path.iterdir())


def test_a_missing_encoder_is_named_before_any_frame_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(encoding.av, "Codec", lacking)
    frames = noise(1)
    with pytest.raises(FilmError, match=r"av1.*libsvtav1.*PyAV.*--upgrade av"):
        write_webm(tmp_path / "video.webm", frames, RATE, codec="av1")
    assert len(list(frames)) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_a_large_workflow_and_other_scripts_survive_as_metadata(tmp_path: Path, codec: Codec) -> None:
    metadata = {"prompt": json.dumps({"text": "Blüte, 花, 🌸"}, ensure_ascii=False),
                "workflow": json.dumps({"nodes": ["é\"\\\n"] * 20_000}, ensure_ascii=False)}
    assert len(metadata["workflow"]) > 200_000
    path = tmp_path / "metadata.webm"
    write_webm(path, [flat()], RATE, codec=codec, metadata=metadata)
    with av.open(str(path)) as container:
        found = {name.lower(): text for name, text in container.metadata.items()}
    assert {name: found[name] for name in metadata} == metadata


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("after", [0, 3, 50])
@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_fault_among_the_frames_leaves_the_earlier_file_and_no_other(
    tmp_path: Path, codec: Codec, after: int, fault: type[BaseException]
) -> None:
    def frames() -> Iterator[NDArray[np.float32]]:
        yield from noise(after)
        raise fault("stop")

    path = tmp_path / "video.webm"
    path.write_bytes(b"earlier")
    with pytest.raises(fault, match="stop"):
        write_webm(path, frames(), RATE, codec=codec)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("codec", CODECS)
def test_no_encoder_thread_outlives_a_fault(tmp_path: Path, codec: Codec) -> None:
    def fail() -> None:
        with pytest.raises(FilmError):
            write_webm(tmp_path / "video.webm", [*noise(40), flat(width=48)], RATE, codec=codec)

    fail()  # FFmpeg and NumPy keep some threads of their own from their first use on
    before = psutil.Process().num_threads()
    for _ in range(3):
        fail()
    assert psutil.Process().num_threads() <= before


def test_an_earlier_file_is_replaced_and_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "video: 100%d #ü.webm"
    for count in (3, 2):
        write_webm(path, noise(count), RATE)
        assert len(decoded(path)) == count
    assert list(path.parent.iterdir()) == [path]


def test_a_relative_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_webm(Path("video:1.webm"), [flat()], RATE)
    assert len(decoded(tmp_path / "video:1.webm")) == 1


@pytest.mark.parametrize("name", ["file/video.webm", "v" * 300 + ".webm"], ids=["folder is a file", "long name"])
def test_a_path_that_cannot_be_written_is_named_before_any_frame_is_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    frames = noise(1)
    with pytest.raises(FilmError, match=name):
        write_webm(tmp_path / name, frames, RATE)
    assert len(list(frames)) == 1


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "video.webm"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(FilmError, match=r"video\.webm") as caught:
            write_webm(path, noise(60, 128, 128), RATE, crf=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/proc/video.webm", "/dev/full/video.webm"])
def test_a_folder_that_takes_no_files_is_named_before_any_frame_is_made(path: str) -> None:
    frames = noise(1)
    with pytest.raises(FilmError, match=f"{path} can't be written"):
        write_webm(Path(path), frames, RATE)
    assert len(list(frames)) == 1


@pytest.mark.parametrize(("height", "width"), [(64, 64), (63, 97), (1, 1), (200, 33)])
def test_lossless_gives_8_bits_of_rgb_back_exactly_and_odd_sides_stay(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "lossless.webm"
    levels = [np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8) for seed in range(5)]
    write_webm(path, (frame.astype(np.float32) / 255 for frame in levels), RATE, lossless=True)
    for frame, picture in zip(levels, decoded(path), strict=True):
        assert (picture.format.name, picture.colorspace, picture.color_range) == ("gbrp", 0, 2)
        np.testing.assert_array_equal(picture.to_ndarray(format="rgb24"), frame)


def alpha_decoded(path: Path) -> Iterator[list[NDArray[np.uint8]]]:
    """Y', Cb, Cr and alpha of each frame; FFmpeg's own decoder leaves the alpha out."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.metadata["alpha_mode"] == "1"
        for packet in container.demux(stream):
            for picture in decoder.decode(packet):
                assert picture.format.name == "yuva420p"
                yield [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, :plane.width]
                       for plane in picture.planes]


def test_alpha_comes_back_where_it_is_decoded_and_colours_are_not_multiplied_by_it(tmp_path: Path) -> None:
    path = tmp_path / "alpha.webm"
    alpha = np.broadcast_to(np.linspace(0, 1, 97, dtype=np.float32), (131, 97))
    write_webm(path, [np.dstack([flat(colour, 131, 97), alpha]) for colour in COLOURS], RATE, crf=4, alpha=True)
    for colour, (luma, blue, red, found) in zip(COLOURS, alpha_decoded(path), strict=True):
        assert found.shape == (132, 98) and np.abs(found[:131, :97] - alpha * 255).max() <= 2
        y = colour @ np.array([0.2126, 0.7152, 0.0722])
        for plane, level in ((luma, 16 + 219 * y), (blue, 128 + 224 * (colour[2] - y) / 1.8556),
                             (red, 128 + 224 * (colour[0] - y) / 1.5748)):
            assert np.abs(plane - level).max() <= 2


def test_each_frame_of_a_longer_clip_has_its_own_alpha(tmp_path: Path) -> None:
    path = tmp_path / "alpha.webm"
    levels = np.linspace(1, 0, 60, dtype=np.float32)
    write_webm(path, (np.dstack([frame, np.full((64, 64), level)]).astype(np.float32)
                      for frame, level in zip(noise(60), levels, strict=True)), RATE, alpha=True)
    for level, (*_, found) in zip(levels, alpha_decoded(path), strict=True):
        assert np.abs(found - level * 255).max() <= 2


@pytest.mark.parametrize(("arguments", "message"), [
    ({"alpha": True, "codec": "av1"}, "av1 has no alpha: choose codec vp9"),
    ({"lossless": True, "codec": "av1"}, "not to be had with codec av1 .*: choose codec vp9"),
    ({"lossless": True, "alpha": True}, "not to be had with alpha"),
    ({"alpha": True}, r"shape \(64, 64, 3\) where \(height, width, 4\)"),
])
def test_what_does_not_go_together_is_told_and_nothing_is_left(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(FilmError, match=message):
        write_webm(tmp_path / "video.webm", [flat()], RATE, **arguments)
    assert not list(tmp_path.iterdir())


def test_frames_are_not_kept(tmp_path: Path) -> None:
    alive: weakref.WeakSet[NDArray[np.float32]] = weakref.WeakSet()
    most = 0

    class Tracked(np.ndarray):  # type: ignore[type-arg]
        __hash__ = object.__hash__

    def frames() -> Iterator[NDArray[np.float32]]:
        nonlocal most
        for plain in noise(40):
            frame = plain.view(Tracked)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    write_webm(tmp_path / "video.webm", frames(), RATE)
    assert most <= 3  # the first, for its size; the last; the one being made
