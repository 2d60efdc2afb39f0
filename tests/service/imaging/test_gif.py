"""GIF: what is read, and what is refused before it costs anything."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.errors import BrokenImageError
from service.imaging import codecs
from tests.service.fakes import encoded
from tests.service.imaging.samples import LIMIT, PICTURE, decoded

GIF = encoded(PICTURE, "GIF")

FRAME = GIF.index(b",", 13 + 3 * 256)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "blocks",
    [b"!\xfe" + b"\1x" * 30_000 + b"\0", b"!\xfe\0" * 30_000, b"!\xff\x0bNETSCAPE2.0" + b"\1\0" * 30_000 + b"\0"],
)
def test_blocks_without_end_before_a_frame_are_refused(blocks: bytes):
    with pytest.raises(BrokenImageError, match="more than 20000 blocks"):
        codecs.decode(GIF[:FRAME] + blocks + GIF[FRAME:], LIMIT)


@pytest.mark.parametrize("blocks", [b"!\xfe" + (b"\xff" + bytes(255)) * 5000 + b"\0", b"!\xfe\5hello\0" * 100])
def test_comments_reach_no_parser(blocks: bytes):
    data = GIF[:FRAME] + blocks + GIF[FRAME:]
    assert np.array_equal(decoded(data), decoded(GIF))


def test_what_is_transparent_in_a_gif_is_known_still():
    image = Image.new("P", (9, 9), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    data = encoded(image, "GIF", transparency=1, comment=b"hello")
    assert (decoded(data) == 255).all()


@pytest.mark.parametrize("data", [GIF[:12], GIF[:FRAME], GIF[:FRAME] + b";", GIF[:FRAME] + b"!\xfe\5he", b"GIF89a"])
def test_a_gif_without_a_frame_is_broken(data: bytes):
    with pytest.raises(BrokenImageError):
        codecs.decode(data, LIMIT)
