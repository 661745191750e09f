"""Sound slowed down at its pitch.

FFmpeg's atempo halves the tempo at most, so that slower sound passes it twice or thrice; what begins in it then comes
up to 70 ms early at a quarter of the speed and 160 at an eighth, now more, now less. Here each part's middle lies to
the sample where its time has moved to. No library for it was found that streams, is kept, and isn't under the GPL.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # (channels, samples)

_WINDOW = 2048  # samples: at 48 kHz, 43 ms. Longer ones are purer in the bass, and blur in time what begins at once
_HALF, _HOP = _WINDOW // 2, _WINDOW // 4
_HANN = np.sin(np.pi * np.arange(_WINDOW) / _WINDOW) ** 2
_OVERLAP = 1.5  # what four squared windows add up to
_FIRST = -2  # the first window that reaches into the sound, counted from the one whose middle is its beginning


class Slowed:
    """A phase vocoder for sound that comes piece by piece.

    Windows of the sound are laid out farther apart than they were taken, each turned, at every frequency, so that it
    goes on from the one before: by the difference of phase between that one and what lies a step of the output ahead
    of this one in the sound. Around a peak of the spectrum all is turned as the peak is (identity phase locking:
    Laroche and Dolson, "Improved Phase Vocoder Time-Scale Modification of Audio", 1999), and all channels are turned
    alike, so that what is between them stays.
    """

    def __init__(self, channels: int, stretch: Fraction) -> None:
        """Begin a sound that will last `stretch` times as long, 1 or more."""
        self._stretch = stretch
        self._number = _FIRST
        self._start = self._middle() - _HOP - _HALF  # of what is kept of the sound
        self._kept: Samples = np.zeros((channels, -self._start), np.float32)
        self._sum = np.zeros((channels, _WINDOW))
        self._spectrum = np.zeros((channels, _HALF + 1), np.complex128)
        self._turned = np.zeros(_HALF + 1)
        self._given = _FIRST * _HOP - _HALF

    def push(self, samples: Samples) -> Samples:
        """Take what comes next and return what is slowed by it."""
        self._kept = np.concatenate([self._kept, samples], axis=1)
        parts = []
        while (middle := self._middle()) + _HALF <= self._start + self._kept.shape[1]:
            parts.append(self._next(middle))
        surplus = middle - _HOP - _HALF - self._start
        self._kept, self._start = self._kept[:, surplus:], self._start + surplus
        slowed: Samples = np.concatenate([self._kept[:, :0], *parts], axis=1)
        unheard = max(0, -self._given)
        self._given += slowed.shape[1]
        return slowed[:, unheard:]

    def finish(self, length: int) -> Samples:
        """Return the rest of a sound that lasts so many samples in all."""
        missing = max(0, length - max(0, self._given))
        silence = np.zeros((len(self._kept), int(missing / self._stretch) + 2 * _WINDOW), np.float32)
        return self.push(silence)[:, :missing]

    def _middle(self) -> int:
        """Where the next window's middle lies in the sound."""
        return round(self._number * _HOP / self._stretch)

    def _next(self, middle: int) -> Samples:
        """Add the next window and return the step that is whole by it."""
        spectrum, ahead = (np.fft.rfft(_HANN * self._kept[:, begin:begin + _WINDOW])
                           for begin in (middle - _HALF - self._start, middle - _HOP - _HALF - self._start))
        turned = self._turned + np.angle((self._spectrum * ahead.conj()).sum(axis=0))
        self._turned = turned[_nearest_peaks(np.square(np.abs(spectrum)).sum(axis=0))]
        self._spectrum = spectrum
        self._sum += np.fft.irfft(spectrum * np.exp(1j * self._turned)) * _HANN / _OVERLAP
        self._number += 1
        done: Samples = self._sum[:, :_HOP].astype(np.float32)
        self._sum = np.pad(self._sum[:, _HOP:], ((0, 0), (0, _HOP)))
        return done


def _nearest_peaks(power: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each frequency that of the nearest peak: what is above both its neighbours on either side."""
    around = np.pad(power, 2, constant_values=-1)
    before, after = np.maximum(around[:-4], around[1:-3]), np.maximum(around[3:-1], around[4:])
    peaks = np.flatnonzero((power > before) & (power >= after))
    if not peaks.size:
        return np.arange(power.size)
    return peaks[np.searchsorted((peaks[1:] + peaks[:-1] + 1) // 2, np.arange(power.size), side="right")]
