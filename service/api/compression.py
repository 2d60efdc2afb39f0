"""Compressed texts for clients that accept gzip (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

from starlette.responses import Response

_SMALLEST = 1_000  # bytes; below, a packet is a packet


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether an `Accept-Encoding` header names gzip, without a quality of zero."""
    for part in headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.replace(" ", "").partition(";q=")
        if name == "gzip":
            return quality.rstrip("0.") != "" or not quality
    return False


def packed(response: Response, headers: Mapping[str, str], level: int = 1) -> Response:
    """The response compressed in place, if the request's `headers` accept that and its body is worth it."""
    response.headers["Vary"] = "Accept-Encoding"
    if len(response.body) >= _SMALLEST and accepts_gzip(headers):
        response.body = gzip.compress(bytes(response.body), level, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response
