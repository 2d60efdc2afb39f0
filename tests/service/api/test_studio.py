"""The files of the studio page: their headers, and what they name. tests/service/api/studio opens it in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.api import pages, studio
from tests.service import fakes
from tests.service.fakes import TestClient


def files() -> dict[str, str]:
    """The text of the page's files by name; pictures as if they were Latin-1."""
    found = [path for path in Path(pages.STUDIO.directory).iterdir() if path.suffix != ".md"]
    return {path.name: path.read_text(encoding="latin-1" if path.suffix == ".webp" else "utf-8") for path in found}


def paths() -> list[str]:
    """Of the page and its files, each as it is on disk."""
    return ["/", *(f"/studio/{name}" for name in sorted(files()) if name != pages.PAGE)]


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
    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"].removeprefix("W/")}', "*"):
        again = client.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        # A browser takes the headers of the 304 for those of what it has.
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
        assert again.headers["cache-control"] == first.headers["cache-control"]
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
        names = re.findall(
            r'(?:src|href|from|import|data-example|url\()\s*=?\s*"(?:studio/(?:[0-9a-f]{16}/)?|\./)?([\w.-]+\.\w+)"',
            client.get(path).text,
        )
        waiting |= {f"/studio/{name}" for name in names} - found
    assert found == set(paths())


def test_nobody_else_is_mentioned_and_nothing_is_inline():
    for name, text in files().items():
        assert set(re.findall(r"(?:https?:)?//[\w-]+\.[\w.]+", text)) <= {"http://www.w3.org"}, name
        assert "innerHTML" not in text, name
    page = files()[pages.PAGE]
    assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)


def test_every_element_that_the_scripts_look_up_is_on_the_page():
    texts = files()
    page = texts[pages.PAGE]
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    scripts = [text for name, text in texts.items() if name.endswith(".js")]
    assert {name for script in scripts for name in re.findall(r'byId\("([\w-]+)"\)', script)} <= set(ids)


def addresses(client: TestClient) -> list[str]:
    """What the page asks for, as its markup names it."""
    return sorted(set(re.findall(r'(?:src|href)="(studio/[^"]+)"', client.get("/").text)))


def test_the_page_needs_one_round_trip_and_its_files_are_kept_for_good(client: TestClient):
    found = addresses(client)
    assert len([name for name in found if name.endswith(".js")]) == 1
    assert not re.search(r"^import\b", client.get(f"/{found[-1].rpartition('/')[0]}/studio.js").text, re.MULTILINE)
    for address in found:
        response = client.get(f"/{address}")
        assert response.status_code == 200, address
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get(f"/{address}", headers={"If-None-Match": response.headers["etag"]}).status_code == 304


def test_a_file_of_another_edition_is_what_there_is_and_is_not_kept(client: TestClient):
    for name in ("studio.js", "studio.css"):
        now = client.get(next(f"/{address}" for address in addresses(client) if address.endswith(name)))
        other = client.get(f"/studio/0123456789abcdef/{name}")
        assert (other.status_code, other.content) == (200, now.content)
        assert other.headers["cache-control"] == "no-cache"
    fakes.problem(client.get("/studio/0123456789abcdef/index.html"), 404)


@pytest.fixture
def modules(tmp_path: Path):
    def write(**texts: str) -> Path:
        for name, text in texts.items():
            (tmp_path / f"{name}.js").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_modules_are_joined_each_after_those_that_it_imports(modules):
    directory = modules(
        studio='import * as a from "./a.js";\nimport { two as second } from "./b.js";\nimport "./a.js";\nrun(a);\n',
        a='import {\n  two,\n} from "./b.js";\nexport const one = two;\n',
        b="export function two() {}\nexport async function three() {}\nexport class Four {}\n",
    )
    script = studio.joined(directory, "studio.js")
    parts = [script.index(f"const ${name} =") for name in ("b", "a", "studio")]
    assert parts == sorted(parts)
    assert script.count("function two()") == 1
    assert "return { two, three, Four };" in script
    assert "const a = $a;" in script
    assert "const { two: second } = $b;" in script
    assert not re.search(r"^(im|ex)port", script, re.MULTILINE)


@pytest.mark.parametrize(
    "strange", ["export let count = 0;", "export default 1;", 'import x from "./x.js";', 'export * from "./x.js";']
)
def test_what_cannot_be_joined_is_refused(modules, strange: str):
    with pytest.raises(ValueError, match=re.escape(f"studio.js: {strange!r} is no form")):
        studio.joined(modules(studio=f"{strange}\n", x=""), "studio.js")


def test_modules_in_a_circle_are_refused(modules):
    directory = modules(studio='import "./a.js";\n', a='import "./studio.js";\n')
    with pytest.raises(ValueError, match="studio -> a -> studio"):
        studio.joined(directory, "studio.js")


def test_an_edition_changes_with_its_files(tmp_path: Path):
    (tmp_path / "index.html").write_text('<script src="studio/studio.js"></script>')
    (tmp_path / "studio.js").write_text("run();\n")
    first = studio.edition(tmp_path)
    assert first.page.decode() == f'<script src="studio/{first.version}/studio.js"></script>'
    (tmp_path / "studio.js").write_text("run(1);\n")
    assert studio.edition(tmp_path).version != first.version


def test_texts_are_compressed_for_those_who_accept_it(client: TestClient):
    plain = client.get("/studio/studio.css", headers={"Accept-Encoding": "identity"})
    packed = client.get("/studio/studio.css", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < 0.4 * int(plain.headers["content-length"])
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    again = client.get(
        "/studio/studio.css", headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
    )
    assert again.status_code == 304
    assert "content-encoding" not in client.get("/studio/before.webp", headers={"Accept-Encoding": "gzip"}).headers
