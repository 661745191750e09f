"""Pictures for people: what the network saw in a pair of frames, and its new frame beside them."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .frames import Frame, size_text, to_8_bits, warped
from .model import PairDetails
from .refinement import Flow
from .words import counted

Picture: TypeAlias = NDArray[np.uint8]  # (H,W,3) RGB
Map: TypeAlias = NDArray[np.float32]  # (H,W)

# The colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011: the hues from
# red over yellow, green, cyan, blue and magenta back to red, spaced by how well they can be told apart.
_HUE_PLACES = (0, 15, 21, 25, 36, 49, 55)
_HUES = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float32)
_HUES = np.concatenate([[[1, 0, 0]], _HUES])

_GAP, _CAPTION, _TEXT = 16, 26, 15  # pixels: between panels, of a caption's line, of letters
_LEAST_WIDTH, _MOST_SIDE = 360, 640  # of a panel; narrower frames are enlarged, larger ones are shrunk
_WHEEL = 128
_DARK, _LIGHT = (32, 32, 32), (110, 110, 110)
_MOST_DIFFERENCE = 64 / 255  # what the scale of differences ends at; noise and dithering stay dark


class _Panel(NamedTuple):
    caption: str
    picture: Picture


def flow_picture(flow: Flow, longest: float) -> Picture:
    """Draw a flow (H,W,2), (x, y) in pixels: the hue is its direction, the saturation its length up to `longest`."""
    length = (_length(flow)[..., np.newaxis] / np.float32(longest)).clip(0, 1)
    place = (np.arctan2(-flow[..., 1], -flow[..., 0]) / np.pi + 1) / 2 * _HUE_PLACES[-1]
    hue = np.stack([np.interp(place, _HUE_PLACES, channel) for channel in _HUES.T], axis=-1)
    return to_8_bits(1 - length * (1 - hue))


def map_picture(values: Map, most: float) -> Picture:
    """Draw values (H,W) from 0, black, over purple and orange to `most` and above, bright yellow."""
    levels = np.rint((values / np.float32(most)).clip(0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def contradiction(forward: Flow, backward: Flow) -> Map:
    """Return how far from its place, in pixels, each pixel ends that goes there and back by two flows (H,W,2)."""
    return _length(forward + warped(backward, forward))


def occluded(forward: Flow, backward: Flow) -> NDArray[np.bool_]:
    """Return where two flows contradict each other (H,W): what one frame alone shows, or what was not found.

    The bound is that of Sundaram, Brox and Keutzer, ECCV 2010: it grows with the motion.
    """
    back = warped(backward, forward)
    bound: Map = 0.01 * (_length(forward) ** 2 + _length(back) ** 2) + 0.5
    return np.asarray(_length(forward + back) ** 2 > bound, np.bool_)


def difference(frame: Frame, other: Frame) -> Map:
    """Return the mean difference of the channels of two frames (H,W,3), from 0 to 1."""
    mean: Map = np.abs(frame - other).mean(axis=2)
    return mean


def comparison(first: Frame, interpolated: Frame, last: Frame) -> Picture:
    """Draw three frames of one size side by side, and below how each two of them differ."""
    pairs = (("first", first, "interpolated", interpolated), ("first", first, "last", last),
             ("interpolated", interpolated, "last", last))
    differences = [_Panel(f"difference of {name} and {other_name}: {_levels(difference(frame, other).mean())}",
                          map_picture(difference(frame, other), _MOST_DIFFERENCE))
                   for name, frame, other_name, other in pairs]
    grid = _grid([[_Panel("first", to_8_bits(first)), _Panel("interpolated", to_8_bits(interpolated)),
                   _Panel("last", to_8_bits(last))], differences])
    legend = _blank(_CAPTION, grid.shape[1])
    _draw_scale(legend, _GAP, 0, "difference", _levels(_MOST_DIFFERENCE))
    return np.concatenate([grid, legend, _blank(_GAP, grid.shape[1])])


def inspection(first: Frame, last: Frame, details: PairDetails) -> Picture:
    """Draw what the network saw in two frames (H,W,3) of one size.

    From above: the first frame, its midpoint with the last, and the last; both frames moved to the midpoint, and
    between them how these differ; the flows both ways, and between them how they contradict each other; a legend.
    The picture's size depends on that of the frames alone.
    """
    forward, backward = details.forward_flows[0], details.backward_flows[0]
    longest = _scale(np.stack([_length(forward), _length(backward)]))
    there_and_back = contradiction(forward, backward)
    farthest = _scale(there_and_back)
    apart = difference(details.warped_first, details.warped_last)
    grid = _grid([
        [_Panel(f"first ({size_text(first)})", to_8_bits(first)), _Panel("midpoint", to_8_bits(details.midpoint)),
         _Panel("last", to_8_bits(last))],
        [_Panel("first, moved half way", to_8_bits(details.warped_first)),
         _Panel("where the moved frames differ", map_picture(apart, _MOST_DIFFERENCE)),
         _Panel("last, moved half way", to_8_bits(details.warped_last))],
        [_Panel("motion from first to last", flow_picture(forward, longest)),
         _Panel("where the two motions contradict each other", map_picture(there_and_back, farthest)),
         _Panel("motion from last to first", flow_picture(backward, longest))]])
    legend = _blank(_WHEEL + 2 * _GAP, grid.shape[1])
    _draw_wheel(legend, longest)
    column = (grid.shape[1] - _GAP) // 3
    _draw_scale(legend, column + _GAP, 0, "difference", _levels(_MOST_DIFFERENCE))
    _draw_scale(legend, column + _GAP, _CAPTION, "contradiction", counted(farthest, "pixel"))
    _draw_text(legend, 2 * column + _GAP, 0, [
        f"moved frames differ by {_levels(apart.mean())}",
        f"motions contradict in {occluded(forward, backward).mean():.1%} of the frame:"])
    _draw_text(legend, 2 * column + _GAP, 2 * _CAPTION, [
        "what one frame alone shows, or what was not found;", "there the new frame is a guess"], _LIGHT)
    return np.concatenate([grid, legend])


def _length(flow: Flow) -> Map:
    length: Map = np.hypot(flow[..., 0], flow[..., 1])
    return length


def _scale(pixels: NDArray[np.float32]) -> int:
    """Return what a scale of pixels ends at; a few outliers lie beyond it."""
    return max(1, math.ceil(np.percentile(pixels, 99.5)))


def _grid(rows: Sequence[Sequence[_Panel]]) -> Picture:
    """Lay panels of one size out in rows, each under its caption."""
    grid = np.concatenate([_row(panels) for panels in rows])
    return np.concatenate([_blank(_GAP // 2, grid.shape[1]), grid])


def _row(panels: Sequence[_Panel]) -> Picture:
    pictures = [_fitted(panel.picture) for panel in panels]
    height, width = pictures[0].shape[0], max(_LEAST_WIDTH, pictures[0].shape[1])
    row = _blank(_CAPTION + height + _GAP, _GAP + len(panels) * (width + _GAP))
    for index, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
        left = _GAP + index * (width + _GAP)
        row[_CAPTION:_CAPTION + height, left:left + picture.shape[1]] = picture
        _draw_text(row, left, 0, [panel.caption])
    return row


def _fitted(picture: Picture) -> Picture:
    """Enlarge a small picture by a whole number, so that its pixels can be told, or shrink a large one.

    What is narrow and high becomes no higher than others for it.
    """
    longest = max(picture.shape[:2])
    if longest > _MOST_SIDE:
        size = [max(1, round(side * _MOST_SIDE / longest)) for side in picture.shape[1::-1]]
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    factor = min(-(-_LEAST_WIDTH // picture.shape[1]), _MOST_SIDE // longest)
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _draw_wheel(canvas: Picture, longest: int) -> None:
    """Draw at the left edge what each colour of a flow means."""
    axis = np.linspace(-longest, longest, _WHEEL, dtype=np.float32)
    flow = np.stack(np.meshgrid(axis, axis), axis=-1)
    inside = _length(flow) <= longest
    canvas[:_WHEEL, _GAP:_GAP + _WHEEL][inside] = flow_picture(flow, longest)[inside]
    _draw_text(canvas, 2 * _GAP + _WHEEL, 0,
               ["the way things move:", "white is still, the rim is", f"{counted(longest, 'pixel')} or more"])


def _draw_scale(canvas: Picture, left: int, top: int, name: str, most: str) -> None:
    """Draw a scale from 0 to what is brightest."""
    width = _WHEEL
    bar = map_picture(np.linspace(0, 1, width, dtype=np.float32)[np.newaxis].repeat(_TEXT, axis=0), 1)
    canvas[top + 4:top + 4 + _TEXT, left:left + width] = bar
    _draw_text(canvas, left + width + _GAP // 2, top, [f"{name} from 0 to {most}"])


def _draw_text(canvas: Picture, left: int, top: int, lines: Sequence[str],
               colour: tuple[int, int, int] = _DARK) -> None:
    """Draw lines of text."""
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((left, top + number * _CAPTION), line, colour, _font())
    canvas[:] = np.asarray(image)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow."""
    return ImageFont.load_default(_TEXT)


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), 255, np.uint8)


def _levels(share: float) -> str:
    return f"{share * 255:.3g} of 255"
