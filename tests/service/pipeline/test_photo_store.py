"""Photographs that are kept for a while: how much, how long, and under which names."""

from __future__ import annotations

import pytest
from PIL import Image

from service.errors import Problem
from service.imaging.codecs import Photo
from service.pipeline.photo_store import PhotoStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def status_of(store: PhotoStore, handle: str, picture: bytes | None = None) -> int:
    with pytest.raises(Problem) as caught:
        store.picture(handle, picture)
    return caught.value.status


def test_a_handle_stands_for_its_picture_and_equal_pictures_share_one():
    store = PhotoStore(100, 60)
    first, second = store.put(b"first"), store.put(b"second")
    assert store.put(b"first") == first != second
    assert (store.picture(first, None), store.picture(second, None)) == (b"first", b"second")
    assert store.picture(None, b"sent") == b"sent"
    assert store.picture(None, None) is None


def test_the_handle_of_a_known_picture_cannot_be_guessed():
    assert PhotoStore(100, 60).put(b"known") != PhotoStore(100, 60).put(b"known")


def test_the_least_recently_used_makes_room():
    store = PhotoStore(10, 60)
    old, used = store.put(b"aaaa"), store.put(b"bbbb")
    assert store.picture(old, None) == b"aaaa"
    new = store.put(b"cccc")
    assert status_of(store, used) == 410
    assert (store.picture(old, None), store.picture(new, None)) == (b"aaaa", b"cccc")
    assert store.put(b"cccc") == new  # again, which takes no more room
    assert store.picture(old, None) == b"aaaa"


def test_a_picture_goes_when_it_was_not_used_for_long():
    clock = Clock()
    store = PhotoStore(100, 60, clock)
    handle = store.put(b"photo")
    clock.now = 50
    assert store.picture(handle, None) == b"photo"
    clock.now = 109
    assert store.picture(handle, None) == b"photo"
    clock.now = 170
    assert status_of(store, handle) == 410
    assert status_of(store, "never") == 410


def test_a_picture_and_a_handle_at_once_are_refused():
    store = PhotoStore(100, 60)
    assert status_of(store, store.put(b"photo"), b"another") == 422


@pytest.mark.parametrize(("room", "status"), [(0, 404), (4, 413)])
def test_what_cannot_be_kept_is_refused(room: int, status: int):
    with pytest.raises(Problem) as caught:
        PhotoStore(room, 60).put(b"photo")
    assert caught.value.status == status


def test_what_is_no_longer_kept_is_no_longer_decoded_either():
    clock = Clock()
    store = PhotoStore(100, 60, clock, decoded_bytes=10**6)
    handle = store.put(b"photo")
    store.seen.put(handle, Photo(Image.new("RGB", (4, 4)), None, None))
    assert store.seen.get(handle)
    clock.now = 61
    assert status_of(store, handle) == 410
    assert store.seen.get(handle) is None
