"""Sound in a WebM file."""

import resource
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ov_film.audio import Audio
from ov_film.encoding import Codec
from ov_film.errors import FilmError
from ov_film.video import write_webm

OPUS_RATE = 48000


def click(at: float, seconds: float, sample_rate: int = 44100, channels: int = 2) -> Audio:
    """Silence with a click in it."""
    samples = np.zeros((channels, round(seconds * sample_rate)), np.float32)
    samples[:, round(at * sample_rate)] = 1
    return Audio(samples, sample_rate)


def frames(count: int, channels: int = 3) -> Iterator[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    for _ in range(count):
        yield random.random((64, 64, channels), np.float32)


def heard(path: Path) -> NDArray[np.float32]:
    """All samples (channels, samples) at 48 kHz, from the time 0 on."""
    with av.open(str(path)) as container:
        parts = list(container.decode(audio=0))
        assert parts[0].pts == 0 and {part.sample_rate for part in parts} == {OPUS_RATE}
        return np.concatenate([part.to_ndarray() for part in parts], axis=1)


@pytest.mark.parametrize(("sample_rate", "channels"), [(48000, 2), (44100, 1), (16000, 2), (96000, 6), (22050, 1)])
def test_a_click_is_heard_when_it_was_and_on_every_channel(tmp_path: Path, sample_rate: int, channels: int) -> None:
    path = tmp_path / "sound.webm"
    write_webm(path, frames(48), Fraction(24), audio=click(1.25, 2, sample_rate, channels))
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        assert len(list(container.decode(video=0))) == 48
    samples = heard(path)
    assert len(samples) == channels
    assert np.abs(np.abs(samples).argmax(axis=1) / OPUS_RATE - 1.25).max() < 0.001


@pytest.mark.parametrize("codec", ["vp9", "av1"])
@pytest.mark.parametrize("seconds", [0.4, 2, 7])
def test_audio_is_cut_where_the_clip_ends_and_may_end_earlier(tmp_path: Path, codec: Codec, seconds: float) -> None:
    path = tmp_path / "sound.webm"
    rate = Fraction(30000, 1001)
    write_webm(path, frames(60), rate, codec=codec, audio=click(0.1, seconds))
    assert abs(heard(path).shape[1] / OPUS_RATE - min(seconds, 60 / rate)) <= 0.021  # one packet of Opus
    with av.open(str(path)) as container:
        assert abs(container.duration / av.time_base - 60 / rate) < 1 / rate


def test_sound_stays_in_time_over_a_long_slow_clip(tmp_path: Path) -> None:
    path = tmp_path / "slow.webm"
    audio = click(55.5, 60, 8000, 1)
    assert write_webm(path, frames(60), Fraction(1), audio=audio) == 60
    assert abs(np.abs(heard(path)[0]).argmax() / OPUS_RATE - 55.5) < 0.001


def test_sound_goes_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "alpha.webm"
    write_webm(path, frames(12, channels=4), Fraction(24), alpha=True, audio=click(0.25, 0.5))
    assert abs(np.abs(heard(path)[0]).argmax() / OPUS_RATE - 0.25) < 0.001


def test_samples_outside_the_range_are_clipped(tmp_path: Path) -> None:
    tone = np.sin(np.arange(24000) / 20).astype(np.float32)[None]
    for name, samples in (("clipped", tone * 50), ("square", (tone * 50).clip(-1, 1))):
        write_webm(tmp_path / f"{name}.webm", frames(12), Fraction(24), audio=Audio(samples, 48000))
    np.testing.assert_array_equal(heard(tmp_path / "clipped.webm"), heard(tmp_path / "square.webm"))


@pytest.mark.parametrize(("audio", "message"), [
    (Audio(np.zeros((3, 100), np.float32), 48000), r"3 channels: give 1 \(mono\), 2"),
    (Audio(np.zeros((2, 0), np.float32), 48000), r"shape \(2, 0\).*give some sound"),
    (Audio(np.zeros(100, np.float32), 48000), r"shape \(100,\)"),
    (Audio(np.zeros((2, 100)), 48000), "Audio is float64"),  # type: ignore[arg-type]
    (Audio(np.zeros((2, 100), np.float32), 0), "0 samples a second: give 1000 to 768000"),
    (Audio(np.full((2, 100), np.nan, np.float32), 48000), "values that are no numbers"),
], ids=["channels", "empty", "one row", "float64", "rate", "nan"])
def test_wrong_audio_is_told_before_any_frame_is_made(tmp_path: Path, audio: Audio, message: str) -> None:
    coming = frames(1)
    with pytest.raises(FilmError, match=message):
        write_webm(tmp_path / "sound.webm", coming, Fraction(24), audio=audio)
    assert len(list(coming)) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("alpha", [False, True])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, alpha: bool) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(FilmError, match=r"sound\.webm can't be written \(File too large\)"):
            write_webm(tmp_path / "sound.webm", frames(60, 3 + alpha), Fraction(24), crf=0, alpha=alpha,
                       audio=click(1, 2.5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
