"""The studio: one page that edits faces in the browser, and the files it is made of.

They are read once, when the service starts. The page loads nothing from anywhere else, and its headers see to it.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service import assets
from service.assets import Asset
from service.headers import PAGE_POLICY, of_page
from service.problems import Problem

PAGE = "index.html"
_DIRECTORY = Path(__file__).parent / "studio_page"
_HEADERS = of_page(PAGE_POLICY, camera="(self)")


def load(directory: Path = _DIRECTORY) -> dict[str, Asset]:
    """The page's files by name."""
    return assets.load(directory)


_ASSETS = load()
router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    return assets.answer(request, _ASSETS[PAGE], _HEADERS)


@router.api_route("/studio/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    if name not in _ASSETS or name == PAGE:
        raise Problem(404, "the studio has no such file")
    return assets.answer(request, _ASSETS[name], _HEADERS)
