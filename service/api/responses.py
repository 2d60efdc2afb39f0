"""What goes back to the client: pictures as bytes, or JSON that holds them."""

from __future__ import annotations

from fastapi.responses import JSONResponse, Response

from service.api.schemas import EncodeResponse, PhotoResponse, PicturesResponse, VerifyResponse
from service.pipeline.encode import EncodedPicture
from service.pipeline.pictures import Pictures
from service.provenance.marking import ProvenanceReport


def pictures(found: Pictures) -> Response:
    """Pictures as they were encoded: the one file itself, or JSON that holds them."""
    if not found.as_one:
        return JSONResponse(PicturesResponse.of(found).model_dump())
    (picture,) = found.pictures
    return Response(picture.data, media_type=picture.media_type)


def photo(handle: str, seconds: float) -> JSONResponse:
    """The handle of a kept photograph."""
    return JSONResponse(PhotoResponse(photo=handle, seconds=seconds).model_dump())


def encoding(found: EncodedPicture) -> JSONResponse:
    """The faces of a picture."""
    return JSONResponse(EncodeResponse.of(found).model_dump())


def report(found: ProvenanceReport) -> JSONResponse:
    """What was found of a picture's origin."""
    return JSONResponse(VerifyResponse.of(found).model_dump())
