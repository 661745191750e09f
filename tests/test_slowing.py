"""Sound slowed down: its length, times, pitch and channels."""

from fractions import Fraction

import numpy as np
import pytest

from ov_film.slowing import Samples, Slowed

RATE = 48_000
BEGINS = (0.31, 0.9, 1.47)  # seconds


def beeps(hertz: float = 440, lasts: float = 0.2, seconds: float = 2) -> Samples:
    """Beeps in silence, (1, samples)."""
    sound = np.zeros((1, int(seconds * RATE)), np.float32)
    for begin in BEGINS:
        start, count = int(begin * RATE), int(lasts * RATE)
        sound[0, start:start + count] = 0.5 * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)
    return sound


def slowed(sound: Samples, stretch: Fraction | int, piece: int = 1024) -> Samples:
    """A sound, slowed down piece by piece."""
    slow = Slowed(len(sound), Fraction(stretch))
    parts = [slow.push(sound[:, k:k + piece]) for k in range(0, sound.shape[1], piece)]
    return np.concatenate([*parts, slow.finish(round(sound.shape[1] * Fraction(stretch)))], axis=1)


def test_at_its_own_speed_a_sound_comes_back_as_it_was() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (2, RATE)).astype(np.float32)
    assert np.abs(slowed(sound, 1) - sound).max() < 1e-6


@pytest.mark.parametrize("stretch", [2, Fraction(5, 2), Fraction(1001, 240)])
def test_a_sound_lasts_as_long_as_asked_for_whatever_pieces_it_comes_in(stretch: Fraction) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 30_011)).astype(np.float32)
    made = slowed(sound, stretch)
    assert made.shape == (1, round(30_011 * Fraction(stretch)))
    np.testing.assert_array_equal(slowed(sound, stretch, 7001), made)


@pytest.mark.parametrize("length", [0, 1, 100, 3000])
def test_a_sound_shorter_than_a_window_lasts_as_long_as_asked_for(length: int) -> None:
    assert slowed(np.ones((2, length), np.float32), 4).shape == (2, 4 * length)


@pytest.mark.parametrize("stretch", [2, 4, 8])
def test_what_begins_in_a_sound_begins_no_frame_early_or_late(stretch: int) -> None:
    made = np.abs(slowed(beeps(), stretch)[0])
    for begin in BEGINS:
        around = slice(int((begin - 0.1) * stretch * RATE), int((begin + 0.3) * stretch * RATE))
        power = np.convolve(made[around] ** 2, np.ones(240), "same")
        assert abs(np.average(np.arange(power.size), weights=power) / RATE - 0.2 * stretch) < 0.002
        assert abs(np.argmax(power > power.max() / 4) / RATE - 0.1 * stretch) < 1 / 48


@pytest.mark.parametrize("stretch", [2, Fraction(5, 2), 8])
def test_pitch_stays(stretch: Fraction) -> None:
    time = np.arange(2 * RATE) / RATE
    made = slowed(np.sin(2 * np.pi * 440 * time)[np.newaxis].astype(np.float32), stretch)[0, RATE:2 * RATE]
    power = np.abs(np.fft.rfft(made * np.hanning(RATE))) ** 2
    assert np.argmax(power) == 440
    assert power[435:446].sum() > 0.9999 * power.sum()


def test_channels_stay_in_step() -> None:
    sound = beeps()
    made = slowed(np.concatenate([sound, -0.5 * sound]), 4)
    np.testing.assert_allclose(made[1], -0.5 * made[0], atol=1e-6)


def test_nothing_piles_up_while_a_long_sound_is_slowed() -> None:
    slow = Slowed(2, Fraction(4))
    kept = []
    for _ in range(200):
        slow.push(np.ones((2, 1024), np.float32))
        kept.append(slow._kept.nbytes)
    assert max(kept[100:]) <= max(kept[:100])
