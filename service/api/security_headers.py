"""Security headers of all responses: content security policy, caching, referrers."""

from __future__ import annotations

from collections.abc import Mapping

# A response that is opened in a browser runs no scripts, is not embedded and not cached, since it may show a person.
_DEFAULTS = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
# Pages of the service load their own files and call the service.
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
# Of files whose address names their contents: another edition has another address.
KEPT = "public, max-age=31536000, immutable"


def complete(headers: list[tuple[bytes, bytes]]) -> None:
    """Add the missing headers of a response, in place. Names are in lower case, as in ASGI."""
    present = {name for name, _ in headers}
    headers += [default for default in _DEFAULTS if default[0] not in present]


def of_page(policy: Mapping[str, str], camera: str = "()") -> dict[str, str]:
    """The headers of a page with this content security policy, and of its files."""
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": f"camera={camera}, microphone=(), geolocation=(), display-capture=(), payment=(), usb=()",
        # Browsers revalidate each time, which costs a 304. Else an old page would call the service after an upgrade.
        "Cache-Control": "no-cache",
    }
