"""Golden samples: faces that every bundle carries, drawn again to see that a runtime computes what export computed.

An editor has samples too: the faces of the others, each with one attribute changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from service import alignment, edit_fields, images
from service.bundle import EDITOR_SAMPLES, Bundle, BundleError, Manifest
from service.gaussian_prior import GaussianPrior
from service.vectors import Sampler

FILE = "samples.png"
_SEED, _COUNT, _COLUMNS = 1, 32, 8
_TEMPERATURE = 0.7  # as the samples in bundles were drawn, whatever requests get by default
# In levels of 255, over all pixels: other hardware and half precision round differently, another model is far off.
_TOLERANCE = 1.0
_EDITOR_TOLERANCE = 0.3  # most pixels are not edited

log = logging.getLogger(__name__)

Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]
Edit = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


def inputs(
    prior: GaussianPrior, groups: list[str | None], count: int = _COUNT, temperature: float = _TEMPERATURE
) -> dict[str, np.ndarray]:
    """What the decoder draws the first `count` samples from: `latent` f32 [N, Z] and `attributes` f32 [N, K]."""
    sampler = Sampler(prior, groups)
    unnamed = np.full(len(groups), np.nan, dtype=np.float32)
    attributes = sampler.attributes(unnamed, _SEED, count)
    return {"latent": sampler.latents(_SEED, attributes, temperature), "attributes": attributes}


def draw(bundle: Bundle, decode: Decode) -> np.ndarray:
    """The sheet of samples, uint8 [H, W, 3]; `decode` maps f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]."""
    return images.grid(decode(*inputs(bundle.prior, bundle.manifest.attribute_groups).values()), _COLUMNS)


def views(manifest: Manifest, faces: np.ndarray) -> np.ndarray:
    """Drawn faces uint8 [N, S, S, 3] as the editor of a bundle that has one sees them, uint8 [N, E, E, 3]."""
    to_face = alignment.between(manifest.editor_frame, manifest.frame)
    side = manifest.editor_frame.image_size
    return np.stack([alignment.sample(Image.fromarray(face), to_face, side) for face in faces])


def editor_inputs(bundle: Bundle) -> dict[str, np.ndarray]:
    """`image` uint8 [K, E, E, 3], the bundle's own samples as its editor sees them, and `change` f32 [K, K].

    Each has one attribute changed by a half, every other one of them taken away. Raises BundleError.
    """
    manifest = bundle.manifest
    size, count = manifest.frame.image_size, len(manifest.attributes)
    sheet = _opened(bundle, FILE)
    if sheet.shape != (expected := (size * _COUNT // _COLUMNS, size * _COLUMNS, 3)):
        rule = f"is {sheet.shape[1]} x {sheet.shape[0]} pixels; it must be {expected[1]} x {expected[0]}"
        raise BundleError(bundle.path(FILE), rule)
    faces = sheet.reshape(-1, size, _COLUMNS, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    change = np.diag(np.where(np.arange(count) % 2 == 0, np.float32(0.5), np.float32(-0.5)))
    return {"image": views(manifest, faces[np.arange(count) % _COUNT]), "change": change}


def draw_edits(bundle: Bundle, edit: Edit) -> np.ndarray:
    """The sheet of edited samples, uint8 [H, W, 3]; `edit` maps the editor's inputs to its outputs."""
    given = editor_inputs(bundle)
    fields = edit_fields.split(edit(given["image"], given["change"]))
    edited = [edit_fields.apply(face, each) for face, each in zip(given["image"], fields, strict=True)]
    return images.grid(np.stack(edited), _COLUMNS)


def check(bundle: Bundle, decode: Decode) -> None:
    """Raises BundleError where `decode` does not draw the bundle's own samples."""
    _compare(bundle, FILE, draw(bundle, decode), "draw", _TOLERANCE)


def check_editor(bundle: Bundle, edit: Edit) -> None:
    """Raises BundleError where `edit` does not edit the bundle's own samples as its export did."""
    _compare(bundle, EDITOR_SAMPLES, draw_edits(bundle, edit), "edit", _EDITOR_TOLERANCE)


def _opened(bundle: Bundle, name: str) -> np.ndarray:
    try:
        with Image.open(bundle.path(name)) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as exc:
        raise BundleError(bundle.path(name), "cannot be read as a picture") from exc


def _compare(bundle: Bundle, name: str, drawn: np.ndarray, verb: str, tolerance: float) -> None:
    path, expected = bundle.path(name), _opened(bundle, name).astype(np.int16)
    if drawn.shape != expected.shape:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (expected.shape, drawn.shape)]
        raise BundleError(path, f"is {sizes[0]} pixels; the graphs {verb} {sizes[1]}")
    differences = np.abs(drawn - expected)
    difference = float(differences.mean())
    log.info(
        "%s: off its %s by at most %d levels, %.4f on average",
        bundle.identity,
        "samples" if name == FILE else name,
        differences.max(),
        difference,
    )
    if difference > tolerance:
        rule = (
            f"the graphs {verb} other faces, {difference:.1f} levels off on average; at most {tolerance:g} is allowed"
        )
        raise BundleError(path, rule)
