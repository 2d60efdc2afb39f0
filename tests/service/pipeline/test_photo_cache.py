"""A photograph is decoded once where there is room, and again where there is none."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from service.errors import BrokenImageError
from service.imaging import codecs
from service.pipeline.photo_cache import DecodedPhotoCache, Photograph

WIDTH, HEIGHT = 48, 32
LIMIT = 10 * WIDTH * HEIGHT


def encoded(kind: str = "JPEG", mode: str = "RGB", orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, len(mode)), dtype=np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels, mode).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.fixture
def decodings(monkeypatch):
    """How often a whole photograph was decoded."""
    counted, decode = [], codecs.decode_photo
    monkeypatch.setattr(codecs, "decode_photo", lambda *given: counted.append(1) or decode(*given))
    return counted


def test_what_was_searched_is_what_is_edited(decodings):
    photograph = Photograph(encoded(), LIMIT, DecodedPhotoCache(WIDTH * HEIGHT))
    picture, size = photograph.preview()
    assert size == picture.size == (WIDTH, HEIGHT)
    assert photograph.whole().image is picture
    assert len(decodings) == 1


@pytest.mark.parametrize("photo_cache", [None, DecodedPhotoCache(WIDTH * HEIGHT - 1)])
def test_without_room_it_is_decoded_when_it_is_edited(decodings, photo_cache):
    photograph = Photograph(encoded(), LIMIT, photo_cache)
    picture, size = photograph.preview()
    assert (decodings, size) == ([], (WIDTH, HEIGHT))
    whole = photograph.whole().image
    assert np.array_equal(np.asarray(whole), np.asarray(codecs.decode(encoded(), LIMIT)))
    assert whole is not picture


def test_room_is_given_back_when_a_request_is_over(decodings):
    photo_cache = DecodedPhotoCache(WIDTH * HEIGHT)
    first, second, third = (Photograph(encoded(), LIMIT, photo_cache) for _ in range(3))
    first.preview()
    second.preview()
    assert len(decodings) == 1
    first.close()
    first.close()
    third.preview()
    assert len(decodings) == 2
    second.close()
    assert not photo_cache.reserve(1)
    third.close()
    assert photo_cache.reserve(WIDTH * HEIGHT)
    assert not photo_cache.reserve(1)


def test_a_request_that_ends_while_its_photograph_is_decoded_leaves_nothing_behind(monkeypatch):
    photo_cache, decode = DecodedPhotoCache(WIDTH * HEIGHT), codecs.decode_photo
    photograph = Photograph(encoded(), LIMIT, photo_cache)
    begun, ended = threading.Event(), threading.Event()

    def slow(*given):
        begun.set()
        ended.wait(10)
        return decode(*given)

    monkeypatch.setattr(codecs, "decode_photo", slow)
    thread = threading.Thread(target=photograph.preview)
    thread.start()
    assert begun.wait(10)
    photograph.close()
    ended.set()
    thread.join()
    assert photo_cache.reserve(WIDTH * HEIGHT)
    assert photograph._decoded is None


def test_a_broken_photograph_gives_its_room_back_when_it_is_closed():
    photo_cache = DecodedPhotoCache(WIDTH * HEIGHT)
    photograph = Photograph(encoded()[:-200], LIMIT, photo_cache)
    with pytest.raises(BrokenImageError):
        photograph.preview()
    photograph.close()
    assert photo_cache.reserve(WIDTH * HEIGHT)


@pytest.mark.parametrize("photo_cache", [None, DecodedPhotoCache(LIMIT)])
@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("JPEG", "RGB"), ("PNG", "RGB")])
def test_faces_are_looked_for_in_the_picture_as_it_is_seen(photo_cache, kind, mode):
    data = encoded(kind, mode, orientation=6)
    picture, size = Photograph(data, LIMIT, photo_cache).preview()
    seen = codecs.decode(data, LIMIT)
    assert size == seen.size == (HEIGHT, WIDTH)
    assert np.array_equal(np.asarray(picture), np.asarray(seen))
