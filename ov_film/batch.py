"""Where in a batch of images nothing is to be interpolated."""

from collections.abc import Iterable
from itertools import pairwise, starmap

from .frames import Frame
from .retiming import Retiming
from .scenes import change, is_cut, thumbnail


def uninterpolated(frames: Iterable[Frame], count: int, retiming: Retiming) -> set[int]:
    """Return the numbers, from 0, of those of `count` frames (H,W,3) after which nothing is to be interpolated.

    Those are scene cuts, unless they are to be ignored, and what `skip` and `only` say.
    """
    forbidden = {number for number in range(count) if not retiming.allows(number)}
    if retiming.cuts == "ignore":
        return forbidden
    changes = [0.0, *starmap(change, pairwise(map(thumbnail, frames))), 0.0]
    return forbidden | {number for number in range(count - 1) if is_cut(*changes[number:number + 3])}
