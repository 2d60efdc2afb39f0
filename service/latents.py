"""Latents kept for pictures that come again: a face that is edited many times is encoded once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from service.images import Box
from service.metrics import Metrics

_OVERHEAD = 512  # bytes for the objects around an entry's arrays, roughly


@dataclass(frozen=True)
class Encoded:
    """What the encoder found in a picture's face, arrays without a batch axis, and where the face was."""

    mean: np.ndarray  # f32 [Z]
    log_variance: np.ndarray  # f32 [Z]
    attributes: np.ndarray  # f32 [K]
    box: Box
    width: int
    height: int

    @property
    def size(self) -> int:
        return self.mean.nbytes + self.log_variance.nbytes + self.attributes.nbytes + _OVERHEAD


class LatentCache:
    """Least recently used entries go first once they take more than `max_bytes`; 0 keeps nothing.

    Pictures are known by a digest and are not kept themselves. All calls come from the event loop's thread.
    """

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes, self._metrics = max_bytes, metrics
        self._entries: OrderedDict[bytes, Encoded] = OrderedDict()
        self._bytes = 0

    def key(self, picture: bytes, known: np.ndarray, encoder_sha256: str) -> bytes | None:
        """Names a picture's bytes, the attributes given with it and the encoder; None while nothing is kept."""
        if not self._max_bytes:
            return None
        digest = hashlib.sha256(picture)
        digest.update(known.tobytes())
        digest.update(encoder_sha256.encode())
        return digest.digest()

    def get(self, key: bytes | None) -> Encoded | None:
        """The entry, if it is there; it now counts as used."""
        if key is None:
            return None
        found = self._entries.get(key)
        self._metrics.latent_cache.labels("hit" if found else "miss").inc()
        if found:
            self._entries.move_to_end(key)
        return found

    def put(self, key: bytes | None, encoded: Encoded) -> None:
        """Keep an entry, at the cost of the oldest."""
        if key is None:
            return
        if old := self._entries.pop(key, None):
            self._bytes -= old.size
        self._entries[key] = encoded
        self._bytes += encoded.size
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size
        self._metrics.latent_cache_bytes.set(self._bytes)
