"""The page at /docs shows the interface, and loads nothing from anywhere else."""

from __future__ import annotations

import re

import pytest

from service import reference
from tests.service import fakes
from tests.service.fakes import TestClient


def test_everything_that_the_page_names_is_there(client: TestClient):
    page = client.get("/docs").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/start.js", "openapi.json"} <= set(named)
    for path in named:
        assert client.get(f"/{path}").status_code == 200


def test_nobody_else_is_mentioned_and_nothing_is_inline():
    page = reference.load()[reference.PAGE].data.decode()
    assert not re.findall(r"//[\w-]+\.|<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)
    start = reference.load()["start.js"].data.decode()
    assert "validatorUrl: null" in start
    assert "http" not in start


def test_the_library_is_a_current_one():
    assert b"SwaggerUIBundle" in reference.load()["swagger-ui-bundle.js"].data


@pytest.mark.parametrize("path", ["/docs/index.html", "/docs/nothing.js", "/redoc"])
def test_nothing_else_is_served(client: TestClient, path: str):
    fakes.problem(client.get(path), 404)
