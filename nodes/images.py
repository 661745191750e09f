"""ComfyUI's IMAGE, a tensor (B,H,W,C), as frames for the engine, and back.

The network sees RGB. Grey images (C=1) go through it as RGB and come back grey; of RGBA the colour goes through it,
and so does the alpha, as a grey image of its own. So what comes out has the channels that went in.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..ov_film.errors import FilmError
from ..ov_film.frames import Frame, size_text

Frames = NDArray[np.float32]


def frames_of(images: torch.Tensor, name: str) -> Frames:
    """Return an IMAGE as (B,H,W,C) float32 on the CPU, C being 1, 3 or 4.

    Raises:
        FilmError: it holds no image, or has other channels.
    """
    frames: Frames = images.detach().to("cpu", torch.float32).numpy()
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3, 4) or frames.size == 0:
        raise FilmError(f"{name} has shape {tuple(images.shape)} where (images, height, width, 1, 3 or 4 channels) "
                        "belongs: connect a grey, RGB or RGBA image.")
    return frames


def check_alike(first: Frames, other: Frames, first_name: str, other_name: str) -> None:
    """Raise FilmError where two batches differ in size or channels."""
    if first.shape[1:3] != other.shape[1:3]:
        raise FilmError(f"{first_name} is {size_text(first[0])} and {other_name} is {size_text(other[0])}: bring them "
                        "to one size with the node Upscale Image.")
    if first.shape[3] != other.shape[3]:
        raise FilmError(f"{first_name} has {first.shape[3]} channels and {other_name} has {other.shape[3]}: bring them "
                        "to one kind, for instance with the node Split Image with Alpha.")


def checked_pairs(first: torch.Tensor, last: torch.Tensor) -> tuple[Frames, Frames]:
    """Return two batches of as many frames of one size and kind; a single image is repeated for the other's.

    Raises:
        FilmError: they differ in number, size or channels.
    """
    firsts, lasts = frames_of(first, "The first image"), frames_of(last, "The last image")
    check_alike(firsts, lasts, "The first image", "the last image")
    if len(firsts) != len(lasts) and 1 not in (len(firsts), len(lasts)):
        raise FilmError(f"The first batch has {len(firsts)} images and the last has {len(lasts)}: give as many of "
                        "both, or one image for all.")
    shape = (max(len(firsts), len(lasts)), *firsts.shape[1:])
    return np.broadcast_to(firsts, shape), np.broadcast_to(lasts, shape)


def planes(frame: Frame) -> list[Frame]:
    """Return the RGB frames (H,W,3) that the network has to see for a frame (H,W,C)."""
    channels = frame.shape[2]
    colour = [frame[..., :3]] if channels >= 3 else []
    grey = [np.repeat(frame[..., -1:], 3, axis=2)] if channels != 3 else []
    return colour + grey


def joined(parts: Sequence[Frame], channels: int) -> Frame:
    """Return the frame (H,W,C) that the network's results belong to."""
    if channels == 3:
        return parts[0]
    grey = parts[-1].mean(axis=2, keepdims=True)
    return np.concatenate([*parts[:-1], grey], axis=2)
