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

from service import bundle as bundles
from service import images
from service.bundle import Bundle
from service.runtime import require_onnxruntime
from service.vectors import Sampler

BATCHES = (1, 4, 16, 64)
_QUALITY = 90


class Work:
    """Batches of one workload for one bundle; safe to call from many threads."""

    def __init__(self, bundle: Bundle) -> None:
        onnxruntime = require_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(bundle.path(name)), options, providers=["CPUExecutionProvider"])
            for name in bundles.GRAPHS
        )
        self._manifest = bundle.manifest
        self._sampler = Sampler(bundle.prior, bundle.manifest.attribute_groups)

    def generate(self, count: int) -> None:
        """`count` faces from seeds to PNG."""
        unnamed = np.full(len(self._manifest.attributes), np.nan, dtype=np.float32)
        attributes = np.concatenate([self._sampler.attributes(unnamed, seed, 1) for seed in range(count)])
        latent = np.concatenate([self._sampler.latents(seed, attributes[[seed]]) for seed in range(count)])
        self._draw(latent, attributes)

    def edit(self, pictures: list[bytes]) -> None:
        """One edit of each JPEG, to PNG."""
        frame = self._manifest.frame
        faces = np.stack([images.framed_face(images.decode(data, 10**8), frame)[0] for data in pictures])
        unknown = np.full((len(faces), len(self._manifest.attributes)), np.nan, dtype=np.float32)
        latent, shown = self._encoder.run(["mean", "attribute_estimates"], {"image": faces, "attributes": unknown})
        self._draw(latent, -shown)

    def _draw(self, latent: np.ndarray, attributes: np.ndarray) -> None:
        inputs = {"latent": latent.astype(np.float32), "attributes": attributes.astype(np.float32)}
        for face in self._decoder.run(["image"], inputs)[0]:
            images.encode(face, "png", _QUALITY)


def images_per_second(work: Callable[[], int], seconds: float, threads: int | None = None) -> float:
    """Call `work`, which says how many images it did, from one thread a core until the time is up."""
    counts = [0] * (threads or os.cpu_count() or 1)
    started = time.perf_counter()

    def repeat(place: int) -> None:
        while time.perf_counter() - started < seconds:
            counts[place] += work()

    running = [threading.Thread(target=repeat, args=(place,)) for place in range(len(counts))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def limits(bundle_directory: Path, pictures: list[bytes], seconds: float) -> dict[str, float]:
    """Images a second by workload, at the best batch of BATCHES."""
    work = Work(bundles.load(bundle_directory))

    def generating(batch: int) -> Callable[[], int]:
        return lambda: work.generate(batch) or batch

    def editing(batch: int) -> Callable[[], int]:
        chosen = [pictures[i % len(pictures)] for i in range(batch)]
        return lambda: work.edit(chosen) or batch

    return {
        name: max(images_per_second(make(batch), seconds) for batch in BATCHES)
        for name, make in (("generate", generating), ("edit", editing))
    }
