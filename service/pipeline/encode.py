"""Encode: the faces of a picture as latents and attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.faces.finder import FaceLocation
from service.pipeline import attributes, finding
from service.pipeline.finding import Search
from service.pipeline.parameters import EncodeParameters
from service.pipeline.pictures import by_name
from service.pipeline.pipeline import Pipeline
from service.request import RequestContext


@dataclass(frozen=True)
class EncodedFace:
    """One face: where it is, mean and log variance of its latent, f32 [Z], and its attributes by name."""

    location: FaceLocation
    latent: np.ndarray
    log_variance: np.ndarray
    attributes: dict[str, float]


@dataclass(frozen=True)
class EncodedPicture:
    """The faces of a picture of `width` x `height` pixels, largest first; `model` is name@version."""

    model: str
    width: int
    height: int
    faces: list[EncodedFace]


async def encode_picture(
    pipeline: Pipeline, context: RequestContext, params: EncodeParameters, picture: bytes | None
) -> EncodedPicture:
    """The chosen faces of an encoded picture.

    Raises ImageErrors, BatcherErrors, and a Problem for parameters that the model cannot take or a key's limits.
    """
    picture = pipeline.photos.picture(params.photo, picture)
    lease = pipeline.lease(context, params.model, "encoder")
    known = attributes.known(lease, params.attributes, "attributes")
    photograph, search = finding.opened(lease, picture, handle=params.photo), Search(params.face, params.framed)
    found, _ = await finding.find(lease, photograph, search, known)
    context.count("encode", len(found.locations))
    rows = zip(found.locations, found.mean, found.log_variance, found.attributes, strict=True)
    faces = [EncodedFace(*arrays, by_name(lease.model, estimates)) for *arrays, estimates in rows]
    return EncodedPicture(lease.model.identity, found.width, found.height, faces)
