"""A converted FILM, ready to run: frames in, frames in between out."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .compiled import CompiledFilm, Encoding, PairDetails
from .devices import Device, choose_device, choose_precision
from .errors import FilmError
from .frames import Frame, check_frame, check_same_size, size_text
from .library import checked_manifest, model_folder
from .memory import check_memory, encoding_bytes, network_bytes

TIME_STEPS = 64  # `time` is rounded to a multiple of 1/64
MOST_TIMES = 16
_KEPT_RESOLUTIONS = 3


@dataclass(frozen=True)
class Report:
    """What really runs.

    Attributes:
        model: the model's name.
        device: OpenVINO's name of the device.
        full_name: the device's full name.
        precision: "f32", "bf16" or "f16".
        resolution: height and width, padded, of the last frame that was run; None before the first.
    """

    model: str
    device: str
    full_name: str
    precision: str
    resolution: tuple[int, int] | None

    def __str__(self) -> str:
        """Return one line for people."""
        at = f", {self.resolution[1]}x{self.resolution[0]}" if self.resolution else ""
        return f"{self.model} on {self.device} ({self.full_name}), {self.precision}{at}"


class FilmModel:
    """A FILM on a device. Use `FilmModel.load`."""

    def __init__(self, folder: Path, device: Device, precision: str) -> None:
        self._folder = folder
        self._configuration = checked_manifest(folder).configuration
        self._device = device
        self._precision = precision
        self._resolution: tuple[int, int] | None = None  # of the last run
        self._holding: tuple[int, int] | None = None  # the resolution whose layers hold memory
        self._compiled = functools.lru_cache(_KEPT_RESOLUTIONS)(self._compile)

    @classmethod
    def load(cls, name_or_folder: str | Path = "film_lite", device: str = "AUTO", precision: str = "auto",
             folders: Iterable[Path] | None = None) -> "FilmModel":
        """Load a converted model; it is compiled at the first frame of each resolution.

        Args:
            name_or_folder: an installed model's name, or a converted model's folder.
            device: "AUTO" or a device that OpenVINO sees, such as "CPU" or "GPU.0".
            precision: "auto" (the fastest that the device does natively), "f32", "bf16" or "f16".
            folders: where to look for names; the default models folder if none are given.

        Raises:
            FilmError: there is no such model or device, the model is damaged, or the device hasn't that precision.
        """
        chosen = choose_device(device)
        return cls(model_folder(name_or_folder, folders), chosen, choose_precision(precision, chosen))

    def interpolate(self, first: Frame, last: Frame, time: float = 0.5) -> Frame:
        """Return the frame at a time between two frames.

        The network knows the midpoint alone; other times are reached by recursion towards them, to the nearest
        multiple of 1/64 (so to within 1/128): 0 and 1 are the frames themselves, 0.25 takes two runs, 1/3 takes six.

        Args:
            first, last: (H,W,3) float32 RGB in [0,1], of one size.
            time: in [0,1], 0 at the first frame.

        Returns:
            (H,W,3) float32 in [0,1].

        Raises:
            FilmError: a frame or the time is out of bounds, the sizes differ, or memory can't suffice.
        """
        self._check_pair(first, last)
        if not 0 <= time <= 1:
            raise FilmError(f"Time {time} is not between 0 (the first frame) and 1 (the last): choose one that is.")
        target = round(time * TIME_STEPS)
        if target in (0, TIME_STEPS):
            return first if target == 0 else last
        network = self._network(first, times=2)
        low, high = 0, TIME_STEPS
        before, after = network.encode(first), network.encode(last)
        while True:
            middle = (low + high) // 2
            frame = network.midpoint(before, after)
            if middle == target:
                return frame
            if target < middle:
                high, after = middle, network.encode(frame)
            else:
                low, before = middle, network.encode(frame)

    def interpolate_recursively(self, frames: Iterable[Frame], times: int) -> Iterator[Frame]:
        """Yield every frame in order, and between each two of them 2**times - 1 new ones (Reda et al., section 4).

        Source frames come out as the very arrays that went in. Each frame is encoded at most once; no more than
        times + 1 encodings are held. Frames are taken from the iterable as they are needed.

        Args:
            frames: (H,W,3) float32 RGB in [0,1], all of one size; none or one is passed through.
            times: depth of the recursion, 0 to 16.

        Raises:
            FilmError: at once where times is out of bounds; at the frame where a frame is, or its size differs.
        """
        if isinstance(times, bool) or not isinstance(times, int) or not 0 <= times <= MOST_TIMES:
            raise FilmError(f"Times {times!r} is not a whole number from 0 to {MOST_TIMES}: choose one that is.")
        return self._sequence(frames, times)

    def inspect(self, first: Frame, last: Frame) -> PairDetails:
        """Return the midpoint of two frames with the flows and warped frames that it was made of.

        Raises:
            FilmError: as `interpolate`.
        """
        self._check_pair(first, last)
        network = self._network(first, times=1)
        return network.details(network.encode(first), network.encode(last))

    def memory_needed(self, height: int, width: int, times: int = 1) -> int:
        """Return about how many bytes a run at this size takes beyond what the process holds, frames not counted."""
        resolution, value_bytes = self._padded(height, width), 4 if self._precision == "f32" else 2
        encodings = (times + 1) * encoding_bytes(self._configuration, *resolution, value_bytes)
        if resolution == self._holding:
            return encodings
        return encodings + network_bytes(self._configuration, *resolution, value_bytes)

    def release_memory(self) -> None:
        """Give back what the layers hold between runs; the next run takes it again, which costs little."""
        if self._holding is not None:
            self._compiled(*self._holding).release_memory()
            self._holding = None

    def report(self) -> Report:
        """Return what really runs; the resolution is that of the last run."""
        if self._resolution is None:
            return Report(self._folder.name, self._device.name, self._device.full_name, self._precision, None)
        device, full_name, precision = self._compiled(*self._resolution).execution()
        return Report(self._folder.name, device, full_name, precision, self._resolution)

    def _sequence(self, frames: Iterable[Frame], times: int) -> Iterator[Frame]:
        previous: Frame | None = None
        before: Encoding | None = None
        for number, frame in enumerate(frames, start=1):
            check_frame(frame, f"Frame {number}")
            if previous is not None and times:
                check_same_size(previous, frame, f"Frame {number - 1}", f"frame {number}")
                network = self._network(frame, times)
                before = before or network.encode(previous)
                after = network.encode(frame)
                yield from _between(network, before, after, times)
                before = after
            yield frame
            previous = frame

    def _check_pair(self, first: Frame, last: Frame) -> None:
        check_frame(first, "The first frame")
        check_frame(last, "The last frame")
        check_same_size(first, last, "The first frame", "the last frame")

    def _network(self, frame: Frame, times: int) -> CompiledFilm:
        """Return the network compiled for a frame's size; what another size's layers hold is given back."""
        resolution = self._padded(*frame.shape[:2])
        if resolution != self._holding:
            self.release_memory()
            if self._device.name == "CPU":
                check_memory(self.memory_needed(*resolution, times), f"A pair of {size_text(frame)}")
        network = self._compiled(*resolution)
        self._resolution = self._holding = resolution
        return network

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        multiple = self._configuration.multiple
        return height + -height % multiple, width + -width % multiple

    def _compile(self, height: int, width: int) -> CompiledFilm:
        return CompiledFilm(self._folder, self._configuration, self._device.name, self._precision, height, width)


def _between(network: CompiledFilm, before: Encoding, after: Encoding, times: int) -> Iterator[Frame]:
    """Yield the 2**times - 1 frames between two encoded ones; those of the last depth are not encoded."""
    middle = network.midpoint(before, after)
    if times == 1:
        yield middle
        return
    encoding = network.encode(middle)
    yield from _between(network, before, encoding, times - 1)
    yield middle
    yield from _between(network, encoding, after, times - 1)
