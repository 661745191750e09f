"""ComfyUI as the nodes need it; the only file that imports from it. Plain stand-ins serve outside ComfyUI."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from PIL import Image

from ..ov_film.errors import FilmError
from ..ov_film.frames import Frame, to_8_bits
from ..ov_film.library import default_models_folder

try:
    import folder_paths
    from comfy.cli_args import args
    from comfy.utils import ProgressBar
    from server import PromptServer
except ImportError:
    folder_paths = args = ProgressBar = PromptServer = None
try:
    from comfy_api.input_impl import VideoFromFile
except ImportError:  # ComfyUI before VIDEO, and outside
    VideoFromFile = None

MODELS_KEY = "film_openvino"
_PREVIEW_SIDE = 512
_DURATION_TOLERANCE = 0.001  # seconds

if folder_paths is not None:
    folder_paths.add_model_folder_path(MODELS_KEY, str(Path(folder_paths.models_dir) / MODELS_KEY))


class OutputFile(NamedTuple):
    """A file to write in the output or temp folder: its path, and how the page asks for it."""

    path: Path
    name: str
    subfolder: str
    kind: Literal["output", "temp"]


def models_folders() -> list[Path]:
    """Return the folders of converted models, those of extra_model_paths.yaml among them."""
    if folder_paths is None:
        return [default_models_folder()]
    return [Path(folder) for folder in folder_paths.get_folder_paths(MODELS_KEY)]


def check_prefix(prefix: str) -> None:
    """Raise FilmError where a prefix names no file, or one outside the output folder."""
    if "\0" in prefix:
        raise FilmError(f"Prefix {prefix!r} holds a character that no file name may have: give one without.")
    path = PureWindowsPath(prefix)  # it knows both kinds of slashes; links within the output folder may lead elsewhere
    if not path.name or path.anchor or ".." in path.parts or prefix.endswith(("/", "\\")):
        raise FilmError(f"Prefix {prefix!r} names no file in the output folder: give a name, with a subfolder or "
                        "without, such as film/interpolated.")


def output_file(prefix: str, width: int, height: int, suffix: str, kind: Literal["output", "temp"]) -> OutputFile:
    """Return the next free file of a prefix, counted as ComfyUI counts, in the output folder or the temp folder.

    Raises:
        FilmError: the prefix names no file, or one outside the folder, or its folder can't be made or read.
    """
    check_prefix(prefix)
    if folder_paths is None:
        name = f"{prefix}_00001_{suffix}"
        return OutputFile(Path(kind) / name, name, "", kind)
    root = folder_paths.get_output_directory() if kind == "output" else folder_paths.get_temp_directory()
    try:
        folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    except OSError as error:
        raise FilmError(f"The folder of {prefix} can't be used in {root} ({error.strerror}): choose another prefix or "
                        "mend the folder.") from error
    name = f"{stem}_{counter:05}_{suffix}"
    return OutputFile(Path(folder) / name, name, subfolder, kind)


def parts_folder(key: str) -> Path:
    """Return where the parts of a video that takes long are kept: the temp folder is emptied at ComfyUI's start."""
    root = Path(folder_paths.get_output_directory()) if folder_paths is not None else Path("output")
    return root / ".film_openvino" / hashlib.sha256(key.encode()).hexdigest()[:16]


def video_source(video: Any) -> Path | BytesIO:
    """Return the file of a VIDEO, or its bytes; one that has no file, or shows a part of it, is encoded by ComfyUI.

    Raises:
        FilmError: the file is gone.
    """
    try:
        source = video.get_stream_source()
    except ValueError:  # ComfyUI 0.3 can't encode a VIDEO of images into memory
        return _encoded(video)
    if isinstance(source, str) and not Path(source).is_file():
        raise FilmError(f"{source} is not there any more: load a video that is.")
    if not _is_whole(video, source):
        return _encoded(video)
    return Path(source) if isinstance(source, str) else source


def _is_whole(video: Any, source: str | BytesIO) -> bool:
    """Whether a VIDEO shows all of its file: newer ComfyUI trims and crops without writing a new one."""
    if not hasattr(video, "as_trimmed"):
        return True
    file = VideoFromFile(source)
    try:
        return (video.get_dimensions() == file.get_dimensions()
                and abs(video.get_duration() - file.get_duration()) < _DURATION_TOLERANCE)
    except (OSError, ValueError):  # a broken file, of which the engine reads and tells what it can
        return True


def _encoded(video: Any) -> BytesIO:
    """Return a VIDEO as ComfyUI writes it into a file."""
    temp = Path(folder_paths.get_temp_directory())
    temp.mkdir(parents=True, exist_ok=True)  # ComfyUI removes it when it starts
    with TemporaryDirectory(dir=temp) as folder:
        path = Path(folder) / "video.mp4"
        video.save_to(str(path))
        return BytesIO(path.read_bytes())


def video_from(path: Path) -> Any:
    """Return a VIDEO of a file, which is read only when it is needed."""
    return path if VideoFromFile is None else VideoFromFile(str(path))


def metadata_wanted() -> bool:
    """Whether files may hold the workflow (ComfyUI's --disable-metadata says no)."""
    return args is None or not args.disable_metadata


def progress(total: int) -> Callable[[int, Frame | None], None]:
    """Return a function that shows how many of total frames are done, with a preview of one.

    In ComfyUI it raises InterruptProcessingException when the user has pressed cancel.
    """
    if ProgressBar is None:
        return lambda done, preview: None
    bar = ProgressBar(total)

    def show(done: int, preview: Frame | None) -> None:
        image = None
        if preview is not None:
            step = max(1, max(preview.shape[:2]) // _PREVIEW_SIDE)
            small = to_8_bits(preview[::step, ::step, :3])
            image = ("JPEG", Image.fromarray(small if small.shape[2] == 3 else small[..., 0]), _PREVIEW_SIDE)
        bar.update_absolute(done, total, image)

    return show


def show_text(text: str) -> None:
    """Show a text on the node that runs, where this ComfyUI can; it stays until another one comes."""
    server = getattr(PromptServer, "instance", None)
    if hasattr(server, "send_progress_text") and server.client_id is not None:
        server.send_progress_text(text, server.last_node_id, server.client_id)
