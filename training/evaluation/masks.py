"""Where a bundle's editor leaves an aligned picture alone, edited as the service edits it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates

from service.bundle import vectors
from service.bundle.loader import Bundle
from service.bundle.manifest import EDITOR
from service.imaging import codecs
from service.inference.session import open_session
from training.graphs import BundleGraphs, encode_unknown

FAINT = 0.05  # a mask below it should change nothing


class Masks(Protocol):
    """An editor's masks."""

    def unmasked(self, pixels: np.ndarray, attribute: str, target: float) -> np.ndarray:
        """bool [N, H, W]: where an edit of aligned pictures uint8 [N, H, W, 3] should change nothing."""


class EditorMasks:
    """Those of the graph in a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._manifest, self._graphs = bundle.manifest, BundleGraphs(bundle)
        self._editor = open_session(bundle.path(EDITOR))

    @classmethod
    def of(cls, bundle: Bundle) -> EditorMasks | None:
        """None for a bundle without an editor."""
        return cls(bundle) if EDITOR in bundle.manifest.files else None

    def unmasked(self, pixels: np.ndarray, attribute: str, target: float) -> np.ndarray:
        manifest, frame = self._manifest, self._manifest.editor_frame
        faces = [Image.fromarray(picture) for picture in pixels]
        own = np.stack([codecs.crop_resize(face, manifest.frame.crop_box, manifest.frame.image_size) for face in faces])
        _, current = encode_unknown(self._graphs, own, len(manifest.attributes))
        requested = vectors.edit_target(vectors.attribute_vector({attribute: target}, manifest, "attributes"), manifest)
        change = vectors.change(current, vectors.edited(current, requested, 1.0))
        views = np.stack([codecs.crop_resize(face, frame.crop_box, frame.image_size) for face in faces])
        (mask,) = self._editor.run(["mask"], {"image": views, "change": change})
        return np.stack([spread(one[:, :, 0], frame.crop_box, *pixels.shape[1:3]) for one in mask]) < FAINT


def spread(mask: np.ndarray, box: codecs.Box, height: int, width: int) -> np.ndarray:
    """The mask f32 [S, S] of a box of a picture, bilinear, as f32 [height, width]; 0 outside the box."""
    left, top, right, bottom = box
    size = len(mask)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    columns, rows = ((x - left) / (right - left) * size - 0.5, (y - top) / (bottom - top) * size - 0.5)
    found = map_coordinates(mask, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    inside = np.outer((y > top) & (y < bottom), (x > left) & (x < right))
    return np.where(inside, found, np.float32(0))
