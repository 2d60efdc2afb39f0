"""Photographs that stay decoded from one request to the next, as long as the store keeps their files."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np

from service.faces import finder
from service.imaging import tone
from service.imaging.codecs import Photo
from service.imaging.tone import Tone

# Photographs of more pixels do not stay decoded: a page sends what it shows, and it shows no more.
_LARGEST_KEPT = 1_500_000
_KEPT_VIEWS = 32  # of one photograph: frames of faces
_MOST = 64  # photographs that stay decoded
_OVERHEAD = 4096  # bytes for the objects around a decoded photograph, roughly


class SeenPhoto:
    """A decoded photograph, which nobody changes, and what edits would otherwise compute again."""

    def __init__(self, photo: Photo) -> None:
        self.photo, self.tone, self.opaque = photo, tone_of(photo), photo.opaque()
        self._views: OrderedDict[tuple[bytes, int], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def view(self, matrix: np.ndarray, side: int) -> np.ndarray:
        """A frame of the photograph, uint8 [side, side, 3], as `finder.view` samples it."""
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
