"""Where the faces of a request come from: a picture, or a latent of one that was encoded before."""

from __future__ import annotations

import numpy as np

from service import uploads, vectors
from service.context import Work
from service.faces import FramedFace
from service.latents import Encoded
from service.photographs import Photograph
from service.problems import invalid
from service.schemas import EditRequest, EncodeRequest, SweepRequest


async def encoded(
    work: Work, photograph: Photograph, asked: EncodeRequest | EditRequest | SweepRequest, known: np.ndarray
) -> Encoded:
    """The asked faces of a photograph as the encoder sees them, from memory where it was seen before.

    `known` f32 [K] holds for all of them, NaN where nothing is known. Raises ImageErrors, BatcherErrors, and a 422
    Problem where there is no such face.
    """

    def decode_and_frame() -> tuple[list[FramedFace], tuple[int, int]]:
        # One job, so that only as many decoded pictures are alive as there are threads, and those on the shelf.
        with work.call.stage("decode"):
            picture, size = photograph.preview()
        with work.call.stage("align"):
            return work.service.faces.frame(picture, work.model.manifest.frame, asked.framed, size, largest), size

    largest = asked.face == 0
    key = work.service.latents.key(photograph.data, known, work.model.encoder_identity, asked.framed)
    encoded = work.service.latents.get(key, largest)
    if encoded is None:
        faces, size = await work.service.in_codec_thread(decode_and_frame)
        # All that were found, whichever is asked for: the next request may want another, and finding them costs far
        # more. Of a crowd, the largest.
        faces = faces[: work.service.settings.max_count]
        if asked.face == "all":
            work.call.charge(len(faces))
        found = await work.model.encode(
            np.stack([face.pixels for face in faces]), np.repeat(known[None], len(faces), axis=0), work.call
        )
        places = [face.place for face in faces]
        encoded = Encoded(found["mean"], found["log_variance"], found["attribute_estimates"], places, *size)
        # A picture that came framed has no other faces.
        work.service.latents.put(key, encoded, largest and places[0].landmarks is not None)
    if asked.face == "all":
        work.call.charge(len(encoded.places))  # those from memory too
        return encoded
    if asked.face >= len(encoded.places):
        rule = f"must be below {len(encoded.places)}, the number of faces found, or 'all'"
        raise invalid("face", asked.face, rule)
    return encoded.only(asked.face)


def given(work: Work, upload: uploads.Upload, asked: EditRequest, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latent f32 [1, Z] and attributes f32 [1, K] of a face that comes without a picture. Raises a 422 Problem."""
    if upload.image is not None:
        raise invalid("latent", f"{len(asked.latent)} values", "cannot be given together with an image")
    if asked.output == "photo":
        raise invalid("output", asked.output, "takes an image; with a latent it must be face")
    unsaid = [name for name, value in zip(work.model.manifest.attribute_names, known, strict=True) if np.isnan(value)]
    # What is withheld the client was never told; it gets what goes best with the rest.
    if missing := [name for name in unsaid if name not in work.model.withheld]:
        raise invalid(
            "source_attributes", None, f"is required with a latent, for every attribute; missing: {', '.join(missing)}"
        )
    shown = work.model.sampler.expected(known) if unsaid else known
    return vectors.latent_matrix([asked.latent], work.model.manifest, ["latent"]), shown[None]
