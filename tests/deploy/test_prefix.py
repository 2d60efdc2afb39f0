"""Behind nginx that strips `/facet`: pages, their links, redirects and the calls of `/docs` stay below the prefix."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from benchmarks.processes import Instance, free_port
from service.settings import Settings
from tests.service import fakes
from tests.service.api.studio.conftest import ARGUMENTS, CHROMIUM
from tests.service.conftest import _written_bundle, bundle_directory, settings  # noqa: F401, the fixtures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@pytest.fixture
def below(settings: Settings, tmp_path: Path) -> Iterator[str]:  # noqa: F811
    """The service's address behind nginx."""
    port, configuration = free_port(), tmp_path / "nginx.conf"
    paths = "\n".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in TEMPORARY)
    user = "user root;" if os.geteuid() == 0 else ""
    with fakes.listening(fakes.application(settings)) as address:
        configuration.write_text(
            f"{user} daemon off; worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off;\n{paths}\nserver {{ listen 127.0.0.1:{port};\n"
            f"location /facet/ {{ proxy_pass http://{address}/; }} }} }}\n"
        )
        command = ["nginx", "-c", str(configuration), "-e", str(tmp_path / "error.log")]
        with Instance(os.environ, command, port, path="/facet/readyz"):
            yield f"http://127.0.0.1:{port}/facet/"


def test_what_pages_name_is_below_the_prefix(below: str):
    with httpx.Client(trust_env=False) as client:
        for page in ("", "docs"):
            named = re.findall(r'(?:src|href)="([^"]+)"', client.get(below + page).text)
            assert len(named) > 3
            for path in named:
                address = urljoin(below + page, path)
                assert address.startswith(below)
                assert client.get(address).status_code == 200


@pytest.mark.parametrize("path", ["docs/", "v1/models/", "v1/models/tiny/"])
def test_a_redirect_keeps_the_prefix(below: str, path: str):
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        response = client.get(below + path)
    assert response.status_code == 200
    assert str(response.url) == below + path.rstrip("/")


def test_docs_and_studio_call_the_service_below_the_prefix(below: str):
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (apt-get install chromium)")
    called = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(1000 * fakes.PATIENCE)
        page.on("response", lambda response: called.append((response.url, response.status)))
        page.goto(below + "docs")
        call = page.locator(".opblock").filter(has=page.locator('[data-path="/v1/generate"]'))
        call.locator(".opblock-summary").click()
        with page.expect_response(lambda response: response.url.endswith("/v1/generate")) as answered:
            call.locator(".execute").click()
        assert answered.value.status == 200
        with page.expect_response(lambda response: response.url.endswith("/v1/models")) as listed:
            page.goto(below)
        assert listed.value.status == 200
        browser.close()
    assert f"{below}v1/generate" in [url for url, _ in called]
    assert [url for url, status in called if url.startswith("http") and not url.startswith(below)] == []
    assert [url for url, status in called if status >= 400] == []
