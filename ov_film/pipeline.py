"""FILM at one resolution: encodings and flows out of frames, frames out of those; whole, or window by window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import openvino as ov

from .compiled import CompiledModels, Tensors
from .configuration import (
    COARSE_ENCODER,
    COARSE_FLOW,
    FINE_ENCODER,
    FINE_FLOW,
    FUSION,
    STITCHED_ENCODER,
    FilmConfiguration,
)
from .errors import FilmError
from .frames import Frame, padded
from .matching import MATCHED_CHANNELS
from .network import DIRECTIONS, ENDS, SEARCHED, TIME, encoding_channels, level_of
from .refinement import Flow, enlarged, halved, moved, refined, searched, shrunk
from .tiles import Canvas, Window, grouped, windows

_TIMES_AT_ONCE = 8  # of a gap in windows: new frames that are held, against fine levels worked out anew


@dataclass(frozen=True)
class Encoding:
    """What a pair needs of one frame.

    Attributes:
        frame: the padded frame (1,H,W,3), of which windows are encoded again when they are needed.
        fine: the fine levels' encoding; None where the frame is worked on in windows.
        coarse: the coarse levels' encoding; in windows, that of the stitched level too.
        matched: what the frame is matched by, of a network that matches.
        size: the frame's own height and width.
    """

    frame: ov.Tensor
    fine: Tensors | None
    coarse: Tensors
    matched: Tensors
    size: tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """Two encoded frames and the flows between them.

    Attributes:
        flows: by name, those of the network; in windows, not those that are predicted at fine levels.
        searched: those that are found in the frames alone, forward and backward, if fusion reads by them; of whole
            frames.
    """

    first: Encoding
    last: Encoding
    flows: Tensors
    searched: tuple[Flow, Flow] | None


class FilmPipeline:
    """A FILM for frames that are padded to one height and width.

    Whoever compares precisions can leave fine flows as they are predicted: what refines them searches, and may leap at
    the slightest difference to what is as good.
    """

    def __init__(self, models: CompiledModels, configuration: FilmConfiguration, refine: bool = True) -> None:
        self._models, self._configuration, self._refine = models, configuration, refine
        self._height, self._width = models.resolution
        self._channels = encoding_channels(configuration)
        self._read_in_windows = {*models.inputs(FINE_FLOW), *models.inputs(FUSION)}

    @property
    def models(self) -> CompiledModels:
        """What it runs."""
        return self._models

    @property
    def whole(self) -> bool:
        """Whether frames are worked on whole, not in windows."""
        return self._models.window == self._models.resolution

    def encode(self, frame: Frame) -> Encoding:
        """Encode one frame (H,W,3) float32; sides up to the resolution."""
        batch = ov.Tensor(np.ascontiguousarray(padded(frame, self._configuration.multiple)[np.newaxis]))
        if self.whole:
            fine = stitched = self._models.run(FINE_ENCODER, {"frame": batch})
            kept: Tensors = {}
        else:
            fine, kept = None, self._stitched(batch)
            stitched = kept
        small = {"matched_0": ov.Tensor(shrunk(batch.data[0])[np.newaxis])} if self._configuration.matches else {}
        coarse = self._run_coarse(COARSE_ENCODER, stitched | small)
        matched = {name: coarse.pop(name) for name in MATCHED_CHANNELS} if small else {}
        return Encoding(batch, fine, kept | coarse, matched, (frame.shape[0], frame.shape[1]))

    def pair(self, first: Encoding, last: Encoding) -> Pair:
        """Find the flows between two encoded frames."""
        if self._configuration.matches:
            flows = self._matched(first, last)
        else:
            flows = self._run_coarse(COARSE_FLOW, _both(first.coarse, last.coarse))
            if first.fine is not None and last.fine is not None:
                flows |= self._models.run(FINE_FLOW, _both(first.fine, last.fine) | flows)
        ends = [encoding.frame.data[0] for encoding in (first, last)]
        ends += [flows[f"{direction}_flow_0"].data[0] for direction in DIRECTIONS if self._configuration.searches]
        return Pair(first, last, flows, searched(*ends) if self._configuration.searches else None)

    def frames(self, pair: Pair, times: Sequence[float]) -> Iterator[Frame]:
        """Yield the frames at times between 0 and 1, (H,W,3) float32 in [0,1], all by one flow.

        Raises:
            FilmError: the network overflowed.
        """
        height, width = pair.first.size
        for frame in self.unclamped(pair, times):
            if not np.isfinite(frame).all():
                raise FilmError(f"The network overflowed at precision {self._models.precision} on "
                                f"{self._models.device}, so its frame would be wrong: choose precision f32 or another "
                                "device.")
            yield frame[:height, :width].clip(0, 1)

    def unclamped(self, pair: Pair, times: Sequence[float]) -> Iterator[Frame]:
        """Yield the padded frames at times as the network gives them."""
        if self.whole:
            parts = self._parts(pair, None)
            for time in times:
                yield self._fused(parts | self._searched(pair, None, time), pair.flows, time)
            return
        margin = self._margin(pair)
        for some in grouped(times, _TIMES_AT_ONCE):
            canvases = [Canvas(self._height, self._width, 3, margin) for _ in some]
            for window in self._windows(margin):
                self._add(window, pair, some, canvases)
            while canvases:
                yield canvases.pop(0).field()

    def flows(self, pair: Pair) -> dict[str, tuple[Flow, ...]]:
        """Return the flow of every fusion level, finest first, (h,w,2), by its direction: "forward", "backward"."""
        names = {direction: [f"{direction}_flow_{level}" for level in range(self._configuration.fusion_levels)]
                 for direction in DIRECTIONS}
        flows = {name: tensor.data[0] for name, tensor in pair.flows.items()}
        if not self.whole:
            canvases = {name: Canvas(self._height >> level_of(name), self._width >> level_of(name), 2,
                                     self._margin(pair) >> level_of(name))
                        for name in (*names["forward"], *names["backward"]) if name not in flows}
            for window in self._windows(self._margin(pair)):
                found = self._window_flows(pair, self._parts(pair, window), window)
                for name, canvas in canvases.items():
                    canvas.add(*window.at(level_of(name)), found[name].data[0])
            flows |= {name: canvas.field() for name, canvas in canvases.items()}
        height, width = pair.first.size
        return {direction: tuple(flows[name][:-(-height >> level_of(name)), :-(-width >> level_of(name))].copy()
                                 for name in names[direction]) for direction in DIRECTIONS}

    def _matched(self, first: Encoding, last: Encoding) -> Tensors:
        """Return the flows of all fused levels, matched and then refined in the frames; whole, as they are small."""
        ends = _both(first.matched, last.matched)
        found = self._run_coarse(FINE_FLOW, ends | self._run_coarse(COARSE_FLOW, ends))["matched_flow_1"].data[0]
        forward, backward = (enlarged(np.ascontiguousarray(flow), self._height, self._width)
                             for flow in (found[..., :2], found[..., 2:]))
        if self._refine:
            forward, backward = refined(first.frame.data[0], last.frame.data[0], forward, backward)
        flows: Tensors = {}
        for level in range(self._configuration.fusion_levels):
            flows |= {f"{direction}_flow_{level}": ov.Tensor(flow[np.newaxis])
                      for direction, flow in zip(DIRECTIONS, (forward, backward), strict=True)}
            forward, backward = halved(forward), halved(backward)
        return flows

    def _run_coarse(self, name: str, inputs: Tensors) -> Tensors:
        """Run a model of the coarse levels; beside windows, which are worked on next, it holds no memory."""
        outputs = self._models.run(name, inputs)
        if not self.whole:
            self._models.release_memory(name)
        return outputs

    def _stitched(self, frame: ov.Tensor) -> Tensors:
        """Return the stitched level of a whole frame, encoded in windows; exact, as margins are wide enough."""
        level = self._configuration.stitched_level
        margin = 4 << level  # of 2 pixels at each level, all levels together less than this
        shape = (1, self._height >> level, self._width >> level)
        joined: Tensors = {}
        for window in self._windows(margin):
            inner = window.inner(margin, self._height, self._width)
            for name, found in self._models.run(STITCHED_ENCODER, {"frame": _cropped(frame, window, 0)}).items():
                if name not in joined:
                    joined[name] = ov.Tensor(found.element_type, [*shape, self._channels[name]])
                begin, end = _corners(inner, level, self._channels[name])
                near, far = _corners(inner.relative_to(window), level, self._channels[name])
                ov.Tensor(found, near, far).copy_to(ov.Tensor(joined[name], begin, end))
        self._models.release_memory(STITCHED_ENCODER)
        return joined

    def _add(self, window: Window, pair: Pair, times: Sequence[float], canvases: Sequence[Canvas]) -> None:
        """Lay a window of the frames at some times on their canvases; its encodings are gone when this returns."""
        parts = self._parts(pair, window)
        flows = self._window_flows(pair, parts, window)
        for canvas, time in zip(canvases, times, strict=True):
            canvas.add(*window.at(0), self._fused(parts | self._searched(pair, window, time), flows, time))

    def _parts(self, pair: Pair, window: Window | None) -> Tensors:
        """Return both frames' encodings, of a window where one is given, as the pair's models take them."""
        if window is None:
            assert pair.first.fine is not None and pair.last.fine is not None
            return _both(pair.first.fine | pair.first.coarse, pair.last.fine | pair.last.coarse)
        ends = []
        for encoding in (pair.first, pair.last):
            fine = self._models.run(FINE_ENCODER, {"frame": _cropped(encoding.frame, window, 0)})
            kept = {name: _cropped(tensor, window, level_of(name)) for name, tensor in encoding.coarse.items()
                    if f"{ENDS[0]}_{name}" in self._read_in_windows}
            ends.append(fine | kept)
        return _both(*ends)

    def _window_flows(self, pair: Pair, parts: Tensors, window: Window) -> Tensors:
        flows = {name: _cropped(flow, window, level_of(name)) for name, flow in pair.flows.items()}
        return flows if self._configuration.matches else flows | self._models.run(FINE_FLOW, parts | flows)

    @staticmethod
    def _searched(pair: Pair, window: Window | None, time: float) -> Tensors:
        """Return (a window of) both frames as the flows that were found in them bring them to a time."""
        if pair.searched is None:
            return {}
        rows, columns = window.at(0) if window else (slice(0, None), slice(0, None))
        forward, backward = pair.searched
        return {f"{end}_{SEARCHED}": ov.Tensor(moved(encoding.frame.data[0], flow[rows, columns], share, rows.start,
                                                      columns.start, sharp=True)[np.newaxis])
                for end, encoding, flow, share in (("first", pair.first, backward, time),
                                                   ("last", pair.last, forward, 1 - time))}

    def _fused(self, parts: Tensors, flows: Tensors, time: float) -> Frame:
        """Return the frame at a time, not cropped, not clamped; frames are read backwards (see network.py)."""
        read = {TIME: ov.Tensor(np.array([time], np.float32))}
        for level in range(self._configuration.fusion_levels):
            for end, direction, share in (("first", "backward", time), ("last", "forward", 1 - time)):
                read[f"{end}_flow_{level}"] = ov.Tensor(flows[f"{direction}_flow_{level}"].data * np.float32(share))
        frame: Frame = self._models.run(FUSION, parts | read)["frame"].data[0]
        return frame

    def _windows(self, margin: int) -> list[Window]:
        return windows(self._height, self._width, self._models.window, margin, self._configuration.window_multiple)

    def _margin(self, pair: Pair) -> int:
        """Return how far around a window's inner part the frames are needed: by the network's reach and the motion.

        Half the reach is plenty, as what is far away counts for little: windows of 512x512 then give a 1280x736 frame
        with motion of 56 pixels to 100 dB, and with a tenth of it still to 83 dB. So where half of it would take more
        windows than an eighth of it does, it is as much as fits those.
        """
        level = self._configuration.fine_levels
        flows = [pair.flows[f"{direction}_flow_{level}"].data for direction in DIRECTIONS]
        motion = max(float(np.abs(flow).max()) for flow in flows) * (1 << level)
        cut = (side for side, whole in zip(self._models.window, self._models.resolution, strict=True) if side < whole)
        most = min(cut) // 4  # of the sides that are cut into windows
        if not np.isfinite(motion):
            return most
        margins = [min(int(self._configuration.reach // part + motion), most) for part in (8, 2)]
        fewest = len(self._windows(margins[0]))
        return max(margin for margin in range(margins[0], margins[1] + 1) if len(self._windows(margin)) == fewest)


def _both(first: Mapping[str, ov.Tensor], last: Mapping[str, ov.Tensor]) -> Tensors:
    """Return two frames' tensors under the names that the pair's models have for them."""
    return {f"{end}_{name}": tensor for end, tensors in zip(ENDS, (first, last), strict=True)
            for name, tensor in tensors.items()}


def _corners(window: Window, level: int, channels: int) -> tuple[list[int], list[int]]:
    """Return a window's first corner and the one past its last, of a tensor (1,h,w,channels) of a level."""
    rows, columns = window.at(level)
    return [0, rows.start, columns.start, 0], [1, rows.stop, columns.stop, channels]


def _cropped(tensor: ov.Tensor, window: Window, level: int) -> ov.Tensor:
    """Return a copy of a window of a tensor; a view of it would be strided, which not every device takes."""
    part = ov.Tensor(tensor, *_corners(window, level, tensor.shape[3]))
    copy = ov.Tensor(tensor.element_type, part.shape)
    part.copy_to(copy)
    return copy


