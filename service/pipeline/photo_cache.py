"""Photographs on their way from the search for faces to the edit: decoded once, as far as memory allows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from threading import Lock

import numpy as np
from PIL import Image

from service.faces import finder
from service.imaging import codecs, tone
from service.imaging.codecs import Photo
from service.imaging.tone import Tone

# The longest side that finding and framing faces needs.
LONGEST = 2000
# Photographs of more pixels do not stay decoded: a page sends what it shows, and it shows no more.
_LARGEST_KEPT = 1_500_000
_KEPT_VIEWS = 32  # of one photograph: frames of faces
_MOST = 64  # photographs that stay decoded
_OVERHEAD = 4096  # bytes for the objects around a decoded photograph, roughly


class DecodedPhotoCache:
    """Room for the decoded photographs of all requests, `max_pixels` together. Safe to use from many threads."""

    def __init__(self, max_pixels: int) -> None:
        self._free = max_pixels
        self._lock = Lock()

    def reserve(self, pixels: int) -> bool:
        """Whether there was room for so many pixels; they are taken until they are released."""
        with self._lock:
            if pixels > self._free:
                return False
            self._free -= pixels
            return True

    def release(self, pixels: int) -> None:
        """Give back what was reserved."""
        with self._lock:
            self._free += pixels


class SeenPhoto:
    """A decoded photograph, which nobody changes, and what edits would otherwise compute again."""

    def __init__(self, photo: Photo) -> None:
        self.photo, self.tone, self.opaque = photo, tone_of(photo), photo.opaque()
        self._views: OrderedDict[tuple[bytes, int], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def view(self, matrix: np.ndarray, side: int) -> np.ndarray:
        """As `Photograph.view`."""
        key = matrix.tobytes(), side
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
                return self._views[key]
        found = finder.view(self.opaque, matrix, side, self.opaque.size)
        with self._lock:
            self._views[key] = found
            if len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        return found

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly: Pillow has four for a pixel of three colours, and one for its transparency."""
        pixels = 4 if self.photo.alpha is None else 9
        with self._lock:
            views = sum(view.nbytes for view in self._views.values())
        return pixels * _pixels(self.photo) + views + _OVERHEAD


class SeenPhotos:
    """Photographs by the handles of those that were edited last, `max_bytes` together. Safe to use from many threads.

    Who moves a slider edits the same photograph ten times a second. A photograph is kept from `admit` to `drop` alone,
    whenever a request that is still under way would like to.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._admitted: set[str] = set()
        self._photos: OrderedDict[str, SeenPhoto] = OrderedDict()
        self._lock = Lock()

    def admit(self, handle: str) -> None:
        """From now on this handle's photograph may be kept."""
        with self._lock:
            self._admitted.add(handle)

    def drop(self, handle: str) -> None:
        """Forget this handle's photograph."""
        with self._lock:
            self._admitted.discard(handle)
            self._photos.pop(handle, None)

    def get(self, handle: str) -> SeenPhoto | None:
        """The photograph of a handle, if it is kept; it counts as used."""
        with self._lock:
            if handle in self._photos:
                self._photos.move_to_end(handle)
            return self._photos.get(handle)

    def put(self, handle: str, photo: Photo) -> SeenPhoto | None:
        """Keep an admitted handle's photograph unless it is large, at the cost of those not used for longest."""
        if _pixels(photo) > _LARGEST_KEPT:
            return None
        seen = SeenPhoto(photo)
        with self._lock:
            if handle not in self._admitted or seen.size > self._max_bytes:
                return None
            self._photos[handle] = seen
            self._photos.move_to_end(handle)
            while len(self._photos) > _MOST or sum(each.size for each in self._photos.values()) > self._max_bytes:
                self._photos.popitem(last=False)
        return seen


def tone_of(photo: Photo) -> Tone | None:
    """What an edit of the photograph has to keep: the tone of a monochrome one."""
    return tone.GREY if photo.greyscale else tone.tone_of(photo.image)


def _pixels(photo: Photo) -> int:
    return photo.image.width * photo.image.height


class Photograph:
    """The photograph of one request, encoded as `data`, of at most `max_pixels`.

    With a `photo_cache` it stays decoded from the search until it is edited, if there is room for it; unlike their
    files, decoded photographs would pile up while they wait. It is closed when the request is over. One that the
    request named by its `handle` stays decoded among `seen` for the next request.
    """

    def __init__(
        self,
        data: bytes,
        max_pixels: int,
        photo_cache: DecodedPhotoCache | None = None,
        seen: SeenPhotos | None = None,
        handle: str | None = None,
    ) -> None:
        self.data = data
        self._max_pixels, self._cache = max_pixels, photo_cache
        self._all_seen, self._handle = seen, handle
        self._seen = seen.get(handle) if seen and handle else None
        self._decoded: Photo | None = None
        self._reserved, self._closed = 0, False
        self._lock = Lock()

    def preview(self) -> tuple[Image.Image, tuple[int, int]]:
        """The picture to look for faces in, RGB and upright, maybe smaller; and the width and height of the whole.

        Raises ImageErrors.
        """
        if self._seen is None:
            if self._cache is None or not self._room(self._cache):
                return codecs.decode_preview(self.data, self._max_pixels, LONGEST)
            decoded = self._decode()
            if self._seen is None:
                with self._lock:
                    self._decoded = None if self._closed else decoded
                return decoded.opaque(), decoded.image.size
        return self._seen.opaque, self._seen.opaque.size

    def view(self, preview: Image.Image, matrix: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
        """A frame of the photograph, uint8 [side, side, 3]; the other arguments are those of `finder.view`."""
        return finder.view(preview, matrix, side, size) if self._seen is None else self._seen.view(matrix, side)

    def whole(self) -> tuple[Photo, Tone | None]:
        """The decoded photograph, which is the caller's to change, and its tone. Raises ImageErrors."""
        with self._lock:
            decoded, self._decoded = self._decoded, None
        if self._seen is None:
            decoded = decoded or self._decode()
        if self._seen is None:
            return decoded, tone_of(decoded)
        photo = self._seen.photo
        return replace(photo, image=photo.image.copy()), self._seen.tone

    def close(self) -> None:
        """Release the decoded picture; a thread that is still decoding keeps nothing."""
        with self._lock:
            self._closed, self._decoded = True, None
            reserved, self._reserved = self._reserved, 0
        if self._cache:
            self._cache.release(reserved)

    def _decode(self) -> Photo:
        """The whole photograph, which nobody may change if it is `seen` now."""
        decoded = codecs.decode_photo(self.data, self._max_pixels)
        if self._all_seen and self._handle:
            self._seen = self._all_seen.put(self._handle, decoded)
        return decoded

    def _room(self, photo_cache: DecodedPhotoCache) -> bool:
        width, height = codecs.size_of(self.data, self._max_pixels)
        with self._lock:
            if self._closed or not photo_cache.reserve(width * height):
                return False
            self._reserved = width * height
            return True
