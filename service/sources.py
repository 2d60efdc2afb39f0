"""Where the faces of a request come from: a picture, or a latent of one that was encoded before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from service import alignment, faces, uploads, vectors
from service.context import Work
from service.faces import FramedFace, Place
from service.latents import Encoded
from service.photographs import Photograph
from service.problems import invalid
from service.schemas import EditRequest, EncodeRequest, SweepRequest

Asked = EncodeRequest | EditRequest | SweepRequest


@dataclass(frozen=True)
class Viewed:
    """Faces of a photograph as a model's editor sees them: `views` uint8 [F, E, E, 3], what they show, f32 [F, K], and
    where each view is, f64 [F, 2, 3] (service.alignment).
    """

    views: np.ndarray
    attributes: np.ndarray
    matrices: np.ndarray


async def encoded(work: Work, photograph: Photograph, asked: Asked, known: np.ndarray) -> Encoded:
    """The asked faces of a photograph as the encoder sees them, from memory where it was seen before.

    `known` f32 [K] holds for all of them, NaN where nothing is known. Raises ImageErrors, BatcherErrors, and a 422
    Problem where there is no such face.
    """
    largest = asked.face == 0
    key = work.service.latents.key(photograph.data, known, work.model.encoder_identity, asked.framed)
    found = work.service.latents.get(key, largest)
    if found is None:
        framed, size, _ = await _framed(work, photograph, asked)
        found = await _encoded(work, asked, known, framed, size)
        work.service.latents.put(key, found, _is_partial(asked, framed))
    return _chosen(work, asked, found)


async def to_edit(work: Work, photograph: Photograph, asked: EditRequest | SweepRequest, known: np.ndarray) -> Viewed:
    """The asked faces of a photograph as the editor sees them; otherwise as `encoded`.

    The encoder runs where their attributes are neither known wholly nor remembered.
    """
    given = work.given_wholly(known)
    # Where all is known, what is remembered without it still says where the faces are.
    looked_up = known if given is None else np.full_like(known, np.nan)
    key = work.service.latents.key(photograph.data, looked_up, work.model.encoder_identity, asked.framed)
    found = work.service.latents.get(key, asked.face == 0)
    if found is not None:
        chosen = _chosen(work, asked, found)
        views = await work.service.in_codec_thread(_view_again, work, photograph, chosen.places)
    else:
        framed, size, views = await _framed(work, photograph, asked, to_edit=True)
        if given is None:
            found = await _encoded(work, asked, known, framed, size)
            work.service.latents.put(key, found, _is_partial(asked, framed))
        else:
            places, none = [face.place for face in framed], np.empty((len(framed), 0), dtype=np.float32)
            found = Encoded(none, none, np.repeat(given[None], len(framed), axis=0), places, *size)
        chosen = _chosen(work, asked, found)
    shown = chosen.attributes if given is None else np.repeat(given[None], len(chosen.places), axis=0)
    return Viewed(views, shown, np.stack([_editors(work, place) for place in chosen.places]))


async def _framed(
    work: Work, photograph: Photograph, asked: Asked, to_edit: bool = False
) -> tuple[list[FramedFace], tuple[int, int], np.ndarray]:
    """The faces that were found, the photograph's width and height, and with `to_edit` the editor's views of those
    that are asked for.

    One job, so that only as many decoded pictures are alive as there are threads, and those on the shelf.
    """

    def decode_and_frame() -> tuple[list[FramedFace], tuple[int, int], np.ndarray]:
        with work.call.stage("decode"):
            picture, size = photograph.preview()
        with work.call.stage("align"):
            framed = work.service.faces.frame(picture, work.model.manifest.frame, asked.framed, size, asked.face == 0)
            # All that were found, whichever is asked for: the next request may want another, and finding them costs
            # far more. Of a crowd, the largest.
            framed = framed[: work.service.settings.max_count]
            views = np.empty(0)
            if to_edit:
                wanted = framed if asked.face == "all" else framed[asked.face : asked.face + 1]
                views = _views(work, picture, size, [face.place for face in wanted])
        return framed, size, views

    return await work.service.in_codec_thread(decode_and_frame)


async def _encoded(
    work: Work, asked: Asked, known: np.ndarray, framed: list[FramedFace], size: tuple[int, int]
) -> Encoded:
    if asked.face == "all":
        work.call.charge(len(framed))
    found = await work.model.encode(
        np.stack([face.pixels for face in framed]), np.repeat(known[None], len(framed), axis=0), work.call
    )
    places = [face.place for face in framed]
    return Encoded(found["mean"], found["log_variance"], found["attribute_estimates"], places, *size)


def _is_partial(asked: Asked, framed: list[FramedFace]) -> bool:
    """Whether there may be faces that were not looked for; a picture that came framed has no others."""
    return asked.face == 0 and framed[0].place.landmarks is not None


def _chosen(work: Work, asked: Asked, found: Encoded) -> Encoded:
    """Those of the faces that are asked for. Raises a Problem where there is none such, or they are too many now."""
    if asked.face == "all":
        work.call.charge(len(found.places))  # those from memory too
        return found
    if asked.face >= len(found.places):
        rule = f"must be below {len(found.places)}, the number of faces found, or 'all'"
        raise invalid("face", asked.face, rule)
    return found.only(asked.face)


def _view_again(work: Work, photograph: Photograph, places: list[Place]) -> np.ndarray:
    with work.call.stage("decode"):
        picture, size = photograph.preview()
    with work.call.stage("align"):
        return _views(work, picture, size, places)


def _views(work: Work, picture: Image.Image, size: tuple[int, int], places: list[Place]) -> np.ndarray:
    """uint8 [F, E, E, 3]."""
    side = work.model.manifest.editor_frame.image_size
    views = [faces.view(picture, _editors(work, place), side, size) for place in places]
    return np.stack(views) if views else np.empty((0, side, side, 3), dtype=np.uint8)


def _editors(work: Work, place: Place) -> np.ndarray:
    """Where the editor's frame is in the picture, f64 [2, 3], of a face whose place is that of the encoder's."""
    manifest = work.model.manifest
    return alignment.after(place.matrix, alignment.between(manifest.editor_frame, manifest.frame))


def given(work: Work, upload: uploads.Upload, asked: EditRequest, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latent f32 [1, Z] and attributes f32 [1, K] of a face that comes without a picture. Raises a 422 Problem."""
    if upload.image is not None:
        raise invalid("latent", f"{len(asked.latent)} values", "cannot be given together with an image")
    if asked.output == "photo":
        raise invalid("output", asked.output, "takes an image; with a latent it must be face")
    shown = work.given_wholly(known)
    if shown is None:
        names = zip(work.model.manifest.attribute_names, known, strict=True)
        missing = [name for name, value in names if np.isnan(value) and name not in work.model.withheld]
        raise invalid(
            "source_attributes", None, f"is required with a latent, for every attribute; missing: {', '.join(missing)}"
        )
    return vectors.latent_matrix([asked.latent], work.model.manifest, ["latent"]), shown[None]
