"""What a browser shows of the encoder's files: test cards go through Chromium, and the largest errors are printed."""

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import av
import numpy as np

from ov_film.encoding import Encoding
from ov_film.frames import Frame, to_8_bits
from ov_film.video import write_webm

HEIGHT, WIDTH, EDGE = 128, 256, 4
WAYS: dict[str, dict[str, Any]] = {
    "vp9": {"crf": 4}, "av1": {"crf": 4, "codec": "av1"}, "lossless": {"lossless": True},
    "alpha": {"crf": 4, "alpha": True}}
# Without a graphics card, SwiftShader does what one would do; else Chromium converts with libyuv.
DRAWING = {"shaders": ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
                       "--ignore-gpu-blocklist"], "libyuv": ["--disable-gpu"]}
PAGE = """<body><script type="module">
for (const [name, count] of Object.entries(%s)) {
  const video = document.createElement("video");
  video.muted = true;
  video.src = URL.createObjectURL(await (await fetch(encodeURI(name))).blob());
  await new Promise((done, fail) => { video.onloadeddata = done; video.onerror = fail; });
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  for (let frame = 0; frame < count; frame++) {
    const found = new Promise(done => video.onseeked = done);
    video.currentTime = frame + 0.5;
    await found;
    await new Promise(done => setTimeout(done, 200));  // the frame comes a little later than the event
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(video, 0, 0);
    await fetch(encodeURI(name), {method: "POST", body: context.getImageData(0, 0, canvas.width, canvas.height).data});
  }
}
await fetch("end", {method: "POST"});
</script></body>"""


def main() -> None:
    """Print the largest error, in levels of 8 bits, of each way to encode and each way to draw."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--option", action="append", default=[], help="for the browser, such as --no-sandbox")
    options = parser.parse_args()
    cards = list(two_colours()) + list(gradients())
    print("| drawn by | file | two colours | gradients |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, way in WAYS.items():
            frames = [with_alpha(card) for card in cards] if way.get("alpha") else cards
            write_webm(Path(folder) / f"{name}.webm", frames, Fraction(1), **way)
        write_by_ffmpeg(Path(folder) / "vp9 by FFmpeg.webm", cards)
        for drawing, switches in DRAWING.items():
            shown = look(Path(folder), [options.browser, *switches, *options.option], len(cards))
            for name, pictures in shown.items():
                errors = np.abs(np.stack(pictures)[..., :3] - np.stack(cards) * 255)
                errors[:5, :, WIDTH // 2 - EDGE:WIDTH // 2 + EDGE] = 0  # 4:2:0 has no sharp edge between colours
                print(f"| {drawing} | {name} | {errors[:5].max():.1f} | {errors[5:].max():.1f} |")


def write_by_ffmpeg(path: Path, cards: list[Frame]) -> None:
    """Write what FFmpeg makes of the cards, by BT.709 and with its tags."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=1, options=Encoding("vp9", 4).options)
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 0
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for card in cards:
            picture = av.VideoFrame.from_ndarray(to_8_bits(card), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)))
        container.mux(stream.encode(None))


def two_colours() -> Iterator[Frame]:
    """Yield five cards of two colours each, side by side."""
    pairs = [((1, 0, 0), (0, 0, 1)), ((0, 1, 0), (1, 0, 1)), ((0.9, 0.72, 0.6), (0.3, 0.5, 0.8)),
             ((0, 0, 0), (1, 1, 1)), ((1, 1, 0), (0.25, 0.25, 0.25))]
    for left, right in pairs:
        yield np.where(np.arange(WIDTH)[:, None] < WIDTH // 2, left, right)[None].repeat(HEIGHT, 0).astype(np.float32)


def gradients() -> Iterator[Frame]:
    """Yield a card of one colour that goes into another and one of black that goes into white."""
    ramp = np.linspace(0, 1, WIDTH, dtype=np.float32)
    yield np.stack([ramp, np.full_like(ramp, 0.5), 1 - ramp], axis=-1)[None].repeat(HEIGHT, 0)
    yield ramp[:, None].repeat(3, 1)[None].repeat(HEIGHT, 0)


def with_alpha(card: Frame) -> Frame:
    """Return a card (H,W,4) that is opaque."""
    return np.concatenate([card, np.ones_like(card[..., :1])], axis=2)


def look(folder: Path, browser: list[str], count: int) -> dict[str, list[np.ndarray]]:
    """Return the pictures (H,W,4) from 0 to 255 that a browser draws of each file's frames."""
    shown: dict[str, list[np.ndarray]] = {path.name: [] for path in folder.glob("*.webm")}
    page = (PAGE % json.dumps(dict.fromkeys(shown, count))).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / unquote(self.path[1:])
            body = path.read_bytes() if path.suffix == ".webm" else page
            self.send_response(200)
            self.send_header("Content-Type", "video/webm" if path.suffix == ".webm" else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(204)
            self.end_headers()
            if self.path == "/end":
                self.server.done = True  # type: ignore[attr-defined]
            else:
                picture = np.frombuffer(body, np.uint8).reshape(HEIGHT, WIDTH, 4)
                shown[unquote(self.path[1:])].append(picture.astype(np.float32))

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as profile:
        server.timeout, server.done = 30, False  # type: ignore[attr-defined]
        process = subprocess.Popen(
            [*browser, "--headless", "--force-color-profile=srgb", f"--user-data-dir={profile}",
             f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not server.done:  # type: ignore[attr-defined]
                server.handle_request()
        finally:
            process.terminate()
            process.wait()
    return shown


if __name__ == "__main__":
    main()
