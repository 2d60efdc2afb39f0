"""Content negotiation: the media type of pictures in a response (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from service.errors import Problem

Representation = Literal["png", "jpeg", "webp", "gif", "zip", "json"]

MEDIA_TYPES: dict[Representation, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "zip": "application/zip",
    "json": "application/json",
}
# Names that clients use, though none of them is registered.
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
# The representations of each kind of response, in order of the server's preference, for ties and wildcards.
PICTURE: tuple[Representation, ...] = ("png", "jpeg", "webp", "json")
ANIMATION: tuple[Representation, ...] = ("webp", "gif", "json")
ARCHIVE: tuple[Representation, ...] = ("zip", "json")


@lru_cache(maxsize=256)
def choose(accept: str, offered: tuple[Representation, ...] = PICTURE) -> tuple[Representation, ...]:
    """The representations with the highest quality in an `Accept` header, as `offered` orders them.

    An empty header accepts all. Raises a 406 Problem where none is accepted.
    """
    ranges = [_parse(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    qualities = {name: _quality(MEDIA_TYPES[name], ranges) for name in offered}
    highest = max(qualities.values())
    if highest <= 0:
        listed = ", ".join(MEDIA_TYPES[name] for name in offered)
        error = {"field": "Accept", "value": accept[:200], "rule": f"must accept one of {listed}"}
        raise Problem(406, f"Accept {accept[:200]!r} allows none of {listed}", [error])
    return tuple(name for name, quality in qualities.items() if quality == highest)


def _parse(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    media_range = _ALIASES.get(media_range, media_range)
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return media_range, min(1.0, max(0.0, float(value)))
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """The quality of the most specific range that matches."""
    specificity = {media_type: 2, f"{media_type.partition('/')[0]}/*": 1, "*/*": 0}
    matches = [(specificity[media_range], quality) for media_range, quality in ranges if media_range in specificity]
    return max(matches)[1] if matches else 0.0
