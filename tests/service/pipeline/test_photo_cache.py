"""A photograph is decoded once where there is room, and again where there is none."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from service.errors import BrokenImageError
from service.faces import finder
from service.imaging import codecs, tone
from service.pipeline.photo_cache import DecodedPhotoCache, Photograph, SeenPhotos

WIDTH, HEIGHT = 48, 32
LIMIT = 10 * WIDTH * HEIGHT


def encoded(kind: str = "JPEG", mode: str = "RGB", orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, len(mode)), dtype=np.uint8).squeeze()
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
    assert photograph.whole()[0].image is picture
    assert len(decodings) == 1


@pytest.mark.parametrize("photo_cache", [None, DecodedPhotoCache(WIDTH * HEIGHT - 1)])
def test_without_room_it_is_decoded_when_it_is_edited(decodings, photo_cache):
    photograph = Photograph(encoded(), LIMIT, photo_cache)
    picture, size = photograph.preview()
    assert (decodings, size) == ([], (WIDTH, HEIGHT))
    whole = photograph.whole()[0].image
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


def seen_photograph(seen: SeenPhotos, handle: str = "handle", mode: str = "RGB") -> Photograph:
    return Photograph(encoded("PNG", mode), LIMIT, DecodedPhotoCache(LIMIT), seen, handle)


def test_a_photograph_that_is_named_again_is_decoded_and_framed_once(decodings, monkeypatch):
    views, sample = [], finder.view
    monkeypatch.setattr(finder, "view", lambda *given: views.append(1) or sample(*given))
    seen, matrix = SeenPhotos(LIMIT), np.array([[2.0, 0, 3], [0, 2.0, 4]])
    found = []
    for _ in range(3):
        photograph = seen_photograph(seen)
        picture, size = photograph.preview()
        found.append(photograph.view(picture, matrix, 8, size))
        photograph.close()
    assert len(decodings) == len(views) == 1
    assert np.array_equal(found[0], sample(codecs.decode(encoded("PNG"), LIMIT), matrix, 8, (WIDTH, HEIGHT)))
    assert all(each is found[0] for each in found)


def test_edits_of_a_photograph_do_not_reach_the_next_request():
    seen = SeenPhotos(LIMIT)
    first, second = seen_photograph(seen), seen_photograph(seen)
    first.preview()
    whole, _ = first.whole()
    whole.image.paste("red", (0, 0, WIDTH, HEIGHT))
    for photograph in (second, seen_photograph(seen)):
        photograph.preview()
        assert np.array_equal(np.asarray(photograph.whole()[0].image), np.asarray(codecs.decode(encoded("PNG"), LIMIT)))


def test_a_grey_photograph_that_is_named_again_stays_grey():
    seen = SeenPhotos(LIMIT)
    for _ in range(2):
        photograph = seen_photograph(seen, mode="L")
        photograph.preview()
        assert photograph.whole()[1] is tone.GREY


def test_photographs_that_were_not_used_for_longest_make_room():
    seen, photo = SeenPhotos(2 * WIDTH * HEIGHT), codecs.decode_photo(encoded(), LIMIT)
    seen.put("old", photo)
    seen.put("used", photo)
    assert seen.get("old")
    seen.put("new", photo)
    assert seen.get("used") is None
    assert seen.get("old")
    assert seen.get("new")
    seen.drop("new")
    seen.drop("new")
    assert seen.get("new") is None


def test_a_large_photograph_does_not_stay_decoded(decodings):
    seen = SeenPhotos(WIDTH * HEIGHT - 1)
    for _ in range(2):
        photograph = seen_photograph(seen)
        photograph.preview()
        photograph.whole()
    assert len(decodings) == 2
    assert seen.get("handle") is None
