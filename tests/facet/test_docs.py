"""What docs/client.md and the README print about the client must work as printed."""

from __future__ import annotations

import re
import shlex

import pytest

import facet
from facet import AsyncClient, Client, calls, cli
from tests.facet.conftest import ROOT

CLIENT = (ROOT / "docs/client.md").read_text()
README = (ROOT / "README.md").read_text()
SERVER = re.compile(r'Client\("http://127\.0\.0\.1:8000"(?:, timeout=\d+)?(?:, )?')


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^facet .*$", page, flags=re.MULTILINE)]


@pytest.fixture
def folder(photo, local, monkeypatch):
    """A folder with what the examples use."""
    monkeypatch.chdir(photo.parent)
    (photo.parent / "photos").mkdir()
    (photo.parent / "photos/one.jpg").write_bytes(photo.read_bytes())
    local.generate({"Smiling": -1}, seed=5).save("face.png")
    return photo.parent


@pytest.mark.parametrize("block", [*blocks(CLIENT), *blocks(README)])
@pytest.mark.slow
def test_programs_run_as_printed(folder, block, capsys):
    exec(compile(SERVER.sub("Client.local(", block), "client.md", "exec"), {"__name__": "example"})
    if "Smilng" in block:
        assert "did you mean Smiling?" in capsys.readouterr().out


@pytest.mark.slow
def test_commands_run_as_printed(folder, local, monkeypatch):
    monkeypatch.setattr(Client, "local", lambda *_, **__: local)
    monkeypatch.setattr(Client, "close", lambda _: None)
    lines = [*commands(CLIENT), *commands(README)]
    assert {line[0] for line in lines} == {"edit", "sweep", "generate", "encode", "models"}
    assert [cli.main(line) for line in lines] == [0] * len(lines)


def test_every_error_and_every_call_is_described():
    errors = [
        name for name in facet.__all__ if isinstance(k := getattr(facet, name), type) and issubclass(k, Exception)
    ]
    assert [name for name in errors if f"`{name}`" not in CLIENT] == []
    calls_made = [name for name in vars(AsyncClient) if name[0] != "_" and name in vars(calls)]
    assert len(calls_made) == 7
    assert [name for name in calls_made if f"`{name}(" not in CLIENT] == []
