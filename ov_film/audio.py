"""Sound into a video file: Opus beside the video stream."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import FilmError

try:
    import av
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
except ImportError as error:
    raise FilmError(f"PyAV can't be imported ({error}): install it with python -m pip install av.") from error

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_OPUS_RATE = 48000
_BIT_RATE = 80_000  # of a channel; listeners tell none from the original
_LEAST_RATE, _MOST_RATE = 1000, 768_000


class Audio(NamedTuple):
    """Samples (channels, samples) float32 in [-1,1], in FFmpeg's order of channels, and how many a second."""

    samples: NDArray[np.float32]
    sample_rate: int


def check_audio(audio: Audio) -> None:
    """Raise FilmError where audio can't be encoded."""
    samples, rate = audio
    if samples.ndim != 2 or samples.dtype != np.float32 or samples.size == 0:
        raise FilmError(f"Audio is {samples.dtype} of shape {samples.shape} where float32 of (channels, samples) "
                        "belongs: give some sound.")
    if len(samples) not in _LAYOUTS:
        raise FilmError(f"Audio has {len(samples)} channels: give 1 (mono), 2 (stereo) or 6 (5.1).")
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        raise FilmError(f"Audio has {rate} samples a second: give {_LEAST_RATE} to {_MOST_RATE}.")
    if not np.isfinite(samples.min() + samples.max()):
        raise FilmError("Audio has values that are no numbers: mend what made it.")


class AudioEncoder:
    """Encodes audio as Opus, 48 kHz, into a new stream of a container."""

    def __init__(self, container: OutputContainer, audio: Audio) -> None:
        """Add the stream to the container, to which nothing has been written yet.

        Raises:
            FilmError: PyAV lacks the encoder.
        """
        self._container, self._audio = container, audio
        self._done = 0
        self._layout = _LAYOUTS[len(audio.samples)]
        try:
            self._stream: AudioStream = container.add_stream("libopus", rate=_OPUS_RATE, layout=self._layout)
        except ValueError as error:
            raise FilmError(f"Audio needs the encoder libopus, which PyAV {av.__version__} lacks: update it (python -m "
                            "pip install --upgrade av) or leave the audio out.") from error
        self._stream.codec_context.bit_rate = _BIT_RATE * len(audio.samples)

    def encode_until(self, seconds: Fraction) -> None:
        """Encode the samples that come before a time, as far as there are any; what lies outside [-1,1] is clipped.

        Raises:
            OSError: the file can't be written.
        """
        samples, rate = self._audio
        end = min(round(seconds * rate), samples.shape[1])
        if end <= self._done:
            return
        part = np.ascontiguousarray(samples[:, self._done:end].clip(-1, 1))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), self._done
        self._container.mux(self._stream.encode(frame))
        self._done = end

    def finish(self) -> None:
        """Write what the encoder still holds.

        Raises:
            OSError: the file can't be written.
        """
        self._container.mux(self._stream.encode(None))
