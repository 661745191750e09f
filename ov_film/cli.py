"""The command line: interpolate, video, inspect, convert, quantize, doctor, devices, models."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .errors import FilmError
from .words import counted

if TYPE_CHECKING:
    from .frames import Frame
    from .model import FilmModel
    from .tiles import Tile


_SAMPLES = Path(__file__).absolute().parent.parent / "samples"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 1 after one line on stderr."""
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # who read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries once more, and complains
        return 1
    except KeyboardInterrupt:
        kept = (", but parts (beside it, .NAME.parts): given again, the command goes on where it stopped"
                if "video" in (arguments or sys.argv) else "")
        return _failed(f"interrupted; nothing was written{kept}.", debug)
    except FilmError as error:
        return _failed(str(error), debug)
    except ImportError as error:
        return _failed(f"Python can't import {error.name} ({error}): python -m pip install -r requirements.txt.", debug)
    except Exception as error:
        return _failed(f"unexpected {type(error).__name__}: {error} (--debug shows where).", debug)


def _failed(message: str, debug: bool) -> int:
    if debug:
        raise
    print("ov_film:", " ".join(message.split()), file=sys.stderr)
    return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FilmError(f"{message}: see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m ov_film", description="Make the frames between frames, with FILM on OpenVINO.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--debug", action="store_true", help="show a traceback where a command fails")
        added.set_defaults(command=function)
        return added

    interpolate = command("interpolate", _interpolate, "Interpolate between two or more images.")
    interpolate.add_argument("first", type=Path, metavar="FIRST", help="the first image")
    interpolate.add_argument("last", type=Path, metavar="LAST", help="the image after it")
    interpolate.add_argument("more", type=Path, nargs="*", default=(), metavar="MORE",
                             help="further images, all of one size; alpha is left out")
    interpolate.add_argument("--output", type=Path, required=True, metavar="OUT",
                             help="a .webm, a .png (the midpoint of two images), or a new folder for PNGs")
    interpolate.add_argument("--times", type=int, metavar="N",
                             help="depth of the recursion: 2**N - 1 new frames in each gap (default: 1)")
    interpolate.add_argument("--multiplier", type=int, metavar="N",
                             help="instead: so many times the frames, such as 3 or 5; best with --method direct")
    interpolate.add_argument("--fps", default="30", metavar="FPS",
                             help="frame rate of the .webm, such as 30, 23.976 or 24000/1001 (default: 30)")
    interpolate.add_argument("--crf", type=int, default=20, metavar="N",
                             help="quality of the .webm from 0 (best) to 63 (default: 20)")
    interpolate.add_argument("--figure", type=Path, metavar="FILE.png",
                             help="also draw the first image, the midpoint, the second, and how they differ")
    interpolate.add_argument("--method", default="recursive",
                             help="recursive (midpoints of midpoints, best) or direct (one flow for each gap, faster)")
    _add_model(interpolate)

    video = command("video", _video, "Make a video smoother, or slow motion of it.")
    video.add_argument("source", type=Path, metavar="IN", help="a video file")
    video.add_argument("output", type=Path, metavar="OUT", help="a .mp4, .mkv, .mov or .webm")
    video.add_argument("--multiplier", metavar="N", help="so many times the frames, such as 2, 2.5 or 3 (default: 2)")
    video.add_argument("--fps", metavar="FPS", help="instead: the frame rate to come to, such as 60 or 59.94")
    video.add_argument("--slow-motion", action="store_true", help="keep the frame rate and make the clip longer")
    video.add_argument("--method", default="auto",
                       help="recursive (midpoints of midpoints), direct (any time), or auto: recursive for 2, 4 and 8 "
                            "times, else direct (default: auto)")
    video.add_argument("--cuts", default="repeat",
                       help="at scene cuts repeat the nearer frame, blend both, or ignore cuts (default: repeat)")
    video.add_argument("--drop-duplicates", action="store_true",
                       help="replace frames that repeat the one before: animation on twos becomes smooth")
    video.add_argument("--skip", default="", metavar="RANGES",
                       help="frames after which nothing is interpolated, such as 0-9,25,100-")
    video.add_argument("--only", default="", metavar="RANGES", help="frames after which alone something is")
    video.add_argument("--loop", action="store_true", help="go on from the last frame to the first")
    video.add_argument("--audio", default="keep", help="keep (slow motion: slowed at its pitch) or drop")
    video.add_argument("--codec", default="auto",
                       help="h264, h265, vp9, av1, or auto: as the suffix and the bits of IN have it (default: auto)")
    video.add_argument("--quality", default="high", help="visually lossless, high, medium or small (default: high)")
    _add_model(video)

    inspect = command("inspect", _inspect, "Draw what the network sees in two images: motion, moved frames, doubts.")
    inspect.add_argument("first", type=Path, metavar="FIRST", help="the first image")
    inspect.add_argument("last", type=Path, metavar="LAST", help="the image after it")
    inspect.add_argument("--output", type=Path, required=True, metavar="SHEET.png", help="the sheet to draw")
    _add_model(inspect)

    convert = command("convert", _convert, "Convert a SavedModel of FILM into a model folder.")
    convert.add_argument("saved_model", type=Path, metavar="SAVED_MODEL",
                         help="a SavedModel folder, its .tar.gz, or an .npz of FILM's tensors by name")
    convert.add_argument("output", type=Path, metavar="OUT_FOLDER", help="the model folder to make")
    convert.add_argument("--verify", action="store_true", help="compare with TensorFlow as well (it must be installed)")
    convert.add_argument("--weights", choices=("f32", "f16"), default="f32",
                         help="what the files hold; f16 halves them (default: f32)")

    quantize = command("quantize", _quantize, "Make a model's int8 version, which --precision int8 then runs.")
    quantize.add_argument("model", metavar="MODEL", help="an installed model or a model folder")
    quantize.add_argument("--frames", type=Path, default=_SAMPLES, metavar="CLIP_OR_FOLDER",
                          help="a video or a folder of images like those to interpolate (default: the pack's samples)")

    command("doctor", _doctor, "Say what is installed, what runs how fast, what is wrong and what to do next.")
    command("devices", _devices, "List the devices that OpenVINO sees, and their native precisions.")
    command("models", _models, "List the installed models and where they are.")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="an installed model or a model folder (default: film where it "
                        "is installed, else film_lite)")
    parser.add_argument("--device", default="AUTO", help="AUTO or one that the command devices lists")
    parser.add_argument("--precision", default="auto",
                        help="auto (the fastest native one), f32, bf16, f16, or int8 (see quantize)")
    parser.add_argument("--tile", type=_tile, default="auto", metavar="TILE",
                        help="auto (large frames in overlapping windows, to save memory), off, or the windows' side in "
                             "pixels")


def _load(options: argparse.Namespace) -> "FilmModel":
    from .library import default_model, find_models
    from .model import FilmModel

    return FilmModel.load(options.model or default_model(find_models()), options.device, options.precision,
                          tile=options.tile)


def _interpolate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from .frame_rate import frame_rate
    from .frames import check_same_size, read_frame

    options.fps = frame_rate(options.fps)
    paths = [options.first, options.last, *options.more]
    factor = _factor(options)
    _check_output(options, len(paths), factor)
    _check_apart([options.output, *([options.figure] if options.figure else [])], paths)
    first = read_frame(paths[0])
    for path in paths[1:]:  # now, not after minutes
        check_same_size(first, read_frame(path), str(paths[0]), str(path))
    model = _load(options)

    began = time.monotonic()
    frames = model.interpolate_sequence((read_frame(path) for path in paths), options.times, options.method,
                                        multiplier=options.multiplier)
    total = (len(paths) - 1) * factor + 1
    frames = iter(tqdm(frames, total=total, unit="frame", disable=None))
    if options.figure:
        frames = _with_figure(frames, options.figure, factor)
    _write(frames, options)
    total = 1 if options.output.suffix.lower() == ".png" else total
    print(f"{model.report()}: {counted(total, 'frame')} in {time.monotonic() - began:.1f} s -> {options.output}")


def _video(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from .frame_rate import frame_rate, parse_multiplier
    from .interpolate_video import interpolate_video
    from .retiming import Retiming, parse_ranges

    if options.multiplier and options.fps:
        raise FilmError("Both --multiplier and --fps are given: choose one of the two.")
    rate = frame_rate(options.fps) if options.fps else None
    times = None if rate else parse_multiplier(options.multiplier or 2)
    retiming = Retiming(times, rate, options.slow_motion, options.cuts, options.drop_duplicates,
                        parse_ranges(options.skip, "--skip"), parse_ranges(options.only, "--only"), options.loop)
    model = _load(options)
    began = time.monotonic()
    bars: list[tqdm[NoReturn]] = []

    def show(done: int, total: int, _frame: "Frame") -> None:
        if not bars:
            bars.append(tqdm(total=total, initial=done - 1, unit="frame", disable=None))
        bars[0].update()

    report = interpolate_video(
        options.source, options.output, model, retiming, method=options.method, codec=options.codec,
        quality=options.quality, audio=options.audio, on_frame=show)
    for bar in bars:
        bar.close()
    print(f"{model.report()}: {report}; {time.monotonic() - began:.1f} s -> {options.output}")


def _factor(options: argparse.Namespace) -> int:
    """Return how many times the frames there will be; an option that isn't given gets the value that means so."""
    from .model import TIME_STEPS, factor_of

    if options.multiplier is None:
        options.multiplier = 0
    elif options.times is not None:
        raise FilmError("Both --times and --multiplier are given: choose one of the two.")
    elif not 1 <= options.multiplier <= TIME_STEPS:
        raise FilmError(f"Multiplier {options.multiplier} is not between 1 and {TIME_STEPS}: choose one that is.")
    options.times = 1 if options.times is None else options.times
    return factor_of(options.times, options.multiplier)


def _check_output(options: argparse.Namespace, images: int, factor: int) -> None:
    output, suffix = options.output, options.output.suffix.lower()
    if suffix not in ("", ".webm", ".png"):
        raise FilmError(f"Output {output} ends in {suffix}: choose a .webm, a .png or a folder.")
    if suffix == ".png" and (images, factor) != (2, 2):
        raise FilmError(f"Output {output} holds one midpoint, not {images} images made {factor} times as many: give "
                        "two images and --times 1, or a .webm or a folder.")
    if not suffix and output.exists() and (output.is_file() or any(output.iterdir())):
        raise FilmError(f"Output folder {output} exists and is not empty: choose another, or empty it.")
    if options.figure and (factor % 2 or options.figure.suffix.lower() != ".png"):
        raise FilmError(f"Figure {options.figure} shows a midpoint, as a PNG: name it .png and use --times 1 or more, "
                        "or an even --multiplier.")


def _check_apart(outputs: Sequence[Path], images: Sequence[Path]) -> None:
    """Raise FilmError where something would be written over an image that is read, or over what is written as well."""
    taken = {path.resolve(): "an image to read" for path in images}
    for output in outputs:
        if output.resolve() in taken:
            raise FilmError(f"{output} is {taken[output.resolve()]} as well: choose another name for the new one.")
        taken[output.resolve()] = "the output"


def _with_figure(frames: "Iterable[Frame]", path: Path, factor: int) -> "Iterator[Frame]":
    """Pass frames through; draw the first gap's ends and its midpoint when they have come by."""
    from .figures import comparison
    from .frames import write_png

    shown = []
    for number, frame in enumerate(frames):
        yield frame
        if number in (0, factor // 2, factor):
            shown.append(frame)
            if number == factor:
                write_png(path, comparison(*shown))


def _write(frames: "Iterator[Frame]", options: argparse.Namespace) -> None:
    from .files import written_whole
    from .frames import to_8_bits, write_png
    from .video import write_webm

    suffix = options.output.suffix.lower()
    if suffix == ".webm":
        write_webm(options.output, frames, options.fps, crf=options.crf)
    elif suffix == ".png":
        _, midpoint, _ = frames
        write_png(options.output, to_8_bits(midpoint))
    else:
        with written_whole(options.output) as folder:
            for number, frame in enumerate(frames, start=1):
                write_png(folder / f"frame_{number:06d}.png", to_8_bits(frame))


def _inspect(options: argparse.Namespace) -> None:
    from .figures import inspection
    from .frames import read_frame, write_png

    if options.output.suffix.lower() != ".png":
        raise FilmError(f"Output {options.output} is no PNG: name it .png.")
    _check_apart([options.output], [options.first, options.last])
    first, last = read_frame(options.first), read_frame(options.last)
    model = _load(options)
    write_png(options.output, inspection(first, last, model.inspect(first, last)))
    print(f"{model.report()} -> {options.output}")


def _convert(options: argparse.Namespace) -> None:
    from .convert import convert

    manifest = convert(options.saved_model, options.output, verify=options.verify, weights=options.weights)
    for reference, figures in manifest.parity.items():
        height, width = figures["size"]
        print(f"Largest difference from {reference} at {width}x{height}: {figures['max_error']:.2g}")
    print(f"{manifest.configuration.parameters():,} parameters -> {options.output}")


def _quantize(options: argparse.Namespace) -> None:
    from .calibration import read_pairs
    from .library import int8_folder, model_folder
    from .quantize import check_nncf, described, quantize

    check_nncf()
    folder = model_folder(options.model)
    output = int8_folder(folder)
    print(f"{described(quantize(folder, read_pairs(options.frames), output).int8)} -> {output}")


def _tile(text: str) -> "Tile":
    from .tiles import check_tile

    tile: Tile | str = int(text) if text.isdecimal() else text
    return check_tile(tile)


def _doctor(options: argparse.Namespace) -> None:
    from .doctor import page, speed_test
    from .environment import find_facts
    from .library import default_model, find_models

    facts = find_facts()
    try:
        from .model import FilmModel

        speed = speed_test(FilmModel.load(default_model(find_models())))
    except (FilmError, ImportError) as error:
        speed = [f"not measured: {error}"]
    print(page(facts, speed=speed))


def _devices(options: argparse.Namespace) -> None:
    from .devices import find_devices

    for device in find_devices():
        print(f"{device.name}: {device.full_name}; {', '.join(device.precisions)}")


def _models(options: argparse.Namespace) -> None:
    from .library import FULL_MODEL, default_models_folder, find_models, read_manifest

    models = find_models()
    for name, folder in models.items():
        manifest = read_manifest(folder)
        int8 = f"int8 ({manifest.int8['psnr']:.1f} dB against f32), " if manifest.int8 else ""
        print(f"{name}: {int8}{manifest.configuration.parameters():,} parameters, {folder}")
    if FULL_MODEL not in models:
        print(f"{FULL_MODEL}: not installed; python install.py fetches it into {default_models_folder()}")
