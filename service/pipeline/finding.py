"""The faces of a photograph: found, framed and encoded, or remembered from an earlier request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from service.errors import invalid
from service.faces.finder import FaceLocation, FramedFace
from service.imaging import alignment, codecs
from service.pipeline.latent_cache import Encoded
from service.pipeline.photo_cache import Photograph
from service.pipeline.pipeline import ModelLease, Pipeline
from service.request import RequestContext

_CUT = "the JPEG image ends early; what is missing of it is grey"


@dataclass(frozen=True)
class Search:
    """Which faces of a photograph are wanted: one by its number, 0 for the largest, or all.

    `framed` says whether the picture is a framed face already; None leaves that to its size.
    """

    face: int | Literal["all"]
    framed: bool | None = None

    def chosen(self, found: Encoded) -> Encoded:
        """Those of the faces that are wanted. Raises a 422 Problem where there is none."""
        if self.face == "all":
            return found
        if self.face >= len(found.locations):
            rule = f"must be below {len(found.locations)}, the number of faces found, or 'all'"
            raise invalid("face", self.face, rule)
        return found.only(self.face)

    def may_be_partial(self, framed: list[FramedFace]) -> bool:
        """Whether there may be faces that were not searched for; a picture that came framed has no others."""
        return self.face == 0 and framed[0].location.landmarks is not None


class EditorViews(NamedTuple):
    """Faces in the editor's frame, uint8 [F, E, E, 3], and from there to the photograph, f64 [F, 2, 3]."""

    pixels: np.ndarray
    matrices: np.ndarray


def opened(
    lease: ModelLease, picture: bytes | None, keep_decoded: bool = False, handle: str | None = None
) -> Photograph:
    """The request's photograph; with `keep_decoded` it stays decoded until it is edited, if there is room.

    One that the request named by its `handle` may be decoded already. Raises a 422 Problem where there is no picture.
    """
    pipeline = lease.pipeline
    photo_cache = pipeline.photo_cache if keep_decoded else None
    photograph = Photograph(
        required(picture), pipeline.settings.max_image_pixels, photo_cache, pipeline.photos.seen, handle
    )
    lease.context.resources.callback(photograph.close)
    return photograph


def required(picture: bytes | None) -> bytes:
    """The picture. Raises a 422 Problem where there is none."""
    if picture is None:
        raise invalid("image", None, "is required: a form field of that name, the body itself, or base64 in JSON")
    return picture


async def warn_of_cut(pipeline: Pipeline, context: RequestContext, picture: bytes) -> None:
    """Warn where a picture is accepted although its file ends early. Raises ImageErrors."""
    if codecs.may_end_early(picture) and await pipeline.codecs.run(
        codecs.ends_early, picture, pipeline.settings.max_image_pixels
    ):
        context.warning = _CUT


async def find(
    lease: ModelLease,
    photograph: Photograph,
    search: Search,
    known: np.ndarray,
    encode: bool = True,
    view: bool = False,
) -> tuple[Encoded, EditorViews | None]:
    """The wanted faces as the encoder sees them, and with `view` as the editor does.

    Without `encode` they have no latents and attributes, unless the latent cache has. `known` f32 [K] holds for all
    faces, NaN where nothing is known. Raises ImageErrors, BatcherErrors, and a Problem where there is no such face or a
    key's limits forbid so many.
    """
    found = await _found(lease, photograph, search, known, encode, view)
    await warn_of_cut(lease.pipeline, lease.context, photograph.data)
    return found


async def _found(
    lease: ModelLease, photograph: Photograph, search: Search, known: np.ndarray, encode: bool, view: bool
) -> tuple[Encoded, EditorViews | None]:
    cache, codec_threads = lease.pipeline.latents, lease.pipeline.codecs
    key = cache.key(photograph.data, known, lease.model.encoder_identity, search.framed)
    if (found := cache.get(key, search.face == 0)) is not None:
        _charge(lease, search, len(found.locations))
        chosen = search.chosen(found)
        if not view:
            return chosen, None
        return chosen, await codec_threads.run_on(photograph.data, _view_again, lease, photograph, chosen.locations)
    job = (_decode_and_frame, lease, photograph, search, view)
    framed, size, views = await codec_threads.run_on(photograph.data, *job)
    _charge(lease, search, len(framed))
    if encode:
        found = await _encoded(lease, framed, size, known)
        cache.put(key, found, search.may_be_partial(framed))
    else:
        nothing = np.empty((len(framed), 0), dtype=np.float32)
        found = Encoded(nothing, nothing, nothing, [face.location for face in framed], *size)
    return search.chosen(found), views


def _charge(lease: ModelLease, search: Search, found: int) -> None:
    """Charge all faces of a photograph to the request's key; a single one was charged when the request was admitted."""
    if search.face == "all":
        lease.context.charge(found)


async def _encoded(lease: ModelLease, framed: list[FramedFace], size: tuple[int, int], known: np.ndarray) -> Encoded:
    pixels, same = np.stack([face.pixels for face in framed]), np.repeat(known[None], len(framed), axis=0)
    outputs = await lease.model.encode(pixels, same, lease.context)
    mean, log_variance, attributes = (outputs[n] for n in ("mean", "log_variance", "attribute_estimates"))
    return Encoded(mean, log_variance, attributes, [face.location for face in framed], *size)


def _decode_and_frame(
    lease: ModelLease, photograph: Photograph, search: Search, view: bool
) -> tuple[list[FramedFace], tuple[int, int], EditorViews | None]:
    """The faces that were found, the photograph's width and height, and the editor's views of the wanted ones.

    One job, so that only as many decoded pictures are alive as there are threads, and those in the photo cache.
    """
    pipeline = lease.pipeline
    with lease.context.stage("decode"):
        picture, size = photograph.preview()
    with lease.context.stage("align"):
        largest = search.face == 0 and not pipeline.thorough
        framed = pipeline.faces.frame(picture, lease.model.manifest.frame, search.framed, size, largest)
        # All that were found, whichever are wanted: the next request may want another, and finding them costs far
        # more. Of a crowd, the largest.
        framed = framed[: pipeline.settings.max_count]
        if not view:
            return framed, size, None
        wanted = framed if search.face == "all" else framed[search.face : search.face + 1]
        return framed, size, _views(lease, photograph, picture, size, [face.location for face in wanted])


def _view_again(lease: ModelLease, photograph: Photograph, locations: list[FaceLocation]) -> EditorViews:
    with lease.context.stage("decode"):
        picture, size = photograph.preview()
    with lease.context.stage("align"):
        return _views(lease, photograph, picture, size, locations)


def _views(
    lease: ModelLease,
    photograph: Photograph,
    picture: Image.Image,
    size: tuple[int, int],
    locations: list[FaceLocation],
) -> EditorViews:
    frame, side = lease.model.manifest.frame, lease.model.manifest.editor_frame.image_size
    inside = alignment.between(lease.model.manifest.editor_frame, frame)
    matrices = [alignment.after(location.matrix, inside) for location in locations]
    pixels = [photograph.view(picture, matrix, side, size) for matrix in matrices]
    return EditorViews(
        np.stack(pixels) if pixels else np.empty((0, side, side, 3), dtype=np.uint8),
        np.stack(matrices) if matrices else np.empty((0, 2, 3)),
    )
