"""What HDR10 says beside the pictures: the display that they were mastered on, and how bright they get."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

# x265 counts chromaticities and luminances in these, SVT-AV1 in ones.
_CHROMATICITY, _LUMINANCE = Fraction(1, 50_000), Fraction(1, 10_000)


class Hdr(NamedTuple):
    """Mastering display (SMPTE ST 2086) and content light level (CTA-861.3).

    Attributes:
        display: chromaticities of red, green, blue and white, each as x and y, then the least and the most luminance in
            candelas a square metre; empty where not known.
        light: of the brightest pixel and of the brightest frame, in candelas a square metre; empty where not known.
    """

    display: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    def parameters(self, encoder: str) -> str:
        """Return what tells libx265 or libsvtav1; nothing for encoders that can't be told."""
        names = {"libx265": ("master-display", "max-cll"), "libsvtav1": ("mastering-display", "content-light")}
        if encoder not in names:
            return ""
        texts = [_display(self.display, whole=encoder == "libx265"), ",".join(map(str, self.light))]
        return ":".join(f"{name}={text}" for name, text in zip(names[encoder], texts, strict=True) if text)


NO_HDR = Hdr()


def read_hdr(side_data: Any) -> Hdr:
    """Return what the side data of a decoded picture say."""
    display, light = (side_data.get(name) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    # FFmpeg's AVMasteringDisplayMetadata: ten rationals, then whether there are chromaticities, and luminances.
    numbers = [] if display is None else np.frombuffer(display, np.int32).tolist()
    known = len(numbers) == 22 and all(numbers[1::2]) and all(numbers[20:])
    values = tuple(Fraction(numbers[place], numbers[place + 1]) for place in range(0, 20, 2)) if known else ()
    return Hdr(values, () if light is None else tuple(np.frombuffer(light, np.uint32)[:2].tolist()))


def _display(values: tuple[Fraction, ...], whole: bool) -> str:
    """Return a mastering display as encoders read one."""
    if not values:
        return ""
    red, green, blue, white, luminance = (values[place:place + 2] for place in range(0, 10, 2))
    texts = []
    for name, pair in (("G", green), ("B", blue), ("R", red), ("WP", white), ("L", luminance[::-1])):
        unit = _LUMINANCE if name == "L" else _CHROMATICITY
        numbers = (str(round(value / unit)) if whole else f"{float(value):.5f}" for value in pair)
        texts.append(f"{name}({','.join(numbers)})")
    return "".join(texts)
