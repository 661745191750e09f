"""A converted FILM, ready to run: frames in, frames in between out."""

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import openvino as ov

from .compiled import CompiledModels
from .configuration import FilmConfiguration
from .devices import INT8, Device, choose_device, choose_precision, core
from .errors import FilmError
from .frames import Frame, bridge, check_frame, check_same_size, size_text, warped
from .library import checked_manifest, int8_model, model_folder
from .memory import check_memory, encodings_bytes, memory_needed, window_for
from .pipeline import Encoding, FilmPipeline
from .refinement import Flow
from .tiles import Tile, check_tile
from .winograd import winograd_pays

Method = Literal["recursive", "direct"]
METHODS: tuple[Method, ...] = get_args(Method)
TIME_STEPS = 64  # recursion rounds `time` to a multiple of 1/64
MOST_TIMES = 16
_KEPT_RESOLUTIONS = 3


@dataclass(frozen=True)
class PairDetails:
    """What the network saw in a pair, each cropped to the frames' size.

    Attributes:
        midpoint: (H,W,3) float32 in [0,1].
        warped_first, warped_last: (H,W,3), each frame moved to the midpoint.
        forward_flows, backward_flows: for each fusion level, finest first, (h,w,2) float32: the flow (x, y) in pixels
            of that level from the first frame to the last, and from the last to the first.
    """

    midpoint: Frame
    warped_first: Frame
    warped_last: Frame
    forward_flows: tuple[Flow, ...]
    backward_flows: tuple[Flow, ...]


@dataclass(frozen=True)
class Report:
    """What really runs.

    Attributes:
        model: the model's name.
        device: OpenVINO's name of the device.
        full_name: the device's full name.
        precision: "f32", "bf16" or "f16".
        int8_psnr: of an int8 version, its PSNR against f32 in dB when it was made; None of others.
        resolution: height and width, padded, of the last frame that was run; None before the first.
        window: height and width of the windows that it was worked on in; the resolution where it was done whole.
    """

    model: str
    device: str
    full_name: str
    precision: str
    int8_psnr: float | None
    resolution: tuple[int, int] | None
    window: tuple[int, int] | None

    def __str__(self) -> str:
        """Return one line for people."""
        at = f", {self.resolution[1]}x{self.resolution[0]}" if self.resolution else ""
        if self.window and self.window != self.resolution:
            at += f" in windows of {self.window[1]}x{self.window[0]}"
        int8 = f"int8 ({self.int8_psnr:.1f} dB against f32) and " if self.int8_psnr else ""
        return f"{self.model} on {self.device} ({self.full_name}), {int8}{self.precision}{at}"


class End:
    """A frame that gaps begin or end with, encoded when the first of them is worked on."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self._encoded: tuple[FilmPipeline, Encoding] | None = None

    def encoded(self, network: FilmPipeline) -> Encoding:
        """Return its encoding by a network."""
        if self._encoded is None or self._encoded[0] is not network:
            self._encoded = network, network.encode(self.frame)
        return self._encoded[1]


class FilmModel:
    """A FILM on a device. Use `FilmModel.load`."""

    def __init__(self, folder: Path, device: Device, precision: str, tile: Tile) -> None:
        self._folder = folder
        self._tile = tile
        manifest = checked_manifest(folder)
        self._configuration = manifest.configuration
        self._int8_psnr: float | None = manifest.int8.get("psnr")
        self._device = device
        self._precision = precision
        self._winograd = not manifest.int8 and winograd_pays(self._configuration, device.name)
        self._resolution: tuple[int, int] | None = None  # of the last run
        self._holding: tuple[int, int] | None = None  # the resolution whose layers hold memory
        # Of no method of its own: a cycle would keep what is compiled in memory until the garbage collector comes by.
        self._compiled = functools.lru_cache(_KEPT_RESOLUTIONS)(functools.partial(
            _compiled, folder, self._configuration, device.name, precision, self._winograd))

    @classmethod
    def load(cls, name_or_folder: str | Path = "film_lite", device: str = "AUTO", precision: str = "auto",
             folders: Iterable[Path] | None = None, tile: Tile = "auto") -> "FilmModel":
        """Load a converted model; it is compiled at the first frame of each resolution.

        Args:
            name_or_folder: an installed model's name, or a converted model's folder.
            device: "AUTO" or a device that OpenVINO sees, such as "CPU" or "GPU.0".
            precision: "auto" (the fastest that the device does natively), "f32", "bf16", "f16", or "int8" (the model's
                int8 version, see quantize.py; what it leaves in floating point runs at "auto").
            folders: where to look for names; the default models folder if none are given.
            tile: "auto" (frames too large for the memory that most people have are worked on in overlapping
                windows), "off" (whole always), or the windows' height and width in pixels.

        Raises:
            FilmError: there is no such model or device, the model is damaged, the device hasn't that precision, or the
                tile is none.
        """
        check_tile(tile)
        chosen = choose_device(device)
        if precision == INT8:
            return cls(int8_model(name_or_folder, folders), chosen, choose_precision("auto", chosen), tile)
        return cls(model_folder(name_or_folder, folders), chosen, choose_precision(precision, chosen), tile)

    def interpolate(self, first: Frame, last: Frame, time: float = 0.5, method: Method = "recursive") -> Frame:
        """Return the frame at a time between two frames.

        The network was trained for the midpoint alone. "recursive" reaches other times by recursion towards them: 0 and
        1 are the frames themselves, 0.25 takes two runs; times that no 16 halvings reach go to the nearest multiple of
        1/64 (so to within 1/128), as 1/3 does in six runs. "direct" scales one flow to the very time, in one run.

        Args:
            first, last: (H,W,3) float32 RGB in [0,1], of one size.
            time: in [0,1], 0 at the first frame.
            method: "recursive" or "direct".

        Returns:
            (H,W,3) float32 in [0,1].

        Raises:
            FilmError: a frame, the time or the method is out of bounds, the sizes differ, or memory can't suffice.
        """
        if not 0 <= time <= 1:
            raise FilmError(f"Time {time} is not between 0 (the first frame) and 1 (the last): choose one that is.")
        ends = self.end(first, "The first frame"), self.end(last, "The last frame")
        exact = _reached(Fraction(time)) if method == "recursive" else Fraction(time)
        if exact in (0, 1):
            check_method(method)
            check_same_size(first, last, "The first frame", "the last frame")
            return (first, last)[int(exact)]
        return next(self.between(*ends, [exact], method))

    def end(self, frame: Frame, name: str = "The frame") -> "End":
        """Return a frame as an end of gaps; both gaps that it is an end of share its encoding.

        Raises:
            FilmError: it is no (H,W,3) float32 in [0,1]; the message calls it by the name.
        """
        check_frame(frame, name)
        return End(frame)

    def between(self, before: "End", after: "End", times: Sequence[Fraction], method: Method = "recursive",
                names: tuple[str, str] = ("The first frame", "the last frame")) -> Iterator[Frame]:
        """Yield the frames at some times between two ends, in order.

        Args:
            before, after: frames of one size, as `end` returns them.
            times: in (0,1), rising. "recursive" rounds to multiples of 1/64 those that no halving reaches (see
                `interpolate`).
            method: "recursive" or "direct".
            names: what messages call the two.

        Raises:
            FilmError: the method is none, the sizes differ, or memory can't suffice.
        """
        check_method(method)
        check_same_size(before.frame, after.frame, *names)
        if not times:
            return
        if method == "direct":
            network = self._network(after.frame, times=1)
            pair = network.pair(before.encoded(network), after.encoded(network))
            yield from network.frames(pair, [float(time) for time in times])
            return
        times = [_reached(time) for time in times]
        network = self._network(after.frame, max(time.denominator for time in times).bit_length() - 1)
        yield from [before.frame] * times.count(Fraction(0))
        if inner := [time for time in times if 0 < time < 1]:
            yield from _recursion(network, before.encoded(network), after.encoded(network), Fraction(0), Fraction(1),
                                  inner)
        yield from [after.frame] * times.count(Fraction(1))

    def interpolate_sequence(self, frames: Iterable[Frame], times: int, method: Method = "recursive",
                             bridged: Collection[int] = (), blend: bool = False,
                             multiplier: int = 0) -> Iterator[Frame]:
        """Yield every frame in order, and between each two of them 2**times - 1 new ones.

        Source frames come out as the very arrays that went in. "recursive" makes midpoints of midpoints (Reda et al.,
        section 4): each frame is encoded at most once, and no more than times + 1 encodings are held. "direct" finds
        one flow for each gap and scales it to every time. Frames are taken from the iterable as they are needed.

        Args:
            frames: (H,W,3) float32 RGB in [0,1], all of one size; none or one is passed through.
            times: depth of the recursion, 0 to 16.
            method: "recursive" or "direct".
            bridged: numbers, from 0, of the frames after which nothing is interpolated, scene cuts say: the nearer
                frame is repeated there.
            blend: blend both frames there instead.
            multiplier: where it is not 0, make multiplier - 1 new ones instead, 0 to 63, at even distances; those that
                no halving reaches lie within 1/128 of the gap by recursion, and exactly by "direct".

        Raises:
            FilmError: at once where times, the multiplier or the method is out of bounds; at the frame where a frame
                is, or its size differs.
        """
        factor = factor_of(times, multiplier)
        check_method(method)
        return self._sequence(frames, factor, method, bridged, blend)

    def inspect(self, first: Frame, last: Frame) -> PairDetails:
        """Return the midpoint of two frames with the flows and warped frames that it was made of.

        Raises:
            FilmError: as `interpolate`.
        """
        self._check_pair(first, last)
        network = self._network(first, times=1)
        pair = network.pair(network.encode(first), network.encode(last))
        midpoint, flows = next(network.frames(pair, [0.5])), network.flows(pair)
        moved = [warped(frame, flows[direction][0] * np.float32(0.5))
                 for frame, direction in ((first, "backward"), (last, "forward"))]
        return PairDetails(midpoint, moved[0], moved[1], flows["forward"], flows["backward"])

    def memory_needed(self, height: int, width: int, times: int = 1) -> int:
        """Return about how many bytes a run at this size takes at its peak beyond what the process holds.

        The frames that go in and come out are not counted.
        """
        resolution = self._padded(height, width)
        run = self._configuration, resolution, self._window(resolution), self._precision, times
        return encodings_bytes(*run) if resolution == self._holding else memory_needed(*run, self._winograd)

    @property
    def identity(self) -> str:
        """A text that is the same for models that make the same frames."""
        return f"{checked_manifest(self._folder).checksums} {self._precision} {self._tile}"

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return self._folder

    def int8_version(self, folders: Iterable[Path] | None = None) -> "FilmModel":
        """Return the model's int8 version, on the same device and with the same tile.

        Raises:
            FilmError: it has none, or that is damaged or was made of other weights.
        """
        return FilmModel(int8_model(self._folder, folders), self._device, choose_precision("auto", self._device),
                         self._tile)

    def prepare(self, height: int, width: int) -> None:
        """Compile for frames of a size now, not at the first of them."""
        self._pipeline(self._padded(height, width))

    def release_memory(self) -> None:
        """Give back what the layers hold between runs; the next run takes it again, which costs little."""
        if self._holding is not None:
            self._pipeline(self._holding).models.release_memory()
            self._holding = None

    def report(self) -> Report:
        """Return what really runs; the resolution is that of the last run."""
        if self._resolution is None:
            return Report(self._folder.name, self._device.name, self._device.full_name, self._precision,
                          self._int8_psnr, None, None)
        device, full_name, precision = self._pipeline(self._resolution).models.execution()
        return Report(self._folder.name, device, full_name, precision, self._int8_psnr, self._resolution,
                      self._window(self._resolution))

    def _sequence(self, frames: Iterable[Frame], factor: int, method: Method, bridged: Collection[int],
                  blend: bool) -> Iterator[Frame]:
        steps = [Fraction(step, factor) for step in range(1, factor)]
        before: End | None = None
        for number, frame in enumerate(frames, start=1):
            after = self.end(frame, f"Frame {number}")
            if before is not None:
                names = f"Frame {number - 1}", f"frame {number}"
                check_same_size(before.frame, frame, *names)
                if number - 2 in bridged:
                    yield from bridge(before.frame, frame, steps, blend)
                else:
                    yield from self.between(before, after, steps, method, names)
            yield frame
            before = after

    def _check_pair(self, first: Frame, last: Frame) -> None:
        check_frame(first, "The first frame")
        check_frame(last, "The last frame")
        check_same_size(first, last, "The first frame", "the last frame")

    def _network(self, frame: Frame, times: int) -> FilmPipeline:
        """Return the network compiled for a frame's size; what another size's layers hold is given back."""
        resolution = self._padded(*frame.shape[:2])
        if resolution != self._holding:
            self.release_memory()
            if self._device.name == "CPU":
                check_memory(self.memory_needed(*resolution, times), f"A pair of {size_text(frame)}")
        network = self._pipeline(resolution)
        self._resolution = self._holding = resolution
        return network

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        multiple = self._configuration.multiple
        return height + -height % multiple, width + -width % multiple

    def _window(self, resolution: tuple[int, int]) -> tuple[int, int]:
        return window_for(self._configuration, resolution, self._precision, self._tile, self._winograd)

    def _pipeline(self, resolution: tuple[int, int]) -> FilmPipeline:
        return self._compiled(resolution, self._window(resolution))


def _compiled(folder: Path, configuration: FilmConfiguration, device: str, precision: str, winograd: bool,
              resolution: tuple[int, int], window: tuple[int, int]) -> FilmPipeline:
    """Return a model's network for padded frames of a resolution."""
    def read(name: str) -> ov.Model:
        return core().read_model(folder / f"{name}.xml")

    models = CompiledModels(read, configuration, device, precision, resolution, window, folder / ".cache", winograd)
    return FilmPipeline(models, configuration)


def check_method(method: str, methods: Sequence[str] = METHODS) -> None:
    """Raise FilmError where there is no such method."""
    if method not in methods:
        raise FilmError(f"Method is {method!r}: choose one of {', '.join(methods)}.")


def factor_of(times: int, multiplier: int = 0) -> int:
    """Return how many times the frames a sequence comes to: 2**times, or the multiplier where it is not 0.

    Raises:
        FilmError: times or the multiplier is out of bounds (see `interpolate_sequence`).
    """
    if isinstance(times, bool) or not isinstance(times, int) or not 0 <= times <= MOST_TIMES:
        raise FilmError(f"Times {times!r} is not a whole number from 0 to {MOST_TIMES}: choose one that is.")
    if not 0 <= multiplier <= TIME_STEPS:
        raise FilmError(f"Multiplier {multiplier} is not between 0 and {TIME_STEPS}: choose one that is.")
    return multiplier or 1 << times


def depth(multiplier: int) -> int:
    """Return how often recursion halves a gap for so many times the frames, 1 or more."""
    return max(_reached(Fraction(step, multiplier)).denominator for step in range(multiplier)).bit_length() - 1


def _reached(time: Fraction) -> Fraction:
    """Return the time that recursion reaches: the very one where halving comes to it, else the nearest 1/64."""
    halved = time.denominator & (time.denominator - 1) == 0 and time.denominator <= 1 << MOST_TIMES
    return time if halved else Fraction(round(time * TIME_STEPS), TIME_STEPS)


def _recursion(network: FilmPipeline, before: Encoding, after: Encoding, low: Fraction, high: Fraction,
               times: Sequence[Fraction]) -> Iterator[Frame]:
    """Yield the frames at times between two encoded ends, at low and high, by midpoints of midpoints."""
    middle = (low + high) / 2
    frame = next(network.frames(network.pair(before, after), [0.5]))
    earlier, later = ([time for time in times if low < time < middle], [time for time in times if middle < time < high])
    encoding = network.encode(frame) if earlier or later else before
    if earlier:
        yield from _recursion(network, before, encoding, low, middle, earlier)
    for _ in range(times.count(middle)):
        yield frame
    if later:
        yield from _recursion(network, encoding, after, middle, high, later)
