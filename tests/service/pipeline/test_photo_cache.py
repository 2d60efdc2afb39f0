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
from service.imaging.codecs import Photo
from service.pipeline.photo_cache import DecodedPhotoCache, Photograph
from service.pipeline.seen_photos import SeenPhoto, SeenPhotos

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


def admitting(*handles: str, max_bytes: int = 10**6) -> SeenPhotos:
    seen = SeenPhotos(max_bytes)
    for handle in handles or ("handle",):
        seen.admit(handle)
    return seen


def seen_photograph(seen: SeenPhotos, **file) -> Photograph:
    return Photograph(encoded(**{"kind": "PNG"} | file), LIMIT, DecodedPhotoCache(LIMIT), seen, "handle")


def test_a_photograph_that_is_named_again_is_decoded_and_framed_once(decodings, monkeypatch):
    views, sample = [], finder.view
    monkeypatch.setattr(finder, "view", lambda *given: views.append(1) or sample(*given))
    seen, matrix = admitting(), np.array([[2.0, 0, 3], [0, 2.0, 4]])
    found = []
    for _ in range(3):
        photograph = seen_photograph(seen)
        picture, size = photograph.preview()
        found.append(photograph.view(picture, matrix, 8, size))
        photograph.close()
    assert len(decodings) == len(views) == 1
    assert np.array_equal(found[0], sample(codecs.decode(encoded("PNG"), LIMIT), matrix, 8, (WIDTH, HEIGHT)))
    assert all(each is found[0] for each in found)


def test_one_that_is_decoded_only_to_be_edited_is_kept_as_well(decodings):
    """As where the latent cache knows its face already."""
    seen = admitting()
    for _ in range(2):
        seen_photograph(seen).whole()
    assert len(decodings) == 1


@pytest.mark.parametrize("file", [{}, {"mode": "RGBA"}, {"kind": "JPEG", "orientation": 6}], ids=repr)
def test_edits_of_a_photograph_do_not_reach_the_next_request(file):
    seen, expected = admitting(), codecs.decode_photo(encoded(**{"kind": "PNG"} | file), LIMIT)
    first, second = seen_photograph(seen, **file), seen_photograph(seen, **file)
    first.preview()
    whole = first.whole()
    whole.image.paste("red", (0, 0, *whole.image.size))
    for photograph in (second, seen_photograph(seen, **file)):
        picture, size = photograph.preview()
        assert np.array_equal(np.asarray(picture), np.asarray(expected.opaque()))
        assert size == expected.image.size
        assert np.array_equal(np.asarray(photograph.whole().image), np.asarray(expected.image))


def test_a_grey_photograph_that_is_named_again_stays_grey():
    seen = admitting()
    for _ in range(2):
        photograph = seen_photograph(seen, mode="L")
        photograph.preview()
        assert photograph.tone(photograph.whole()) is tone.GREY


def test_photographs_that_were_not_used_for_longest_make_room():
    photo = codecs.decode_photo(encoded(), LIMIT)
    seen = admitting("old", "used", "new", max_bytes=2 * SeenPhoto(photo).size)
    seen.put("old", photo)
    seen.put("used", photo)
    assert seen.get("old")
    seen.put("new", photo)
    assert [handle for handle in ("old", "used", "new") if seen.get(handle)] == ["old", "new"]


def test_their_views_count_as_well():
    photo = codecs.decode_photo(encoded(), LIMIT)
    seen = admitting("one", "other", max_bytes=2 * SeenPhoto(photo).size)
    seen.put("one", photo).view(np.eye(2, 3), 8)
    seen.put("other", photo)
    assert seen.get("one") is None


def test_a_photograph_that_was_dropped_meanwhile_is_not_kept():
    seen, photo = admitting(), codecs.decode_photo(encoded(), LIMIT)
    seen.put("handle", photo)
    seen.drop("handle")
    assert seen.get("handle") is None
    assert seen.put("handle", photo) is None
    assert seen.get("handle") is None


@pytest.mark.parametrize(("width", "kept"), [(1500, True), (1501, False)])
def test_a_large_photograph_does_not_stay_decoded(width, kept):
    seen = admitting(max_bytes=10**8)
    seen.put("handle", Photo(Image.new("RGB", (width, 1000)), None, None))
    assert (seen.get("handle") is not None) == kept


def test_there_may_be_no_room_at_all(decodings):
    seen = admitting(max_bytes=0)
    for _ in range(2):
        photograph = seen_photograph(seen)
        photograph.preview()
        photograph.whole()
    assert len(decodings) == 2
