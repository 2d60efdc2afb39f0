"""Reads the service's answers into results. Knows nothing of how they arrived."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from facet.errors import UnexpectedAnswer, from_response
from facet.results import Attribute, Encoding, Face, Model, Origin, Picture, Pictures

T = TypeVar("T")


def read(response: httpx.Response, parse: Callable[[dict[str, Any]], T] | None) -> T | Pictures:
    """The answer as a result: JSON by `parse`, or without it a picture that is the body itself.

    Raises ServiceError for an error, UnexpectedAnswer for what Facet does not say.
    """
    if not response.is_success:
        raise from_response(response)
    try:
        return _bare_picture(response) if parse is None else parse(response.json())
    except (ValueError, KeyError, TypeError) as exc:
        kind = response.headers.get("content-type", "no content type")
        raise UnexpectedAnswer(
            f"{response.url}: an answer of {kind} that is none of Facet's; does it listen there?"
        ) from exc


def encoding(body: dict[str, Any]) -> Encoding:
    return Encoding(body["model"], body["width"], body["height"], tuple(_face(face) for face in body["faces"]))


def _face(body: dict[str, Any]) -> Face:
    landmarks = body["landmarks"]
    return Face(
        box=tuple(body["box"]),
        landmarks=None if landmarks is None else tuple((x, y) for x, y in landmarks),
        latent=body["latent"],
        log_variance=body["log_variance"],
        attributes=body["attributes"],
        score=body.get("score"),  # services of before have none
    )


def listed_pictures(body: dict[str, Any]) -> Pictures:
    """Pictures inside JSON, each with its attributes."""
    pictures = [
        Picture(base64.b64decode(image["data"], validate=True), image["media_type"], image["attributes"])
        for image in body["images"]
    ]
    return Pictures(tuple(pictures), body["model"], body["seed"])


def _bare_picture(response: httpx.Response) -> Pictures:
    kind = response.headers["content-type"]
    if not kind.startswith("image/"):
        raise ValueError(kind)
    seed = response.headers.get("x-facet-seed")
    return one_picture(response.content, kind, response.headers["x-facet-model"], None if seed is None else int(seed))


def one_picture(data: bytes, media_type: str, model: str, seed: int | None) -> Pictures:
    """A picture without its attributes."""
    return Pictures((Picture(data, media_type),), model, seed)


def origin(body: dict[str, Any]) -> Origin:
    return Origin(**{name: body[name] for name in Origin.__dataclass_fields__})


def models(body: dict[str, Any]) -> tuple[Model, ...]:
    return tuple(model(each) for each in body["models"])


def model(body: dict[str, Any]) -> Model:
    attributes = tuple(
        Attribute(
            a["name"], a["description"], a["group"], a["sensitive"], a.get("enabled", True), a.get("experimental", {})
        )
        for a in body["attributes"]
    )
    told = ("attributes", "aligned_size", "editor_size")
    plain = {name: body[name] for name in Model.__dataclass_fields__ if name not in told}
    size = body.get("editor_size")  # services of before have none
    return Model(**plain, attributes=attributes, aligned_size=tuple(body["aligned_size"]), editor_size=size)
