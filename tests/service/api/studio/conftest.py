"""A browser, services on the shipped bundle, and photographs for the tests of the studio's page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.processes import ROOT, Instance
from service.auth import keys
from service.settings import Settings
from tests.service import fakes
from tests.service.api.studio.page import Page, saved

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


def serving(**variables: str) -> Instance:
    """The service with the bundle of the repository, to be used in a `with`."""
    return Instance(fakes.environment(FACET_LOG_LEVEL="warning", **variables))


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    with serving(FACET_SENSITIVE_ATTRIBUTES="true") as service:
        yield service.url


@pytest.fixture(scope="package")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A service that asks for a key and has no sensitive attributes; its address and a key."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    token = keys.new(path, name="studio", scopes=["use"])
    with serving(FACET_KEYS_FILE=str(path)) as service:
        yield service.url, token


@pytest.fixture(scope="package")
def cautious_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One whose model says that it is not good at adding smiles, at removing glasses, and at fringes at all."""
    directory = tmp_path_factory.mktemp("cautious") / "celeba64"
    shutil.copytree(ROOT / "bundles" / "celeba64", directory)
    fakes.raise_schema(directory)
    marks = {"Smiling": ["added"], "Eyeglasses": ["removed"], "Bangs": ["added", "removed"]}

    def mark(manifest) -> None:
        for attribute in manifest["attributes"]:
            attribute["experimental"] = dict.fromkeys(marks.get(attribute["name"], []), "hardly ever seen")

    fakes.rewrite_manifest(directory, mark)
    with serving(FACET_BUNDLES=str(directory.parent), FACET_DEFAULT_MODEL="celeba64") as service:
        yield service.url


@pytest.fixture(scope="package")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
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
def small(astronaut: Image.Image, tmp_path: Path) -> Path:
    """A JPEG that is its own preview, so that nothing is drawn sharper."""
    return saved(astronaut, tmp_path / "small.jpg")


@pytest.fixture
def couple(astronaut: Image.Image, tmp_path: Path) -> Path:
    """Two faces: the larger one on the right."""
    both = Image.new("RGB", (1200, 700), "grey")
    both.paste(astronaut, (0, 100))
    both.paste(astronaut.resize((700, 700), Image.Resampling.BICUBIC), (512, 0))
    return saved(both, tmp_path / "couple.png")
