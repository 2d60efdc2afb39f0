"""Photographs kept for a short time, so that the requests that follow name them instead of sending them again."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable

from service.errors import Problem, invalid
from service.pipeline.seen_photos import SeenPhotos

_OFF = "photographs are not kept by this service (FACET_PHOTO_STORE_BYTES is 0); send the picture with each request"
_GONE = "is not kept, or no longer; send the picture itself, or POST it to /v1/photos again"


class PhotoStore:
    """Keeps encoded pictures in memory, `max_bytes` together, each until it was not used for `seconds`.

    The least recently used goes first; with 0 bytes nothing is kept. A handle is a digest of the picture under a key
    of this process: equal pictures have equal handles, and nobody can guess the handle of a picture that they know.
    All calls come from the event loop's thread. `clock` gives seconds. Those that were edited last are kept decoded
    as well, in `seen`, with `decoded_bytes` together.
    """

    def __init__(
        self, max_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic, decoded_bytes: int = 0
    ) -> None:
        self.seconds = seconds
        self._max_bytes, self._clock = max_bytes, clock
        self._secret = os.urandom(32)
        self._pictures: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # with the time of the last use
        self._bytes = 0
        self.seen = SeenPhotos(decoded_bytes)

    def put(self, picture: bytes) -> str:
        """Keep a picture; returns its handle. Raises a Problem: 404 if nothing is kept, 413 if it is too large."""
        if not self._max_bytes:
            raise Problem(404, _OFF)
        if len(picture) > self._max_bytes:
            rule = f"at most {self._max_bytes} bytes can be kept"
            raise Problem(413, f"image: {rule}", [{"field": "image", "value": len(picture), "rule": rule}])
        handle = hashlib.blake2b(picture, key=self._secret, digest_size=24).hexdigest()
        self._drop(handle)
        self._pictures[handle] = (picture, self._clock())
        self._bytes += len(picture)
        self.seen.admit(handle)
        self._expire()
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._pictures)))
        return handle

    def picture(self, handle: str | None, picture: bytes | None) -> bytes | None:
        """The picture of a request: the one that came with it, or the kept one of that handle, which counts as used.

        Raises a Problem: 422 where both are given, 410 where the handle names nothing that is kept.
        """
        if handle is None:
            return picture
        if picture is not None:
            raise invalid("photo", handle, "cannot be given together with an image")
        self._expire()
        if handle not in self._pictures:
            raise Problem(410, f"photo: {_GONE}", [{"field": "photo", "rule": _GONE}])
        kept, _ = self._pictures[handle]
        self._pictures[handle] = (kept, self._clock())
        self._pictures.move_to_end(handle)
        return kept

    def _expire(self) -> None:
        oldest = self._clock() - self.seconds
        while self._pictures and next(iter(self._pictures.values()))[1] < oldest:
            self._drop(next(iter(self._pictures)))

    def _drop(self, handle: str) -> None:
        if dropped := self._pictures.pop(handle, None):
            self._bytes -= len(dropped[0])
            self.seen.drop(handle)
