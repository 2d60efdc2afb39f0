"""How much one request may have drawn."""

from __future__ import annotations

from service.errors import invalid
from service.settings import Settings


def check_count(settings: Settings, field: str, count: int) -> None:
    """Raises a 422 Problem for more faces than one request may have drawn."""
    if count > settings.max_count:
        raise invalid(field, count, f"at most {settings.max_count} faces in one request")


def check_pixels(settings: Settings, count: int, size: int) -> None:
    """Raises a 422 Problem for `count` pictures with a side of `size` that have more pixels than an upload may."""
    if count * size**2 > settings.max_image_pixels:
        raise invalid("size", size, f"{count} pictures of that size are too many pixels")
