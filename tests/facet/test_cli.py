"""The command line on the shipped bundle: what it writes, says and returns."""

from __future__ import annotations

import json
import shutil

import httpx
import pytest
from PIL import Image

from facet import Client, RequestError, cli
from facet.files import READ
from tests.facet.conftest import ROOT, remote


@pytest.fixture
def facet(local, framed, tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with framed.png, without loading the model anew; gives status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Client, "local", lambda *_, **__: local)
    monkeypatch.setattr(Client, "close", lambda _: None)

    def run(line: str) -> tuple[int, str, str]:
        status = cli.main(line.split())
        return status, *capsys.readouterr()

    return run


def size_and_format(path) -> tuple:
    with Image.open(path) as image:
        return image.size, image.format


def test_a_picture_is_edited_in_the_format_of_the_suffix(facet, face, tmp_path):
    assert facet("edit framed.png Smiling=-1 -o out.jpg --quality 80") == (0, "out.jpg\n", "")
    assert size_and_format("out.jpg") == (face.size, "JPEG")
    assert facet("edit framed.png Smiling=-1 --output face -o deep/er/out.webp")[0] == 0
    assert size_and_format("deep/er/out.webp") == ((128, 128), "WEBP")
    assert facet("edit framed.png Smiling=-1 --output face --face all -o all.png")[0] == 0


def test_a_folder_is_edited_past_a_broken_file(facet, tmp_path):
    for name in ("in/a.png", "in/sub/b.png", "in/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("framed.png", name)
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in/notes.txt").touch()
    status, told, said = facet("edit in Smiling=-1 -o out")
    assert (status, told) == (1, "")
    assert said.splitlines() == [
        f"skipped: in/notes.txt: its suffix is none of {', '.join(READ)}",
        "failed: in/broken.png: the image's header is truncated or corrupt",
        "3 written, 1 skipped, 1 failed",
    ]
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("out/**/*.*"))
    assert written == ["out/a.png", "out/c.png", "out/sub/b.png"]
    (tmp_path / "in/broken.png").unlink()
    (tmp_path / "out/a.png").unlink()
    (tmp_path / "in/notes.txt").unlink()
    status, told, said = facet("edit in Smiling=-1 -o out --skip-existing")
    assert (status, told) == (0, "")
    assert said.splitlines() == [
        "skipped: in/c.png: out/c.png exists",
        "skipped: in/sub/b.png: out/sub/b.png exists",
        "1 written, 2 skipped",
    ]


def test_faces_are_found_in_photographs(facet, photo):
    assert facet(f"edit {photo} Smiling=-1 -o out.png")[0] == 0
    assert size_and_format("out.png") == ((512, 512), "PNG")
    status, _, said = facet(f"edit {photo} Smiling=-1 -o out.png --face 3")
    assert (status, said) == (1, f"failed: {photo}: --face 3: must be below 1, the number of faces found, or 'all'\n")


def test_an_attribute_is_swept(facet, tmp_path):
    assert facet("sweep framed.png Smiling -o strip.png --steps 3 --size 64") == (0, "strip.png\n", "")
    assert facet("sweep framed.png Smiling,Bangs -o grid.jpg --steps 2 --size 64")[0] == 0
    assert facet("sweep framed.png Smiling -o film.gif --layout animation --steps 3 --size 64 --start -1")[0] == 0
    assert size_and_format("film.gif")[1] == "GIF"
    assert facet("sweep Smiling Bangs=1 --seed 5 -o drawn.webp --steps 3 --size 64")[0] == 0
    assert facet("sweep framed.png Smiling -o frames --layout frames --steps 3 --size 64") == (0, "frames\n", "")
    assert sorted(p.name for p in tmp_path.glob("frames/*")) == [f"framed-0{n}.png" for n in range(3)]
    assert facet("sweep framed.png framed.png -o x.png")[0] == 2


def test_faces_are_generated_into_one_picture_or_a_folder(facet, tmp_path):
    assert facet("generate Smiling=1 --count 4 --seed 7 -o faces.png") == (0, "faces.png (seed 7)\n", "")
    assert size_and_format("faces.png")[0] == (256, 256)
    assert facet("generate --count 2 --seed 7 -o faces/")[0] == 0
    assert sorted(p.name for p in tmp_path.glob("faces/*")) == ["7-00.png", "7-01.png"]


def test_estimates_are_told_as_a_table_or_as_json(facet):
    status, told, _ = facet("encode framed.png")
    assert status == 0
    assert told.startswith("framed.png: 178 x 218 pixels, 1 face, celeba128@")
    assert "Smiling" in told
    told = json.loads(facet("encode framed.png --json")[1])
    assert told["picture"] == "framed.png"
    manifest = json.loads((ROOT / "bundles" / "celeba128" / "manifest.json").read_text())
    assert len(told["faces"][0]["latent"]) == manifest["latent_size"]


def test_a_picture_that_cannot_be_encoded_does_not_hide_the_others(facet, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    status, told, said = facet("encode text.png framed.png")
    assert status == 1
    assert told.startswith("framed.png")
    assert said.startswith("failed: text.png: the data is not an image")


def test_models_are_listed(facet):
    assert [line.split("@")[0] for line in facet("models")[1].splitlines() if "@" in line][:2] == [
        "celeba128",
        "celeba64",
    ]
    assert json.loads(facet("models --json --model celeba64")[1])["name"] == "celeba64"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("edit framed.png Smilng=1 -o x.png", "Smilng: is not an attribute of this model; did you mean Smiling?"),
        ("edit framed.png Smiling=5 -o x.png", "Smiling=5: must lie between -2 and 2"),
        ("edit framed.png Smiling=1 -o x.png --strength 3", "--strength 3: must be at most 2"),
        ("edit framed.png Smiling=1 -o x.png --model big", "--model big: no such model; loaded: celeba128, celeba64"),
        ("edit framed.png -o x.png", "no attribute is given; NAME=VALUE says what to change"),
        ("edit Smiling=1 -o x.png", "no picture is given"),
        ("edit nowhere.png Smiling=1 -o x.png", "nowhere.png: no such file or folder"),
        ("edit framed.png Smiling=1 -o framed.png", "-o framed.png: is one of the pictures given"),
        ("sweep framed.png Smilin -o x.png", "Smilin: is not an attribute of this model; did you mean Smiling?"),
        ("sweep framed.png -o x.png", "no attribute is given; it comes last"),
        ("sweep Smiling -o x.png", "no picture is given, nor --seed"),
        ("sweep framed.png Smiling --seed 1 -o x.png", "--seed 1: is for a generated face, and framed.png"),
        ("sweep framed.png Smiling -o x.png --layout animation", "-o x.png: the suffix must be one of .webp, .gif"),
        ("sweep framed.png Smiling -o x/ --format gif", "--format gif: the layout strip takes png or jpeg or webp"),
        ("generate Smiling -o x.png", "Smiling: an attribute is given as NAME=VALUE"),
        ("generate --count 900 -o x.png", "--count 900: at most 64 faces in one request"),
        ("models --url localhost:8000", "url localhost:8000: must begin with http://"),
        ("models --url http://x --bundles y", "--bundles y: is for work in this process"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(facet, tmp_path, line, said):
    before = sorted(tmp_path.iterdir())
    status, told, error = facet(line)
    assert (status, told) == (2, "")
    assert error.startswith(f"facet {line.split()[0]}: error: {said}")
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_attribute_stops_a_folder_at_once(facet, tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        shutil.copy("framed.png", f"in/{name}.png")
    assert facet("edit in Smilng=1 -o out")[0] == 2


def test_a_service_is_used_where_one_is_named(facet, monkeypatch):
    named = []

    def connected(url, **_):
        named.append(url)
        return remote(lambda _: httpx.Response(200, json={"models": []}))

    monkeypatch.setattr(cli, "Client", connected)
    monkeypatch.setenv("FACET_URL", "http://from.environment")
    assert facet("models")[0] == 0
    assert facet("models --url http://from.argument")[0] == 0
    assert named == ["http://from.environment", "http://from.argument"]


def test_no_service_there_is_one_line_and_status_1(facet, pauses):
    status, _, said = facet("edit framed.png Smiling=1 -o x.png --url http://127.0.0.1:9")
    assert status == 1
    assert said.startswith("facet edit: error: http://127.0.0.1:9")
    assert said.count("\n") == 1


def test_a_fault_of_the_service_names_the_request_for_its_log(facet, monkeypatch):
    broken = remote(lambda _: httpx.Response(500, json={"detail": "an unexpected error", "request_id": "abc"}))
    monkeypatch.setattr(cli, "Client", lambda *_, **__: broken)
    status, _, said = facet("edit framed.png Smiling=1 -o x.png --url http://x")
    assert (status, said) == (1, "failed: framed.png: an unexpected error (status 500, request abc)\n")


def test_an_output_that_cannot_be_written_is_a_failure(facet, tmp_path):
    (tmp_path / "file").touch()
    status, _, said = facet("edit framed.png Smiling=1 -o file/x.png")
    assert status == 1
    assert said.startswith("failed: ")
    assert facet("generate -o file/x.png")[0] == 1


def test_settings_that_are_wrong_are_status_2(monkeypatch, capsys, tmp_path):
    assert cli.main(["models", "--bundles", str(tmp_path)]) == 2
    assert f"facet models: error: {tmp_path}: holds no bundle" in capsys.readouterr().err


def test_an_interrupt_is_one_line(facet, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "models", interrupted)
    assert facet("models") == (130, "", "facet models: error: interrupted\n")


def test_what_is_experimental_is_told_in_the_words_of_the_command_line():
    rule = "adding Bald to a photograph is experimental: seen on 14%; experimental=true allows it"
    errors = [{"field": "attributes.Bald", "value": 1.0, "rule": rule}]
    told = cli.described(RequestError(422, "no", errors=errors))
    assert told == "Bald=1: adding Bald to a photograph is experimental: seen on 14%; --experimental allows it"
