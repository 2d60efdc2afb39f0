"""What this machine can do at most: decode, graphs at the best batch and encode in one process, without HTTP.

Every core has a thread that does a whole batch by itself, so nothing is handed over and nobody waits. A service that
shares the work between requests can come near to this and not beyond.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import GRAPHS, LEARNED_PRIOR
from service.bundle.sampler import Sampler
from service.imaging import codecs
from service.inference.session import open_session

BATCHES = (1, 4, 16, 64)
_QUALITY = 90


class Work:
    """Batches of one workload for one bundle; safe to call from many threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._encoder, self._decoder = (open_session(bundle.path(name), threads=1) for name in GRAPHS)
        self._manifest = bundle.manifest
        self._prior = None
        if LEARNED_PRIOR in bundle.manifest.files:
            self._prior = open_session(bundle.path(LEARNED_PRIOR), threads=1)
        self._sampler = Sampler(bundle.prior, bundle.manifest.attribute_groups)

    def generate(self, count: int) -> None:
        """`count` faces from seeds to PNG."""
        unnamed = np.full(len(self._manifest.attributes), np.nan, dtype=np.float32)
        attributes = np.concatenate([self._sampler.attributes(unnamed, seed, 1) for seed in range(count)])
        if self._prior is None:
            latent = np.concatenate([self._sampler.latents(seed, attributes[[seed]]) for seed in range(count)])
        else:
            noise = np.concatenate([self._sampler.noise(seed, 1) for seed in range(count)])
            latent = self._prior.run(None, {"noise": noise, "attributes": attributes})[0]
        self._draw(latent, attributes)

    def edit(self, pictures: list[bytes]) -> None:
        """One edit of each JPEG, to PNG."""
        frame = self._manifest.frame
        faces = np.stack([codecs.framed_face(codecs.decode(data, 10**8), frame)[0] for data in pictures])
        unknown = np.full((len(faces), len(self._manifest.attributes)), np.nan, dtype=np.float32)
        latent, estimates = self._encoder.run(["mean", "attribute_estimates"], {"image": faces, "attributes": unknown})
        self._draw(latent, -estimates)

    def _draw(self, latent: np.ndarray, attributes: np.ndarray) -> None:
        inputs = {"latent": latent.astype(np.float32), "attributes": attributes.astype(np.float32)}
        for face in self._decoder.run(["image"], inputs)[0]:
            codecs.encode(face, "png", _QUALITY)


def images_per_second(work: Callable[[], int], seconds: float, threads: int | None = None) -> float:
    """Call `work`, which returns how many images it made, from one thread for each core until the time is up."""
    counts = [0] * (threads or os.cpu_count() or 1)
    started = time.perf_counter()

    def repeat(thread: int) -> None:
        while time.perf_counter() - started < seconds:
            counts[thread] += work()

    running = [threading.Thread(target=repeat, args=(thread,)) for thread in range(len(counts))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def limits(bundle_directory: Path, pictures: list[bytes], seconds: float) -> dict[str, float]:
    """Images a second by workload, at the best batch of BATCHES."""
    work = Work(loader.load(bundle_directory))

    def generating(batch: int) -> Callable[[], int]:
        return lambda: work.generate(batch) or batch

    def editing(batch: int) -> Callable[[], int]:
        chosen = [pictures[i % len(pictures)] for i in range(batch)]
        return lambda: work.edit(chosen) or batch

    return {
        name: max(images_per_second(make(batch), seconds) for batch in BATCHES)
        for name, make in (("generate", generating), ("edit", editing))
    }
