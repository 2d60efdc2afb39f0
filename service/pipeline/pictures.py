"""What generate, edit and sweep return: encoded pictures, marked, with the attributes that they show now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from service.imaging import codecs
from service.imaging.codecs import Photo
from service.inference.model import Model
from service.pipeline.files import FileFormat, FileOptions
from service.pipeline.pipeline import ModelLease, Pipeline
from service.provenance.c2pa import Agent
from service.provenance.marking import Origin, SourceType

Result = TypeVar("Result")
# Bytes of pixels. A 64 x 64 face takes 0.05 ms to encode as PNG, and handing it to a thread and back another 0.1.
_SMALL = 3 * 64 * 64


@dataclass(frozen=True)
class Picture:
    """An encoded picture of `width` x `height` pixels, or an archive of such.

    `attributes` by name are the current ones: of a photograph those of its first face, of a strip or an animation the
    last step's; None where faces are in one grid or archive.
    """

    data: bytes
    format: FileFormat
    width: int
    height: int
    source_type: SourceType
    attributes: dict[str, float] | None

    @property
    def media_type(self) -> str:
        return "application/zip" if self.format == "zip" else f"image/{self.format}"


@dataclass(frozen=True)
class Pictures:
    """The pictures of one request, `as_one` file or one for each.

    `model` is name@version, and `seed` what random numbers came from, if any.
    """

    model: str
    pictures: list[Picture]
    as_one: bool
    seed: int | None = None


def by_name(model: Model, attributes: np.ndarray) -> dict[str, float]:
    """f32 [K] by name, without disabled attributes."""
    named = zip(model.manifest.attribute_names, attributes.tolist(), strict=True)
    return {name: value for name, value in named if name not in model.disabled}


def origin_of(lease: ModelLease, original: bytes | None = None) -> Origin:
    """How pictures are marked: as edits of the photograph `original`, or as drawn whole."""
    settings, manifest = lease.pipeline.settings, lease.model.manifest
    source_type = SourceType.EDITED if original else SourceType.GENERATED
    agent = Agent(f"Facet {manifest.name}", manifest.version)
    return Origin(source_type, agent, lease.pipeline.credentials, original, settings.watermark)


def enlarged(faces: np.ndarray, size: int) -> np.ndarray:
    """Faces uint8 [T, S, S, 3] as uint8 [T, size, size, 3]."""
    box = (0, 0, faces.shape[2], faces.shape[1])
    return np.stack([codecs.crop_resize(Image.fromarray(face), box, size) for face in faces])


async def bare_faces(
    lease: ModelLease,
    faces: np.ndarray,
    attributes: np.ndarray,
    files: FileOptions,
    seed: int | None = None,
    original: bytes | None = None,
) -> Pictures:
    """Faces uint8 [N, S, S, 3] with their current attributes f32 [N, K], encoded: drawn whole, or edits of `original`.

    Raises a 503 Problem where they cannot be signed.
    """
    origin, kind = origin_of(lease, original), files.formats[0]
    sheets = [faces[0] if len(faces) == 1 else codecs.grid(faces)] if files.as_one else list(faces)
    with lease.context.stage("encode"):
        encoded = await _where_soonest(
            lease.pipeline, faces.size, lambda: [origin.encode(sheet, kind, files.quality) for sheet in sheets]
        )
    rows = [None] if files.as_one else [by_name(lease.model, row) for row in attributes]
    pictures = [
        Picture(data, kind, sheet.shape[1], sheet.shape[0], origin.source_type, row)
        for data, sheet, row in zip(encoded, sheets, rows, strict=True)
    ]
    return Pictures(lease.model.identity, pictures, files.as_one, seed)


def encoded_photograph(
    lease: ModelLease,
    photo: Photo,
    original: bytes,
    attributes: np.ndarray,
    files: FileOptions,
    keep_metadata: bool,
    changed: bool,
) -> Picture:
    """A photograph that was decoded from `original` and may have `changed`, encoded in a thread.

    `attributes` f32 [K] are those of its first face now. Raises UnencodableError, and a 503 Problem where
    it cannot be signed.
    """
    origin = origin_of(lease, original)
    own = codecs.format_of(original, changed or files.quality is not None)
    kind = own if own in files.formats else files.formats[0]
    with lease.context.stage("encode"):
        data = origin.encode_photo(photo, kind, files.quality, keep_metadata, changed)
    return Picture(data, kind, *photo.image.size, origin.source_type, by_name(lease.model, attributes))


async def _where_soonest(pipeline: Pipeline, size: int, work: Callable[[], Result]) -> Result:
    """Run `work`, which encodes pictures of `size` bytes, here or in a thread; signing may take its time."""
    return work() if size <= _SMALL and pipeline.credentials is None else await pipeline.codecs.run(work)
