"""Files of pages: read once, and sent again only when they have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response

_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


@dataclass(frozen=True)
class Asset:
    """One file of a page."""

    data: bytes
    media_type: str
    etag: str


def load(directory: Path) -> dict[str, Asset]:
    """The files of a directory that a page can use, by name."""
    return {path.name: _read(path) for path in sorted(directory.iterdir()) if path.suffix in _MEDIA_TYPES}


def answer(request: Request, wanted: Asset, headers: Mapping[str, str]) -> Response:
    """The file with these headers, or 304 where the client has it already."""
    headers = {**headers, "ETag": wanted.etag}
    if _is_known(request.headers.get("if-none-match", ""), wanted.etag):
        return Response(status_code=304, headers=headers)
    return Response(wanted.data, headers=headers, media_type=wanted.media_type)


def _read(path: Path) -> Asset:
    data = path.read_bytes()
    return Asset(data, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def _is_known(if_none_match: str, etag: str) -> bool:
    """Whether the client has it already (RFC 9110, section 13.1.2: weak tags count, as proxies make them)."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
