"""Latents kept for pictures that come again: a face that is edited many times is encoded once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from service.faces.finder import FaceLocation
from service.telemetry.metrics import Metrics

_LARGEST = b"largest"
_OVERHEAD = 512  # bytes for the objects around an entry's arrays, roughly


@dataclass(frozen=True)
class Encoded:
    """What the encoder says of the F faces of a picture, and their locations, in one order.

    `width` and `height` are the picture's.
    """

    mean: np.ndarray  # f32 [F, Z]
    log_variance: np.ndarray  # f32 [F, Z]
    attributes: np.ndarray  # f32 [F, K]
    locations: list[FaceLocation]
    width: int
    height: int

    def only(self, face: int) -> Encoded:
        """The same with one face."""
        rows = slice(face, face + 1)
        kept = (self.mean[rows], self.log_variance[rows], self.attributes[rows], self.locations[rows])
        return Encoded(*kept, self.width, self.height)

    @property
    def size(self) -> int:
        return self.mean.nbytes + self.log_variance.nbytes + self.attributes.nbytes + _OVERHEAD * len(self.locations)


class LatentCache:
    """Least recently used entries go first once they take more than `max_bytes`; 0 keeps nothing.

    Pictures are known by a digest and are not kept themselves. All calls come from the event loop's thread.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes, self._metrics = max_bytes, metrics
        self._entries: OrderedDict[bytes, Encoded] = OrderedDict()
        self._bytes = 0

    def key(self, picture: bytes, known: np.ndarray, encoder: str, framed: bool | None) -> bytes | None:
        """Names a picture's bytes, the attributes given with it, the encoder, and whether it was said to be framed.

        None while nothing is kept.
        """
        if not self._max_bytes:
            return None
        digest = hashlib.sha256(picture)
        digest.update(known.tobytes())
        digest.update(f"{encoder} {framed}".encode())
        return digest.digest()

    def get(self, key: bytes | None, largest: bool = False) -> Encoded | None:
        """The entry of all faces, or with `largest` one that need not hold others; it counts as used."""
        if key is None:
            return None
        kept = next((name for name in (key, key + _LARGEST)[: 1 + largest] if name in self._entries), None)
        self._metrics.latent_cache.labels("hit" if kept else "miss").inc()
        if kept is None:
            return None
        self._entries.move_to_end(kept)
        return self._entries[kept]

    def put(self, key: bytes | None, encoded: Encoded, largest: bool = False) -> None:
        """Keep an entry, at the cost of the oldest; of all faces, or with `largest` one that need not hold others."""
        if key is None:
            return
        key += _LARGEST if largest else b""
        if old := self._entries.pop(key, None):
            self._bytes -= old.size
        self._entries[key] = encoded
        self._bytes += encoded.size
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size
        self._metrics.latent_cache_bytes.set(self._bytes)
