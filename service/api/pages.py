"""Pages for browsers: the studio at `/`, and Swagger UI at `/docs`, which describes the interface.

A page loads files of this service only, and its content security policy enforces that.
"""

from __future__ import annotations

import gzip
import mimetypes
import os
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.api import studio
from service.api.compression import accepts_gzip, packed
from service.api.security_headers import KEPT, PAGE_POLICY, of_page

PAGE = studio.PAGE
_STATIC = Path(__file__).parent / "static"
_TEXTS = (".html", ".css", ".js", ".svg")
_SUFFIXES = (".html", ".css", ".js", ".svg", ".png", ".webp")
mimetypes.add_type("image/webp", ".webp")
mimetypes.add_type("text/javascript", ".js")  # RFC 9239; Python 3.11 and some hosts have the obsolete type


class PageFiles(StaticFiles):
    """The files of one page, with the `headers` of that page."""

    def __init__(self, directory: Path, headers: dict[str, str], packages: list[tuple[str, str]] | None = None) -> None:
        super().__init__(directory=directory, packages=packages)
        self._headers = headers

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return super().lookup_path(path) if path.endswith(_SUFFIXES) else ("", None)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        if str(full_path).endswith(_TEXTS):
            response.headers["Vary"] = "Accept-Encoding"
            # Weak: a strong tag names exact bytes, which the encoding changes (RFC 9110, section 8.8.3).
            response.headers["ETag"] = f"W/{response.headers['etag']}"
            if response.status_code == 200 and accepts_gzip(Headers(scope=scope)):
                response = _compressed(str(full_path), stat_result.st_mtime_ns, response)
        response.headers.update(self._headers)
        return response

    def text_response(self, content: bytes, media_type: str, tag: str, request: Request) -> Response:
        """A text that is in no file as it is sent; `tag` changes with it."""
        headers = self._headers | {"ETag": f'W/"{tag}"', "Vary": "Accept-Encoding"}
        if self.is_not_modified(Headers({"etag": f'"{tag}"'}), request.headers):
            return Response(status_code=304, headers=headers)  # with its policy, which browsers take from here, too
        return packed(Response(content, media_type=media_type, headers=headers), request.headers, level=9)


def _compressed(path: str, changed: int, plain: Response) -> Response:
    headers = {name: value for name, value in plain.headers.items() if name != "content-length"}
    return Response(_gzipped(path, changed), headers=headers | {"content-encoding": "gzip"})


@lru_cache
def _gzipped(path: str, changed: int) -> bytes:
    """The file's bytes compressed; `changed`, its time of change, tells versions apart."""
    return gzip.compress(Path(path).read_bytes(), mtime=0)


STUDIO = PageFiles(_STATIC / "studio", of_page(PAGE_POLICY, camera="(self)"))
EDITION = studio.edition(_STATIC / "studio")  # as long as this process runs
REFERENCE = PageFiles(_STATIC / "reference", of_page(PAGE_POLICY), packages=[("fastapi_swagger", "resources")])
router = APIRouter(include_in_schema=False)


def _serve(files: PageFiles, prefix: str) -> None:
    """Route the page's files to `prefix`. A mount would serve the page at two addresses."""

    @router.api_route(f"{prefix}/{{name}}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        if name == PAGE:
            raise HTTPException(404)
        return await files.get_response(name, request.scope)


@router.api_route("/", methods=["GET", "HEAD"])
async def studio_page(request: Request) -> Response:
    return STUDIO.text_response(EDITION.page, "text/html", EDITION.version, request)


@router.api_route("/studio/{version}/{name}", methods=["GET", "HEAD"])
async def studio_file(version: str, name: str, request: Request) -> Response:
    if name == PAGE:
        raise HTTPException(404)
    if name == studio.SCRIPT:
        response = STUDIO.text_response(EDITION.script, "text/javascript", EDITION.version, request)
    else:
        response = await STUDIO.get_response(name, request.scope)
    # A page of another edition, of a replica that was upgraded before this one, gets what there is, and asks again.
    if version == EDITION.version:
        response.headers["Cache-Control"] = KEPT
    return response


@router.api_route("/docs", methods=["GET", "HEAD"])
async def reference_page(request: Request) -> Response:
    return await REFERENCE.get_response(PAGE, request.scope)


_serve(STUDIO, "/studio")
_serve(REFERENCE, "/docs")
