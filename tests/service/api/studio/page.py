"""The studio's page in a real browser, as its user sees it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.service import fakes

SHARP = 95  # quality of what is drawn from the file itself
PATIENCE = 60  # seconds until a wait fails; a loaded machine takes ten for what usually takes one
# Random faces are the same one: of another, a slider may stand where a test moves it.
SAME_FACE = "Math.random = () => 0.116;"


class Page:
    """A page of the studio as its user sees it, which keeps what the browser complains about."""

    def __init__(self, page, server: str, ready: bool = True) -> None:
        """`page` is the browser's, which opens the page of `server`; wait until it knows the models if `ready`."""
        self.page, self.server = page, server
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(1000 * PATIENCE)
        page.add_init_script(SAME_FACE)
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._check_host)
        page.goto(f"{server}/")
        if ready:
            page.locator("body[data-ready]").wait_for()

    def __getitem__(self, selector: str):
        return self.page.locator(selector)

    def _check_host(self, request) -> None:
        if not request.url.startswith((f"{self.server}/", f"blob:{self.server}/", "data:")):
            self.foreign.append(request.url)

    def open(self, file: Path) -> None:
        """Choose a file and wait until its faces are shown."""
        with self.answered(lambda request: request.url.endswith("/v1/encode")):
            self["#file"].set_input_files(file)
        self.await_idle()

    def await_idle(self) -> None:
        """Wait until nothing is opened, the picture shows what was asked for last, and the looks are drawn."""
        self["body:not([data-opening]) #stage:not([data-busy])"].wait_for()
        self["#looks:not([aria-busy])"].wait_for(state="attached")

    def await_sharp(self) -> None:
        """Wait until the whole edited photo lies over its preview."""
        self["#sharp[data-whole]:visible"].wait_for()

    def more(self, name: str) -> None:
        """Click a button of the menu, or of its entry in the bar."""
        self["#more"].evaluate("(menu) => menu.open = true")
        self[name].click()

    def slider(self, name: str):
        return self[f"#attribute-{name}"]

    def slide(self, name: str, value: float) -> None:
        """Move a slider and wait until the picture has followed."""
        with self.edited():
            self.slider(name).fill(str(value))

    @contextmanager
    def edited(self) -> Iterator[None]:
        """What is done within asks for another picture, which is there at the end."""
        with self.answered(is_preview):
            yield
        self.await_idle()

    @contextmanager
    def answered(self, which: Callable[[Any], bool]) -> Iterator[None]:
        """Wait until a request that begins within is answered well, and not one that was under way before."""
        begun = []

        def note(request) -> None:
            if which(request):
                begun.append(request)

        self.page.on("request", note)
        try:
            with self.page.expect_response(lambda response: response.ok and response.request in begun):
                yield
        finally:
            self.page.remove_listener("request", note)

    def value(self, name: str) -> float:
        return float(self.slider(name).input_value())

    def seen(self) -> np.ndarray:
        """The photo as it is shown, f32 [H, W, 3], without what lies over it."""
        data = self["#after"].evaluate(
            """async (image) => {
                await image.decode();
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                canvas.getContext("2d").drawImage(image, 0, 0);
                return canvas.toDataURL("image/png").split(",")[1];
            }"""
        )
        return fakes.pixels(base64.b64decode(data)).astype(np.float32)

    def status(self, text: str) -> None:
        """Wait until the status line says so."""
        self[f'#status:text("{text}")'].wait_for()

    def problem(self, title: str) -> str:
        """Wait for a problem of that title; returns what else it says. The browser's own note of it is expected."""
        self[f'#problem-title:text("{title}")'].wait_for()
        self.complaints = [text for text in self.complaints if not text.startswith("Failed to load resource")]
        return self["#problem-detail"].inner_text()


# Whether a request, or a response, is one of these, which all go to the same address.


def is_preview(exchange) -> bool:
    """The edited preview, neither looks nor what is drawn sharper."""
    return _is_edit(exchange) and not (has(exchange, "region") or _is_sharp(exchange))


def is_looks(exchange) -> bool:
    """The thumbnails of the looks; a strip's are drawn sharper."""
    return _is_edit(exchange) and has(exchange, "variants") and not _is_sharp(exchange)


def is_whole(exchange) -> bool:
    """The whole edited picture at its full size."""
    return _is_edit(exchange) and _is_sharp(exchange) and not has(exchange, "region")


def is_part(exchange) -> bool:
    """The part of a large photo that is seen, as sharp as the display; not a strip."""
    return _is_edit(exchange) and _is_sharp(exchange) and has(exchange, "region") and not has(exchange, "variants")


def is_upload(exchange) -> bool:
    """A picture that the service is to keep."""
    return exchange.url.endswith("/v1/photos")


def _is_edit(exchange) -> bool:
    return exchange.url.endswith("/v1/edit")


def has(exchange, field: str) -> bool:
    """Whether a request, or that of a response, has a parameter."""
    return f'name="{field}"'.encode() in _sent(exchange)


def _is_sharp(exchange) -> bool:
    return f'name="quality"\r\n\r\n{SHARP}\r\n'.encode() in _sent(exchange)


def _sent(exchange) -> bytes:
    return getattr(exchange, "request", exchange).post_data_buffer or b""


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path, quality=92)
    return path


def change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The largest difference in each column of blocks of 8 x 8 pixels, f32 [W / 8]: JPEG keeps their means."""
    rows, columns = (size // 8 for size in before.shape[:2])
    blocks = (after - before)[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8, 3).mean(axis=(1, 3))
    return np.abs(blocks).max(axis=(0, 2))


def metric(server: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", httpx.get(f"{server}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0
