"""Golden samples: pictures in every bundle that a runtime must reproduce, so that it computes what the export computed.

The decoder generates the golden samples, from latents of the learned prior where there is one. The editor edits them,
one attribute of each, for the editor's samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from service.bundle.loader import Bundle
from service.bundle.manifest import EDITOR_SAMPLES, BundleError, Manifest
from service.bundle.sampler import LearnedPrior, Sampler
from service.imaging import alignment, codecs, edit_fields

FILE = "samples.png"
_SEED, _COUNT, _COLUMNS = 1, 32, 8
_TEMPERATURE = 0.7  # of the samples in bundles; independent of the default of requests
# Mean deviation in levels of 255. Hardware and half precision round differently; another model deviates far more.
_TOLERANCE = 1.0
_EDITOR_TOLERANCE = 0.3  # most pixels are not edited

log = logging.getLogger(__name__)

Decode = Callable[[np.ndarray, np.ndarray], np.ndarray]
Edit = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


def inputs(
    bundle: Bundle,
    learned: LearnedPrior | None,
    count: int = _COUNT,
    temperature: float = _TEMPERATURE,
    seed: int = _SEED,
) -> dict[str, np.ndarray]:
    """The decoder's inputs for the first `count` samples: `latent` f32 [N, Z] and `attributes` f32 [N, K].

    `learned` is the bundle's learned prior, if it has one.
    """
    sampler = Sampler(bundle.prior, bundle.manifest.attribute_groups)
    unnamed = np.full(len(bundle.manifest.attributes), np.nan, dtype=np.float32)
    attributes = sampler.attributes(unnamed, seed, count)
    return {"latent": sampler.latents(seed, attributes, temperature, learned), "attributes": attributes}


def draw(bundle: Bundle, decode: Decode, learned: LearnedPrior | None = None) -> np.ndarray:
    """The contact sheet of samples, uint8 [H, W, 3]; `decode` maps f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]."""
    return codecs.grid(decode(*inputs(bundle, learned).values()), _COLUMNS)


def views(manifest: Manifest, faces: np.ndarray) -> np.ndarray:
    """Generated faces uint8 [N, S, S, 3] in the frame of the bundle's editor, uint8 [N, E, E, 3]."""
    to_face = alignment.between(manifest.editor_frame, manifest.frame)
    side = manifest.editor_frame.image_size
    return np.stack([alignment.sample(Image.fromarray(face), to_face, side) for face in faces])


def editor_inputs(bundle: Bundle) -> dict[str, np.ndarray]:
    """`image` uint8 [K, E, E, 3], the bundle's samples in the editor's frame, and `change` f32 [K, K].

    In each picture one attribute changes, by 0.5 and -0.5 alternately. Raises BundleError.
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
    """The contact sheet of edited samples, uint8 [H, W, 3]; `edit` maps the editor's inputs to its outputs."""
    image, change = editor_inputs(bundle).values()
    fields = edit_fields.split(edit(image, change))
    edited = [edit_fields.apply(face, each) for face, each in zip(image, fields, strict=True)]
    return codecs.grid(np.stack(edited), _COLUMNS)


def check(bundle: Bundle, decode: Decode, learned: LearnedPrior | None = None) -> None:
    """Raises BundleError if `decode`, with `learned` if there is one, does not reproduce the golden samples."""
    _compare(bundle, FILE, draw(bundle, decode, learned), "draw", _TOLERANCE)


def check_editor(bundle: Bundle, edit: Edit) -> None:
    """Raises BundleError if `edit` does not reproduce the bundle's edited samples."""
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
    deviations = np.abs(drawn - expected)
    mean = float(deviations.mean())
    log.info(
        "%s: max deviation from golden samples in %s: %d levels, mean %.4f",
        bundle.identity,
        name,
        deviations.max(),
        mean,
    )
    if mean > tolerance:
        rule = f"the graphs {verb} other faces: mean deviation {mean:.1f} levels; at most {tolerance:g} is allowed"
        raise BundleError(path, rule)
