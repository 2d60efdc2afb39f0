"""Reads the service's answers into results. Knows nothing of how they arrived."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from facet.errors import UnexpectedAnswer, from_response
from facet.results import Attribute, Encoding, Face, Model, Origin, Picture, Pictures

T = TypeVar("T")


def read(response: httpx.Response, parse: Callable[[httpx.Response], T]) -> T:
    """The answer as a result. Raises ServiceError for an error, UnexpectedAnswer for what Facet does not say."""
    if not response.is_success:
        raise from_response(response)
    try:
        return parse(response)
    except (ValueError, KeyError, TypeError) as exc:
        kind = response.headers.get("content-type", "no content type")
        raise UnexpectedAnswer(
            f"{response.url}: an answer of {kind} that is none of Facet's; does it listen there?"
        ) from exc


def encoding(response: httpx.Response) -> Encoding:
    body = response.json()
    return Encoding(body["model"], body["width"], body["height"], tuple(_face(face) for face in body["faces"]))


def _face(body: dict[str, Any]) -> Face:
    landmarks = body["landmarks"]
    return Face(
        box=tuple(body["box"]),
        landmarks=None if landmarks is None else tuple((x, y) for x, y in landmarks),
        latent=body["latent"],
        log_variance=body["log_variance"],
        attributes=body["attributes"],
    )


def listed_pictures(response: httpx.Response) -> Pictures:
    """Pictures inside JSON, each with its attributes."""
    body = response.json()
    pictures = [
        Picture(base64.b64decode(image["data"], validate=True), image["media_type"], image["attributes"])
        for image in body["images"]
    ]
    return Pictures(tuple(pictures), body["model"], body["seed"])


def bare_picture(response: httpx.Response) -> Pictures:
    """A picture that is the body itself."""
    kind = response.headers["content-type"]
    if not kind.startswith("image/"):
        raise ValueError(kind)
    seed = response.headers.get("x-facet-seed")
    picture = Picture(response.content, kind)
    return Pictures((picture,), response.headers["x-facet-model"], None if seed is None else int(seed))


def origin(response: httpx.Response) -> Origin:
    body = response.json()
    return Origin(**{name: body[name] for name in Origin.__dataclass_fields__})


def models(response: httpx.Response) -> tuple[Model, ...]:
    return tuple(_model(body) for body in response.json()["models"])


def model(response: httpx.Response) -> Model:
    return _model(response.json())


def _model(body: dict[str, Any]) -> Model:
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
