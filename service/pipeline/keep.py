"""Keep: a photograph that later requests name by a handle."""

from __future__ import annotations

from service.imaging import codecs
from service.pipeline.finding import required
from service.pipeline.pipeline import Pipeline


def keep_photo(pipeline: Pipeline, picture: bytes | None) -> str:
    """Keep an encoded picture; returns its handle. Only its header is read.

    Raises ImageErrors, and a Problem: 404 where this service keeps none, 413 for more bytes than it keeps.
    """
    codecs.size_of(required(picture), pipeline.settings.max_image_pixels)
    return pipeline.photos.put(picture)
