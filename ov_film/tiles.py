"""Overlapping windows that a large frame is worked on in, and the frame made of what comes out of them."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import FilmError

Array = NDArray[np.float32]
Tile: TypeAlias = int | Literal["auto", "off"]

LEAST_TILE = 384  # pixels: smaller windows would be little but overlap


def check_tile(tile: Any) -> Tile:
    """Return a tile; raise FilmError where it is none."""
    if tile not in ("auto", "off") and (isinstance(tile, bool) or not isinstance(tile, int) or tile < LEAST_TILE):
        raise FilmError(f"Tile is {tile!r}: choose auto, off, or a whole number of pixels from {LEAST_TILE}.")
    checked: Tile = tile
    return checked


@dataclass(frozen=True)
class Window:
    """A part of a padded frame, in pixels; all four are multiples of what its levels divide by."""

    top: int
    left: int
    height: int
    width: int

    def at(self, level: int) -> tuple[slice, slice]:
        """Return its rows and columns at a pyramid level."""
        return (slice(self.top >> level, (self.top + self.height) >> level),
                slice(self.left >> level, (self.left + self.width) >> level))

    def inner(self, margin: int, height: int, width: int) -> "Window":
        """Return the window without its margins, which it has where it does not end with the frame."""
        top, left = (start and start + margin for start in (self.top, self.left))
        bottom, right = (end if end == whole else end - margin for end, whole in
                         ((self.top + self.height, height), (self.left + self.width, width)))
        return Window(top, left, bottom - top, right - left)

    def relative_to(self, other: "Window") -> "Window":
        """Return the window as a part of another one that holds it."""
        return Window(self.top - other.top, self.left - other.left, self.height, self.width)


def window_size(height: int, width: int, area: int, margin: int, multiple: int) -> tuple[int, int]:
    """Return the size of windows, none larger than an area in pixels, whose sum over a frame is smallest.

    Where the area is too small for two margins, windows are as small as leaves a margin's width between them.
    """
    def side(whole: int, count: int) -> int:
        return min(whole, -(-math.ceil((whole + (count - 1) * 2 * margin) / count) // multiple) * multiple)

    def counts(whole: int) -> range:
        return range(1, max(1, (whole - 2 * margin) // margin) + 1)

    sizes = {(side(height, rows), side(width, columns)): rows * columns
             for rows, columns in itertools.product(counts(height), counts(width))}
    fitting = [size for size in sizes if size[0] * size[1] <= area] or [min(sizes, key=lambda size: size[0] * size[1])]
    return min(fitting, key=lambda size: size[0] * size[1] * sizes[size])


def windows(height: int, width: int, size: tuple[int, int], margin: int, multiple: int) -> list[Window]:
    """Return windows of one size that cover a frame, neighbours overlapping by two margins or more.

    Margins are cut to what the size allows.
    """
    return [Window(top, left, *size) for top in _starts(height, size[0], margin, multiple)
            for left in _starts(width, size[1], margin, multiple)]


def _starts(whole: int, size: int, margin: int, multiple: int) -> list[int]:
    step = max(multiple, (size - 2 * margin) // multiple * multiple)  # so that rounding leaves no gap
    count = 1 + math.ceil((whole - size) / step)
    return [min(whole - size, -(-index * (whole - size) // (count - 1) // multiple) * multiple) if index else 0
            for index in range(count)]


class Canvas:
    """A field of which windows come one by one; where they overlap, one fades into the other."""

    def __init__(self, height: int, width: int, channels: int, margin: int) -> None:
        self._sum = np.zeros((height, width, channels), np.float32)
        self._weight = np.zeros((height, width, 1), np.float32)
        self._margin = margin

    def add(self, rows: slice, columns: slice, values: Array) -> None:
        """Lay a window's values (h,w,channels) there."""
        height, width = self._weight.shape[:2]
        down, right = _ramp(rows, height, self._margin), _ramp(columns, width, self._margin)
        weight = (down[:, np.newaxis] * right)[..., np.newaxis]
        self._sum[rows, columns] += weight * values
        self._weight[rows, columns] += weight

    def field(self) -> Array:
        """Return the whole, (height,width,channels)."""
        self._sum /= self._weight
        return self._sum


def _ramp(part: slice, whole: int, margin: int) -> Array:
    """Return a window's weights along one side: 0 near its edges inside the frame, where it lacks its surroundings."""
    place = np.arange(part.stop - part.start, dtype=np.float32) + 0.5
    weight: Array = np.ones_like(place)
    for distance, inside in ((place, part.start > 0), (place[::-1], part.stop < whole)):
        if inside:
            weight *= (distance / np.float32(max(margin, 1)) - 0.5).clip(1e-3, 1)
    return weight


def grouped(values: Sequence[float], size: int) -> Iterator[Sequence[float]]:
    """Yield parts of up to `size` values."""
    for start in range(0, len(values), size):
        yield values[start:start + size]
