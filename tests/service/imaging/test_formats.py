"""The format of a response for each format of an upload."""

from __future__ import annotations

import pytest

from service.imaging import codecs
from tests.service.fakes import encoded
from tests.service.imaging.samples import PICTURE, SMOOTH, avif, translucent


@pytest.mark.parametrize(
    ("kind", "options", "answered"),
    [
        ("JPEG", {}, "jpeg"), ("PNG", {}, "png"), ("WEBP", {}, "webp"), ("GIF", {}, "png"), ("BMP", {}, "png"),
        ("TIFF", {}, "png"), ("AVIF", {}, "jpeg"),
    ],
)  # fmt: skip
def test_the_format_of_a_response(kind: str, options: dict, answered: str):
    assert codecs.format_of(encoded(PICTURE, kind, **options)) == answered
    assert codecs.kind_of(encoded(PICTURE, kind, **options)) == kind


def test_transparency_of_an_avif_is_not_lost():
    assert codecs.format_of(avif(translucent(SMOOTH))) == "png"
