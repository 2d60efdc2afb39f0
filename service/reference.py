"""The interface as a page to try it on, at /docs: Swagger UI, from a package, so that no other server is asked."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service import assets
from service.assets import Asset
from service.headers import PAGE_POLICY, of_page
from service.problems import Problem

PAGE = "index.html"
_DIRECTORY = Path(__file__).parent / "reference_page"
_HEADERS = of_page(PAGE_POLICY)
router = APIRouter(include_in_schema=False)


@cache  # 2 MB, which few services ever need
def load() -> dict[str, Asset]:
    """The page's files by name."""
    with resources.as_file(resources.files("fastapi_swagger") / "resources") as bundled:
        return assets.load(bundled) | assets.load(_DIRECTORY)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    return assets.answer(request, load()[PAGE], _HEADERS)


@router.api_route("/docs/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    if name not in load() or name == PAGE:
        raise Problem(404, "the documentation has no such file")
    return assets.answer(request, load()[name], _HEADERS)
