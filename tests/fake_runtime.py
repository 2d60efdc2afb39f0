"""A runtime without a model: the same interface as ONNX Runtime's, for tests of everything above it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.bundle.manifest import Manifest
from service.inference.out_of_memory import Arrays


@dataclass
class FakeRuntime:
    """A runtime without a model, for testing the API: arithmetic that a test can redo by hand.

    The encoder's mean holds the picture's average level, everywhere; unknown attributes are estimated as 0.25. The
    decoder paints one flat colour: 128 + 100 * the first attribute, plus the first latent value. The editor, within a
    third of the frame around its centre, multiplies by 1 + half the change of the second attribute, adds a quarter of
    the first one's, and takes pixels from a tenth of the frame to the right for each of the third one's. The prior adds
    twice the first attribute to three times the noise.
    """

    manifest: Manifest
    device: str = "fake"
    wanted_device: str = "fake"
    workers: int = 2
    max_batch: int = 64
    computes_here: bool = False
    padding: bool = True

    def encoder(self, inputs: Arrays) -> Arrays:
        image, attributes = inputs["image"], inputs["attributes"]
        level = image.astype(np.float32).mean(axis=(1, 2, 3))
        mean = np.repeat(level[:, None], self.manifest.latent_size, axis=1)
        estimates = np.where(np.isnan(attributes), np.float32(0.25), attributes)
        return {"mean": mean, "log_variance": np.zeros_like(mean), "attribute_estimates": estimates}

    def decoder(self, inputs: Arrays) -> Arrays:
        size = self.manifest.frame.image_size
        level = 128 + 100 * inputs["attributes"][:, 0] + inputs["latent"][:, 0]
        flat = level.round().clip(0, 255).astype(np.uint8)
        return {"image": np.broadcast_to(flat[:, None, None, None], (len(flat), size, size, 3)).copy()}

    def prior(self, inputs: Arrays) -> Arrays:
        return {"latent": 3 * inputs["noise"] + 2 * inputs["attributes"][:, :1]}

    def editor(self, inputs: Arrays) -> Arrays:
        image, change = inputs["image"], inputs["change"]
        count, size = image.shape[:2]
        inside = np.abs((np.arange(size) + 0.5) / size - 0.5) < 1 / 6
        mask = np.broadcast_to(inside[:, None] & inside, (count, size, size)).astype(np.float32)[..., None]
        first, second, third = (change[:, place, None, None, None] for place in range(3))
        flow = np.concatenate([0.1 * third * mask, 0 * mask], axis=3)
        gain, residual = (np.broadcast_to(value, (count, size, size, 3)) for value in (0.5 * second, 0.25 * first))
        return {"mask": mask, "gain": gain.clip(-1, 1), "residual": residual.copy(), "flow": flow}
