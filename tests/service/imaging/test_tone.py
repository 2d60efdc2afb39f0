"""A monochrome photograph is told from one with colours, and its edits keep to its colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.imaging.compositing import FieldEdit, composite
from service.imaging.paste import DrawnEdit
from service.imaging.tone import GREY, tone_of
from tests.service.imaging.test_compositing import blob, fields
from tests.service.imaging.test_paste import SIZE, transform

_SEPIA = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)


def shades() -> Image.Image:
    """Smooth shades from black to white, L, 400 x 300 pixels."""
    rows, columns = np.mgrid[:300, :400]
    return Image.fromarray((127.5 + 127.4 * np.sin(rows / 40) * np.cos(columns / 55)).astype(np.uint8))


def stored(image: Image.Image, kind: str, **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


TONED = {
    "sepia": ImageOps.colorize(shades(), "#201008", "#fff0c8"),
    "sepia filter": shades().convert("RGB").convert("RGB", _SEPIA),
    "cyanotype": ImageOps.colorize(shades(), "#001830", "#d8f0ff"),
}
GREYS = {
    "equal channels": shades().convert("RGB"),
    "lossy WebP": stored(shades().convert("RGB"), "WEBP", quality=80),
    "flat": Image.new("RGB", (50, 40), (90, 90, 90)),
}


@pytest.mark.parametrize("name", GREYS)
def test_a_grey_photograph_is_told(name: str):
    assert tone_of(GREYS[name]) is GREY


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("name", TONED)
def test_a_toned_photograph_is_told(name: str, quality: int):
    tone = tone_of(stored(TONED[name], "JPEG", quality=quality))
    assert tone is not None
    assert tone.colours is not None


def test_a_spot_of_colour_is_no_colour():
    spotted = shades().convert("RGB")
    spotted.putpixel((201, 150), (255, 0, 0))
    assert tone_of(spotted) is not None


def test_colours_are_none():
    striped = shades().convert("RGB")
    striped.paste((200, 140, 120), (0, 0, 60, 300))
    for picture in (striped, Image.new("RGB", (50, 40), (200, 140, 120)), Image.new("RGB", (1, 1), "red")):
        assert tone_of(picture) is None


@pytest.mark.parametrize("kind", ["fields", "drawn"])
@pytest.mark.parametrize("name", TONED)
def test_an_edit_keeps_the_tone_and_all_that_it_does_not_touch(name: str, kind: str):
    photo = TONED[name]
    coloured = fields(blob(), 0.2)
    coloured.residual[:, :, 0] = 0.4
    before, after = (np.full((SIZE, SIZE, 3), colour, np.uint8) for colour in ((90, 90, 90), (190, 90, 60)))
    edit = FieldEdit(transform(), coloured) if kind == "fields" else DrawnEdit(transform(), before, after)
    plain, kept, flat = photo.copy(), photo.copy(), Image.new("RGB", photo.size, (100, 100, 100))
    edit.onto(plain)
    edit.onto(kept, tone_of(photo))
    edit.onto(flat)
    changed = (np.asarray(kept) != np.asarray(photo)).any(axis=2)
    assert changed.any()
    assert not changed[(np.asarray(flat) == 100).all(axis=2)].any()
    # The colours after it are those that the photograph has at the same brightness.
    assert farthest(kept, photo) <= 6 < farthest(plain, photo)


def farthest(edited: Image.Image, photo: Image.Image) -> int:
    """The largest difference in levels between a pixel and the nearest colour of the photograph."""
    known = np.unique(np.asarray(photo).reshape(-1, 3), axis=0).astype(np.int16)
    found = np.unique(np.asarray(edited).reshape(-1, 3), axis=0).astype(np.int16)
    return max(int(np.abs(known - colour).max(axis=1).min()) for colour in found)


def test_of_a_nearly_grey_photograph_channels_stay_nearly_equal():
    photo = GREYS["lossy WebP"]
    coloured = fields(blob(), 0.2)
    coloured.residual[:, :, 0] = 0.4
    edited = np.asarray(composite(photo, [FieldEdit(transform(), coloured)], tone_of(photo)))
    assert np.ptp(edited, axis=2).max() <= 2
