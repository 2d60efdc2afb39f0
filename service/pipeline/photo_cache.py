"""Photographs on their way from the search for faces to the edit: decoded once, as far as memory allows."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

import numpy as np
from PIL import Image

from service.faces import finder
from service.imaging import codecs
from service.imaging.codecs import Photo
from service.imaging.tone import Tone
from service.pipeline.seen_photos import SeenPhotos, tone_of

# The longest side that finding and framing faces needs.
LONGEST = 2000


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

    def whole(self) -> Photo:
        """The decoded photograph, which is the caller's to change. Raises ImageErrors."""
        with self._lock:
            decoded, self._decoded = self._decoded, None
        if self._seen is None:
            decoded = decoded or self._decode()
        if self._seen is None:
            return decoded
        return replace(self._seen.photo, image=self._seen.photo.image.copy())

    def tone(self, whole: Photo) -> Tone | None:
        """What edits of it have to keep, the tone of a monochrome photograph; `whole` is not edited yet."""
        return tone_of(whole) if self._seen is None else self._seen.tone

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
