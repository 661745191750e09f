"""Frame rates as exact fractions."""

from fractions import Fraction

from .errors import FilmError

_NTSC_STEP = Fraction(1000, 1001)
_ROUNDING = Fraction(1, 200)  # 23.98 and 23.976 both mean 24000/1001


def frame_rate(fps: float | str, name: str = "Frame rate") -> Fraction:
    """Return a frame rate, in frames a second, exactly: 23.976, 29.97 and the like mean 24000/1001, 30000/1001.

    Args:
        fps: a number, or text such as "30", "23.976" or "24000/1001".
        name: what errors call it.

    Raises:
        FilmError: it is no number, or not above 0.
    """
    try:
        exact = Fraction(str(fps))
    except (ValueError, ZeroDivisionError):
        raise FilmError(f"{name} {fps} is no number: give one such as 30, 23.976 or 24000/1001.") from None
    if exact <= 0:
        raise FilmError(f"{name} {fps} is not above 0: give one such as 30, 23.976 or 24000/1001.")
    ntsc = round(exact / _NTSC_STEP) * _NTSC_STEP
    return ntsc if ntsc and exact.denominator > 1 and abs(ntsc - exact) < _ROUNDING else exact


def parse_multiplier(times: float | str) -> Fraction:
    """Return how many times the frames, exactly: 2.5 and "5/2" mean the same.

    Raises:
        FilmError: it is no number.
    """
    try:
        return Fraction(str(times))
    except (ValueError, ZeroDivisionError):
        raise FilmError(f"Multiplier {times} is no number: give one such as 2, 2.5 or 3.") from None
