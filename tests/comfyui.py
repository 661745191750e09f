"""A headless ComfyUI with the pack in it, for the tests that go the whole way."""

import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import requests
import websocket
from numpy.typing import NDArray

PACK = Path(__file__).absolute().parent.parent
NAME = "film-openvino"  # the pack's folder in custom_nodes
SAMPLES = ("first", "last", "next")
SIZE, ODD_SIZE, LARGE_SIZE = (160, 90), (101, 67), (320, 180)
CLIP_FRAMES = 12
NOTES = ("MarkdownNote", "Note")  # nodes that the page alone knows
_PREVIEW, _TEXT = 1, 3  # the first number of a binary message
_JPEG = 1  # the second of a preview
_START_SECONDS, _EVENT_SECONDS = 180, 120

Prompt = dict[str, dict[str, Any]]
OnProgress = Callable[[str, int], None]


def find_comfyui() -> Path | None:
    """Return $COMFYUI_DIR, else the ComfyUI in the home folder, else None.

    Raises:
        RuntimeError: $COMFYUI_DIR is not a ComfyUI.
    """
    named = os.environ.get("COMFYUI_DIR")
    folder = Path(named) if named else Path.home() / "comfy" / "ComfyUI"
    if (folder / "main.py").is_file():
        return folder
    if named:
        raise RuntimeError(f"COMFYUI_DIR is {named}, which holds no main.py: name the folder of a ComfyUI.")
    return None


@dataclass
class Run:
    """What ComfyUI told of a run.

    Attributes:
        executed: ids of the nodes that ran; the others came from ComfyUI's cache.
        progress: for each node that told, (done, total) as often as it did.
        told: for each node that did, the texts that the page shows on it.
        previews: JPEG files.
        files: what was saved or previewed.
        texts: what Preview Any shows.
        error: why it was refused or failed; None otherwise.
        cancelled: whether it was.
        log: what the log got meanwhile.
    """

    executed: list[str] = field(default_factory=list)
    progress: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    previews: list[bytes] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    error: str | None = None
    cancelled: bool = False
    log: str = ""


class ComfyUI:
    """A running server; its folders (input, output, models, …) lie in `base`."""

    def __init__(self, base: Path, port: int) -> None:
        self.base, self.input, self.output = base, base / "input", base / "output"
        self._log = base / "log.txt"
        self.address = f"127.0.0.1:{port}"

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def object_info(self) -> dict[str, Any]:
        """Return what the page is told of every node."""
        return dict(json.loads(self.get("object_info")))

    def get(self, path: str) -> bytes:
        """Return what the page gets at a path."""
        response = requests.get(f"http://{self.address}/{path}", timeout=_EVENT_SECONDS)
        response.raise_for_status()
        return response.content

    def cancel(self) -> None:
        requests.post(f"http://{self.address}/interrupt", json={}, timeout=_EVENT_SECONDS).raise_for_status()

    def run(self, prompt: Prompt, workflow: dict[str, Any] | None = None, on_progress: OnProgress | None = None) -> Run:
        """Queue a prompt as the page does and wait until it has ended; on_progress gets a node's id and its count."""
        client, before = uuid.uuid4().hex, len(self.log())
        events = websocket.create_connection(f"ws://{self.address}/ws?clientId={client}", timeout=_EVENT_SECONDS)
        run = Run()
        try:
            answer = requests.post(f"http://{self.address}/prompt", timeout=_EVENT_SECONDS, json={
                "prompt": prompt, "client_id": client, "extra_data": {"extra_pnginfo": {"workflow": workflow}}})
            if answer.ok:
                while self._take(events.recv(), run, on_progress):
                    pass
            else:
                errors = [error for node in answer.json()["node_errors"].values() for error in node["errors"]]
                run.error = "\n".join(f"{error['message']}: {error['details']}" for error in errors)
        finally:
            events.close()
        run.log = self.log()[before:]
        return run

    def _take(self, message: str | bytes, run: Run, on_progress: OnProgress | None) -> bool:
        """Note a message; return whether the run goes on."""
        if isinstance(message, bytes):
            kind, number = int.from_bytes(message[:4], "big"), int.from_bytes(message[4:8], "big")
            if kind == _TEXT:  # the number is how long the node's id is
                run.told.setdefault(message[8:8 + number].decode(), []).append(message[8 + number:].decode())
                return True
            assert (kind, number) == (_PREVIEW, _JPEG)
            run.previews.append(message[8:])
            return True
        event = json.loads(message)
        kind, data = event["type"], event["data"]
        if kind == "executing" and data["node"]:
            run.executed.append(data["node"])
        elif kind == "progress":
            run.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
            if on_progress:
                on_progress(data["node"], data["value"])
        elif kind == "executed":
            shown = data.get("output") or {}  # null where the result is in ComfyUI's cache and nothing was shown of it
            run.files += [self.base / file["type"] / file["subfolder"] / file["filename"]
                          for file in shown.get("images") or []]
            run.texts += shown.get("text") or []
        elif kind == "execution_error":
            run.error = data["exception_message"]
        run.cancelled = kind == "execution_interrupted"
        return kind not in ("execution_success", "execution_error", "execution_interrupted")


def python_of(comfyui: Path) -> str:
    """Return the Python that runs a ComfyUI."""
    own = comfyui / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def install_requirements(comfyui: Path) -> None:
    """Install what the pack needs into a ComfyUI's environment, int8 too, as the README says; nothing if it is there.

    Raises:
        RuntimeError: pip failed; with the end of what it said.
    """
    command = [python_of(comfyui), "-m", "pip", "install", "--quiet", "-r", str(PACK / "requirements.txt"), "nncf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"requirements.txt can't be installed into {comfyui}:\n{done.stderr[-2000:]}")


@contextmanager
def running_comfyui(comfyui: Path, base: Path, *options: str) -> Iterator[ComfyUI]:
    """Yield a server of its own folders, whose only pack is this checkout.

    Raises:
        RuntimeError: it didn't start, or couldn't load the pack; with the end of its log.
    """
    for name in ("custom_nodes", "input", "models", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / NAME).symlink_to(PACK, target_is_directory=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python_of(comfyui), "main.py", "--cpu", "--port", port,
               "--base-directory", base, "--database-url", f"sqlite:///{base}/comfyui.db", "--disable-auto-launch",
               "--disable-all-custom-nodes", "--whitelist-custom-nodes", NAME, *options]
    with (base / "log.txt").open("wb") as log:
        process = subprocess.Popen([str(part) for part in command], cwd=comfyui, stdout=log, stderr=log)
    try:
        server = ComfyUI(base, port)
        _wait_for_start(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def _wait_for_start(server: ComfyUI, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while "To see the GUI" not in server.log():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"ComfyUI didn't start. Its log ends:\n{server.log()[-3000:]}")
        time.sleep(0.2)
    if "IMPORT FAILED" in server.log():
        raise RuntimeError(f"ComfyUI couldn't load the pack; is what requirements.txt lists installed in its "
                           f"environment? Its log ends:\n{server.log()[-3000:]}")


def prompt_of(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """Return the prompt (the API's format) of a workflow (the page's format), without groups, muted nodes or reroutes.

    Raises:
        KeyError, ValueError: the workflow doesn't fit the nodes.
    """
    sources = {link: [str(node), output] for link, node, output, *_ in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        widgets = []
        for name, options in inputs_of(object_info[node["type"]]).items():
            if isinstance(options[0], list) or options[0] in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                uploads = len(options) > 1 and (options[1].get("image_upload") or options[1].get("video_upload"))
                widgets += [name, "upload"] if uploads else [name]
        values = dict(zip(widgets, node.get("widgets_values", []), strict=True))
        values.pop("upload", None)  # a button
        links = {given["name"]: sources[given["link"]] for given in node["inputs"] if given["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": values | links}
    return prompt


def inputs_of(node_info: dict[str, Any]) -> dict[str, Any]:
    """Return a node's inputs, type and options by name, those that ComfyUI itself fills in left out."""
    return {**node_info["input"].get("required", {}), **node_info["input"].get("optional", {})}


def workflow(name: str) -> dict[str, Any]:
    return dict(json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")))


def id_of(prompt: Prompt, node_class: str) -> str:
    """Return the id of the first node of that class."""
    return next(key for key, node in prompt.items() if node["class_type"] == node_class)


def changed(prompt: Prompt, node_class: str, **inputs: Any) -> Prompt:
    """Return the prompt with other inputs for the first node of that class."""
    new = copy.deepcopy(prompt)
    new[id_of(new, node_class)]["inputs"].update(inputs)
    return new


def cancelling(server: ComfyUI, node: str) -> Callable[[str, int], None]:
    """Return what cancels a run when the node tells its third frame."""
    def cancel(telling: str, done: int) -> None:
        if (telling, done) == (node, 3):
            server.cancel()
    return cancel


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def write_inputs(server: ComfyUI) -> None:
    """Make the samples the example workflows ask for, small enough for tests, the images in three sizes."""
    for name in SAMPLES:
        image = cv2.imread(str(PACK / "samples" / f"{name}.png"))
        for prefix, size in (("", SIZE), ("odd_", ODD_SIZE), ("large_", LARGE_SIZE)):
            cv2.imwrite(str(server.input / f"{prefix}{name}.png"), cv2.resize(image, size, None, 0, 0, cv2.INTER_AREA))
    shutil.copy(PACK / "samples" / "clip.mp4", server.input / "large_clip.mp4")
    write_clip(PACK / "samples" / "clip.mp4", server.input / "clip.mp4")


def write_clip(source: Path, path: Path) -> None:
    """Write the first frames of a video, smaller, with as much of its sound."""
    with av.open(str(source)) as container, av.open(str(path), "w") as small:
        pictures, sound = container.streams.video[0], container.streams.audio[0]
        video = small.add_stream("libx264", rate=pictures.average_rate, options={"crf": "10"})
        video.width, video.height = SIZE
        audio = small.add_stream_from_template(sound)
        for frame in islice(container.decode(pictures), CLIP_FRAMES):
            small.mux(video.encode(frame.reformat(*SIZE)))
        small.mux(video.encode())
        container.seek(0)
        for packet in container.demux(sound):
            if packet.dts is not None and packet.pts * packet.time_base < CLIP_FRAMES / pictures.average_rate:
                packet.stream = audio
                small.mux(packet)
