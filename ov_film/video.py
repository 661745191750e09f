"""Frames into a WebM file, whole or not at all."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

from .audio import Audio, AudioEncoder, check_audio
from .encoding import Codec, Encoder, Encoding, check_container, open_container
from .errors import FilmError
from .files import written_whole
from .frames import Frame, check_frame


def write_webm(
    path: Path,
    frames: Iterable[Frame],
    frame_rate: Fraction,
    *,
    crf: int = 20,
    codec: Codec = "vp9",
    alpha: bool = False,
    lossless: bool = False,
    audio: Audio | None = None,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write frames as a WebM file, whole or not at all, and return how many there were.

    The frames are (H,W,3) float32 RGB in [0,1], all of one size; they are taken one by one and not kept. What lies
    outside [0,1] is clipped. Where H or W is odd, the last row or column is there twice in the video, because 4:2:0
    has one colour for 2x2 pixels; nothing is scaled. With `alpha`, which takes VP9, frames are (H,W,4): their alpha
    goes into the file as a second picture, as WebM has it, and colours are not multiplied by it.

    Colours go through BT.709's matrix to limited range, rounded, in 8 bits (VP9) or 10 (AV1), and the stream is tagged
    so. The transfer is tagged bt709 as well, though frames are sRGB as a rule: players then show the values as they
    are, while some convert what is tagged sRGB. With `lossless`, which takes VP9 and no alpha, RGB stays what it is,
    rounded to 8 bits: that comes back exactly, with odd sides too.

    The frame rate is in frames a second, from 1/100 to 1000 (AV1: 240), and is kept as it is up to a denominator of
    2,000,000. WebM counts milliseconds: a frame begins up to half a millisecond early or late, and errors don't add up.

    `crf` goes from 0 (best) to 63 (smallest file). AV1 needs frames of at least 64x64. `audio` begins with the first
    frame; what goes on after the last one is cut off. `metadata` holds names and texts for the file's tags; WebM keeps
    the names in capitals.

    Raises:
        FilmError: an argument is out of range, there is no frame or a wrong one, PyAV lacks the encoder, or the file
            can't be written; what was at `path` is still there.
    """
    encoding = Encoding(codec, crf, alpha=alpha, lossless=lossless)
    frame_rate = encoding.exact_rate(frame_rate)
    check_container(path, codec)
    if audio:
        check_audio(audio)
    with written_whole(path) as temporary, open_container(temporary) as container:
        container.metadata.update(metadata or {})
        coming = iter(frames)
        first = next(coming, None)
        if first is None:
            raise FilmError(f"Video {path} would have no frames: give one or more.")
        check_frame(first, "Frame 1", channels=4 if alpha else 3)
        encoder = Encoder(container, first.shape[0], first.shape[1], frame_rate, encoding)
        sound = AudioEncoder(container, audio) if audio else None
        for count, frame in enumerate(chain([first], coming), start=1):
            encoder.encode(frame, count - 1)
            if sound:
                sound.encode_until(count / frame_rate)
        encoder.finish()
        if sound:
            sound.finish()
    return count
