"""What every peer serves: the bundle's graphs on plain onnxruntime, and the service's own parts around them.

Peers run in environments of their own, and import the parts that find faces, apply edits and read bundles.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from service.bundle import loader, vectors  # noqa: E402
from service.bundle.manifest import EDITOR, GRAPHS, LEARNED_PRIOR  # noqa: E402
from service.bundle.sampler import Sampler  # noqa: E402
from service.faces.detector import Detector  # noqa: E402
from service.faces.finder import FaceFinder, view  # noqa: E402
from service.imaging import alignment, codecs, edit_fields, tone  # noqa: E402
from service.imaging.compositing import FieldEdit  # noqa: E402

_MAX_PIXELS = 10**8
# How many photographs each process keeps decoded, with their faces, as servers of the same pictures again would.
_KEPT = int(os.environ.get("PEER_KEPT_PHOTOGRAPHS", "0"))


class Found(NamedTuple):
    """The largest face of a photograph: as encoder and editor see it, uint8 [S, S, 3], and what the encoder says."""

    photo: codecs.Photo
    tone: tone.Tone | None
    pixels: np.ndarray
    view: np.ndarray
    matrix: np.ndarray
    estimates: list[np.ndarray]  # empty until the encoder has run


@cache
def shared(bundle: Path, threads: int = 0) -> Faces:
    """The same for all endpoints of a process."""
    return Faces(bundle, threads)


class Faces:
    """Batches of all workloads, from requests to files. `threads` of each session; 0 lets onnxruntime choose.

    Graphs are loaded when they are first used, so that processes of one endpoint hold no others.
    """

    def __init__(self, bundle: Path, threads: int = 0) -> None:
        self._bundle, self._manifest = (loaded := loader.load(bundle)), loaded.manifest
        self._names, self._frame = loaded.manifest.attribute_names, loaded.manifest.frame
        self._sampler = Sampler(loaded.prior, loaded.manifest.attribute_groups)
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        self._kept: OrderedDict[bytes, Found] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def _encoder(self) -> onnxruntime.InferenceSession:
        return self._session(GRAPHS[0])

    @cached_property
    def _decoder(self) -> onnxruntime.InferenceSession:
        return self._session(GRAPHS[1])

    @cached_property
    def _editor(self) -> onnxruntime.InferenceSession | None:
        return self._session(EDITOR)

    @cached_property
    def _prior(self) -> onnxruntime.InferenceSession | None:
        return self._session(LEARNED_PRIOR)

    @cached_property
    def _finder(self) -> FaceFinder:
        return FaceFinder(Detector(ROOT / "weights"))

    def _session(self, name: str) -> onnxruntime.InferenceSession | None:
        if name not in self._manifest.files:
            return None
        path = str(self._bundle.path(name))
        return onnxruntime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])

    def generate(self, items: list[tuple[dict[str, float], int]]) -> list[bytes]:
        """A face, a PNG, for each pair of attributes and seed."""
        given = self._vectors([each for each, _ in items])
        attributes = np.concatenate(
            [self._sampler.attributes(row, seed, 1) for row, (_, seed) in zip(given, items, strict=True)]
        )
        if self._prior is None:
            latent = [self._sampler.latents(seed, row[None]) for row, (_, seed) in zip(attributes, items, strict=True)]
            return self._draw(np.concatenate(latent), attributes)
        noise = np.concatenate([self._sampler.noise(seed, 1) for _, seed in items])
        return self._draw(self._prior.run(None, {"noise": noise, "attributes": attributes})[0], attributes)

    def edit(self, items: list[tuple[bytes, dict[str, float]]]) -> list[bytes]:
        """The edited face, a PNG, for each pair of an aligned JPEG and attributes."""
        decoded = [codecs.decode(data, _MAX_PIXELS) for data, _ in items]
        pictures = np.stack([codecs.framed_face(picture, self._frame)[0] for picture in decoded])
        target = self._vectors([attributes for _, attributes in items])
        latent, estimates = self._encode(pictures)
        after = vectors.edited(estimates, target, 1.0)
        if self._editor is None:
            return self._draw(latent, after)
        if (frame := self._manifest.editor_frame) != self._frame:
            pictures = np.stack([codecs.framed_face(picture, frame)[0] for picture in decoded])
        fields = self._fields(pictures, estimates, after)
        return [_png(edit_fields.apply(picture, each)) for picture, each in zip(pictures, fields, strict=True)]

    def photograph(self, items: list[tuple[bytes, dict[str, float]]]) -> list[bytes]:
        """The edited photograph, a JPEG, for each pair of a photograph and attributes; with an editor in the bundle."""
        found = [self._found(data) for data, _ in items]
        new = {id(each): each for each in found if not each.estimates}
        if new:
            _, estimates = self._encode(np.stack([each.pixels for each in new.values()]))
            for each, row in zip(new.values(), estimates, strict=True):
                each.estimates.append(row)
        current = np.stack([each.estimates[0] for each in found])
        target = self._vectors([attributes for _, attributes in items])
        views, after = np.stack([each.view for each in found]), vectors.edited(current, target, 1.0)
        fields = self._fields(views, current, after)
        return [_edited(each, one) for each, one in zip(found, fields, strict=True)]

    def _found(self, data: bytes) -> Found:
        with self._lock:
            if data in self._kept:
                self._kept.move_to_end(data)
                return self._kept[data]
        photo = codecs.decode_photo(data, _MAX_PIXELS)
        picture = photo.opaque()
        face = self._finder.frame(picture, self._frame, largest=True)[0]
        editor = self._manifest.editor_frame
        matrix = alignment.after(face.location.matrix, alignment.between(editor, self._frame))
        seen = view(picture, matrix, editor.image_size, picture.size)
        found = Found(photo, tone.tone_of(photo.image), face.pixels, seen, matrix, [])
        with self._lock:
            self._kept[data] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _encode(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unknown = np.full((len(pictures), len(self._names)), np.nan, dtype=np.float32)
        return self._encoder.run(["mean", "attribute_estimates"], {"image": pictures, "attributes": unknown})

    def _fields(self, pictures: np.ndarray, current: np.ndarray, after: np.ndarray) -> list[edit_fields.EditFields]:
        inputs = {"image": pictures, "change": vectors.change(current, after)}
        outputs = self._editor.run(list(edit_fields.NAMES), inputs)
        return list(edit_fields.split(dict(zip(edit_fields.NAMES, outputs, strict=True))))

    def _vectors(self, attributes: list[dict[str, float]]) -> np.ndarray:
        return np.array([[each.get(name, np.nan) for name in self._names] for each in attributes], dtype=np.float32)

    def _draw(self, latent: np.ndarray, attributes: np.ndarray) -> list[bytes]:
        inputs = {"latent": latent.astype(np.float32), "attributes": attributes.astype(np.float32)}
        return [_png(face) for face in self._decoder.run(["image"], inputs)[0]]


def _edited(found: Found, fields: edit_fields.EditFields) -> bytes:
    image = found.photo.image.copy()
    FieldEdit(found.matrix, fields).onto(image, found.tone)
    return codecs.encode_photo(replace(found.photo, image=image), "jpeg")


def _png(face: np.ndarray) -> bytes:
    return codecs.encode(face, "png", codecs.QUALITY)
