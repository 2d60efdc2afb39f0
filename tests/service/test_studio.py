"""The studio page: its headers and files, and in a real browser what a user does with it."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.processes import Instance
from service import keys, studio
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import TestClient

CHROMIUM = Path("/usr/bin/chromium")
# A camera that shows a test picture; the rest keeps the browser from talking to anybody.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


# ---- the files


def paths() -> list[str]:
    return ["/", *(f"/studio/{name}" for name in studio.load() if name != studio.PAGE)]


@pytest.mark.parametrize("path", paths())
def test_every_file_has_strict_headers(client: TestClient, path: str):
    response = client.get(path)
    assert response.status_code == 200
    assert response.text
    directives = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "camera=(self)" in response.headers["permissions-policy"]
    assert "microphone=()" in response.headers["permissions-policy"]


@pytest.mark.parametrize("path", paths())
def test_a_file_is_sent_again_only_when_it_has_changed(client: TestClient, path: str):
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = client.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/", "text/html"), ("/studio/studio.js", "text/javascript"), ("/studio/studio.css", "text/css")],
)
def test_files_are_what_they_say(client: TestClient, path: str, media_type: str):
    assert client.get(path).headers["content-type"] == f"{media_type}; charset=utf-8"


@pytest.mark.parametrize("path", ["/studio/index.html", "/studio/nothing.js", "/studio/..%2Fstudio.py"])
def test_nothing_else_is_served(client: TestClient, path: str):
    fakes.problem(client.get(path), 404)


def test_everything_that_is_named_is_there_and_everything_there_is_named(client: TestClient):
    found, waiting = set(), {"/"}
    while waiting:
        path = waiting.pop()
        found.add(path)
        names = re.findall(r'(?:src|href|from|url\()\s*=?\s*"(?:studio/|\./)?([\w.-]+\.\w+)"', client.get(path).text)
        waiting |= {f"/studio/{name}" for name in names} - found
    assert found == set(paths())


def test_nobody_else_is_mentioned_and_nothing_is_inline():
    for name, asset in studio.load().items():
        text = asset.data.decode()
        assert set(re.findall(r"(?:https?:)?//[\w-]+\.[\w.]+", text)) <= {"http://www.w3.org"}, name
        assert "innerHTML" not in text, name
    page = studio.load()[studio.PAGE].data.decode()
    assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)


def test_every_element_that_the_scripts_look_up_is_on_the_page():
    assets = studio.load()
    page = assets[studio.PAGE].data.decode()
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    scripts = [asset.data.decode() for name, asset in assets.items() if name.endswith(".js")]
    assert {name for script in scripts for name in re.findall(r'byId\("([\w-]+)"\)', script)} <= set(ids)


# ---- in a browser


def serving(**variables: str) -> Instance:
    """The service with the bundle of the repository, to be used in a `with`."""
    return Instance(fakes.environment(FACET_LOG_LEVEL="warning", **variables))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(FACET_SENSITIVE_ATTRIBUTES="true") as service:
        yield service.url


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A service that asks for a key and has no sensitive attributes; its address and a key."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    token = keys.new(path, name="studio", scopes=["use"])
    with serving(FACET_KEYS_FILE=str(path)) as service:
        yield service.url, token


@pytest.fixture(scope="module")
def cautious_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One whose model says that it is not good at adding smiles, at removing glasses, and at fringes at all."""
    directory = tmp_path_factory.mktemp("cautious") / "celeba64"
    shutil.copytree(Path(__file__).parents[2] / "bundles" / "celeba64", directory)
    fakes.raise_schema(directory)
    marks = {"Smiling": ["added"], "Eyeglasses": ["removed"], "Bangs": ["added", "removed"]}

    def mark(manifest) -> None:
        for attribute in manifest["attributes"]:
            attribute["experimental"] = dict.fromkeys(marks.get(attribute["name"], []), "hardly ever seen")

    fakes.rewrite_manifest(directory, mark)
    with serving(FACET_BUNDLES=str(directory.parent)) as service:
        yield service.url


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Page:
    """A page of the studio as its user sees it, which keeps what the browser complains about."""

    def __init__(self, page, server: str, ready: bool = True) -> None:
        self.page, self.server = page, server
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(1000 * fakes.PATIENCE)
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._check_host)
        page.goto(f"{server}/")
        if ready:
            page.locator("#offers button").nth(5).wait_for()

    def __getitem__(self, selector: str):
        return self.page.locator(selector)

    def _check_host(self, request) -> None:
        if not request.url.startswith((f"{self.server}/", f"blob:{self.server}/", "data:")):
            self.foreign.append(request.url)

    def open(self, file: Path) -> None:
        """Choose a file and wait until its faces are shown."""
        with self.page.expect_response("**/v1/encode"):
            self["#file"].set_input_files(file)
        self.await_idle()

    def await_idle(self) -> None:
        self["body:not([data-opening]) #stage:not([data-busy])"].wait_for()

    def slider(self, name: str):
        return self[f"#attribute-{name}"]

    def slide(self, name: str, value: float) -> None:
        """Move a slider and wait until the picture has followed."""
        with self.edited():
            self.slider(name).fill(str(value))

    @contextmanager
    def edited(self) -> Iterator[None]:
        with self.page.expect_response("**/v1/edit"):
            yield
        self.await_idle()

    def value(self, name: str) -> float:
        return float(self.slider(name).input_value())

    def seen(self) -> np.ndarray:
        """The photo as it is shown, f32 [H, W, 3], without what lies over it."""
        data = self["#after"].evaluate(
            """async (image) => {
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                await image.decode();
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


@pytest.fixture(scope="module")
def context(browser):
    """One for all tests: a browser takes longer for a new one than a test does."""
    viewport = {"width": 1280, "height": 900}
    return browser.new_context(permissions=["clipboard-read", "clipboard-write"], viewport=viewport)


@pytest.fixture
def page(context, server: str) -> Iterator[Page]:
    page = Page(context.new_page(), server)
    yield page
    page.page.close()
    assert page.complaints == []
    assert page.foreign == []


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """A photograph of 512 x 512 pixels with one face in it."""
    data = pytest.importorskip("skimage.data")
    if not (Settings().weights / "retinaface.onnx").exists():
        pytest.skip("the face finder's weights are not there (make weights)")
    return Image.fromarray(data.astronaut())


@pytest.fixture
def photo(astronaut: Image.Image, tmp_path: Path) -> Path:
    """A JPEG that is larger than its preview."""
    return saved(astronaut.resize((1300, 1300), Image.Resampling.BICUBIC), tmp_path / "it's me.jpg")


@pytest.fixture
def couple(astronaut: Image.Image, tmp_path: Path) -> Path:
    """Two faces: the larger one on the right."""
    both = Image.new("RGB", (1200, 700), "grey")
    both.paste(astronaut, (0, 100))
    both.paste(astronaut.resize((700, 700), Image.Resampling.BICUBIC), (512, 0))
    return saved(both, tmp_path / "couple.png")


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


def test_the_picture_follows_the_sliders_and_the_face_is_encoded_once(page: Page, photo: Path):
    page.open(photo)
    page.status("One face")
    start, before = page.value("Smiling"), page.seen()
    batches = 'facet_batches_total{graph="encoder"}'
    encoded = metric(page.server, batches)
    page.slide("Smiling", -1)
    sad = page.seen()
    assert change(before, sad).max() > 15
    page.slide("Smiling", -0.5)
    assert 0 < np.abs(page.seen() - before).mean() < np.abs(sad - before).mean()
    page.slide("Eyeglasses", 1)
    with page.edited():
        page["#strength-value"].fill("1.5")
    assert metric(page.server, batches) == encoded
    page["#reset"].click()
    page.await_idle()
    assert page.value("Smiling") == start
    page["#timing:empty"].wait_for(state="attached")
    assert np.array_equal(page.seen(), before)


def test_one_slider_is_reset_on_its_own_and_the_focus_stays(page: Page, photo: Path):
    page.open(photo)
    start = page.value("Eyeglasses")
    page.slide("Smiling", -1)
    page.slide("Eyeglasses", 1)
    with page.edited():
        page["button[aria-label='Reset eyeglasses']"].click()
    assert (page.value("Eyeglasses"), page.value("Smiling")) == (start, -1)
    assert page["#attribute-Eyeglasses:focus"].count() == 1
    assert page["button[aria-label='Reset eyeglasses']"].is_hidden()


def test_setting_one_of_a_group_clears_the_others(page: Page, photo: Path):
    page.open(photo)
    own = page.value("Brown_Hair")
    page.slide("Black_Hair", 1)
    assert page.value("Brown_Hair") == page.value("Blond_Hair") == -1
    assert "cleared" in page.slider("Brown_Hair").get_attribute("aria-valuetext")
    page.slide("Blond_Hair", 0.5)
    assert (page.value("Blond_Hair"), page.value("Black_Hair")) == (0.5, -1)
    page["button[aria-label='Reset blond hair']"].click()
    assert page.value("Brown_Hair") == own


def test_sensitive_attributes_wait_behind_a_switch(page: Page, photo: Path):
    page.open(photo)
    before = page.seen()
    assert not page["#sensitive"].is_checked()
    assert page.slider("Young").is_hidden()
    page["#sensitive"].check()
    page.slide("Young", -1)
    assert change(before, page.seen()).max() > 5
    page["#sensitive"].uncheck()
    page["#timing:empty"].wait_for(state="attached")
    assert np.array_equal(page.seen(), before)


def test_experimental_edits_wait_behind_a_switch(context, cautious_server: str, photo: Path):
    page = Page(context.new_page(), cautious_server)
    page.open(photo)
    before = page.seen()
    assert page.slider("Bangs").is_hidden()
    assert float(page.slider("Smiling").get_attribute("max")) == pytest.approx(page.value("Smiling"), abs=1e-6)
    assert float(page.slider("Smiling").get_attribute("min")) == -1.5
    assert float(page.slider("Eyeglasses").get_attribute("max")) == 1.5
    page.slide("Smiling", -1)
    assert change(before, page.seen()).max() > 5
    page["#copy-curl"].click()
    page["#code:not(:empty)"].wait_for()
    assert "experimental" not in page["#code"].inner_text()
    page["#experimental"].check()
    assert page.slider("Bangs").is_visible()
    page.slide("Bangs", 1)
    page["#make-strip"].click()
    page.status("The strip is ready")
    page["#copy-curl"].click()
    page["#code:has-text('experimental=true')"].wait_for()
    seen = page.seen()
    with page.edited():
        page["#experimental"].uncheck()
    page.await_idle()
    assert page.slider("Bangs").is_hidden()
    assert change(seen, page.seen()).max() > 5
    assert page.complaints == []


def test_a_model_that_is_good_at_everything_has_no_such_switch(page: Page, photo: Path):
    page.open(photo)
    assert page["#experimental"].count() == 0


def test_of_wishes_that_overlap_the_latest_wins(page: Page, photo: Path):
    page.open(photo)
    page.slide("Smiling", -1)
    wanted = page.seen()
    page.slide("Smiling", 1.2)
    held, failed = [], []
    page.page.route("**/v1/edit", lambda route: held.append(route), times=1)
    page.page.on("requestfailed", lambda request: failed.append(request.url))
    page.slider("Smiling").fill("0.3")
    page["#stage[data-busy]"].wait_for()
    page.slide("Smiling", -1)
    assert (len(held), len(failed)) == (1, 1)
    assert np.array_equal(page.seen(), wanted)


def test_a_full_queue_is_waited_for_as_long_as_it_says(page: Page, photo: Path):
    page.open(photo)
    before, calls = page.seen(), []
    body = {"status": 429, "title": "Too Many Requests", "detail": "the queue is full"}

    def refuse(route) -> None:
        calls.append(time.monotonic())
        route.fulfill(status=429, json=body, headers={"Retry-After": "1"})

    page.page.route("**/v1/edit", refuse, times=1)
    page.slider("Smiling").fill("-1")
    page.status("trying again in 1 s")
    with page.page.expect_response(lambda response: response.ok):
        pass
    assert time.monotonic() - calls[0] > 0.9
    page.await_idle()
    assert change(before, page.seen()).max() > 15
    assert page["#problem"].is_hidden()
    page.complaints.clear()  # the browser's note of the 429


def test_faces_are_outlined_and_edited_each_on_its_own(page: Page, couple: Path):
    page.open(couple)
    page.status("2 faces")
    outlines = page["#faces button"]
    assert [outlines.nth(i).get_attribute("aria-pressed") for i in range(2)] == ["true", "false"]
    assert outlines.nth(0).bounding_box()["x"] > outlines.nth(1).bounding_box()["x"]
    before = page.seen()
    outlines.nth(1).click()
    assert outlines.nth(1).get_attribute("aria-pressed") == "true"
    page.slide("Smiling", -1)
    small = change(before, page.seen())
    middle = len(small) * 640 // 1200
    assert small[:middle].max() > 15 > 8 > small[middle:].max()
    outlines.nth(0).click()
    assert page.value("Smiling") > 0.5
    page.slide("Smiling", -1)
    both = change(before, page.seen())
    assert both[:middle].max() > 15
    assert both[middle:].max() > 15


def test_the_download_is_the_whole_photo_in_its_own_format(page: Page, photo: Path):
    page.open(photo)
    page.slide("Smiling", -1)
    with page.page.expect_download() as download:
        page["#download"].click()
    assert download.value.suggested_filename == "it's me-edited.jpg"
    with Image.open(download.value.path()) as edited, Image.open(photo) as original:
        assert (edited.format, edited.size) == ("JPEG", (1300, 1300))
        assert change(np.asarray(original, np.float32), np.asarray(edited, np.float32)).max() > 15
    page.status("Downloaded at 1300")


def test_a_random_face_is_edited_like_a_photo(page: Page):
    page["#welcome [data-source=random]"].click()
    page.status("seed")
    before = page.seen()
    assert before.shape == (64, 64, 3)
    page.slide("Eyeglasses", 1 if page.value("Eyeglasses") < 0 else -1)
    assert change(before, page.seen()).max() > 5
    seed = re.search(r"seed (\d+)", page["#status"].inner_text())[1]
    with page.page.expect_download() as download:
        page["#download"].click()
    assert download.value.suggested_filename == f"face-{seed}-edited.png"


def test_the_strip_shows_the_attribute_that_was_moved_last(page: Page, photo: Path):
    page.open(photo)
    page.slide("Smiling", 0.2)
    page.slide("Bangs", 0.2)
    page["#make-strip:text('bangs')"].click()
    page.status("The strip is ready")
    assert "Bangs" in page["#strip-picture"].get_attribute("alt")
    with page.page.expect_download() as download:
        page["#strip-download"].click()
    assert download.value.suggested_filename == "it's me-bangs.jpg"
    with Image.open(download.value.path()) as strip:
        assert strip.width > 5 * strip.height


@pytest.mark.parametrize(
    ("language", "kind"), [("curl", "couple"), ("curl", "random"), ("Python", "photo"), ("Python", "random")]
)
def test_copied_code_runs_and_gives_what_is_downloaded(page: Page, request, language: str, kind: str):
    if language == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    directory = request.getfixturevalue("tmp_path")
    if kind == "random":
        page["#welcome [data-source=random]"].click()
        page.status("seed")
    else:
        page.open(request.getfixturevalue(kind))
    page.slide("Smiling", -0.4)
    with page.edited():
        page["#strength-value"].fill("1.5")
    if kind == "couple":
        page["#faces button"].nth(1).click()
        page.slide("Eyeglasses", 1)
    page[f"button:text('Copy as {language}')"].click()
    page.status("Copied")
    code = page.page.evaluate("navigator.clipboard.readText()")
    assert code == page["#code"].text_content()
    command = ["sh", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=fakes.PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    with page.page.expect_download() as download:
        page["#download"].click()
    result = directory / download.value.suggested_filename
    copied, downloaded = (fakes.pixels(Path(path).read_bytes()) for path in (result, download.value.path()))
    assert copied.shape == downloaded.shape
    # JPEG of another quality, at most.
    assert np.abs(copied.astype(float) - downloaded).mean() < 2


def test_a_broken_file_is_explained_and_nothing_is_lost(page: Page, photo: Path, tmp_path: Path):
    page.open(photo)
    page.slide("Smiling", -1)
    edited = page.seen()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0" + b"nothing" * 50)
    page["#file"].set_input_files(broken)
    assert page.problem("This file is broken")
    assert page.value("Smiling") == -1
    assert np.array_equal(page.seen(), edited)
    page["#problem-close"].click()
    assert page["#problem"].is_hidden()


def test_a_photo_without_a_face_can_be_said_to_be_framed(page: Page, photo: Path, tmp_path: Path):
    gradient = Image.linear_gradient("L").resize((300, 300)).convert("RGB")
    page["#file"].set_input_files(saved(gradient, tmp_path / "nobody.png"))
    assert "no face was found" in page.problem("No face was found").lower()
    page["#problem-action"].click()
    page.status("One face")
    page.slide("Smiling", 1)
    page["#copy-curl"].click()
    page.status("Copied")
    assert "framed=true" in page["#code"].text_content()


def test_a_picture_comes_from_the_camera(page: Page, photo: Path):
    page["#welcome [data-source=camera]"].click()
    with page.page.expect_response("**/v1/encode"):
        page["#camera-take"].click()
    assert page["#camera"].is_hidden()
    page.problem("No face was found")  # only the browser's test picture


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page: Page, photo: Path, way: str):
    page.page.evaluate(
        """([way, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [way, base64.b64encode(photo.read_bytes()).decode()],
    )
    page.status("One face")


def test_everything_works_by_keyboard(page: Page):
    keyboard = page.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if page[f"{selector}:focus"].count():
                return
            keyboard.press("Tab")
        raise AssertionError(f"{selector} is never reached")

    tab_to("#welcome [data-source=random]")
    keyboard.press("Enter")
    page.status("seed")
    before = page.seen()
    tab_to("#faces button")
    tab_to("#divider")
    keyboard.press("End")
    assert page["#stage[data-divided]"].count() == 1
    assert page["#divider"].get_attribute("aria-valuetext") == "100 % before"
    keyboard.press("Home")
    tab_to("#strength-value")
    tab_to("#attribute-Smiling")
    for key in ("Home", "End"):
        with page.edited():
            keyboard.press(key)
    assert change(before, page.seen()).max() > 5
    tab_to("#reset")
    keyboard.press("Enter")
    page["#timing:empty"].wait_for(state="attached")
    assert np.array_equal(page.seen(), before)
    tab_to("#download")
    with page.page.expect_download():
        keyboard.press("Enter")


def test_every_control_has_a_name(page: Page):
    page["#welcome [data-source=random]"].click()
    page.status("seed")
    page["#sensitive"].check()
    unnamed = page["button, input:not([type=file]), select, a"].evaluate_all(
        """(all) => all.filter((e) => e.checkVisibility())
            .filter((e) => !(e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim()))
            .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def test_it_fits_a_phone_and_no_policy_is_broken(browser, server: str, couple: Path):
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    try:
        page = Page(context.new_page(), server)
        page.open(couple)
        page.slide("Smiling", -1)
        page["#make-strip"].click()
        page.status("The strip is ready")
        page["#copy-python"].click()
        page["#code:not(:empty)"].wait_for()
        assert page.page.evaluate("document.documentElement.scrollWidth") == 360
        assert (page.complaints, page.foreign) == ([], [])
    finally:
        context.close()


def test_a_service_that_asks_for_a_key_gets_it_from_the_user(context, strict_server: tuple[str, str], photo: Path):
    server, token = strict_server
    page = Page(context.new_page(), server, ready=False)
    page["#key-value"].fill("facet_wrong")
    page["#key-value"].press("Enter")
    page["#key-note:visible"].wait_for()
    page["#key-value"].fill(token)
    page["#key button[type=submit]"].click()
    page["#offers button"].nth(5).wait_for()
    page.complaints.clear()  # the browser's own notes of 401
    page.open(photo)
    before = page.seen()
    page.slide("Smiling", -1)
    assert change(before, page.seen()).max() > 5
    # What the operator has not enabled is not there at all.
    assert page["#sensitive"].count() == page.slider("Young").count() == 0
    for language in ("curl", "python"):
        page[f"#copy-{language}"].click()
        page["#code:not(:empty)"].wait_for()
        page.status("Copied")
        text = page["#code"].inner_text()
        assert "FACET_KEY" in text
        assert "Bearer" in text
        assert token not in text
    assert token not in page.page.content()
    assert page.page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    page.page.reload()  # the tab keeps it
    page["#offers button"].nth(5).wait_for()
    assert (page.complaints, page.foreign) == ([], [])
    page.page.close()


def test_whoever_has_no_key_is_told_so(context, strict_server: tuple[str, str]):
    page = Page(context.new_page(), strict_server[0], ready=False)
    page["#key-value"].wait_for()
    page["#key-cancel"].click()
    assert "Bearer" in page.problem("This service asks for a key")
    page["#problem-action"].click()
    page["#key-value"].wait_for()  # it may be tried again
    page.page.close()


def test_the_page_of_documentation_works_and_breaks_no_policy(context, strict_server: tuple[str, str]):
    server, token = strict_server
    page = Page(context.new_page(), server, ready=False)
    page.complaints.clear()
    page.page.goto(f"{server}/docs")
    page["button.authorize"].first.click()
    page["#auth-bearer-value, .auth-container input"].first.fill(token)
    page[".auth-btn-wrapper button.authorize"].click()
    page[".auth-btn-wrapper .btn-done"].click()
    page["[id$=list_models_v1_models_get] .opblock-summary-control"].click()
    page["[id$=list_models_v1_models_get] button.execute"].click()
    page["[id$=list_models_v1_models_get] .live-responses-table .response-col_status:text('200')"].wait_for()
    assert [text for text in page.complaints if "401" not in text] == []
    assert page.foreign == []
    page.page.close()
