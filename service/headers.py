"""Headers that tell a browser what it must not make of an answer."""

from __future__ import annotations

from collections.abc import Mapping

# An answer opened in a browser runs nothing, is no part of another page, and is not kept: it may show somebody.
_DEFAULTS = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
# A page of the service loads its own files and calls the service.
PAGE_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}


def complete(headers: list[tuple[bytes, bytes]]) -> None:
    """Add what an answer lacks, in place. Names are in lower case, as ASGI has them."""
    present = {name for name, _ in headers}
    headers += [default for default in _DEFAULTS if default[0] not in present]


def of_page(policy: Mapping[str, str], camera: str = "()") -> dict[str, str]:
    """For a page with this content security policy, and for its files."""
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": f"camera={camera}, microphone=(), geolocation=(), display-capture=(), payment=(), usb=()",
        # Asked for again each time, which costs a 304: after an upgrade the old page would talk to the new service.
        "Cache-Control": "no-cache",
    }
