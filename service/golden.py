"""Golden samples: faces that every bundle carries, drawn again to see that a runtime computes what export computed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from PIL import Image

from service import images
from service.bundle import Bundle, BundleError, Manifest
from service.vectors import Sampler

FILE = "samples.png"
_SEED, _COUNT, _COLUMNS = 1, 32, 8
_TEMPERATURE = 0.7  # as the samples in bundles were drawn, whatever requests get by default
# In levels of 255, over all pixels: other hardware and half precision round differently, another model is far off.
_TOLERANCE = 1.0

log = logging.getLogger(__name__)

Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]


def inputs(manifest: Manifest, count: int = _COUNT, temperature: float = _TEMPERATURE) -> dict[str, np.ndarray]:
    """What the decoder draws the first `count` samples from: `latent` f32 [N, Z] and `attributes` f32 [N, K]."""
    sampler = Sampler(manifest.prior, manifest.attribute_groups)
    unnamed = np.full(len(manifest.attributes), np.nan, dtype=np.float32)
    attributes = sampler.attributes(unnamed, _SEED, count)
    return {"latent": sampler.latents(_SEED, attributes, temperature), "attributes": attributes}


def draw(manifest: Manifest, decode: Decode) -> np.ndarray:
    """The sheet of samples, uint8 [H, W, 3]; `decode` maps f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]."""
    return images.grid(decode(*inputs(manifest).values()), _COLUMNS)


def check(bundle: Bundle, decode: Decode) -> None:
    """Raises BundleError where `decode` does not draw the bundle's own samples."""
    path = bundle.path(FILE)
    try:
        with Image.open(path) as picture:
            expected = np.asarray(picture.convert("RGB"), dtype=np.int16)
    except OSError as exc:
        raise BundleError(path, "cannot be read as a picture") from exc
    drawn = draw(bundle.manifest, decode)
    if drawn.shape != expected.shape:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (expected.shape, drawn.shape)]
        raise BundleError(path, f"is {sizes[0]} pixels; the graphs draw {sizes[1]}")
    differences = np.abs(drawn - expected)
    difference = float(differences.mean())
    log.info(
        "%s: off its samples by at most %d levels, %.4f on average", bundle.identity, differences.max(), difference
    )
    if difference > _TOLERANCE:
        rule = f"the graphs draw other faces, {difference:.1f} levels off on average; at most {_TOLERANCE:g} is allowed"
        raise BundleError(path, rule)
