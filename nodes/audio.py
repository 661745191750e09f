"""ComfyUI's AUDIO, {"waveform": tensor (B,C,T), "sample_rate": int}, as audio for the engine."""

from typing import Any

import numpy as np
import torch

from ..ov_film.audio import Audio, check_audio
from ..ov_film.errors import FilmError


def audio_of(audio: Any) -> Audio:
    """Return an AUDIO as the engine takes it.

    Raises:
        FilmError: it is none, holds more than one recording, or can't be encoded.
    """
    try:
        waveform, sample_rate = audio["waveform"], int(audio["sample_rate"])
    except (TypeError, KeyError, ValueError):
        raise FilmError(f"Audio is {type(audio).__name__} without a waveform and a sample rate: connect an AUDIO, such "
                        "as that of Load Audio.") from None
    if not isinstance(waveform, torch.Tensor) or waveform.ndim != 3 or len(waveform) != 1:
        shape = tuple(getattr(waveform, "shape", ()))
        raise FilmError(f"Audio has a waveform of shape {shape} where (1, channels, samples) belongs: connect one "
                        "recording.")
    samples = waveform[0].detach().to("cpu", torch.float32).numpy()
    found = Audio(np.ascontiguousarray(samples), sample_rate)
    check_audio(found)
    return found
