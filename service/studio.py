"""The studio: one page that edits faces in the browser, and the files it is made of.

They are read once, when the service starts. The page loads nothing from anywhere else, and its headers see to it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.problems import Problem

PAGE = "index.html"
_DIRECTORY = Path(__file__).parent / "studio_page"
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Asked for again each time, which costs a 304: after an upgrade the old page would talk to the new service.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    data: bytes
    media_type: str
    etag: str


def load(directory: Path = _DIRECTORY) -> dict[str, Asset]:
    """The page's files by name."""
    return {path.name: _read(path) for path in sorted(directory.iterdir()) if path.suffix in _MEDIA_TYPES}


def _read(path: Path) -> Asset:
    data = path.read_bytes()
    return Asset(data, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')


_ASSETS = load()
router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    return _answer(request, _ASSETS[PAGE])


@router.api_route("/studio/{name}", methods=["GET", "HEAD"])
async def asset(name: str, request: Request) -> Response:
    if name not in _ASSETS or name == PAGE:
        raise Problem(404, "the studio has no such file")
    return _answer(request, _ASSETS[name])


def _answer(request: Request, wanted: Asset) -> Response:
    headers = _HEADERS | {"ETag": wanted.etag}
    if _is_known(request.headers.get("if-none-match", ""), wanted.etag):
        return Response(status_code=304, headers=headers)
    return Response(wanted.data, headers=headers, media_type=wanted.media_type)


def _is_known(if_none_match: str, etag: str) -> bool:
    """Whether the client has it already (RFC 9110, section 13.1.2: weak tags count, as proxies make them)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
